"""What people do to a tenant's objects on the target behind the operator's back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from tests.crash.case import Names
from tests.crash.looking import Looking

from tenantry.api.names import LABEL_CLAIM
from tenantry.api.resources import (
    CONFIG_MAPS,
    INGRESSES,
    NAMESPACES,
    NETWORK_POLICIES,
    RESOURCE_QUOTAS,
    ROLE_BINDINGS,
    SECRETS,
    resource_of,
)

Json = dict[str, Any]

_EDITS: Final[Mapping[str, Callable[[Json], Json]]] = MappingProxyType(
    {
        NAMESPACES.kind: lambda _: {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}},
        NETWORK_POLICIES.kind: lambda body: {"spec": {way.lower(): [{}] for way in body["spec"]["policyTypes"]}},
        RESOURCE_QUOTAS.kind: lambda body: {"spec": {"hard": dict.fromkeys(body["spec"]["hard"], "99")}},
        ROLE_BINDINGS.kind: lambda _: {"subjects": []},
        CONFIG_MAPS.kind: lambda body: {"data": dict.fromkeys(body["data"], "meddled with")},
        INGRESSES.kind: lambda _: {"spec": {"ingressClassName": "another"}},
    }
)


def edit_one(looking: Looking, names: Names, number: int) -> str:
    """Change what matters of one of its objects; which one, in words."""
    bodies = [body for body in looking.on_target(names) if body["kind"] in _EDITS and not _is_claim(body)]
    return _to_one(bodies, number, lambda path, body: looking.target.patch(path, _EDITS[body["kind"]](body), dry=False))


def delete_one(looking: Looking, names: Names, number: int) -> str:
    """Delete one of its objects; which one, in words.

    Not the namespace, with which all that runs in it would go, and no Secret, which is looked at only at resync.
    """
    kept = (NAMESPACES.kind, SECRETS.kind)
    bodies = [body for body in looking.on_target(names) if body["kind"] not in kept]
    return _to_one(bodies, number, lambda path, _: looking.target.delete(path, dry=False))


def _to_one(bodies: list[Json], number: int, act: Callable[[str, Json], Any]) -> str:
    if not bodies:
        return "nothing is there"
    body = bodies[number % len(bodies)]
    metadata = body["metadata"]
    answer = act(resource_of(body).path(metadata.get("namespace", ""), metadata["name"]), body)
    assert answer.status in (200, 202, 404), answer.message
    return f"{body['kind']} {metadata['name']}"


def _is_claim(body: Json) -> bool:
    return LABEL_CLAIM in body["metadata"].get("labels", {})
