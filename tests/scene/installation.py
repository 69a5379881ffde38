"""Installing Tenantry the way the README says: CRDs, rights, Secrets; with real kubectl, never as cluster-admin."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.controlplane.access import ClusterAccess
from tests.controlplane.postgres_access import PostgresAccess

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "tenantry-system"
OPERATOR = "tenantry-operator"


def install_management(management: ClusterAccess) -> None:
    """The kinds and the operator's rights on the management cluster; safe to repeat."""
    management.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
    management.kubectl("wait", "--for=condition=Established", "--timeout=90s", "-f", str(ROOT / "crds"))
    management.kubectl("apply", "--server-side", "-f", str(ROOT / "deploy" / "management-rbac.yaml"))


def install_target(target: ClusterAccess) -> None:
    """The operator's rights, the tenants' roles and the admission policies on a target; an IngressClass to use."""
    target.kubectl("apply", "--server-side", "-f", str(ROOT / "deploy" / "target-rbac.yaml"))
    ingress_class = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": {"name": "traefik"},
        "spec": {"controller": "traefik.io/ingress-controller"},
    }
    target.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(ingress_class))


def operator_kubeconfig(cluster: ClusterAccess) -> str:
    """A kubeconfig with exactly the operator's rights."""
    return cluster.service_account_kubeconfig(NAMESPACE, OPERATOR)


def kubeconfig_secret(name: str, kubeconfig: str) -> dict[str, Any]:
    """The Secret of a Cluster, in Cluster API's convention."""
    return secret(name, {"value": kubeconfig})


def admin_secret(name: str, server: PostgresAccess) -> dict[str, Any]:
    """The Secret of a DatabaseServer."""
    return secret(name, {"username": server.admin_user, "password": server.admin_password})


def secret(name: str, values: dict[str, str], namespace: str = NAMESPACE) -> dict[str, Any]:
    """A Secret in the operator's namespace."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "stringData": values,
    }


def apply(cluster: ClusterAccess, *bodies: dict[str, Any]) -> None:
    """`kubectl apply --server-side` of objects."""
    document = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(bodies)})
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=document)
