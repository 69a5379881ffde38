"""A thousand schedules that are due at once, on a real API server; and what they cost while nothing is due."""

from __future__ import annotations

import asyncio
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

from tests.bench.backup_figures import Scheduled as Figures
from tests.controlplane.access import ClusterAccess
from tests.controlplane.cluster import ControlPlane
from tests.scene import installation
from tests.scene.lab import workspace_body

from tenantry.adapters.kube.management import management_client
from tenantry.api.identity import TenantIdentity
from tenantry.api.resources import TENANTS, Ref
from tenantry.decide.retention import Retention
from tenantry.decide.schedule import parse
from tenantry.ports.kube import Kube
from tenantry.reconcile.openstores import BackupKit
from tenantry.reconcile.schedules import Scheduled
from tenantry.reconcile.scheduling import MOST_WAITING, Scheduling
from tenantry.reconcile.world import World
from tenantry.runtime.clock import SystemClock

WORKSPACE: Final = "shop"
IDLE_SECONDS: Final = 30.0
LONGEST: Final = 300.0


def measure_schedules(count: int) -> Figures:
    """Let the operator's own scheduler run for so many tenants, of which every one has missed a slot.

    As many stores and servers as it takes for none of them to wait for another's turn.
    """
    with ControlPlane("schedules") as plane:
        installation.install_management(plane.access)
        installation.apply(plane.access, workspace_body(WORKSPACE))
        return asyncio.run(_measure(plane.access, count))


async def _measure(access: ClusterAccess, count: int) -> Figures:
    with tempfile.TemporaryDirectory(prefix="tenantry-bench-") as folder:
        file = Path(folder) / "kubeconfig"
        file.touch(mode=0o600)
        file.write_text(installation.operator_kubeconfig(access))
        kube = await management_client(str(file), environ={})
        try:
            return await _run(access, kube, count)
        finally:
            await kube.close()


async def _run(access: ClusterAccess, kube: Kube, count: int) -> Figures:
    none = cast(Any, None)  # it opens no store, dumps nothing, and nothing ends
    kit = BackupKit(none, none, none, none, "bench", none)
    for number in range(count):
        kit.schedules.set(_scheduled(number))
    scheduling = asyncio.create_task(Scheduling(_world(kube), kit).run())
    began, made = time.perf_counter(), 0
    try:
        async with asyncio.timeout(LONGEST):
            while made < count:
                await asyncio.sleep(0.2)  # looking from outside: the scheduler tells nobody
                made = len(kit.shelf.waiting())
        noticed = time.perf_counter() - began
        assert len(access.get("tenantbackups", "-n", WORKSPACE)["items"]) == count
        await asyncio.sleep(10.0)  # two more looks, at which all are found to be done
        cpu, since = time.process_time(), time.perf_counter()
        await asyncio.sleep(IDLE_SECONDS)  # what happens while nothing is due
        return Figures(count, noticed, (time.process_time() - cpu) / (time.perf_counter() - since))
    finally:
        scheduling.cancel()
        await asyncio.gather(scheduling, return_exceptions=True)


def _scheduled(number: int) -> Scheduled:
    name = f"t{number}"
    share = number // MOST_WAITING
    return Scheduled(
        tenant=Ref(TENANTS, WORKSPACE, name),
        identity=TenantIdentity("bench", WORKSPACE, "00000000-0000-0000-0000-000000000000", name),
        store=f"store-{share}",
        server=f"server-{share}",
        schedule=parse("0 3 * * *"),
        zone=UTC,
        delay=timedelta(minutes=number % 60),
        retention=Retention(),
        since=datetime.now(UTC) - timedelta(days=3),
        suspended=False,
    )


def _world(kube: Kube) -> World:
    """As much of it as a scheduler uses; nothing is reconciled here."""

    def nothing(*_: object) -> None:
        pass

    live, wake = SimpleNamespace(observe=nothing), SimpleNamespace(wake=nothing)
    return cast(World, SimpleNamespace(management=kube, live=live, wake=wake, clock=SystemClock()))
