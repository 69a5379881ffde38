"""The client against a real API server: verbs, preconditions, errors, and what it sends by the audit log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.controlplane.access import ClusterAccess

from tenantry.adapters.kube.client import PAGE, KubeClient, connect
from tenantry.adapters.kube.kubeconfig import parse_kubeconfig
from tenantry.adapters.kube.refusal import KubeconfigReason, KubeconfigRefused
from tenantry.api.resources import ACCESS_REVIEWS, CONFIG_MAPS, NAMESPACES, TENANTS, Ref
from tenantry.ports.kube import (
    AlreadyExistsError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    UnauthorizedError,
)

Json = dict[str, Any]


async def client_for(kubeconfig: str) -> KubeClient:
    return await connect(parse_kubeconfig(kubeconfig, now=datetime.now(UTC)), allow_loopback=True)


@pytest.fixture
async def kube(target: ClusterAccess) -> AsyncIterator[KubeClient]:
    client = await client_for(target.kubeconfig)
    yield client
    await client.close()


@pytest.fixture
def room(target: ClusterAccess, name_prefix: str) -> Iterator[str]:
    """A namespace on the target."""
    name = f"{name_prefix}-room"
    target.kubectl("create", "namespace", name)
    yield name
    target.kubectl("delete", "namespace", name, "--wait=false")


def config_map(namespace: str, name: str = "a", **data: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "labels": {"room": namespace}},
        "data": data,
    }


async def test_the_version_is_the_servers(kube: KubeClient) -> None:
    assert (await kube.version()).startswith("v1.")


async def test_an_object_is_made_once_read_and_taken_away(kube: KubeClient, room: str) -> None:
    ref = Ref(CONFIG_MAPS, room, "a")
    with pytest.raises(NotFoundError) as missing:
        await kube.get(ref)
    assert (missing.value.status, missing.value.reason) == (404, "NotFound")
    made = await kube.create(config_map(room, a="1"))
    assert made["metadata"]["uid"]
    assert await kube.get(ref) == made
    with pytest.raises(AlreadyExistsError):
        await kube.create(config_map(room))
    await kube.delete(ref)
    await kube.delete(ref)
    with pytest.raises(NotFoundError):
        await kube.get(ref)


async def test_apply_makes_changes_and_takes_back_what_is_no_longer_said(kube: KubeClient, room: str) -> None:
    made = await kube.apply(config_map(room, a="1", b="2"))
    again = await kube.apply(config_map(room, a="1", b="2"))
    assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    changed = await kube.apply(config_map(room, a="3"))
    assert changed["data"] == {"a": "3"}
    assert {entry["manager"] for entry in changed["metadata"]["managedFields"]} == {"tenantry"}


async def test_apply_takes_fields_over_from_other_managers(kube: KubeClient, target: ClusterAccess, room: str) -> None:
    await kube.apply(config_map(room, a="1"))
    target.kubectl("patch", "configmap", "a", "-n", room, "--type=merge", "-p", '{"data": {"a": "kubectl"}}')
    assert (await kube.apply(config_map(room, a="1")))["data"] == {"a": "1"}


async def test_replace_is_a_compare_and_swap(kube: KubeClient, room: str) -> None:
    first = await kube.create(config_map(room, a="1"))
    second = await kube.replace({**first, "data": {"a": "2"}})
    assert second["data"] == {"a": "2"}
    with pytest.raises(ConflictError) as lost:
        await kube.replace({**first, "data": {"a": "3"}})
    assert lost.value.status == 409


async def test_a_merge_patch_can_have_preconditions(kube: KubeClient, room: str) -> None:
    made = await kube.create(config_map(room, a="1"))
    ref = Ref(CONFIG_MAPS, room, "a")
    version = made["metadata"]["resourceVersion"]
    patch = {"metadata": {"resourceVersion": version}, "data": {"a": "2"}}
    assert (await kube.merge_patch(ref, patch))["data"] == {"a": "2"}
    with pytest.raises(ConflictError):
        await kube.merge_patch(ref, patch)
    with pytest.raises(NotFoundError):
        await kube.merge_patch(Ref(CONFIG_MAPS, room, "b"), patch)


async def test_a_subresource_is_patched(kube: KubeClient, room: str) -> None:
    patched = await kube.merge_patch(
        Ref(NAMESPACES, "", room), {"status": {"conditions": [condition()]}}, subresource="status"
    )
    assert [found["type"] for found in patched["status"]["conditions"]] == ["Tried"]


def condition() -> Json:
    return {
        "type": "Tried",
        "status": "True",
        "reason": "Test",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }


async def test_delete_has_preconditions(kube: KubeClient, room: str) -> None:
    ref = Ref(CONFIG_MAPS, room, "a")
    made = await kube.create(config_map(room))
    with pytest.raises(ConflictError):
        await kube.delete(ref, uid="00000000-0000-0000-0000-000000000000")
    with pytest.raises(ConflictError):
        await kube.delete(ref, uid=made["metadata"]["uid"], resource_version="1")
    await kube.delete(ref, uid=made["metadata"]["uid"], resource_version=made["metadata"]["resourceVersion"])
    with pytest.raises(NotFoundError):
        await kube.get(ref)


async def test_an_object_that_is_wrong_in_itself_is_invalid(kube: KubeClient, room: str) -> None:
    with pytest.raises(InvalidError, match="Invalid value") as caught:
        await kube.create(config_map(room, "Not_A_Name"))
    assert caught.value.status == 422
    with pytest.raises(InvalidError, match='unknown field "colour"'):
        await kube.create({**config_map(room), "colour": "red"})
    with pytest.raises(InvalidError, match="colour"):
        await kube.apply({**config_map(room), "colour": "red"})


async def test_a_kind_that_the_server_has_not_is_not_found(kube: KubeClient) -> None:
    with pytest.raises(NotFoundError):
        await kube.list(TENANTS)


async def test_a_list_of_several_pages_is_whole_and_says_what_its_items_are(kube: KubeClient, room: str) -> None:
    count = PAGE + 20
    await asyncio.gather(*(kube.create(config_map(room, f"c{number:04}")) for number in range(count)))
    listing = await kube.list(CONFIG_MAPS, namespace=room, labels=f"room={room}")
    assert [item["metadata"]["name"] for item in listing.items] == [f"c{number:04}" for number in range(count)]
    assert {(item["apiVersion"], item["kind"]) for item in listing.items} == {("v1", "ConfigMap")}
    assert not any("managedFields" in item["metadata"] for item in listing.items)
    assert int(listing.resource_version) >= max(int(item["metadata"]["resourceVersion"]) for item in listing.items)
    everywhere = await kube.list(CONFIG_MAPS, labels=f"room in ({room})")
    assert len(everywhere.items) == count


async def test_a_watch_tells_what_comes_after_the_list(kube: KubeClient, room: str) -> None:
    listing = await kube.list(CONFIG_MAPS, namespace=room)
    stream = kube.watch(CONFIG_MAPS, resource_version=listing.resource_version, namespace=room, labels=f"room={room}")
    made = await kube.create(config_map(room, a="1"))
    await kube.apply(config_map(room, a="2"))
    await kube.delete(Ref(CONFIG_MAPS, room, "a"))
    async with asyncio.timeout(20):
        events = [await anext(stream) for _ in range(3)]
    await stream.aclose()
    assert [event.type for event in events] == ["ADDED", "MODIFIED", "DELETED"]
    assert events[0].object["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    versions = [int(event.object["metadata"]["resourceVersion"]) for event in events]
    assert versions == sorted(set(versions))  # a deletion has a version of its own: the cache relies on that
    assert events[0].object["kind"] == "ConfigMap"
    assert "managedFields" not in events[0].object["metadata"]


async def test_a_review_is_answered(kube: KubeClient, room: str) -> None:
    attributes = {"verb": "create", "resource": "configmaps", "namespace": room}
    review = {
        "apiVersion": ACCESS_REVIEWS.api_version,
        "kind": ACCESS_REVIEWS.kind,
        "spec": {"resourceAttributes": attributes},
    }
    assert (await kube.create(review))["status"]["allowed"] is True


async def test_a_wrong_token_is_said(target: ClusterAccess) -> None:
    client = await client_for(target.kubeconfig_for("wrong-token-1"))
    with pytest.raises(UnauthorizedError) as caught:
        await client.version()
    assert "wrong-token-1" not in caught.value.message
    await client.close()


async def test_a_client_without_rights_is_told_which_it_lacks(target: ClusterAccess, room: str) -> None:
    client = await client_for(target.certificate_kubeconfig("nobody-special"))
    with pytest.raises(ForbiddenError, match='User "nobody-special" cannot get resource "configmaps"'):
        await client.get(Ref(CONFIG_MAPS, room, "a"))
    await client.close()


async def test_an_expired_client_certificate_is_refused_before_it_is_sent(target: ClusterAccess) -> None:
    with pytest.raises(KubeconfigRefused) as caught:
        await client_for(target.certificate_kubeconfig("admin", lifetime=timedelta(days=-1)))
    assert caught.value.reason == KubeconfigReason.CLIENT_CERTIFICATE_EXPIRED
