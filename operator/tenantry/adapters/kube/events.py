"""Kubernetes Events: written in the background, repeated ones counted up, dropped rather than waited for."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from tenantry.api.resources import EVENTS, Ref
from tenantry.ports.kube import AlreadyExistsError, Kube, KubeError, NotFoundError, UnreachableError
from tenantry.ports.world import Clock, Json

logger = logging.getLogger(__name__)

QUEUE: Final = 1000
REMEMBERED: Final = 2000
SERIES_SECONDS: Final = 600.0
"""An event that comes again within this time is counted up in the old object (client-go: 6 min to finish a series)."""
MAX_NOTE: Final = 1024
WAITS: Final = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds between tries where the API server does not answer; then the event is dropped, for others wait behind it."""


@dataclass(frozen=True, slots=True)
class _Sentence:
    uid: str
    reason: str
    note: str


@dataclass(slots=True)
class _Series:
    ref: Ref
    count: int
    last: float


class EventWriter:
    """Implements `tenantry.ports.world.Events`; `run` has to be running."""

    def __init__(self, kube: Kube, clock: Clock, *, instance: str, waits: Sequence[float] = WAITS) -> None:
        """`instance` is who reports; `waits` are the seconds between tries."""
        self._kube = kube
        self._waits = waits
        self._clock = clock
        self._instance = instance
        self._queue: asyncio.Queue[tuple[Json, bool, str, str]] = asyncio.Queue(QUEUE)
        self._series: OrderedDict[_Sentence, _Series] = OrderedDict()

    def emit(self, about: Mapping[str, Any], *, warning: bool, reason: str, message: str) -> None:
        """See `Events`."""
        try:
            self._queue.put_nowait((dict(about), warning, reason, message[:MAX_NOTE]))
        except asyncio.QueueFull:
            logger.warning("an event was dropped, too many are waiting: %s", reason)

    async def run(self) -> None:
        """Write events until cancelled."""
        while True:
            about, warning, reason, note = await self._queue.get()
            try:
                await self._write(about, warning=warning, reason=reason, note=note)
            except KubeError as error:
                logger.warning("an event could not be written: %s", error.message)

    async def _write(self, about: Json, *, warning: bool, reason: str, note: str) -> None:
        now = self._clock.now()
        sentence = _Sentence(about["metadata"].get("uid", ""), reason, note)
        series = self._series.get(sentence)
        if series is not None and self._clock.monotonic() - series.last < SERIES_SECONDS:
            series.count += 1
            series.last = self._clock.monotonic()
            patch = {"series": {"count": series.count, "lastObservedTime": _micro(now)}}
            try:
                await self._insist(lambda: self._kube.merge_patch(series.ref, patch))
            except NotFoundError:
                del self._series[sentence]  # API servers keep events for an hour, people delete them
            else:
                return
        body = self._event(about, warning=warning, reason=reason, note=note, now=now)
        with contextlib.suppress(AlreadyExistsError):  # the answer to the first try was lost
            await self._insist(lambda: self._kube.create(body))
        ref = Ref(EVENTS, body["metadata"]["namespace"], body["metadata"]["name"])
        self._series[sentence] = _Series(ref, 1, self._clock.monotonic())
        while len(self._series) > REMEMBERED:
            self._series.popitem(last=False)

    async def _insist(self, write: Callable[[], Awaitable[object]]) -> None:
        """Try again while there is no answer, or while the API server asks for patience; each write is safe to repeat.

        Raises:
            KubeError: it was refused, or there was no answer to the last try either.
        """
        for wait in self._waits:
            try:
                await write()
            except UnreachableError as error:
                await asyncio.sleep(max(wait, min(error.retry_after or 0.0, self._waits[-1])))
            else:
                return
        await write()

    def _event(self, about: Json, *, warning: bool, reason: str, note: str, now: datetime) -> Json:
        metadata = about["metadata"]
        namespace = metadata.get("namespace") or "default"  # where events about cluster-scoped objects live
        return {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"name": f"{metadata['name'][:200]}.{secrets.token_hex(8)}", "namespace": namespace},
            "eventTime": _micro(now),
            "type": "Warning" if warning else "Normal",
            "reason": reason,
            "action": "Reconcile",
            "note": note,
            "reportingController": "tenantry.io/operator",
            "reportingInstance": self._instance,
            "regarding": {
                "apiVersion": about["apiVersion"],
                "kind": about["kind"],
                "name": metadata["name"],
                "namespace": metadata.get("namespace", ""),
                "uid": metadata.get("uid", ""),
                "resourceVersion": metadata.get("resourceVersion", ""),
            },
        }


def _micro(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
