"""A whole Tenantry installation on real servers of this machine: shared by the demo, the tests and the benchmark."""
