"""The doors to the world: API servers, databases and stores, each behind a protocol of `tenantry.ports`."""
