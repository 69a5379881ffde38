"""Servers that start side by side and stop side by side, also when the start is given up half way."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, Protocol

END_SECONDS: Final = 20.0
"""How long a start that was given up may take to notice; it is over as soon as its process is ended."""


class Stoppable(Protocol):
    """What a group starts and stops: control planes, PostgreSQL, the operator."""

    def start(self) -> object:
        """Start it and wait until it is ready."""

    def stop(self) -> None:
        """End it. Harmless when repeated, and while it is starting."""


class _Outcome(NamedTuple):
    name: str
    seconds: float
    error: Exception | None


class ServerGroup:
    """Some servers with names. Threads start them, so that a signal can interrupt the main thread at any time."""

    def __init__(self, servers: Mapping[str, Stoppable]) -> None:
        self._servers = dict(servers)
        self._starting: dict[str, threading.Thread] = {}

    def start(self, started: Callable[[str, float], None]) -> None:
        """Start all and wait for all. After an error `stop` is still to be called.

        Args:
            started: Told each name and the seconds it took, as they get ready.

        Raises:
            Exception: the first one that a start raised.
        """
        outcomes: queue.SimpleQueue[_Outcome] = queue.SimpleQueue()
        for name in self._servers:
            thread = threading.Thread(target=self._start, args=(name, outcomes), daemon=True, name=f"start-{name}")
            self._starting[name] = thread
            thread.start()
        for _ in self._servers:
            outcome = outcomes.get()
            if outcome.error is not None:
                raise outcome.error
            started(outcome.name, outcome.seconds)

    def stop(self) -> None:
        """End all and wait until they are gone.

        Raises:
            Exception: the first one that a stop raised, after all were tried.
        """
        errors: list[Exception] = []
        threads = [
            threading.Thread(target=self._stop, args=(name, errors), daemon=True, name=f"stop-{name}")
            for name in self._servers
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]

    def _start(self, name: str, outcomes: queue.SimpleQueue[_Outcome]) -> None:
        begun = time.monotonic()
        error: Exception | None = None
        try:
            self._servers[name].start()
        except Exception as raised:  # noqa: BLE001 - it is raised again, in the thread that waits
            error = raised
        outcomes.put(_Outcome(name, time.monotonic() - begun, error))

    def _stop(self, name: str, errors: list[Exception]) -> None:
        server, starting = self._servers[name], self._starting.get(name)
        deadline = time.monotonic() + END_SECONDS
        # A start that is under way goes on after one stop, to the next process: until it has noticed, stop again.
        while starting is not None and starting.is_alive() and time.monotonic() < deadline:
            with contextlib.suppress(Exception):
                server.stop()
            starting.join(0.1)
        try:
            server.stop()
        except Exception as error:  # noqa: BLE001 - it is raised again, when all were stopped
            errors.append(error)
