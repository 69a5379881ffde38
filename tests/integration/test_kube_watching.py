"""Cache and watcher together against real API servers: changes, echoes of own writes, and servers that go and come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from tests.controlplane.access import ClusterAccess

from tenantry.adapters.kube.client import KubeClient, connect
from tenantry.adapters.kube.kubeconfig import parse_kubeconfig
from tenantry.adapters.kube.live import LiveCache
from tenantry.adapters.kube.watch import Pace, Watcher
from tenantry.api.names import LABEL_MANAGEMENT_ID, LABEL_TENANT_HASH
from tenantry.api.resources import CONFIG_MAPS, Ref, Resource
from tenantry.ports.kube import KubeError, UnreachableError

if TYPE_CHECKING:
    from tests.integration.conftest import FreshControlPlane

Json = dict[str, Any]
DEADLINE = 30.0


class Scene:
    """A client, its cache, a watcher of ConfigMaps, and what others were seen to change."""

    def __init__(self, kube: KubeClient, stamp: str) -> None:
        self.kube = kube
        self.stamp = stamp
        self.told: asyncio.Queue[tuple[str, Json | None]] = asyncio.Queue()
        self.cache = LiveCache(
            lambda ref, _tenant, body: self.told.put_nowait((ref.name, body)), stamp=(LABEL_MANAGEMENT_ID, stamp)
        )
        self.faulted = asyncio.Event()
        pace = Pace(sleep=lambda seconds: asyncio.sleep(min(seconds, 0.2)))
        labels = f"{LABEL_MANAGEMENT_ID}={stamp}"
        self.watcher = Watcher(kube, self.cache, CONFIG_MAPS, labels=labels, pace=pace, on_fault=self.on_fault)

    def on_fault(self, resource: Resource, fault: KubeError) -> None:
        assert resource == CONFIG_MAPS
        assert fault.message
        self.faulted.set()

    def config_map(self, name: str, **data: str) -> Json:
        labels = {LABEL_MANAGEMENT_ID: self.stamp, LABEL_TENANT_HASH: "aaaaaaaa"}
        metadata = {"name": name, "namespace": "default", "labels": labels}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}

    async def next_told(self) -> tuple[str, Json | None]:
        async with asyncio.timeout(DEADLINE):
            return await self.told.get()


@asynccontextmanager
async def scene_of(access: ClusterAccess, stamp: str) -> AsyncIterator[Scene]:
    credentials = parse_kubeconfig(access.kubeconfig, now=datetime.now(UTC))
    kube = await connect(credentials, allow_loopback=True)
    scene = Scene(kube, stamp)
    task = asyncio.create_task(scene.watcher.run())
    try:
        yield scene
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await kube.close()


async def until(holds: Callable[[], bool], scene: Scene) -> None:
    """Wait for something that the watcher brings about."""
    async with asyncio.timeout(DEADLINE):
        while not holds():
            await scene.next_told()


async def test_what_others_change_is_told_and_our_own_writes_are_not(target: ClusterAccess, name_prefix: str) -> None:
    async with scene_of(target, name_prefix) as scene:
        await scene.watcher.wait_synced(DEADLINE)
        name = f"{name_prefix}-a"
        ref = Ref(CONFIG_MAPS, "default", name)
        for number in range(20):
            with scene.cache.writing(ref):
                scene.cache.observe(await scene.kube.apply(scene.config_map(name, n=str(number))))
        patch = '{"data": {"n": "kubectl"}}'
        target.kubectl("patch", "configmap", name, "--type=merge", "-p", patch)
        told, body = await scene.next_told()
        assert told == name
        assert body is not None
        assert body["data"] == {"n": "kubectl"}  # the first thing told: none of our twenty echoes was
        assert scene.cache.of_tenant("aaaaaaaa") == [body]
        target.kubectl("label", "configmap", name, f"{LABEL_MANAGEMENT_ID}-")
        assert await scene.next_told() == (name, None)
        with scene.cache.writing(ref):
            scene.cache.observe(await scene.kube.apply(scene.config_map(name, n="back")))
        assert scene.cache.get(ref) is not None
        target.kubectl("delete", "configmap", name)
        assert await scene.next_told() == (name, None)
        assert scene.cache.get(ref) is None


async def test_our_own_delete_is_not_told(target: ClusterAccess, name_prefix: str) -> None:
    async with scene_of(target, name_prefix) as scene:
        await scene.watcher.wait_synced(DEADLINE)
        first, second = f"{name_prefix}-a", f"{name_prefix}-b"
        ref = Ref(CONFIG_MAPS, "default", first)
        with scene.cache.writing(ref):
            made = await scene.kube.create(scene.config_map(first))
            scene.cache.observe(made)
        with scene.cache.writing(ref):
            await scene.kube.delete(ref, uid=made["metadata"]["uid"])
            scene.cache.forget(ref, uid=made["metadata"]["uid"])
        await scene.kube.create(scene.config_map(second))  # as if by somebody else
        assert (await scene.next_told())[0] == second
        await scene.kube.delete(Ref(CONFIG_MAPS, "default", second))


async def test_a_server_that_goes_and_comes_is_caught_up_with(fresh_control_plane: FreshControlPlane) -> None:
    plane = fresh_control_plane("comes-and-goes")
    async with scene_of(plane.access, "m1") as scene:
        await scene.watcher.wait_synced(DEADLINE)
        await scene.kube.create(scene.config_map("before"))
        assert (await scene.next_told())[0] == "before"
        await asyncio.to_thread(plane.stop_apiserver)
        async with asyncio.timeout(DEADLINE):
            await scene.faulted.wait()
        assert isinstance(scene.watcher.last_fault, UnreachableError)
        assert scene.watcher.failing_since is not None
        assert scene.cache.get(Ref(CONFIG_MAPS, "default", "before")) is not None
        await asyncio.to_thread(plane.start_apiserver)
        await asyncio.to_thread(plane.access.kubectl, "delete", "configmap", "before")
        await until(lambda: scene.cache.get(Ref(CONFIG_MAPS, "default", "before")) is None, scene)
        await scene.kube.create(scene.config_map("after"))
        await until(lambda: scene.cache.get(Ref(CONFIG_MAPS, "default", "after")) is not None, scene)
        assert scene.watcher.last_fault is None


async def test_a_server_that_hangs_is_unreachable_within_the_deadline(fresh_control_plane: FreshControlPlane) -> None:
    plane = fresh_control_plane("hangs")
    credentials = parse_kubeconfig(plane.access.kubeconfig, now=datetime.now(UTC))
    kube = await connect(credentials, allow_loopback=True, seconds=0.5)
    await kube.version()
    plane.pause_apiserver()
    try:
        with pytest.raises(UnreachableError, match=r"did not answer within 0\.5 s"):
            await kube.version()
    finally:
        plane.resume_apiserver()
    async with asyncio.timeout(DEADLINE):
        while not await answers(kube):
            pass
    await kube.close()


async def answers(kube: KubeClient) -> bool:
    try:
        return bool(await kube.version())
    except UnreachableError:
        return False
