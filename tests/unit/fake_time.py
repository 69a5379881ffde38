"""Time that only a test moves: a clock and the timers that go by it."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta


class FakeAlarm:
    """A timer of `FakeTime`."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class FakeTime:
    """Implements the `Clock` port and `call_later`; time stands still but for `advance`."""

    def __init__(self) -> None:
        self._elapsed = 0.0
        self._alarms: list[tuple[float, int, FakeAlarm]] = []
        self._numbers = itertools.count()

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        return self._elapsed

    def call_later(self, delay: float, callback: Callable[[], None]) -> FakeAlarm:
        alarm = FakeAlarm(callback)
        heapq.heappush(self._alarms, (self._elapsed + delay, next(self._numbers), alarm))
        return alarm

    def advance(self, seconds: float) -> None:
        """Moves on, ringing each alarm at its time."""
        end = self._elapsed + seconds
        while self._alarms and self._alarms[0][0] <= end:
            due, _, alarm = heapq.heappop(self._alarms)
            self._elapsed = max(self._elapsed, due)
            if alarm.callback is not None:
                alarm.callback()
        self._elapsed = end

    @property
    def alarms(self) -> int:
        """How many timers are set."""
        return sum(alarm.callback is not None for _, _, alarm in self._alarms)
