"""A hostile workspace admin can't read, change or block anything of another workspace: one test an attack."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from tests.integration.acting import HOSTS, RBAC, STAMPED_OBJECTS, Api, ingress_spec, manifest, token_of
from tests.integration.hostile import DATABASE, Mallory, Victim, make_victim
from tests.integration.tenants import condition, wait_for
from tests.scene.stage import CLUSTER

from tenantry.api.names import TENANT_FINALIZER
from tenantry.api.resources import (
    CLUSTERS,
    CONFIG_MAPS,
    DATABASE_SERVERS,
    EVENTS,
    INGRESSES,
    NAMESPACES,
    NETWORK_POLICIES,
    RESOURCE_QUOTAS,
    ROLE_BINDINGS,
    SECRETS,
    TENANT_PLANS,
    TENANT_RECORDS,
    TENANTS,
)

if TYPE_CHECKING:
    from tests.integration.tenants import Workbench

Json = dict[str, Any]

NO_SECRET = 'spec.envFrom: this workspace has no Secret {!r} with the label tenantry.io/env: "true"'


@pytest.fixture
def mallory(workbench: Workbench) -> Iterator[Mallory]:
    with Mallory(workbench) as attacker:
        yield attacker


@pytest.fixture
def victim(workbench: Workbench) -> Iterator[Victim]:
    """Untouched in the end, whatever the test has tried."""
    target = make_victim(workbench)
    yield target
    target.check()


def test_she_has_no_more_rights_than_on_tenants_of_her_workspace(mallory: Mallory, victim: Victim) -> None:
    """What all the other tests stand on."""
    api, own = mallory.api, mallory.bench.workspace
    assert api.may("patch", TENANTS, own, subresource="status")
    for resource in (SECRETS, CONFIG_MAPS, ROLE_BINDINGS, EVENTS):
        assert not api.may("get", resource, own)
        assert not api.may("get", resource, "tenantry-system")
    for resource in (TENANT_RECORDS, CLUSTERS, DATABASE_SERVERS, TENANT_PLANS, NAMESPACES):
        assert not api.may("list", resource)
    assert not api.may("get", TENANTS, victim.workspace)
    assert api.get(TENANTS.path(victim.workspace, "acme")).status == 403
    assert api.patch(TENANTS.path(victim.workspace, "acme"), {"spec": {"env": {"A": "1"}}}).status == 403


def test_a_copied_status_gets_nothing_of_its_owner_and_a_deletion_with_it_destroys_nothing(
    mallory: Mallory, victim: Victim
) -> None:
    stolen = victim.tenant["status"]
    own = mallory.make()["status"]
    mallory.create("unplaced", plan="no-such-plan")
    mallory.bench.told("Unknown", "PlanNotFound", None, name="unplaced")
    for name in ("acme", "unplaced"):
        assert mallory.set_status(name, stolen).status == 200
        told = mallory.handled(name)["status"]
        assert condition({"status": told})["observedGeneration"] == 1
    told = mallory.bench.get()["status"]
    told.pop("lastHandledReconcileAt")
    for status in (told, own):
        for entry in status["conditions"]:
            entry.pop("lastTransitionTime")
    assert told == own, "the status is what the operator found out, not what somebody wrote there"
    assert mallory.set_status("acme", stolen).status == 200
    for name in ("acme", "unplaced"):
        assert mallory.api.delete(mallory.path(name), dry=False).status == 200
        mallory.bench.gone(name)
    victim.check()


def test_a_status_that_says_ready_is_put_right_and_makes_nothing_ready(mallory: Mallory) -> None:
    mallory.create(plan="no-such-plan")
    mallory.bench.told("Unknown", "PlanNotFound", None)
    forged = [
        {"type": kind, "status": "True", "reason": "Ready", "observedGeneration": 999, "lastTransitionTime": "long ago"}
        for kind in ("Ready", "Placed", "NamespaceReady", "DatabaseReady", "SecretsReady", "IngressReady", "Sold")
    ]
    answer = mallory.set_status("acme", {"observedGeneration": 999, "conditions": forged, "hosts": ["mine.example"]})
    assert answer.status == 200
    tenant = mallory.handled()
    assert tenant["status"]["observedGeneration"] == 1
    ready = condition(tenant)
    assert (ready["status"], ready["reason"], ready["observedGeneration"]) == ("Unknown", "PlanNotFound", 1)
    assert not condition(tenant, "Sold")
    assert not mallory.bench.inventory(mallory.bench.whereabouts())
    assert not mallory.failures()


FORGED: dict[str, Json] = {
    "annotations": {
        "annotations": {
            "tenantry.io/adopt": "{record}",
            "tenantry.io/start-fresh": "{record}",
            "tenantry.io/accept-identity": "{cluster_id}",
            "tenantry.io/adopt-workspace": "{workspace_uid}",
            "tenantry.io/allow-adoption": "{management_id}/{workspace}/acme",
            "tenantry.io/force-orphan": "{uid}",
            "tenantry.io/confirm-deletion": "{uid}",
            "tenantry.io/approve-move": "{cluster}",
            "tenantry.io/hosts": "{host},*",
        }
    },
    "the stamp of another tenant": {
        "labels": {
            "app.kubernetes.io/managed-by": "tenantry",
            "tenantry.io/management-id": "{management_id}",
            "tenantry.io/tenant-hash": "{hash}",
            "tenantry.io/env": "true",
        },
        "annotations": {
            "tenantry.io/tenant-id": "{tenant_id}",
            "tenantry.io/record": "{record}",
            "tenantry.io/epoch": "7",
            "tenantry.io/desired-hash": "0",
        },
    },
    "our finalizer": {"finalizers": [TENANT_FINALIZER]},
    "our finalizer and those of others": {"finalizers": ["tenantry.io/cluster", TENANT_FINALIZER, "tenantry.io/x"]},
}


def filled(template: Json, victim: Victim) -> Json:
    """The template with what is the victim's."""
    bench, identity = victim.bench, victim.where.identity
    cluster = bench.management.get(CLUSTERS.path(name=CLUSTER)).body
    values = {
        "record": identity.record,
        "hash": identity.tenant_hash,
        "tenant_id": identity.tenant_id,
        "management_id": identity.management_id,
        "workspace": victim.workspace,
        "workspace_uid": identity.workspace_uid,
        "uid": victim.tenant["metadata"]["uid"],
        "host": victim.host,
        "cluster": CLUSTER,
        "cluster_id": cluster["status"]["clusterId"],
    }
    text = json.dumps(template)
    for key, value in values.items():
        text = text.replace(f"{{{key}}}", value)
    body: Json = json.loads(text)
    return body


