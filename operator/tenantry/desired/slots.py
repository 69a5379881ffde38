"""The slot that a tenant holds of a plan: a Lease whose atomic creation decides who has it (rule 4)."""

from __future__ import annotations

from typing import Any, Final

from tenantry.api.identity import TenantIdentity, base32_digest
from tenantry.api.names import ANNOTATION_TENANT_ID, CLAIM_SLOT, LABEL_CLAIM, LABEL_MANAGED_BY, LABEL_PLAN, MANAGED_BY
from tenantry.api.resources import LEASES

LABEL_LENGTH: Final = 63
GROUP_LENGTH: Final = 16


def plan_label(plan: str) -> str:
    """The value of the label that names a plan: its name; one that is too long is cut and ends in 8 hash characters."""
    return plan if len(plan) <= LABEL_LENGTH else f"{plan[:54].rstrip('-.')}-{base32_digest(plan)}"


def slot_prefix(plan: str, workspace_uid: str) -> str:
    """What the names of all slots that a plan has for a workspace begin with; the slot's number follows."""
    return f"slot-{base32_digest(plan, workspace_uid, length=GROUP_LENGTH)}-"


def slot(namespace: str, plan: str, number: int, identity: TenantIdentity) -> dict[str, Any]:
    """One slot, held by a tenant."""
    return {
        "apiVersion": LEASES.api_version,
        "kind": LEASES.kind,
        "metadata": {
            "name": f"{slot_prefix(plan, identity.workspace_uid)}{number}",
            "namespace": namespace,
            "labels": {LABEL_MANAGED_BY: MANAGED_BY, LABEL_CLAIM: CLAIM_SLOT, LABEL_PLAN: plan_label(plan)},
            "annotations": {ANNOTATION_TENANT_ID: identity.tenant_id},
        },
        "spec": {"holderIdentity": identity.record},
    }
