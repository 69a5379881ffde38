"""A server of the tenant's own: what it gets, whether it fits, and what is said while it does not run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.strategies import calmly

from tenantry.api.cluster import Cluster
from tenantry.api.conditions import Reason
from tenantry.api.database import DedicatedDatabase, ExternalAccess
from tenantry.api.dedicated import DedicatedServer
from tenantry.api.tenant import TenantSpec
from tenantry.api.tenantplan import TenantPlanSpec
from tenantry.decide.dedicated import address_told, check_unchanged, check_up, dedicated_server, is_stuck, needs
from tenantry.decide.effective import effective
from tenantry.decide.halt import Halt, Terminal, Waiting
from tenantry.decide.quantities import parse_quantity

Json = dict[str, Any]

OFFER = {"image": "registry.example.com/postgres:{version}"}
NEEDED = needs("500m", "1Gi", "10Gi", "fast")
RUNNING = {"observedGeneration": 2, "replicas": 1, "readyReplicas": 1, "updatedReplicas": 1}


def server(
    plan: Json | None = None, offer: Json | None = OFFER, external: Json | None = None, **wanted: Any
) -> DedicatedServer:
    """What a tenant gets that asks for a small one."""
    sizes = {"small": {"cpu": "500m", "memory": "1Gi"}, "tiny": {"cpu": "1m", "memory": "64Mi"}}
    plan_spec = TenantPlanSpec.model_validate({"allowedModes": ["Dedicated"], "sizes": sizes, **(plan or {})})
    asked = {"version": "17", "size": "small", "storage": {"size": "10Gi"}, **wanted}
    spec = TenantSpec.model_validate({"database": {"mode": "Dedicated", "dedicated": asked}})
    cluster = Cluster.model_validate({"metadata": {"name": "eu-1"}, "spec": {"dedicatedDatabases": offer}})
    mixed = effective(spec, "basic", plan_spec)
    described = DedicatedDatabase.model_validate(asked)
    outside = ExternalAccess.model_validate(external) if external is not None else None
    return dedicated_server(described, outside, cluster, mixed, plan_spec, database_id="", running=True)


def live(status: Json, generation: int = 2, **claim: Any) -> Json:
    """A StatefulSet as the API server has it."""
    template = {"spec": {"resources": {"requests": {"storage": "10Gi"}}, **claim}}
    return {"metadata": {"generation": generation}, "status": status, "spec": {"volumeClaimTemplates": [template]}}


def halted(status: Json, pod: Json | None = None, quota: Json | None = None) -> Halt:
    """Why it is not up."""
    with pytest.raises(Halt) as halt:
        check_up(live(status), pod, quota or {}, NEEDED, "acme-aaaaaaaa")
    return halt.value


def test_a_server_is_made_of_what_tenant_plan_and_cluster_say() -> None:
    made = server({"maxConnections": 40, "imagePullPolicy": "Always"})
    assert made == DedicatedServer(
        image="registry.example.com/postgres:17", user=999, cpu="500m", memory="1Gi", shared_buffers=262144,
        storage="10Gi", storage_class="", max_connections=50, pull_policy="Always", database_id="", running=True,
    )  # fmt: skip
    assert server().pull_policy == "IfNotPresent"


def test_a_cluster_without_an_image_is_waited_for_by_name() -> None:
    with pytest.raises(Waiting) as waiting:
        server(offer=None)
    assert waiting.value.reason == Reason.DEDICATED_NOT_OFFERED
    assert "Cluster 'eu-1' has no spec.dedicatedDatabases.image" in waiting.value.message


@pytest.mark.parametrize(
    ("plan", "wanted", "part"),
    [
        ({}, {"size": "big"}, "spec.database.dedicated.size: plan 'basic' does not have big; it has small, tiny"),
        ({"sizes": {}}, {}, "it has none"),
        ({}, {"size": "tiny"}, "tiny has 64Mi of memory; 128Mi is the least"),
        (
            {},
            {"storage": {"size": "21Gi"}},
            "needs 21Gi of requests.storage, and all that the tenant's quota has is 20Gi",
        ),
        ({"quota": {"hard": {"limits.cpu": "0.4"}}}, {}, "needs 500m of limits.cpu"),
        ({"quota": {"hard": {"pods": "0"}}}, {}, "needs 1 of pods"),
        ({"limitRange": {"container": {"max": {"memory": "512Mi"}}}}, {}, "(limitRange.container.max)"),
        ({}, {"storage": {"size": "1e99999999999999999999"}}, "spec.database.dedicated: storage.size"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(plan: Json, wanted: Json, part: str) -> None:
    with pytest.raises(Terminal) as refused:
        server(plan, **wanted)
    assert refused.value.reason == Reason.PLAN_EXCEEDED
    assert part in refused.value.message


@calmly
@given(
    cpu=st.sampled_from(["1", "250m", "2"]), memory=st.sampled_from(["128Mi", "1Gi", "3Gi"]),
    storage=st.sampled_from(["1Gi", "20Gi", "30Gi"]), names=st.sets(st.sampled_from(sorted(NEEDED))),
    hard=st.sampled_from(["1", "2Gi", "300m", "25Gi"]),
)  # fmt: skip
def test_it_is_let_pass_just_where_every_quota_has_room_for_all_of_it(
    cpu: str, memory: str, storage: str, names: set[str], hard: str
) -> None:
    plan = {"sizes": {"small": {"cpu": cpu, "memory": memory}}, "quota": {"hard": dict.fromkeys(names, hard)}}
    taken = needs(cpu, memory, storage, "fast")
    fits = all(parse_quantity(taken[name]) <= parse_quantity(hard) for name in names)
    asked = {"storage": {"size": storage, "storageClassName": "fast"}}
    if fits:
        buffers = server(plan, **asked).shared_buffers
        assert Decimal(buffers) * 1024 <= parse_quantity(memory) / 4 or buffers == 16 * 1024
    else:
        with pytest.raises(Terminal, match="all that the tenant's quota has is"):
            server(plan, **asked)


@given(observed=st.integers(0, 3), replicas=st.integers(0, 1), ready=st.integers(0, 1), updated=st.integers(0, 1))
def test_it_is_up_just_where_all_of_it_is_as_it_was_last_wanted(
    observed: int, replicas: int, ready: int, updated: int
) -> None:
    status = {
        "observedGeneration": observed, "replicas": replicas, "readyReplicas": ready, "updatedReplicas": updated,
    }  # fmt: skip
    if observed >= 2 and ready and updated:
        check_up(live(status), None, {}, NEEDED, "r")
    else:
        assert halted(status).reason == Reason.DATABASE_STARTING


def test_what_holds_it_up_is_told() -> None:
    quota = {"hard": {"requests.cpu": "2", "requests.storage": "1Gi"}, "used": {"requests.cpu": "1800m"}}
    none = {**RUNNING, "replicas": 0, "readyReplicas": 0}
    told = halted(none, quota=quota).message
    assert told.endswith("it needs 500m of requests.cpu; of the tenant's quota of 2, 1800m is in use"), told
    waits = {"name": "postgres", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
    one = {**RUNNING, "readyReplicas": 0}
    pod = {"status": {"containerStatuses": [waits]}}
    assert halted(one, pod, quota).message.endswith("not ready yet: ImagePullBackOff no such image")
    placed = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}
    assert "0/3 nodes are available" in halted(one, {"status": {"conditions": [placed]}}).message
    assert halted(one, {"status": {}}).message.endswith("is not ready yet")


FIVE = datetime(2026, 5, 1, 5, tzinfo=UTC)
WAITS: Json = {"waiting": {"reason": "ImagePullBackOff"}}
STATES: list[Json] = [WAITS, {"running": {"startedAt": "2026-05-01T04:55:00Z"}}, {"terminated": {"exitCode": 1}}, {}]


@given(
    generation=st.integers(1, 2), revision=st.sampled_from(["old", "new", None]),
    ready=st.sampled_from(["True", "False", None]),
    owner=st.sampled_from(["the-set", "another", None]), going=st.booleans(), state=st.sampled_from(STATES),
)  # fmt: skip
def test_replaced_is_just_a_pod_of_its_own_that_is_not_ready_nor_recovering_and_is_of_another_revision(
    generation: int, revision: str | None, ready: str | None, owner: str | None, going: bool, state: Json
) -> None:
    wanted: Json = {"metadata": {"uid": "the-set", "generation": 2}, "status": {"observedGeneration": generation}}
    wanted["status"] |= {"updateRevision": revision} if revision else {}
    metadata: Json = {"labels": {"controller-revision-hash": "old"}}
    metadata |= {"ownerReferences": [{"uid": owner, "controller": True}]} if owner else {}
    metadata |= {"deletionTimestamp": "2026-05-01T04:59:00Z"} if going else {}
    conditions = [{"type": "Ready", "status": ready}] if ready else []
    containers = [{"name": "postgres", "state": state}]
    pod = {"metadata": metadata, "status": {"conditions": conditions, "containerStatuses": containers}}
    known = generation == 2 and revision == "new"
    waits = ready != "True" and "running" not in state
    assert is_stuck(wanted, pod, FIVE) == (known and waits and owner == "the-set" and not going)


@pytest.mark.parametrize(("minutes", "stuck"), [(9, False), (11, True)])
def test_a_container_that_runs_has_ten_minutes_to_recover(minutes: int, stuck: bool) -> None:
    wanted = {"metadata": {"uid": "s", "generation": 1}, "status": {"observedGeneration": 1, "updateRevision": "new"}}
    began = (FIVE - timedelta(minutes=minutes)).isoformat()
    pod = {
        "metadata": {"ownerReferences": [{"uid": "s", "controller": True}]},
        "status": {"containerStatuses": [{"state": {"running": {"startedAt": began}}}]},
    }
    assert is_stuck(wanted, pod, FIVE) is stuck


@pytest.mark.parametrize("key", ["state", "lastState"])
def test_a_start_that_misses_its_database_is_the_end_and_says_how_to_begin_anew(key: str) -> None:
    ended = {"name": "postgres", key: {"terminated": {"message": "DatabaseMissing: the volume is empty"}}}
    halt = halted({**RUNNING, "readyReplicas": 0}, {"status": {"containerStatuses": [ended]}})
    assert isinstance(halt, Terminal)
    assert halt.reason == Reason.DATABASE_MISSING
    assert "start-fresh=acme-aaaaaaaa" in halt.message


def test_the_way_in_from_outside_takes_a_plan_that_has_load_balancers() -> None:
    asked = {"enabled": True, "cidrs": ["192.0.2.0/24"]}
    with pytest.raises(Terminal) as refused:
        server(external=asked)
    assert refused.value.reason == Reason.PLAN_EXCEEDED
    assert "spec.database.externalAccess: it takes a Service of type LoadBalancer" in refused.value.message
    assert server(external={**asked, "enabled": False}).outside == ()
    opened = server({"quota": {"hard": {"services.loadbalancers": "1"}}}, external=asked)
    assert (opened.outside, opened.node_ports) == (("192.0.2.0/24",), False)
    quota = {"hard": {"services.loadbalancers": "1", "services.nodeports": 1}}
    assert server({"quota": quota}, external=asked).node_ports
    assert address_told(opened, None) == "from outside: the load balancer has no address yet"
    service = {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}, {"hostname": "lb.example.com"}]}}}
    assert address_told(opened, service) == "from outside: 192.0.2.9:5432, lb.example.com:5432"
    assert address_told(server(), service) == ""


def test_another_volume_than_it_was_made_with_is_refused_before_the_target_does() -> None:
    check_unchanged(server(), live(RUNNING))
    check_unchanged(server(storage={"size": "10240Mi", "storageClassName": "a"}), live(RUNNING, storageClassName="a"))
    for storage in ({"size": "11Gi"}, {"size": "10Gi", "storageClassName": "a"}):
        with pytest.raises(Terminal) as refused:
            check_unchanged(server(storage=storage), live(RUNNING))
        assert refused.value.reason == Reason.MOVE_NOT_SUPPORTED
