"""Rollouts of plans: shares that hold until they are proven, an end that is reached, restarts that go on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.strategies import calmly

from tenantry.decide.rollout import Health, Member, Pace, Phase, Step, advance, goes_at_once, shares

PACE = Pace(settle=60.0, patience=300.0)
READY = Member("a", updated=True, rolled_out=True, was_ready=True, health=Health.READY, seconds=60.0)


def old(number: int, health: Health | None = Health.READY) -> Member:
    return Member(f"tenant-{number:04}", updated=False, health=health)


def updated(member: Member) -> Member:
    """As the next look finds a tenant that got the revision: nothing is known of it on that."""
    ready = member.health is Health.READY
    return replace(member, updated=True, rolled_out=True, was_ready=ready, health=None, seconds=0.0)


def settled(member: Member, health: Health | None = None) -> Member:
    """Long after it got the revision."""
    return replace(member, health=health or Health.READY, seconds=1e6) if member.updated else member


def apply(members: list[Member], step: Step) -> list[Member]:
    return [updated(member) if member.record in step.update else member for member in members]


def run(members: list[Member], **told: bool) -> list[int]:
    """How many have the revision after each wave, where all of them get well; asserts that it ends."""
    counts: list[int] = []
    for _ in range(10):
        step = advance(members, PACE, at_once=False, resumed=told.get("resumed", False))
        if step.phase is Phase.COMPLETE:
            return counts
        members = [settled(member) for member in apply(members, step)]
        counts.append(sum(member.updated for member in members))
    raise AssertionError(f"no end after {counts}")


@pytest.mark.parametrize(
    ("tenants", "waves"), [(1, [1]), (3, [1, 3]), (20, [1, 5, 20]), (60, [3, 15, 60]), (300, [15, 75, 300])]
)
def test_the_canary_is_five_percent_then_a_quarter_then_all(tenants: int, waves: list[int]) -> None:
    assert run([old(number) for number in range(tenants)]) == waves


@pytest.mark.parametrize(
    ("rollout", "tenants", "paused", "at_once"),
    [
        (None, 19, False, True),
        (None, 20, False, False),
        (None, 3, True, False),
        ("Immediate", 500, True, True),
        ("Waves", 1, False, False),
    ],
)
def test_without_a_type_it_is_waves_from_twenty_tenants_on(
    rollout: str | None, tenants: int, paused: bool, at_once: bool
) -> None:
    assert goes_at_once(rollout, [old(n) for n in range(tenants)], paused=paused) is at_once


def test_waves_that_have_begun_stay_waves_when_tenants_leave() -> None:
    members = [READY, *(old(number) for number in range(10))]
    assert not goes_at_once(None, members, paused=False)
    assert goes_at_once(None, [replace(READY, rolled_out=False), old(1)], paused=False), "a new one began with it"


def test_at_once_is_everybody_whatever_failed() -> None:
    members = [replace(READY, health=Health.STALLED), *(old(number) for number in range(30))]
    step = advance(members, PACE, at_once=True, paused="one failed")
    assert set(step.update) == {member.record for member in members[1:]}
    assert not step.proves, "nobody is judged by how he was before"


FAILURES = {
    "stalled": replace(READY, health=Health.STALLED, seconds=0.0),
    "not Ready for too long": replace(READY, health=Health.WAITING, seconds=300.0),
    "never looked at": replace(READY, health=None, seconds=300.0),
}
NO_FAILURES = {
    "stalled before": replace(READY, health=Health.STALLED, was_ready=False),
    "not Ready for a while": replace(READY, health=Health.WAITING, seconds=299.0),
    "suspended": replace(READY, health=Health.IDLE, seconds=1e6),
}


@pytest.mark.parametrize("case", FAILURES)
def test_the_first_tenant_that_gets_worse_stops_it_until_somebody_resumes_it(case: str) -> None:
    members = [FAILURES[case], *(old(number) for number in range(40))]
    step = advance(members, PACE, at_once=False)
    assert (step.phase, step.update) == (Phase.PAUSED, ())
    assert step.stop.startswith("a was Ready and is ")
    again = advance(members, PACE, at_once=False, paused=step.stop)
    assert (again.phase, again.message, again.stop) == (Phase.PAUSED, step.stop, ""), "written down once"
    well = advance([READY, *members[1:]], PACE, at_once=False, paused=step.stop)
    assert (well.phase, well.update) == (Phase.PAUSED, ()), "also when the tenant has got well"
    assert advance(members, PACE, at_once=False, paused=step.stop, resumed=True).update


@pytest.mark.parametrize("case", NO_FAILURES)
def test_what_proves_nothing_stops_nothing(case: str) -> None:
    step = advance([NO_FAILURES[case], *(old(number) for number in range(30))], PACE, at_once=False)
    assert (step.phase is Phase.PAUSED, step.stop) == (False, "")
    assert bool(step.update) is (case != "not Ready for a while")


@pytest.mark.parametrize("suspended", [1, 3])
def test_a_canary_that_is_suspended_proves_nothing_and_another_takes_its_place(suspended: int) -> None:
    idle = [replace(READY, record=f"idle-{n}", health=Health.IDLE, seconds=1e6) for n in range(suspended)]
    members = [*idle, *(old(number) for number in range(30))]
    step = advance(members, PACE, at_once=False)
    assert (len(step.update), step.phase, step.updated) == (1, Phase.CANARY, suspended)
    waiting = apply(members, step)
    assert advance(waiting, PACE, at_once=False).update == ()
    assert len(advance([settled(m) if m not in idle else m for m in waiting], PACE, at_once=False).update) > 1


def test_tenants_that_are_well_go_first() -> None:
    members = [*(old(n, Health.STALLED) for n in range(10)), *(old(n) for n in range(10, 12)), old(99, None)]
    (first,) = advance(members, PACE, at_once=False).update
    assert first in ("tenant-0010", "tenant-0011")


def test_new_tenants_are_no_canaries() -> None:
    natives = [replace(READY, record=f"new-{n}", rolled_out=False) for n in range(10)]
    step = advance([*natives, *(old(number) for number in range(20))], PACE, at_once=False)
    assert (len(step.update), step.phase, step.updated, step.total) == (1, Phase.CANARY, 10, 30)


healths = st.sampled_from([None, *Health])
populations = st.lists(healths, min_size=1, max_size=120).map(lambda found: [old(n, h) for n, h in enumerate(found)])


@dataclass(frozen=True, slots=True)
class Fate:
    """What happens to the tenants between two looks."""

    written: float
    becomes: list[Health | None]
    seconds: float


fates = st.lists(
    st.builds(
        Fate,
        written=st.sampled_from([0.0, 0.5, 1.0]),
        becomes=st.lists(healths, min_size=1, max_size=7),
        seconds=st.sampled_from([0.0, 59.0, 60.0, 300.0]),
    ),
    max_size=12,
)


@calmly
@given(populations, fates)
def test_never_more_than_a_waves_share_before_those_before_it_are_proven(
    members: list[Member], history: list[Fate]
) -> None:
    """Whatever becomes of the tenants, and wherever a write is lost or the operator dies between two of them."""
    proven: set[str] = set()
    for fate in history:
        step = advance(members, PACE, at_once=False)
        active = [m for m in members if not (m.updated and m.health is Health.IDLE)]
        sizes = shares(len(active))
        have = {member.record for member in active if member.updated}
        waited_for = {m.record for m in active if m.updated and m.was_ready}
        well = {m.record for m in members if m.updated and m.health is Health.READY and m.seconds >= PACE.settle}
        reached = len(have) + len(step.update)
        if step.update:
            begun = next(size for size in sizes if size >= reached)
            earlier = max((size for size in sizes if size < begun), default=0)
            assert not set(step.update) & have
            if len(have) <= earlier:
                assert waited_for <= well, "a new wave began although one was not proven"
                proven |= well
            assert reached <= begun
        kept = step.update[: int(len(step.update) * fate.written)]
        members = apply(members, replace(step, update=kept))
        members = [
            replace(m, health=fate.becomes[n % len(fate.becomes)], seconds=fate.seconds) if m.updated else m
            for n, m in enumerate(members)
        ]


@calmly
@given(populations, fates)
def test_everybody_gets_there_once_all_are_well_or_somebody_resumes_it(
    members: list[Member], history: list[Fate]
) -> None:
    for fate in history:
        step = advance(members, PACE, at_once=False)
        members = apply(members, replace(step, update=step.update[: int(len(step.update) * fate.written)]))
        members = [
            replace(m, health=fate.becomes[n % len(fate.becomes)], seconds=fate.seconds) if m.updated else m
            for n, m in enumerate(members)
        ]
    run([settled(member) for member in members])
    run([settled(member, Health.STALLED) for member in members], resumed=True)
