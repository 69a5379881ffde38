"""A server of the tenant's own: brought up, logged in to, rotated, put to rest, and never silently made anew."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest
from tests.controlplane.postgres_binaries import debian_binaries
from tests.integration.acting import PODS, eventually, manifest, pod_spec
from tests.integration.node import Node
from tests.integration.tenants import condition, wait_for

from tenantry.api.names import (
    ANNOTATION_REPLICAS,
    ANNOTATION_ROTATE_CREDENTIALS,
    POSTGRES,
    POSTGRES_OUTSIDE,
    POSTGRES_POD,
    POSTGRES_VOLUME,
)
from tenantry.api.resources import (
    CONFIG_MAPS,
    NAMESPACES,
    NETWORK_POLICIES,
    SECRETS,
    SERVICES,
    STATEFUL_SETS,
    TENANT_RECORDS,
    VOLUME_CLAIMS,
)

if TYPE_CHECKING:
    from tests.integration.tenants import Whereabouts, Workbench

Json = dict[str, Any]

DEDICATED: Final[Json] = {"version": "15", "size": "small", "storage": {"size": "1Gi"}}
DATABASE: Final[Json] = {"mode": "Dedicated", "dedicated": DEDICATED}
MAIN: Final[Json] = {"cluster": "main"}
SECONDS: Final = 60.0


@pytest.fixture
def node(workbench: Workbench) -> Iterator[Node]:
    with Node(workbench.stage.target, workbench.prefix, debian_binaries()) as played:
        yield played


@pytest.fixture
def plan(workbench: Workbench) -> str:
    return workbench.platform(
        "TenantPlan",
        "own",
        allowedModes=["Shared", "Dedicated", "None"],
        allowedTiers=["Tier1", "Tier2"],
        sizes={"small": {"cpu": "250m", "memory": "256Mi"}, "huge": {"cpu": "3", "memory": "1Gi"}},
        extensions=["citext"],
        deletion={"maxWindow": "24h"},
    )


def session(
    workbench: Workbench, node: Node, where: Whereabouts, **changes: Any
) -> psycopg.Connection[tuple[Any, ...]]:
    """As one of the tenant's pods."""
    there = node.reach(where.namespace, workbench.secret(where, "tenant-database"), **changes)
    return psycopg.connect(there, autocommit=True, connect_timeout=5)


def made(workbench: Workbench, node: Node, plan: str, **spec: Any) -> Whereabouts:
    where = workbench.whereabouts()
    node.look_after(where.namespace)
    workbench.apply(workbench.tenant(**{"plan": plan, "database": DATABASE, **spec}))
    workbench.ready(seconds=SECONDS)
    return where


def leave_row(workbench: Workbench, node: Node, where: Whereabouts) -> None:
    with session(workbench, node, where) as own:
        own.execute("CREATE TABLE kept (word text)")
        own.execute("INSERT INTO kept VALUES ('alive')")


def has_row(workbench: Workbench, node: Node, where: Whereabouts) -> bool:
    with session(workbench, node, where) as own:
        return own.execute("SELECT word FROM kept").fetchall() == [("alive",)]


def looked_at(workbench: Workbench) -> None:
    seen = workbench.look_now()
    workbench.when(lambda body: body["status"].get("lastHandledReconcileAt") == seen, "it was looked at again")


def says(workbench: Workbench, words: str) -> bool:
    workbench.look_now()
    return words in condition(workbench.get())["message"]


def image(workbench: Workbench, where: Whereabouts) -> str:
    (container,) = workbench.on_target(STATEFUL_SETS, where.namespace, POSTGRES)["spec"]["template"]["spec"][
        "containers"
    ]
    return str(container["image"])


