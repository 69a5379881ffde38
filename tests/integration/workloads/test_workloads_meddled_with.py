"""Switching a tenant's workloads while others change them, refuse it, or the operator dies."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.integration.acting import eventually, made, manifest
from tests.integration.target_scene import Scene
from tests.integration.workloads.room import BINDINGS, OFF, ON, POLICIES, Json, Room, scaled

from tenantry.adapters.kube.target import TargetConnection
from tenantry.api.resources import (
    DEPLOYMENTS,
    NAMESPACES,
    STATEFUL_SETS,
    Ref,
)
from tenantry.ports.kube import ConflictError, KubeError, Target
from tenantry.reconcile.workloads import TRIES, Workloads, WorkloadsRefusedError


class Meddling:
    """A Kube that lets somebody else act just before each patch reaches the server."""

    def __init__(self, inner: Any, meddle: Callable[[int], object]) -> None:
        self._inner = inner
        self._meddle = meddle
        self.patches = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def merge_patch(self, ref: Ref, patch: Json) -> Json:
        self.patches += 1
        self._meddle(self.patches)
        answer: Json = await self._inner.merge_patch(ref, patch)
        return answer


def meddled(room: Room, meddle: Callable[[int], object]) -> tuple[Workloads, Meddling]:
    kube = Meddling(room.kube, meddle)
    return Workloads(cast("Target", SimpleNamespace(kube=kube)), room.namespace), kube


async def test_a_number_set_between_reading_and_writing_is_not_lost(room: Room) -> None:
    room.deployment("web")
    workloads, kube = meddled(room, lambda patch: room.scale("web", 6) if patch == 1 else None)
    assert await workloads.settle(OFF) == 1
    assert kube.patches >= 2  # the Deployment's controller writes its status in between too
    assert room.replicas("web") == (0, "6")


async def test_somebody_who_switched_it_in_between_leaves_nothing_to_do(room: Room) -> None:
    room.deployment("web")
    workloads, kube = meddled(room, lambda _: room.scale("web", 0))
    assert await workloads.settle(OFF) == 0
    assert (kube.patches, room.replicas("web")) == (1, (0, None))


async def test_a_workload_that_is_deleted_in_between_is_no_error(room: Room) -> None:
    room.deployment("web")
    path = DEPLOYMENTS.path(room.namespace, "web")
    workloads, _ = meddled(room, lambda _: made(room.admin.delete(path, dry=False)))
    assert await workloads.settle(OFF) == 0


async def test_a_workload_that_changes_all_the_time_is_given_up_as_a_conflict(room: Room) -> None:
    room.deployment("web")
    room.deployment("calm")
    workloads, kube = meddled(room, lambda patch: room.scale("web", 10 + patch))
    with pytest.raises(ConflictError):
        await workloads.settle(OFF)
    assert kube.patches >= TRIES
    assert room.replicas("calm") == (0, "2")
    assert await room.workloads.settle(OFF) == 1


@contextlib.contextmanager
def platform_refuses(room: Room, name: str, expression: str) -> Iterator[None]:
    """An admission policy of the platform's on workloads of this namespace, in force."""
    rule = {"apiGroups": ["apps"], "apiVersions": ["*"], "operations": ["UPDATE"], "resources": ["*"]}
    own = {"matchLabels": {"kubernetes.io/metadata.name": room.namespace}}
    spec = {
        "matchConstraints": {"resourceRules": [rule], "namespaceSelector": own},
        "validations": [{"expression": expression, "message": "frozen by the platform"}],
    }
    binding = {"policyName": name, "validationActions": ["Deny"]}
    made(room.admin.create(POLICIES, manifest(POLICIES, name, spec=spec), dry=False))
    made(room.admin.create(BINDINGS, manifest(BINDINGS, name, spec=binding), dry=False))
    try:
        room.deployment("probe", replicas=0, labels={"frozen": "true"})
        path = DEPLOYMENTS.path(room.namespace, "probe")
        eventually(lambda: room.admin.patch(path, {"metadata": {"annotations": {"a": "b"}}}).status >= 400)
        yield
    finally:
        room.admin.delete(BINDINGS.path(name=name), dry=False)
        room.admin.delete(POLICIES.path(name=name), dry=False)


async def test_what_a_policy_refuses_is_told_when_all_the_others_were_done(room: Room, name_prefix: str) -> None:
    room.deployment("frozen", labels={"frozen": "true"})
    room.deployment("web")
    room.make(STATEFUL_SETS, "store", **scaled("store", serviceName="store"))
    with platform_refuses(room, name_prefix, "!has(object.metadata.labels) || !('frozen' in object.metadata.labels)"):
        with pytest.raises(WorkloadsRefusedError) as refused:
            await room.workloads.settle(OFF)
        assert "Deployment frozen: " in refused.value.message
        assert "frozen by the platform" in refused.value.message
        assert "web" not in refused.value.message
        assert refused.value.status == 422
        assert (room.replicas("web"), room.replicas("store", STATEFUL_SETS)) == ((0, "2"), (0, "2"))
        assert room.replicas("frozen") == (2, None)


async def test_a_target_that_gives_no_right_to_workloads_says_so_for_every_kind(
    scene: Scene, connection: TargetConnection
) -> None:
    with pytest.raises(WorkloadsRefusedError, match=r'cannot list resource "cronjobs".*and 2 more'):
        await Workloads(connection, scene.unbound).settle(OFF)


async def test_a_target_that_does_not_answer_is_no_refusal(room: Room) -> None:
    room.deployment("web")

    def fail(_: int) -> None:
        raise KubeError("no answer", status=0)

    workloads, _ = meddled(room, fail)
    with pytest.raises(KubeError) as caught:
        await workloads.settle(OFF)
    assert not isinstance(caught.value, WorkloadsRefusedError)
    assert room.replicas("web") == (2, None)


async def test_a_namespace_that_is_gone_has_nothing_to_switch(scene: Scene, connection: TargetConnection) -> None:
    assert scene.operator.get(NAMESPACES.path(name=f"{scene.namespace}-x")).status == 404
    with pytest.raises(WorkloadsRefusedError):  # rights come with the namespace: RBAC answers before anybody looks
        await Workloads(connection, f"{scene.namespace}-x").settle(OFF)


async def test_hundreds_of_workloads_are_switched_whatever_dies_in_between(room: Room) -> None:
    """The first pass ends in the middle; the second one does the rest and remembers nothing anew."""
    count = 60
    for number in range(count):
        room.deployment(f"app-{number}", replicas=1, paused=True)

    workloads, _ = meddled(room, lambda patch: passing.cancel() if patch == count // 2 else None)
    passing = asyncio.create_task(workloads.settle(OFF))
    with pytest.raises(asyncio.CancelledError):
        await passing
    done = [name for name in range(count) if room.replicas(f"app-{name}") == (0, "1")]
    assert 0 < len(done) < count
    assert await room.workloads.settle(OFF) == count - len(done)
    assert await room.workloads.settle(ON) == count
    assert all(room.replicas(f"app-{name}") == (1, None) for name in range(count))
