"""Drift: what the API server makes of an object is no change, and whatever anybody else makes of it is one."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.strategies import blueprints, calmly

from tenantry.api.names import ANNOTATION_DESIRED_HASH
from tenantry.decide.drift import desired_hash, in_sync, with_desired_hash
from tenantry.decide.quantities import parse_quantity
from tenantry.desired.blueprint import Blueprint
from tenantry.desired.environment import env_secret, info_config_map
from tenantry.desired.ingress import ingresses
from tenantry.desired.namespace import namespace
from tenantry.desired.network import network_policies
from tenantry.desired.quota import limit_range, resource_quota
from tenantry.desired.rbac import operator_binding, service_account, tenant_bindings

Json = dict[str, Any]
Path = tuple[str | int, ...]

QUANTITY_PATHS = ("hard", "default", "defaultRequest", "max")


def objects(blueprint: Blueprint) -> list[Json]:
    """All that a tenant has, with digests."""
    bodies = [
        namespace(blueprint),
        operator_binding(blueprint.identity, blueprint.namespace),
        limit_range(blueprint),
        *network_policies(blueprint),
        service_account(blueprint),
        info_config_map(blueprint),
        resource_quota(blueprint),
        *tenant_bindings(blueprint),
        *ingresses(blueprint),
        env_secret(blueprint),
    ]
    return [with_desired_hash(body) for body in bodies]


def stored(body: Json) -> Json:
    """The object as an API server gives it back: defaults added, quantities in canonical form, empty maps left out."""
    live = copy.deepcopy(body)
    live["metadata"] |= {"uid": "u", "resourceVersion": "7", "creationTimestamp": "2026-01-01T00:00:00Z"}
    live["metadata"]["labels"]["kubernetes.io/metadata.name"] = "added"
    for path in [path for path, _ in leaves(live) if any(name in QUANTITY_PATHS for name in path)]:
        put(live, path, canonical(at(live, path)))
    if live["kind"] == "Namespace":
        live |= {"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}
    return {key: value for key, value in live.items() if value not in ({}, [])}


def canonical(value: str | int) -> str:
    """The same quantity as the API server spells it in a list of resources: whole, or rounded up to thousandths."""
    number = parse_quantity(value)
    return str(int(number)) if number == int(number) else f"{math.ceil(number * 1000)}m"


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every value that is no non-empty map or list, with its path."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if not value or not isinstance(value, dict | list):
        yield path, value
    for key, inner in items:
        yield from leaves(inner, (*path, key))


def at(body: Any, path: Path) -> Any:
    for key in path:
        body = body[key]
    return body


def put(body: Any, path: Path, value: Any) -> None:
    at(body, path[:-1])[path[-1]] = value


@calmly
@given(blueprints())
def test_what_the_api_server_makes_of_an_object_is_no_drift(blueprint: Blueprint) -> None:
    for body in objects(blueprint):
        assert in_sync(body, stored(body)), body


@calmly
@given(blueprints(), st.data())
def test_any_single_change_or_removal_is_drift(blueprint: Blueprint, data: st.DataObject) -> None:
    body = data.draw(st.sampled_from(objects(blueprint)))
    paths = [path for path, value in leaves(body) if value not in ({}, [], None)]
    path = data.draw(st.sampled_from(paths))
    for spoil in (changed, removed):
        live = stored(body)
        spoil(live, path)
        assert not in_sync(body, live), (spoil, path)


def changed(live: Json, path: Path) -> None:
    value = at(live, path)
    put(live, path, not value if isinstance(value, bool) else f"{value}1")


def removed(live: Json, path: Path) -> None:
    del at(live, path[:-1])[path[-1]]


@calmly
@given(blueprints(), st.data())
def test_whatever_is_added_to_a_list_or_to_an_entry_of_it_is_drift(blueprint: Blueprint, data: st.DataObject) -> None:
    body = data.draw(st.sampled_from([each for each in objects(blueprint) if "spec" in each or "subjects" in each]))
    live = stored(body)
    spots = [spot for spot in containers(live) if isinstance(spot[0], list) or spot[1]]
    if not spots:
        return
    spot, _ = data.draw(st.sampled_from(spots))
    if isinstance(spot, list):
        spot.append(copy.deepcopy(spot[0]) if spot else {})
    else:
        spot["added"] = {"by": "somebody"}
    assert not in_sync(body, live)


def containers(value: Any, inside: bool = False) -> Iterator[tuple[Any, bool]]:
    """Every map and list, and whether it is inside of a list."""
    if isinstance(value, dict | list):
        yield value, inside
        for inner in value.values() if isinstance(value, dict) else value:
            yield from containers(inner, inside or isinstance(value, list))


OPENINGS: dict[str, Callable[[Json], Json]] = {
    "the policy is for some pods only": lambda spec: {**spec, "podSelector": {"matchLabels": {"app": "x"}}},
    "every namespace may come in": lambda spec: {**spec, "ingress": [{"from": [{"namespaceSelector": {}}]}]},
    "the same pods in every namespace": lambda spec: {
        **spec,
        "ingress": [{"from": [{"podSelector": {}, "namespaceSelector": {}}]}],
    },
    "anything may go out": lambda spec: {**spec, "egress": [*spec["egress"], {}]},
}


@pytest.mark.parametrize("opening", OPENINGS)
def test_an_isolation_that_somebody_opened_is_drift(opening: str) -> None:
    spec = {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [{"podSelector": {}}]}],
        "egress": [{"to": [{"podSelector": {}}]}],
    }
    desired = {"kind": "NetworkPolicy", "metadata": {"name": "tenant-isolation"}, "spec": spec}
    assert in_sync(desired, desired)
    assert not in_sync(desired, {**desired, "spec": OPENINGS[opening](spec)})


def test_a_field_that_is_wanted_no_more_is_noticed_although_all_that_is_wanted_is_there() -> None:
    before = with_desired_hash({"kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"kept": "1", "dropped": "2"}})
    after = with_desired_hash({"kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"kept": "1"}})
    assert not in_sync(after, before)


def test_a_key_taken_out_of_a_secret_is_noticed_and_no_value_is_in_the_digest() -> None:
    two: Json = {"kind": "Secret", "metadata": {"name": "a"}, "data": {"kept": "MQ==", "dropped": "Mg=="}}
    one: Json = {**two, "data": {"kept": "MQ=="}}
    assert not in_sync(with_desired_hash(one), with_desired_hash(two))
    assert desired_hash(one) == desired_hash({**two, "data": {"kept": "OTk="}})
    assert not in_sync(with_desired_hash(one), with_desired_hash({**two, "data": {"kept": "OTk="}}))


def test_the_digest_is_added_to_a_copy() -> None:
    body: Json = {"kind": "ConfigMap", "metadata": {"name": "a", "annotations": {"b": "c"}}, "data": {}}
    kept = copy.deepcopy(body)
    assert with_desired_hash(body)["metadata"]["annotations"] == {"b": "c", ANNOTATION_DESIRED_HASH: desired_hash(body)}
    assert body == kept


@pytest.mark.parametrize("own", [{"hard": {"pods": "5"}}, {"limits": [{"max": {"cpu": "2"}}]}])
def test_only_quantities_may_be_spelled_differently(own: Json) -> None:
    assert not in_sync({"data": {"x": "1000m"}}, {"data": {"x": "1"}})
    assert in_sync({"spec": {"hard": {"x": "1000m"}}}, {"spec": {"hard": {"x": "1"}}})
    assert not in_sync({"spec": own}, {"spec": {}})
