"""The end of a Tenant: all of it is removed and nothing else, whatever happens meanwhile; and what comes after."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from tests.integration.acting import manifest
from tests.integration.tenants import condition, wait_for
from tests.scene.stage import DOMAIN, SERVER_15

from tenantry.api.names import TENANT_FINALIZER
from tenantry.api.resources import CONFIG_MAPS, NAMESPACES, TENANTS

if TYPE_CHECKING:
    from tests.integration.tenants import Whereabouts, Workbench

Json = dict[str, Any]

SHARED = {"mode": "Shared"}
HOLD = "example.com/hold"
DELETE_OPTIONS = {"kind": "DeleteOptions", "apiVersion": "v1"}


def finalizers(workbench: Workbench, *names: str, name: str = "acme") -> Json:
    """Set the finalizers of a Tenant by hand; the Tenant as it then is."""
    path = TENANTS.path(workbench.workspace, name)
    answer = workbench.management.patch(path, {"metadata": {"finalizers": list(names)}}, dry=False)
    assert answer.status == 200, answer.message
    return answer.body


def hold(workbench: Workbench, where: Whereabouts, *, on: bool) -> None:
    """Put an object with a foreign finalizer into the tenant's namespace, or take the finalizer off."""
    if on:
        body = manifest(CONFIG_MAPS, "held", where.namespace)
        body["metadata"]["finalizers"] = [HOLD]
        assert workbench.target.create(CONFIG_MAPS, body, dry=False).status == 201
    else:
        path = CONFIG_MAPS.path(where.namespace, "held")
        assert workbench.target.patch(path, {"metadata": {"finalizers": None}}, dry=False).status == 200


def nothing_is_left(workbench: Workbench, where: Whereabouts) -> None:
    def told() -> str:
        said = [line for line in workbench.stage.log.read_text().splitlines() if where.identity.name in line]
        return f"the record is gone: {workbench.record(where).get('spec')}\n{chr(10).join(said[-20:])}"

    wait_for(lambda: workbench.record(where) == {}, told)
    assert workbench.inventory(where) == set()
    assert workbench.on_target(NAMESPACES, "", where.namespace) == {}
    for server in (workbench.stage.postgres_18, workbench.stage.postgres_15):
        assert workbench.database_traces(where, server) == set()


@pytest.mark.parametrize("server", [None, SERVER_15])
def test_deleting_a_tenant_removes_all_of_it_and_nothing_of_its_neighbour(
    workbench: Workbench, server: str | None
) -> None:
    plan = workbench.platform("TenantPlan", "free", customHosts="Any")
    database = {**SHARED, "shared": {"server": server}} if server else SHARED
    own = f"shop.{workbench.prefix}.test"
    where, neighbour = workbench.whereabouts(), workbench.whereabouts("neighbour")
    workbench.apply(
        workbench.tenant(plan=plan, database=database, domains=[{"host": own}]),
        workbench.tenant("neighbour", database=SHARED),
    )
    workbench.ready()
    workbench.ready("neighbour")
    kept = workbench.inventory(neighbour), workbench.database_traces(neighbour)
    access = workbench.stage.postgres_15 if server else workbench.stage.postgres_18
    assert len(workbench.database_traces(where, access)) == 5
    with psycopg.connect(access.superuser_dsn(where.database), autocommit=True) as session:
        session.execute(f"SET ROLE {where.database}_owner")
        session.execute("CREATE TABLE precious (a int)")
    workbench.kubectl("delete", "tenant", "acme", "--timeout=90s")
    nothing_is_left(workbench, where)
    assert workbench.claim(own) == workbench.claim(f"acme-{workbench.workspace}.{DOMAIN}") == {}
    assert (workbench.inventory(neighbour), workbench.database_traces(neighbour)) == kept
    workbench.look_now("neighbour")
    workbench.ready("neighbour")


