"""When a backup is restored on trial, and whether it can be: pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Final

from tenantry.decide.move import MAJOR
from tenantry.decide.schedule import Schedule, jitter, next_slot_in

GROWTH: Final = 1.5
"""A database that is restored may take so many times what it took: indexes are built beside what they are made of."""
LEAST_ROOM: Final = 64 * 2**20
"""And so many bytes more, as an empty one does."""
RESERVE: Final = 0.1
"""The share of a server's room that no trial touches: the write-ahead log is there, too, and tenants go on writing."""
PATIENCE: Final = 2
"""After so many intervals without a good trial it is said to be overdue."""
FIRST_PAUSE: Final = timedelta(minutes=5)
LONGEST_PAUSE: Final = timedelta(hours=6)
LONGEST_TENANTS_PAUSE: Final = timedelta(hours=24)

LEAST_TIME: Final = timedelta(minutes=15)
LONGEST_TIME: Final = timedelta(hours=6)
SLOWEST: Final = 5_000_000
"""Bytes a second, of what a database takes: what is restored slower than that is broken off."""

_REFUSED: Final = re.compile(r"^pg_restore failed: (?:could not execute query|COPY failed for table .*?): ERROR: ")
_QUOTED: Final = re.compile(r'"[^"]*"')
"""Names and values, which say what they like."""
_GROUNDS: Final = re.compile(
    "|".join(
        (
            "no space left|disk full|quota|temporary file size|temp_file_limit|read-only|not accepting|recovery",
            "could not (?:extend|write|read|access|fsync|rename|remove|stat|truncate|map|resize|load|obtain|serialize)",
            'could not (?:open|create|find|close) (?:"" )?(?:temporary )?(?:file|directory)',
            "out of (?:shared )?memory|out of (?:file|disk|background)|too many|not enough|memory alloc|stack depth",
            "wraparound|terminating|canceling|time-?out|deadlock|connection|invalid page",
            "not available|not supported|librar|extension|locale|collation|\\bICU\\b|tablespace",
            'configuration parameter|invalid value for parameter|time zone "|role "" does not exist',
        )
    ),
    re.IGNORECASE,
)
"""In a server's error: that it is full, busy, ends the session, or has not what another one has."""


@dataclass(frozen=True, slots=True)
class Window:
    """When trials may begin."""

    schedule: Schedule
    zone: tzinfo
    duration: timedelta

    def is_open(self, now: datetime) -> bool:
        """Whether it opened not longer ago than it lasts."""
        return next_slot_in(self.schedule, now - self.duration, now, self.zone) is not None


def due_at(last: datetime | None, since: datetime, interval: timedelta, tenant_hash: str) -> datetime:
    """When a tenant's newest backup is to be restored on trial next.

    Args:
        last: When one of its backups was, and was well; None for never.
        since: When the tenant was made: its first trial is within an interval after that, not together with others'.
        interval: From one to the next.
        tenant_hash: The tenant's.
    """
    return last + interval if last is not None else since + jitter(tenant_hash, interval)


def overdue_at(last: datetime | None, since: datetime, interval: timedelta) -> datetime:
    """From when on it is too long ago that a backup was restored on trial."""
    return (last or since) + PATIENCE * interval


def pause(failures: int) -> timedelta:
    """How long to wait after a trial was not possible so many times in a row: longer and longer."""
    doublings = min(max(failures - 1, 0), 10)
    return min(FIRST_PAUSE * (1 << doublings), LONGEST_PAUSE)


def tenants_pause(failures: int) -> timedelta:
    """How long none of a tenant's backups is tried after so many that held a server for long and came to nothing."""
    doublings = min(max(failures - 1, 0), 10)
    return min(LONGEST_PAUSE * (1 << doublings), LONGEST_TENANTS_PAUSE)


def time_for(size: int) -> timedelta:
    """How long a trial may take of a database that took so many bytes: its code may have no end."""
    return min(LEAST_TIME + timedelta(seconds=min(size / SLOWEST, LONGEST_TIME.total_seconds())), LONGEST_TIME)


def blames_content(said: str) -> bool:
    """Whether a program's error is held against what was to be restored.

    Only what a server has said of a statement or of rows in it is, and of that nothing that it may say of itself:
    what is not known is not held against a backup.

    Args:
        said: pg_restore's first error.
    """
    return _REFUSED.match(said) is not None and _GROUNDS.search(_QUOTED.sub('""', said)) is None


@dataclass(frozen=True, slots=True)
class Specimen:
    """What is to be restored, as its signed manifest says.

    Attributes:
        server_version: `server_version_num` of the server that it comes from.
        extensions: That its Tenant had asked for.
        readable: It is not encrypted, or the operator has a key that opens it.
        size: In bytes, of the database when it was dumped; 0 where that is not known.
    """

    server_version: int
    extensions: frozenset[str]
    readable: bool
    size: int


@dataclass(frozen=True, slots=True)
class Ground:
    """Where it is to be restored.

    Attributes:
        version: `server_version_num`.
        extensions: That the server has.
        capacity: In bytes, what its databases may take together; None where nobody has said it.
        used: In bytes, what they take now.
    """

    version: int
    extensions: frozenset[str]
    capacity: int | None
    used: int


NO_CAPACITY: Final = (
    "whether its server has room for it can't be told: the platform team has to set spec.capacity.storage of the "
    "DatabaseServer"
)
"""Whoever asks need not know the server: neither its name nor how full it is."""


def obstacle(specimen: Specimen, ground: Ground) -> str:
    """Why the one can't be restored on the other now, with the way out, for its workspace; empty if it can."""
    if not specimen.readable:
        return (
            "it is encrypted, and the operator has no key that opens it: the platform team has to name a Secret with "
            "the age key in the BackupStore's spec.encryption.secretRef"
        )
    if specimen.server_version // MAJOR > ground.version // MAJOR:
        return (
            f"it comes from PostgreSQL {specimen.server_version // MAJOR}, and the server for trials has "
            f"{ground.version // MAJOR}: the platform team has to name one that is as new or newer"
        )
    missing = sorted(specimen.extensions - ground.extensions)
    if missing:
        return f"the server for trials does not have the extensions {', '.join(missing)}: install them there"
    if ground.capacity is None:
        return NO_CAPACITY
    if specimen.size <= 0:
        return "its manifest does not say how large its database was, as the next backup's will"
    if room_for(specimen.size) > free(ground):
        return f"the server for trials has no room for it: it may take {readable(room_for(specimen.size))}"
    return ""


def free(ground: Ground) -> int:
    """In bytes, what trials may take of a server; not less than 0."""
    return max(round((ground.capacity or 0) * (1 - RESERVE)) - ground.used, 0)


def room_for(size: int) -> int:
    """How much a database may take at most while it is restored, in bytes, from what it took."""
    return round(size * GROWTH) + LEAST_ROOM


def readable(size: int) -> str:
    """A number of bytes as people read it."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"
