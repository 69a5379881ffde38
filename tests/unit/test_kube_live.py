"""The cache of live objects: newest wins, the dead stay dead, and nobody is told of their own doing."""

from __future__ import annotations

import tracemalloc
from typing import Any

import orjson
import pytest

from tenantry.adapters.kube.live import LiveCache
from tenantry.api.names import LABEL_MANAGEMENT_ID, LABEL_TENANT_HASH
from tenantry.api.resources import CONFIG_MAPS, NAMESPACES, Ref
from tenantry.ports.kube import WatchEvent

Json = dict[str, Any]
A = Ref(CONFIG_MAPS, "shop", "a")
STAMP = (LABEL_MANAGEMENT_ID, "m1")


class Told:
    """What `on_change` was called with: (name, tenant hash, version or None)."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, str | None]] = []

    def __call__(self, ref: Ref, tenant_hash: str, body: Json | None) -> None:
        self.calls.append((ref.name, tenant_hash, body["metadata"]["resourceVersion"] if body else None))


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def cache(told: Told) -> LiveCache:
    cache = LiveCache(told, stamp=STAMP)
    cache.replace_all(CONFIG_MAPS, [], "1")  # so that the first list is over
    return cache


def body(version: int, *, name: str = "a", uid: str = "u1", tenant: str = "aaaaaaaa", stamped: bool = True) -> Json:
    labels = {LABEL_TENANT_HASH: tenant} | ({STAMP[0]: STAMP[1]} if stamped else {})
    metadata = {"name": name, "namespace": "shop", "uid": uid, "resourceVersion": str(version), "labels": labels}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"n": str(version)}}


def event(kind: str, version: int, **changes: Any) -> WatchEvent:
    return WatchEvent(kind, body(version, **changes))


def version_in(cache: LiveCache, ref: Ref = A) -> str | None:
    found = cache.get(ref)
    return found["metadata"]["resourceVersion"] if found else None


# --- reading --------------------------------------------------------------------------------------------------
def test_objects_come_back_as_fresh_copies_without_managed_fields(cache: LiveCache) -> None:
    original = body(5)
    original["metadata"]["managedFields"] = [{"manager": "kubectl"}]
    cache.observe(original)
    first = cache.get(A)
    assert first == body(5)
    first["data"]["n"] = "changed"
    assert cache.get(A) == body(5)
    assert "managedFields" in original["metadata"]


def test_objects_are_found_by_tenant_and_by_kind(cache: LiveCache) -> None:
    cache.observe(body(5, name="b", tenant="bbbbbbbb"))
    cache.observe(body(6, name="a"))
    namespace = body(7, name="shop")
    namespace.update(kind="Namespace")
    del namespace["metadata"]["namespace"]
    cache.observe(namespace)
    assert [found["metadata"]["name"] for found in cache.of_tenant("aaaaaaaa")] == ["a", "shop"]
    assert [found["metadata"]["name"] for found in cache.all(CONFIG_MAPS)] == ["a", "b"]
    assert cache.get(Ref(NAMESPACES, "", "shop")) == namespace
    assert cache.of_tenant("cccccccc") == []
    assert cache.tenants() == {"aaaaaaaa", "bbbbbbbb"}


def test_a_changed_tenant_label_moves_the_object_and_tells_both(cache: LiveCache, told: Told) -> None:
    cache.observe(body(5))
    cache.take_event(CONFIG_MAPS, event("MODIFIED", 6, tenant="bbbbbbbb"))
    assert cache.of_tenant("aaaaaaaa") == []
    assert cache.of_tenant("bbbbbbbb") == [body(6, tenant="bbbbbbbb")]
    assert told.calls == [("a", "aaaaaaaa", None), ("a", "bbbbbbbb", "6")]


# --- versions -------------------------------------------------------------------------------------------------
def test_an_older_answer_never_overwrites_a_newer_event(cache: LiveCache) -> None:
    cache.take_event(CONFIG_MAPS, event("MODIFIED", 10))
    cache.observe(body(9))
    assert version_in(cache) == "10"


def test_versions_compare_as_numbers_not_as_text(cache: LiveCache) -> None:
    cache.take_event(CONFIG_MAPS, event("MODIFIED", 9))
    cache.take_event(CONFIG_MAPS, event("MODIFIED", 10))
    assert version_in(cache) == "10"


def test_a_late_answer_does_not_raise_the_dead(cache: LiveCache, told: Told) -> None:
    cache.take_event(CONFIG_MAPS, event("ADDED", 5))
    cache.take_event(CONFIG_MAPS, event("DELETED", 8))
    cache.observe(body(7))
    assert cache.get(A) is None
    assert cache.of_tenant("aaaaaaaa") == []
    assert told.calls[-1] == ("a", "aaaaaaaa", None)


def test_a_namesake_made_after_the_deletion_is_taken(cache: LiveCache) -> None:
    cache.take_event(CONFIG_MAPS, event("DELETED", 8))
    cache.observe(body(9, uid="u2"))
    assert version_in(cache) == "9"


def test_the_late_deletion_of_a_predecessor_does_not_take_the_successor(cache: LiveCache, told: Told) -> None:
    cache.observe(body(9, uid="u2"))
    cache.take_event(CONFIG_MAPS, event("DELETED", 8))
    assert version_in(cache) == "9"
    assert told.calls == []


def test_late_events_of_an_object_that_we_deleted_change_nothing(cache: LiveCache, told: Told) -> None:
    cache.observe(body(5))
    cache.forget(A, uid="u1")
    cache.take_event(CONFIG_MAPS, event("MODIFIED", 6))
    cache.take_event(CONFIG_MAPS, event("DELETED", 7))
    assert cache.get(A) is None
    assert told.calls == []
    cache.take_event(CONFIG_MAPS, event("ADDED", 8, uid="u2"))
    assert version_in(cache) == "8"


def test_forgetting_one_object_leaves_its_namesake(cache: LiveCache) -> None:
    cache.observe(body(9, uid="u2"))
    cache.forget(A, uid="u1")
    assert version_in(cache) == "9"
    cache.forget(A)
    assert version_in(cache) is None


@pytest.mark.parametrize("version", [5, 6], ids=["unchanged", "changed"])
def test_an_object_forgotten_by_mistake_is_back_with_the_next_list(cache: LiveCache, told: Told, version: int) -> None:
    cache.observe(body(5))
    cache.forget(A, uid="u1")
    cache.take_event(CONFIG_MAPS, event("MODIFIED", version))
    assert version_in(cache) is None, "an event may be an old one"
    cache.replace_all(CONFIG_MAPS, [body(version)], "6", since=cache.mark())
    assert version_in(cache) == str(version)
    assert told.calls == [("a", "aaaaaaaa", str(version))], "else nobody would look after it"


def test_a_list_that_was_asked_for_before_an_object_was_forgotten_does_not_bring_it_back(cache: LiveCache) -> None:
    cache.observe(body(5))
    asked = cache.mark()
    cache.forget(A, uid="u1")
    cache.replace_all(CONFIG_MAPS, [body(5)], "6", since=asked)
    assert version_in(cache) is None


# --- the stamp ------------------------------------------------------------------------------------------------
def test_an_object_that_no_watch_selects_is_not_kept(cache: LiveCache) -> None:
    cache.observe(body(5, stamped=False))
    assert cache.get(A) is None


def test_an_object_that_loses_its_stamp_and_gets_it_back_goes_and_comes(cache: LiveCache, told: Told) -> None:
    cache.observe(body(5))
    cache.take_event(CONFIG_MAPS, event("DELETED", 6, stamped=False))  # how a watch with a selector says it
    assert cache.get(A) is None
    cache.observe(body(7))  # our apply put the label back; the object is the same one
    assert version_in(cache) == "7"
    assert told.calls == [("a", "aaaaaaaa", None)]


# --- whom it tells --------------------------------------------------------------------------------------------
def test_somebody_elses_change_is_told_and_our_own_echo_is_not(cache: LiveCache, told: Told) -> None:
    with cache.writing(A):
        cache.observe(body(5))
    cache.take_event(CONFIG_MAPS, event("ADDED", 5))
    assert told.calls == []
    cache.take_event(CONFIG_MAPS, event("MODIFIED", 6))
    assert told.calls == [("a", "aaaaaaaa", "6")]


def test_an_echo_that_comes_before_the_answer_is_told_to_nobody(cache: LiveCache, told: Told) -> None:
    with cache.writing(A):
        cache.take_event(CONFIG_MAPS, event("ADDED", 5))
        assert version_in(cache) == "5"
        cache.observe(body(5))
    assert told.calls == []


def test_a_change_behind_our_own_that_comes_before_the_answer_is_told_after_it(cache: LiveCache, told: Told) -> None:
    with cache.writing(A):
        cache.take_event(CONFIG_MAPS, event("ADDED", 5))
        cache.take_event(CONFIG_MAPS, event("MODIFIED", 6))
        cache.observe(body(5))
        assert told.calls == []
    assert told.calls == [("a", "aaaaaaaa", "6")]


def test_a_change_before_our_own_write_is_contained_in_its_answer(cache: LiveCache, told: Told) -> None:
    with cache.writing(A):
        cache.take_event(CONFIG_MAPS, event("MODIFIED", 5))
        cache.observe(body(6))
    assert told.calls == []


def test_what_came_during_a_write_that_failed_is_told(cache: LiveCache, told: Told) -> None:
    def failing_write() -> None:
        with cache.writing(A):
            cache.take_event(CONFIG_MAPS, event("MODIFIED", 5))
            raise OSError("broken")

    with pytest.raises(OSError, match="broken"):
        failing_write()
    assert told.calls == [("a", "aaaaaaaa", "5")]


def test_the_telling_waits_for_the_last_of_several_writers(cache: LiveCache, told: Told) -> None:
    with cache.writing(A):
        with cache.writing(A):
            cache.take_event(CONFIG_MAPS, event("MODIFIED", 7))
            cache.observe(body(5))
        assert told.calls == []
        cache.observe(body(6))
    assert told.calls == [("a", "aaaaaaaa", "7")]


def test_the_echo_of_our_own_delete_is_told_to_nobody(cache: LiveCache, told: Told) -> None:
    cache.observe(body(5))
    with cache.writing(A):
        cache.take_event(CONFIG_MAPS, event("DELETED", 6))
        cache.forget(A, uid="u1")
    assert told.calls == []
    assert cache.get(A) is None


def test_a_namesake_made_by_another_during_our_delete_is_told(cache: LiveCache, told: Told) -> None:
    cache.observe(body(5))
    with cache.writing(A):
        cache.take_event(CONFIG_MAPS, event("DELETED", 6))
        cache.take_event(CONFIG_MAPS, event("ADDED", 7, uid="u2"))
        cache.forget(A, uid="u1")
    assert told.calls == [("a", "aaaaaaaa", "7")]


def test_a_deletion_by_another_during_our_write_is_told(cache: LiveCache, told: Told) -> None:
    with cache.writing(A):
        cache.take_event(CONFIG_MAPS, event("ADDED", 5))
        cache.take_event(CONFIG_MAPS, event("DELETED", 6))
        cache.observe(body(5))
    assert told.calls == [("a", "aaaaaaaa", None)]
    assert cache.get(A) is None


# --- lists ----------------------------------------------------------------------------------------------------
def test_the_first_list_of_a_kind_is_told_to_nobody(told: Told) -> None:
    cache = LiveCache(told)
    cache.replace_all(CONFIG_MAPS, [body(5)], "9")
    assert version_in(cache) == "5"
    assert told.calls == []


def test_a_list_finds_what_the_watch_has_missed(cache: LiveCache, told: Told) -> None:
    cache.replace_all(CONFIG_MAPS, [body(5), body(6, name="b"), body(7, name="c")], "9")
    told.calls.clear()
    cache.replace_all(CONFIG_MAPS, [body(5), body(11, name="b"), body(12, name="d")], "15")
    assert sorted(told.calls) == [("b", "aaaaaaaa", "11"), ("c", "aaaaaaaa", None), ("d", "aaaaaaaa", "12")]
    assert [found["metadata"]["name"] for found in cache.all(CONFIG_MAPS)] == ["a", "b", "d"]


def test_a_list_older_than_our_own_write_does_not_take_the_object_away(cache: LiveCache) -> None:
    since = cache.mark()
    cache.observe(body(12))  # answered while the list was under way
    cache.replace_all(CONFIG_MAPS, [], "10", since=since)
    assert version_in(cache) == "12"


def test_a_list_older_than_a_deletion_does_not_raise_the_dead(cache: LiveCache) -> None:
    since = cache.mark()
    cache.take_event(CONFIG_MAPS, event("DELETED", 12))
    cache.replace_all(CONFIG_MAPS, [body(5)], "10", since=since)
    assert cache.get(A) is None


def test_an_old_answer_after_a_list_without_the_object_does_not_raise_the_dead(cache: LiveCache) -> None:
    cache.observe(body(5))
    cache.replace_all(CONFIG_MAPS, [], "10")
    cache.observe(body(7))
    assert cache.get(A) is None


def test_an_answer_older_than_a_list_without_the_object_is_of_a_dead_one_that_was_never_seen(cache: LiveCache) -> None:
    cache.replace_all(CONFIG_MAPS, [], "10")
    cache.observe(body(7))
    assert cache.get(A) is None
    cache.observe(body(11))
    assert version_in(cache) == "11"


def test_a_list_of_one_namespace_leaves_the_others(cache: LiveCache) -> None:
    cache.observe(body(5))
    cache.replace_all(CONFIG_MAPS, [], "10", namespace="other")
    assert version_in(cache) == "5"
    cache.replace_all(CONFIG_MAPS, [], "10", namespace="shop")
    assert cache.get(A) is None


def test_a_server_restored_from_a_backup_is_believed(cache: LiveCache, told: Told) -> None:
    cache.observe(body(500))
    cache.observe(body(501, name="b"))
    cache.replace_all(CONFIG_MAPS, [body(40)], "50", since=cache.mark())
    assert version_in(cache) == "40"
    assert [found["metadata"]["name"] for found in cache.all(CONFIG_MAPS)] == ["a"]
    assert sorted(told.calls) == [("a", "aaaaaaaa", "40"), ("b", "aaaaaaaa", None)]
    cache.take_event(CONFIG_MAPS, event("MODIFIED", 51))
    assert version_in(cache) == "51"


def test_tombstones_do_not_pile_up(cache: LiveCache) -> None:
    for number in range(100):
        cache.take_event(CONFIG_MAPS, event("DELETED", 10 + number, name=f"n{number}"))
    cache.replace_all(CONFIG_MAPS, [], "200", since=cache.mark())
    assert len(cache._kinds[CONFIG_MAPS]) == 0


def test_bookmarks_are_not_objects(cache: LiveCache, told: Told) -> None:
    cache.take_event(CONFIG_MAPS, WatchEvent("BOOKMARK", {"metadata": {"resourceVersion": "99"}}))
    assert cache.all(CONFIG_MAPS) == []
    assert told.calls == []


def test_an_object_in_the_cache_takes_little_more_memory_than_its_json() -> None:
    objects = [body(number + 1, name=f"n{number}") for number in range(500)]
    size = sum(len(orjson.dumps(found)) for found in objects)
    cache = LiveCache(lambda _ref, _tenant, _body: None)
    tracemalloc.start()
    try:
        for found in objects:
            cache.observe(found)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < size + 500 * 1000
