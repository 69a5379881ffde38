"""The client against servers that are slow, broken, hostile or no API server at all."""

from __future__ import annotations

import asyncio
import base64
import socket

import pytest
from tests.integration.answering import TOKEN, A, Json, client_of, config_map, error_of
from tests.integration.wire import (
    STREAM_HEAD,
    Answer,
    Request,
    chunk,
    http_reply,
    raw,
    replying,
    wire,
)

from tenantry.adapters.kube.client import KubeClient
from tenantry.adapters.kube.transport import Caller, Transport
from tenantry.api.resources import CONFIG_MAPS, SECRETS, Ref
from tenantry.ports.kube import ExpiredError, ForbiddenError, InvalidError, UnreachableError


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (replying(b"<!DOCTYPE html><html>Sign in</html>", 200, "text/html"), "HTML"),
        (replying(b"", 200), "an empty body"),
        (replying(b"OK", 200, "text/plain"), "not JSON"),
        (replying(b"[1, 2]"), "not an object"),
        (replying({"kind": "ConfigMap"}), "not a Kubernetes object"),
        (replying(b'{"metadata": {"na'), "not JSON"),
        (replying(b"", 302, "text/html", Location="http://127.0.0.1/stolen"), "answered with a redirect (302)"),
        (replying(b"gateway", 502, "text/plain"), "502 Bad Gateway"),
        (raw(b""), "closed the connection without an answer"),
        (raw(b"SSH-2.0-OpenSSH_9.2\r\n"), "not HTTP"),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"), "broke off in the middle"),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"), "larger than 16 MiB"),
        (raw(STREAM_HEAD + chunk(b"x" * 1024 * 1024) * 17), "larger than 16 MiB"),
        (raw(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n"), "not HTTP"),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nContent-Encoding: gzip\r\n\r\nnot gzip!"), "not JSON"),
    ],
)
async def test_an_answer_that_is_not_kubernetes_makes_the_server_unreachable(answer: Answer, words: str) -> None:
    async with client_of(answer) as (client, _):
        error = await error_of(client.get(A))
    assert isinstance(error, UnreachableError)
    assert words in error.message


async def test_a_redirect_is_never_followed() -> None:
    async with wire(replying({})) as other:
        elsewhere = replying(b"", 307, Location=f"http://127.0.0.1:{other.port}/")
        async with client_of(elsewhere) as (client, _):
            await error_of(client.apply(config_map(1)))
        assert other.requests == []


async def test_a_server_that_does_not_answer_is_given_up_in_time() -> None:
    async with client_of(raw(b"", then_close=False), seconds=0.2) as (client, _):
        error = await error_of(client.get(A))
    assert isinstance(error, UnreachableError)
    assert error.message == "the server did not answer within 0.2 s"


async def test_a_server_that_drips_its_answer_is_given_up_in_time() -> None:
    async def dripping(_request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        async with asyncio.timeout(60):
            for _ in range(1000):
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.01)  # the dripping itself

    async with client_of(dripping, seconds=0.2) as (client, _):
        assert isinstance(await error_of(client.get(A)), UnreachableError)


async def test_a_port_where_nobody_listens_is_said() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        client = KubeClient(Transport(f"http://127.0.0.1:{taken.getsockname()[1]}"))
        error = await error_of(client.version())
        await client.close()
    assert error.message == "the server refused the connection"


async def test_retry_after_is_handed_on() -> None:
    async with client_of(replying(b"slow down", 429, "text/plain", Retry_After="7")) as (client, _):
        error = await error_of(client.get(A))
    assert isinstance(error, UnreachableError)
    assert (error.retry_after, error.status) == (7.0, 429)


async def test_a_hostile_server_can_not_make_us_show_the_token_or_a_sent_secret() -> None:
    encoded = base64.b64encode(b"db-password-1").decode()
    message = f"Bearer {TOKEN} and db-password-1 and {encoded}\nERROR forged line"
    status = {"kind": "Status", "code": 403, "reason": "Forbidden", "message": message}
    async with client_of(replying(status, 403)) as (client, _):
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "n"}}
        error = await error_of(client.apply({**secret, "data": {"password": encoded}}))
        patched = await error_of(client.merge_patch(Ref(SECRETS, "n", "s"), {"data": {"password": encoded}}))
    assert isinstance(error, ForbiddenError)
    assert error.message == "Bearer [hidden] and [hidden] and [hidden] ERROR forged line"
    assert patched.message == error.message


