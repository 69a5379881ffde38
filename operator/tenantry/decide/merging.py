"""JSON merge patches (RFC 7386): what one does, and the one that makes an object of another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def merged(have: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """The object that a merge patch makes of another."""
    result = {key: value for key, value in have.items() if not (key in patch and patch[key] is None)}
    for key, value in patch.items():
        if isinstance(value, Mapping):
            former = have.get(key)
            result[key] = merged(former if isinstance(former, Mapping) else {}, value)
        elif value is not None:
            result[key] = value
    return result


def merge_patch(have: Mapping[str, Any], want: Mapping[str, Any]) -> dict[str, Any]:
    """The merge patch that makes exactly `want` of `have`; None in `want` is as if the key were not there."""
    patch: dict[str, Any] = {key: None for key in have if want.get(key) is None}
    for key, value in want.items():
        former = have.get(key)
        if value is None or _same(former, value):
            continue
        if isinstance(value, Mapping) and isinstance(former, Mapping):
            patch[key] = merge_patch(former, value)
        else:
            patch[key] = value
    return patch


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON, where False is not 0, however deep."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other) and type(one) is type(other)
