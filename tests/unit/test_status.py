"""The patch of a status: applied to what is there it gives what is wanted; where nothing differs there is none."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager
from typing import Any, cast

from hypothesis import example, given
from hypothesis import strategies as st
from tests.unit.strategies import calmly

from tenantry.api.cluster import ClusterStatus
from tenantry.api.conditions import Condition
from tenantry.api.resources import CLUSTERS, Ref, Resource
from tenantry.ports.kube import Kube, NotFoundError
from tenantry.ports.world import Json
from tenantry.reconcile.status import _difference, write_status

EU = Ref(CLUSTERS, "", "eu-1")

keys = st.sampled_from(["a", "b", "c"])
leaves = st.none() | st.booleans() | st.integers(-1, 2) | st.sampled_from(["", "x", "y"])
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(leaves.filter(lambda leaf: leaf is not None), max_size=2) | st.dictionaries(keys, inner, max_size=3)
    ),
    max_leaves=6,
)
statuses = st.dictionaries(keys, values, max_size=3)


def merged(have: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    result = dict(have) if isinstance(have, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def meant(value: Any) -> Any:
    """With absent, None and empty as one, all the way down."""
    if isinstance(value, dict):
        inner = {key: meant(each) for key, each in value.items()}
        return {key: each for key, each in inner.items() if each is not None} or None
    return None if value in ("", []) else value


@calmly
@given(statuses, statuses)
@example({"tenants": 0}, {"tenants": None})
@example({"a": {"b": 1}}, {"a": {}})
@example({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}})
@example({"a": "x"}, {"a": {"b": None}})
def test_applied_to_what_is_there_the_patch_gives_what_is_wanted(have: Json, want: Json) -> None:
    patch = _difference(copy.deepcopy(have), copy.deepcopy(want))
    assert meant(merged(have, patch)) == meant(want)


@calmly
@given(statuses, statuses)
def test_there_is_a_patch_exactly_where_something_differs(have: Json, want: Json) -> None:
    assert bool(_difference(have, want)) == (meant(have) != meant(want))
    assert not _difference(merged(have, _difference(have, want)), want)


class Store:
    """One object on an API server and in the cache."""

    def __init__(self, status: Json | None) -> None:
        self.body: Json | None = {"metadata": {"name": "eu-1", "uid": "u1"}, "status": status}
        self.patches: list[Json] = []
        self.gone = False

    def get(self, ref: Ref) -> Json | None:  # noqa: ARG002 - there is one object
        return copy.deepcopy(self.body)

    def observe(self, body: Json) -> None:
        self.body = body

    def forget(self, ref: Ref, *, uid: str = "") -> None:  # noqa: ARG002 - there is one object
        self.body = None

    async def merge_patch(self, ref: Ref, patch: Json, *, subresource: str = "") -> Json:
        assert (ref, subresource) == (EU, "status")
        if self.gone:
            raise NotFoundError("gone", status=404)
        self.patches.append(patch)
        return dict(merged(self.body, patch))

    def of_tenant(self, tenant_hash: str) -> list[Json]:
        raise NotImplementedError(tenant_hash)

    def all(self, resource: Resource) -> list[Json]:
        raise NotImplementedError(resource)

    def writing(self, ref: Ref) -> AbstractContextManager[None]:
        raise NotImplementedError(ref)


def status(**fields: Any) -> ClusterStatus:
    return ClusterStatus.model_validate(fields)


async def written(store: Store, wanted: ClusterStatus) -> bool:
    return await write_status(cast("Kube", store), store, EU, wanted)


async def test_the_second_time_nothing_is_written() -> None:
    ready = Condition(type="Ready", status="True", reason="Ready", last_transition_time="2026-01-01T00:00:00Z")
    store, wanted = Store({"observedGeneration": -1}), status(observedGeneration=1, conditions=[ready], tenants=0)
    assert await written(store, wanted)
    assert not await written(store, wanted)
    assert len(store.patches) == 1


async def test_only_what_differs_is_written() -> None:
    store = Store({"observedGeneration": 1, "version": "v1.36.3", "tenants": 3})
    assert await written(store, status(observedGeneration=1, version="v1.36.3", tenants=4))
    assert store.patches == [{"status": {"tenants": 4}}]


async def test_an_object_that_is_gone_is_no_error_and_is_forgotten() -> None:
    store = Store({})
    store.gone = True
    assert not await written(store, status(observedGeneration=2))
    assert store.body is None
    assert not await written(store, status(observedGeneration=2))
