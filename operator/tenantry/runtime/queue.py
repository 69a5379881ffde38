"""The work queue: which key is reconciled next, never twice at a time, fairly between targets, later where asked."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

from tenantry.api.resources import BACKUP_STORES, CLUSTERS, DATABASE_SERVERS, TENANT_PLANS, Ref, Resource
from tenantry.decide.backoff import Backoff
from tenantry.ports.world import Clock

Key: TypeAlias = Ref
"""What is reconciled: a name, nothing more. A `Ref`, so that reconcilers need nothing from this room."""

PLATFORM_LANE: Final = ""
"""The lane of the kinds that tenants stand on; the last free slot is kept for it."""
UNPLACED_LANE: Final = "-"
"""The lane of keys without a target yet. No object can be called that."""

_PLATFORM_KINDS: Final = frozenset({CLUSTERS, DATABASE_SERVERS, TENANT_PLANS, BACKUP_STORES})
_STALE_TIMERS: Final = 64


class QueueObserver:
    """Who counts what the queue does; this one ignores it. Called on the hot path: must be quick and must not raise."""

    def key_added(self, key: Key) -> None:
        """The key has begun to wait (also where it waits for its own run to end)."""

    def key_taken(self, key: Key, waited: float) -> None:
        """The key is handed out, after so many seconds of waiting."""

    def key_done(self, key: Key, worked: float) -> None:
        """The work on the key has ended, after so many seconds."""

    def key_retried(self, key: Key) -> None:
        """The key was put back with backoff."""


class Alarm(Protocol):
    """A timer that was set; `asyncio.TimerHandle` is one."""

    def cancel(self) -> None:
        """Don't ring."""


CallLater: TypeAlias = Callable[[float, Callable[[], None]], Alarm]


def _loop_call_later(delay: float, callback: Callable[[], None]) -> Alarm:
    return asyncio.get_running_loop().call_later(delay, callback)


@dataclass(slots=True)
class _Lane:
    ready: deque[Key] = field(default_factory=deque)
    running: int = 0


@dataclass(frozen=True, slots=True)
class _Run:
    lane: str
    started: float


