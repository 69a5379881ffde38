"""Which backups are kept: the newest of each hour, day, week and month, and never without the last verified one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Final


@dataclass(frozen=True, slots=True)
class Candidate:
    """A backup that retention may delete.

    Attributes:
        name: Unique among those that are decided on together.
        incarnation: Of its tenant.
        completed_at: With its zone; None for one that failed or is under way.
        verified: It was read back, and was well.
        proven: It was restored on trial, and was well.
    """

    name: str
    incarnation: int
    completed_at: datetime | None
    verified: bool
    proven: bool = False


@dataclass(frozen=True, slots=True)
class Retention:
    """How many are kept of each sort; None where nothing is said of it, and all None: every backup is kept."""

    last: int | None = None
    hourly: int | None = None
    daily: int | None = None
    weekly: int | None = None
    monthly: int | None = None

    @property
    def keeps_all(self) -> bool:
        """Nothing is said."""
        return (self.last, self.hourly, self.daily, self.weekly, self.monthly) == (None,) * 5


_BUCKETS: Final[tuple[tuple[str, Callable[[datetime], object]], ...]] = (
    ("hourly", lambda moment: (moment.date(), moment.hour, moment.utcoffset())),
    ("daily", lambda moment: moment.date()),
    ("weekly", lambda moment: moment.isocalendar()[:2]),
    ("monthly", lambda moment: (moment.year, moment.month)),
)


def kept(candidates: Iterable[Candidate], retention: Retention, zone: tzinfo, incarnation: int) -> frozenset[str]:
    """The names of those that stay.

    Those of other incarnations stay, and those that have not completed: retention neither counts nor deletes them.
    So do the newest verified one and the newest proven one, whatever the numbers say.

    Args:
        candidates: All backups of one tenant.
        retention: What is wanted.
        zone: Whose hours and days count: the schedule's.
        incarnation: The tenant's present one.
    """
    everything = list(candidates)
    if retention.keeps_all:
        return frozenset(each.name for each in everything)
    own = [(each.completed_at, each) for each in everything if each.incarnation == incarnation and each.completed_at]
    own.sort(key=lambda pair: (pair[0], pair[1].name), reverse=True)
    stays = {each.name for each in everything if each.incarnation != incarnation or each.completed_at is None}
    stays.update(each.name for _, each in own[: retention.last or 0])
    for field, bucket in _BUCKETS:
        stays.update(_newest(own, getattr(retention, field) or 0, bucket, zone))
    stays.update([each.name for _, each in own if each.verified][:1])
    stays.update([each.name for _, each in own if each.proven][:1])
    return frozenset(stays)


def _newest(
    own: Sequence[tuple[datetime, Candidate]], count: int, bucket: Callable[[datetime], object], zone: tzinfo
) -> list[str]:
    """The newest of each of the last `count` buckets that have any."""
    first: dict[object, str] = {}
    for moment, each in own:
        first.setdefault(bucket(moment.astimezone(zone)), each.name)
        if len(first) > count:
            break
    return list(first.values())[:count]
