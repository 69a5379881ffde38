"""JSON merge patches: what one makes of an object, and the one that makes exactly what is wanted of it."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from tests.unit import test_status
from tests.unit.strategies import calmly

from tenantry.decide.merging import merge_patch, merged

Json = dict[str, Any]


def sound(value: Any) -> Any:
    """Without None, all the way down through maps: the API server stores none."""
    if isinstance(value, dict):
        return {key: sound(each) for key, each in value.items() if each is not None}
    return value


@calmly
@given(test_status.statuses, test_status.statuses)
@example({"env": {"A": "1", "B": "2"}}, {"env": {"B": "2"}})
@example({"a": {"b": 1}}, {"a": {}})
@example({"a": 1}, {"a": True})
@example({"a": [False]}, {"a": [0]})
@example({"a": {"b": [{"c": 1}]}}, {"a": {"b": [{"c": True}]}})
def test_the_patch_makes_exactly_what_is_wanted(have: Json, want: Json) -> None:
    have, want = sound(have), sound(want)
    result = merged(have, merge_patch(have, want))
    assert result == want
    assert json.dumps(result, sort_keys=True) == json.dumps(want, sort_keys=True), "True is not 1"
    assert test_status.merged(have, merge_patch(have, want)) == want


@calmly
@given(test_status.statuses)
def test_what_is_wanted_already_needs_nothing(have: Json) -> None:
    have = sound(have)
    assert merged(have, merge_patch(have, have)) == have
    assert not any(value is None or not isinstance(value, dict) for value in merge_patch(have, have).values())


@calmly
@given(test_status.statuses, test_status.statuses)
def test_a_patch_is_applied_as_the_standard_says(have: Json, patch: Json) -> None:
    assert merged(sound(have), patch) == test_status.merged(sound(have), patch)


@calmly
@given(st.dictionaries(st.sampled_from("abc"), st.integers()))
def test_neither_changes_what_it_is_given(have: Json) -> None:
    before = dict(have)
    merged(have, merge_patch(have, {"z": {"y": 1}}))
    assert have == before
