"""The figures of backups and restores: ratios to the raw programs, and what was promised of them; pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

Figure = float | int | None

ROWS_PER_MB: Final = 2250
"""Of the rows that `backup_scene` fills databases with, their index among it."""
PROMISES: Final[Mapping[str, tuple[str, float]]] = {
    "backup_ratio": ("at least", 0.85),
    "restore_ratio": ("at most", 1.3),
    "cutover_s": ("at most", 1.0),
    "schedules_noticed_s": ("at most", 60.0),
    "schedules_idle_cpu_percent": ("at most", 5.0),
}
MOST_MEMORY_MB: Final = 160.0


@dataclass(frozen=True, slots=True)
class Backed:
    """One TenantBackup, in seconds.

    Attributes:
        written: From the phase Running to Verifying: it is in the store.
        whole: From the apply to Completed: it was read back and found good, too.
    """

    written: float
    whole: float


@dataclass(frozen=True, slots=True)
class Restored:
    """One TenantRestore, in seconds.

    Attributes:
        whole: From the apply to Completed: read from the store twice, filled, counted, exchanged, open.
        cutover: How long neither database could be written, as its status says.
    """

    whole: float
    cutover: float


@dataclass(frozen=True, slots=True)
class Scheduled:
    """What schedules cost.

    Attributes:
        count: Of tenants that have one.
        noticed: Seconds until each had the TenantBackup for the slot that was missed.
        idle_cpu: Share of a core while nothing is due.
    """

    count: int
    noticed: float
    idle_cpu: float


@dataclass(slots=True)
class BackupOutcome:
    """All that was measured; times of the raw programs are those of `pg_dump | cat` and of pg_restore, in seconds.

    Attributes:
        peaks: The operator's memory in MiB, by the size of the database in MB that it was started for.
        size_mb: Of the large database, as the server has it.
    """

    raw_dumps: list[float] = field(default_factory=list)
    backups: list[Backed] = field(default_factory=list)
    raw_restores: list[float] = field(default_factory=list)
    restores: list[Restored] = field(default_factory=list)
    peaks: dict[int, float] = field(default_factory=dict)
    size_mb: float = 0.0
    stored_mb: float = 0.0
    scheduled: Scheduled | None = None


def rows_for(megabytes: int) -> int:
    """How many rows make a database of about this size."""
    return megabytes * ROWS_PER_MB


def ratio(one: Sequence[float], other: Sequence[float]) -> float | None:
    """The median of the one over the median of the other; None where one of them was not measured."""
    if not one or not other:
        return None
    return statistics.median(one) / statistics.median(other)


def figures(outcome: BackupOutcome) -> dict[str, Figure]:
    """What is printed as the last line."""
    written = [each.written for each in outcome.backups]
    whole = [each.whole for each in outcome.backups]
    restored = [each.whole for each in outcome.restores]
    scheduled = outcome.scheduled
    found: dict[str, Figure] = {
        "backup_ratio": ratio(outcome.raw_dumps, written),
        "restore_ratio": ratio(restored, outcome.raw_restores),
        **{f"peak_rss_mb_{size}": peak for size, peak in sorted(outcome.peaks.items())},
        "cutover_s": max((each.cutover for each in outcome.restores), default=None),
        "backup_ratio_verified": ratio(outcome.raw_dumps, whole),
        "database_mb": outcome.size_mb,
        "stored_mb": outcome.stored_mb,
        "raw_dump_s": _median(outcome.raw_dumps),
        "backup_written_s": _median(written),
        "backup_verified_s": _median(whole),
        "raw_restore_s": _median(outcome.raw_restores),
        "restore_s": _median(restored),
        "schedules": scheduled.count if scheduled else None,
        "schedules_noticed_s": scheduled.noticed if scheduled else None,
        "schedules_idle_cpu_percent": scheduled.idle_cpu * 100 if scheduled else None,
    }
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in found.items()}


def broken(found: Mapping[str, Figure]) -> list[str]:
    """The promises that were not kept, in words; what was not measured is none of them."""
    memory = {name: ("at most", MOST_MEMORY_MB) for name in found if name.startswith("peak_rss_mb_")}
    told = []
    for name, (side, limit) in {**PROMISES, **memory}.items():
        value = found.get(name)
        if value is not None and (value < limit if side == "at least" else value > limit):
            told.append(f"{name} is {value}, and was to be {side} {limit:g}")
    return told


def table(outcome: BackupOutcome) -> str:
    """What people read."""
    found = figures(outcome)
    lines = [f"{name:32} {'-' if value is None else value}" for name, value in found.items()]
    return "\n".join([*lines, *(f"NOT AS PROMISED: {line}" for line in broken(found))])


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None
