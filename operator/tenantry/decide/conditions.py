"""From the outcomes of a reconcile to the list of conditions that people, kubectl wait and kstatus read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from tenantry.api.conditions import MAX_MESSAGE, Condition, ConditionType, Reason
from tenantry.decide.halt import Halt, Terminal, Waiting

TIME_FORMAT: Final = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one concern of a reconcile ended.

    Attributes:
        status: True, False (the user must act) or None (unknown: waiting or retrying).
        terminal: Nothing changes until somebody changes something.
        retry_after: Seconds after which to look again; None to rely on events.
    """

    status: bool | None
    reason: Reason
    message: str = ""
    terminal: bool = False
    retry_after: float | None = None

    @classmethod
    def of(cls, halt: Halt) -> Outcome:
        """The outcome that a Halt stands for."""
        match halt:
            case Terminal():
                return cls(False, halt.reason, halt.message, terminal=True)
            case Waiting():
                return cls(None, halt.reason, halt.message, retry_after=halt.retry_after)
            case _:
                return cls(None, halt.reason, halt.message)


GOOD = Outcome(True, Reason.READY)
PENDING = Outcome(None, Reason.PENDING, "not looked at yet")


def summarize(
    outcomes: Mapping[ConditionType, Outcome],
    *,
    ready_message: str,
    previous: Sequence[Condition],
    generation: int,
    now: datetime,
    ready_reason: Reason = Reason.READY,
) -> list[Condition]:
    """All conditions of an object: one an outcome, Ready over all of them, Reconciling or Stalled where they hold.

    kstatus' table: good is Ready=True; waiting or retrying is Ready=Unknown and Reconciling; what the user must
    change is Ready=False and Stalled. The worst outcome speaks for all; of several, the first in the mapping's order.
    """
    worst = _worst(outcomes.values())
    ready = Outcome(True, ready_reason, ready_message)
    if worst is not None:
        ready = Outcome(False if worst.terminal else None, worst.reason, worst.message)
    entries: list[tuple[ConditionType, Outcome]] = [(ConditionType.READY, ready)]
    if worst is not None and worst.terminal:
        entries.append((ConditionType.STALLED, Outcome(True, worst.reason, worst.message)))
    elif worst is not None:
        entries.append((ConditionType.RECONCILING, Outcome(True, worst.reason, worst.message)))
    entries += outcomes.items()
    return [condition_of(kind, outcome, previous, generation, now) for kind, outcome in entries]


def suspended(
    previous: Sequence[Condition],
    generation: int,
    now: datetime,
    *,
    reason: Reason,
    told: str,
) -> tuple[Condition, list[Condition]]:
    """The conditions of an object that is left alone: Ready, and the others as they were last found.

    Ready keeps its status, for nothing is looked at that could change it; neither Reconciling nor Stalled holds.
    """
    dropped = (ConditionType.READY, ConditionType.RECONCILING, ConditionType.STALLED, ConditionType.CHANGE_HELD)
    others = [
        condition.model_copy(update={"observed_generation": generation})
        for condition in previous
        if condition.type not in dropped
    ]
    former = next((condition for condition in previous if condition.type == ConditionType.READY), None)
    status = {"True": True, "False": False}.get(former.status) if former is not None else None
    ready = condition_of(ConditionType.READY, Outcome(status, reason, told), previous, generation, now)
    return ready, others


def transition_time(kind: ConditionType, status: str, previous: Sequence[Condition], now: datetime) -> str:
    """The time since when a condition has its status: the former one's where it has not changed."""
    for condition in previous:
        if condition.type == kind and condition.status == status and (since := time_of(condition)) and since <= now:
            return condition.last_transition_time
    return now.strftime(TIME_FORMAT)


def time_of(condition: Condition) -> datetime | None:
    """The lastTransitionTime; None where it is no time: a workspace's admin may have written anything there."""
    try:
        return datetime.strptime(condition.last_transition_time, TIME_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return None


def _worst(outcomes: Iterable[Outcome]) -> Outcome | None:
    bad = [outcome for outcome in outcomes if outcome.status is not True]
    return min(bad, key=_weight, default=None)


def _weight(outcome: Outcome) -> int:
    """What was not looked at yet says nothing of why: whatever stopped the pass before it goes first."""
    if outcome.terminal:
        return 0
    return 2 if outcome.reason == Reason.PENDING else 1


def condition_of(
    kind: ConditionType, outcome: Outcome, previous: Sequence[Condition], generation: int, now: datetime
) -> Condition:
    """One condition, about a generation."""
    status = {True: "True", False: "False", None: "Unknown"}[outcome.status]
    message = outcome.message if len(outcome.message) <= MAX_MESSAGE else f"{outcome.message[: MAX_MESSAGE - 1]}…"
    return Condition.model_validate(
        {
            "type": kind.value,
            "status": status,
            "reason": outcome.reason.value,
            "message": message,
            "lastTransitionTime": transition_time(kind, status, previous, now),
            "observedGeneration": generation,
        }
    )
