"""Lab: a management cluster, a target, a PostgreSQL server and an operator, all one test's own, to break things."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.controlplane.cluster import ControlPlane
from tests.controlplane.postgres import PostgresServer
from tests.scene.installation import (
    admin_secret,
    apply,
    install_management,
    install_target,
    kubeconfig_secret,
    operator_kubeconfig,
)
from tests.scene.operator import LENIENT, OperatorProcess

PLATFORM_SECONDS = 90.0


@dataclass(frozen=True, slots=True)
class Lab:
    """Servers that are this test's alone, and the operator on them, not started yet."""

    management: ControlPlane
    target: ControlPlane
    postgres: PostgresServer
    operator: OperatorProcess


def make_lab(
    management: ControlPlane, target: ControlPlane, postgres: PostgresServer, folder: Path, *flags: str
) -> Lab:
    """Install Tenantry on fresh servers: cluster `eu-1`, server `shared-fra`, plan `basic` for everybody."""
    install_management(management.access)
    install_target(target.access)
    kubeconfig = folder / "operator.kubeconfig"
    kubeconfig.write_text(operator_kubeconfig(management.access))
    apply(
        management.access,
        kubeconfig_secret("eu-1-kubeconfig", operator_kubeconfig(target.access)),
        admin_secret("shared-fra-admin", postgres.access),
        cluster_body("eu-1"),
        server_body("shared-fra", postgres.access.port),
        plan_body("basic"),
    )
    return Lab(management, target, postgres, OperatorProcess(kubeconfig, folder / "operator.log", (*LENIENT, *flags)))


def cluster_body(name: str, **spec: Any) -> dict[str, Any]:
    """A Cluster that is the default one and has all that a tenant may want."""
    default = {
        "default": True,
        "kubeconfigSecretRef": {"name": f"{name}-kubeconfig"},
        "allowedWorkspaces": {"from": "All"},
        "domain": f"{name}.example.com",
        "ingress": {"className": "traefik", "controllerNamespace": "traefik", "tls": {"controllerDefault": True}},
        "databaseServer": "shared-fra",
    }
    return _body("Cluster", name, {**default, **spec})


def server_body(name: str, port: int, **spec: Any) -> dict[str, Any]:
    """A DatabaseServer on this machine."""
    default = {
        "host": "127.0.0.1",
        "port": port,
        "sslMode": "disable",
        "adminSecretRef": {"name": f"{name}-admin"},
        "allowedExtensions": ["citext"],
        "allowedWorkspaces": {"from": "All"},
    }
    return _body("DatabaseServer", name, {**default, **spec})


def plan_body(name: str, **spec: Any) -> dict[str, Any]:
    """A TenantPlan for everybody; deleted tenants are destroyed at once."""
    usual = {"allowedWorkspaces": {"from": "All"}, "extensions": ["citext"], "deletion": {"maxWindow": "0s"}}
    return _body("TenantPlan", name, {**usual, **spec})


def tenant_body(name: str, workspace: str, **spec: Any) -> dict[str, Any]:
    """A Tenant."""
    body = _body("Tenant", name, {"plan": "basic", **spec})
    body["metadata"]["namespace"] = workspace
    return body


def workspace_body(name: str, **labels: str) -> dict[str, Any]:
    """A namespace to be a workspace."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def all_ready(lab: Lab, count: int) -> Callable[[], bool]:
    """Whether so many Tenants are there and every one is Ready in its present generation."""

    def check() -> bool:
        tenants = lab.management.access.get("tenants", "-A")["items"]
        return len(tenants) == count and all(is_ready(tenant) for tenant in tenants)

    return check


def is_ready(body: dict[str, Any]) -> bool:
    """Whether a custom resource says that it is Ready, of its present generation."""
    status = body.get("status", {})
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", []))
    return ready and status.get("observedGeneration") == body["metadata"]["generation"]


def wait_until(check: Callable[[], bool], seconds: float, what: Callable[[], str] | str) -> None:
    """Poll until a condition holds.

    Raises:
        AssertionError: it does not hold in time; says what was waited for.
    """
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what() if callable(what) else what}")
        time.sleep(0.1)  # polls what another process does; the deadline bounds it


def _body(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "tenantry.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def conditions_text(lab: Lab) -> str:
    """What all Tenants say, for the message of a failure."""
    tenants = lab.management.access.get("tenants", "-A")["items"]
    told = {tenant["metadata"]["name"]: tenant.get("status", {}).get("conditions", [])[:2] for tenant in tenants}
    return f"{json.dumps(told, indent=1)[-3000:]}\n{lab.operator.log_text[-3000:]}"
