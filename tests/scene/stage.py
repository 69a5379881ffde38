"""Stage: a whole Tenantry for tests: two control planes, two PostgreSQL servers, a DNS server and the operator.

It has a management cluster of its own: two operators on one would fight over the same tenants.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from tests.controlplane.access import ClusterAccess
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.postgres import PostgresServer
from tests.controlplane.postgres_access import PostgresAccess
from tests.controlplane.postgres_binaries import debian_binaries, wheel_binaries
from tests.controlplane.processes import DataFolder, ServerError
from tests.scene.installation import (
    NAMESPACE,
    admin_secret,
    apply,
    install_management,
    install_target,
    kubeconfig_secret,
    operator_kubeconfig,
    secret,
)
from tests.scene.operator import LENIENT, OperatorProcess
from tests.scene.zone import TxtServer

CLUSTER: Final = "main"
DOMAIN: Final = "main.example.com"
POSTGRES_IMAGE: Final = "registry.example.com/postgres:{version}"
CLOUDNATIVEPG: Final = {
    "image": "registry.example.com/cloudnative-pg/postgresql:{version}",
    "operatorNamespace": "cnpg-system",
    "apiServerCidrs": ["192.0.2.10/32"],
}
SERVER_18: Final = "pg18"
SERVER_15: Final = "pg15"
PLAN: Final = "basic"
API_VERSION: Final = "tenantry.io/v1alpha1"
EVERYBODY: Final = {"from": "All"}
EXTENSIONS: Final = ["citext", "pg_trgm"]
READY_SECONDS: Final = 120


@dataclass(frozen=True, slots=True)
class StageAccess:
    """A running stage as a plain value; the clusters as their administrators.

    Attributes:
        postgres_18: DatabaseServer `pg18`, without TLS; the default of Cluster `main`.
        postgres_15: DatabaseServer `pg15`, verify-full.
        management_id: Of the operator.
        log: The operator's.
        zone: The folder that the operator's DNS server answers from; see `zone.publish`.
    """

    management: ClusterAccess
    target: ClusterAccess
    postgres_18: PostgresAccess
    postgres_15: PostgresAccess
    management_id: str
    log: Path
    zone: Path

    def to_json(self) -> str:
        """For another process."""
        return json.dumps(
            {
                "management": self.management.to_json(),
                "target": self.target.to_json(),
                "postgres_18": self.postgres_18.to_json(),
                "postgres_15": self.postgres_15.to_json(),
                "management_id": self.management_id,
                "log": str(self.log),
                "zone": str(self.zone),
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What `to_json` wrote."""
        data: dict[str, str] = json.loads(text)
        return cls(
            management=ClusterAccess.from_json(data["management"]),
            target=ClusterAccess.from_json(data["target"]),
            postgres_18=PostgresAccess.from_json(data["postgres_18"]),
            postgres_15=PostgresAccess.from_json(data["postgres_15"]),
            management_id=data["management_id"],
            log=Path(data["log"]),
            zone=Path(data["zone"]),
        )


