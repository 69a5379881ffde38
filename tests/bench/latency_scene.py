"""What latencies are measured on: three target clusters, one behind a door that can hang, and an operator."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Any, Final, Self

from tests.bench.scene import CLUSTER, cluster_body, plan_body, settle, wait_for
from tests.bench.tenants import WORKSPACE, tenant_body
from tests.bench.writes import MANAGEMENT_ID
from tests.controlplane.access import ClusterAccess
from tests.controlplane.cluster import ControlPlane
from tests.scene import installation
from tests.scene.operator import LENIENT, OperatorProcess
from tests.scene.proxy import FaultProxy

CLUSTERS: Final = (CLUSTER, "eu-2", "eu-3")
HANGING: Final = CLUSTERS[-1]
"""The one behind the door."""


class LatencyScene:
    """A management cluster, three targets, all registered, and the operator; a context manager."""

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            names = ("management", *CLUSTERS)
            self.management, *targets = (stack.enter_context(ControlPlane(name)).access for name in names)
            self.targets: dict[str, ClusterAccess] = dict(zip(CLUSTERS, targets, strict=True))
            self.door = stack.enter_context(FaultProxy(self.targets[HANGING]))
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tenantry-latency-")))
            self._install()
            kubeconfig = folder / "operator.kubeconfig"
            kubeconfig.touch(mode=0o600)
            kubeconfig.write_text(installation.operator_kubeconfig(self.management))
            flags = (*LENIENT, "--management-id", MANAGEMENT_ID)
            self.operator = OperatorProcess(kubeconfig, folder / "operator.log", flags).start()
            stack.callback(self.operator.stop)
            for name in CLUSTERS:
                wait_for(self.management, "cluster", name)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _install(self) -> None:
        installation.install_management(self.management)
        bodies: list[dict[str, Any]] = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": WORKSPACE}}]
        for name, target in self.targets.items():
            installation.install_target(target)
            kubeconfig = installation.operator_kubeconfig(target)
            if name == HANGING:
                kubeconfig = self.door.kubeconfig(kubeconfig)
            bodies += [installation.kubeconfig_secret(name, kubeconfig), cluster_body(name=name)]
        installation.apply(self.management, *bodies, plan_body())

    def settle(self) -> None:
        """Wait until the operator has nothing to do."""
        settle(self.operator)


def names_on(cluster: str, count: int) -> list[str]:
    """The names of its tenants."""
    return [f"{cluster}-{number}" for number in range(count)]


def bodies_on(cluster: str, count: int) -> list[dict[str, Any]]:
    """Its tenants."""
    return [tenant_body(name, "None", placement={"cluster": cluster}) for name in names_on(cluster, count)]
