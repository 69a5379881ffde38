"""What `tenantry cluster join` writes: a token on the target, a kubeconfig made of it, and the Cluster that uses it."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tenantry.api.names import (
    ANNOTATION_CLUSTER,
    ANNOTATION_REQUESTED_AT,
    LABEL_JOINED_BY,
    LABEL_MANAGED_BY,
    MANAGED_BY,
    OPERATOR_SERVICE_ACCOUNT,
    SYSTEM_NAMESPACE,
)
from tenantry.api.resources import CLUSTERS, NAMESPACES, ROLE_BINDINGS, SECRETS, SERVICE_ACCOUNTS, Resource

Json = dict[str, Any]

TOKEN_TYPE: Final = "kubernetes.io/service-account-token"  # noqa: S105 - a type of Secret
KUBECONFIG_KEY: Final = "value"
OLDEST_VERSION: Final = (1, 30)
"""ValidatingAdmissionPolicy is served as v1 since Kubernetes 1.30."""

_RBAC: Final = "rbac.authorization.k8s.io"
_ADMISSION: Final = "admissionregistration.k8s.io"
RIGHTS_KINDS: Final = {
    (resource.api_version, resource.kind): resource
    for resource in (
        NAMESPACES,
        SERVICE_ACCOUNTS,
        ROLE_BINDINGS,
        Resource(_RBAC, "v1", "Role", "roles"),
        Resource(_RBAC, "v1", "ClusterRole", "clusterroles", namespaced=False),
        Resource(_RBAC, "v1", "ClusterRoleBinding", "clusterrolebindings", namespaced=False),
        Resource(_ADMISSION, "v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies", namespaced=False),
        Resource(
            _ADMISSION, "v1", "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", namespaced=False
        ),
    )
}
"""All kinds in deploy/target-rbac.yaml: a person applies them, the operator never touches most of them."""

_VERSION = re.compile(r"v(\d+)\.(\d+)")


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is said about the Cluster by flags; None where nothing is said."""

    domain: str | None = None
    region: str | None = None
    environment: str | None = None
    ingress_class: str | None = None
    default: bool | None = None
    allowed_workspaces: str | None = None

    def spec(self) -> Json:
        """The fields of a Cluster's spec that the flags are about, and no other."""
        fields: Json = {
            "domain": self.domain,
            "region": self.region,
            "environment": self.environment,
            "default": self.default,
            "ingress": {"className": self.ingress_class} if self.ingress_class else None,
            "allowedWorkspaces": {"from": self.allowed_workspaces} if self.allowed_workspaces else None,
        }
        return {name: value for name, value in fields.items() if value is not None}


# --- on the target --------------------------------------------------------------------------------------------
def token_secret(name: str, *, cluster: str, joined_by: str) -> Json:
    """A Secret that the target fills with a token of the operator's ServiceAccount; it holds until it is deleted."""
    return {
        "apiVersion": SECRETS.api_version,
        "kind": SECRETS.kind,
        "metadata": {
            "name": name,
            "namespace": SYSTEM_NAMESPACE,
            "labels": {LABEL_MANAGED_BY: MANAGED_BY, LABEL_JOINED_BY: joined_by},
            "annotations": {
                "kubernetes.io/service-account.name": OPERATOR_SERVICE_ACCOUNT,
                ANNOTATION_CLUSTER: cluster,
            },
        },
        "type": TOKEN_TYPE,
    }


def is_former_token(secret: Json, *, cluster: str, keep: str) -> bool:
    """Whether this Secret is a token that an earlier join made for the same Cluster."""
    metadata = secret["metadata"]
    made_for = (metadata.get("annotations") or {}).get(ANNOTATION_CLUSTER)
    return secret.get("type") == TOKEN_TYPE and made_for == cluster and metadata["name"] != keep


