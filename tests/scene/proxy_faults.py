"""What a FaultProxy can do to the requests and watch events that pass through it, and to which of them."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

WRITES: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_NO_CHANGES: Final = re.compile(r"/(events|leases|selfsubjectaccessreviews|selfsubjectreviews)([/?]|$)")


@dataclass(frozen=True, slots=True)
class Passing:
    """One request on its way through the proxy.

    Attributes:
        number: Counts all requests, from 1.
        path: With the query.
        token: Of the Authorization header, to tell whether a rotated one is used.
        at: When it came, on the monotonic clock.
        write: Counts the requests that ask for a change (no Leases, Events and access reviews), from 1; 0 for others.
    """

    number: int
    method: str
    path: str
    token: str
    at: float
    write: int

    @property
    def watch(self) -> bool:
        """Whether it asks for a stream of events."""
        return self.method == "GET" and re.search(r"[?&]watch=(1|true|True)\b", self.path) is not None


def is_change(method: str, path: str) -> bool:
    """Whether a request asks for a change that counts."""
    return method in WRITES and not _NO_CHANGES.search(path.partition("?")[0])


@dataclass(frozen=True, slots=True)
class Answer:
    """Answers in the server's place; the server never hears of the request."""

    status: int
    body: str = ""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_status(cls, status: int, reason: str, message: str = "by the test", **headers: str) -> Answer:
        """A Kubernetes Status; a keyword is a header, `_` for `-`."""
        body = {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "reason": reason,
            "message": message,
            "code": status,
        }
        return cls(status, json.dumps(body), headers={key.replace("_", "-"): value for key, value in headers.items()})

    @classmethod
    def html(cls, status: int = 200) -> Answer:
        """What a log-in page or a proxy's error page looks like."""
        return cls(status, "<!DOCTYPE html><html><body>Please log in</body></html>", "text/html")


@dataclass(frozen=True, slots=True)
class Hang:
    """Gives no answer until the fault is switched off, then cuts the connection. The server never hears of it."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Ends the connection: before the server hears of the request, or after it has answered (a lost answer)."""

    after: bool = False


@dataclass(frozen=True, slots=True)
class Slow:
    """Waits before the request is passed on."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Swallow:
    """Leaves events out of watches: of these types and this name; None for all.

    Attributes:
        pattern: Of the watch's path is the rule's; this is the object's name.
    """

    types: frozenset[str] | None = None
    name: str | None = None

    def takes(self, event: Mapping[str, Any]) -> bool:
        """Whether this event is left out."""
        metadata = event.get("object", {}).get("metadata", {})
        wanted = self.types is None or event.get("type") in self.types
        return wanted and event.get("type") != "BOOKMARK" and (self.name is None or metadata.get("name") == self.name)


Fault: TypeAlias = Answer | Hang | Cut | Slow | Swallow


class Rule:
    """A fault that is switched on for some requests. Made by `FaultProxy.fault`.

    Attributes:
        hits: How many requests or events it has met.
        passed: What it met, in order; requests only.
    """

    def __init__(self, fault: Fault, method: str, path: str, times: int | None, skip: int) -> None:
        self.fault = fault
        self.hits = 0
        self.passed: list[Passing] = []
        self._method = method
        self._path = re.compile(path)
        self._times = times
        self._skip = skip
        self._lock = threading.Lock()
        self._lifted = threading.Event()
        self.since = time.monotonic()

    @property
    def spent(self) -> bool:
        """Whether it has met all it was to meet."""
        return self._times is not None and self.hits >= self._times

    def matches(self, request: Passing) -> bool:
        """Whether the request is one that it is meant for."""
        return bool((not self._method or request.method == self._method) and self._path.search(request.path))

    def meet(self, request: Passing | None) -> bool:
        """Whether it happens to this one too; counted."""
        with self._lock:
            if self._skip:
                self._skip -= 1
                return False
            if self.spent or self._lifted.is_set():
                return False
            self.hits += 1
            if request is not None:
                self.passed.append(request)
            return True

    def lift(self) -> None:
        """Switch it off for good; what hangs in it is let go."""
        self._lifted.set()

    async def until_lifted(self) -> None:
        """Returns when it is switched off."""
        while not self._lifted.is_set():  # noqa: ASYNC110 - an Event of another thread can't be awaited
            await asyncio.sleep(0.02)


class Rules:
    """All faults that are switched on; changed by tests while the proxy's thread reads them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: tuple[Rule, ...] = ()

    def add(self, rule: Rule) -> None:
        """Switch a fault on; the newest is asked first."""
        with self._lock:
            self._rules = (rule, *self._rules)

    def remove(self, rule: Rule) -> None:
        """Switch a fault off. Harmless when repeated."""
        rule.lift()
        with self._lock:
            self._rules = tuple(other for other in self._rules if other is not rule)

    def clear(self) -> None:
        """Switch all off."""
        for rule in self._rules:
            self.remove(rule)

    def met_by(self, request: Passing) -> Rule | None:
        """The fault that befalls this request, counted; None if it passes."""
        for rule in self._rules:
            if not isinstance(rule.fault, Swallow) and rule.matches(request) and rule.meet(request):
                return rule
        return None

    def swallows(self, request: Passing, line: bytes) -> bool:
        """Whether an event of this watch is left out."""
        rules = [rule for rule in self._rules if isinstance(rule.fault, Swallow) and rule.matches(request)]
        if not rules:
            return False
        event: dict[str, Any] = json.loads(line)
        return any(isinstance(rule.fault, Swallow) and rule.fault.takes(event) and rule.meet(None) for rule in rules)


class Journal:
    """All requests that came through, for tests to look at; written by the proxy's thread."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._writes = itertools.count(1)
        self._entries: list[Passing] = []

    def note(self, method: str, path: str, token: str) -> Passing:
        """Count a request."""
        write = next(self._writes) if is_change(method, path) else 0
        entry = Passing(next(self._numbers), method, path, token, time.monotonic(), write)
        self._entries.append(entry)
        return entry

    @property
    def entries(self) -> list[Passing]:
        """All so far."""
        return list(self._entries)

    @property
    def writes(self) -> int:
        """How many of them asked for a change."""
        return sum(1 for entry in self._entries if entry.write)

    def matching(self, method: str, path: str, *, after: int = 0) -> list[Passing]:
        """Those of a method (empty: any) and path (a regular expression), that came after a number."""
        pattern = re.compile(path)
        return [
            entry
            for entry in self._entries[after:]
            if (not method or entry.method == method) and pattern.search(entry.path)
        ]


def error_event(code: int) -> bytes:
    """A line of a watch by which API servers end it: 410 for a version too old, 500 for trouble of their own."""
    reason, message = ("Expired", "too old resource version") if code == 410 else ("InternalError", "etcd is gone")
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": reason}
    return json.dumps({"type": "ERROR", "object": {**status, "metadata": {}, "code": code}}).encode() + b"\n"
