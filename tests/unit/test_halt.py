"""Halts: whose turn it is, and what becomes of them as the outcome of a concern."""

from __future__ import annotations

from tenantry.api.conditions import ConditionType, Reason
from tenantry.decide.conditions import Outcome
from tenantry.decide.halt import Halt, Terminal, Waiting


def test_a_terminal_halt_is_the_users_turn_and_nothing_is_retried() -> None:
    halt = Terminal(ConditionType.PLACED, Reason.PLAN_EXCEEDED, "too much")
    assert Outcome.of(halt) == Outcome(False, Reason.PLAN_EXCEEDED, "too much", terminal=True)


def test_a_waiting_halt_is_unknown_and_says_when_to_look_again() -> None:
    halt = Waiting(ConditionType.PLACED, Reason.CLUSTER_FULL, "full", retry_after=30.0)
    assert Outcome.of(halt) == Outcome(None, Reason.CLUSTER_FULL, "full", retry_after=30.0)
    assert Outcome.of(Waiting(ConditionType.PLACED, Reason.CLUSTER_FULL, "full")).retry_after is None


def test_a_halt_of_neither_sort_is_unknown_and_not_the_users_turn() -> None:
    halt = Halt(ConditionType.PLACED, Reason.PENDING, "odd")
    assert Outcome.of(halt) == Outcome(None, Reason.PENDING, "odd")
    assert str(halt) == "odd"
