"""The breaker: when it opens, whom it lets through, when it closes."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies
from tests.unit.fake_time import FakeTime

from tenantry.adapters.breaker import Breaker, BreakerState


def open_breaker(time: FakeTime) -> Breaker:
    breaker = Breaker(clock=time, failures=5, retry_after=30)
    for _ in range(5):
        breaker.record_failure()
    return breaker


def test_the_fifth_failure_in_a_row_opens_it() -> None:
    breaker = Breaker(clock=FakeTime())
    for _ in range(4):
        breaker.record_failure()
        assert (breaker.state, breaker.allow()) == (BreakerState.CLOSED, True)
    breaker.record_failure()
    assert (breaker.state, breaker.allow()) == (BreakerState.OPEN, False)


def test_a_success_in_between_starts_the_count_again() -> None:
    breaker = Breaker(clock=FakeTime())
    for _ in range(10):
        for _ in range(4):
            breaker.record_failure()
        breaker.record_success()
    assert breaker.state is BreakerState.CLOSED


def test_it_says_in_how_many_seconds_it_is_worth_trying() -> None:
    time = FakeTime()
    breaker = Breaker(clock=time)
    assert breaker.retry_in == 0
    breaker = open_breaker(time)
    time.advance(10)
    assert breaker.retry_in == 20
    time.advance(100)
    assert breaker.retry_in == 0


def test_after_the_wait_a_single_trial_is_let_through() -> None:
    time = FakeTime()
    breaker = open_breaker(time)
    time.advance(29.9)
    assert not breaker.allow()
    time.advance(0.1)
    assert [breaker.allow() for _ in range(3)] == [True, False, False]
    assert breaker.state is BreakerState.HALF_OPEN


def test_a_trial_that_succeeds_closes_it() -> None:
    time = FakeTime()
    breaker = open_breaker(time)
    time.advance(30)
    assert breaker.allow()
    breaker.record_success()
    assert (breaker.state, breaker.allow(), breaker.retry_in) == (BreakerState.CLOSED, True, 0)
    breaker.record_failure()
    assert breaker.state is BreakerState.CLOSED


def test_a_trial_that_fails_opens_it_for_the_whole_wait_again() -> None:
    time = FakeTime()
    breaker = open_breaker(time)
    time.advance(30)
    assert breaker.allow()
    time.advance(5)
    breaker.record_failure()
    assert (breaker.state, breaker.retry_in) == (BreakerState.OPEN, 30)


def test_a_trial_that_is_never_heard_of_again_does_not_lock_it() -> None:
    time = FakeTime()
    breaker = open_breaker(time)
    time.advance(30)
    assert breaker.allow()
    time.advance(30)
    assert breaker.allow()


def test_late_failures_of_earlier_calls_do_not_lengthen_the_wait() -> None:
    time = FakeTime()
    breaker = open_breaker(time)
    time.advance(20)
    breaker.record_failure()
    time.advance(10)
    assert breaker.allow()


def test_a_probe_that_does_not_ask_first_closes_it_by_its_success() -> None:
    breaker = open_breaker(FakeTime())
    breaker.record_success()
    assert breaker.state is BreakerState.CLOSED


@pytest.mark.parametrize(("failures", "retry_after"), [(0, 30.0), (5, 0.0)])
def test_a_breaker_that_could_not_work_is_refused(failures: int, retry_after: float) -> None:
    with pytest.raises(ValueError, match="a breaker needs"):
        Breaker(clock=FakeTime(), failures=failures, retry_after=retry_after)


steps = strategies.lists(strategies.one_of(strategies.booleans(), strategies.floats(0, 60)), max_size=60)


@given(steps)
def test_whatever_happened_a_target_is_tried_again_after_the_wait_and_a_success_closes(
    history: list[bool | float],
) -> None:
    time = FakeTime()
    breaker = Breaker(clock=time, failures=3, retry_after=30)
    for step in history:
        match step:
            case True:
                breaker.record_success()
            case False:
                breaker.record_failure()
            case seconds:
                time.advance(seconds)
                expected = breaker.retry_in == 0
                assert breaker.allow() == expected
    time.advance(30)
    assert breaker.allow()
    breaker.record_success()
    assert breaker.state is BreakerState.CLOSED
