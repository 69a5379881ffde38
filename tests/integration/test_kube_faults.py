"""The client against servers that are slow, broken, hostile or no API server at all."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from tests.controlplane.access import kubeconfig_text
from tests.controlplane.certificates import Authority
from tests.integration.wire import (
    LAST_CHUNK,
    STREAM_HEAD,
    Answer,
    Request,
    WireServer,
    chunk,
    http_reply,
    raw,
    replying,
    server_context,
    wire,
)

from tenantry.adapters.kube.addresses import AddressRefused
from tenantry.adapters.kube.client import KubeClient, connect
from tenantry.adapters.kube.kubeconfig import TargetCredentials, parse_kubeconfig
from tenantry.adapters.kube.transport import Transport
from tenantry.api.resources import CONFIG_MAPS, SECRETS, Ref
from tenantry.ports import (
    ExpiredError,
    ForbiddenError,
    InvalidError,
    KubeError,
    UnauthorizedError,
    UnreachableError,
    WatchEvent,
)

Json = dict[str, Any]
A = Ref(CONFIG_MAPS, "n", "a")
TOKEN = "s3cr3t-bearer-token"
AUTHORITY = Authority.new("wire")


def config_map(version: int, name: str = "a", **data: str) -> Json:
    metadata = {"name": name, "namespace": "n", "resourceVersion": str(version)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def event(version: int, kind: str = "MODIFIED", **data: str) -> bytes:
    return orjson.dumps({"type": kind, "object": config_map(version, **data)}) + b"\n"


@asynccontextmanager
async def client_of(answer: Answer, *, seconds: float = 5.0) -> AsyncIterator[tuple[KubeClient, WireServer]]:
    """A client of a plain-HTTP server that answers like this."""
    async with wire(answer) as server:
        transport = Transport(f"http://127.0.0.1:{server.port}", authorization=f"Bearer {TOKEN}", seconds=seconds)
        client = KubeClient(transport)
        try:
            yield client, server
        finally:
            await client.close()


async def error_of(doing: Awaitable[object]) -> KubeError:
    with pytest.raises(KubeError) as caught:
        await doing
    assert TOKEN not in caught.value.message
    assert caught.value.__cause__ is None
    return caught.value


# --- answers ---------------------------------------------------------------------------------------------------
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
        async with asyncio.timeout(5):
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
        assert 0 < seconds < 5
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


ERROR_WITH_TOKEN = f'{{"type": "ERROR", "object": {{"code": 500, "message": "{TOKEN}"}}}}\n'.encode()


# --- watches ---------------------------------------------------------------------------------------------------
async def watched(client: KubeClient) -> tuple[list[WatchEvent], KubeError | None]:
    """All events of a watch and the error that ended it, if one did."""
    events: list[WatchEvent] = []
    try:
        async for found in client.watch(CONFIG_MAPS, resource_version="7"):
            events.append(found)  # noqa: PERF401 - what came before an error must not be lost
    except KubeError as error:
        return events, error
    return events, None


async def test_events_come_whole_however_the_network_cuts_them() -> None:
    long = event(9, filler="x" * 300_000)
    stream = event(8) + long
    pieces = [stream[:10], stream[10:200], stream[200:70_000], stream[70_000:]]
    async with client_of(raw(STREAM_HEAD + b"".join(map(chunk, pieces)) + LAST_CHUNK)) as (client, server):
        events, error = await watched(client)
    assert [found.object["metadata"]["resourceVersion"] for found in events] == ["8", "9"]
    assert len(events[1].object["data"]["filler"]) == 300_000
    assert error is None
    assert server.requests[0].target == (
        "/api/v1/configmaps?watch=1&allowWatchBookmarks=true&timeoutSeconds=290&resourceVersion=7"
    )


@pytest.mark.parametrize(
    ("tail", "kind", "words"),
    [
        (chunk(event(9)[:20]) + LAST_CHUNK, UnreachableError, "broke off in the middle of an event"),
        (chunk(event(9)[:20]), UnreachableError, "broke off in the middle"),
        (chunk(b"<html>\n"), UnreachableError, "HTML"),
        (chunk(b'{"type": "ERROR", "object": {"code": 410, "message": "too old"}}\n'), ExpiredError, "too old"),
        (chunk(b'{"type": "ERROR", "object": {"code": 500, "message": "etcd is gone"}}\n'), UnreachableError, "etcd"),
        (chunk(ERROR_WITH_TOKEN), UnreachableError, "[hidden]"),
        (chunk(b"x" * 1024 * 1024) * 17, UnreachableError, "event larger than 16 MiB"),
    ],
)
async def test_what_came_before_a_fault_is_kept(tail: bytes, kind: type[KubeError], words: str) -> None:
    async with client_of(raw(STREAM_HEAD + chunk(event(8)) + tail)) as (client, _):
        events, error = await watched(client)
    assert [found.object["metadata"]["resourceVersion"] for found in events] == ["8"]
    assert type(error) is kind
    assert words in error.message
    assert TOKEN not in error.message


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (replying({"kind": "Status", "code": 410, "message": "too old"}, 410), ExpiredError),
        (replying({"kind": "Status", "code": 403, "message": "no"}, 403), ForbiddenError),
        (replying(b"x", 503), UnreachableError),
        (replying(b"", 302), UnreachableError),
        (replying(b"<html></html>", 200, "text/html"), UnreachableError),
        (raw(b""), UnreachableError),
    ],
)
async def test_a_watch_that_does_not_even_begin_is_an_error(answer: Answer, kind: type[KubeError]) -> None:
    async with client_of(answer) as (client, _):
        events, error = await watched(client)
    assert events == []
    assert type(error) is kind


async def test_a_watch_that_never_begins_is_given_up_in_time() -> None:
    async with client_of(raw(b"", then_close=False), seconds=0.2) as (client, _):
        events, error = await watched(client)
    assert events == []
    assert error is not None
    assert error.message == "the server did not answer within 0.2 s"


async def test_a_watch_that_has_died_silently_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenantry.adapters.kube.client.SILENCE_SECONDS", 0.2)
    async with client_of(raw(STREAM_HEAD + chunk(event(8)), then_close=False)) as (client, _):
        events, error = await watched(client)
    assert len(events) == 1
    assert error is not None
    assert error.message == "the watch was silent for 0.2 s"


async def test_a_watch_that_is_left_ends_its_connection() -> None:
    async with client_of(raw(STREAM_HEAD + chunk(event(8)), then_close=False)) as (client, server):
        stream = client.watch(CONFIG_MAPS, resource_version="7")
        assert (await anext(stream)).object["metadata"]["resourceVersion"] == "8"
        await stream.aclose()
        async with asyncio.timeout(5):
            await server.hung_up.wait()


async def test_watches_keep_no_request_waiting() -> None:
    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD + chunk(event(8)) if "watch=1" in request.target else http_reply(config_map(1)))

    async with client_of(answer) as (client, _):
        streams = [client.watch(CONFIG_MAPS, resource_version="7") for _ in range(40)]
        for stream in streams:
            await anext(stream)
        assert await client.get(A) == config_map(1)
        for stream in streams:
            await stream.aclose()


# --- TLS and addresses -----------------------------------------------------------------------------------------
def credentials(port: int, *, ca: Authority = AUTHORITY, host: str = "localhost") -> TargetCredentials:
    text = kubeconfig_text("wire", f"https://{host}:{port}", ca.certificate_pem, {"token": TOKEN})
    return parse_kubeconfig(text, now=datetime.now(UTC))


async def error_of_connecting(to: TargetCredentials) -> KubeError:
    client = await connect(to, allow_loopback=True, seconds=5)
    try:
        return await error_of(client.get(A))
    finally:
        await client.close()


async def test_the_token_travels_only_to_a_server_that_the_ca_has_signed() -> None:
    tls = server_context(AUTHORITY, "localhost")
    async with wire(replying(config_map(1)), tls=tls) as server:
        client = await connect(credentials(server.port), allow_loopback=True)
        assert await client.get(A) == config_map(1)
        await client.close()
        assert server.requests[0].headers["authorization"] == f"Bearer {TOKEN}"
        assert server.requests[0].headers["user-agent"].startswith("tenantry/")
        error = await error_of_connecting(credentials(server.port, ca=Authority.new("other")))
        assert error.message == "the server's certificate is not signed by the kubeconfig's CA"
        assert len(server.requests) == 1


async def test_a_certificate_for_another_host_is_said_and_tls_server_name_helps() -> None:
    tls = server_context(AUTHORITY, "kubernetes.default")
    async with wire(replying(config_map(1)), tls=tls) as server:
        error = await error_of_connecting(credentials(server.port))
        assert "is for another host" in error.message
        named = replace(credentials(server.port), tls_server_name="kubernetes.default")
        client = await connect(named, allow_loopback=True)
        assert await client.get(A) == config_map(1)
        await client.close()


async def test_a_server_without_tls_is_said() -> None:
    async with wire(replying({})) as server:
        error = await error_of_connecting(credentials(server.port))
    assert isinstance(error, UnreachableError)
    assert error.message == "the server does not speak TLS"


def refuse_clients(listener: socket.socket, tls: ssl.SSLContext) -> None:
    """TLS handshakes that fail for want of a client certificate; blocking, as asyncio's servers send no alert."""
    for _ in range(2):  # aiohttp tries a GET twice
        connection, _ = listener.accept()
        with connection.dup() as still_open:  # else the alert may be lost in a reset
            with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
                tls.wrap_socket(connection, server_side=True)
            still_open.settimeout(5)
            while still_open.recv(4096):
                pass