class Stage:
    """Owns all of it. The operator has exactly the rights of deploy/, by ServiceAccount tokens."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._access: StageAccess | None = None

    @property
    def access(self) -> StageAccess:
        """Raises ServerError before the start and after the stop."""
        if self._access is None:
            raise ServerError("the stage is not set")
        return self._access

    def start(self) -> Self:
        """Start the servers, install Tenantry as the README says, start the operator, wait until all is Ready.

        Raises:
            ServerError, KubectlError, RuntimeError: whatever did not start.
        """
        try:
            self._access = self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End all of it, the operator first. Harmless when repeated."""
        self._access = None
        self._stack.close()

    def _start(self) -> StageAccess:
        folder = DataFolder("stage")
        self._stack.callback(folder.remove)
        management, target = ControlPlane("stage", audit=True), ControlPlane("stage-target", audit=True)
        plain, tls = PostgresServer(wheel_binaries()), PostgresServer(debian_binaries(), tls=True)
        servers: tuple[ControlPlane | PostgresServer, ...] = (management, target, plain, tls)
        for server in servers:
            self._stack.callback(server.stop)
        with ThreadPoolExecutor(len(servers)) as pool:
            list(pool.map(lambda server: server.start(), servers))
        install_management(management.access)
        install_target(target.access)
        _register(management.access, target.access, plain.access, tls.access)
        zone = folder.path / "zone"
        zone.mkdir()
        names = TxtServer(zone).start()
        self._stack.callback(names.stop)
        kubeconfig, log = folder.path / "operator.kubeconfig", folder.path / "operator.log"
        kubeconfig.touch(mode=0o600)
        kubeconfig.write_text(operator_kubeconfig(management.access))
        operator = OperatorProcess(kubeconfig, log, [*LENIENT, "--dns-server", names.address])
        self._stack.callback(operator.stop)
        operator.start()
        kinds = [f"clusters.tenantry.io/{CLUSTER}", *(f"dbs/{name}" for name in (SERVER_18, SERVER_15))]
        management.access.kubectl("wait", "--for=condition=Ready", f"--timeout={READY_SECONDS}s", *kinds)
        identity = management.access.get("configmap", "tenantry-identity", "-n", NAMESPACE)
        return StageAccess(
            management=management.access,
            target=target.access,
            postgres_18=plain.access,
            postgres_15=tls.access,
            management_id=identity["data"]["managementId"],
            log=log,
            zone=zone,
        )


def _register(management: ClusterAccess, target: ClusterAccess, plain: PostgresAccess, tls: PostgresAccess) -> None:
    apply(
        management,
        kubeconfig_secret(f"{CLUSTER}-kubeconfig", operator_kubeconfig(target)),
        cluster_manifest(
            CLUSTER,
            description="Frankfurt",
            region="fra",
            environment="prod",
            default=True,
            databaseServer=SERVER_18,
            dedicatedDatabases={"image": POSTGRES_IMAGE, "cloudNativePG": CLOUDNATIVEPG},
        ),
        admin_secret(f"{SERVER_18}-admin", plain),
        server_manifest(SERVER_18, plain, capacity={"storage": "1Ti"}),
        admin_secret(f"{SERVER_15}-admin", tls),
        secret(f"{SERVER_15}-ca", {"ca.crt": tls.ca_pem or ""}),
        server_manifest(SERVER_15, tls, sslMode="verify-full", caSecretRef={"name": f"{SERVER_15}-ca"}),
        platform_manifest(
            "TenantPlan",
            PLAN,
            limits={"MAX_USERS": "2", "MAX_PROJECTS": "5"},
            ceilings={"limits": {"MAX_USERS": "10"}, "quota": {"requests.cpu": "4"}},
            env={"TIER": "basic", "LOG_LEVEL": "warn", "COLOR": "grey"},
            extensions=["citext"],
            network={"egress": "Internet", "selfService": True},
        ),
    )


def platform_manifest(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    """A Cluster, DatabaseServer or TenantPlan that every workspace may use, unless the spec says otherwise.

    Of a plan, deleted tenants are destroyed at once: a test that is over leaves nothing behind.
    """
    usual: dict[str, Any] = {"allowedWorkspaces": EVERYBODY}
    if kind == "TenantPlan":
        usual["deletion"] = {"maxWindow": "0s"}
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {"name": name},
        "spec": {**usual, **spec},
    }


def cluster_manifest(name: str, **spec: Any) -> dict[str, Any]:
    """A Cluster with ingress and a domain, `<name>.example.com`; its kubeconfig is in Secret `<name>-kubeconfig`."""
    usual = {
        "kubeconfigSecretRef": {"name": f"{name}-kubeconfig"},
        "domain": f"{name}.example.com",
        "reservedHosts": ["login", "www", "*-admin"],
        "ingress": {"className": "traefik", "controllerNamespace": "traefik", "tls": {"controllerDefault": True}},
    }
    return platform_manifest("Cluster", name, **{**usual, **spec})


def server_manifest(name: str, server: PostgresAccess, **spec: Any) -> dict[str, Any]:
    """A DatabaseServer; its admin is in Secret `<name>-admin`."""
    usual = {
        "host": server.host,
        "port": server.port,
        "sslMode": "disable",
        "adminSecretRef": {"name": f"{name}-admin"},
        "allowedExtensions": EXTENSIONS,
    }
    return platform_manifest("DatabaseServer", name, **{**usual, **spec})
