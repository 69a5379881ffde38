"""Verdicts: what the last pass over each tenant found out, and about which revision of its plan; in memory only.

A status could be written by others, and a rollout must not go on because somebody wrote `Ready` into it.
"""

from __future__ import annotations

from dataclasses import dataclass

from tenantry.decide.rollout import Health


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a tenant is.

    Attributes:
        revision: Of its plan, in the pass that found this out; empty for the built-in plan.
        since: Since when it has been so on this revision, in monotonic seconds.
    """

    revision: str
    health: Health
    since: float


class Verdicts:
    """One for the whole operator, by the name of the record."""

    def __init__(self) -> None:
        self._of: dict[str, Verdict] = {}

    def note(self, record: str, revision: str, health: Health, now: float) -> None:
        """Take in what a pass has found out; `now` in monotonic seconds."""
        former = self._of.get(record)
        if former is None or (former.revision, former.health) != (revision, health):
            self._of[record] = Verdict(revision, health, now)

    def of(self, record: str) -> Verdict | None:
        """The last one; None before the first pass."""
        return self._of.get(record)

    def forget(self, record: str) -> None:
        """The record is gone."""
        self._of.pop(record, None)
