"""Ctrl-C and SIGTERM as one exception that is raised once: what is cleaned up after it is not interrupted again."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any, Final, Self

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """Somebody asked for the end. No Exception, as KeyboardInterrupt is none: nothing may take it for a failure.

    Attributes:
        number: Of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Interruptions:
    """While it is entered, the first signal raises `Interrupted` in the main thread; all later ones do nothing."""

    def __init__(self) -> None:
        self._shielded = False
        self._former: dict[int, Any] = {}

    def shield(self) -> None:
        """From now on signals do nothing: cleaning up has begun, and it is short."""
        self._shielded = True

    def _take(self, number: int, _frame: FrameType | None) -> None:
        if not self._shielded:
            self._shielded = True
            raise Interrupted(number)

    def __enter__(self) -> Self:
        self._former = {number: signal.signal(number, self._take) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
