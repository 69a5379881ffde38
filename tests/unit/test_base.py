"""Durations as Go reads them, and the bounded types: what matches the pattern is what is parsed."""

from __future__ import annotations

import re
from datetime import timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.strategies import calmly

from tenantry.api.base import DURATION_PATTERN, HOST_PATTERN, AllowedWorkspaces, parse_duration

NUMBERS = st.sampled_from(["0", "7", "0.0", "000000000.5", "9999999999", "1.999999999999"])
UNITS = {
    "h": Fraction(3600), "m": Fraction(60), "s": Fraction(1), "ms": Fraction(1, 10**3), "us": Fraction(1, 10**6),
    "µs": Fraction(1, 10**6), "ns": Fraction(1, 10**9),
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0), ("90s", 90), ("1h30m", 5400), ("1h", 3600), ("1.5h", 5400), ("24h", 86400), ("8760h", 31536000),
        ("1m1m", 120), ("5m1h", 3900), ("100ms", 0.1), ("250us", 0.00025), ("1µs", 0.000001), ("0.25s", 0.25),
        ("1h0m0s", 3600), ("007s", 7), ("2562047h", 9223369200),
    ],
)  # fmt: skip
def test_a_duration_means_what_it_means_in_go(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text",
    ["", "1", "s", "1d", "1 s", " 1s", "1s ", "1s\n", "-1s", "+1s", "1H", "h1", "1h30", "1..5s", "PT1H", "٣s", "1e3s"],
)
def test_what_is_no_duration_in_a_spec_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration such as 90s, 15m or 1h30m"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["2562048h", "9999999999h", "9" * 31 + "h"])
def test_what_go_cannot_hold_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="longer than Go's longest duration"):
        parse_duration(text)


@calmly
@given(st.lists(st.tuples(NUMBERS, st.sampled_from(list(UNITS))), min_size=1, max_size=3))
def test_all_that_the_pattern_admits_is_the_sum_of_its_parts_or_too_long(parts: list[tuple[str, str]]) -> None:
    text = "".join(number + unit for number, unit in parts)
    assert re.match(DURATION_PATTERN, text)
    seconds = sum(Fraction(number) * UNITS[unit] for number, unit in parts)
    if seconds * 10**9 > 2**63 - 1:
        with pytest.raises(ValueError, match="longer than Go's longest duration"):
            parse_duration(text)
    else:
        assert parse_duration(text).total_seconds() == pytest.approx(float(seconds), abs=1e-6)


@calmly
@given(st.integers(0, 1000), st.integers(0, 59), st.integers(0, 59))
def test_the_parts_of_a_duration_add_up(hours: int, minutes: int, seconds: int) -> None:
    assert parse_duration(f"{hours}h{minutes}m{seconds}s") == timedelta(hours=hours, minutes=minutes, seconds=seconds)


@pytest.mark.parametrize("host", ["acme.com", "*.acme.com", "a.b-c.d", "1.de", "xn--bcher-kva.example"])
def test_a_host_is_what_can_be_routed(host: str) -> None:
    assert re.fullmatch(HOST_PATTERN, host)


@pytest.mark.parametrize(
    "host",
    [
        "acme",
        "*",
        "*.com.",
        "a..b",
        "-a.com",
        "a-.com",
        "Acme.com",
        "a.*.com",
        "*a.com",
        "a_b.com",
        f"{'a' * 64}.com",
        "ä.de",
    ],
)
def test_what_cannot_be_routed_is_no_host(host: str) -> None:
    assert not re.fullmatch(HOST_PATTERN, host)


def test_nobody_is_allowed_where_nothing_is_said() -> None:
    assert AllowedWorkspaces().from_ == "None"