def test_a_tenant_gets_a_server_of_its_own_and_logs_in_without_owning_it(
    workbench: Workbench, node: Node, plan: str
) -> None:
    where = made(workbench, node, plan, database={**DATABASE, "extensions": ["citext"]}, tier="Tier2", placement=MAIN)
    tenant = workbench.get()
    assert condition(tenant, "DatabaseReady")["status"] == "True"
    assert tenant["status"]["binding"] == {"name": "tenant-database"}
    given = workbench.secret(where, "tenant-database")
    assert (given["host"], given["port"]) == (f"tenant-postgres.{where.namespace}.svc", "5432")
    assert given["sslmode"] == "verify-full"
    with session(workbench, node, where) as own:
        assert own.pgconn.ssl_in_use
        own.execute("CREATE TABLE kept (word citext)")
        assert own.execute("SELECT current_user").fetchall() == [(f"{where.database}_owner",)]
        for attempt in (f"DROP DATABASE {where.database}", f"COMMENT ON DATABASE {where.database} IS 'mine'"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                own.execute(attempt)
        identifier = own.execute("SELECT system_identifier::text FROM pg_control_system()").fetchall()[0][0]
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        session(workbench, node, where, dbname="postgres")
    assert workbench.record(where)["spec"]["database"] == {
        "mode": "Dedicated", "server": "", "id": identifier, "name": where.database,
    }  # fmt: skip
    passwords = workbench.secret(where, POSTGRES)
    told = workbench.stage.log.read_text() + node.logs(where.namespace)
    assert not [name for name, value in passwords.items() if value in told]


def test_nothing_is_ready_before_the_server_is_and_the_quota_says_what_it_lacks(
    workbench: Workbench, node: Node, plan: str
) -> None:
    one = {"hard": {"pods": "1", "services": "0"}}  # the server's own Services are not of the tenant's account
    where = workbench.whereabouts()
    workbench.make(plan=plan, quota=one)
    other = manifest(PODS, "other", where.namespace, spec=pod_spec())
    eventually(lambda: workbench.target.create(PODS, other, dry=False).status == 201)
    node.look_after(where.namespace)
    workbench.apply(workbench.tenant(plan=plan, database=DATABASE, quota=one))
    told = workbench.told("Unknown", "DatabaseStarting", None)
    assert condition(told, "SecretsReady")["status"] == "Unknown"
    assert workbench.secret(where, "tenant-database") == {}
    wait_for(lambda: says(workbench, "needs 1 of pods; of the tenant's quota of 1, 1 is in use"), "the quota is named")
    workbench.target.delete(PODS.path(where.namespace, "other"), dry=False)
    workbench.ready(seconds=SECONDS)


def test_at_rest_nothing_is_written_and_what_others_change_is_put_back(
    workbench: Workbench, node: Node, plan: str
) -> None:
    where = made(workbench, node, plan)
    kinds = (
        (SECRETS, "tenant-database"),
        *((kind, POSTGRES) for kind in (SECRETS, STATEFUL_SETS, SERVICES, CONFIG_MAPS)),
    )

    def versions() -> list[str]:
        bodies = [workbench.on_target(kind, where.namespace, name) for kind, name in kinds]
        return [body["metadata"]["resourceVersion"] for body in bodies]

    looked_at(workbench)
    before, carried = versions(), node.forwards.carried
    looked_at(workbench)
    assert versions() == before
    assert node.forwards.carried > carried, "a login was proven again"
    workbench.target.delete(SERVICES.path(where.namespace, POSTGRES), dry=False)
    wait_for(lambda: workbench.on_target(SERVICES, where.namespace, POSTGRES), "the Service is back", 10)
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "postgres", "image": "other"}]}}}}
    path = STATEFUL_SETS.path(where.namespace, POSTGRES)
    answer = workbench.target.send("PATCH", path, patch, dry=False, content="application/strategic-merge-patch+json")
    assert answer.status == 200
    wait_for(lambda: image(workbench, where) == "registry.example.com/postgres:15", "the image is back", 10)
    workbench.ready(seconds=SECONDS)


def test_credentials_rotate_as_on_a_shared_server(workbench: Workbench, node: Node, plan: str) -> None:
    where = made(workbench, node, plan, rotation={"gracePeriod": "0s"})
    former = workbench.secret(where, "tenant-database")
    with session(workbench, node, where) as own:
        own.execute("CREATE TABLE kept (word text)")
    workbench.kubectl("annotate", "tenant", "acme", f"{ANNOTATION_ROTATE_CREDENTIALS}=now")
    wait_for(
        lambda: workbench.secret(where, "tenant-database")["username"] != former["username"], "another login", SECONDS
    )
    with session(workbench, node, where) as own:
        own.execute("INSERT INTO kept VALUES ('alive')")

    def locked() -> bool:
        try:
            session(workbench, node, where, user=former["username"], password=former["password"]).close()
        except psycopg.OperationalError:
            return True
        workbench.look_now()
        return False

    wait_for(locked, "the former login is locked", SECONDS)


