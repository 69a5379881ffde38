"""Retention: what is kept is at least what was asked for, never without the last verified one, never another's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.strategies import calmly

from tenantry.decide.retention import Candidate, Retention, kept

BERLIN = ZoneInfo("Europe/Berlin")
START = datetime(2026, 1, 1, tzinfo=UTC)
COUNTS = st.none() | st.integers(0, 6)
RETENTIONS = st.builds(Retention, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)
MOMENTS = st.integers(0, 60 * 24 * 400).map(lambda minutes: START + timedelta(minutes=minutes))


@st.composite
def histories(draw: st.DrawFn) -> list[Candidate]:
    each = st.tuples(st.integers(1, 3), st.none() | MOMENTS, st.booleans(), st.booleans())
    return [
        Candidate(f"b{number}", incarnation, completed, verified and completed is not None, proven and verified)
        for number, (incarnation, completed, verified, proven) in enumerate(draw(st.lists(each, max_size=25)))
    ]


def own(candidates: list[Candidate], incarnation: int) -> list[Candidate]:
    """Those that retention decides on, newest first."""
    mine = [each for each in candidates if each.incarnation == incarnation and each.completed_at is not None]
    return sorted(mine, key=lambda each: (each.completed_at or START, each.name), reverse=True)


@calmly
@given(histories(), RETENTIONS, st.integers(1, 3))
def test_the_last_verified_one_is_always_kept(
    candidates: list[Candidate], retention: Retention, incarnation: int
) -> None:
    stays = kept(candidates, retention, UTC, incarnation)
    verified = [each.name for each in own(candidates, incarnation) if each.verified]
    proven = [each.name for each in own(candidates, incarnation) if each.proven]
    assert stays.issuperset([*verified[:1], *proven[:1]])


@calmly
@given(histories(), RETENTIONS, st.integers(1, 3))
def test_other_incarnations_and_what_has_not_completed_are_never_touched(
    candidates: list[Candidate], retention: Retention, incarnation: int
) -> None:
    stays = kept(candidates, retention, BERLIN, incarnation)
    decided = {each.name for each in own(candidates, incarnation)}
    assert {each.name for each in candidates} - stays <= decided


@calmly
@given(histories(), st.integers(0, 10), st.integers(1, 3))
def test_the_newest_are_kept_by_number(candidates: list[Candidate], count: int, incarnation: int) -> None:
    stays = kept(candidates, Retention(last=count), UTC, incarnation)
    mine = own(candidates, incarnation)
    always = [*[each.name for each in mine if each.verified][:1], *[each.name for each in mine if each.proven][:1]]
    assert stays & {each.name for each in mine} == {*(each.name for each in mine[:count]), *always}


@calmly
@given(histories(), RETENTIONS, st.integers(1, 3))
def test_more_is_never_less(candidates: list[Candidate], retention: Retention, incarnation: int) -> None:
    more = Retention(*(None if getattr(retention, f) is None else getattr(retention, f) + 1 for f in FIELDS))
    assert kept(candidates, retention, BERLIN, incarnation) <= kept(candidates, more, BERLIN, incarnation)


@calmly
@given(histories(), RETENTIONS, st.integers(1, 3))
def test_what_was_kept_is_kept_again(candidates: list[Candidate], retention: Retention, incarnation: int) -> None:
    stays = kept(candidates, retention, BERLIN, incarnation)
    left = [each for each in candidates if each.name in stays]
    assert kept(left, retention, BERLIN, incarnation) == stays


@calmly
@given(histories(), st.integers(1, 3))
def test_without_a_retention_all_is_kept(candidates: list[Candidate], incarnation: int) -> None:
    assert kept(candidates, Retention(), UTC, incarnation) == {each.name for each in candidates}


@calmly
@given(histories(), st.integers(0, 5), st.integers(1, 3))
def test_a_daily_one_is_the_newest_of_its_day_where_the_schedule_is(
    candidates: list[Candidate], count: int, incarnation: int
) -> None:
    stays = kept(candidates, Retention(daily=count), BERLIN, incarnation)
    days: dict[object, str] = {}
    for each in own(candidates, incarnation):
        assert each.completed_at is not None
        days.setdefault(each.completed_at.astimezone(BERLIN).date(), each.name)
    assert stays.issuperset(list(days.values())[:count])


def test_two_backups_a_day_for_a_year_become_what_was_asked_for() -> None:
    candidates = [
        Candidate(f"{day:03}-{half}", 1, START + timedelta(days=day, hours=12 * half), verified=day < 300)
        for day in range(365)
        for half in range(2)
    ]
    stays = kept(candidates, Retention(last=3, daily=7, weekly=4, monthly=12), UTC, 1)
    assert {"364-1", "364-0", "363-1"} <= stays
    assert "299-1" in stays, "the last verified one, whatever the numbers say"
    assert "298-1" not in stays
    assert len(stays) < 3 + 7 + 4 + 12


FIELDS = ("last", "hourly", "daily", "weekly", "monthly")
