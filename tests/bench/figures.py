"""What is counted: percentiles, slopes, requests by verb, and the objects that writes are set against; pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from tests.controlplane.audit import AuditEntry

NOT_COUNTED: Final = frozenset({"leases", "events", "selfsubjectaccessreviews"})
"""Resources that are neither reads nor writes here: leadership, events for people, questions about rights."""
FORBIDDEN: Final = 403


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values do not exceed (nearest rank).

    Raises:
        ValueError: for no values.
    """
    if not values:
        raise ValueError("there is no percentile of nothing")
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The slope of the line through the points by least squares; 0 where they all are at one place."""
    if not points:
        return 0.0
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


@dataclass(frozen=True, slots=True)
class Requests:
    """What one identity asked of the API servers in a stretch of time.

    Attributes:
        by_verb: Kubernetes' verbs; a watch counts once, when it begins.
        writes: Granted or not.
        refused: Those of the writes that were answered 403: rights that lagged behind a fresh binding.
    """

    by_verb: Counter[str]
    writes: int
    refused: int

    @property
    def reads(self) -> int:
        """All that is no write."""
        return self.by_verb.total() - self.writes

    def __add__(self, other: Requests) -> Requests:
        return Requests(self.by_verb + other.by_verb, self.writes + other.writes, self.refused + other.refused)


def count_requests(entries: Iterable[AuditEntry], user: str) -> Requests:
    """Count one user's requests, without Leases, Events and access reviews."""
    relevant = [
        entry
        for entry in entries
        if entry.user == user
        and entry.resource not in NOT_COUNTED
        and not (entry.verb == "watch" and entry.stage != "ResponseStarted")  # else a watch is there twice
    ]
    writes = [entry for entry in relevant if entry.is_write]
    return Requests(
        by_verb=Counter(entry.verb for entry in relevant),
        writes=len(writes),
        refused=sum(entry.code == FORBIDDEN for entry in writes),
    )


@dataclass(frozen=True, slots=True)
class Load:
    """What a process has cost.

    Attributes:
        tenants: How many there were at the end.
        peak_kb: The most memory it ever held (resident set).
        rest_kb: What it held once it had settled after its start.
        rest_tenants: How many tenants there were then.
    """

    tenants: int
    peak_kb: int
    rest_kb: int
    rest_tenants: int


def slope_per_tenant(loads: Sequence[Load]) -> float:
    """KiB of memory that one tenant more takes: over fresh processes, each started with more tenants than the last."""
    return slope([(load.rest_tenants, load.rest_kb) for load in loads])


def sum_of_samples(metrics: str, name: str) -> float:
    """The sum of a metric over all its labels in an exposition as text."""
    total = 0.0
    for line in metrics.splitlines():
        series, _, value = line.rpartition(" ")
        if series == name or series.startswith(f"{name}{{"):
            total += float(value)
    return total
