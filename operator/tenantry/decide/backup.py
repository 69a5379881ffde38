"""What is to be done next with a backup: pure, from what its object says, what runs here, and what is in the store."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from tenantry.api.tenantbackup import RANKS, BackupPhase


class Step(StrEnum):
    """What is to be done next."""

    BEGIN = "Begin"
    WATCH = "Watch"
    RECOVER = "Recover"
    EXPIRE = "Expire"
    NOTHING = "Nothing"


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a backup.

    Attributes:
        phase: As its status has it; None for a new one.
        running_here: This process works on it.
        expires_at: When it is to be deleted; None for never.
        told_here: It was this process that wrote that it runs.
    """

    phase: BackupPhase | None
    running_here: bool
    expires_at: datetime | None = None
    told_here: bool = False


def goes_forward(former: BackupPhase | None, present: BackupPhase) -> bool:
    """Whether a phase may follow another."""
    return former is None or former == present or RANKS[former] < RANKS[present]


def next_step(seen: Seen, now: datetime) -> Step:
    """What is to be done next.

    A run that another process began is over, for its programs died with it: whether it came to its end before that is
    seen in the store (Recover). It is never begun again under the same name. One of which this process has said that it
    runs, and never heard that this was written, was not begun yet.
    """
    match seen.phase:
        case BackupPhase.COMPLETED | BackupPhase.FAILED:
            due = seen.expires_at is not None and seen.expires_at <= now
            return Step.EXPIRE if due else Step.NOTHING
        case BackupPhase.RUNNING if seen.told_here and not seen.running_here:
            return Step.BEGIN
        case BackupPhase.RUNNING | BackupPhase.VERIFYING:
            return Step.WATCH if seen.running_here else Step.RECOVER
        case _:
            return Step.WATCH if seen.running_here else Step.BEGIN


def expiry(completed_at: datetime, ttl: timedelta | None) -> datetime | None:
    """When a backup is to be deleted; None for never."""
    try:
        return completed_at + ttl if ttl is not None else None
    except OverflowError:
        return None
