"""How two ends differ: what is missing, too much or another, in words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

State = Mapping[str, Any]
"""Everything by kind and name, with placeholders."""


def difference(expected: State, found: State) -> list[str]:
    """What is missing, too much or different, in words; empty for the same."""
    told = [f"missing: {key}" for key in sorted(expected.keys() - found.keys())]
    told += [f"left over: {key}" for key in leaks(expected, found)]
    for key in sorted(expected.keys() & found.keys()):
        told += [f"{key}{where}" for where in _unequal(expected[key], found[key])]
    return told


def leaks(expected: State, found: State) -> list[str]:
    """What is there that the undisturbed end does not have."""
    return sorted(found.keys() - expected.keys())


def _unequal(expected: Any, found: Any, where: str = "") -> Iterator[str]:
    """The places where two values differ."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in sorted(expected.keys() | found.keys()):
            yield from _unequal(expected.get(key), found.get(key), f"{where}.{key}")
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for number, pair in enumerate(zip(expected, found, strict=True)):
            yield from _unequal(*pair, f"{where}[{number}]")
    elif expected != found:
        yield f"{where}: expected {json.dumps(expected)[:300]}, found {json.dumps(found)[:300]}"
