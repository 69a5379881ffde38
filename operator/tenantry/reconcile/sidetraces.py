"""What moves have left of a tenant, told from stamps and claims: where it lives, and what may be purged when."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from tenantry.api.base import parse_duration
from tenantry.api.names import (
    ANNOTATION_ARRIVING,
    ANNOTATION_EPOCH,
    ANNOTATION_PURGE_AFTER,
    ANNOTATION_STATE,
    STATE_LEFT,
)
from tenantry.api.tenantrecord import FormerSide, PinnedCluster, PinnedDatabase, PinnedDeletion, RecordState
from tenantry.decide.deletion import time_text
from tenantry.decide.move import epoch_of_database, home_rank
from tenantry.ports.postgres import DatabaseClaim
from tenantry.ports.world import Json


@dataclass(frozen=True, slots=True)
class Claimed:
    """A database of the tenant's, and what its claim says."""

    pinned: PinnedDatabase
    claim: DatabaseClaim

    @property
    def epoch(self) -> int:
        """Of the move that made it."""
        return epoch_of_database(self.pinned.name)


@dataclass(frozen=True, slots=True)
class Homes:
    """The database that a tenant lives on, and those that moves have left."""

    database: PinnedDatabase | None
    epoch: int
    former: tuple[FormerSide, ...]

    @classmethod
    def of(cls, claimed: Sequence[Claimed], now: datetime) -> Homes:
        """As their claims say."""
        ranked = sorted(
            claimed, key=lambda each: home_rank(each.claim.state, each.epoch, due=each.claim.purge_after is not None)
        )
        if not ranked:
            return cls(None, 1, ())
        home = ranked.pop()
        return cls(home.pinned, max(home.epoch, *(each.epoch for each in ranked), 1), _left(ranked, now))


def _left(claimed: Sequence[Claimed], now: datetime) -> tuple[FormerSide, ...]:
    """What is parked keeps its time, or gets one; what never was complete goes at once."""
    usual = now + parse_duration(PinnedDeletion().window)
    sides: list[FormerSide] = []
    for each in claimed:
        kept = each.claim.state == "parked"
        due = (each.claim.purge_after or usual) if kept else now
        sides.append(
            FormerSide(
                epoch=each.epoch,
                state=RecordState.DELETED if kept else RecordState.PURGING,
                database=each.pinned,
                left_at=time_text(now),
                purge_after=time_text(due),
            )
        )
    return tuple(sides)


def left_namespace(place: PinnedCluster, live: Json, window: str, now: datetime) -> FormerSide:
    """A namespace that is not the tenant's home.

    What is arriving never was, and goes at once; what was keeps its time, or gets one.

    Args:
        place: Where it is.
        live: The namespace.
        window: How long it is kept if it does not say until when.
        now: The time.
    """
    annotations = live["metadata"].get("annotations") or {}
    kept = ANNOTATION_ARRIVING not in annotations
    usual = time_text(now + parse_duration(window) if kept else now)
    return FormerSide(
        epoch=epoch_of(live),
        state=RecordState.DELETED if kept else RecordState.PURGING,
        cluster=place,
        left_at=time_text(now),
        purge_after=annotations.get(ANNOTATION_PURGE_AFTER) or usual,
    )


def merged(sides: Iterable[FormerSide]) -> tuple[FormerSide, ...]:
    """One side an epoch: the namespace and the database of one were left together."""
    found: dict[int, FormerSide] = {}
    for side in sides:
        other = found.get(side.epoch, side)
        both = {"cluster": other.cluster or side.cluster, "database": other.database or side.database}
        found[side.epoch] = other.model_copy(update=both)
    return tuple(found.values())


def is_home(namespace: Json) -> bool:
    """Whether the tenant lives, or lived last, in a namespace: not one that a move has left, or has not reached."""
    annotations = namespace["metadata"].get("annotations") or {}
    return ANNOTATION_ARRIVING not in annotations and annotations.get(ANNOTATION_STATE) != STATE_LEFT


def epoch_of(namespace: Json) -> int:
    """The epoch in a namespace's stamp; 1 where it is none."""
    value = (namespace["metadata"].get("annotations") or {}).get(ANNOTATION_EPOCH, "")
    return int(value) if value.isascii() and value.isdecimal() and len(value) < 10 else 1
