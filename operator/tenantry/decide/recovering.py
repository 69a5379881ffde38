"""Which backups that were found in a store get TenantBackups by themselves: the newest few of each sort. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tenantry.api.identity import TenantIdentity

SHOWN: Final = 5
"""Of one incarnation of a tenant, of those that a schedule has made and of the others; all others on demand."""


@dataclass(frozen=True, slots=True)
class Found:
    """A good backup in a store, of a workspace that is there.

    Attributes:
        workspace: What the workspace is called now.
        identity: Of the tenant, as its manifest has it.
        name: Of the TenantBackup that it was made by.
        slot: For which a schedule has made it; empty for one that was asked for.
        completed_at: As statuses have it.
        present: It has a TenantBackup.
    """

    workspace: str
    identity: TenantIdentity
    run: str
    name: str
    slot: str
    completed_at: str
    present: bool

    @property
    def sort(self) -> tuple[TenantIdentity, bool]:
        """Those that compete for the few places."""
        return self.identity, bool(self.slot)


def with_newest(newest: tuple[Found, ...], one: Found, most: int = SHOWN) -> tuple[Found, ...]:
    """The newest of some of one sort and one more, the newest first."""
    return tuple(sorted((*newest, one), key=lambda each: (each.completed_at, each.run), reverse=True)[:most])