@pytest.mark.parametrize("what", FORGED)
def test_forged_metadata_makes_a_tenant_nobody_but_itself(mallory: Mallory, victim: Victim, what: str) -> None:
    bench = mallory.bench
    assert mallory.create(metadata=filled(FORGED[what], victim), database=DATABASE).status == 201
    # With our finalizer all is searched first; tests beside this one may have clusters that can't be.
    tenant = bench.ready(seconds=150)
    where = bench.whereabouts()
    assert where.hash != victim.where.hash
    assert tenant["status"]["tenantId"] == where.identity.tenant_id
    assert tenant["status"]["hosts"] != victim.tenant["status"]["hosts"]
    assert bench.record(where)["spec"]["database"]["name"] == where.database
    namespace = bench.on_target(NAMESPACES, "", where.namespace)
    assert namespace["metadata"]["annotations"]["tenantry.io/hosts"] == tenant["status"]["hosts"][0]
    victim.check()
    mallory.api.delete(mallory.path("acme"), dry=False)
    wait_for(lambda: not bench.record(where), "its record is gone")
    assert bench.inventory(where) == bench.database_traces(where) == set()
    if bench.get():
        mallory.edit("acme", {"metadata": {"finalizers": None}})
        bench.gone()


def test_a_finalizer_removed_by_hand_is_put_back_and_a_namesake_made_amid_the_deletion_gets_ready(
    mallory: Mallory, victim: Victim
) -> None:
    bench, where = mallory.bench, mallory.bench.whereabouts()
    mallory.make(database=DATABASE)
    password = bench.secret(where, "tenant-database")["password"]
    for _ in range(3):
        mallory.edit("acme", {"metadata": {"finalizers": None}})
    bench.ready()
    assert mallory.handled()["metadata"]["finalizers"] == [TENANT_FINALIZER], "it is put back while the Tenant is there"
    assert bench.secret(where, "tenant-database")["password"] == password
    mallory.api.delete(mallory.path("acme"), dry=False)
    mallory.edit("acme", {"metadata": {"finalizers": None}})
    bench.gone()
    mallory.create(database=DATABASE)
    bench.ready(seconds=150)
    victim.check()


