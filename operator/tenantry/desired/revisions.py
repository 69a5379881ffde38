"""A plan's content as a ControllerRevision: what a tenant is rendered from, whatever the plan has become since."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

from tenantry.api.names import LABEL_MANAGED_BY, LABEL_PLAN, MANAGED_BY
from tenantry.api.resources import CONTROLLER_REVISIONS
from tenantry.api.tenantplan import TenantPlanSpec
from tenantry.desired.slots import plan_label

NAME_LENGTH: Final = 253
HASH_LENGTH: Final = 8
NOT_CONTENT: Final = frozenset({"display_name", "description", "allowed_workspaces", "max_tenants", "rollout"})
"""Fields that say who may be on the plan, how many and how it is rolled out: they hold at once and change no tenant."""


def content_of(spec: TenantPlanSpec) -> dict[str, Any]:
    """What of a plan reaches its tenants. Without defaults: a field that a later version adds makes no new content."""
    return spec.model_dump(by_alias=True, mode="json", exclude_defaults=True, exclude=set(NOT_CONTENT))


def content_hash(content: dict[str, Any]) -> str:
    """SHA-256 over the content, in hex; the order of its keys is nothing to it."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def revision_name(plan: str, content: dict[str, Any]) -> str:
    """`<plan>-<8 hex of the content's hash>`; a plan's name that leaves no room is cut."""
    digest = content_hash(content)[:HASH_LENGTH]
    return f"{plan[: NAME_LENGTH - HASH_LENGTH - 1].rstrip('-.')}-{digest}"


def revision(namespace: str, plan: str, content: dict[str, Any], number: int) -> dict[str, Any]:
    """The ControllerRevision of a content; its number says how new it is among those of the plan."""
    return {
        "apiVersion": CONTROLLER_REVISIONS.api_version,
        "kind": CONTROLLER_REVISIONS.kind,
        "metadata": {
            "name": revision_name(plan, content),
            "namespace": namespace,
            "labels": {LABEL_MANAGED_BY: MANAGED_BY, LABEL_PLAN: plan_label(plan)},
        },
        "data": {"spec": content},
        "revision": number,
    }
