"""The work queue by example: de-duplication, times, backoff, lanes, shutting down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from tests.unit.fake_time import FakeTime

from tenantry.api.resources import CLUSTERS, DATABASE_SERVERS, TENANT_PLANS, TENANTS, Resource
from tenantry.decide.backoff import Backoff
from tenantry.runtime.queue import PLATFORM_LANE, UNPLACED_LANE, Key, QueueObserver, WorkQueue


def key(name: str, target: str = "eu", resource: Resource = TENANTS) -> Key:
    """A key whose namespace says its target."""
    return Key(resource, target, name)


def queue_at(
    time: FakeTime,
    *,
    limit: int = 16,
    lane_limit: int = 8,
    roll: Callable[[], float] = lambda: 1.0,
    observer: QueueObserver | None = None,
) -> WorkQueue:
    return WorkQueue(
        lane_of=lambda each: each.namespace,
        clock=time,
        roll=roll,
        limit=limit,
        lane_limit=lane_limit,
        observer=observer,
        backoff=Backoff(base=0.25),  # a number that adds up exactly
        call_later=time.call_later,
    )


def take_all(queue: WorkQueue) -> list[str]:
    """The names of all keys that may run now, in turn."""
    names = []
    while (taken := queue.take()) is not None:
        names.append(taken.name)
    return names


def test_a_key_that_waits_is_there_once() -> None:
    queue = queue_at(FakeTime())
    for _ in range(3):
        queue.add(key("acme"))
    assert len(queue) == 1
    assert take_all(queue) == ["acme"]


def test_a_key_added_while_it_is_worked_on_runs_once_more_afterwards_and_not_before() -> None:
    queue = queue_at(FakeTime())
    queue.add(key("acme"))
    assert take_all(queue) == ["acme"]
    queue.add(key("acme"))
    queue.add(key("acme"))
    assert take_all(queue) == []
    queue.done(key("acme"))
    assert take_all(queue) == ["acme"]
    queue.done(key("acme"))
    assert take_all(queue) == []


def test_keys_of_one_lane_come_in_the_order_in_which_they_were_added() -> None:
    queue = queue_at(FakeTime())
    for name in "cab":
        queue.add(key(name))
    assert take_all(queue) == ["c", "a", "b"]


def test_what_is_not_being_worked_on_cannot_be_done() -> None:
    with pytest.raises(ValueError, match="Tenant eu/acme is not being worked on"):
        queue_at(FakeTime()).done(key("acme"))


def test_a_queue_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="no room"):
        queue_at(FakeTime(), lane_limit=0)


# --- times ------------------------------------------------------------------------------------------------------
def test_a_key_for_later_comes_at_its_time_and_not_before() -> None:
    time = FakeTime()
    queue = queue_at(time)
    queue.add_after(key("acme"), 10)
    time.advance(9.9)
    assert take_all(queue) == []
    time.advance(0.1)
    assert take_all(queue) == ["acme"]


@pytest.mark.parametrize("seconds", [(5, 60), (60, 5)])
def test_of_two_times_the_earlier_holds_and_the_later_is_forgotten(seconds: tuple[float, float]) -> None:
    time = FakeTime()
    queue = queue_at(time)
    for each in seconds:
        queue.add_after(key("acme"), each)
    time.advance(5)
    assert take_all(queue) == ["acme"]
    queue.done(key("acme"))
    time.advance(3600)
    assert take_all(queue) == []


def test_a_plain_add_overtakes_a_time_and_replaces_it() -> None:
    time = FakeTime()
    queue = queue_at(time)
    queue.add_after(key("acme"), 60)
    queue.add(key("acme"))
    assert take_all(queue) == ["acme"]
    queue.done(key("acme"))
    time.advance(3600)
    assert take_all(queue) == []


def test_a_time_asked_for_while_the_key_is_worked_on_outlives_the_work() -> None:
    time = FakeTime()
    queue = queue_at(time)
    queue.add(key("acme"))
    queue.take()
    queue.add_after(key("acme"), 60)
    queue.done(key("acme"))
    assert take_all(queue) == []
    time.advance(60)
    assert take_all(queue) == ["acme"]


def test_a_time_that_comes_while_the_key_is_worked_on_makes_it_run_again() -> None:
    time = FakeTime()
    queue = queue_at(time)
    queue.add(key("acme"))
    queue.take()
    queue.add_after(key("acme"), 5)
    time.advance(10)
    assert take_all(queue) == []
    queue.done(key("acme"))
    assert take_all(queue) == ["acme"]


def test_ten_thousand_times_need_one_timer_and_come_in_order() -> None:
    time = FakeTime()
    queue = queue_at(time, limit=20_000, lane_limit=20_000)
    for number in range(10_000):
        queue.add_after(key(str(number)), 1 + (number * 7919) % 10_000)
        assert time.alarms == 1
    time.advance(10_001)
    assert take_all(queue) == sorted((str(n) for n in range(10_000)), key=lambda name: (int(name) * 7919) % 10_000)
    assert time.alarms == 0


def test_overtaken_times_do_not_pile_up() -> None:
    time = FakeTime()
    queue = queue_at(time)
    for _ in range(1000):
        queue.add_after(key("acme"), 600)
        queue.add(key("acme"))
        queue.take()
        queue.done(key("acme"))
    assert len(queue._timers) < 100


# --- backoff ----------------------------------------------------------------------------------------------------
def test_backoff_grows_with_each_failure_until_it_is_forgotten() -> None:
    time = FakeTime()
    queue = queue_at(time)

    def wait_of_next_retry() -> float:
        started = time.monotonic()
        queue.add_rate_limited(key("acme"))
        while queue.take() is None:
            time.advance(0.125)
        queue.done(key("acme"))
        return time.monotonic() - started

    assert [wait_of_next_retry() for _ in range(5)] == [0.25, 0.5, 1, 2, 4]
    queue.forget(key("acme"))
    assert wait_of_next_retry() == 0.25


def test_backoff_is_jittered_over_the_whole_interval() -> None:
    time = FakeTime()
    queue = queue_at(time, roll=lambda: 0.5)
    queue.add_rate_limited(key("acme"))
    time.advance(0.12)
    assert take_all(queue) == []
    time.advance(0.005)
    assert take_all(queue) == ["acme"]


def test_the_default_policy_starts_at_a_fifth_of_a_second_and_ends_at_five_minutes() -> None:
    assert (Backoff().ceiling(1), Backoff().ceiling(1000)) == (0.2, 300.0)


# --- lanes ------------------------------------------------------------------------------------------------------
def test_lanes_take_turns_however_much_one_of_them_has_to_do() -> None:
    queue = queue_at(FakeTime())
    for number in range(5):
        queue.add(key(f"a{number}", "busy"))
    queue.add(key("b0", "quiet"))
    queue.add(key("c0", "calm"))
    assert take_all(queue)[:4] == ["a0", "b0", "c0", "a1"]


def test_a_lane_whose_keys_never_end_leaves_the_other_lanes_their_room() -> None:
    queue = queue_at(FakeTime(), limit=8, lane_limit=3)
    for number in range(100):
        queue.add(key(f"hangs{number}", "dead"))
    assert take_all(queue) == ["hangs0", "hangs1", "hangs2"]
    for name in "xyz":
        queue.add(key(name, "well"))
    assert take_all(queue) == ["x", "y", "z"]
    queue.done(key("hangs1", "dead"))
    assert take_all(queue) == ["hangs3"]


def test_all_lanes_together_stay_within_the_global_bound() -> None:
    queue = queue_at(FakeTime(), limit=5, lane_limit=3)
    for number in range(10):
        queue.add(key(str(number), f"target{number}"))
    assert len(take_all(queue)) == 4  # the fifth slot is the platform's


@pytest.mark.parametrize("resource", [CLUSTERS, DATABASE_SERVERS, TENANT_PLANS])
def test_the_platforms_kinds_find_a_slot_when_tenants_have_taken_all_others(resource: Resource) -> None:
    queue = queue_at(FakeTime(), limit=3, lane_limit=3)
    for number in range(10):
        queue.add(key(str(number), f"target{number % 2}"))
    assert len(take_all(queue)) == 2
    queue.add(key("platform", "", resource))
    queue.add(key("one-too-many", "", resource))
    assert take_all(queue) == ["platform"]


def test_with_a_single_slot_tenants_may_have_it() -> None:
    queue = queue_at(FakeTime(), limit=1)
    queue.add(key("acme"))
    assert take_all(queue) == ["acme"]


def test_tenants_without_a_target_cannot_crowd_the_platforms_lane() -> None:
    queue = queue_at(FakeTime(), limit=3, lane_limit=3)
    for number in range(10):
        queue.add(key(str(number), ""))
    assert len(take_all(queue)) == 2
    assert set(queue._lanes) == {UNPLACED_LANE}
    queue.add(key("eu", "", CLUSTERS))
    assert PLATFORM_LANE in queue._lanes


def test_a_lane_with_nothing_to_do_is_forgotten() -> None:
    queue = queue_at(FakeTime())
    queue.add(key("acme", "gone"))
    queue.take()
    queue.done(key("acme", "gone"))
    assert queue._lanes == {}


# --- waiting ----------------------------------------------------------------------------------------------------
async def test_a_worker_that_waits_is_woken_by_a_key() -> None:
    queue = queue_at(FakeTime())
    worker = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    assert not worker.done()
    queue.add(key("acme"))
    async with asyncio.timeout(5):
        assert await worker == key("acme")


async def test_a_worker_that_waits_for_room_is_woken_by_the_end_of_other_work() -> None:
    queue = queue_at(FakeTime(), lane_limit=1)
    queue.add(key("first"))
    queue.add(key("second"))
    assert await queue.get() == key("first")
    worker = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    assert not worker.done()
    queue.done(key("first"))
    async with asyncio.timeout(5):
        assert await worker == key("second")


async def test_a_key_is_not_lost_when_the_woken_worker_is_cancelled() -> None:
    queue = queue_at(FakeTime())
    first, second = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add(key("acme"))  # wakes the first, which is cancelled before it runs
    first.cancel()
    async with asyncio.timeout(5):
        assert await second == key("acme")
    assert first.cancelled()


async def test_shutting_down_ends_the_waiting_and_hands_out_nothing_more() -> None:
    time = FakeTime()
    queue = queue_at(time)
    queue.add(key("at-work"))
    assert await queue.get() == key("at-work")
    waiting = [asyncio.create_task(queue.get()) for _ in range(3)]
    await asyncio.sleep(0)
    queue.add_after(key("later"), 1)
    queue.shut_down()
    queue.add(key("too-late"))
    async with asyncio.timeout(5):
        assert await asyncio.gather(*waiting) == [None, None, None]
        assert await queue.get() is None
        await queue.closed()
    assert queue.take() is None
    assert time.alarms == 0
    queue.done(key("at-work"))


async def test_the_event_loops_own_timers_serve_by_default() -> None:
    time = FakeTime()
    queue = WorkQueue(lane_of=lambda _: "eu", clock=time, roll=lambda: 0.0)
    queue.add_after(key("soon"), 0.001)
    time.advance(1)
    async with asyncio.timeout(5):
        assert await queue.get() == key("soon")


# --- the rest ---------------------------------------------------------------------------------------------------
def test_the_wake_port_adds_keys() -> None:
    queue = queue_at(FakeTime())
    queue.wake(CLUSTERS, "", "eu")
    queue.wake_all(TENANTS, [("shop", "acme"), ("shop", "zeta"), ("shop", "acme")])
    assert take_all(queue) == ["eu", "acme", "zeta"]


def test_the_observer_is_told_how_long_keys_wait_and_are_worked_on() -> None:
    class Notes(QueueObserver):
        def __init__(self) -> None:
            self.lines: list[str] = []

        def key_added(self, key: Key) -> None:
            self.lines.append(f"added {key.name}")

        def key_taken(self, key: Key, waited: float) -> None:
            self.lines.append(f"taken {key.name} after {waited:g}")

        def key_done(self, key: Key, worked: float) -> None:
            self.lines.append(f"done {key.name} after {worked:g}")

        def key_retried(self, key: Key) -> None:
            self.lines.append(f"retried {key.name}")

    time, notes = FakeTime(), Notes()
    queue = queue_at(time, observer=notes)
    queue.add(key("acme"))
    queue.add(key("acme"))
    time.advance(2)
    queue.take()
    time.advance(3)
    assert queue.longest_run == 3
    queue.add_rate_limited(key("acme"))
    assert queue.done(key("acme")) == 3
    assert queue.longest_run == 0
    assert notes.lines == ["added acme", "taken acme after 2", "retried acme", "done acme after 3"]
