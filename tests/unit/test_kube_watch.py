"""The endless list and watch, against a scripted server and with time that only the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tenantry.adapters.kube.live import LiveCache
from tenantry.adapters.kube.watch import MAX_DELAY, Pace, Watcher
from tenantry.api.names import LABEL_TENANT_HASH
from tenantry.api.resources import CONFIG_MAPS, Resource
from tenantry.ports.kube import ExpiredError, ForbiddenError, KubeError, Listing, UnreachableError, WatchEvent

Json = dict[str, Any]
DEADLINE = 5.0


def body(version: int, name: str = "a") -> Json:
    metadata = {"name": name, "namespace": "n", "uid": name, "resourceVersion": str(version)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata | {"labels": {LABEL_TENANT_HASH: "h"}}}


def event(version: int, kind: str = "MODIFIED", name: str = "a") -> WatchEvent:
    return WatchEvent(kind, body(version, name))


class Hang:
    """A point of the script at which the server says nothing more."""


HANG = Hang()
ListStep = Listing | KubeError | Callable[[], Listing]
WatchStep = list[WatchEvent | KubeError | Hang | Callable[[], None]]


class ScriptedServer:
    """Answers lists and watches from a script; when the script is over, it repeats the last list and hangs in watches.

    Time goes on by a minute with each watch that ends, and by what is slept.
    """

    def __init__(self, lists: list[ListStep], watches: list[WatchStep]) -> None:
        self.lists = lists
        self.watches = watches
        self.asked: list[str] = []
        self.slept: list[float] = []
        self.faults: list[str] = []
        self.closed = 0
        self.now = 0.0
        self.watch_seconds = 60.0
        self.done = asyncio.Event()
        self.first_fault = asyncio.Event()

    async def list(self, resource: Resource, *, namespace: str = "", labels: str = "") -> Listing:
        assert (resource, namespace, labels) == (CONFIG_MAPS, "n", "stamp=1")
        self.asked.append("list")
        step = self.lists.pop(0) if len(self.lists) > 1 else self.lists[0]
        if isinstance(step, KubeError):
            raise step
        return step if isinstance(step, Listing) else step()

    async def watch(
        self, resource: Resource, *, resource_version: str, namespace: str = "", labels: str = ""
    ) -> AsyncGenerator[WatchEvent, None]:
        assert (resource, namespace, labels) == (CONFIG_MAPS, "n", "stamp=1")
        self.asked.append(f"watch {resource_version}")
        try:
            for step in self.watches.pop(0) if self.watches else [HANG]:
                if isinstance(step, Hang):
                    self.done.set()
                    await asyncio.Event().wait()
                elif isinstance(step, KubeError):
                    raise step
                elif isinstance(step, WatchEvent):
                    yield step
                else:
                    step()
            self.now += self.watch_seconds
        finally:
            self.closed += 1

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        self.first_fault.set()
        await asyncio.sleep(0)

    def advance(self, seconds: float) -> Callable[[], None]:
        def step() -> None:
            self.now += seconds

        return step


class Running:
    def __init__(self, server: ScriptedServer) -> None:
        self.server = server
        self.told: list[tuple[str, Json | None]] = []
        self.cache = LiveCache(lambda ref, _tenant, found: self.told.append((ref.name, found)))
        pace = Pace(relist_seconds=1000, sleep=server.sleep, monotonic=lambda: server.now, jitter=lambda: 1.0)
        self.watcher = Watcher(
            server,  # type: ignore[arg-type]  # a watcher needs no more of the port than this
            self.cache,
            CONFIG_MAPS,
            namespace="n",
            labels="stamp=1",
            pace=pace,
            on_fault=lambda _resource, fault: server.faults.append(fault.message),
        )


@asynccontextmanager
async def started(run: Running) -> AsyncIterator[Running]:
    """The watcher runs, and stops cleanly in the end."""
    task = asyncio.create_task(run.watcher.run())
    try:
        async with asyncio.timeout(DEADLINE):
            yield run
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@asynccontextmanager
async def running(lists: list[ListStep], *watches: WatchStep, watch_seconds: float = 60.0) -> AsyncIterator[Running]:
    """Runs a watcher until the script is at its end (a watch hangs)."""
    run = Running(ScriptedServer(lists, list(watches)))
    run.server.watch_seconds = watch_seconds
    async with started(run):
        await run.server.done.wait()
        yield run


EMPTY = Listing([], "10")


async def test_all_is_listed_and_then_watched_from_there() -> None:
    async with running([Listing([body(5)], "10")], [event(11), HANG]) as run:
        assert run.server.asked == ["list", "watch 10"]
        assert run.cache.all(CONFIG_MAPS) == [body(11)]
        assert run.told == [("a", body(11))]
        assert run.watcher.synced
        await run.watcher.wait_synced(0.0)


async def test_a_watch_that_ends_in_peace_is_resumed_at_once_from_the_last_version() -> None:
    bookmark = WatchEvent("BOOKMARK", {"metadata": {"resourceVersion": "20"}})
    async with running([EMPTY], [event(11), bookmark], [], [HANG]) as run:
        assert run.server.asked == ["list", "watch 10", "watch 20", "watch 20"]
        assert run.server.slept == []


async def test_an_expired_version_is_listed_anew_at_once() -> None:
    lists: list[ListStep] = [Listing([body(5), body(6, "b")], "10"), Listing([body(5)], "30")]
    async with running(lists, [ExpiredError("too old", status=410)], [HANG]) as run:
        assert run.server.asked == ["list", "watch 10", "list", "watch 30"]
        assert run.server.slept == []
        assert run.told == [("b", None)]  # whose deletion no watch has told of


async def test_versions_that_expire_again_and_again_are_not_listed_in_a_hot_loop() -> None:
    expired: WatchStep = [ExpiredError("too old", status=410)]
    async with running([EMPTY], expired, list(expired), list(expired), [HANG]) as run:
        assert run.server.slept == [1.0, 2.0]


async def test_a_broken_watch_is_resumed_where_it_broke_off_after_a_while() -> None:
    async with running([EMPTY], [event(11), UnreachableError("reset")], [event(12), HANG]) as run:
        assert run.server.asked == ["list", "watch 10", "watch 11"]
        assert run.server.slept == [0.5]
        assert run.server.faults == ["reset"]
        assert run.cache.all(CONFIG_MAPS) == [body(12)]


async def test_a_watch_that_fails_several_times_is_listed_anew() -> None:
    broken: WatchStep = [UnreachableError("reset")]
    async with running([EMPTY], *([list(broken)] * 4), [HANG]) as run:
        assert run.server.asked == ["list", *["watch 10"] * 4, "list", "watch 10"]


async def test_a_server_that_is_down_for_long_is_asked_again_and_again_ever_more_rarely() -> None:
    down: list[ListStep] = [UnreachableError("refused the connection", status=0) for _ in range(20)]
    async with running([*down, EMPTY], [HANG]) as run:
        assert len(run.server.slept) == 20
        assert run.server.slept[:7] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0]
        assert max(run.server.slept) == MAX_DELAY
        assert run.watcher.last_fault is None
        assert run.watcher.failing_since is None


async def test_a_server_that_asks_for_patience_gets_it_within_bounds() -> None:
    busy: list[ListStep] = [UnreachableError("busy", retry_after=7), UnreachableError("busy", retry_after=9000), EMPTY]
    async with running(busy, [HANG]) as run:
        assert run.server.slept == [7.0, MAX_DELAY]


async def test_missing_rights_are_asked_for_again_and_said() -> None:
    run = Running(ScriptedServer([ForbiddenError("may not list configmaps", status=403)], []))
    async with started(run):
        await run.server.first_fault.wait()
        assert isinstance(run.watcher.last_fault, ForbiddenError)
        assert run.watcher.failing_since == 0.0
        with pytest.raises(UnreachableError, match="may not list configmaps"):
            await run.watcher.wait_synced(0.01)


async def test_a_server_that_ends_watches_at_once_is_not_asked_in_a_hot_loop() -> None:
    async with running([EMPTY], [], [], [HANG], watch_seconds=0.0) as run:
        assert run.server.slept == [0.5, 1.0]
        assert run.server.faults == ["the server ends watches at once"] * 2


async def test_all_is_listed_anew_once_in_a_while_to_find_missed_deletions() -> None:
    lists: list[ListStep] = [Listing([body(5), body(6, "b")], "10"), Listing([body(11)], "30")]
    first: WatchStep = []
    run = Running(ScriptedServer(lists, [first, [HANG]]))
    first += [run.server.advance(1101), event(11)]
    async with started(run):
        await run.server.done.wait()
        assert run.server.asked == ["list", "watch 10", "list", "watch 30"]
        assert run.told == [("a", body(11)), ("b", None)]
        assert run.server.closed == 1  # the first watch, although it had not ended by itself
    assert run.server.closed == 2


async def test_an_own_write_during_a_list_is_not_taken_for_a_missed_deletion() -> None:
    def slow_list() -> Listing:
        run.cache.observe(body(12))
        return Listing([], "11")

    run = Running(ScriptedServer([EMPTY, slow_list], [[ExpiredError("too old")], [HANG]]))
    async with started(run):
        await run.server.done.wait()
        assert run.cache.all(CONFIG_MAPS) == [body(12)]


async def test_a_server_restored_from_a_backup_is_believed() -> None:
    lists: list[ListStep] = [Listing([body(500)], "500"), Listing([body(40)], "50")]
    async with running(lists, [ExpiredError("too old")], [HANG]) as run:
        assert run.cache.all(CONFIG_MAPS) == [body(40)]
