"""What a campaign has found out, in lines for people and in one line of JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from tests.crash.gate import Point


class Judged(Protocol):
    """One run: see `lane.Verdict`."""

    @property
    def point(self) -> Point: ...
    @property
    def mode(self) -> str: ...
    @property
    def reached(self) -> bool: ...
    @property
    def difference(self) -> tuple[str, ...]: ...
    @property
    def leaks(self) -> tuple[str, ...]: ...
    @property
    def seconds(self) -> float: ...


class Found(Protocol):
    """One operation: see `campaign.Findings`."""

    @property
    def writes(self) -> int: ...
    @property
    def verdicts(self) -> Sequence[Judged]: ...
    @property
    def unreached(self) -> Sequence[Judged]: ...
    @property
    def aborted(self) -> str: ...


def line_of(operation: str, verdict: Judged) -> str:
    """One run in a line, and in one more each what is wrong with its end."""
    end = "ok" if not verdict.difference else "NOT AS UNDISTURBED"
    how = "killed" if verdict.reached else "(the write did not come)"
    head = f"{operation}: {how} {verdict.mode} {str(verdict.point)[:150]}: {end} after {verdict.seconds:.1f} s"
    return "\n".join((head, *(f"    {line}" for line in verdict.difference)))


def figures(found: Mapping[str, Found]) -> dict[str, Any]:
    """Sums, and the same by operation.

    `points` are the kills: each write before and after. `converged` are those with the undisturbed end, `leaks` what
    was left over in all of them together, `unreached` the runs whose write did not come though it did in another run;
    these have to end right all the same.
    """
    operations = {name: _figures(findings) for name, findings in found.items()}
    totals = {key: sum(each[key] for each in operations.values()) for key in ("points", "converged", "leaks")}
    return {**totals, "operations": operations}


def passed(found: Iterable[Found]) -> bool:
    """Whether all runs ended as they should."""
    return all(_passed(each) for each in found)


def _passed(found: Found) -> bool:
    return not found.aborted and not any(verdict.difference for verdict in (*found.verdicts, *found.unreached))


def _figures(found: Found) -> dict[str, Any]:
    return {
        "points": len(found.verdicts),
        "converged": sum(1 for verdict in found.verdicts if not verdict.difference),
        "leaks": sum(len(verdict.leaks) for verdict in (*found.verdicts, *found.unreached)),
        "writes": found.writes,
        "unreached": len(found.unreached),
        "aborted": bool(found.aborted),
        "slowestSeconds": round(max((verdict.seconds for verdict in found.verdicts), default=0.0), 1),
    }
