"""The client's watches: cut, broken off, silent, hostile."""

from __future__ import annotations

import asyncio

import pytest
from tests.integration.answering import TOKEN, A, client_of, config_map, event
from tests.integration.wire import (
    LAST_CHUNK,
    STREAM_HEAD,
    Answer,
    Request,
    chunk,
    http_reply,
    raw,
    replying,
)

from tenantry.adapters.kube.client import KubeClient
from tenantry.api.resources import CONFIG_MAPS
from tenantry.ports.kube import ExpiredError, ForbiddenError, KubeError, UnreachableError, WatchEvent

ERROR_WITH_TOKEN = f'{{"type": "ERROR", "object": {{"code": 500, "message": "{TOKEN}"}}}}\n'.encode()


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
