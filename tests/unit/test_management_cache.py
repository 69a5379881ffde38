"""What counts as a change on the management cluster: not a status, not others' metadata, not our own writes."""

from __future__ import annotations

import copy
from typing import Any, cast

import pytest

from tenantry.api.resources import CLUSTERS, NAMESPACES, SECRETS, TENANTS, Ref
from tenantry.ports.kube import Kube, Listing
from tenantry.ports.world import Json
from tenantry.runtime.management import Change, ManagementCache

ACME = Ref(TENANTS, "shop", "acme")


class Lists:
    """Of an API server only its lists."""

    def __init__(self, *items: Json, version: str) -> None:
        self.items, self.version = items, version

    async def list(self, resource: Any, *, namespace: str = "", labels: str = "") -> Listing:  # noqa: ARG002 - all
        kind = [body for body in self.items if body["kind"] == resource.kind]
        return Listing(copy.deepcopy(kind), self.version)


class Scene:
    """A cache that has been primed with one tenant."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.lists = Lists(tenant(1), version="1")
        self.cache = ManagementCache(cast("Kube", self.lists), "tenantry-system", self.changes.append)

    async def primed(self) -> Scene:
        """The cache, once it has listed the tenant and then heard of it."""
        await self.cache.relist()
        self.cache.take(TENANTS, "MODIFIED", tenant(2, finalizers=["tenantry.io/tenant"]))
        self.changes.clear()
        return self

    def told(self) -> list[tuple[str, bool, bool]]:
        """Name, whether it is there, and whether its spec is new; then nothing is left to tell."""
        told = [(change.ref.name, change.body is not None, change.new_generation) for change in self.changes]
        self.changes.clear()
        return told


def tenant(version: int, *, generation: int = 1, **metadata: Any) -> Json:
    annotations = {"tenantry.io/requestedAt": "first", **metadata.pop("annotations", {})}
    metadata = {"finalizers": ["tenantry.io/tenant"], **metadata}
    return {
        "apiVersion": TENANTS.api_version,
        "kind": TENANTS.kind,
        "metadata": {
            "name": "acme", "namespace": "shop", "uid": "u", "resourceVersion": str(version), "generation": generation,
            "annotations": annotations, **metadata,
        },
        "spec": {}, "status": {"seen": version},
    }  # fmt: skip


@pytest.mark.parametrize(
    "later",
    [
        tenant(3),
        tenant(3, annotations={"kubectl.kubernetes.io/last-applied-configuration": "{}"}),
        tenant(3, managedFields=[]),
    ],
)
async def test_a_status_or_what_others_keep_in_the_metadata_is_no_change(later: Json) -> None:
    scene = await Scene().primed()
    scene.cache.take(TENANTS, "MODIFIED", later)
    assert scene.told() == []
    assert scene.cache.get(ACME) is not None


@pytest.mark.parametrize(
    ("later", "new_generation"),
    [
        (tenant(3, generation=2), True),
        (tenant(3, deletionTimestamp="2026-01-01T00:00:00Z"), False),
        (tenant(3, finalizers=[]), False),
        (tenant(3, labels={"team": "blue"}), False),
        (tenant(3, annotations={"tenantry.io/requestedAt": "again"}), False),
    ],
)
async def test_what_can_change_what_we_do_is_told_once(later: Json, new_generation: bool) -> None:
    scene = await Scene().primed()
    for _ in range(2):
        scene.cache.take(TENANTS, "MODIFIED", later)
    assert scene.told() == [("acme", True, new_generation)]


async def test_an_echo_of_our_own_write_is_not_told() -> None:
    scene = await Scene().primed()
    for own in (tenant(3), tenant(4, finalizers=[])):
        scene.cache.observe(own)
        scene.cache.take(TENANTS, "MODIFIED", own)
        assert scene.told() == []


async def test_what_somebody_wrote_just_before_our_own_write_is_told_once() -> None:
    scene = await Scene().primed()
    theirs: dict[str, Any] = {"annotations": {"tenantry.io/requestedAt": "again"}}
    scene.cache.observe(tenant(4, **theirs))
    for version in (3, 4):
        scene.cache.take(TENANTS, "MODIFIED", tenant(version, **theirs))
    assert scene.told() == [("acme", True, False)]


async def test_the_end_of_an_object_is_told_and_its_successor_is_new() -> None:
    scene = await Scene().primed()
    scene.cache.take(TENANTS, "DELETED", tenant(3))
    assert scene.told() == [("acme", False, False)]
    scene.cache.take(TENANTS, "ADDED", tenant(4, uid="v"))
    assert scene.told() == [("acme", True, True)]


async def test_a_deletion_that_the_watch_missed_is_found_by_the_next_list() -> None:
    scene = await Scene().primed()
    scene.lists.items, scene.lists.version = (), "9"
    await scene.cache.relist()
    assert scene.told() == [("acme", False, False)]
    assert scene.cache.get(ACME) is None


async def test_a_watch_that_tells_nothing_of_what_the_list_shows_is_found_out() -> None:
    scene = await Scene().primed()
    scene.cache.take(TENANTS, None, tenant(3))
    scene.lists.items, scene.lists.version = (tenant(5),), "9"
    newest = await scene.cache.relist()
    assert scene.cache.untold(newest) == [TENANTS]
    scene.cache.take(TENANTS, "MODIFIED", tenant(5))
    assert scene.cache.untold(newest) == []


async def test_the_first_list_is_told_to_nobody() -> None:
    scene = Scene()
    await scene.cache.relist()
    assert scene.told() == []
    assert [body["metadata"]["name"] for body in scene.cache.all(TENANTS)] == ["acme"]


async def test_other_kinds_and_secrets_are_kept_apart() -> None:
    scene = await Scene().primed()
    assert scene.cache.all(CLUSTERS) == scene.cache.all(NAMESPACES) == []
    assert scene.cache.get(Ref(SECRETS, "shop", "acme")) is None
    assert scene.cache.get(Ref(SECRETS, "tenantry-system", "acme")) is None


async def test_a_new_spec_that_is_first_seen_in_the_answer_to_our_own_write_is_told_once() -> None:
    scene = await Scene().primed()
    scene.cache.observe(tenant(4, generation=2))
    assert scene.told() == [("acme", True, True)]
    scene.cache.take(TENANTS, "MODIFIED", tenant(3, generation=2))
    scene.cache.take(TENANTS, "MODIFIED", tenant(4, generation=2))
    scene.cache.observe(tenant(5, generation=2))
    assert scene.told() == []
