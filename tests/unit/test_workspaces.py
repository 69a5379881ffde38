"""Who may use a platform object: nobody by default, and selectors as Kubernetes means them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.strategies import calmly

from tenantry.api.base import AllowedWorkspaces, LabelSelector
from tenantry.decide.workspaces import allows, selects

LABELS = {"stage": "prod", "team": "blue"}
keys, values = st.sampled_from(["stage", "team", "owner"]), st.sampled_from(["prod", "dev", "blue"])
label_maps = st.dictionaries(keys, values, max_size=3)
expressions = st.lists(
    st.fixed_dictionaries(
        {
            "key": keys,
            "operator": st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist"]),
            "values": st.lists(values, max_size=2),
        }
    ),
    max_size=2,
)


def selector(**fields: Any) -> LabelSelector:
    return LabelSelector.model_validate(fields)


@pytest.mark.parametrize(
    ("key", "operator", "values", "matches"),
    [
        ("stage", "In", ["prod", "dev"], True), ("stage", "In", ["dev"], False), ("owner", "In", ["prod"], False),
        ("stage", "NotIn", ["dev"], True), ("stage", "NotIn", ["prod"], False), ("owner", "NotIn", ["prod"], True),
        ("stage", "Exists", [], True), ("owner", "Exists", [], False),
        ("stage", "DoesNotExist", [], False), ("owner", "DoesNotExist", [], True),
    ],
)  # fmt: skip
def test_an_expression_matches_as_in_kubernetes(key: str, operator: str, values: list[str], matches: bool) -> None:
    requirement = {"key": key, "operator": operator, "values": values}
    assert selects(selector(matchExpressions=[requirement]), LABELS) is matches


@calmly
@given(label_maps)
def test_none_allows_nobody_and_all_and_an_empty_selector_allow_everybody(labels: dict[str, str]) -> None:
    assert not allows(AllowedWorkspaces(), labels)
    assert not allows(AllowedWorkspaces(from_="Selector"), labels)
    assert not allows(AllowedWorkspaces(from_="None", selector=selector()), labels)
    assert allows(AllowedWorkspaces(from_="All"), labels)
    assert allows(AllowedWorkspaces(from_="Selector", selector=selector()), labels)


@calmly
@given(label_maps, expressions, label_maps)
def test_one_more_requirement_never_lets_more_workspaces_in(
    match: dict[str, str], expressions: list[dict[str, Any]], labels: dict[str, str]
) -> None:
    if selects(selector(matchLabels=match, matchExpressions=expressions), labels):
        assert selects(selector(matchLabels=match), labels)
        assert selects(selector(matchExpressions=expressions), labels)
        assert match.items() <= labels.items()
