"""The rest of the world that the reconcilers know: time, names, events, and who is to be looked at again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from tenantry.api.resources import Ref, Resource

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether tenants may use a cluster or server now, and if not, why not (a Reason and a message for people)."""

    ok: bool
    reason: str = ""
    message: str = ""


class Clock(Protocol):
    """Time, so that tests can move it."""

    def now(self) -> datetime:
        """The time in UTC, with its zone."""

    def monotonic(self) -> float:
        """Seconds that never go back."""


class Dns(Protocol):
    """What a stranger's names lead to."""

    async def txt(self, name: str) -> tuple[str, ...]:
        """The TXT records at a name; empty where there are none. Raises TimeoutError if no server answered."""

    async def addresses(self, host: str) -> tuple[str, ...]:
        """The IP addresses of a host (a DNS name in full, or an address), at least one, sorted.

        Raises:
            CredentialsRefusedError: one of them is an address that no stranger may name; the reason says which sort.
            UnreachableError: the name does not resolve, or no server answered.
        """


class Events(Protocol):
    """Kubernetes Events on our own objects: for people, never read back."""

    def emit(self, about: Mapping[str, Any], *, warning: bool, reason: str, message: str) -> None:
        """Write an event soon, without waiting; repeated ones are counted up in one object."""


class Wake(Protocol):
    """How a reconciler makes another key be reconciled."""

    def wake(self, key: Ref) -> None:
        """Enqueue one key."""

    def every(self, resource: Resource) -> None:
        """Enqueue all objects of a kind."""

    def tenants_of_cluster(self, name: str) -> None:
        """Enqueue every Tenant that lives on a Cluster or waits for one."""

    def tenants_of_server(self, name: str) -> None:
        """Enqueue every Tenant whose database is on a DatabaseServer, or that waits for one."""