class WorkQueue:
    """Keys that wait, keys that are due later, and keys that are being worked on.

    A key waits at most once. A key that is added while it is being worked on is run once more afterwards. Lanes (one a
    target cluster) take turns, each with at most `lane_limit` keys at work, so a target that hangs holds up its own
    tenants only; all lanes together have at most `limit`. Belongs to one event loop; not safe to call from threads.
    """

    def __init__(
        self,
        *,
        lane_of: Callable[[Key], str],
        clock: Clock,
        roll: Callable[[], float],
        limit: int = 16,
        lane_limit: int = 8,
        observer: QueueObserver | None = None,
        backoff: Backoff | None = None,
        call_later: CallLater = _loop_call_later,
    ) -> None:
        """An empty queue.

        Args:
            lane_of: The target cluster of a key, asked when it gets in line; empty where there is none. Never raises.
            clock: Only its monotonic side is read.
            roll: Random numbers from 0 to less than 1 (`random.random`).
            limit: Most keys at work; one of these slots is for the platform's kinds only, unless it is the only one.
            lane_limit: Most keys at work of one lane.
            observer: Who counts.
            backoff: The waits of `add_rate_limited`.
            call_later: Calls back after seconds; by default the running event loop's.

        Raises:
            ValueError: if a limit is less than 1.
        """
        if limit < 1 or lane_limit < 1:
            raise ValueError("a queue with no room for a single key at work would stand still")
        self._lane_of = lane_of
        self._clock = clock
        self._roll = roll
        self._limit = limit
        self._tenant_limit = max(1, limit - 1)
        self._lane_limit = lane_limit
        self._observer = observer or QueueObserver()
        self._backoff = backoff or Backoff()
        self._call_later = call_later

        self._waiting: dict[Key, float] = {}  # since when
        self._running: dict[Key, _Run] = {}
        self._lanes: dict[str, _Lane] = {}
        self._turns: OrderedDict[str, _Lane] = OrderedDict()  # lanes that may be served, the next one first
        self._platform_running = 0
        self._failures: dict[Key, int] = {}

        self._later: dict[Key, tuple[float, int]] = {}
        self._timers: list[tuple[float, int, Key]] = []  # a heap; an entry that is not in `_later` is stale
        self._numbers = itertools.count()
        self._alarm: tuple[float, Alarm] | None = None

        self._waiters: deque[asyncio.Future[None]] = deque()
        self._closed = asyncio.Event()

    def __len__(self) -> int:
        """How many keys wait now; those due later are not among them."""
        return len(self._waiting)

    @property
    def longest_run(self) -> float:
        """For how many seconds the oldest work has been going on; 0 if there is none."""
        if not self._running:
            return 0.0
        return self._clock.monotonic() - min(run.started for run in self._running.values())

    # --- putting in ---------------------------------------------------------------------------------------------
    def add(self, key: Key) -> None:
        """Have the key run as soon as it is its turn. Overtakes a later time that was asked for."""
        self._later.pop(key, None)
        if key in self._waiting or self._closed.is_set():
            return
        self._waiting[key] = self._clock.monotonic()
        self._observer.key_added(key)
        if key not in self._running:
            self._line_up(key)

    def add_after(self, key: Key, seconds: float) -> None:
        """Have the key run in so many seconds. Of several times the earliest holds; a waiting key is earlier still."""
        if seconds <= 0:
            self.add(key)
            return
        due = self._clock.monotonic() + seconds
        known = self._later.get(key)
        if key in self._waiting or self._closed.is_set() or (known is not None and known[0] <= due):
            return
        number = next(self._numbers)
        self._later[key] = (due, number)
        heapq.heappush(self._timers, (due, number, key))
        if len(self._timers) > 2 * len(self._later) + _STALE_TIMERS:
            self._timers = [(due, number, key) for key, (due, number) in self._later.items()]
            heapq.heapify(self._timers)
        self._set_alarm()

    def add_rate_limited(self, key: Key) -> None:
        """Have the key run after a wait that grows with each call until `forget`."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        self._observer.key_retried(key)
        self.add_after(key, self._backoff.delay(failures, self._roll()))

    def forget(self, key: Key) -> None:
        """The key went well: its next backoff starts small again."""
        self._failures.pop(key, None)

    def wake(self, resource: Resource, namespace: str, name: str) -> None:
        """`add`, as the `Wake` port has it."""
        self.add(Key(resource, namespace, name))

    def wake_all(self, resource: Resource, names: Iterable[tuple[str, str]]) -> None:
        """`add` of many keys, given as (namespace, name)."""
        for namespace, name in names:
            self.add(Key(resource, namespace, name))

    # --- taking out ---------------------------------------------------------------------------------------------
    async def get(self) -> Key | None:
        """The next key, as soon as one may run; None once the queue is shut down. Each key needs its `done`."""
        while not self._closed.is_set():
            key = self.take()
            if key is not None:
                return key
            await self._wait()
        return None

    def take(self) -> Key | None:
        """The next key if one may run right now, else None. The key needs its `done`."""
        name = self._next_lane()
        if name is None or self._closed.is_set():
            return None
        lane = self._turns.pop(name)
        key = lane.ready.popleft()
        lane.running += 1
        self._platform_running += name == PLATFORM_LANE
        self._offer(name, lane)
        now = self._clock.monotonic()
        self._running[key] = _Run(name, now)
        self._observer.key_taken(key, now - self._waiting.pop(key))
        return key

    def done(self, key: Key) -> float:
        """The work on a key has ended, well or not; the seconds that it took.

        Raises:
            ValueError: if the key is not being worked on.
        """
        run = self._running.pop(key, None)
        if run is None:
            raise ValueError(f"{key} is not being worked on")
        lane = self._lanes[run.lane]
        lane.running -= 1
        self._platform_running -= run.lane == PLATFORM_LANE
        worked = self._clock.monotonic() - run.started
        self._observer.key_done(key, worked)
        self._offer(run.lane, lane)
        if key in self._waiting:
            self._line_up(key)
        self._wake_one()
        return worked

    def shut_down(self) -> None:
        """Hand out nothing more. What is being worked on goes on; what waits is found again at the next start."""
        self._closed.set()
        if self._alarm is not None:
            self._alarm[1].cancel()
            self._alarm = None
        while self._waiters:
            self._release(self._waiters.popleft())

    async def closed(self) -> None:
        """Returns when the queue is shut down."""
        await self._closed.wait()

    # --- lanes --------------------------------------------------------------------------------------------------
    def _line_up(self, key: Key) -> None:
        name = PLATFORM_LANE if key.resource in _PLATFORM_KINDS else self._lane_of(key) or UNPLACED_LANE
        lane = self._lanes.setdefault(name, _Lane())
        lane.ready.append(key)
        self._offer(name, lane)
        self._wake_one()

    def _offer(self, name: str, lane: _Lane) -> None:
        """Give a lane a turn, behind those that have one, if it has something to run and room for it."""
        if not lane.ready and not lane.running:
            del self._lanes[name]
        elif lane.ready and lane.running < self._lane_limit and name not in self._turns:
            self._turns[name] = lane

    def _next_lane(self) -> str | None:
        if len(self._running) >= self._limit:
            return None
        if len(self._running) - self._platform_running < self._tenant_limit:
            return next(iter(self._turns), None)
        return PLATFORM_LANE if PLATFORM_LANE in self._turns else None

    # --- times --------------------------------------------------------------------------------------------------
    def _set_alarm(self) -> None:
        """One alarm, for the earliest time. One that rings too early because its key was overtaken does no harm."""
        while self._timers and self._later.get(self._timers[0][2]) != self._timers[0][:2]:
            heapq.heappop(self._timers)
        if not self._timers:
            return
        due = self._timers[0][0]
        if self._alarm is not None:
            if self._alarm[0] <= due:
                return
            self._alarm[1].cancel()
        self._alarm = (due, self._call_later(max(0.0, due - self._clock.monotonic()), self._ring))

    def _ring(self) -> None:
        self._alarm = None
        now = self._clock.monotonic()
        while self._timers and self._timers[0][0] <= now:
            due, number, key = heapq.heappop(self._timers)
            if self._later.get(key) == (due, number):
                self.add(key)
        self._set_alarm()

    # --- waiting for work ---------------------------------------------------------------------------------------
    async def _wait(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            with contextlib.suppress(ValueError):
                self._waiters.remove(waiter)
            self._wake_one()  # this one may have been woken for a key that it now leaves to another
            raise

    def _wake_one(self) -> None:
        """One key more may run at most, after any one change: so one is woken."""
        if self._next_lane() is None:
            return
        while self._waiters:
            if self._release(self._waiters.popleft()):
                return

    @staticmethod
    def _release(waiter: asyncio.Future[None]) -> bool:
        if waiter.done():
            return False
        waiter.set_result(None)
        return True
