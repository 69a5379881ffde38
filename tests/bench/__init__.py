"""The benchmark: tenants made by the operator against the raw floor, the same writes by a bare client in one run."""
