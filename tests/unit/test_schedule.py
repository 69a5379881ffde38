"""Schedules: cron's fields as Kubernetes' CronJob means them, by the clocks of their zone, each slot once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.strategies import calmly

from tenantry.decide.schedule import ScheduleError, due, jitter, missed_slot, next_after, parse

START = datetime(2020, 1, 1, tzinfo=UTC)
NEW_YORK = ZoneInfo("America/New_York")
ZONES = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Cuba"]
).map(ZoneInfo)
MOMENTS = st.integers(0, 15 * 365 * 24 * 60).map(lambda minutes: START + timedelta(minutes=minutes))
SCHEDULES = st.sampled_from(
    ["* * * * *", "0 3 * * *", "30 2 * * *", "*/15 * * * *", "0 0 * * 0", "5 4 1 * *", "0 0 29 2 *", "@hourly",
     "15 1-3 * * mon-fri", "0 12 13 * 5", "10/20 */6 * jan,jul *"]
)  # fmt: skip


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


@pytest.mark.parametrize(
    ("schedule", "after", "expected"),
    [
        # From robfig/cron's own tests, in New York in 2012: spring forward on 11 March, fall back on 4 November.
        ("30 * * * *", "2012-03-11T00:00:00-05:00", "2012-03-11T00:30:00-05:00"),
        ("0 * * * *", "2012-03-11T01:00:00-05:00", "2012-03-11T03:00:00-04:00"),
        ("0 2 * * *", "2012-03-11T00:00:00-05:00", "2012-03-12T02:00:00-04:00"),
        ("30 1 * * *", "2012-11-04T00:00:00-04:00", "2012-11-04T01:30:00-04:00"),
        ("30 1 * * *", "2012-11-04T01:45:00-04:00", "2012-11-04T01:30:00-05:00"),
        ("30 2 * * *", "2012-11-04T00:00:00-04:00", "2012-11-04T02:30:00-05:00"),
        ("0 0 * * *", "2012-11-04T00:00:00-04:00", "2012-11-05T00:00:00-05:00"),
        ("0 0 1 * *", "2012-10-01T00:00:00-04:00", "2012-11-01T00:00:00-04:00"),
        ("0 0 29 2 *", "2013-03-01T00:00:00-05:00", "2016-02-29T00:00:00-05:00"),
        ("0 0 13 * 5", "2012-07-01T00:00:00-04:00", "2012-07-06T00:00:00-04:00"),
        ("@monthly", "2012-12-31T23:59:59-05:00", "2013-01-01T00:00:00-05:00"),
    ],
)
def test_slots_are_those_of_cronjobs(schedule: str, after: str, expected: str) -> None:
    assert next_after(parse(schedule), utc(after), NEW_YORK) == utc(expected)


def test_a_day_that_never_comes_has_no_slot() -> None:
    assert next_after(parse("0 0 30 2 *"), utc("2026-01-01T00:00:00+00:00"), NEW_YORK) is None


def test_a_midnight_that_the_clocks_leave_out_is_passed_over() -> None:
    cuba = ZoneInfo("Cuba")  # 2012-04-01: from 00:00 to 01:00
    assert next_after(parse("0 0 * * *"), utc("2012-03-31T12:00:00-05:00"), cuba) == utc("2012-04-02T00:00:00-04:00")
    assert next_after(parse("30 1 * * *"), utc("2012-03-31T12:00:00-05:00"), cuba) == utc("2012-04-01T01:30:00-04:00")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "five fields"), ("* * * *", "five fields"), ("* * * * * *", "five fields"), ("@never", "five fields"),
        ("60 * * * *", "within 0 to 59"), ("* 24 * * *", "within"), ("* * 0 * *", "within"), ("* * * 13 *", "within"),
        ("* * * * 7", "within 0 to 6"), ("5-1 * * * *", "within"), ("*/0 * * * *", "step of 0"),
        ("*-5 * * * *", "no range"),
        ("a * * * *", "no number"), ("1,,2 * * * *", "no part"), ("TZ=UTC * * * * *", "timeZone"),
        ("-1 * * * *", "no part"),
        ("\u0661 * * * *", "no part"),
    ],
)  # fmt: skip
def test_what_is_no_schedule_is_refused_with_its_reason(text: str, why: str) -> None:
    with pytest.raises(ScheduleError, match=why):
        parse(text)


@calmly
@given(SCHEDULES, MOMENTS, ZONES)
def test_the_next_slot_is_later_and_fits_and_none_is_between(text: str, after: datetime, zone: ZoneInfo) -> None:
    schedule = parse(text)
    found = next_after(schedule, after, zone)
    assert found is not None
    assert found > after
    local = found.astimezone(zone)
    assert local.minute in schedule.minutes
    assert local.hour in schedule.hours
    assert local.month in schedule.months
    assert schedule.fits_day(local)
    assert next_after(schedule, found - timedelta(seconds=1), zone) == found
    middle = after + (found - after) / 2
    assert next_after(schedule, middle, zone) == found


@calmly
@given(SCHEDULES, MOMENTS, st.timedeltas(timedelta(), timedelta(days=40)), ZONES)
def test_however_many_slots_were_missed_one_is_made_up_for(
    text: str, last: datetime, gone: timedelta, zone: ZoneInfo
) -> None:
    schedule, now = parse(text), last + gone
    slot = missed_slot(schedule, last, now, zone)
    first = next_after(schedule, last, zone)
    assert first is not None
    if slot is None:
        assert first > now
        return
    assert last < slot <= now
    following = next_after(schedule, slot, zone)
    assert following is None or following > now
    assert missed_slot(schedule, slot, now, zone) is None, "it is run once"


@calmly
@given(SCHEDULES, MOMENTS, st.timedeltas(timedelta(), timedelta(hours=1)), ZONES)
def test_a_delayed_slot_is_run_after_its_delay_and_looked_for_then(
    text: str, now: datetime, delay: timedelta, zone: ZoneInfo
) -> None:
    schedule = parse(text)
    slot, coming = due(schedule, now - timedelta(days=3), now, zone, delay)
    assert slot is None or slot + delay <= now
    assert coming is not None
    assert coming > now
    again, _ = due(schedule, slot or now - timedelta(days=3), coming, zone, delay)
    assert again is not None
    assert again + delay <= coming


@calmly
@given(st.text(min_size=8, max_size=8), st.timedeltas(timedelta(seconds=1), timedelta(hours=2)))
def test_a_tenants_delay_is_always_the_same_and_within_the_spread(tenant_hash: str, spread: timedelta) -> None:
    found = jitter(tenant_hash, spread)
    assert timedelta() <= found < spread
    assert found == jitter(tenant_hash, spread)


def test_a_thousand_tenants_do_not_start_at_once() -> None:
    seconds = [int(jitter(f"tenant{number:04}", timedelta(minutes=10)).total_seconds()) for number in range(1000)]
    in_a_minute = [sum(60 * minute <= each < 60 * minute + 60 for each in seconds) for minute in range(10)]
    assert max(in_a_minute) < 150
    assert min(in_a_minute) > 50
