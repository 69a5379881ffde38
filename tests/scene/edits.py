"""What people do to a tenant's objects on a target behind the operator's back."""

from __future__ import annotations

from typing import Any, Final

from tenantry.api.resources import (
    CONFIG_MAPS,
    INGRESSES,
    LIMIT_RANGES,
    NETWORK_POLICIES,
    RESOURCE_QUOTAS,
    ROLE_BINDINGS,
    SERVICE_ACCOUNTS,
    Resource,
)

Json = dict[str, Any]

SERVER_FIELDS: Final = ("uid", "resourceVersion", "creationTimestamp", "managedFields", "generation")
"""Of metadata, what the API server says of an object and nobody wants."""

EDITS: Final[tuple[tuple[Resource, str, Json], ...]] = (
    (RESOURCE_QUOTAS, "tenant", {"spec": {"hard": {"pods": "1000"}}}),
    (LIMIT_RANGES, "tenant", {"spec": {"limits": [{"type": "Container", "default": {"cpu": "64"}}]}}),
    (NETWORK_POLICIES, "tenant-isolation", {"spec": {"ingress": [{}]}}),
    (NETWORK_POLICIES, "tenant-egress", {"spec": {"egress": [{}]}}),
    (SERVICE_ACCOUNTS, "tenant", {"automountServiceAccountToken": True}),
    (ROLE_BINDINGS, "tenant-admin", {"subjects": [{"kind": "Group", "name": "everybody",
                                                   "apiGroup": "rbac.authorization.k8s.io"}]}),
    (CONFIG_MAPS, "tenant-info", {"data": {"plan": "gold"}}),
    (INGRESSES, "tenant", {"spec": {"ingressClassName": "another"}}),
)  # fmt: skip
"""The kind, the object's name, and the merge patch."""


def meant(body: Json) -> Json:
    """An object without what the server says of it."""
    metadata = {key: value for key, value in body["metadata"].items() if key not in SERVER_FIELDS}
    return {**{key: value for key, value in body.items() if key != "status"}, "metadata": metadata}
