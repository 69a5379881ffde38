"""Health checks: what they are, how a round of them is told, and a check that the event loop turns."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import TypeAlias

from tenantry.ports.world import Clock

logger = logging.getLogger(__name__)

Check: TypeAlias = Callable[[], str | None]
"""None while all is well, else the reason in words that anyone may read. Looks at memory only; must not block."""


def report(endpoint: str, checks: Mapping[str, Check], *, verbose: bool) -> tuple[bool, str]:
    """Runs the checks: whether all passed, and the text as Kubernetes' own components write it.

    A check that raises has failed. Failures are listed, and logged for debugging, whether or not `verbose`:
    the kubelet's events do not show them.
    """
    lines = ["[+]ping ok"]
    healthy = True
    for name, check in checks.items():
        reason = _reason(check)
        if reason is None:
            lines.append(f"[+]{name} ok")
        else:
            healthy = False
            lines.append(f"[-]{name} failed: {reason}")
            logger.debug("%s check %s failed: %s", endpoint, name, reason)
    if healthy and not verbose:
        return True, "ok"
    return healthy, "\n".join([*lines, f"{endpoint} check {'passed' if healthy else 'failed'}", ""])


def _reason(check: Check) -> str | None:
    try:
        return check()
    except Exception as error:  # a check that breaks is a check that fails
        logger.exception("a health check raised an exception")
        return f"the check itself raised {type(error).__name__}"


class Heartbeat:
    """Beats in the event loop and says when the last beat is too long ago."""

    __slots__ = ("_clock", "_interval", "_last", "_limit")

    def __init__(self, *, clock: Clock, interval: float = 1.0, limit: float = 30.0) -> None:
        """Beats every `interval` seconds and is unwell without a beat for `limit` seconds."""
        self._clock = clock
        self._interval = interval
        self._limit = limit
        self._last = clock.monotonic()

    def beat(self) -> None:
        """The loop has come round."""
        self._last = self._clock.monotonic()

    async def run(self) -> None:
        """Beats until it is cancelled."""
        while True:
            self.beat()
            await asyncio.sleep(self._interval)

    def check(self) -> str | None:
        """A `Check`."""
        late = self._clock.monotonic() - self._last
        return None if late <= self._limit else f"the event loop has not turned for {late:.0f} s"


def no_run_over(limit: float, longest_run: Callable[[], float]) -> Check:
    """A check that no reconcile goes on beyond its deadline, that is, ignores being cancelled.

    Args:
        limit: Seconds; well above the workers' deadline.
        longest_run: Seconds that the oldest run has taken so far.
    """

    def check() -> str | None:
        seconds = longest_run()
        return None if seconds <= limit else f"a reconcile has been going on for {seconds:.0f} s"

    return check
