"""Whether a live object is as wanted: all that we want is in it, and nothing that we no longer want is still ours."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson

from tenantry.api.names import ANNOTATION_DESIRED_HASH
from tenantry.decide.quantities import same_quantity

_QUANTITY_FIELDS = frozenset({"hard", "default", "defaultRequest", "max", "min", "requests", "limits"})
_FULL_OF_DEFAULTS = frozenset({"StatefulSet"})
"""Its pod template has lists of objects with many fields, more with each Kubernetes version, that we don't say."""
_SELECTORS = frozenset({"podSelector", "namespaceSelector"})
"""Merged as a whole by the API server. In a list of peers an empty one selects everything, a missing one nothing."""


def desired_hash(body: Mapping[str, Any]) -> str:
    """Digest of a desired object without its secret values, for the annotation that travels with it.

    A field that was taken out of the desired object changes the digest, so it is noticed although
    everything that is still wanted is there. Of a Secret the names of its keys count, for the same reason.
    """
    public = (
        {key: sorted(value) if key in ("data", "stringData") else value for key, value in body.items()}
        if _is_secret(body)
        else body
    )
    return hashlib.sha256(orjson.dumps(public, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def with_desired_hash(body: dict[str, Any]) -> dict[str, Any]:
    """The object with its digest as an annotation."""
    metadata = dict(body["metadata"])
    metadata["annotations"] = {**metadata.get("annotations", {}), ANNOTATION_DESIRED_HASH: desired_hash(body)}
    return {**body, "metadata": metadata}


def in_sync(desired: Mapping[str, Any], live: Mapping[str, Any]) -> bool:
    """Whether nothing has to be written: every desired field is live (the digest annotation among them)."""
    if desired.get("kind") in _FULL_OF_DEFAULTS:
        desired, live = _keyed(desired), _keyed(live)
    return _contained(desired, live, quantities=False, whole=False)


def _keyed(value: Any) -> Any:
    """The same with every list of objects as a map by position, in which the API server may add what it likes."""
    if isinstance(value, Mapping):
        return {key: _keyed(item) for key, item in value.items()}
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        return {"length": len(value), **{str(place): _keyed(item) for place, item in enumerate(value)}}
    return value


def _contained(desired: Any, live: Any, *, quantities: bool, whole: bool) -> bool:
    if isinstance(desired, Mapping):
        return (
            isinstance(live, Mapping)
            and not (whole and any(not _absent(key, live[key], whole) for key in live.keys() - desired.keys()))
            and all(
                _absent(key, value, whole)
                if key not in live
                else _contained(
                    value, live[key], quantities=key in _QUANTITY_FIELDS or quantities, whole=key in _SELECTORS or whole
                )
                for key, value in desired.items()
            )
        )
    if isinstance(desired, list):
        # Lists are compared whole, with all in them: what somebody added to a rule or to a peer of it is drift.
        return (
            isinstance(live, list)
            and len(desired) == len(live)
            and all(
                _contained(one, other, quantities=quantities, whole=True)
                for one, other in zip(desired, live, strict=True)
            )
        )
    if quantities and isinstance(desired, str | int) and isinstance(live, str | int):
        return same_quantity(desired, live)
    return bool(desired == live)


def _absent(key: str, value: Any, whole: bool) -> bool:
    """The API server leaves out what is empty, but for the selectors of a peer."""
    return value is None or (isinstance(value, list | dict) and not value and not (whole and key in _SELECTORS))


def _is_secret(body: Mapping[str, Any]) -> bool:
    return body.get("kind") == "Secret"
