"""The servers that one test session shares: started on first use, owned by one process, lent to all others by a socket.

Under xdist the controller owns them, so that there is one pair of control planes a session and not one a worker, and
none at all where no test asks. Workers get the socket's address and key with their input, and ask by name.
"""

from __future__ import annotations

import contextlib
import secrets
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any, Final, Protocol, Self

from tests.controlplane.processes import ServerError

SOCKET: Final = "servers"
ANSWER_SECONDS: Final = 150.0
"""Longer than any start; shorter than a test's time-out, so that the reason is what is seen."""


class Lendable(Protocol):
    """What users of a server hold: a value that can be sent to another process."""

    def to_json(self) -> str:
        """As text."""


class Startable(Protocol):
    """A server with its life in one process."""

    @property
    def access(self) -> Lendable:
        """How to use it."""

    def start(self) -> Self:
        """Start it and wait until it is ready."""

    def stop(self) -> None:
        """End it and wait until it is gone."""


@dataclass(slots=True)
class _Slot:
    make: Callable[[], Startable]
    lock: threading.Lock = field(default_factory=threading.Lock)
    server: Startable | None = None
    failure: str = ""

    def lend(self) -> str:
        """Start it unless it runs. A failed start is not tried again: every test that needs it fails alike, fast."""
        with self.lock:
            if self.failure:
                raise ServerError(self.failure)
            if self.server is None:
                server = self.make()
                try:
                    self.server = server.start()
                except Exception as error:  # whatever it is, it is raised again, also for those that ask later
                    self.failure = f"{type(error).__name__}: {error}"
                    raise ServerError(self.failure) from error
            return self.server.access.to_json()

    def end(self) -> None:
        with self.lock:
            if self.server is not None:
                self.server.stop()
            self.server = None
            self.failure = "the test session is over"


class SharedServers:
    """The owner: starts each server when it is first asked for, and stops all of them in the end."""

    def __init__(self, makers: Mapping[str, Callable[[], Startable]]) -> None:
        self._slots = {name: _Slot(make) for name, make in makers.items()}
        self._folder = tempfile.TemporaryDirectory(prefix="tenantry-session-")
        self.address = str(Path(self._folder.name) / SOCKET)
        self.key = secrets.token_hex(16)
        self._listener = Listener(self.address, family="AF_UNIX", authkey=self.key.encode())
        threading.Thread(target=self._serve, daemon=True, name="shared-servers").start()

    def lend(self, name: str) -> str:
        """The access to a server as JSON, started if need be.

        Raises:
            ServerError: if it does not start, now or when it was first asked for.
        """
        return self._slots[name].lend()

    def stop(self) -> None:
        """End all servers that were started, and the lending."""
        self._listener.close()
        for slot in self._slots.values():
            slot.end()
        self._folder.cleanup()

    def _serve(self) -> None:
        while True:
            try:
                connection = self._listener.accept()
            except OSError:
                return  # the listener is closed
            except Exception:  # noqa: BLE001, S112 - a stranger's wrong key must not end the lending
                continue
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: Connection[Any, Any]) -> None:
        with connection, contextlib.suppress(OSError, EOFError):
            try:
                connection.send((True, self.lend(connection.recv())))
            except ServerError as error:
                connection.send((False, str(error)))


def borrow(address: str, key: str, name: str) -> str:
    """Ask the owner in another process for a server; as `SharedServers.lend`.

    Raises:
        ServerError: if it does not start, or not in time.
    """
    with Client(address, family="AF_UNIX", authkey=key.encode()) as connection:
        connection.send(name)
        if not connection.poll(ANSWER_SECONDS):
            raise ServerError(f"{name} is still not ready after {ANSWER_SECONDS:g} s")
        well, text = connection.recv()
    if not well:
        raise ServerError(text)
    return str(text)