def test_switched_off_it_rests_on_its_volume_and_switched_on_all_is_back(
    workbench: Workbench, node: Node, plan: str
) -> None:
    where = made(workbench, node, plan)
    leave_row(workbench, node, where)
    workbench.apply(workbench.tenant(plan=plan, database=DATABASE, enabled=False))
    tenant = workbench.told("True", "Disabled", None)
    assert "its volume is kept" in condition(tenant, "DatabaseReady")["message"]
    wait_for(lambda: not workbench.on_target(PODS, where.namespace, POSTGRES_POD), "its pod is gone")
    assert workbench.on_target(VOLUME_CLAIMS, where.namespace, POSTGRES_VOLUME)
    workbench.apply(workbench.tenant(plan=plan, database=DATABASE))
    workbench.ready(seconds=SECONDS)
    assert has_row(workbench, node, where)


def test_a_deleted_tenant_rests_in_its_window_and_an_undelete_brings_all_back(
    workbench: Workbench, node: Node, plan: str
) -> None:
    where = made(workbench, node, plan, deletion={"window": "1h"})
    leave_row(workbench, node, where)
    workbench.delete()
    workbench.gone()
    assert workbench.record(where)["spec"]["state"] == "Deleted"
    wait_for(lambda: not workbench.on_target(PODS, where.namespace, POSTGRES_POD), "its pod is gone")
    assert workbench.on_target(VOLUME_CLAIMS, where.namespace, POSTGRES_VOLUME)
    workbench.apply(workbench.tenant(plan=plan, database=DATABASE, deletion={"window": "1h"}))
    workbench.ready(seconds=SECONDS)
    assert has_row(workbench, node, where)
    metadata = workbench.on_target(STATEFUL_SETS, where.namespace, POSTGRES)["metadata"]
    assert ANNOTATION_REPLICAS not in metadata["annotations"]


def test_deleted_without_a_window_nothing_of_it_is_left(workbench: Workbench, node: Node, plan: str) -> None:
    where = made(workbench, node, plan, deletion={"window": "0s"})
    workbench.delete()
    workbench.gone(seconds=SECONDS)
    assert not workbench.on_target(NAMESPACES, "", where.namespace)
    assert not workbench.record(where)


def test_a_server_that_dies_comes_back_with_its_data(workbench: Workbench, node: Node, plan: str) -> None:
    where = made(workbench, node, plan)
    leave_row(workbench, node, where)
    node.kill(where.namespace)
    workbench.told("Unknown", "DatabaseStarting", None)
    node.revive(where.namespace)
    workbench.ready(seconds=SECONDS)
    assert has_row(workbench, node, where)


def test_a_volume_that_is_gone_is_told_and_no_empty_database_takes_its_place(
    workbench: Workbench, node: Node, plan: str
) -> None:
    where = made(workbench, node, plan)
    workbench.target.delete(VOLUME_CLAIMS.path(where.namespace, POSTGRES_VOLUME), dry=False)
    former = workbench.on_target(PODS, where.namespace, POSTGRES_POD)["metadata"]["uid"]
    workbench.target.delete(PODS.path(where.namespace, POSTGRES_POD), dry=False)
    tenant = workbench.told("False", "DatabaseMissing", None, seconds=SECONDS)
    assert f"start-fresh={where.identity.record}" in condition(tenant)["message"]
    wait_for(
        lambda: workbench.on_target(PODS, where.namespace, POSTGRES_POD).get("metadata", {}).get("uid") != former,
        "Kubernetes made a pod anew",
    )
    wait_for(lambda: "the volume is empty" in node.logs(where.namespace), "its start refuses", SECONDS)
    assert list(node.volume(where.namespace).iterdir()) == []


def sized(size: str) -> Json:
    return {**DATABASE, "dedicated": {**DEDICATED, "size": size}}


@pytest.fixture
def sizes(workbench: Workbench, plan: str) -> str:
    """A plan with a size for which the node has no room."""
    both = {"small": {"cpu": "250m", "memory": "256Mi"}, "large": {"cpu": "250m", "memory": "512Mi"}}
    return workbench.platform("TenantPlan", "sizes", allowedModes=["Dedicated"], sizes=both)


