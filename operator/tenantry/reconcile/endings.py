"""Endings: Tenants that the API server removed although they had our finalizer, for they got it too late."""

from __future__ import annotations

from typing import Final

from tenantry.api.names import TENANT_FINALIZER
from tenantry.ports import Json

MOST: Final = 1000


class Endings:
    """Kept until the record has taken it in, and in memory only: after a restart such a tenant runs on, and is told.

    The API server looks for finalizers when a deletion begins, and does not look again when it removes the object
    (Kubernetes 1.36, `Store.Delete`): one that is added in between holds nothing. Such an object ends with our
    finalizer and without a deletionTimestamp. One whose finalizer somebody removed by hand ends without it.
    """

    def __init__(self) -> None:
        self._specs: dict[str, Json] = {}

    def take(self, tenant: Json) -> bool:
        """Take in a Tenant as it was when it was removed; whether it had our finalizer too late."""
        metadata = tenant["metadata"]
        if TENANT_FINALIZER not in metadata.get("finalizers", ()) or "deletionTimestamp" in metadata:
            return False
        while len(self._specs) >= MOST:
            del self._specs[next(iter(self._specs))]
        self._specs[metadata["uid"]] = tenant["spec"]
        return True

    def spec_of(self, uid: str) -> Json | None:
        """What the Tenant of that UID said when it was deleted that way; None where it was not."""
        return self._specs.get(uid)

    def forget(self, uid: str) -> None:
        """It is written down in its record now."""
        self._specs.pop(uid, None)