def too_old(git_version: str) -> bool:
    """Whether an API server of this version lacks the admission policies that keep the operator in bounds."""
    found = _VERSION.match(git_version)
    return found is not None and (int(found[1]), int(found[2])) < OLDEST_VERSION


# --- on the management cluster --------------------------------------------------------------------------------
def kubeconfig(name: str, *, server: str, ca_pem: bytes, token: str, tls_server_name: str | None = None) -> str:
    """A kubeconfig with everything in line, as JSON, which is YAML too."""
    cluster = {"server": server, "certificate-authority-data": base64.b64encode(ca_pem).decode()}
    if tls_server_name:
        cluster["tls-server-name"] = tls_server_name
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": cluster}],
            "users": [{"name": OPERATOR_SERVICE_ACCOUNT, "user": {"token": token}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": OPERATOR_SERVICE_ACCOUNT}}],
            "current-context": name,
        },
        indent=2,
    )


def kubeconfig_secret(name: str, namespace: str, key: str, text: str) -> Json:
    """The Secret in the operator's namespace."""
    return {
        "apiVersion": SECRETS.api_version,
        "kind": SECRETS.kind,
        "metadata": {"name": name, "namespace": namespace, "labels": {LABEL_MANAGED_BY: MANAGED_BY}},
        "type": "Opaque",
        "data": {key: base64.b64encode(text.encode()).decode()},
    }


def secret_name(cluster: str) -> str:
    """The name of the kubeconfig's Secret of a new Cluster, as Cluster API gives it."""
    return f"{cluster}-kubeconfig"


def cluster_manifest(name: str, wishes: Wishes) -> Json:
    """A new Cluster."""
    return {
        "apiVersion": CLUSTERS.api_version,
        "kind": CLUSTERS.kind,
        "metadata": {"name": name},
        "spec": {"kubeconfigSecretRef": {"name": secret_name(name)}, **wishes.spec()},
    }


def cluster_patch(wishes: Wishes, requested_at: str) -> Json:
    """What is changed of a Cluster that is there: what the flags say, and that the operator shall look at it now."""
    spec = wishes.spec()
    return {
        "metadata": {"annotations": {ANNOTATION_REQUESTED_AT: requested_at}},
        **({"spec": spec} if spec else {}),
    }


def kubeconfig_place(reference: Json, there: Mapping[str, str], conventional: tuple[str, ...]) -> tuple[str, str]:
    """The name of the Secret that a Cluster reads, and the key in it.

    Args:
        reference: The Cluster's kubeconfigSecretRef.
        there: The `data` of that Secret; empty if there is none.
        conventional: The keys that are looked for where the Cluster names none, in their order.
    """
    found = next((key for key in conventional if key in there), KUBECONFIG_KEY)
    return reference["name"], reference.get("key") or found


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a Cluster is Ready, as the operator said it last, in which words, and if only a person can help."""

    ready: bool
    message: str
    stalled: bool = False


def readiness(cluster: Json, *, requested_at: str | None) -> Readiness:
    """What the status of a Cluster says about its present spec.

    Args:
        cluster: The Cluster.
        requested_at: What the operator must have answered to; None for a new Cluster.
    """
    status = cluster.get("status") or {}
    handled = status.get("lastHandledReconcileAt")
    if status.get("observedGeneration", -1) < 0:
        return Readiness(False, "no operator has looked at it yet: is `tenantry operator` running?")
    if status["observedGeneration"] < cluster["metadata"]["generation"] or requested_at not in {None, handled}:
        return Readiness(False, "the operator has not looked at the change yet: is `tenantry operator` running?")
    conditions = {condition["type"]: condition for condition in status.get("conditions") or ()}
    ready = conditions.get("Ready")
    if ready is None:
        return Readiness(False, "the operator has not judged it yet")
    return Readiness(
        ready["status"] == "True",
        f"{ready['reason']}: {ready.get('message') or ready['status']}",
        stalled=conditions.get("Stalled", {}).get("status") == "True",
    )
