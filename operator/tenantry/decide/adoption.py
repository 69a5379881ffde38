"""Whether a namespace that is not ours may be taken over: only with its owner's written consent, for one tenant."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from tenantry.api.identity import TenantIdentity
from tenantry.api.names import (
    ANNOTATION_ADOPTED,
    ANNOTATION_ALLOW_ADOPTION,
    GROUP,
    LABEL_MANAGEMENT_ID,
    LABEL_TENANT_HASH,
    RESERVED_NAMESPACES,
)

ENFORCE: Final = "pod-security.kubernetes.io/enforce"
KEEPS: Final = ("restricted", "baseline")
"""Levels of Pod Security that the operator may give back: it can't make a namespace laxer."""


def consent(identity: TenantIdentity) -> str:
    """What the owner of a namespace has to write on it."""
    return f"{identity.management_id}/{identity.workspace}/{identity.name}"


def is_reserved(name: str) -> bool:
    """Whether a namespace is Kubernetes' or the operator's own."""
    return name in RESERVED_NAMESPACES or name.startswith("kube-")


def is_foreign(namespace: Mapping[str, Any]) -> bool:
    """Whether a namespace bears no stamp at all, neither ours nor another installation's."""
    labels = namespace["metadata"].get("labels") or {}
    return LABEL_MANAGEMENT_ID not in labels and LABEL_TENANT_HASH not in labels


def is_offered(namespace: Mapping[str, Any], identity: TenantIdentity) -> bool:
    """Whether it is nobody's, is not being deleted, and its owner consents to its adoption by this very tenant."""
    metadata = namespace["metadata"]
    given = (metadata.get("annotations") or {}).get(ANNOTATION_ALLOW_ADOPTION)
    return (
        is_foreign(namespace)
        and not is_reserved(metadata["name"])
        and not metadata.get("deletionTimestamp")
        and given == consent(identity)
    )


def was_adopted(namespace: Mapping[str, Any], identity: TenantIdentity) -> bool:
    """Whether a tenant's namespace is one that it adopted: as noted on it, or as its owner still says."""
    annotations = namespace["metadata"].get("annotations") or {}
    return ANNOTATION_ADOPTED in annotations or annotations.get(ANNOTATION_ALLOW_ADOPTION) == consent(identity)


def taking(namespace: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The merge patch that puts the stamp on a namespace, if nobody changed it since it was read.

    Args:
        namespace: As it was read.
        wanted: As it is to be.
    """
    metadata, new = namespace["metadata"], wanted["metadata"]
    labels = metadata.get("labels") or {}
    former = {key: labels.get(key) for key in sorted(new["labels"]) if not key.startswith(f"{GROUP}/")}
    annotations = {**new["annotations"], ANNOTATION_ADOPTED: json.dumps(former)}
    return {"metadata": {**_as_read(metadata), "labels": dict(new["labels"]), "annotations": annotations}}


def letting_go(namespace: Mapping[str, Any]) -> dict[str, Any]:
    """The merge patch that takes the stamp off again and gives back the labels that were there before.

    Pod Security is the exception: what was laxer or absent stays as the tenant had it, for the operator may not relax
    it. The owner's consent stays too, for it is the owner's.
    """
    metadata = namespace["metadata"]
    annotations = metadata.get("annotations") or {}
    former = _former(annotations.get(ANNOTATION_ADOPTED, ""))
    if former.get(ENFORCE, "") not in KEEPS:
        former.pop(ENFORCE, None)
    ours: dict[str, str | None] = dict.fromkeys(key for key in metadata["labels"] if key.startswith(f"{GROUP}/"))
    noted = [key for key in annotations if key.startswith(f"{GROUP}/") and key != ANNOTATION_ALLOW_ADOPTION]
    return {"metadata": {**_as_read(metadata), "labels": {**ours, **former}, "annotations": dict.fromkeys(noted)}}


def _as_read(metadata: Mapping[str, Any]) -> dict[str, str]:
    return {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}


def _former(text: str) -> dict[str, str | None]:
    """The labels as they were; what was never noted, or makes no sense, is only taken off where it is our mark."""
    from_us: dict[str, str | None] = {"app.kubernetes.io/managed-by": None}
    try:
        noted = json.loads(text)
    except ValueError:
        return from_us
    if not isinstance(noted, dict):
        return from_us
    known = {
        key: value
        for key, value in noted.items()
        if not key.startswith(f"{GROUP}/") and (value is None or isinstance(value, str))
    }
    return {**from_us, **known}