def test_a_pod_that_can_not_start_is_replaced_once_what_was_wrong_is_corrected(
    workbench: Workbench, node: Node, sizes: str
) -> None:
    where = made(workbench, node, sizes)
    leave_row(workbench, node, where)
    volume = workbench.on_target(VOLUME_CLAIMS, where.namespace, POSTGRES_VOLUME)["metadata"]["uid"]
    node.too_large = "512Mi"
    workbench.apply(workbench.tenant(plan=sizes, database=sized("large")))
    wait_for(lambda: says(workbench, "is not placed on a node: 0/1 nodes are available"), "it can't start", SECONDS)
    stuck = workbench.on_target(PODS, where.namespace, POSTGRES_POD)["metadata"]["uid"]
    looked_at(workbench)
    assert workbench.on_target(PODS, where.namespace, POSTGRES_POD)["metadata"]["uid"] == stuck, "it is as it is wanted"
    workbench.apply(workbench.tenant(plan=sizes, database=sized("small")))
    workbench.ready(seconds=SECONDS)
    assert has_row(workbench, node, where)
    assert workbench.on_target(VOLUME_CLAIMS, where.namespace, POSTGRES_VOLUME)["metadata"]["uid"] == volume


def test_a_pod_that_can_not_start_is_left_where_the_volumes_claim_is_going(
    workbench: Workbench, node: Node, sizes: str
) -> None:
    where = made(workbench, node, sizes)
    node.too_large = "512Mi"
    workbench.apply(workbench.tenant(plan=sizes, database=sized("large")))
    wait_for(lambda: says(workbench, "is not placed on a node: 0/1 nodes are available"), "it can't start", SECONDS)
    stuck = workbench.on_target(PODS, where.namespace, POSTGRES_POD)["metadata"]["uid"]
    path = VOLUME_CLAIMS.path(where.namespace, POSTGRES_VOLUME)
    assert workbench.target.patch(path, {"metadata": {"finalizers": ["example.com/kept"]}}, dry=False).status == 200
    workbench.target.delete(path, dry=False)
    workbench.apply(workbench.tenant(plan=sizes, database=sized("small")))

    def observed() -> bool:
        body = workbench.on_target(STATEFUL_SETS, where.namespace, POSTGRES)
        status = body["status"]
        current = status["observedGeneration"] == body["metadata"]["generation"]
        return bool(current and status["updateRevision"] == status["currentRevision"])

    wait_for(observed, "the StatefulSet is as it was")
    looked_at(workbench)
    looked_at(workbench)
    assert workbench.on_target(PODS, where.namespace, POSTGRES_POD)["metadata"]["uid"] == stuck
    workbench.target.patch(path, {"metadata": {"finalizers": []}}, dry=False)
    workbench.told("False", "DatabaseMissing", None, seconds=SECONDS)
    assert workbench.on_target(PODS, where.namespace, POSTGRES_POD)["metadata"]["uid"] == stuck


def test_a_namespace_that_is_gone_took_the_database_along_and_none_is_made(
    workbench: Workbench, node: Node, plan: str
) -> None:
    where = made(workbench, node, plan)
    former = workbench.on_target(NAMESPACES, "", where.namespace)["metadata"]["uid"]
    workbench.target.delete(NAMESPACES.path(name=where.namespace), dry=False)
    wait_for(
        lambda: workbench.on_target(NAMESPACES, "", where.namespace).get("metadata", {}).get("uid", former) != former,
        "the namespace is made again",
        SECONDS,
    )
    workbench.told("False", "DatabaseMissing", None, seconds=SECONDS)
    assert not workbench.on_target(STATEFUL_SETS, where.namespace, POSTGRES)
    assert not workbench.on_target(VOLUME_CLAIMS, where.namespace, POSTGRES_VOLUME)


def test_passwords_that_were_lost_are_taken_over_when_the_server_starts_anew(
    workbench: Workbench, node: Node, plan: str
) -> None:
    where = made(workbench, node, plan)
    leave_row(workbench, node, where)
    workbench.target.delete(SECRETS.path(where.namespace, POSTGRES), dry=False)
    workbench.look_now()
    tenant = workbench.told("Unknown", "LoginFailed", None)
    assert f"delete the pod {POSTGRES_POD}" in condition(tenant)["message"]
    workbench.target.delete(PODS.path(where.namespace, POSTGRES_POD), dry=False)
    workbench.ready(seconds=SECONDS)
    assert has_row(workbench, node, where)


