"""Endings: Tenants that the API server removed although they had our finalizer, for they got it too late."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from tenantry.api.names import TENANT_FINALIZER
from tenantry.api.tenant import Tenant
from tenantry.decide.deletion import time_text
from tenantry.ports.world import Json

MOST: Final = 1000


class Endings:
    """Kept until the record has taken it in, and in memory only: after a restart such a tenant runs on, and is told.

    The API server looks for finalizers when a deletion begins, and does not look again when it removes the object
    (Kubernetes 1.36, `Store.Delete`): one that is added in between holds nothing. Such an object ends with our
    finalizer and without a deletionTimestamp. One whose finalizer somebody removed by hand ends without it.
    """

    def __init__(self) -> None:
        self._bodies: dict[str, Json] = {}

    def take(self, tenant: Json, now: datetime) -> bool:
        """Take in a Tenant as it was when it was removed, which was now; whether it had our finalizer too late."""
        metadata = tenant["metadata"]
        if TENANT_FINALIZER not in metadata.get("finalizers", ()) or "deletionTimestamp" in metadata:
            return False
        while len(self._bodies) >= MOST:
            del self._bodies[next(iter(self._bodies))]
        self._bodies[metadata["uid"]] = {**tenant, "metadata": {**metadata, "deletionTimestamp": time_text(now)}}
        return True

    def spec_of(self, uid: str) -> Json | None:
        """What the Tenant of that UID said when it was deleted that way; None where it was not."""
        body = self._bodies.get(uid)
        return body["spec"] if body is not None else None

    def tenants(self) -> list[Tenant]:
        """Them all, as if they were being deleted since then."""
        return [Tenant.model_validate(body) for body in self._bodies.values()]

    def tenant_of(self, uid: str) -> Tenant | None:
        """The Tenant of that UID, as if it were being deleted since it was removed; None where it was not."""
        body = self._bodies.get(uid)
        return Tenant.model_validate(body) if body is not None else None

    def forget(self, uid: str) -> None:
        """It is written down in its record now."""
        self._bodies.pop(uid, None)
