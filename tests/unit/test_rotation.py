"""The steps of a rotation: never two logins opened over their users' heads, never a login locked that is in use."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tenantry.decide.rotation import (
    MAX_REQUEST,
    Logins,
    Move,
    Schedule,
    concerns,
    is_forced,
    next_step,
    request_of,
)

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
OLD = NOW - 30 * DAY

moments = st.integers(0, 60).map(lambda days: NOW - days * HOUR)
logins = st.builds(
    Logins,
    created_at=st.just(OLD),
    rotated_at=st.none() | moments,
    former_open=st.booleans(),
    former_sessions=st.integers(0, 3),
)
schedules = st.builds(
    Schedule,
    request=st.none() | st.sampled_from(["2026-05-01", "force-now"]),
    interval=st.none() | st.just(2 * DAY),
    grace=st.sampled_from([timedelta(), HOUR, DAY]),
    cut=st.booleans(),
)


def asked(request: str | None = "now", grace: timedelta = DAY, interval: timedelta | None = None) -> Schedule:
    return Schedule(request=request, interval=interval, grace=grace)


def test_a_request_rotates_and_nothing_else_does_without_an_interval() -> None:
    idle = Logins(OLD, None, former_open=False)
    assert next_step(idle, asked(), NOW).move == Move.ROTATE
    assert next_step(idle, asked(None), NOW).move == Move.NOTHING


def test_an_interval_counts_from_the_last_rotation_or_from_the_beginning() -> None:
    schedule = asked(None, interval=2 * DAY)
    assert next_step(Logins(OLD, None, former_open=False), schedule, NOW).move == Move.ROTATE
    recent = NOW - DAY
    step = next_step(Logins(OLD, recent, former_open=False), schedule, NOW)
    assert (step.move, step.again) == (Move.NOTHING, recent + 2 * DAY)


def test_the_former_login_is_left_open_for_the_grace_period_and_locked_after_it() -> None:
    step = next_step(Logins(OLD, NOW - HOUR, former_open=True), asked(None), NOW)
    assert (step.move, step.again, step.pending) == (Move.NOTHING, NOW - HOUR + DAY, "")
    assert next_step(Logins(OLD, NOW - DAY, former_open=True), asked(None), NOW).move == Move.LOCK


def test_a_former_login_that_is_in_use_is_not_locked_and_it_is_told_who_uses_it() -> None:
    step = next_step(Logins(OLD, NOW - DAY, True, 2, ["cron at 10.0.0.7"]), asked(None), NOW)
    assert step.move == Move.NOTHING
    assert "2 sessions (cron at 10.0.0.7)" in step.pending
    assert step.again is not None


def test_a_request_waits_while_the_former_login_may_still_be_needed() -> None:
    assert next_step(Logins(OLD, NOW - HOUR, former_open=True), asked(), NOW).pending
    assert next_step(Logins(OLD, NOW - 2 * DAY, True, 1), asked(), NOW).pending
    assert next_step(Logins(OLD, NOW - 2 * DAY, former_open=True), asked(), NOW).move == Move.ROTATE


def test_a_forced_request_waits_for_nobody_and_locks_the_former_login_at_once() -> None:
    assert next_step(Logins(OLD, NOW - HOUR, True, 5), asked("force-1"), NOW).move == Move.ROTATE
    done = Schedule(request=None, interval=None, grace=DAY, cut=True)
    assert next_step(Logins(OLD, NOW, True, 5), done, NOW).move == Move.LOCK


def test_a_request_counts_once() -> None:
    assert request_of("a", None) == "a"
    assert request_of("a", "a") is None
    assert request_of(None, "a") is None
    assert request_of("", None) is None
    long = "x" * 1000
    assert request_of(long, request_of(long, None)) is None
    assert len(request_of(long, None) or "") == MAX_REQUEST


def test_nothing_is_asked_of_the_server_for_a_tenant_that_never_rotates() -> None:
    assert not concerns(asked(None), None)
    assert concerns(asked(), None)
    assert concerns(asked(None), NOW)
    assert concerns(asked(None, interval=DAY), None)


@given(logins, schedules)
def test_nobody_is_cut_off_unless_that_was_asked_for(found: Logins, schedule: Schedule) -> None:
    step = next_step(found, schedule, NOW)
    grace_over = found.rotated_at is None or found.rotated_at + schedule.grace <= NOW
    unused = not found.former_open or (grace_over and found.former_sessions == 0)
    if step.move != Move.NOTHING:
        assert unused or is_forced(schedule.request) or schedule.cut


@given(logins, schedules)
def test_what_is_due_or_open_is_looked_at_again(found: Logins, schedule: Schedule) -> None:
    step = next_step(found, schedule, NOW)
    if step.move == Move.NOTHING and (found.former_open or schedule.interval is not None):
        assert step.again is not None
        assert step.again > NOW