async def test_a_server_that_wants_a_client_certificate_refuses_the_credentials() -> None:
    tls = server_context(AUTHORITY, "localhost")
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_verify_locations(cadata=AUTHORITY.certificate_pem)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        refusing = asyncio.create_task(asyncio.to_thread(refuse_clients, listener, tls))
        error = await error_of_connecting(credentials(listener.getsockname()[1]))
        await refusing
    assert isinstance(error, UnauthorizedError)
    assert error.message == "the server does not accept the client certificate"
    pair = AUTHORITY.client("operator")
    keys = (pair.certificate_pem.encode(), pair.key_pem.encode())
    async with wire(replying(config_map(1)), tls=tls) as server:
        certified = replace(credentials(server.port), client_certificate_pem=keys[0], client_key_pem=keys[1])
        client = await connect(certified, allow_loopback=True)
        assert await client.get(A) == config_map(1)
        await client.close()


async def test_loopback_is_dialled_only_where_it_is_allowed() -> None:
    async with wire(replying({}), tls=server_context(AUTHORITY, "localhost")) as server:
        for host in ("localhost", "127.0.0.1"):
            with pytest.raises(AddressRefused):
                await connect(credentials(server.port, host=host), allow_loopback=False)
        assert server.requests == []


async def test_the_address_that_was_judged_is_dialled_whatever_dns_says_later() -> None:
    async def first_answer(host: str, _port: int) -> list[str]:
        assert host == "rebound.example"
        return ["127.0.0.1"]

    async with wire(replying(config_map(1)), tls=server_context(AUTHORITY, "rebound.example")) as server:
        to = credentials(server.port, host="rebound.example")
        client = await connect(to, allow_loopback=True, lookup=first_answer)
        assert await client.get(A) == config_map(1)  # DNS knows no such name: only the pinned address leads there
        assert server.requests[0].headers["host"] == f"rebound.example:{server.port}"
        await client.close()