def test_a_record_that_is_lost_is_made_anew_with_the_database_that_there_is(
    workbench: Workbench, node: Node, plan: str
) -> None:
    where = made(workbench, node, plan)
    leave_row(workbench, node, where)
    before = workbench.record(where)["spec"]["database"]
    workbench.management.delete(TENANT_RECORDS.path(name=where.identity.record), dry=False)
    workbench.look_now()
    wait_for(lambda: workbench.record(where), "the record is there again", SECONDS)
    assert workbench.record(where)["spec"]["database"] == before
    workbench.ready(seconds=SECONDS)
    assert has_row(workbench, node, where)


def test_what_a_plan_or_cluster_does_not_give_is_refused_by_name(workbench: Workbench, plan: str) -> None:
    def refused(reason: str, status: str, **dedicated: Any) -> str:
        database = {"mode": "Dedicated", "dedicated": {**DEDICATED, **dedicated}}
        workbench.apply(workbench.tenant(plan=plan, database=database))
        return str(condition(workbench.told(status, reason, None))["message"])

    message = refused("PlanExceeded", "False", size="big")
    assert message == f"spec.database.dedicated.size: plan {plan!r} does not have big; it has huge, small"
    message = refused("PlanExceeded", "False", size="huge")
    assert "its server needs 3 of requests.cpu, and all that the tenant's quota has is 2" in message
    assert not workbench.on_target(STATEFUL_SETS, workbench.whereabouts().namespace, POSTGRES)


def test_who_is_outside_gets_in_just_where_the_tenant_and_its_plan_say_so(
    workbench: Workbench, node: Node, plan: str
) -> None:
    asked = {**DATABASE, "externalAccess": {"enabled": True, "cidrs": ["192.0.2.0/24"]}}
    where = workbench.whereabouts()
    workbench.apply(workbench.tenant(plan=plan, database=asked))
    tenant = workbench.told("False", "PlanExceeded", None)
    assert "spec.database.externalAccess: it takes a Service of type LoadBalancer" in condition(tenant)["message"]
    balanced = workbench.platform(
        "TenantPlan", "balanced", allowedModes=["Dedicated"], sizes={"small": {"cpu": "250m", "memory": "256Mi"}},
        quota={"hard": {"services.loadbalancers": "1"}},
    )  # fmt: skip
    node.look_after(where.namespace)
    workbench.apply(workbench.tenant(plan=balanced, database=asked))
    tenant = workbench.ready(seconds=SECONDS)
    assert condition(tenant, "DatabaseReady")["message"] == "from outside: the load balancer has no address yet"
    status = {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}}}
    path = SERVICES.path(where.namespace, POSTGRES_OUTSIDE, "status")
    assert workbench.target.patch(path, status, dry=False).status == 200
    workbench.when(
        lambda body: condition(body, "DatabaseReady")["message"] == "from outside: 192.0.2.9:5432",
        "its address is told",
    )
    policy = workbench.on_target(NETWORK_POLICIES, where.namespace, POSTGRES_OUTSIDE)
    assert policy["spec"]["ingress"][0]["from"] == [{"ipBlock": {"cidr": "192.0.2.0/24"}}]
    before = workbench.on_target(SERVICES, where.namespace, POSTGRES_OUTSIDE)["metadata"]["resourceVersion"]
    looked_at(workbench)
    after = workbench.on_target(SERVICES, where.namespace, POSTGRES_OUTSIDE)["metadata"]["resourceVersion"]
    assert after == before
    workbench.apply(workbench.tenant(plan=balanced, database=DATABASE))
    wait_for(lambda: not workbench.on_target(SERVICES, where.namespace, POSTGRES_OUTSIDE), "the way in is closed")
    assert not workbench.on_target(NETWORK_POLICIES, where.namespace, POSTGRES_OUTSIDE)
    workbench.ready(seconds=SECONDS)


def test_from_or_to_a_server_of_its_own_no_data_is_left_behind_silently(
    workbench: Workbench, node: Node, plan: str
) -> None:
    made(workbench, node, plan)
    workbench.apply(workbench.tenant(plan=plan, database={"mode": "Shared"}))
    tenant = workbench.told("False", "MoveNotSupported", None)
    assert "make another Tenant with mode: Shared, copy the data, and delete this one" in condition(tenant)["message"]
    workbench.apply(workbench.tenant(plan=plan, database={"mode": "None"}))
    workbench.told("False", "MoveNotSupported", None)
    workbench.apply(workbench.tenant(plan=plan, database=DATABASE))
    workbench.ready(seconds=SECONDS)
