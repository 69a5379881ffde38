"""A server that CloudNativePG makes: whether its Cluster may be applied, and what is said while it does not run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.strategies import calmly

from tenantry.api.cluster import Cluster
from tenantry.api.conditions import Reason
from tenantry.api.database import DedicatedDatabase
from tenantry.api.dedicated import DedicatedServer, Operated
from tenantry.api.tenant import TenantSpec
from tenantry.api.tenantplan import TenantPlanSpec
from tenantry.decide.cloudnativepg import (
    HEALTHY,
    check_unchanged,
    check_up,
    check_volumes,
    not_allowed,
    not_served,
    other_provider,
    primary_of,
)
from tenantry.decide.dedicated import dedicated_server, needs
from tenantry.decide.effective import effective
from tenantry.decide.halt import Halt, Terminal, Waiting
from tenantry.decide.quantities import parse_quantity, times

Json = dict[str, Any]

MADE = {"image": "pg:{version}", "operatorNamespace": "cnpg", "apiServerCidrs": ["192.0.2.10/32"]}
OPERATED = Operated(major=17, instances=2, operator_namespace="cnpg", api_server_cidrs=("192.0.2.10/32",))
NEEDED = needs("500m", "1Gi", "10Gi", "fast", instances=2)
RUNNING = {"phase": HEALTHY, "currentPrimary": "tenant-postgres-1", "readyInstances": 2, "instances": 2}


def server(offer: Json | None, providers: list[str] | None = None, **wanted: Any) -> DedicatedServer:
    """What a tenant gets that asks for a small one."""
    sizes = {"small": {"cpu": "500m", "memory": "1Gi"}}
    given = {"dedicatedProviders": providers} if providers is not None else {}
    plan = TenantPlanSpec.model_validate({"allowedModes": ["Dedicated"], "sizes": sizes, **given})
    asked = {"version": "17", "size": "small", "storage": {"size": "10Gi"}, "provider": "CloudNativePG", **wanted}
    spec = TenantSpec.model_validate({"database": {"mode": "Dedicated", "dedicated": asked}})
    cluster = Cluster.model_validate({"metadata": {"name": "eu-1"}, "spec": {"dedicatedDatabases": offer}})
    described = DedicatedDatabase.model_validate(asked)
    mixed = effective(spec, "basic", plan)
    return dedicated_server(described, None, cluster, mixed, plan, database_id="", running=True)


def refused(offer: Json | None, providers: list[str] | None = None, **wanted: Any) -> Halt:
    with pytest.raises(Halt) as halt:
        server(offer, providers, **wanted)
    return halt.value


def claim(labels: Mapping[str, str] | None = None, *, deleted: bool = False, owned: bool = True) -> Json:
    """A volume claim of an instance."""
    metadata: Json = {"labels": {"cnpg.io/cluster": "tenant-postgres", "cnpg.io/pvcRole": "PG_DATA", **(labels or {})}}
    if deleted:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    if owned:
        metadata["ownerReferences"] = [{"kind": "Cluster", "uid": "1"}]
    return {"metadata": metadata}


def waits(status: Json, quota: Json | None = None) -> str:
    with pytest.raises(Waiting) as halt:
        check_up(OPERATED, {"metadata": {}, "status": status}, quota or {}, NEEDED)
    assert halt.value.reason == Reason.DATABASE_STARTING
    return halt.value.message


def test_it_is_made_of_what_tenant_plan_and_cluster_say() -> None:
    made = server({"cloudNativePG": MADE}, ["CloudNativePG"], instances=2)
    assert made.operated == OPERATED
    assert (made.image, made.cpu, made.storage) == ("pg:17", "500m", "10Gi")


def test_a_plan_says_who_may_make_servers_and_without_a_word_only_we_do() -> None:
    halt = refused({"cloudNativePG": MADE})
    assert (halt.reason, type(halt)) == (Reason.PLAN_EXCEEDED, Terminal)
    assert halt.message == (
        "spec.database.dedicated.provider: plan 'basic' does not have CloudNativePG; it has Builtin"
    )
    halt = refused({"image": "pg:{version}"}, [], provider="Builtin")
    assert halt.message.endswith("does not have Builtin; it has none")


@pytest.mark.parametrize("offer", [None, {"image": "pg:{version}"}])
def test_a_cluster_that_does_not_offer_it_is_waited_for(offer: Json | None) -> None:
    halt = refused(offer, ["CloudNativePG"])
    assert (halt.reason, type(halt)) == (Reason.DEDICATED_NOT_OFFERED, Waiting)
    assert "Cluster 'eu-1' has no spec.dedicatedDatabases.cloudNativePG" in halt.message


def test_a_cluster_that_offers_only_cloudnativepg_makes_none_of_ours() -> None:
    halt = refused({"cloudNativePG": MADE}, ["Builtin"], provider="Builtin")
    assert (halt.reason, type(halt)) == (Reason.DEDICATED_NOT_OFFERED, Waiting)
    assert "has no spec.dedicatedDatabases.image" in halt.message


def test_each_instance_counts_in_the_quota() -> None:
    assert NEEDED["requests.cpu"] == "1000m"
    assert (NEEDED["requests.memory"], NEEDED["requests.storage"], NEEDED["pods"]) == ("2Gi", "20Gi", "2")
    assert NEEDED["fast.storageclass.storage.k8s.io/requests.storage"] == "20Gi"
    halt = refused({"cloudNativePG": MADE}, ["CloudNativePG"], instances=9)
    assert "its server needs 4500m of requests.cpu, and all that the tenant's quota has is 2" in halt.message


@calmly
@given(st.integers(1, 10**6), st.sampled_from(["", "m", "k", "Mi", "Gi", "e3"]), st.integers(1, 9))
def test_a_quantity_so_many_times_over_is_that_number(number: int, unit: str, factor: int) -> None:
    whole, half = f"{number}{unit}", f"{number}.5{unit}"
    assert parse_quantity(times(whole, factor)) == parse_quantity(whole) * factor
    assert parse_quantity(times(half, factor)) == parse_quantity(half) * factor
    assert times(whole, factor).endswith(unit)


def test_what_is_no_quantity_stays_as_it_is() -> None:
    assert times("much", 3) == "much"


def test_a_healthy_cluster_with_all_its_instances_is_up() -> None:
    check_up(OPERATED, {"metadata": {}, "status": RUNNING}, {}, NEEDED)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"readyInstances": 1}, "1 of 2 instances are ready"),
        ({"instances": 3}, "2 of 2 instances are ready"),
        ({"currentPrimary": ""}, "2 of 2 instances are ready"),
        ({"phase": "Failing over", "phaseReason": "from 1 to 2"}, "; Failing over: from 1 to 2"),
    ],
)
def test_anything_less_is_waited_for_in_its_own_words(change: Json, told: str) -> None:
    assert told in waits({**RUNNING, **change})


def test_silence_and_a_full_quota_are_told() -> None:
    assert waits({}).endswith("0 of 2 instances are ready; CloudNativePG has said nothing of it yet: does it run?")
    quota = {"hard": {"pods": "2", "requests.storage": "1Gi"}, "used": {"pods": "1"}}
    told = waits({"phase": "Setting up primary"}, quota)
    assert told.endswith("; Setting up primary; it needs 2 of pods; of the tenant's quota of 2, 1 is in use")
    assert "it needs" not in waits({"phase": "Setting up primary", "readyInstances": 1}, quota)


def test_what_it_says_of_itself_is_cut() -> None:
    assert len(waits({"phase": "x" * 5000, "phaseReason": "y" * 5000})) < 1000


@pytest.mark.parametrize("there", [claim(), claim(deleted=True), claim(owned=False)])
def test_with_its_cluster_any_claim_has_the_data(there: Json) -> None:
    check_volumes({"metadata": {}}, [there], "acme-aaaaaaaa")


@pytest.mark.parametrize(
    "claims",
    [[], [claim({"cnpg.io/pvcRole": "PG_WAL"})], [claim({"cnpg.io/cluster": "other"})], [{"metadata": {}}]],
)
def test_without_a_claim_of_its_data_it_is_missing(claims: list[Json]) -> None:
    absent: tuple[Json | None, ...] = (None, {"metadata": {}})
    for live in absent:
        with pytest.raises(Terminal, match="start-fresh=acme-aaaaaaaa") as halt:
            check_volumes(live, claims, "acme-aaaaaaaa")
        assert halt.value.reason == Reason.DATABASE_MISSING


@calmly
@given(st.lists(st.builds(claim, deleted=st.booleans(), owned=st.booleans()), max_size=4))
def test_without_its_cluster_only_a_claim_that_stays_has_the_data(claims: list[Json]) -> None:
    stay = [each for each in claims if each["metadata"].keys() == {"labels"}]
    try:
        check_volumes(None, claims, "r")
    except Terminal:
        assert not stay
    else:
        assert stay


def test_its_storage_and_version_are_as_it_was_made() -> None:
    made = server({"cloudNativePG": MADE}, ["CloudNativePG"], instances=2)

    def live(size: str = "10Gi", major: int | None = None, **storage: str) -> Json:
        image = {"pgDataImageInfo": {"majorVersion": major}} if major else {}
        return {"spec": {"storage": {"size": size, **storage}}, "status": image}

    check_unchanged(made, OPERATED, live())
    check_unchanged(made, OPERATED, live("10240Mi", 17))
    check_unchanged(dataclasses.replace(made, storage_class="fast"), OPERATED, live(storageClass="fast"))
    for other, field in ((live("9Gi"), "storage"), (live(storageClass="fast"), "storage"), (live(major=16), "version")):
        with pytest.raises(Terminal, match=f"spec.database.dedicated.{field}") as halt:
            check_unchanged(made, OPERATED, other)
        assert halt.value.reason == Reason.MOVE_NOT_SUPPORTED


def test_its_primary_is_whom_it_names() -> None:
    assert primary_of({"status": RUNNING}) == "tenant-postgres-1"
    assert primary_of({}) == ""


def test_each_refusal_names_the_field_and_the_way_out() -> None:
    for halt in (not_served("eu-1"), not_allowed("eu-1", "forbidden"), other_provider(None, "CloudNativePG")):
        assert halt.message.startswith("spec.database.dedicated.provider: ")
    assert "installs CloudNativePG there" in not_served("eu-1").message
    assert "deploy/target-cloudnativepg.yaml" in not_allowed("eu-1", "x" * 5000).message
    assert "Builtin made this tenant's server, and CloudNativePG can't" in other_provider(None, "CloudNativePG").message
