"""Backups: phases only go forward, a run is begun once, and what a dead process left is never taken for alive."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.strategies import calmly

from tenantry.api.tenantbackup import BackupPhase
from tenantry.decide.backup import Seen, Step, expiry, goes_forward, next_step

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
ENDS = (BackupPhase.COMPLETED, BackupPhase.FAILED)
PHASES = st.sampled_from(list(BackupPhase))
TIMES = st.none() | st.datetimes(timezones=st.just(UTC))


@calmly
@given(PHASES, PHASES)
def test_no_phase_is_ever_come_back_to(one: BackupPhase, two: BackupPhase) -> None:
    if one != two:
        assert not (goes_forward(one, two) and goes_forward(two, one))
    assert goes_forward(one, one)
    assert goes_forward(None, one)


@calmly
@given(st.sampled_from(ENDS), PHASES)
def test_nothing_follows_an_end(end: BackupPhase, phase: BackupPhase) -> None:
    assert goes_forward(end, phase) == (end == phase)


@calmly
@given(st.none() | PHASES, st.booleans(), TIMES, st.booleans())
def test_a_run_is_begun_only_where_none_was_ever_begun(
    phase: BackupPhase | None, here: bool, expires_at: datetime | None, told: bool
) -> None:
    begun = next_step(Seen(phase, here, expires_at, told), NOW) == Step.BEGIN
    new = phase in (None, BackupPhase.PENDING)
    assert begun == (not here and (new or (phase == BackupPhase.RUNNING and told)))


@calmly
@given(st.sampled_from([BackupPhase.RUNNING, BackupPhase.VERIFYING]), st.booleans(), TIMES)
def test_a_run_that_nobody_here_works_on_is_looked_into(
    phase: BackupPhase, here: bool, expires_at: datetime | None
) -> None:
    assert next_step(Seen(phase, here, expires_at), NOW) == (Step.WATCH if here else Step.RECOVER)


@calmly
@given(st.none() | PHASES, st.booleans(), TIMES)
def test_only_what_has_ended_and_is_due_expires(
    phase: BackupPhase | None, here: bool, expires_at: datetime | None
) -> None:
    expires = next_step(Seen(phase, here, expires_at), NOW) == Step.EXPIRE
    assert expires == (phase in ENDS and expires_at is not None and expires_at <= NOW)


def test_a_time_to_live_that_no_calendar_has_is_for_ever() -> None:
    assert expiry(NOW, timedelta(days=1)) == NOW + timedelta(days=1)
    assert expiry(NOW, None) is None
    assert expiry(NOW, timedelta.max) is None
