"""Events on a real API server: told once, counted up when they come again, and not lost with a request or an answer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.controlplane.access import ClusterAccess
from tests.scene.lab import wait_until
from tests.scene.proxy import FaultProxy
from tests.scene.proxy_faults import Answer, Cut

from tenantry.adapters.kube.client import connect
from tenantry.adapters.kube.events import EventWriter
from tenantry.adapters.kube.kubeconfig import parse_kubeconfig
from tenantry.runtime.clock import SystemClock

Json = dict[str, Any]
EVENTS_PATH = "/events"
SECONDS = 60.0
UNAVAILABLE = Answer.of_status(503, "ServiceUnavailable")


class Told:
    """What was told in a namespace of its own, through a proxy with faults."""

    def __init__(self, access: ClusterAccess, proxy: FaultProxy, namespace: str) -> None:
        self.access = access
        self.proxy = proxy
        self.namespace = namespace
        self.about = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "a", "namespace": namespace, "uid": "11111111-2222-3333-4444-555555555555"},
        }

    def events(self) -> list[Json]:
        found: list[Json] = self.access.get("events.events.k8s.io", "-n", self.namespace)["items"]
        return found

    def notes(self) -> list[str]:
        return sorted(event["note"] for event in self.events())

    async def wait(self, check: Callable[[], bool]) -> None:
        await asyncio.to_thread(wait_until, check, SECONDS, lambda: str(self.events()))

    @asynccontextmanager
    async def writer(self, waits: tuple[float, ...] = (0.05, 0.05, 0.05)) -> AsyncIterator[EventWriter]:
        kubeconfig = parse_kubeconfig(self.proxy.kubeconfig(self.access.kubeconfig), now=datetime.now(UTC))
        client = await connect(kubeconfig, allow_loopback=True)
        writer = EventWriter(client, SystemClock(), instance="here", waits=waits)
        running = asyncio.create_task(writer.run())
        try:
            yield writer
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
            await client.close()

    def emit(self, writer: EventWriter, message: str = "it is ready") -> None:
        writer.emit(self.about, warning=False, reason="Ready", message=message)


@pytest.fixture
def told(management: ClusterAccess, namespace: str) -> Iterator[Told]:
    with FaultProxy(management) as proxy:
        yield Told(management, proxy, namespace)


async def test_an_event_that_comes_again_is_counted_up(told: Told) -> None:
    async with told.writer() as writer:
        for _ in range(3):
            told.emit(writer)
        await told.wait(lambda: [each.get("series", {}).get("count") for each in told.events()] == [3])


async def test_an_event_that_was_deleted_is_made_anew_when_it_comes_again(told: Told) -> None:
    async with told.writer() as writer:
        told.emit(writer)
        await told.wait(lambda: len(told.events()) == 1)
        told.access.kubectl("delete", "events.events.k8s.io", "--all", "-n", told.namespace)
        told.emit(writer)
        await told.wait(lambda: told.notes() == ["it is ready"])


@pytest.mark.parametrize("fault", [UNAVAILABLE, Cut(), Cut(after=True)], ids=["503", "unheard", "answer lost"])
async def test_an_event_whose_request_fails_is_told_once_all_the_same(told: Told, fault: Answer | Cut) -> None:
    async with told.writer() as writer:
        with told.proxy.fault(fault, EVENTS_PATH, method="POST", times=2) as rule:
            told.emit(writer)
            told.emit(writer, "and something else")
            await told.wait(lambda: told.notes() == ["and something else", "it is ready"])
        assert rule.hits == 2


async def test_an_event_that_can_not_be_told_holds_up_no_other(told: Told, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        async with told.writer() as writer:
            with told.proxy.fault(UNAVAILABLE, EVENTS_PATH, method="POST", times=4):
                told.emit(writer)
                told.emit(writer, "and something else")
                await told.wait(lambda: told.notes() == ["and something else"])
    assert "an event could not be written" in caplog.text
