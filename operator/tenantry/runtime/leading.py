"""To be the leader before anything is done, and to end at once when that is over."""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NoReturn

from tenantry.adapters.kube.management import management_client
from tenantry.adapters.kube.transport import Caller
from tenantry.api.resources import LEASES, Ref
from tenantry.runtime.deadman import DeadMansSwitch
from tenantry.runtime.election import Election, LeadershipLostError
from tenantry.runtime.metrics import Metrics
from tenantry.runtime.options import Options

logger = logging.getLogger(__name__)

LOST: Final = 1
"""The exit code of a process that is not the leader any more."""


class Leadership:
    """The right of one process to work, be it by a Lease or because it was told to do without.

    Args:
        options: Say which.
        instance: What this process is called.
        metrics: Of the requests to the Lease, and of who leads.
    """

    def __init__(self, options: Options, instance: str, metrics: Metrics) -> None:
        self._options = options
        self._instance = instance
        self._metrics = metrics
        self._election: Election | None = None

    @property
    def waiting(self) -> bool:
        """Another process leads, and this one stands by."""
        return self._election is not None and self._election.waiting

    @asynccontextmanager
    async def held(self, stop: asyncio.Event) -> AsyncIterator[Caller | None]:
        """Who may send requests, as soon as it may; None if told to stop before that.

        Ends the whole process, without another word to anybody, when leadership is lost inside.

        Raises:
            ManagementConfigError, KubeError: the Lease can't be had, whoever holds it.
        """
        if not self._options.leader_elect:
            yield Caller(self._instance)
            return
        timings = self._options.leader_elect_timings
        kube = await management_client(
            self._options.kubeconfig,
            on_request=self._metrics.request_hook("management"),
            caller=Caller(self._instance),
            seconds=timings.renew / 2,
        )
        name = self._options.leader_elect_resource_name
        election = self._election = Election(
            kube,
            Ref(LEASES, self._options.namespace, name),
            self._instance,
            timings=timings,
            switch=DeadMansSwitch(),
            roll=random.random,
            on_change=lambda leading: self._metrics.set_leader(name, leading=leading),
        )
        try:
            if await _won(election, stop):
                async with _kept(election):
                    yield Caller(self._instance, election.held)
            else:
                yield None
        finally:
            await election.release()
            await kube.close()


async def _won(election: Election, stop: asyncio.Event) -> bool:
    """Whether it won before it was told to stop."""
    tasks = winning, _ = asyncio.create_task(election.win()), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if winning.done():
            winning.result()
        return not stop.is_set()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def _kept(election: Election) -> AsyncIterator[None]:
    keeping = asyncio.create_task(_keep(election), name="election")
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


async def _keep(election: Election) -> None:
    try:
        await election.keep()
    except LeadershipLostError as lost:
        _end(str(lost))
    except Exception:  # whatever it is, the Lease is not renewed any more
        logger.exception("the election failed")
        _end("the Lease is not renewed any more")


def _end(why: str) -> NoReturn:
    """Not by an exception, which tasks would see and clean up after: each of their writes could be one too many."""
    logger.critical("%s: this process ends at once, in the middle of whatever it does", why)
    logging.shutdown()
    os._exit(LOST)
