"""The `tenantry` command, which is also `kubectl tenant`."""
