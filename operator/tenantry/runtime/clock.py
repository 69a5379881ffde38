"""The clock of the machine, behind the `Clock` port."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class SystemClock:
    """Implements `tenantry.ports.world.Clock`."""

    __slots__ = ()

    def now(self) -> datetime:
        """The time in UTC, with its zone."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that never go back; the same scale as the event loop's `time()`."""
        return time.monotonic()
