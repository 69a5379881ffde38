"""When a schedule is due: cron's five fields with time zones, as Kubernetes' CronJob means them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

MACROS: Final[Mapping[str, str]] = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS: Final = {
    name: number
    for number, name in enumerate("jan feb mar apr may jun jul aug sep oct nov dec".split(), start=1)  # noqa: SIM905 - shorter than twelve strings
}
_DAYS: Final = {name: number for number, name in enumerate("sun mon tue wed thu fri sat".split())}  # noqa: SIM905 - as above
_HORIZON: Final = timedelta(days=5 * 366)
"""A slot that is not within five years never is: the 30th of February."""
_PART: Final = re.compile(r"^(\*|\?|[0-9a-z]+)(?:-([0-9a-z]+))?(?:/([0-9]+))?$")
_HOUR: Final = timedelta(hours=1)
_MINUTE: Final = timedelta(minutes=1)


class ScheduleError(ValueError):
    """A text that is no schedule; the message says what of it."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A parsed schedule.

    Attributes:
        days_starred: Day of month or day of week was `*`: then both must fit, else one of them is enough.
    """

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    days_starred: bool

    def fits_day(self, moment: datetime) -> bool:
        """Whether a local day is one of it."""
        by_month, by_week = moment.day in self.days, moment.isoweekday() % 7 in self.weekdays
        return (by_month and by_week) if self.days_starred else (by_month or by_week)


def parse(text: str) -> Schedule:
    """A schedule from its text: five fields, or one of the macros such as @daily.

    Raises:
        ScheduleError: it is none; TZ= and CRON_TZ= are refused, for the zone has a field of its own.
    """
    line = MACROS.get(text.strip().lower(), text.strip())
    if line.upper().startswith(("TZ=", "CRON_TZ=")):
        raise ScheduleError("a time zone is set in timeZone, not in the schedule")
    fields = line.split()
    if len(fields) != 5:
        raise ScheduleError(f"{text!r} must have five fields (minute, hour, day, month, weekday) or be like @daily")
    minute, hour, day, month, weekday = fields
    return Schedule(
        minutes=_values(minute, 0, 59, {}),
        hours=_values(hour, 0, 23, {}),
        days=_values(day, 1, 31, {}),
        months=_values(month, 1, 12, _MONTHS),
        weekdays=_values(weekday, 0, 6, _DAYS),
        days_starred=any(_is_star(part) for field in (day, weekday) for part in field.split(",")),
    )


def _is_star(part: str) -> bool:
    return part in ("*", "?", "*/1", "?/1")


def _values(field: str, least: int, most: int, names: Mapping[str, int]) -> frozenset[int]:
    found: set[int] = set()
    for part in field.lower().split(","):
        match = _PART.match(part)
        if match is None:
            raise ScheduleError(f"{part!r} is no part of a schedule")
        start, end, step = match.groups()
        if start in ("*", "?"):
            if end is not None:
                raise ScheduleError(f"{part!r} is no range")
            first, last = least, most
        else:
            first = _number(start, names)
            # `5/15` is from 5 to the end, as robfig/cron has it.
            last = _number(end, names) if end is not None else (most if step is not None else first)
        if not (least <= first <= last <= most):
            raise ScheduleError(f"{part!r} is not within {least} to {most}")
        if step is not None and int(step) == 0:
            raise ScheduleError(f"{part!r} has a step of 0")
        found.update(range(first, last + 1, int(step or 1)))
    return frozenset(found)


def _number(text: str, names: Mapping[str, int]) -> int:
    if text in names:
        return names[text]
    if not text.isdecimal():
        raise ScheduleError(f"{text!r} is no number")
    return int(text)


def next_after(schedule: Schedule, after: datetime, zone: tzinfo) -> datetime | None:
    """The first slot later than a moment, in UTC; None where there is none in five years.

    A slot in the hour that the clocks leave out does not happen, and one in the hour that comes twice happens twice.
    """
    moment = after.astimezone(UTC).replace(second=0, microsecond=0) + _MINUTE
    limit = after.astimezone(UTC) + _HORIZON
    while moment <= limit:
        local = moment.astimezone(zone)
        if local.month not in schedule.months:
            moment = _midnight(local.year + local.month // 12, local.month % 12 + 1, 1, zone, moment)
        elif not schedule.fits_day(local):
            tomorrow = local.replace(tzinfo=None) + timedelta(days=1)
            moment = _midnight(tomorrow.year, tomorrow.month, tomorrow.day, zone, moment)
        elif local.hour not in schedule.hours:
            # By absolute time: the local hour that follows may be one that is left out, or this one again.
            moment += _HOUR - timedelta(minutes=local.minute)
        elif local.minute not in schedule.minutes:
            moment += _MINUTE
        else:
            return moment
    return None


def _midnight(year: int, month: int, day: int, zone: tzinfo, former: datetime) -> datetime:
    """The beginning of a local day; where the clocks leave midnight out, the first moment after it."""
    moment = datetime(year, month, day, tzinfo=zone).astimezone(UTC)
    local = moment.astimezone(zone)
    if (local.year, local.month, local.day) < (year, month, day):
        moment += _HOUR
    return max(moment, former + _MINUTE)


def missed_slot(schedule: Schedule, last: datetime, now: datetime, zone: tzinfo) -> datetime | None:
    """The newest slot later than `last` and not later than `now`: however many were missed, one is made up for."""
    if next_slot_in(schedule, last, now, zone) is None:
        return None
    window = _HOUR
    while (found := next_slot_in(schedule, max(last, now - window), now, zone)) is None:
        window *= 4
    while (later := next_slot_in(schedule, found, now, zone)) is not None:
        found = later
    return found


def next_slot_in(schedule: Schedule, after: datetime, until: datetime, zone: tzinfo) -> datetime | None:
    """The first slot later than `after` and not later than `until`."""
    found = next_after(schedule, after, zone)
    return found if found is not None and found <= until else None


def jitter(tenant_hash: str, spread: timedelta) -> timedelta:
    """How long after its slot a tenant's backup begins: always the same for a tenant, spread evenly over them."""
    digest = hashlib.sha256(b"tenantry.io/backup-jitter\0" + tenant_hash.encode()).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    return timedelta(seconds=int(spread.total_seconds() * share))


def due(
    schedule: Schedule, last: datetime, now: datetime, zone: tzinfo, delay: timedelta = timedelta()
) -> tuple[datetime | None, datetime | None]:
    """The slot to run now, and when to look again.

    Args:
        schedule: The tenant's.
        last: The slot that was run last, or when the schedule was set.
        now: The time.
        zone: The schedule's.
        delay: How much later than its slot this tenant's backup begins.
    """
    slot = missed_slot(schedule, last, now - delay, zone)
    coming = next_after(schedule, now - delay, zone)
    return slot, coming + delay if coming is not None else None
