"""A list and watch without end: keeps the cache of one kind true through all faults of the server and the network."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from tenantry.adapters.kube.live import LiveCache
from tenantry.api.resources import Resource
from tenantry.ports.kube import ExpiredError, Kube, KubeError, UnreachableError

FIRST_DELAY: Final = 0.5
MAX_DELAY: Final = 30.0
RELIST_SECONDS: Final = 1800.0
SHORTEST_WATCH: Final = 1.0
"""Seconds; a watch that says nothing and ends sooner is a fault of the server, not the end of its time."""
RESUMES: Final = 3
"""Failed watches in a row that are taken up where they broke off, before everything is listed anew."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How a Watcher spends time; tests move it by hand.

    Attributes:
        relist_seconds: Between lists while all is well; up to a tenth more, so that watchers spread out.
        sleep: Waits for seconds.
        monotonic: Seconds that never go back.
        jitter: A number from 0 to 1.
    """

    relist_seconds: float = RELIST_SECONDS
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    monotonic: Callable[[], float] = time.monotonic
    jitter: Callable[[], float] = random.random


class Watcher:
    """Keeps a LiveCache true for one kind on one API server.

    A watch that breaks off is resumed from the last version seen; after 410, and after a few failures, all is listed
    anew. It also is listed anew every half hour, because a watch can lose a deletion without anyone noticing.

    Args:
        kube: The API server.
        cache: Filled from here.
        resource: The kind.
        labels: Label selector, as kubectl takes it.
        namespace: Empty for all.
        pace: Time.
        on_fault: Told of each failure: for logs and metrics.
        before_relist: Awaited before all is listed anew, and raises a KubeError if that must not be believed.
    """

    def __init__(
        self,
        kube: Kube,
        cache: LiveCache,
        resource: Resource,
        *,
        labels: str = "",
        namespace: str = "",
        pace: Pace | None = None,
        on_fault: Callable[[Resource, KubeError], None] | None = None,
        before_relist: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._kube = kube
        self._cache = cache
        self._resource = resource
        self._labels = labels
        self._namespace = namespace
        self._pace = pace or Pace()
        self._on_fault = on_fault or (lambda _resource, _fault: None)
        self._before_relist = before_relist
        self._synced = asyncio.Event()
        self._version = ""
        self._relist_at = 0.0
        self._failures = 0
        self.last_fault: KubeError | None = None
        """Why the cache is not kept true at the moment; None if it is."""
        self.failing_since: float | None = None
        """Since when, by the monotonic clock."""

    @property
    def synced(self) -> bool:
        """Whether everything was listed once. Stays true: what the cache then lacks, it lacks for a time only."""
        return self._synced.is_set()

    async def wait_synced(self, timeout: float) -> None:  # noqa: ASYNC109 - callers wait for several watchers in a row
        """Wait until everything was listed once.

        Raises:
            UnreachableError: if that takes more than `timeout` seconds; says why.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._synced.wait()
        except TimeoutError:
            why = self.last_fault.message if self.last_fault else f"no list of {self._resource.plural} in {timeout:g} s"
            raise UnreachableError(why) from None

    async def run(self) -> None:
        """List and watch until cancelled. Ends by nothing else but an error of `on_change`."""
        while True:
            try:
                if not self._version or self._pace.monotonic() >= self._relist_at:
                    await self._list()
                await self._follow()
            except KubeError as fault:
                await self._recover(fault)

    async def _list(self) -> None:
        self._version = ""  # should this fail, the next round lists again
        if self._before_relist is not None and self.synced:
            await self._before_relist()
        since = self._cache.mark()
        listing = await self._kube.list(self._resource, namespace=self._namespace, labels=self._labels)
        self._cache.replace_all(
            self._resource, listing.items, listing.resource_version, namespace=self._namespace, since=since
        )
        self._version = listing.resource_version
        self._relist_at = self._pace.monotonic() + self._pace.relist_seconds * (1 + self._pace.jitter() / 10)
        self._synced.set()
        self._sound()

    async def _follow(self) -> None:
        """One watch, until the server ends it or the next list is due."""
        started = self._pace.monotonic()
        events = 0
        stream = self._kube.watch(
            self._resource, resource_version=self._version, namespace=self._namespace, labels=self._labels
        )
        try:
            async for event in stream:
                self._cache.take_event(self._resource, event)
                self._version = event.object["metadata"]["resourceVersion"]
                events += 1
                self._well()
                if self._pace.monotonic() >= self._relist_at:
                    return
        finally:
            if isinstance(stream, AsyncGenerator):
                await stream.aclose()  # now, not when the garbage collector comes by: it holds a connection
        if not events and self._pace.monotonic() - started < SHORTEST_WATCH:
            raise UnreachableError("the server ends watches at once")
        self._well()

    def _well(self) -> None:
        self._failures = 0
        self._sound()

    def _sound(self) -> None:
        self.last_fault = None
        self.failing_since = None

    async def _recover(self, fault: KubeError) -> None:
        """Remember the fault, decide whether to list anew, and wait: longer from failure to failure, never too long."""
        first_expiry = isinstance(fault, ExpiredError) and not self._failures
        self._failures += 1
        self.last_fault = fault
        if self.failing_since is None:
            self.failing_since = self._pace.monotonic()
        self._on_fault(self._resource, fault)
        if isinstance(fault, ExpiredError) or self._failures > RESUMES:
            self._version = ""
        if first_expiry:
            return  # the normal end of a version; nothing is wrong with the server
        delay = min(MAX_DELAY, FIRST_DELAY * 2 ** min(self._failures - 1, 16))
        asked = min(getattr(fault, "retry_after", None) or 0.0, MAX_DELAY)
        await self._pace.sleep(max(delay, asked) * (0.5 + self._pace.jitter() / 2))
