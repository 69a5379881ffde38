"""A Tenant that wants more than its plan gives: refused with the field, the wish and the most there is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.integration.tenants import condition

if TYPE_CHECKING:
    from tests.integration.tenants import Workbench

Spec = dict[str, Any]

REFUSED: dict[str, tuple[Spec, str, str]] = {
    "a limit above its ceiling": (
        {"limits": {"MAX_USERS": "11"}},
        "PlanExceeded",
        "spec.limits.MAX_USERS: '11' is more than plan 'basic' gives, which is at most 10",
    ),
    "an unlimited limit under a ceiling": (
        {"limits": {"MAX_USERS": "0"}},
        "PlanExceeded",
        "spec.limits.MAX_USERS: '0' is more than plan 'basic' gives, which is at most 10",
    ),
    "a limit that is no number": (
        {"limits": {"MAX_USERS": "many"}},
        "PlanExceeded",
        "spec.limits.MAX_USERS: 'many' is more than plan 'basic' gives, which is at most 10",
    ),
    "a limit that is the plan's alone": (
        {"limits": {"MAX_PROJECTS": "6"}},
        "PlanExceeded",
        "spec.limits.MAX_PROJECTS: plan 'basic' does not let a tenant set it; take it out",
    ),
    "a quota above its ceiling": (
        {"quota": {"hard": {"requests.cpu": "4500m"}}},
        "PlanExceeded",
        "spec.quota.hard[requests.cpu]: 4500m is more than plan 'basic' gives, which is 4",
    ),
    "a quota above the plan's": (
        {"quota": {"hard": {"limits.memory": "9Gi"}}},
        "PlanExceeded",
        "spec.quota.hard[limits.memory]: 9Gi is more than plan 'basic' gives, which is 8Gi",
    ),
    "a load balancer": (
        {"quota": {"hard": {"services.loadbalancers": 1}}},
        "PlanExceeded",
        "spec.quota.hard[services.loadbalancers]: 1 is more than plan 'basic' gives, which is 0",
    ),
    "connections": (
        {"database": {"mode": "Shared", "maxConnections": 21}},
        "PlanExceeded",
        "spec.database.maxConnections: 21 is more than plan 'basic' gives, which is 20",
    ),
    "an extension that the plan lacks": (
        {"database": {"mode": "Shared", "extensions": ["pg_trgm"]}},
        "ExtensionNotAllowed",
        "spec.database.extensions: plan 'basic' does not have pg_trgm; it has citext",
    ),
    "a name that is a limit of the plan": (
        {"env": {"MAX_USERS": "9"}},
        "PlanExceeded",
        "spec.env sets MAX_USERS, which is a limit of plan 'basic'; take it out of env",
    ),
}


@pytest.mark.parametrize("wish", REFUSED)
def test_more_than_the_plan_gives_is_refused_before_anything_is_made(workbench: Workbench, wish: str) -> None:
    spec, reason, message = REFUSED[wish]
    workbench.apply(workbench.tenant(**spec))
    tenant = workbench.told("False", reason, message)
    assert condition(tenant, "Stalled") == {**condition(tenant, "Stalled"), "status": "True", "reason": reason}
    assert not condition(tenant, "Reconciling")
    assert workbench.record(workbench.whereabouts()) == {}
    assert workbench.inventory(workbench.whereabouts()) == set()
    assert [event["type"] for event in workbench.events("acme", reason)] == ["Warning"]


PLANS: dict[str, tuple[Spec, Spec, str, str]] = {
    "mode": (
        {"allowedModes": ["None"]},
        {"database": {"mode": "Shared"}},
        "PlanExceeded",
        "spec.database.mode: plan {plan} does not have Shared; it has None",
    ),
    "tier": (
        {"allowedTiers": ["Tier2"]},
        {},
        "PlanExceeded",
        "spec.tier: plan {plan} does not have Tier1; it has Tier2",
    ),
    "extension of the server": (
        {"extensions": ["hstore"]},
        {"database": {"mode": "Shared", "extensions": ["hstore"]}},
        "ExtensionNotAllowed",
        "spec.database.extensions: DatabaseServer 'pg18' does not allow hstore",
    ),
}


@pytest.mark.parametrize("case", PLANS)
def test_a_plan_or_server_without_it_says_what_it_has(workbench: Workbench, case: str) -> None:
    plan_spec, spec, reason, message = PLANS[case]
    plan = workbench.platform("TenantPlan", "plan", **plan_spec)
    workbench.apply(workbench.tenant(plan=plan, **spec))
    workbench.told("False", reason, message.format(plan=repr(plan)))
    if case == "extension of the server":
        assert workbench.database_traces(workbench.whereabouts()) == set()


def test_a_refused_tenant_becomes_ready_by_itself_when_the_plan_gives_more(workbench: Workbench) -> None:
    plan = workbench.platform("TenantPlan", "plan", limits={"SEATS": "1"}, ceilings={"limits": {"SEATS": "2"}})
    workbench.apply(workbench.tenant(plan=plan, limits={"SEATS": "3"}))
    workbench.told("False", "PlanExceeded", f"spec.limits.SEATS: '3' is more than plan {plan!r} gives, "
                   "which is at most 2")  # fmt: skip
    workbench.platform("TenantPlan", "plan", limits={"SEATS": "1"}, ceilings={"limits": {"SEATS": "0"}})
    workbench.ready()
    assert workbench.secret(workbench.whereabouts(), "tenant-env") == {"SEATS": "3"}


def test_a_tenant_that_outgrows_its_plan_keeps_what_it_has(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.make(env={"A": "1"})
    before = workbench.inventory(where)
    workbench.apply(workbench.tenant(env={"A": "2"}, limits={"MAX_USERS": "11"}))
    tenant = workbench.told("False", "PlanExceeded", REFUSED["a limit above its ceiling"][2])
    assert workbench.inventory(where) == before
    assert workbench.secret(where, "tenant-env")["A"] == "1"
    assert tenant["status"]["namespace"] == where.namespace, "what was known of it still holds"


def test_without_a_plan_the_built_in_one_holds(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    tenant = workbench.make(plan=None)
    assert tenant["status"]["effective"]["quota"]["pods"] == "20"
    workbench.apply(workbench.tenant(plan=None, quota={"hard": {"pods": 21}}))
    workbench.told("False", "PlanExceeded", "spec.quota.hard[pods]: 21 is more than plan '' gives, which is 20")
    assert workbench.record(where)


ENV_FROM = [{"secretRef": {"name": "more"}}]
NOT_THERE = "spec.envFrom: this workspace has no Secret 'more' with the label tenantry.io/env: \"true\""


def test_an_env_secret_that_is_missing_or_not_labelled_is_waited_for(workbench: Workbench) -> None:
    workbench.apply(workbench.tenant(envFrom=ENV_FROM))
    tenant = workbench.told("Unknown", "SecretNotFound", NOT_THERE)
    assert condition(tenant, "SecretsReady")["status"] == "Unknown"
    assert condition(tenant, "Reconciling")["reason"] == "SecretNotFound"
    workbench.env_secret("more", {"A": "1"}, labelled=False)
    workbench.told("Unknown", "SecretNotFound", NOT_THERE)
    workbench.env_secret("more", {"A": "1"})
    workbench.ready()
    where = workbench.whereabouts()
    assert workbench.secret(where, "tenant-env")["A"] == "1"
    workbench.kubectl("label", "secret", "more", "tenantry.io/env-")
    workbench.told("Unknown", "SecretNotFound", NOT_THERE)
    assert workbench.secret(where, "tenant-env")["A"] == "1", "what it has it keeps meanwhile"


KEYS: dict[str, str] = {
    "my.key": "is no name for an environment variable, or one that programs take orders from",
    "PGHOST": "is no name for an environment variable, or one that programs take orders from",
    "LD_PRELOAD": "is no name for an environment variable, or one that programs take orders from",
    "KUBERNETES_SERVICE_HOST": "is no name for an environment variable, or one that programs take orders from",
    "MAX_USERS": "is one of the tenant's limits; take it out of the Secret",
}


@pytest.mark.parametrize("key", KEYS)
def test_an_env_secret_can_set_no_name_that_programs_obey_and_no_limit(workbench: Workbench, key: str) -> None:
    workbench.env_secret("more", {"FINE": "1", key: "s3cret"})
    workbench.apply(workbench.tenant(envFrom=ENV_FROM))
    workbench.told("False", "EnvInvalid", f"spec.envFrom: key {key!r} of Secret 'more' {KEYS[key]}")
    workbench.kubectl("patch", "secret", "more", "--type=merge", "-p", f'{{"data": {{"{key}": null}}}}')
    workbench.ready()
