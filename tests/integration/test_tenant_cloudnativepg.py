"""A server of the tenant's own that CloudNativePG makes: brought up, failed over, put to rest, never made anew."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest
from tests.controlplane.postgres_binaries import debian_binaries
from tests.integration.acting import PODS, STAMPED_OBJECTS, role_binding
from tests.integration.cloudnativepg import FILLED_IN, SUPERUSER, CloudNativePG, install
from tests.integration.tenants import condition, wait_for
from tests.scene.installation import install_target, kubeconfig_secret, operator_kubeconfig
from tests.scene.stage import CLOUDNATIVEPG, cluster_manifest

from tenantry.api.names import (
    ANNOTATION_HIBERNATION,
    ANNOTATION_RECORD,
    CLUSTER_ROLE_TENANT_ADMIN,
    COMPONENT_POSTGRES,
    LABEL_COMPONENT,
    LABEL_TENANT_HASH,
    OPERATOR_CLOUDNATIVEPG_BINDING,
    POSTGRES,
)
from tenantry.api.resources import (
    CLUSTERS,
    CONFIG_MAPS,
    NAMESPACES,
    NETWORK_POLICIES,
    POSTGRES_CLUSTERS,
    ROLE_BINDINGS,
    SECRETS,
    SERVICE_ACCOUNTS,
    SERVICES,
    STATEFUL_SETS,
    TENANT_RECORDS,
    VOLUME_CLAIMS,
)

if TYPE_CHECKING:
    from tests.integration.conftest import FreshControlPlane
    from tests.integration.tenants import Whereabouts, Workbench

Json = dict[str, Any]

DEDICATED: Final[Json] = {"provider": "CloudNativePG", "version": "15", "size": "small", "storage": {"size": "1Gi"}}
DATABASE: Final[Json] = {"mode": "Dedicated", "dedicated": DEDICATED}
SECONDS: Final = 60.0
FIRST: Final = f"{POSTGRES}-1"
SECOND: Final = f"{POSTGRES}-2"


@pytest.fixture
def operated(workbench: Workbench) -> Iterator[CloudNativePG]:
    install(workbench.stage.target)
    with CloudNativePG(workbench.stage.target, workbench.prefix, debian_binaries()) as played:
        yield played


@pytest.fixture
def plan(workbench: Workbench) -> str:
    return own_plan(workbench)


def own_plan(workbench: Workbench, name: str = "own", **spec: Any) -> str:
    usual: Json = {
        "allowedModes": ["Shared", "Dedicated", "None"],
        "sizes": {"small": {"cpu": "250m", "memory": "256Mi"}},
        "dedicatedProviders": ["CloudNativePG", "Builtin"],
        "extensions": ["citext"],
        "deletion": {"maxWindow": "24h"},
    }
    given = {key: value for key, value in {**usual, **spec}.items() if value is not None}
    return workbench.platform("TenantPlan", name, **given)


def database(**dedicated: Any) -> Json:
    return {"mode": "Dedicated", "dedicated": {**DEDICATED, **dedicated}}


def made(workbench: Workbench, operated: CloudNativePG, plan: str, **spec: Any) -> Whereabouts:
    where = workbench.whereabouts()
    operated.look_after(where.namespace)
    workbench.apply(workbench.tenant(**{"plan": plan, "database": DATABASE, **spec}))
    workbench.ready(seconds=SECONDS)
    return where


def session(
    workbench: Workbench, operated: CloudNativePG, where: Whereabouts, **changes: Any
) -> psycopg.Connection[tuple[Any, ...]]:
    """As one of the tenant's pods."""
    there = operated.reach(where.namespace, workbench.secret(where, "tenant-database"), **changes)
    return psycopg.connect(there, autocommit=True, connect_timeout=5)


def leave_row(workbench: Workbench, operated: CloudNativePG, where: Whereabouts) -> None:
    with session(workbench, operated, where) as own:
        own.execute("CREATE TABLE kept (word text)")
        own.execute("INSERT INTO kept VALUES ('alive')")


def has_row(workbench: Workbench, operated: CloudNativePG, where: Whereabouts) -> bool:
    with session(workbench, operated, where) as own:
        return own.execute("SELECT word FROM kept").fetchall() == [("alive",)]


def looked_at(workbench: Workbench) -> None:
    seen = workbench.look_now()
    workbench.when(lambda body: body["status"].get("lastHandledReconcileAt") == seen, "it was looked at again")