async def test_a_body_that_is_no_json_is_refused_before_it_is_sent() -> None:
    async with client_of(replying({})) as (client, server):
        error = await error_of(client.apply({**config_map(1), "data": {"a": object()}}))
        assert isinstance(error, InvalidError)
        assert server.requests == []


async def test_a_closed_client_says_so() -> None:
    async with client_of(replying({})) as (client, _):
        await client.close()
        assert "closed" in (await error_of(client.get(A))).message
        assert "closed" in (await error_of(anext(client.watch(CONFIG_MAPS, resource_version="1")))).message


async def test_a_version_that_is_none_is_not_taken() -> None:
    async with client_of(replying({"gitVersion": "v1.36.3\nforged"})) as (client, _):
        assert isinstance(await error_of(client.version()), UnreachableError)


async def test_every_request_is_counted_answered_or_not() -> None:
    counted: list[tuple[str, int]] = []

    def count(method: str, code: int, seconds: float) -> None:
        assert 0 < seconds < 60
        counted.append((method, code))

    async with wire(replying(config_map(1))) as server:
        url = f"http://127.0.0.1:{server.port}"
        client = KubeClient(Transport(url, on_request=count))
        await client.get(A)
        await client.close()
    gone = KubeClient(Transport(url, on_request=count))
    await error_of(gone.get(A))
    await gone.close()
    assert counted == [("GET", 200), ("GET", 0)]


async def test_who_may_not_write_sends_no_write_and_says_who_it_is_when_it_reads() -> None:
    async with wire(replying(config_map(1))) as server:
        caller = Caller("operator-1 (a)_b\r\n", may_write=lambda: False)
        client = KubeClient(Transport(f"http://127.0.0.1:{server.port}", caller=caller))
        await client.get(A)
        body = config_map(1)
        writes = (
            client.create(body), client.apply(body), client.replace(body), client.rehearse(body),
            client.merge_patch(A, {}), client.delete(A), client.forward(A, 5432),
        )  # fmt: skip
        for write in writes:
            assert "not the leader" in (await error_of(write)).message
        await client.close()
    (read,) = server.requests
    assert read.method == "GET"
    assert read.headers["user-agent"].endswith(" (operator-1a_b)")


# --- lists -----------------------------------------------------------------------------------------------------
def page(names: list[str], token: str = "") -> bytes:
    items = [{"metadata": {"name": name, "namespace": "n", "resourceVersion": "1"}} for name in names]
    return http_reply(
        {"kind": "ConfigMapList", "metadata": {"resourceVersion": "50", "continue": token}, "items": items}
    )


async def test_a_continue_token_that_expires_starts_the_list_over() -> None:
    expired = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
    script = [page(["a"], "t 1/"), http_reply(expired, 410), page(["b"], "t2"), page(["c"])]

    async def answer(_request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(script.pop(0))

    async with client_of(answer) as (client, server):
        listing = await client.list(CONFIG_MAPS, labels="a=b,c in (d)")
    assert [item["metadata"]["name"] for item in listing.items] == ["b", "c"]
    assert listing.resource_version == "50"
    query = "/api/v1/configmaps?limit=500&labelSelector=a%3Db%2Cc%20in%20%28d%29"
    assert [request.target for request in server.requests] == [
        query, f"{query}&continue=t%201%2F", query, f"{query}&continue=t2",
    ]  # fmt: skip


async def test_a_list_that_always_expires_is_given_up() -> None:
    expired = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
    async with client_of(replying(expired, 410)) as (client, server):
        assert isinstance(await error_of(client.list(CONFIG_MAPS)), ExpiredError)
        assert len(server.requests) == 3


async def test_an_endless_list_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenantry.adapters.kube.client.LIST_SECONDS", 0.3)

    async def endless(_request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(page(["a"], "more"))

    async with client_of(endless) as (client, _):
        error = await error_of(client.list(CONFIG_MAPS))
    assert error.message == "the server did not list its configmaps within 0.3 s"


@pytest.mark.parametrize(
    "body",
    [{"items": []}, {"metadata": {}, "items": []}, {"metadata": {"resourceVersion": "1"}, "items": [{}]}, {"items": 7}],
)
async def test_a_list_that_is_none_makes_the_server_unreachable(body: Json) -> None:
    async with client_of(replying(body)) as (client, _):
        assert isinstance(await error_of(client.list(CONFIG_MAPS)), UnreachableError)
