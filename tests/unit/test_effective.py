"""Plan and spec put together: the ceilings hold for everybody, and env is merged in one order only."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.unit.strategies import ENV_NAMES, calmly, plans, specs

from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.effective import Effective
from tenantry.api.tenant import TenantSpec
from tenantry.api.tenantplan import TenantPlanSpec
from tenantry.decide.effective import effective, merged_env
from tenantry.decide.halt import Terminal
from tenantry.decide.quantities import parse_quantity

env_maps = st.dictionaries(st.sampled_from(ENV_NAMES), st.sampled_from(["", "1", "x"]), max_size=4)


def mix(spec: dict[str, Any], plan: dict[str, Any]) -> Effective:
    return effective(TenantSpec.model_validate(spec), "basic", TenantPlanSpec.model_validate(plan))


def refusal(spec: dict[str, Any], plan: dict[str, Any]) -> Terminal:
    with pytest.raises(Terminal) as caught:
        mix(spec, plan)
    return caught.value


def as_a_program_reads_it(limit: str) -> Decimal | None:
    """What a program that reads a number from the start of a text makes of it: 0 of `0_5`; None where nothing."""
    found = re.match(r"[0-9]+", limit.lstrip())
    return Decimal(found[0]) if found else None


@calmly
@given(specs, plans)
@example(TenantSpec(), TenantPlanSpec.model_validate({"quota": {"hard": {}}, "ceilings": {"quota": {"pods": 5}}}))
@example(TenantSpec(), TenantPlanSpec.model_validate({"ceilings": {"quota": {"requests.cpu": "500m"}}}))
def test_no_quota_is_above_its_ceiling_or_missing_where_there_is_one(spec: TenantSpec, plan: TenantPlanSpec) -> None:
    try:
        mixed = effective(spec, "basic", plan)
    except Terminal:
        return
    for name, ceiling in plan.ceilings.quota.items():
        assert parse_quantity(mixed.quota[name]) <= parse_quantity(ceiling)


@calmly
@given(specs, plans)
@example(
    TenantSpec.model_validate({"limits": {"MAX_USERS": "0_5"}}),
    TenantPlanSpec.model_validate({"ceilings": {"limits": {"MAX_USERS": "10"}}}),
)
@example(
    TenantSpec(),
    TenantPlanSpec.model_validate({"limits": {"MAX_USERS": "11"}, "ceilings": {"limits": {"MAX_USERS": "10"}}}),
)
def test_no_limit_is_above_its_ceiling_for_any_program_that_reads_it(spec: TenantSpec, plan: TenantPlanSpec) -> None:
    try:
        mixed = effective(spec, "basic", plan)
    except Terminal:
        return
    for name, ceiling in plan.ceilings.limits.items():
        limit = mixed.limits.get(name, ceiling)
        if limit == ceiling or re.fullmatch(r"0+(\.0+)?", ceiling):
            continue
        assert re.fullmatch(r"[0-9]+(\.[0-9]+)?", limit)
        assert 0 < Decimal(limit) <= Decimal(ceiling)
        if "." not in ceiling:
            assert as_a_program_reads_it(limit) != 0, "0 would be unlimited"


@calmly
@given(specs, plans)
def test_a_tenant_has_at_most_the_plans_quotas_where_it_may_not_override_them(
    spec: TenantSpec, plan: TenantPlanSpec
) -> None:
    try:
        mixed = effective(spec, "basic", plan)
    except Terminal:
        return
    if "quota" in plan.overridable:
        return
    for name, most in plan.quota.hard.items():
        if name not in plan.ceilings.quota:
            assert parse_quantity(mixed.quota[name]) <= parse_quantity(most)


@calmly
@given(specs, plans)
def test_a_service_type_is_there_exactly_where_its_quota_is_not_zero(spec: TenantSpec, plan: TenantPlanSpec) -> None:
    try:
        mixed = effective(spec, "basic", plan)
    except Terminal:
        return
    assert mixed.service_types[0] == "ClusterIP"
    for kind, name in (("NodePort", "services.nodeports"), ("LoadBalancer", "services.loadbalancers")):
        assert (kind in mixed.service_types) == (parse_quantity(mixed.quota[name]) > 0)


@calmly
@given(specs, plans)
def test_a_mode_is_one_that_the_plan_has_and_that_there_is(spec: TenantSpec, plan: TenantPlanSpec) -> None:
    try:
        mixed = effective(spec, "basic", plan)
    except Terminal:
        return
    assert mixed.mode in plan.allowed_modes
    assert mixed.mode in {"Shared", "Dedicated", "External", "None"}
    assert set(mixed.extensions) <= set(plan.extensions)


@calmly
@given(specs, plans)
def test_putting_the_result_into_the_spec_changes_nothing(spec: TenantSpec, plan: TenantPlanSpec) -> None:
    try:
        mixed = effective(spec, "basic", plan)
    except Terminal:
        return
    again = TenantSpec.model_validate({**spec.model_dump(by_alias=True), "quota": {"hard": dict(mixed.quota)}})
    assert effective(again, "basic", plan).quota == mixed.quota


@pytest.mark.parametrize(
    ("wanted", "ceiling", "allowed"),
    [
        ("2", "10", True), ("10", "10", True), ("010", "10", True), ("11", "10", False), ("0", "10", False),
        ("0", "0", True), ("99", "0", True), ("2.5", "0", True), ("-1", "10", False), ("-1", "0", False),
        ("1.5", "2.5", True), ("0.5", "10", False), ("gold", "gold", True), ("silver", "gold", False),
        ("gold", "10", False), ("5", "gold", False), ("NaN", "10", False), ("Infinity", "0", False),
        ("1_0", "10", False), (" 5", "10", False), ("5\n", "10", False), ("٣", "10", False), ("1e1", "10", False),
    ],
)  # fmt: skip
def test_limits_compare_as_numbers_and_zero_is_unlimited(wanted: str, ceiling: str, allowed: bool) -> None:
    spec, plan = {"limits": {"MAX_USERS": wanted}}, {"ceilings": {"limits": {"MAX_USERS": ceiling}}}
    if allowed:
        assert mix(spec, plan).limits == {"MAX_USERS": wanted}
    else:
        halt = refusal(spec, plan)
        assert (halt.condition, halt.reason) == (ConditionType.PLACED, Reason.PLAN_EXCEEDED)
        assert halt.message.startswith("spec.limits.MAX_USERS: ")


def test_a_limit_without_a_ceiling_is_the_plans_unless_it_is_overridable() -> None:
    spec, plan = {"limits": {"MAX_USERS": "3"}}, {"limits": {"MAX_USERS": "2"}}
    assert "does not let a tenant set it" in refusal(spec, plan).message
    assert mix({"limits": {"MAX_USERS": "2"}}, plan).limits == {"MAX_USERS": "2"}
    assert mix(spec, {**plan, "overridable": ["limits"]}).limits == {"MAX_USERS": "3"}


def test_a_quota_above_the_plans_is_refused_with_the_field_and_the_most() -> None:
    halt = refusal({"quota": {"hard": {"requests.memory": "4097Mi"}}}, {})
    assert halt.message == "spec.quota.hard[requests.memory]: 4097Mi is more than plan 'basic' gives, which is 4Gi"
    assert mix({"quota": {"hard": {"requests.memory": "4096Mi"}}}, {}).quota["requests.memory"] == "4096Mi"
    assert mix({"quota": {"hard": {"pods": 40}}}, {"overridable": ["quota"]}).quota["pods"] == "40"


def test_without_a_mode_the_plans_first_one_holds() -> None:
    assert mix({}, {"allowedModes": ["Dedicated", "None"]}).mode == "Dedicated"
    assert mix({"database": {"mode": "None"}}, {"allowedModes": ["Dedicated", "None"]}).mode == "None"
    assert "it has none" in refusal({}, {"allowedModes": []}).message


@pytest.mark.parametrize(
    ("spec", "plan", "part"),
    [
        ({"tier": "Tier2"}, {}, "spec.tier: plan 'basic' does not have Tier2; it has Tier1"),
        (
            {"database": {"mode": "Shared"}},
            {"allowedModes": ["None"]},
            "spec.database.mode: plan 'basic' does not have",
        ),
        ({"database": {"maxConnections": 21}}, {}, "spec.database.maxConnections: 21 is more than"),
        ({"database": {"extensions": ["citext"]}}, {}, "spec.database.extensions: plan 'basic' does not have citext"),
        ({"env": {"A": "1"}}, {"limits": {"A": "2"}}, "spec.env sets A, which is a limit of plan 'basic'"),
    ],
)
def test_what_the_plan_does_not_have_is_refused(spec: dict[str, Any], plan: dict[str, Any], part: str) -> None:
    assert part in refusal(spec, plan).message


@calmly
@given(env_maps, env_maps, st.lists(env_maps, max_size=3), env_maps)
def test_env_is_the_plans_then_secrets_in_order_then_the_specs_and_limits_above_all(
    plan_env: dict[str, str], spec_env: dict[str, str], secrets: list[dict[str, str]], limits: dict[str, str]
) -> None:
    spec_env = {name: value for name, value in spec_env.items() if name not in limits}
    limits = {name: value or "1" for name, value in limits.items()}
    own = mix({"env": spec_env}, {"env": plan_env, "limits": limits})
    env = merged_env(own, secrets, spec_env)
    for name in ENV_NAMES:
        sources = [plan_env, *secrets, spec_env, limits]
        said = [source[name] for source in sources if name in source]
        assert env.get(name) == (said[-1] if said else None)
