"""A circuit breaker: after some failures in a row a target is left alone, and asked again by one call at a time."""

from __future__ import annotations

from enum import StrEnum

from tenantry.ports.world import Clock


class BreakerState(StrEnum):
    """Where a breaker stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Breaker:
    """Guards one target. Closed lets all calls through, open none, half-open a single trial.

    A trial whose caller dies without a word does not lock the breaker: after another `retry_after` the next one is let
    through. A success counts in every state, since a probe that does not ask first may be what finds the target well.
    """

    __slots__ = ("_clock", "_failures", "_retry_after", "_row", "_since", "_state")

    def __init__(self, *, clock: Clock, failures: int = 5, retry_after: float = 30.0) -> None:
        """`failures` in a row open it; `retry_after` is in seconds.

        Raises:
            ValueError: if one of the two is not positive.
        """
        if failures < 1 or retry_after <= 0:
            raise ValueError("a breaker needs at least one failure to open and some time to wait")
        self._clock = clock
        self._failures = failures
        self._retry_after = retry_after
        self._state = BreakerState.CLOSED
        self._row = 0
        self._since = 0.0  # when it opened, or when the last trial was let through

    @property
    def state(self) -> BreakerState:
        """The state as of the last call; an open breaker turns half-open when `allow` lets a trial through."""
        return self._state

    @property
    def retry_in(self) -> float:
        """Seconds until `allow` may say yes: what to requeue after. 0 while closed."""
        if self._state is BreakerState.CLOSED:
            return 0.0
        return max(0.0, self._since + self._retry_after - self._clock.monotonic())

    def allow(self) -> bool:
        """Whether a call may be made now. Who gets a yes tells how it went by one of the two `record_` methods."""
        if self._state is BreakerState.CLOSED:
            return True
        if self.retry_in > 0:
            return False
        self._state = BreakerState.HALF_OPEN
        self._since = self._clock.monotonic()
        return True

    def record_success(self) -> None:
        """The target answered."""
        self._state = BreakerState.CLOSED
        self._row = 0

    def record_failure(self) -> None:
        """The target did not answer. Late news of calls made before it opened does not lengthen the wait."""
        match self._state:
            case BreakerState.CLOSED:
                self._row += 1
                if self._row >= self._failures:
                    self._open()
            case BreakerState.HALF_OPEN:
                self._open()
            case BreakerState.OPEN:
                pass

    def _open(self) -> None:
        self._state = BreakerState.OPEN
        self._since = self._clock.monotonic()
