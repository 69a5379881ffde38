"""The stamp: the labels and annotations that say whose an object is; on everything Tenantry makes on a target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tenantry.api.identity import TenantIdentity
from tenantry.api.names import (
    ANNOTATION_EPOCH,
    ANNOTATION_RECORD,
    ANNOTATION_TENANT_ID,
    LABEL_MANAGED_BY,
    LABEL_MANAGEMENT_ID,
    LABEL_TENANT_HASH,
    MANAGED_BY,
)
from tenantry.api.resources import Resource


def stamp_labels(identity: TenantIdentity) -> dict[str, str]:
    """The labels of the stamp: what lists and watches select by."""
    return {
        LABEL_MANAGED_BY: MANAGED_BY,
        LABEL_MANAGEMENT_ID: identity.management_id,
        LABEL_TENANT_HASH: identity.tenant_hash,
    }


def stamp_annotations(identity: TenantIdentity) -> dict[str, str]:
    """The annotations of the stamp: what a lost record is rebuilt from."""
    return {
        ANNOTATION_TENANT_ID: identity.tenant_id,
        ANNOTATION_RECORD: identity.record,
        ANNOTATION_EPOCH: str(identity.epoch),
    }


def stamped(
    resource: Resource,
    identity: TenantIdentity,
    name: str,
    *,
    namespace: str = "",
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    **content: Any,
) -> dict[str, Any]:
    """A manifest with the stamp; `content` is what stands beside metadata, such as spec or data."""
    metadata: dict[str, Any] = {"name": name}
    if namespace:
        metadata["namespace"] = namespace
    metadata["labels"] = {**(labels or {}), **stamp_labels(identity)}
    metadata["annotations"] = {**(annotations or {}), **stamp_annotations(identity)}
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, **content}


def bears_stamp(live: Mapping[str, Any], identity: TenantIdentity) -> bool:
    """Whether an object on a target is this very tenant's.

    The hash alone does not say so: 40 bits can be searched for a name that gives the hash of another tenant.
    """
    metadata = live.get("metadata") or {}
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    return all(labels.get(key) == value for key, value in stamp_labels(identity).items()) and (
        annotations.get(ANNOTATION_TENANT_ID, identity.tenant_id) == identity.tenant_id
    )
