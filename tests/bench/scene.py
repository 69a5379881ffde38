"""What the benchmark runs on: two control planes with bodies in their audit logs, and an operator that is measured."""

from __future__ import annotations

import contextlib
import re
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import psutil
from tests.bench.client import token_of
from tests.bench.figures import Load, Requests, count_requests, sum_of_samples
from tests.bench.tenants import WORKSPACE
from tests.bench.writes import MANAGEMENT_ID, POLICY, Write, merged, writes_of
from tests.controlplane.access import ClusterAccess
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.postgres_access import PostgresAccess
from tests.scene import installation
from tests.scene.operator import LENIENT, OperatorProcess

from tenantry.api.names import API_VERSION, LABEL_MANAGEMENT_ID
from tenantry.api.resources import CLUSTERS, DATABASE_SERVERS, SECRETS, TENANT_PLANS, WATCHED_ON_TARGETS

USER: Final = f"system:serviceaccount:{installation.NAMESPACE}:{installation.OPERATOR}"
CLUSTER: Final = "eu-1"
SERVER: Final = "shared-fra"
SETTLE_SECONDS: Final = 180.0
POLL_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment in both audit logs."""

    management: int
    target: int


class Scene:
    """Two clusters, Tenantry installed on them, one Cluster registered, one workspace; a context manager."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._operator: OperatorProcess | None = None
        self._rest: tuple[int, int] = (0, 0)
        self.loads: list[Load] = []

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            policy = POLICY.format(user=USER)
            planes = [ControlPlane(name, audit=True, audit_policy=policy) for name in ("management", "target")]
            self.management, self.target = (stack.enter_context(plane).access for plane in planes)
            self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tenantry-bench-")))
            stack.callback(self._end_operator)
            self._install()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _install(self) -> None:
        installation.install_management(self.management)
        installation.install_target(self.target)
        kubeconfig = installation.operator_kubeconfig(self.management)
        target_kubeconfig = installation.operator_kubeconfig(self.target)
        self.tokens = {"management": token_of(kubeconfig), "target": token_of(target_kubeconfig)}
        self._kubeconfig = self._folder / "operator.kubeconfig"
        self._kubeconfig.touch(mode=0o600)
        self._kubeconfig.write_text(kubeconfig)
        installation.apply(
            self.management,
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": WORKSPACE}},
            installation.kubeconfig_secret(CLUSTER, target_kubeconfig),
            cluster_body(),
            plan_body(),
        )

    def register_server(self, server: PostgresAccess) -> None:
        """Register a PostgreSQL as the Cluster's default server."""
        installation.apply(
            self.management, installation.admin_secret(SERVER, server), server_body(server), cluster_body(SERVER)
        )

    # --- the operator ---------------------------------------------------------------------------------------------
    @property
    def operator(self) -> OperatorProcess:
        """Raises RuntimeError while it does not run."""
        if self._operator is None:
            raise RuntimeError("the operator is not running")
        return self._operator

    def start_operator(self, tenants: int) -> None:
        """Start a fresh process and wait until it has nothing left to do; `tenants` are there already."""
        flags = ("--management-id", MANAGEMENT_ID)
        self._operator = OperatorProcess(self._kubeconfig, self._folder / "operator.log", (*LENIENT, *flags)).start()
        self.settle()
        self._rest = (tenants, memory_kb(self.operator.pid).now)

    def stop_operator(self, tenants: int) -> None:
        """SIGTERM; remembers what the process has cost; `tenants` are there by now."""
        self.loads.append(self.load(tenants))
        self._end_operator()

    def load(self, tenants: int) -> Load:
        """What the running process has cost so far."""
        rest_tenants, rest_kb = self._rest
        return Load(tenants, memory_kb(self.operator.pid).peak, rest_kb, rest_tenants)

    def _end_operator(self) -> None:
        if self._operator is not None:
            self._operator.stop()
            self._operator = None

    def cpu_seconds(self) -> float:
        """What the running operator has used so far, in user and kernel."""
        times = psutil.Process(self.operator.pid).cpu_times()
        return float(times.user + times.system)

    def settle(self, quiet: float = 1.5) -> None:
        """See the function."""
        settle(self.operator, quiet)

    # --- the audit logs -------------------------------------------------------------------------------------------
    def mark(self) -> Mark:
        """The present end of both logs."""
        return Mark(self.management.audit_mark(), self.target.audit_mark())

    def requests(self, since: Mark) -> Requests:
        """The operator's requests since a mark."""
        management = self.management.audit_entries(after=since.management)
        return count_requests((*management, *self.target.audit_entries(after=since.target)), USER)

    def written(self, since: Mark) -> dict[str, list[Write]]:
        """The operator's writes since a mark, by tenant."""
        parts = []
        for access, after in ((self.management, since.management), (self.target, since.target)):
            assert access.audit_log is not None
            parts.append(writes_of(lines_of(access.audit_log, after), access.name, USER))
        return merged(*parts)

    def objects(self, records: int) -> int:
        """Stamped objects on the target, claims among them, and the TenantRecords."""
        kinds = ",".join(f"{kind.plural}.{kind.group}".rstrip(".") for kind in (*WATCHED_ON_TARGETS, SECRETS))
        selector = f"{LABEL_MANAGEMENT_ID}={MANAGEMENT_ID}"
        names = self.target.kubectl("get", kinds, "--all-namespaces", "--selector", selector, "-o", "name")
        return len(names.split()) + records