SECRET_NAMES = ("{victim}", "main-kubeconfig", "pg18-admin", "tenant-database", "nothing-of-that-name", "unlabelled")


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_env_from_reads_no_secret_but_labelled_ones_of_the_workspace_and_tells_of_no_other(
    mallory: Mallory, workbench: Workbench, name: str
) -> None:
    other = workbench.make_workspace(f"{workbench.prefix}-other")
    secret = {"metadata": {"name": "hers", "labels": {"tenantry.io/env": "true"}}, "stringData": {"KEY": "of-another"}}
    workbench.management.send("POST", SECRETS.path(other), {"apiVersion": "v1", "kind": "Secret", **secret}, dry=False)
    workbench.env_secret("unlabelled", {"KEY": "of-nobody"}, labelled=False)
    wanted = name.replace("{victim}", "hers")
    mallory.create(envFrom=[{"secretRef": {"name": wanted}}])
    workbench.told("Unknown", "SecretNotFound", NO_SECRET.format(wanted))
    where = workbench.whereabouts()
    assert "KEY" not in workbench.secret(where, "tenant-env")


@pytest.mark.parametrize("name", ["../tenantry-system/main-kubeconfig", "victim/hers", "hers?x", "", "Hers"])
def test_env_from_takes_no_path_for_a_name(mallory: Mallory, name: str) -> None:
    answer = mallory.create(envFrom=[{"secretRef": {"name": name}}])
    assert answer.status == 422
    assert "spec.envFrom[0].secretRef.name" in answer.message


SPECS: dict[str, tuple[Json, str]] = {
    "masters": ({"kind": "Group", "name": "system:masters"}, "subjects can't start with system:"),
    "all accounts": ({"kind": "Group", "name": "system:serviceaccounts"}, "subjects can't start with system:"),
    "everybody": ({"kind": "Group", "name": "system:authenticated"}, "subjects can't start with system:"),
    "the operator": (
        {"kind": "User", "name": "system:serviceaccount:tenantry-system:tenantry-operator"},
        "subjects can't start with system:",
    ),
    "another namespace": (
        {"kind": "ServiceAccount", "name": "tenantry-operator", "namespace": "tenantry-system"},
        'unknown field "spec.rbac.bindings[0].subjects[0].namespace"',
    ),
}


@pytest.mark.parametrize("case", SPECS)
def test_bindings_reach_nobody_of_kubernetes_own_or_of_other_namespaces(mallory: Mallory, case: str) -> None:
    subject, refusal = SPECS[case]
    body = mallory.bench.tenant(rbac={"bindings": [{"role": "Admin", "subjects": [subject]}]})
    answer = mallory.api.send("POST", f"{TENANTS.path(mallory.bench.workspace)}?fieldValidation=Strict", body)
    assert answer.status in (400, 422)
    assert refusal in answer.message


def test_a_service_account_in_a_binding_is_one_of_the_tenants_own_namespace(mallory: Mallory) -> None:
    foreign = {"kind": "ServiceAccount", "name": "tenantry-operator", "namespace": "tenantry-system"}
    mallory.make(rbac={"bindings": [{"role": "Admin", "subjects": [foreign]}]})
    where = mallory.bench.whereabouts()
    binding = mallory.bench.on_target(ROLE_BINDINGS, where.namespace, "tenant-admin")
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": "tenantry-operator", "namespace": where.namespace}
    ]


@pytest.mark.parametrize("field", ["env", "limits"])
@pytest.mark.parametrize("name", ["PGHOST", "PG", "KUBERNETES_SERVICE_HOST", "LD_PRELOAD", "a=b", "A B", "1A", "A\nB"])
def test_env_and_limits_take_no_name_that_programs_obey(mallory: Mallory, field: str, name: str) -> None:
    wish: Json = {field: {name: "1"}}
    answer = mallory.create(**wish)
    assert answer.status == 422
    assert f"spec.{field}" in answer.message


