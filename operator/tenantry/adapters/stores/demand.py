"""`ObjectStores` that loads its client with the first store: 5 MB that an installation without backups does without."""

from __future__ import annotations

from tenantry.ports.backup import ObjectStore, StoreLocation


class StoresOnDemand:
    """Implements `tenantry.ports.backup.ObjectStores`."""

    def open(self, location: StoreLocation) -> ObjectStore:
        """See `ObjectStores`."""
        from tenantry.adapters.stores.client import ObstoreStores  # noqa: PLC0415 - its size is why this module is there

        return ObstoreStores().open(location)