def settle(operator: OperatorProcess, quiet: float = 1.5) -> None:
    """Wait until nothing was queued or worked on for a while.

    Raises:
        TimeoutError: if that does not come about.
    """
    deadline = time.monotonic() + SETTLE_SECONDS
    calm_since, before = time.monotonic(), -1.0
    while time.monotonic() - calm_since < quiet:
        if time.monotonic() > deadline:
            raise TimeoutError("the operator does not come to rest")
        time.sleep(POLL_SECONDS)  # polling another process: nothing tells us
        text = operator.get("/metrics") or ""
        busy = sum_of_samples(text, "workqueue_depth") + sum_of_samples(text, "controller_runtime_active_workers")
        done = sum_of_samples(text, "controller_runtime_reconcile_total")
        if not text or busy or done != before:
            calm_since, before = time.monotonic(), done


def lines_of(log: Path, after: int) -> Iterator[bytes]:
    """The complete lines of a log from a byte offset on."""
    with log.open("rb") as stream:
        stream.seek(after)
        yield from (line for line in stream if line.endswith(b"\n"))


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory of a process in KiB."""

    now: int
    peak: int


def memory_kb(pid: int) -> Memory:
    """What a process holds now and, where the kernel keeps count, the most that it ever held."""
    now = psutil.Process(pid).memory_info().rss // 1024
    status = Path(f"/proc/{pid}/status")
    match = re.search(r"^VmHWM:\s*(\d+) kB", status.read_text(), re.MULTILINE) if status.exists() else None
    return Memory(now, int(match[1]) if match else now)


def cluster_body(server: str = "", name: str = CLUSTER) -> dict[str, Any]:
    """A Cluster that tenants are on; the usual one is the default."""
    return {
        "apiVersion": API_VERSION,
        "kind": CLUSTERS.kind,
        "metadata": {"name": name},
        "spec": {
            "default": name == CLUSTER,
            "kubeconfigSecretRef": {"name": name},
            "allowedWorkspaces": {"from": "All"},
            "domain": f"{name}.example.com",
            "ingress": {
                "className": "traefik",
                "controllerNamespace": "traefik",
                "tls": {"controllerDefault": True},
            },
            **({"databaseServer": server} if server else {}),
        },
    }


def plan_body() -> dict[str, Any]:
    """The plan of all tenants."""
    return {
        "apiVersion": API_VERSION,
        "kind": TENANT_PLANS.kind,
        "metadata": {"name": "basic"},
        "spec": {
            "allowedWorkspaces": {"from": "All"},
            "limits": {"MAX_USERS": "2"},
            "ceilings": {"limits": {"MAX_USERS": "10"}},
            "env": {"TIER": "basic"},
        },
    }


def server_body(server: PostgresAccess) -> dict[str, Any]:
    """A DatabaseServer without a limit."""
    return {
        "apiVersion": API_VERSION,
        "kind": DATABASE_SERVERS.kind,
        "metadata": {"name": SERVER},
        "spec": {
            "host": server.host,
            "port": server.port,
            "sslMode": "disable",
            "adminSecretRef": {"name": SERVER},
            "allowedWorkspaces": {"from": "All"},
        },
    }


def wait_for(cluster: ClusterAccess, kind: str, name: str) -> None:
    """Wait until a platform object is Ready."""
    cluster.kubectl("wait", "--for=condition=Ready", f"{kind}/{name}", "--timeout=60s", timeout=70)
