"""Conditions: kstatus' table for every combination of outcomes, and times that move only with the status."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.strategies import calmly

from tenantry.api.conditions import MAX_MESSAGE, Condition, ConditionType, Reason
from tenantry.decide.conditions import GOOD, Outcome, summarize, transition_time

NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
KINDS = (ConditionType.PLACED, ConditionType.NAMESPACE_READY, ConditionType.DATABASE_READY)

outcomes = st.builds(
    Outcome,
    status=st.sampled_from([True, False, None]),
    reason=st.sampled_from([Reason.READY, Reason.PENDING, Reason.PLAN_EXCEEDED]),
    message=st.sampled_from(["", "short", "ä" * (MAX_MESSAGE + 7)]),
    terminal=st.booleans(),
    retry_after=st.sampled_from([None, 1.0]),
)
maps = st.dictionaries(st.sampled_from(KINDS), outcomes)


def told(
    found: dict[ConditionType, Outcome], previous: list[Condition] | None = None, now: datetime = NOW
) -> dict[str, Condition]:
    conditions = summarize(found, ready_message="all there", previous=previous or [], generation=7, now=now)
    assert len({condition.type for condition in conditions}) == len(conditions)
    return {condition.type: condition for condition in conditions}


@calmly
@given(maps)
def test_ready_reconciling_and_stalled_are_one_of_the_rows_of_kstatus(found: dict[ConditionType, Outcome]) -> None:
    conditions = told(found)
    row = (conditions["Ready"].status, "Reconciling" in conditions, "Stalled" in conditions)
    bad = [outcome for outcome in found.values() if outcome.status is not True]
    if not bad:
        assert row == ("True", False, False)
    elif any(outcome.terminal for outcome in bad):
        assert row == ("False", False, True)
    else:
        assert row == ("Unknown", True, False)
    assert all(conditions[kind].status == "True" for kind in ("Reconciling", "Stalled") if kind in conditions)


@calmly
@given(maps)
def test_every_concern_is_told_and_the_first_of_the_worst_speaks_for_all(found: dict[ConditionType, Outcome]) -> None:
    conditions = told(found)
    for kind, outcome in found.items():
        assert conditions[kind].status == {True: "True", False: "False", None: "Unknown"}[outcome.status]
        assert conditions[kind].reason == outcome.reason
    bad = [outcome for outcome in found.values() if outcome.status is not True]
    bad.sort(key=lambda outcome: not outcome.terminal and 1 + (outcome.reason == Reason.PENDING))
    assert conditions["Ready"].reason == (bad[0].reason if bad else Reason.READY)
    assert all(condition.observed_generation == 7 for condition in conditions.values())
    assert all(len(condition.message) <= MAX_MESSAGE for condition in conditions.values())


@calmly
@given(maps, maps)
def test_a_transition_time_moves_exactly_when_the_status_does(
    before: dict[ConditionType, Outcome], after: dict[ConditionType, Outcome]
) -> None:
    old = told(before)
    later = NOW + timedelta(hours=1)
    for kind, condition in told(after, list(old.values()), later).items():
        same = kind in old and old[kind].status == condition.status
        assert condition.last_transition_time == ("2026-01-02T03:04:05Z" if same else "2026-01-02T04:04:05Z")


def test_telling_the_same_again_later_changes_nothing() -> None:
    found = {ConditionType.PLACED: GOOD, ConditionType.DATABASE_READY: Outcome(None, Reason.SERVER_FULL, "full")}
    first = told(found)
    assert told(found, list(first.values()), NOW + timedelta(days=1)) == first


@pytest.mark.parametrize("written", ["", "yesterday", "2026-13-01T00:00:00Z", "9999-01-01T00:00:00Z"])
def test_a_time_that_is_none_or_that_is_still_to_come_is_not_kept(written: str) -> None:
    former = Condition(type="Ready", status="True", reason="Ready", last_transition_time=written)
    assert transition_time(ConditionType.READY, "True", [former], NOW) == "2026-01-02T03:04:05Z"


def test_good_says_what_there_is() -> None:
    assert told({ConditionType.PLACED: GOOD})["Ready"].message == "all there"
