"""What is there already and is not ours: it is told, never touched, and never made anew where it was lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from tests.integration.acting import manifest
from tests.integration.tenants import Whereabouts, condition, wait_for

from tenantry.api.names import LABEL_MANAGED_BY, LABEL_MANAGEMENT_ID, LABEL_TENANT_HASH, MANAGED_BY
from tenantry.api.resources import CONFIG_MAPS, NAMESPACES

if TYPE_CHECKING:
    from tests.integration.tenants import Workbench

Json = dict[str, Any]

SHARED = {"mode": "Shared"}


def foreign_labels(workbench: Workbench, whose: str, where: Whereabouts) -> dict[str, str]:
    ours = workbench.stage.management_id
    return {
        "not made by this operator": {"team": "blue"},
        "another management cluster's": {
            LABEL_MANAGED_BY: MANAGED_BY,
            LABEL_MANAGEMENT_ID: "another",
            LABEL_TENANT_HASH: where.hash,
        },
        "another tenant's": {
            LABEL_MANAGED_BY: MANAGED_BY,
            LABEL_MANAGEMENT_ID: ours,
            LABEL_TENANT_HASH: "aaaaaaaa",
        },
    }[whose]


@pytest.mark.parametrize("whose", ["not made by this operator", "another management cluster's", "another tenant's"])
def test_a_foreign_namespace_of_the_wanted_name_is_told_and_never_touched(workbench: Workbench, whose: str) -> None:
    where = workbench.whereabouts()
    labels = foreign_labels(workbench, whose, where)
    body = manifest(NAMESPACES, where.namespace, labels=labels, annotations={"tenantry.io/record": "any"})
    assert workbench.target.create(NAMESPACES, body, dry=False).status == 201
    wait_for(
        lambda: workbench.on_target(CONFIG_MAPS, where.namespace, "kube-root-ca.crt"), "Kubernetes has done its part"
    )
    before = workbench.on_target(NAMESPACES, "", where.namespace)
    workbench.apply(workbench.tenant(database=SHARED))
    way = ""
    if whose == "not made by this operator":
        consent = f"{workbench.stage.management_id}/{workbench.workspace}/acme"
        way = f", or have its owner annotate it with tenantry.io/allow-adoption={consent}"
    tenant = workbench.told(
        "False",
        "NamespaceConflict",
        f"the namespace {where.namespace!r} is on the target and is {whose}; it is not touched: rename or delete it "
        f"there{way}",
    )
    assert condition(tenant, "Stalled")["reason"] == "NamespaceConflict"
    assert workbench.database_traces(where) == set()
    workbench.delete()
    workbench.gone()
    after = workbench.on_target(NAMESPACES, "", where.namespace)
    assert after == before, "not even its resourceVersion has changed"
    inside = workbench.target.get(CONFIG_MAPS.path(where.namespace)).body["items"]
    assert [item["metadata"]["name"] for item in inside] == ["kube-root-ca.crt"]
    wait_for(lambda: workbench.record(where) == {}, "the record is gone")
    workbench.stage.target.kubectl("delete", "namespace", where.namespace, "--wait=false")


def test_a_tenant_in_conflict_with_a_namespace_gets_its_own_when_that_is_gone(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    assert workbench.target.create(NAMESPACES, manifest(NAMESPACES, where.namespace), dry=False).status == 201
    workbench.apply(workbench.tenant())
    workbench.told("False", "NamespaceConflict", None)
    workbench.stage.target.kubectl("delete", "namespace", where.namespace)
    workbench.look_now()
    workbench.ready()
    assert where.hash in str(workbench.on_target(NAMESPACES, "", where.namespace)["metadata"]["labels"])


def test_a_database_of_the_wanted_name_that_nobody_stamped_is_told_and_never_touched(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.in_database(where, "CREATE DATABASE {} TEMPLATE template0")
    question = "SELECT oid, datdba, datacl::text, datconnlimit FROM pg_database WHERE datname = %s"
    before = workbench.ask(question, where.database)
    workbench.apply(workbench.tenant(database=SHARED))
    tenant = workbench.told(
        "False",
        "DatabaseConflict",
        f"database {where.database!r} on DatabaseServer 'pg18' is there, but was not made by this operator; it is not "
        "touched: rename or drop it there",
    )
    assert condition(tenant, "DatabaseReady")["status"] == "False"
    assert condition(tenant, "NamespaceReady")["status"] == "True", "the rest of it is there"
    assert workbench.database_traces(where) == {where.database}, "no role, no claim"
    assert workbench.ask(question, where.database) == before
    workbench.in_database(where, "ALTER DATABASE {} RENAME TO " + f"{workbench.prefix}_kept")
    workbench.look_now()
    workbench.ready()
    workbench.delete()
    workbench.gone()
    assert workbench.ask(question, f"{workbench.prefix}_kept") == before
    workbench.ask(f"DROP DATABASE {workbench.prefix}_kept")


def test_a_database_that_another_installation_claimed_is_left_to_it_also_at_the_end(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    with psycopg.connect(workbench.stage.postgres_18.superuser_dsn("tenantry"), autocommit=True) as connection:
        connection.execute(
            "INSERT INTO claims (database, management_id, tenant_hash, record, state) VALUES (%s, 'another', %s, %s, "
            "'ready')",
            (where.database, where.hash, where.identity.record),
        )
    workbench.apply(workbench.tenant(database=SHARED))
    workbench.told(
        "False",
        "DatabaseConflict",
        f"database {where.database!r} on DatabaseServer 'pg18' is claimed by another tenant; it is not touched: rename "
        "or drop it there",
    )
    workbench.delete()
    workbench.gone()
    assert workbench.database_traces(where) == {"claim"}
    with psycopg.connect(workbench.stage.postgres_18.superuser_dsn("tenantry"), autocommit=True) as connection:
        connection.execute("DELETE FROM claims WHERE database = %s", (where.database,))


@pytest.mark.parametrize("lost", ["database", "database and claim"])
def test_a_database_that_was_dropped_behind_our_back_is_told_and_never_made_anew(
    workbench: Workbench, lost: str
) -> None:
    where = workbench.whereabouts()
    workbench.make(database=SHARED)
    password = workbench.secret(where, "tenant-database")["password"]
    workbench.in_database(where, "DROP DATABASE {} WITH (FORCE)")
    if lost == "database and claim":
        with psycopg.connect(workbench.stage.postgres_18.superuser_dsn("tenantry"), autocommit=True) as connection:
            connection.execute("DELETE FROM claims WHERE database = %s", (where.database,))
    told = (
        f"database {where.database!r} on DatabaseServer 'pg18' is gone, and is never made anew by itself: restore it "
        "under that name, or delete this Tenant and apply it again with the annotation tenantry.io/start-fresh="
        f"{where.identity.record} to start empty"
    )
    workbench.look_now()
    tenant = workbench.told("False", "DatabaseMissing", told)
    assert condition(tenant, "Stalled")["reason"] == "DatabaseMissing"
    workbench.apply(workbench.tenant(database=SHARED, env={"A": "1"}))
    workbench.told("False", "DatabaseMissing", told)
    assert where.database not in workbench.database_traces(where)
    assert workbench.secret(where, "tenant-database")["password"] == password
    wait_for(lambda: workbench.secret(where, "tenant-env").get("A") == "1", "the rest of it follows the spec")
    workbench.delete()
    workbench.gone()
    wait_for(lambda: workbench.inventory(where) == set(), "all is gone")
    workbench.make(database=SHARED)
    assert where.database in workbench.database_traces(where), "this was the word that it takes"


def test_what_somebody_changed_on_the_database_itself_is_put_right_when_it_is_looked_at(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.make(database=SHARED)
    question = (
        "SELECT datconnlimit, has_database_privilege('public', oid, 'CONNECT') FROM pg_database WHERE datname = %s"
    )
    before = workbench.ask(question, where.database)
    workbench.in_database(where, "ALTER DATABASE {} CONNECTION LIMIT -1")
    workbench.in_database(where, "GRANT CONNECT ON DATABASE {} TO PUBLIC")
    assert workbench.ask(question, where.database) == [(-1, True)]
    workbench.look_now()
    wait_for(lambda: workbench.ask(question, where.database) == before, "it is as it was")
    assert before[0][1] is False
