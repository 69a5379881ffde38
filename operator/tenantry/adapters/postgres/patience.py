"""Patience with servers of tenants' own: how many are opened at once, and when one that was slow is asked again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from tenantry.ports.postgres import DatabaseUnreachableError
from tenantry.ports.world import Clock

MOST: Final = 3
"""Servers that are opened at once, of those that were not slow before."""
MOST_SLOW: Final = 1
"""Of those that were."""
SECONDS: Final = 5.0
"""What takes longer is slow."""
STANDS_STILL: Final = 1.0
"""Seconds after which nobody waits any more for those that are being opened: healthy ones take a tenth of that."""
BUSY_RETRY: Final = 5.0
FIRST_PAUSE: Final = 10.0
LONGEST_PAUSE: Final = 300.0
FORGOTTEN: Final = 3600.0

BUSY: Final = "it has to wait for servers of other tenants' own that don't answer"
SLOW: Final = "it did not answer in time when it was asked last; it is asked again, less and less often"


@dataclass(frozen=True, slots=True)
class _Lapse:
    """A server was slow: how often in a row it failed that way, and until when it is not asked (monotonic seconds)."""

    failures: int
    until: float


class Patience:
    """Such a server is as slow as its tenant makes it, and who waits for it holds a worker that others could have.

    What was slow once has a room of its own, so that it takes the time of its like; and in memory only: after a restart
    each has its chance. Bound to the event loop of its first use.
    """

    def __init__(self, clock: Clock) -> None:
        """Only the clock's monotonic side is read."""
        self._clock = clock
        self._lapses: dict[str, _Lapse] = {}
        self._opening: dict[object, float] = {}
        self._slow = 0
        self._freed = asyncio.Event()

    @asynccontextmanager
    async def opening(self, server: str) -> AsyncIterator[None]:
        """While a server is being opened; how long that took and how it ended is remembered.

        Raises:
            DatabaseUnreachableError: not now, with when; or it took too long.
        """
        lapse = self._lapses.get(server)
        if lapse is not None and (left := lapse.until - self._clock.monotonic()) > 0:
            raise DatabaseUnreachableError(SLOW, retry_after=left)
        async with self._among_many() if lapse is None else self._among_slow():
            began, good = self._clock.monotonic(), False
            try:
                async with asyncio.timeout(SECONDS if lapse is None else None):
                    yield
                good = True
            except TimeoutError:
                raise DatabaseUnreachableError(SLOW, retry_after=FIRST_PAUSE) from None
            finally:
                self.note(server, self._clock.monotonic() - began, good=good)

    def note(self, server: str, seconds: float, *, good: bool) -> None:
        """A server was waited for that long."""
        now, former = self._clock.monotonic(), self._lapses.pop(server, None)
        if seconds < SECONDS:
            return
        failures = 0 if good else 1 + (former.failures if former is not None else 0)
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (min(failures, 64) - 1)) if failures else 0.0
        self._lapses = {name: each for name, each in self._lapses.items() if now - each.until < FORGOTTEN}
        self._lapses[server] = _Lapse(failures, now + pause)

    @asynccontextmanager
    async def _among_many(self) -> AsyncIterator[None]:
        while len(self._opening) >= MOST:
            left = max(self._opening.values()) + STANDS_STILL - self._clock.monotonic()
            if left <= 0:
                raise DatabaseUnreachableError(BUSY, retry_after=BUSY_RETRY)
            try:
                async with asyncio.timeout(left):
                    await self._freed.wait()
            except TimeoutError:
                continue
        mine = object()
        self._opening[mine] = self._clock.monotonic()
        try:
            yield
        finally:
            del self._opening[mine]
            self._freed.set()
            self._freed = asyncio.Event()

    @asynccontextmanager
    async def _among_slow(self) -> AsyncIterator[None]:
        if self._slow >= MOST_SLOW:
            raise DatabaseUnreachableError(BUSY, retry_after=BUSY_RETRY)
        self._slow += 1
        try:
            yield
        finally:
            self._slow -= 1
