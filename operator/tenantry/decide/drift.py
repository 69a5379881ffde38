"""Whether a live object is as wanted: all that we want is in it, and nothing that we no longer want is still ours."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from tenantry.api.names import ANNOTATION_DESIRED_HASH
from tenantry.decide.quantities import same_quantity

_QUANTITY_FIELDS = frozenset({"hard", "default", "defaultRequest", "max", "min", "requests", "limits"})


def desired_hash(body: Mapping[str, Any]) -> str:
    """Digest of a desired object without its secret values, for the annotation that travels with it.

    A field that was taken out of the desired object changes the digest, so it is noticed although
    everything that is still wanted is there.
    """
    public = (
        {key: value for key, value in body.items() if key not in ("data", "stringData")} if _is_secret(body) else body
    )
    return hashlib.sha256(json.dumps(public, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


def with_desired_hash(body: dict[str, Any]) -> dict[str, Any]:
    """The object with its digest as an annotation."""
    metadata = dict(body["metadata"])
    metadata["annotations"] = {**metadata.get("annotations", {}), ANNOTATION_DESIRED_HASH: desired_hash(body)}
    return {**body, "metadata": metadata}


def in_sync(desired: Mapping[str, Any], live: Mapping[str, Any]) -> bool:
    """Whether nothing has to be written: every desired field is live (the digest annotation among them)."""
    return _contained(desired, live, quantities=False)


def _contained(desired: Any, live: Any, *, quantities: bool) -> bool:
    if isinstance(desired, Mapping):
        return isinstance(live, Mapping) and all(
            _absent(value)
            if key not in live
            else _contained(value, live[key], quantities=key in _QUANTITY_FIELDS or quantities)
            for key, value in desired.items()
        )
    if isinstance(desired, list):
        # Lists are compared whole: what somebody added to a list of rules or subjects is drift.
        return (
            isinstance(live, list)
            and len(desired) == len(live)
            and all(_contained(one, other, quantities=quantities) for one, other in zip(desired, live, strict=True))
        )
    if quantities and isinstance(desired, str | int) and isinstance(live, str | int):
        return same_quantity(desired, live)
    return bool(desired == live)


def _absent(value: Any) -> bool:
    """The API server leaves out what is empty."""
    return value is None or (isinstance(value, list | dict) and not value)


def _is_secret(body: Mapping[str, Any]) -> bool:
    return body.get("kind") == "Secret"
