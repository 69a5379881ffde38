"""Contention: who waits for what another tenant has, so that it is tried again when that is given back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tenantry.api.conditions import Reason
from tenantry.api.resources import Ref

ROOM: Final = "room"
"""On whichever cluster or server: it comes with the end of a record, of a side that was left, or of a claim."""
LACKS_ROOM: Final = frozenset(
    {Reason.CLUSTER_FULL, Reason.SERVER_FULL, Reason.CLUSTER_CLAIMED, Reason.CLUSTER_NOT_EMPTY}
)


def hosts_on(cluster: str) -> str:
    """The hosts of a cluster, whichever: a wildcard and its subdomains stand in each other's way too."""
    return f"hosts/{cluster}"


class Contention:
    """In memory only: a restart looks at every Tenant anyway, and what is missed here is found at the next retry."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[Ref]] = {}

    def wait(self, tenant: Ref, thing: str) -> None:
        """A Tenant could not have it, for others do."""
        self._waiting.setdefault(thing, set()).add(tenant)

    def freed(self, thing: str, wake: Callable[[Ref], object]) -> None:
        """Somebody gave it back: all who wait for it look again; those who are late wait again."""
        for tenant in sorted(self._waiting.pop(thing, ()), key=lambda ref: (ref.namespace, ref.name)):
            wake(tenant)