def its_cluster(workbench: Workbench, where: Whereabouts) -> Json:
    return workbench.on_target(POSTGRES_CLUSTERS, where.namespace, POSTGRES)


def has_second(workbench: Workbench, where: Whereabouts) -> bool:
    return bool(workbench.on_target(PODS, where.namespace, SECOND))


def says(workbench: Workbench, words: str, kind: str = "Ready") -> bool:
    workbench.look_now()
    return words in condition(workbench.get(), kind).get("message", "")


def test_a_tenant_gets_a_server_with_a_replica_and_logs_in_without_owning_it(
    workbench: Workbench, operated: CloudNativePG, plan: str
) -> None:
    where = made(workbench, operated, plan, database={**database(instances=2), "extensions": ["citext"]})
    given = workbench.secret(where, "tenant-database")
    assert (given["host"], given["port"]) == (f"tenant-postgres.{where.namespace}.svc", "5432")
    with session(workbench, operated, where) as own:
        assert own.pgconn.ssl_in_use
        own.execute("CREATE TABLE kept (word citext)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            own.execute(f"DROP DATABASE {where.database}")
        identifier = own.execute("SELECT system_identifier::text FROM pg_control_system()").fetchall()[0][0]
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        session(workbench, operated, where, dbname="postgres")
    assert workbench.record(where)["spec"]["database"] == {
        "mode": "Dedicated", "server": "", "id": identifier, "name": where.database, "provider": "CloudNativePG",
    }  # fmt: skip
    metadata = workbench.on_target(PODS, where.namespace, SECOND)["metadata"]
    assert metadata["labels"][LABEL_COMPONENT] == COMPONENT_POSTGRES
    assert metadata["annotations"][ANNOTATION_RECORD] == where.identity.record
    assert LABEL_TENANT_HASH not in metadata["labels"], "or it would be ours to prune"
    policy = workbench.on_target(NETWORK_POLICIES, where.namespace, POSTGRES)["spec"]
    assert policy["egress"] == [{"to": [{"ipBlock": {"cidr": "192.0.2.10/32"}}]}]
    assert [port["port"] for port in policy["ingress"][0]["ports"]] == [5432, 8000]
    assert not workbench.on_target(STATEFUL_SETS, where.namespace, POSTGRES)
    passwords = [*workbench.secret(where, POSTGRES).values(), *workbench.secret(where, SUPERUSER).values()]
    told = workbench.stage.log.read_text()
    assert not [value for value in passwords if value != "postgres" and value in told]


def test_at_rest_nothing_is_written_and_only_what_is_ours_is_put_back(
    workbench: Workbench, operated: CloudNativePG, plan: str
) -> None:
    where = made(workbench, operated, plan)
    kinds = (SECRETS, SERVICES, CONFIG_MAPS, POSTGRES_CLUSTERS, NETWORK_POLICIES)
    looked_at(workbench)
    looked_at(workbench)

    def versions() -> list[str]:
        bodies = [workbench.on_target(kind, where.namespace, POSTGRES) for kind in kinds]
        return [body["metadata"]["resourceVersion"] for body in bodies]

    before, carried = versions(), operated.forwards.carried
    assert FILLED_IN.items() <= its_cluster(workbench, where)["spec"]["postgresql"]["parameters"].items()
    looked_at(workbench)
    assert versions() == before
    assert operated.forwards.carried > carried, "a login was proven again"
    path = POSTGRES_CLUSTERS.path(where.namespace, POSTGRES)
    theirs = {"spec": {"imageName": "other", "logLevel": "debug", "postgresql": {"parameters": {"work_mem": "8MB"}}}}
    assert workbench.target.patch(path, theirs, dry=False).status == 200
    image = str(CLOUDNATIVEPG["image"]).replace("{version}", "15")
    wait_for(lambda: its_cluster(workbench, where)["spec"]["imageName"] == image, "the image is back", 10)
    spec = its_cluster(workbench, where)["spec"]
    assert (spec["logLevel"], spec["postgresql"]["parameters"]["work_mem"]) == ("debug", "8MB")
    workbench.ready(seconds=SECONDS)


def test_when_a_replica_takes_over_it_is_the_one_that_is_gone_to(
    workbench: Workbench, operated: CloudNativePG, plan: str
) -> None:
    where = made(workbench, operated, plan, database=database(instances=2))
    leave_row(workbench, operated, where)
    operated.fail_over(where.namespace, SECOND)
    wait_for(
        lambda: its_cluster(workbench, where)["status"]["currentPrimary"] == SECOND, "the other is primary", SECONDS
    )
    carried = operated.forwards.carried
    workbench.ready(seconds=SECONDS)
    looked_at(workbench)
    workbench.ready(seconds=SECONDS)
    assert operated.forwards.carried > carried
    assert has_row(workbench, operated, where)


def test_it_is_not_ready_before_all_instances_are_and_then_has_as_many_as_asked_for(
    workbench: Workbench, operated: CloudNativePG, plan: str
) -> None:
    where = workbench.whereabouts()
    workbench.apply(workbench.tenant(plan=plan, database=DATABASE))
    tenant = workbench.told("Unknown", "DatabaseStarting", None)
    assert "0 of 1 instances are ready; CloudNativePG has said nothing" in condition(tenant, "DatabaseReady")["message"]
    assert workbench.secret(where, "tenant-database") == {}
    operated.look_after(where.namespace)
    workbench.ready(seconds=SECONDS)
    for instances, there in ((2, True), (1, False)):
        workbench.apply(workbench.tenant(plan=plan, database=database(instances=instances)))
        workbench.ready(seconds=SECONDS)
        wait_for(lambda there=there: has_second(workbench, where) == there, "so many")  # type: ignore[misc]  # a default binds the loop's value


def test_switched_off_it_hibernates_and_switched_on_all_is_back(
    workbench: Workbench, operated: CloudNativePG, plan: str
) -> None:
    where = made(workbench, operated, plan)
    leave_row(workbench, operated, where)
    workbench.apply(workbench.tenant(plan=plan, database=DATABASE, enabled=False))
    workbench.told("True", "Disabled", None)
    assert its_cluster(workbench, where)["metadata"]["annotations"][ANNOTATION_HIBERNATION] == "on"
    wait_for(lambda: not workbench.on_target(PODS, where.namespace, FIRST), "its pod is gone")
    assert workbench.on_target(VOLUME_CLAIMS, where.namespace, FIRST)
    assert not workbench.on_target(NETWORK_POLICIES, where.namespace, POSTGRES)
    workbench.apply(workbench.tenant(plan=plan, database=DATABASE))
    workbench.ready(seconds=SECONDS)
    assert has_row(workbench, operated, where)


def test_a_deleted_tenant_hibernates_in_its_window_and_an_undelete_brings_all_back(
    workbench: Workbench, operated: CloudNativePG, plan: str
) -> None:
    where = made(workbench, operated, plan, deletion={"window": "1h"})
    leave_row(workbench, operated, where)
    workbench.delete()
    workbench.gone()
    assert workbench.record(where)["spec"]["state"] == "Deleted"
    assert its_cluster(workbench, where)["metadata"]["annotations"][ANNOTATION_HIBERNATION] == "on"
    assert workbench.on_target(ROLE_BINDINGS, where.namespace, OPERATOR_CLOUDNATIVEPG_BINDING)
    wait_for(lambda: not workbench.on_target(PODS, where.namespace, FIRST), "its pod is gone")
    builtin = database(provider="Builtin")
    workbench.apply(workbench.tenant(plan=plan, database=builtin, deletion={"window": "1h"}))
    tenant = workbench.told("False", "MoveNotSupported", None)
    assert "CloudNativePG made this tenant's server, and Builtin can't" in condition(tenant)["message"]
    workbench.stage.management.kubectl(
        "-n", workbench.workspace, "patch", "tenant", "acme", "--type=json", "-p",
        json.dumps([{"op": "remove", "path": "/spec/database"}]),
    )  # fmt: skip
    workbench.apply(workbench.tenant(plan=plan, database=DATABASE, deletion={"window": "1h"}))
    workbench.ready(seconds=SECONDS)
    assert has_row(workbench, operated, where)


def test_deleted_without_a_window_nothing_of_it_is_left(
    workbench: Workbench, operated: CloudNativePG, plan: str
) -> None:
    where = made(workbench, operated, plan, deletion={"window": "0s"})
    workbench.delete()
    workbench.gone(seconds=SECONDS)
    assert not workbench.on_target(NAMESPACES, "", where.namespace)
    assert not workbench.record(where)


def test_volumes_that_are_gone_are_told_and_no_empty_database_takes_their_place(
    workbench: Workbench, operated: CloudNativePG, plan: str
) -> None:
    where = made(workbench, operated, plan)
    workbench.target.delete(VOLUME_CLAIMS.path(where.namespace, FIRST), dry=False)
    tenant = workbench.told("False", "DatabaseMissing", None, seconds=SECONDS)
    assert f"start-fresh={where.identity.record}" in condition(tenant)["message"]
    assert not workbench.on_target(VOLUME_CLAIMS, where.namespace, FIRST)


def test_a_cluster_that_somebody_deleted_is_not_made_anew_where_its_volumes_go_with_it(
    workbench: Workbench, operated: CloudNativePG, plan: str
) -> None:
    where = made(workbench, operated, plan)
    path = POSTGRES_CLUSTERS.path(where.namespace, POSTGRES)
    workbench.target.delete(path, dry=False)
    workbench.told("False", "DatabaseMissing", None, seconds=SECONDS)
    looked_at(workbench)
    assert its_cluster(workbench, where) == {}


def test_a_cluster_whose_volumes_nobody_owns_is_made_again_and_finds_its_data(
    workbench: Workbench, operated: CloudNativePG, plan: str
) -> None:
    where = made(workbench, operated, plan)
    leave_row(workbench, operated, where)
    path = POSTGRES_CLUSTERS.path(where.namespace, POSTGRES)
    options = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Orphan"}
    former = its_cluster(workbench, where)["metadata"]["uid"]
    assert workbench.target.send("DELETE", path, options, dry=False).status == 200

    def anew() -> bool:
        workbench.look_now()
        return bool(its_cluster(workbench, where).get("metadata", {}).get("uid", former) != former)

    wait_for(anew, "it is made again", SECONDS)
    workbench.ready(seconds=SECONDS)
    assert has_row(workbench, operated, where)
    (statement,) = its_cluster(workbench, where)["spec"]["bootstrap"]["initdb"]["postInitSQL"]
    identifier = workbench.record(where)["spec"]["database"]["id"]
    with psycopg.connect(
        host="127.0.0.1", port=operated.port(where.namespace), user="postgres", dbname="postgres",
        password=workbench.secret(where, SUPERUSER)["password"],
    ) as admin:  # fmt: skip
        admin.execute(statement)
        with pytest.raises(psycopg.errors.RaiseException, match="DatabaseMissing"):
            admin.execute(statement.replace(f"'{identifier}'", "'7'"))


def test_a_namespace_that_is_gone_took_the_database_along_and_none_is_made(
    workbench: Workbench, operated: CloudNativePG, plan: str
) -> None:
    where = made(workbench, operated, plan)
    former = workbench.on_target(NAMESPACES, "", where.namespace)["metadata"]["uid"]
    workbench.target.delete(NAMESPACES.path(name=where.namespace), dry=False)
    wait_for(
        lambda: workbench.on_target(NAMESPACES, "", where.namespace).get("metadata", {}).get("uid", former) != former,
        "the namespace is made again",
        SECONDS,
    )
    workbench.told("False", "DatabaseMissing", None, seconds=SECONDS)
    assert its_cluster(workbench, where) == {}


def test_passwords_that_were_lost_are_made_anew_and_taken_over(
    workbench: Workbench, operated: CloudNativePG, plan: str
) -> None:
    where = made(workbench, operated, plan)
    leave_row(workbench, operated, where)
    former = workbench.secret(where, POSTGRES)["admin-password"]
    workbench.target.delete(SECRETS.path(where.namespace, POSTGRES), dry=False)
    workbench.look_now()
    wait_for(lambda: workbench.secret(where, POSTGRES).get("admin-password", former) != former, "others are there")
    workbench.ready(seconds=SECONDS)
    looked_at(workbench)
    workbench.ready(seconds=SECONDS)


def test_a_record_that_is_lost_is_made_anew_with_the_database_that_there_is(
    workbench: Workbench, operated: CloudNativePG, plan: str
) -> None:
    where = made(workbench, operated, plan)
    before = workbench.record(where)["spec"]["database"]
    workbench.management.delete(TENANT_RECORDS.path(name=where.identity.record), dry=False)
    workbench.look_now()
    wait_for(lambda: workbench.record(where), "the record is there again", SECONDS)
    assert workbench.record(where)["spec"]["database"] == before
    workbench.ready(seconds=SECONDS)


def test_what_a_plan_does_not_give_is_refused_by_name(workbench: Workbench, plan: str) -> None:
    install(workbench.stage.target)
    builtin = own_plan(workbench, "builtin", dedicatedProviders=None)
    workbench.apply(workbench.tenant(plan=builtin, database=DATABASE))
    tenant = workbench.told("False", "PlanExceeded", None)
    assert condition(tenant)["message"] == (
        f"spec.database.dedicated.provider: plan {builtin!r} does not have CloudNativePG; it has Builtin"
    )
    workbench.apply(workbench.tenant("many", plan=plan, database=database(instances=9)))
    tenant = workbench.told("False", "PlanExceeded", None, name="many")
    assert (
        "its server needs 2250m of requests.cpu, and all that the tenant's quota has is 2"
        in (condition(tenant)["message"])
    )


def test_a_tenants_admin_can_neither_delete_its_volumes_nor_change_its_cluster(
    workbench: Workbench, operated: CloudNativePG, plan: str
) -> None:
    where = made(workbench, operated, plan)
    subject = {"kind": "User", "name": "eve", "apiGroup": "rbac.authorization.k8s.io"}
    for name, role in (("eve", CLUSTER_ROLE_TENANT_ADMIN), ("eve-too", "admin")):
        answer = workbench.target.create(ROLE_BINDINGS, role_binding(name, where.namespace, role, subject), dry=False)
        assert answer.status == 201
    eve = {"Impersonate-User": "eve"}

    def delete(path: str) -> str:
        return workbench.target.send("DELETE", path, headers=eve).refused_by

    volume = VOLUME_CLAIMS.path(where.namespace, FIRST)
    wait_for(lambda: delete(volume) == "tenantry-cloudnativepg-volumes", lambda: delete(volume))
    labels = {"metadata": {"labels": {"cnpg.io/cluster": "other"}}}
    content = "application/merge-patch+json"
    answer = workbench.target.send("PATCH", volume, labels, headers=eve, content=content)
    assert answer.refused_by == "tenantry-cloudnativepg-volumes"
    assert delete(POSTGRES_CLUSTERS.path(where.namespace, POSTGRES)) in (STAMPED_OBJECTS, "RBAC")
    assert workbench.on_target(SERVICE_ACCOUNTS, where.namespace, "tenant")


def test_a_target_without_cloudnativepg_says_so_and_is_used_once_it_has_it(
    trial: Workbench, fresh_control_plane: FreshControlPlane
) -> None:
    bare, name = fresh_control_plane("bare").access, f"{trial.prefix}-bare"
    install_target(bare)
    offer = {"cloudNativePG": CLOUDNATIVEPG}
    trial.apply(kubeconfig_secret(f"{name}-kubeconfig", operator_kubeconfig(bare)))
    trial.register(cluster_manifest(name, dedicatedDatabases=offer))
    trial.stage.management.kubectl("wait", "--for=condition=Ready", "--timeout=60s", f"clusters.tenantry.io/{name}")
    trial.elsewhere(bare.kubeconfig)
    plan, placement = own_plan(trial), {"cluster": name}
    trial.apply(trial.tenant(plan=plan, database=DATABASE, placement=placement))
    tenant = trial.told("Unknown", "DedicatedNotOffered", None, seconds=SECONDS)
    message = condition(tenant)["message"]
    assert f"Cluster {name!r}" in message
    assert "postgresql.cnpg.io/v1" in message or "deploy/target-cloudnativepg.yaml" in message
    trial.apply(trial.tenant("left", plan=plan, database=DATABASE, placement=placement, deletion={"window": "1h"}))
    trial.told("Unknown", "DedicatedNotOffered", None, name="left", seconds=SECONDS)
    trial.delete("left")
    trial.gone("left", seconds=SECONDS)
    install(bare, rights=False)
    wait_for(lambda: says(trial, "applies deploy/target-cloudnativepg.yaml there"), "its rights are asked for", SECONDS)
    install(bare)
    where = trial.whereabouts()
    with CloudNativePG(bare, trial.prefix, debian_binaries()) as played:
        played.look_after(where.namespace)
        trial.look_now()
        trial.ready(seconds=120)
        cluster = trial.on_target(POSTGRES_CLUSTERS, where.namespace, POSTGRES)
        theirs = {"spec": {"imageName": "other"}}
        path = POSTGRES_CLUSTERS.path(where.namespace, POSTGRES)
        assert trial.target.patch(path, theirs, dry=False).status == 200
        wait_for(
            lambda: its_cluster(trial, where)["spec"]["imageName"] == cluster["spec"]["imageName"],
            "the watch has begun, and what others change is put back",
            SECONDS,
        )
    assert trial.management.get(CLUSTERS.path(name=name)).status == 200
