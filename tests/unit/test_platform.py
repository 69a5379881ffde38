"""What platform objects have in common: counters that are written now and then, and availability by outcomes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.strategies import calmly

from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.resources import CLUSTERS, Ref
from tenantry.decide.conditions import GOOD, Outcome
from tenantry.ports.world import Availability
from tenantry.reconcile.platform import COUNTER_INTERVAL, Counters, availability_of

EU = Ref(CLUSTERS, "", "eu-1")
START = datetime(2026, 1, 1, tzinfo=UTC)


def test_the_first_count_is_told_at_once_and_the_next_ones_only_after_a_while() -> None:
    counters = Counters()
    assert counters.report(EU, None, 3, START) == (3, None)
    assert counters.report(EU, 3, 3, START) == (3, None)
    later = START + timedelta(seconds=10)
    assert counters.report(EU, 3, 4, later) == (3, 20.0)
    assert counters.report(Ref(CLUSTERS, "", "eu-2"), 0, 4, later) == (4, None)
    assert counters.report(EU, 3, 5, START + COUNTER_INTERVAL) == (5, None)


@calmly
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 3)), max_size=30))
def test_a_counter_is_written_at_most_every_interval_and_is_right_when_it_was_waited_for(
    steps: list[tuple[int, int]],
) -> None:
    counters, now, reported, written = Counters(), START, 0, list[datetime]()
    for seconds, actual in steps:
        now += timedelta(seconds=seconds)
        told, later = counters.report(EU, reported, actual, now)
        if told != reported:
            written.append(now)
        assert (later is None) == (told == actual)
        if later is not None:
            assert counters.report(EU, reported, actual, now + timedelta(seconds=later)) == (actual, None)
            now, told = now + timedelta(seconds=later), actual
            written.append(now)
        reported = told
    assert all(two - one >= COUNTER_INTERVAL for one, two in pairwise(written))


def test_one_bad_outcome_makes_a_cluster_unavailable_and_the_first_says_why() -> None:
    outcomes = {
        ConditionType.CREDENTIALS_VALID: GOOD,
        ConditionType.REACHABLE: Outcome(None, Reason.UNREACHABLE, "no answer"),
        ConditionType.PERMISSIONS_SUFFICIENT: Outcome(False, Reason.PERMISSIONS_MISSING, "no rights", terminal=True),
    }
    assert availability_of(outcomes) == Availability(ok=False, reason=Reason.UNREACHABLE, message="no answer")
    assert availability_of(dict.fromkeys(outcomes, GOOD)) == Availability(ok=True)