def test_a_login_gets_into_no_database_but_its_own(mallory: Mallory, victim: Victim) -> None:
    bench = mallory.bench
    mallory.make(database=DATABASE)
    secret = bench.secret(bench.whereabouts(), "tenant-database")
    server = bench.stage.postgres_18
    with psycopg.connect(server.dsn(secret["username"], secret["password"], secret["database"])) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
        for statement in (
            f"SET ROLE {victim.where.database}_owner",
            f"ALTER ROLE {victim.where.database}_0 PASSWORD 'mine'",
            f"GRANT {victim.where.database}_owner TO CURRENT_USER",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
                connection.execute(statement.encode())
    for database in (victim.where.database, "postgres", "template1", "tenantry"):
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            psycopg.connect(server.dsn(secret["username"], secret["password"], database))


def test_on_the_target_she_is_let_into_her_own_namespace_and_bends_no_rule_there(
    mallory: Mallory, victim: Victim
) -> None:
    """In short, by dry runs: each policy has its own tests."""
    bench, where = mallory.bench, mallory.bench.whereabouts()
    mallory.make(rbac={"bindings": [{"role": "Admin", "subjects": [{"kind": "ServiceAccount", "name": "tenant"}]}]})
    token = token_of(bench.target, where.namespace, "tenant")
    inside = mallory.enter_context(contextlib.closing(Api(bench.stage.target.kubeconfig, token)))
    assert inside.get(CONFIG_MAPS.path(where.namespace, "tenant-info")).status == 200
    for host in (victim.host, f"www.{victim.host}", "*.example.com", None):
        ingress = manifest(INGRESSES, "own", where.namespace, spec=ingress_spec(host))
        assert inside.create(INGRESSES, ingress).refused_by == HOSTS, host
    stolen = {"spec": {"rules": [{"host": victim.host}]}}
    assert inside.patch(INGRESSES.path(where.namespace, "tenant"), stolen).refused_by in (HOSTS, STAMPED_OBJECTS)
    for path in (
        CONFIG_MAPS.path(where.namespace, "tenant-info"),
        SECRETS.path(where.namespace, "tenant-env"),
        NETWORK_POLICIES.path(where.namespace, "tenant-isolation"),
        RESOURCE_QUOTAS.path(where.namespace, "tenant"),
        ROLE_BINDINGS.path(where.namespace, "tenantry-operator"),
        NAMESPACES.path(name=where.namespace),
    ):
        change = {"metadata": {"labels": {"tenantry.io/tenant-hash": victim.where.hash}}}
        assert inside.patch(path, change).refused_by in (STAMPED_OBJECTS, RBAC), path
        assert inside.delete(path).refused_by in (STAMPED_OBJECTS, RBAC), path
    for resource in (SECRETS, CONFIG_MAPS, INGRESSES, ROLE_BINDINGS):
        assert inside.get(resource.path(victim.where.namespace)).refused_by == RBAC
        assert inside.get(resource.path("tenantry-system")).refused_by == RBAC
    claim = bench.claim(victim.host)["metadata"]["name"]
    assert inside.delete(CONFIG_MAPS.path("tenantry-system", claim)).refused_by == RBAC


def test_a_namesake_in_another_workspace_or_in_one_made_anew_is_another_tenant(
    mallory: Mallory, victim: Victim
) -> None:
    bench = mallory.bench
    mallory.make("acme", database=DATABASE)
    first, theirs = bench.whereabouts(), victim.where
    assert len({first.hash, theirs.hash}) == len({first.namespace, theirs.namespace}) == 2
    secrets = [bench.secret(where, "tenant-database") for where in (first, theirs)]
    for key in ("database", "username", "password", "uri"):
        assert secrets[0][key] != secrets[1][key]
    bench.management.delete(NAMESPACES.path(name=bench.workspace), dry=False)
    wait_for(
        lambda: bench.management.get(NAMESPACES.path(name=bench.workspace)).status == 404, "the workspace is gone", 150
    )
    bench.make_workspace(bench.workspace)
    bench.make(database=DATABASE)
    second = bench.whereabouts()
    assert second.hash != first.hash
    assert bench.secret(second, "tenant-database")["database"] != secrets[0]["database"]
    assert not bench.database_traces(first)
