"""Turns: work on one thing at a time, for things that have more than one key in the queue."""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary

from tenantry.api.resources import Ref


class Turns:
    """A lock a thing, kept only while somebody has it or waits for it."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[Ref, asyncio.Lock] = WeakValueDictionary()

    def of(self, thing: Ref) -> asyncio.Lock:
        """The lock of a thing: to be entered at once, for nothing else keeps it."""
        lock = self._locks.get(thing)
        if lock is None:
            lock = self._locks[thing] = asyncio.Lock()
        return lock
