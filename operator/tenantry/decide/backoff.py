"""How long to wait before what failed is tried again: exponential, capped, with full jitter."""

from __future__ import annotations

from dataclasses import dataclass

_MAX_DOUBLINGS = 64  # far beyond every cap, and `2.0**n` of it still fits a float


@dataclass(frozen=True, slots=True)
class Backoff:
    """A policy. Full jitter spreads those that failed together, so that they don't return together.

    Attributes:
        base: Seconds: the longest wait after the first failure.
        cap: Seconds: the longest wait of all.
    """

    base: float = 0.2
    cap: float = 300.0

    def ceiling(self, failures: int) -> float:
        """The longest wait in seconds after this many failures in a row; 0 after none. Never falls as failures rise."""
        if failures <= 0:
            return 0.0
        return min(self.cap, self.base * 2.0 ** min(failures - 1, _MAX_DOUBLINGS))

    def delay(self, failures: int, roll: float) -> float:
        """The wait in seconds, for a random `roll` of at least 0 and less than 1."""
        return self.ceiling(failures) * roll
