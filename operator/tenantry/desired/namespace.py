"""The tenant's Namespace: its stamp, Pod Security, and the annotations that the target's admission policies read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from tenantry.api.names import (
    ANNOTATION_ACTIVITY,
    ANNOTATION_ARRIVING,
    ANNOTATION_HOSTS,
    ANNOTATION_IMAGE_PULL_POLICY,
    ANNOTATION_INCARNATION,
    ANNOTATION_PLAN_REVISION,
    ANNOTATION_SERVICE_TYPES,
    ANNOTATION_WORKSPACE_UID,
)
from tenantry.api.resources import NAMESPACES
from tenantry.api.tenantrecord import PinnedPlan
from tenantry.desired.blueprint import Blueprint
from tenantry.desired.stamp import stamped

POD_SECURITY_MODES = ("enforce", "audit", "warn")


def namespace(blueprint: Blueprint, activity: str | None = None) -> dict[str, Any]:
    """The Namespace. Its hosts shrink only after the Ingress did, and grow before it does: see reconcile.

    Args:
        blueprint: The tenant.
        activity: `off` or `tasks-off`, while workloads may be at zero by our doing.
    """
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
            ANNOTATION_WORKSPACE_UID: blueprint.identity.workspace_uid,
            ANNOTATION_INCARNATION: str(blueprint.identity.incarnation),
            **({ANNOTATION_PLAN_REVISION: plan_text(blueprint.plan)} if blueprint.plan else {}),
            **({ANNOTATION_ACTIVITY: activity} if activity else {}),
            **({ANNOTATION_ARRIVING: "true"} if blueprint.arriving else {}),
        },
    )


def plan_text(plan: PinnedPlan) -> str:
    """A plan and its content as the namespace says them: only there, for each other object would be written for it."""
    return f"{plan.name}/{plan.revision}"


def plan_of(live: Mapping[str, Any]) -> PinnedPlan | None:
    """The plan and content that a tenant's namespace says; None where it says none, or nothing that makes sense."""
    name, _, revision = ((live["metadata"].get("annotations") or {}).get(ANNOTATION_PLAN_REVISION) or "").partition("/")
    try:
        return PinnedPlan(name=name, revision=revision)
    except ValidationError:
        return None
