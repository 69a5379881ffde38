"""Quantities as Kubernetes canonicalises them: the number counts, not the spelling."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.strategies import calmly

from tenantry.decide.quantities import parse_quantity, same_quantity

numbers = st.decimals(0, 10**6, places=3).map(lambda number: format(number, "f"))
suffixes = st.sampled_from(["", "m", "k", "M", "G", "Ki", "Mi", "Gi"])


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", "0"), (5, "5"), ("100m", "0.1"), ("1500m", "1.5"), ("0.5", "0.5"), (".5", "0.5"), ("1.", "1"),
        ("+2", "2"), ("1k", "1000"), ("1Ki", "1024"),
        ("1.5Gi", "1610612736"), ("0.1Ki", "102.4"), ("1M", "1000000"),
        ("1E", "1000000000000000000"), ("1e3", "1000"), ("1E3", "1000"), ("12e-1", "1.2"), ("100u", "0.0001"),
        ("1n", "0.000000001"), ("7Ei", "8070450532247928832"),
    ],
)  # fmt: skip
def test_the_examples_of_kubernetes(text: str | int, number: str) -> None:
    assert parse_quantity(text) == Decimal(number)


@pytest.mark.parametrize(
    "text", ["", "m", "1 Gi", "1gi", "1K", "0x10", "1_000", "-1", "1.2.3", "1e", "NaN", "Inf", "٣", "1\n", "1GiB", -1]
)
def test_what_is_no_quantity_is_refused(text: str | int) -> None:
    with pytest.raises(ValueError, match="is not a quantity such as 2, 500m or 4Gi"):
        parse_quantity(text)


def test_an_exponent_beyond_all_bounds_is_refused() -> None:
    with pytest.raises(ValueError, match="is out of range"):
        parse_quantity("9e9999999999999999999")


@pytest.mark.parametrize("text", ["0.0000000001", "1e-30", "1e-999999", "0.1n"])
def test_what_is_less_than_a_billionth_is_rounded_up_to_one(text: str) -> None:
    assert parse_quantity(text) == Decimal("1e-9")


@pytest.mark.parametrize(
    ("written", "stored"),
    [("100n", "1m"), ("0.0000000001", "1m"), ("1e-999999", "1m"), ("1.0001", "1001m"), ("1100u", "2m"), ("2.0", "2")],
)
def test_in_a_list_of_resources_thousandths_are_the_smallest_as_the_api_server_has_it(
    written: str, stored: str
) -> None:
    assert same_quantity(written, stored)
    assert not same_quantity(written, f"{stored}0" if stored == "2" else "3")


def test_a_binary_quantity_is_capped_where_the_api_server_caps_it() -> None:
    assert parse_quantity("7Ei") < 2**63 - 1
    assert parse_quantity("16Ei") == 2**63 - 1


@calmly
@given(st.integers(10**30, 10**32 - 1))
def test_long_numbers_are_not_rounded(number: int) -> None:
    assert not same_quantity(str(number), str(number + 1))


@calmly
@given(numbers, suffixes)
def test_a_thousand_times_as_many_thousandths_are_the_same(number: str, suffix: str) -> None:
    value = parse_quantity(f"{number}{suffix}")
    if value == value.to_integral_value():
        assert same_quantity(f"{number}{suffix}", f"{int(value) * 1000}m")


@calmly
@given(numbers, suffixes, st.sampled_from([1, 2, 3]))
def test_order_is_that_of_the_numbers(number: str, suffix: str, more: int) -> None:
    assert parse_quantity(f"{number}{suffix}") <= parse_quantity(format(Decimal(number) + more, "f") + suffix)


@calmly
@given(st.text(max_size=6), st.text(max_size=6))
def test_texts_that_are_none_are_the_same_only_if_they_are_equal(one: str, other: str) -> None:
    if not (one + other).strip("0123456789.+eEnumkMGTPi"):
        return
    assert same_quantity(f"x{one}", f"x{other}") == (one == other)
