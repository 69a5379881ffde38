"""The workers: take keys from the queue, reconcile each under a deadline, and put back what has to run again."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import TypeAlias

from tenantry.reconcile.result import Result
from tenantry.runtime.logs import log_context
from tenantry.runtime.queue import Key, WorkQueue

logger = logging.getLogger(__name__)

Reconcile: TypeAlias = Callable[[Key], Awaitable[Result]]


class Outcome(StrEnum):
    """How a run ended, in controller-runtime's words."""

    SUCCESS = "success"
    ERROR = "error"
    REQUEUE = "requeue"
    REQUEUE_AFTER = "requeue_after"


class RunObserver:
    """Who counts the runs; this one ignores them. Must be quick and must not raise."""

    def run_started(self, key: Key) -> None:
        """A worker has begun."""

    def run_ended(self, key: Key, outcome: Outcome, seconds: float) -> None:
        """The worker has ended, after so many seconds."""


async def run_workers(
    queue: WorkQueue,
    reconcile: Reconcile,
    *,
    concurrency: int,
    deadline: float = 120.0,
    grace: float = 20.0,
    observer: RunObserver | None = None,
) -> None:
    """Work until the queue is shut down and the work in hand is done.

    An exception ends one run, never a worker: it is logged with its traceback and the key is put back with backoff.
    Being cancelled is not the graceful way: it cancels the runs at once.

    Args:
        queue: Its own limits hold too; `concurrency` beyond them only makes workers that wait.
        reconcile: Safe to be cancelled at any await, as every step is safe to lose.
        concurrency: How many workers.
        deadline: Seconds after which a run is cancelled and counts as failed.
        grace: Seconds that the runs in hand get to end after `queue.shut_down`; then they are cancelled.
        observer: Who counts.
    """
    counter = observer or RunObserver()
    async with asyncio.TaskGroup() as group:
        workers = [
            group.create_task(_work(queue, reconcile, deadline, counter), name=f"worker-{number}")
            for number in range(concurrency)
        ]
        group.create_task(_end_after_grace(queue, workers, grace), name="workers-grace")


async def _end_after_grace(queue: WorkQueue, workers: list[asyncio.Task[None]], grace: float) -> None:
    await queue.closed()
    _, late = await asyncio.wait(workers, timeout=grace)
    for worker in late:
        worker.cancel()
    if late:
        logger.warning("%d reconciles did not end within %g s of the stop and were cancelled", len(late), grace)


async def _work(queue: WorkQueue, reconcile: Reconcile, deadline: float, observer: RunObserver) -> None:
    while (key := await queue.get()) is not None:
        outcome = Outcome.ERROR  # what a cancelled run counts as
        observer.run_started(key)
        try:
            with log_context(
                controller=key.resource.kind.lower(),
                namespace=key.namespace,
                name=key.name,
                reconcileID=str(uuid.uuid4()),
            ):
                outcome = await _run(queue, reconcile, key, deadline)
        finally:
            observer.run_ended(key, outcome, queue.done(key))


async def _run(queue: WorkQueue, reconcile: Reconcile, key: Key, deadline: float) -> Outcome:
    scope = asyncio.timeout(deadline)
    try:
        async with scope:
            result = await reconcile(key)
    except (Exception, asyncio.CancelledError) as error:
        if isinstance(error, asyncio.CancelledError) and _is_cancelled():
            raise
        if scope.expired():
            logger.exception("reconcile was cancelled: it took over %g s", deadline)
        else:
            logger.exception("reconcile failed")
        queue.add_rate_limited(key)
        return Outcome.ERROR
    if result.retry:
        queue.add_rate_limited(key)
        return Outcome.REQUEUE
    queue.forget(key)
    if result.requeue_after is None:
        return Outcome.SUCCESS
    queue.add_after(key, result.requeue_after)
    return Outcome.REQUEUE_AFTER


def _is_cancelled() -> bool:
    """Whether somebody cancelled this very task; else what looks like it leaked out of something that was closed."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
