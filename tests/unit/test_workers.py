"""The workers: what a run's end leads to, how a run is cut short, how they stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from tests.unit.fake_time import FakeTime

from tenantry.api.resources import TENANTS
from tenantry.decide.backoff import Backoff
from tenantry.reconcile.result import Result
from tenantry.runtime.logs import JsonFormatter
from tenantry.runtime.queue import Key, WorkQueue
from tenantry.runtime.workers import Outcome, RunObserver, run_workers

ACME = Key(TENANTS, "shop", "acme")


class Runs(RunObserver):
    """Notes outcomes, and lets a test wait for them."""

    def __init__(self) -> None:
        self.active = 0
        self.outcomes: list[Outcome] = []
        self._changed = asyncio.Event()

    def run_started(self, key: Key) -> None:  # noqa: ARG002 - how many is enough here
        self.active += 1

    def run_ended(self, key: Key, outcome: Outcome, seconds: float) -> None:  # noqa: ARG002 - how many is enough here
        self.active -= 1
        self.outcomes.append(outcome)
        self._changed.set()

    async def number(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.outcomes) < count:
                self._changed.clear()
                await self._changed.wait()


class Bench:
    """A queue on fake time with workers on it."""

    def __init__(self) -> None:
        self.time = FakeTime()
        self.runs = Runs()
        self.queue = WorkQueue(
            lane_of=lambda key: key.namespace,
            clock=self.time,
            roll=lambda: 1.0,
            backoff=Backoff(base=0.25),
            call_later=self.time.call_later,
        )

    @asynccontextmanager
    async def working(
        self, reconcile: Callable[[Key], Awaitable[Result]], *, deadline: float = 60, grace: float = 60
    ) -> AsyncIterator[None]:
        async with asyncio.timeout(10):
            workers = asyncio.create_task(
                run_workers(self.queue, reconcile, concurrency=4, deadline=deadline, grace=grace, observer=self.runs)
            )
            try:
                yield
            finally:
                self.queue.shut_down()
                await workers


async def test_a_run_that_ends_well_is_not_repeated() -> None:
    async def reconcile(key: Key) -> Result:
        return Result()

    bench = Bench()
    async with bench.working(reconcile):
        bench.queue.add(ACME)
        await bench.runs.number(1)
        bench.time.advance(3600)
        assert len(bench.queue) == 0
    assert bench.runs.outcomes == [Outcome.SUCCESS]


async def test_a_run_that_asks_for_a_time_is_repeated_then() -> None:
    async def reconcile(key: Key) -> Result:
        return Result(requeue_after=600)

    bench = Bench()
    async with bench.working(reconcile):
        bench.queue.add(ACME)
        await bench.runs.number(1)
        bench.time.advance(599)
        assert len(bench.queue) == 0
        bench.time.advance(1)
        await bench.runs.number(2)
    assert bench.runs.outcomes == [Outcome.REQUEUE_AFTER] * 2


async def test_a_run_that_asks_for_a_retry_waits_longer_each_time_until_one_ends_well() -> None:
    results = iter([Result(retry=True), Result(retry=True), Result(), Result(retry=True), Result()])

    async def reconcile(key: Key) -> Result:
        return next(results)

    bench = Bench()
    async with bench.working(reconcile):
        bench.queue.add(ACME)
        await bench.runs.number(1)
        bench.time.advance(0.25)
        await bench.runs.number(2)
        bench.time.advance(0.375)
        assert len(bench.queue) == 0
        bench.time.advance(0.125)
        await bench.runs.number(3)
        bench.queue.add(ACME)
        await bench.runs.number(4)
        bench.time.advance(0.25)
        assert len(bench.queue) == 1
    assert bench.runs.outcomes[:4] == [Outcome.REQUEUE, Outcome.REQUEUE, Outcome.SUCCESS, Outcome.REQUEUE]


async def test_an_exception_is_logged_with_its_traceback_and_the_key_and_retried(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lines: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(JsonFormatter().format(record))

    async def reconcile(key: Key) -> Result:
        if not lines:
            raise RuntimeError("the quota is upside down")
        return Result()

    logger = logging.getLogger("tenantry.runtime.workers")
    handler = Lines()
    logger.addHandler(handler)
    bench = Bench()
    try:
        async with bench.working(reconcile):
            bench.queue.add(ACME)
            await bench.runs.number(1)
            bench.time.advance(0.25)
            await bench.runs.number(2)
    finally:
        logger.removeHandler(handler)
    assert bench.runs.outcomes == [Outcome.ERROR, Outcome.SUCCESS]
    for part in (
        '"msg":"reconcile failed"', '"controller":"tenant"', '"namespace":"shop"', '"name":"acme"', '"reconcileID":"',
        '"error":"RuntimeError: the quota is upside down"', "Traceback",
    ):  # fmt: skip
        assert part in lines[0]


async def test_a_run_beyond_its_deadline_is_cancelled_and_retried(caplog: pytest.LogCaptureFixture) -> None:
    cancelled = False

    async def reconcile(key: Key) -> Result:
        nonlocal cancelled
        if cancelled:
            return Result()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled = True
            raise
        return Result()

    bench = Bench()
    async with bench.working(reconcile, deadline=0.01):
        bench.queue.add(ACME)
        await bench.runs.number(1)
        bench.time.advance(0.25)
        await bench.runs.number(2)
    assert bench.runs.outcomes == [Outcome.ERROR, Outcome.SUCCESS]
    assert "reconcile was cancelled: it took over 0.01 s" in caplog.text


async def test_keys_are_worked_on_side_by_side() -> None:
    barrier = asyncio.Barrier(4)

    async def reconcile(key: Key) -> Result:
        await barrier.wait()
        return Result()

    bench = Bench()
    async with bench.working(reconcile):
        for name in "abcd":
            bench.queue.add(Key(TENANTS, "shop", name))
        await bench.runs.number(4)
    assert bench.runs.outcomes == [Outcome.SUCCESS] * 4


async def test_a_stop_lets_the_work_in_hand_end_and_begins_nothing_new() -> None:
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def reconcile(key: Key) -> Result:
        begun.set()
        await may_end.wait()
        return Result(requeue_after=1)

    bench = Bench()
    async with bench.working(reconcile):
        bench.queue.add(ACME)
        await begun.wait()
        bench.queue.shut_down()
        bench.queue.add(Key(TENANTS, "shop", "zeta"))
        may_end.set()
        await bench.runs.number(1)
    assert bench.runs.outcomes == [Outcome.REQUEUE_AFTER]


async def test_what_does_not_end_within_the_grace_is_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    begun = asyncio.Event()

    async def reconcile(key: Key) -> Result:
        begun.set()
        await asyncio.Event().wait()
        return Result()

    bench = Bench()
    async with bench.working(reconcile, grace=0.01):
        bench.queue.add(ACME)
        await begun.wait()
    assert (bench.runs.outcomes, bench.runs.active) == ([Outcome.ERROR], 0)
    assert "1 reconciles did not end within 0.01 s of the stop and were cancelled" in caplog.text


@pytest.mark.parametrize(
    ("requeue_after", "retry", "message"),
    [(5.0, True, "a retry or for a time, not for both"), (-1.0, False, "can't be in the past")],
)
def test_a_result_that_makes_no_sense_is_refused(requeue_after: float, retry: bool, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Result(requeue_after=requeue_after, retry=retry)
