"""The tenant's Namespace: its stamp, Pod Security, and the annotations that the target's admission policies read."""

from __future__ import annotations

from typing import Any

from tenantry.api.names import ANNOTATION_HOSTS, ANNOTATION_IMAGE_PULL_POLICY, ANNOTATION_SERVICE_TYPES
from tenantry.api.resources import NAMESPACES
from tenantry.desired.blueprint import Blueprint
from tenantry.desired.stamp import stamped

POD_SECURITY_MODES = ("enforce", "audit", "warn")


def namespace(blueprint: Blueprint) -> dict[str, Any]:
    """The Namespace. Its hosts shrink only after the Ingress did, and grow before it does: see reconcile."""
    security = {f"pod-security.kubernetes.io/{mode}": blueprint.effective.pod_security for mode in POD_SECURITY_MODES}
    return stamped(
        NAMESPACES,
        blueprint.identity,
        blueprint.namespace,
        labels={**security, "pod-security.kubernetes.io/enforce-version": "latest"},
        annotations={
            ANNOTATION_HOSTS: ",".join(sorted(host.host for host in blueprint.hosts)),
            ANNOTATION_IMAGE_PULL_POLICY: blueprint.effective.image_pull_policy,
            ANNOTATION_SERVICE_TYPES: ",".join(blueprint.effective.service_types),
        },
    )
