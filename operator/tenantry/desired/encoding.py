"""Secret data as the API carries it."""

from __future__ import annotations

import base64
from collections.abc import Mapping


def encoded(values: Mapping[str, str]) -> dict[str, str]:
    """Values to base64."""
    return {name: base64.b64encode(value.encode()).decode() for name, value in values.items()}


def decoded(data: Mapping[str, str]) -> dict[str, str]:
    """Base64 to values; what is no UTF-8 text keeps its replacement characters.

    Raises:
        ValueError: if a value is no base64 (the API server stores none).
    """
    return {name: base64.b64decode(value).decode(errors="replace") for name, value in data.items()}