def test_open_sessions_of_the_tenant_do_not_hold_up_its_end(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.make(database=SHARED)
    uri = workbench.secret(where, "tenant-database")["uri"]
    with psycopg.connect(uri) as session:
        session.execute("CREATE TABLE t (a int)")
        workbench.delete()
        workbench.gone()
        nothing_is_left(workbench, where)
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")


def test_tenants_that_are_deleted_while_they_are_made_leave_nothing(workbench: Workbench) -> None:
    pauses = (0.0, 0.05, 0.1, 0.2, 0.4)
    names = [f"brief-{number}" for number in range(len(pauses))]
    wheres = [workbench.whereabouts(name) for name in names]
    for name, pause in zip(names, pauses, strict=True):
        body = workbench.tenant(name, database=SHARED)
        assert workbench.management.create(TENANTS, body, dry=False).status == 201
        time.sleep(pause)  # the moment is what is tried here
        path = TENANTS.path(workbench.workspace, name)
        assert workbench.management.delete(path, dry=False).status == 200
    for name, where in zip(names, wheres, strict=True):
        workbench.gone(name)
        nothing_is_left(workbench, where)


def test_what_holds_up_the_namespace_is_told_and_the_deletion_ends_when_it_is_gone(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.make(database=SHARED)
    hold(workbench, where, on=True)
    workbench.delete()
    told = f"the namespace {where.namespace!r} is being deleted on the target ("
    tenant = workbench.when(lambda body: HOLD in condition(body)["message"], "it is told what the deletion waits for")
    ready = condition(tenant)
    assert (ready["status"], ready["reason"]) == ("Unknown", "PurgeBlocked")
    assert ready["message"].startswith(told)
    assert f"Some content in the namespace has finalizers remaining: {HOLD} in 1 resource instances" in ready["message"]
    assert workbench.record(where)["spec"]["state"] == "Purging"
    assert workbench.database_traces(where) == set(), "what can go has gone"
    assert TENANT_FINALIZER in tenant["metadata"]["finalizers"]
    hold(workbench, where, on=False)
    workbench.gone()
    nothing_is_left(workbench, where)


def test_a_tenant_that_is_applied_again_after_its_deletion_starts_empty(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.make(database=SHARED)
    first = workbench.on_target(NAMESPACES, "", where.namespace)["metadata"]["uid"]
    password = workbench.secret(where, "tenant-database")["password"]
    workbench.kubectl("delete", "tenant", "acme", "--timeout=90s")
    tenant = workbench.make(database=SHARED)
    assert workbench.on_target(NAMESPACES, "", where.namespace)["metadata"]["uid"] != first
    assert workbench.secret(where, "tenant-database")["password"] != password
    record = workbench.record(where)["spec"]
    assert (record["incarnation"], record["tenantUid"]) == (1, tenant["metadata"]["uid"])
    assert "NamespaceRecreated" not in condition(tenant)["message"], "nothing has vanished"


def test_without_our_finalizer_nothing_is_destroyed_and_who_is_applied_again_takes_it_over(
    workbench: Workbench,
) -> None:
    where = workbench.whereabouts()
    workbench.make(database=SHARED)
    first = workbench.on_target(NAMESPACES, "", where.namespace)["metadata"]["uid"]
    password = workbench.secret(where, "tenant-database")["password"]

    def gone_without_us() -> bool:
        """Only as it is without the finalizer, which the operator puts back at once."""
        version = finalizers(workbench)["metadata"]["resourceVersion"]
        path, only = TENANTS.path(workbench.workspace, "acme"), {"preconditions": {"resourceVersion": version}}
        answer = workbench.management.send("DELETE", path, {**DELETE_OPTIONS, **only}, dry=False)
        assert answer.status in (200, 409), answer.message
        return answer.status == 200

    uid = workbench.get()["metadata"]["uid"]
    wait_for(gone_without_us, "it was deleted while it had no finalizer")
    assert workbench.get() == {}
    note = (
        f"Tenant {workbench.workspace}/acme is gone without having been deleted here; what it has goes on running. "
        "Apply it again to take it over, or apply and delete it to remove it"
    )

    def noted() -> list[str]:
        answer = workbench.management.get("/apis/events.k8s.io/v1/namespaces/default/events")
        return [
            event["note"]
            for event in answer.body["items"]
            if (event["reason"], event["regarding"]["name"]) == ("TenantMissing", where.identity.record)
        ]

    assert wait_for(noted, "the event is there") == [note]
    assert workbench.on_target(NAMESPACES, "", where.namespace)["metadata"]["uid"] == first
    assert where.database in workbench.database_traces(where)
    tenant = workbench.make(database=SHARED)
    assert workbench.record(where)["spec"]["tenantUid"] == tenant["metadata"]["uid"] != uid
    assert workbench.on_target(NAMESPACES, "", where.namespace)["metadata"]["uid"] == first
    assert workbench.secret(where, "tenant-database")["password"] == password
    workbench.delete()
    workbench.gone()
    nothing_is_left(workbench, where)


def test_a_deletion_that_has_begun_ends_also_without_the_tenant_and_its_namesake_waits_for_that(
    workbench: Workbench,
) -> None:
    where = workbench.whereabouts()
    workbench.make(database=SHARED)
    hold(workbench, where, on=True)
    workbench.delete()
    wait_for(lambda: HOLD in condition(workbench.get())["message"], "the deletion waits")
    first = workbench.on_target(NAMESPACES, "", where.namespace)["metadata"]["uid"]
    finalizers(workbench)
    workbench.gone()
    workbench.apply(workbench.tenant(database=SHARED))
    workbench.told(
        "Unknown",
        "PredecessorExists",
        "a deleted tenant of this name is still being removed; this one starts fresh when that is done",
    )
    assert workbench.record(where)["spec"]["state"] == "Purging"
    hold(workbench, where, on=False)
    workbench.ready()
    assert workbench.on_target(NAMESPACES, "", where.namespace)["metadata"]["uid"] != first


def test_a_record_that_is_lost_during_the_deletion_does_not_hold_it_up(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.make(database=SHARED)
    hold(workbench, where, on=True)
    workbench.delete()
    wait_for(lambda: HOLD in condition(workbench.get())["message"], "the deletion waits")
    workbench.stage.management.kubectl("delete", "tnrec", where.identity.record)
    hold(workbench, where, on=False)
    # Tests beside this one may have clusters that can't be searched: then it is looked for again every 30 s.
    workbench.gone(seconds=150)
    nothing_is_left(workbench, where)


def test_a_finalizer_of_somebody_else_keeps_the_tenant_but_nothing_of_it(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.make(database=SHARED)
    finalizers(workbench, TENANT_FINALIZER, HOLD)
    workbench.delete()
    nothing_is_left(workbench, where)
    wait_for(lambda: workbench.get()["metadata"]["finalizers"] == [HOLD], "ours is off")
    workbench.look_now()
    workbench.apply(
        manifest(TENANTS, "other", workbench.workspace, spec={"plan": "basic", "database": {"mode": "None"}})
    )
    workbench.ready("other")
    nothing_is_left(workbench, where)
    finalizers(workbench)
    workbench.gone()


def test_a_tenant_that_never_had_a_place_goes_at_once(workbench: Workbench) -> None:
    workbench.apply(workbench.tenant(plan=f"{workbench.prefix}-none"))
    workbench.told("Unknown", "PlanNotFound", None)
    workbench.kubectl("delete", "tenant", "acme", "--timeout=90s")
    workbench.gone()
