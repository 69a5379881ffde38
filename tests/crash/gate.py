"""The gate that every write of the operator passes: it names and counts them, and at one of them kills the operator."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from tests.scene.proxy import CutConnection
from tests.scene.proxy_faults import Passing
from tests.scene.proxy_postgres import SqlWrite

PLATFORM: Final = re.compile(r"/(clusters|databaseservers|backupstores|tenantplans)/[^/]+/status$")
"""Reports about platform objects: counters among them, which are put off by up to 30 s, so that they come anywhere."""

Naming = Callable[[str], str]
"""Puts placeholders for what is another in every run: names, hashes, passwords."""


class Door(Protocol):
    """A proxy before an API server: see `FaultProxy`."""

    before_write: Callable[[Passing], None] | None
    after_write: Callable[[Passing], None] | None


class SqlDoor(Protocol):
    """A proxy before a database server: see `DatabaseProxy`."""

    before_write: Callable[[SqlWrite], None] | None
    after_write: Callable[[SqlWrite], None] | None


class Mode(StrEnum):
    """When the operator dies: the server never hears of the write, or has answered and nobody hears the answer."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """One write of an operation.

    Attributes:
        label: Server, method and path, or SQL; with placeholders.
        occurrence: The so-and-so-manieth write of that label, from 1. Many objects are written at the same time, so
            the order of different writes is another in every run, and no number of a write among all would tell it.
    """

    label: str
    occurrence: int

    def __str__(self) -> str:
        return self.label if self.occurrence == 1 else f"{self.label} ({self.occurrence})"


class Gate:
    """Stands behind all proxies. Idle, armed, or, once the operator is dying, closed to all writes until `rest`.

    Args:
        kill: Ends the operator by SIGKILL and returns when it is gone.
    """

    def __init__(self, kill: Callable[[], None]) -> None:
        self._kill = kill
        self._lock = threading.Lock()
        self._naming: Naming | None = None
        self._wanted: Point | None = None
        self._mode = Mode.BEFORE
        self._victim: tuple[str, int] | None = None
        self._closed = False
        self._seen: list[Point] = []
        self._counts: Counter[str] = Counter()
        self._last = 0.0
        self.fired = threading.Event()

    def stand_before(self, management: Door, target: Door, postgres: SqlDoor) -> None:
        """Have all writes come by."""
        self._stand_before("management", management)
        self.stand_before_place("", target, postgres)

    def stand_before_place(self, name: str, target: Door, postgres: SqlDoor) -> None:
        """Have the writes come by that go to one more cluster, and to one more server."""
        self._stand_before(f"target{name}", target)
        self.stand_before_server(f"postgres{name}", postgres)

    def stand_before_server(self, name: str, postgres: SqlDoor, *, word: str = "") -> None:
        """Have the writes come by that go to one more server; in labels it is called by the word, or by its name."""
        postgres.before_write = lambda write: self._before(name, write.number, f"{word or name} {_sql(write)}")
        postgres.after_write = lambda write: self._after(name, write.number)

    def _stand_before(self, server: str, proxy: Door) -> None:
        def before(write: Passing) -> None:
            path = write.path.partition("?")[0]
            if not PLATFORM.search(path):
                self._before(server, write.number, f"{server} {write.method} {path}")

        proxy.before_write = before
        proxy.after_write = lambda write: self._after(server, write.number)

    def arm(self, naming: Naming, wanted: Point | None = None, mode: Mode = Mode.BEFORE) -> None:
        """From now on note all writes, and kill at the wanted one."""
        with self._lock:
            self._naming, self._wanted, self._mode = naming, wanted, mode
            self._victim, self._closed, self._seen = None, False, []
            self._counts.clear()
            self._last = time.monotonic()
            self.fired.clear()

    def rest(self) -> list[Point]:
        """Let everything pass again; the writes since `arm`, in their order."""
        with self._lock:
            self._naming, self._closed = None, False
            return list(self._seen)

    @property
    def quiet_for(self) -> float:
        """Seconds since the last write, or since `arm`."""
        with self._lock:
            return time.monotonic() - self._last

    def _before(self, server: str, number: int, text: str) -> None:
        with self._lock:
            if self._closed:
                raise CutConnection  # strictly those writes land that came before
            if self._naming is None:
                return
            label = self._naming(text)
            self._counts[label] += 1
            point = Point(label, self._counts[label])
            self._seen.append(point)
            self._last = time.monotonic()
            if point != self._wanted:
                return
            self._closed = True
            if self._mode == Mode.AFTER:
                self._victim = (server, number)
                return
        self._fire()

    def _after(self, server: str, number: int) -> None:
        with self._lock:
            if self._victim != (server, number):
                return
            self._victim = None
        self._fire()

    def _fire(self) -> None:
        self._kill()
        self.fired.set()
        raise CutConnection


def _sql(write: SqlWrite) -> str:
    return " ".join(write.text.split())
