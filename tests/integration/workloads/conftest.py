"""The target with no more than the operator's rights, and a tenant's namespace on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from tests.integration.acting import eventually
from tests.integration.target_scene import Scene, target_scene
from tests.integration.workloads.room import Room

from tenantry.adapters.breaker import Breaker
from tenantry.adapters.kube.client import connect
from tenantry.adapters.kube.kubeconfig import parse_kubeconfig
from tenantry.adapters.kube.live import LiveCache
from tenantry.adapters.kube.target import TargetConnection
from tenantry.api.names import OPERATOR_SERVICE_ACCOUNT, SYSTEM_NAMESPACE
from tenantry.api.resources import DEPLOYMENTS
from tenantry.runtime.clock import SystemClock

if TYPE_CHECKING:
    from tests.controlplane.access import ClusterAccess


@pytest.fixture(scope="module")
def scene(target: ClusterAccess) -> Iterator[Scene]:
    with target_scene(target.kubeconfig) as scene:
        eventually(lambda: scene.operator.may("patch", DEPLOYMENTS, scene.namespace))
        yield scene


@pytest.fixture
async def connection(target: ClusterAccess) -> AsyncIterator[TargetConnection]:
    """The target as the operator's ServiceAccount."""
    kubeconfig = target.service_account_kubeconfig(SYSTEM_NAMESPACE, OPERATOR_SERVICE_ACCOUNT)
    client = await connect(parse_kubeconfig(kubeconfig, now=datetime.now(UTC)), allow_loopback=True)
    cache = LiveCache(lambda _ref, _tenant, _body: None)
    target_connection = TargetConnection("eu-1", client, cache, Breaker(clock=SystemClock()), labels="")
    yield target_connection
    await target_connection.close()


@pytest.fixture
def room(scene: Scene, connection: TargetConnection) -> Iterator[Room]:
    opened = Room(scene, connection)
    yield opened
    opened.clear()
