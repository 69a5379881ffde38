"""General rules of the cache of live objects, over any interleaving of events, answers and lists."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tenantry.adapters.kube.live import LiveCache
from tenantry.api.names import LABEL_TENANT_HASH
from tenantry.api.resources import CONFIG_MAPS, Ref
from tenantry.ports.kube import WatchEvent

Json = dict[str, Any]
NAMES = ("a", "b")


def body(name: str, uid: int, version: int) -> Json:
    metadata = {"name": name, "namespace": "n", "uid": str(uid), "resourceVersion": str(version)}
    metadata_with_label = {**metadata, "labels": {LABEL_TENANT_HASH: f"tenant-{name}"}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata_with_label}


class Server:
    """A history of two objects, and all that a client may hear of it: each in order of its channel, late or not."""

    def __init__(self) -> None:
        self.version = 1
        self.live: dict[str, Json] = {}
        self.events: list[WatchEvent] = []
        self.answers: list[Json] = []

    def write(self, name: str, *, own: bool) -> None:
        self.version += 1
        before = self.live.get(name)
        uid = int(before["metadata"]["uid"]) if before else self.version
        self.live[name] = body(name, uid, self.version)
        self.events.append(WatchEvent("MODIFIED" if before else "ADDED", self.live[name]))
        if own:
            self.answers.append(self.live[name])

    def delete(self, name: str) -> None:
        if name in self.live:
            self.version += 1
            gone = self.live.pop(name)
            self.events.append(WatchEvent("DELETED", body(name, int(gone["metadata"]["uid"]), self.version)))


class Client:
    """Hears of the server's history in any order that is possible, and checks what must hold at every moment."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.told: list[tuple[str, int | None]] = []
        self.cache = LiveCache(self.on_change)
        self.cache.replace_all(CONFIG_MAPS, [], "1")
        self.heard = 0
        self.lists: list[tuple[list[Json], int, int]] = []
        self.seen: dict[str, int] = {}

    def on_change(self, ref: Ref, tenant_hash: str, found: Json | None) -> None:
        assert tenant_hash == f"tenant-{ref.name}"
        assert found == self.cache.get(ref)
        self.told.append((ref.name, int(found["metadata"]["resourceVersion"]) if found else None))

    def hear_event(self) -> None:
        if self.heard < len(self.server.events):
            self.cache.take_event(CONFIG_MAPS, self.server.events[self.heard])
            self.heard += 1

    def hear_answer(self, position: int) -> None:
        if self.server.answers:
            self.cache.observe(self.server.answers.pop(position % len(self.server.answers)))

    def ask_list(self) -> None:
        self.lists.append((list(self.server.live.values()), self.server.version, self.cache.mark()))

    def hear_list(self) -> None:
        if self.lists:
            items, version, since = self.lists.pop(0)
            self.cache.replace_all(CONFIG_MAPS, items, str(version), since=since)
            # from here on a watch would be resumed at the list's version
            while self.heard < len(self.server.events) and version_of(self.server.events[self.heard].object) <= version:
                self.heard += 1

    def check(self) -> None:
        for name in NAMES:
            found = self.cache.get(Ref(CONFIG_MAPS, "n", name))
            if found:
                assert version_of(found) >= self.seen.get(name, 0), "went back in time"
                self.seen[name] = version_of(found)


def version_of(found: Json) -> int:
    return int(found["metadata"]["resourceVersion"])


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["own", "foreign", "delete", "event", "event", "answer", "ask", "list"]), st.integers(0, 3)
    ),
    max_size=60,
)


def take_step(step: str, number: int, server: Server, client: Client) -> None:
    name = NAMES[number % 2]
    match step:
        case "own" | "foreign":
            server.write(name, own=step == "own")
        case "delete":
            server.delete(name)
        case "event":
            client.hear_event()
        case "answer":
            client.hear_answer(number)
        case "ask":
            client.ask_list()
        case _:
            client.hear_list()


@settings(max_examples=200)
@given(STEPS)
@example([("own", 0), ("delete", 0), ("ask", 0), ("list", 0)])
def test_in_the_end_the_newest_is_kept_and_the_dead_are_dead(steps: list[tuple[str, int]]) -> None:
    server = Server()
    client = Client(server)
    for step, number in steps:
        take_step(step, number, server, client)
        client.check()
    while client.heard < len(server.events):
        client.hear_event()
    while server.answers:  # the latest of all
        client.hear_answer(0)
    client.check()
    assert {found["metadata"]["name"]: found for found in client.cache.all(CONFIG_MAPS)} == server.live
    for name in NAMES:
        there = [server.live[name]] if name in server.live else []
        assert client.cache.of_tenant(f"tenant-{name}") == there


@settings(max_examples=200)
@given(STEPS)
def test_all_that_others_do_is_told_and_nothing_that_we_do(steps: list[tuple[str, int]]) -> None:
    server = Server()
    client = Client(server)
    own: dict[str, int] = {}
    for step, number in steps:
        name = NAMES[number % 2]
        if step == "own":  # its echo, and whatever else was not heard yet, comes while the write is under way, or later
            with client.cache.writing(Ref(CONFIG_MAPS, "n", name)):
                server.write(name, own=True)
                for _ in range(number):
                    client.hear_event()
                own[name] = server.version
                client.hear_answer(0)
        elif step not in {"answer", "ask", "list"}:
            take_step(step, number, server, client)
        assert not set(own.items()) & set(client.told)
    while client.heard < len(server.events):
        client.hear_event()
    for name in NAMES:
        history = [event for event in server.events if event.object["metadata"]["name"] == name]
        if history and version_of(history[-1].object) != own.get(name):
            last = version_of(history[-1].object) if name in server.live else None
            assert [call for call in client.told if call[0] == name][-1] == (name, last)
