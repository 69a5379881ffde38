"""Revisions of plans: the same content has the same name, and what changes no tenant makes no new one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from tests.unit.strategies import calmly, plans

from tenantry.api.tenantplan import TenantPlanSpec
from tenantry.desired.revisions import content_of, revision, revision_name


def name_of(**spec: Any) -> str:
    return revision_name("pro", content_of(TenantPlanSpec.model_validate(spec)))


@calmly
@given(plans)
def test_a_tenant_is_rendered_from_a_revision_as_from_the_plan(spec: TenantPlanSpec) -> None:
    kept = TenantPlanSpec.model_validate(content_of(spec))
    bare = {"display_name": "", "description": "", "allowed_workspaces": kept.allowed_workspaces}
    assert kept == spec.model_copy(update={**bare, "max_tenants": None, "rollout": None})
    assert content_of(kept) == content_of(spec)


@pytest.mark.parametrize(
    "spec",
    [
        {"displayName": "Pro"},
        {"description": "for all"},
        {"allowedWorkspaces": {"from": "All"}},
        {"maxTenants": 3},
        {"rollout": {"type": "Waves"}},
        {"podSecurity": "restricted"},
        {"network": {"egress": "Internet"}},
    ],
)
def test_what_changes_no_tenant_makes_no_revision(spec: dict[str, Any]) -> None:
    assert name_of(**spec) == name_of()


def test_another_content_has_another_name_and_the_old_one_has_its_own_again() -> None:
    assert name_of(env={"A": "1"}) != name_of(env={"A": "2"}) != name_of()
    assert name_of(env={"A": "1", "B": "2"}) == name_of(env={"B": "2", "A": "1"})
    assert name_of(quota={"hard": {}}) != name_of(), "an empty quota is not the modest one"


def test_a_long_name_leaves_room_for_the_hash() -> None:
    name = revision_name("p" * 253, {})
    assert (len(name), name.rpartition("-")[0]) == (253, "p" * 244)
    assert revision("ns", "p" * 253, {}, 7)["revision"] == 7
