"""Resource quantities as numbers, so that `500m` equals `0.5` and `4Gi` is less than `8Gi`."""

from __future__ import annotations

import re
from decimal import ROUND_UP, Context, Decimal
from typing import Final

from tenantry.api.base import QUANTITY_PATTERN

_SUFFIXES: Final = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    "k": Decimal(10) ** 3,
    "M": Decimal(10) ** 6,
    "G": Decimal(10) ** 9,
    "T": Decimal(10) ** 12,
    "P": Decimal(10) ** 15,
    "E": Decimal(10) ** 18,
    "Ki": Decimal(2) ** 10,
    "Mi": Decimal(2) ** 20,
    "Gi": Decimal(2) ** 30,
    "Ti": Decimal(2) ** 40,
    "Pi": Decimal(2) ** 50,
    "Ei": Decimal(2) ** 60,
}
_NANO: Final = Decimal("1e-9")
_MILLI: Final = Decimal("1e-3")
_LARGEST_BINARY: Final = Decimal(2**63 - 1)
_DIGITS: Final = 100
"""Enough for every quantity of 32 characters to be computed without rounding."""
_QUANTITY: Final = re.compile(QUANTITY_PATTERN)
_PARTS: Final = re.compile(r"^([+-]?[0-9.]+)(?:([eE][+-]?[0-9]+)|([KMGTPE]i|[numkMGTPE]))?$")


def parse_quantity(text: str | int) -> Decimal:
    """The number that a quantity stands for: rounded up to a billionth and, with a binary suffix, capped as there.

    Raises:
        ValueError: if it is none (k8s.io/apimachinery/pkg/api/resource).
    """
    written = str(text)
    parts = _PARTS.fullmatch(written) if _QUANTITY.fullmatch(written) else None
    if parts is None:
        raise ValueError(f"{written!r} is not a quantity such as 2, 500m or 4Gi")
    number, exponent, suffix = parts.groups()
    exact = Context(prec=_DIGITS)
    try:
        value = exact.multiply(Decimal(number + (exponent or "")), _SUFFIXES[suffix or ""])
        value = _rounded_up(value, _NANO)
        return min(value, _LARGEST_BINARY) if suffix and suffix.endswith("i") else value
    except ArithmeticError as error:
        raise ValueError(f"{written!r} is out of range") from error


def times(quantity: str | int, factor: int) -> str:
    """A quantity so many times over, in its own unit; what is none stays as it is."""
    parts = _PARTS.fullmatch(str(quantity))
    if parts is None or factor == 1:
        return str(quantity)
    number, exponent, suffix = parts.groups()
    product = Context(prec=_DIGITS).multiply(Decimal(number), Decimal(factor))
    return f"{product:f}{exponent or suffix or ''}"


def same_quantity(one: str | int, other: str | int) -> bool:
    """Whether two spellings are the same in a list of resources; spellings that are none must be equal as text.

    In such a list the API server rounds up to thousandths [tried on 1.36].
    """
    if one == other:
        return True
    try:
        return _rounded_up(parse_quantity(one), _MILLI) == _rounded_up(parse_quantity(other), _MILLI)
    except ValueError:
        return False


def _rounded_up(value: Decimal, unit: Decimal) -> Decimal:
    if value == value.to_integral_value():
        return value
    return value.quantize(unit, ROUND_UP, Context(prec=_DIGITS))
