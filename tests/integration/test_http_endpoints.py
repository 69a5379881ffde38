"""The HTTP endpoints over real sockets."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tenantry.runtime.clock import SystemClock
from tenantry.runtime.health import Check
from tenantry.runtime.http import Address, HttpEndpoints, parse_address
from tenantry.runtime.metrics import Metrics


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
        yield session


def endpoints(
    metrics_address: str = "127.0.0.1:0",
    health_address: str = "127.0.0.1:0",
    *,
    live: dict[str, Check] | None = None,
    ready: dict[str, Check] | None = None,
) -> HttpEndpoints:
    return HttpEndpoints(
        metrics_address=metrics_address,
        health_address=health_address,
        metrics=Metrics(clock=SystemClock(), version="1.2.3", workers=4).expose,
        live=live or {},
        ready=ready or {},
    )


async def get(client: aiohttp.ClientSession, address: Address | None, path: str) -> tuple[int, str]:
    async with client.get(f"http://{address}{path}") as response:
        return response.status, await response.text()


async def test_health_and_metrics_share_an_address_that_is_given_twice(client: aiohttp.ClientSession) -> None:
    served = endpoints()
    await served.start()
    try:
        assert served.metrics_at == served.health_at
        assert await get(client, served.health_at, "/healthz") == (200, "ok")
        assert await get(client, served.health_at, "/readyz") == (200, "ok")
        status, text = await get(client, served.metrics_at, "/metrics")
        assert status == 200
        assert 'tenantry_build_info{python_version="' in text
        assert (await get(client, served.metrics_at, "/"))[0] == 404
    finally:
        await served.stop()


async def test_two_addresses_serve_each_its_own(client: aiohttp.ClientSession) -> None:
    served = endpoints("127.0.0.1:0", "localhost:0")
    await served.start()
    try:
        assert (await get(client, served.metrics_at, "/metrics"))[0] == 200
        assert (await get(client, served.metrics_at, "/healthz"))[0] == 404
        assert (await get(client, served.health_at, "/healthz"))[0] == 200
        assert (await get(client, served.health_at, "/metrics"))[0] == 404
    finally:
        await served.stop()


async def test_readiness_follows_its_checks_and_liveness_does_not(client: aiohttp.ClientSession) -> None:
    reason: str | None = "first list is not there yet"
    served = endpoints(live={"loop": lambda: None}, ready={"watch": lambda: reason})
    await served.start()
    try:
        assert await get(client, served.health_at, "/readyz") == (
            500,
            "[+]ping ok\n[-]watch failed: first list is not there yet\nreadyz check failed\n",
        )
        assert await get(client, served.health_at, "/healthz?verbose") == (
            200,
            "[+]ping ok\n[+]loop ok\nhealthz check passed\n",
        )
        reason = None
        assert await get(client, served.health_at, "/readyz") == (200, "ok")
    finally:
        await served.stop()


async def test_metrics_come_in_the_format_that_is_asked_for(client: aiohttp.ClientSession) -> None:
    served = endpoints()
    await served.start()
    try:
        url = f"http://{served.metrics_at}/metrics"
        async with client.get(url, headers={"Accept": "application/openmetrics-text; version=1.0.0"}) as response:
            assert response.content_type == "application/openmetrics-text"
            assert (await response.text()).endswith("# EOF\n")
        async with client.get(url) as response:
            assert response.content_type == "text/plain"
    finally:
        await served.stop()


async def test_zero_switches_an_address_off(client: aiohttp.ClientSession) -> None:
    served = endpoints("0", "127.0.0.1:0")
    await served.start()
    try:
        assert served.metrics_at is None
        assert (await get(client, served.health_at, "/metrics"))[0] == 404
    finally:
        await served.stop()


async def test_nothing_listens_after_the_stop_although_a_client_keeps_its_connection(
    client: aiohttp.ClientSession,
) -> None:
    served = endpoints()
    await served.start()
    address = served.health_at
    assert await get(client, address, "/healthz") == (200, "ok")
    await served.stop()
    await served.stop()
    assert served.health_at is None
    with pytest.raises(aiohttp.ClientConnectorError):
        await get(client, address, "/healthz")


async def test_a_taken_port_is_named_and_nothing_is_left_listening() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        served = endpoints("127.0.0.1:0", taken)
        with pytest.raises(OSError, match=f"can't listen on {taken}"):
            await served.start()
        assert served.metrics_at is None


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", Address("127.0.0.1", 8080)),
        (":8080", Address("", 8080)),
        ("[::1]:8080", Address("::1", 8080)),
        ("localhost:0", Address("localhost", 0)),
        ("0", None),
        ("", None),
    ],
)
def test_addresses_are_read_as_kubernetes_components_write_them(text: str, address: Address | None) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["8080", "host", "host:", "host:http", "host:70000", "::1:8080", "host:-1", "host:٣"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no address to listen on|in brackets"):
        parse_address(text)
