"""Moving: only when approved, with all data or not at all, never two sides that write, and back again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from tests.integration.acting import Api, manifest
from tests.integration.moves import (
    DAY,
    PATIENCE,
    Second,
    access_of,
    after,
    approve,
    canaries,
    connect,
    deploy,
    end_windows,
    left,
    moved,
    on,
    refuses,
    remove,
    replicas,
    write,
)
from tests.integration.tenants import Whereabouts, condition, wait_for
from tests.integration.test_tenant_servers import own_server
from tests.scene.installation import install_target, kubeconfig_secret, operator_kubeconfig
from tests.scene.stage import CLUSTER, SERVER_15, SERVER_18, cluster_manifest

from tenantry.api.names import ANNOTATION_APPROVE_MOVE
from tenantry.api.resources import NAMESPACES, RESOURCE_QUOTAS, TENANT_RECORDS

if TYPE_CHECKING:
    from tests.integration.conftest import FreshControlPlane, FreshPostgres
    from tests.integration.tenants import Workbench

Json = dict[str, Any]

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def plan(trial: Workbench) -> str:
    """A plan whose tenants' former sides are kept for a day."""
    return trial.platform("TenantPlan", "kept", customHosts="Any", deletion=DAY)


@pytest.fixture
def second(trial: Workbench, fresh_control_plane: FreshControlPlane) -> Second:
    access, name = fresh_control_plane("second").access, f"{trial.prefix}-cluster"
    install_target(access)
    trial.apply(kubeconfig_secret(f"{name}-kubeconfig", operator_kubeconfig(access)))
    trial.register(cluster_manifest(name, region=trial.prefix))
    trial.stage.management.kubectl("wait", "--for=condition=Ready", f"tcl/{name}", "--timeout=60s")
    return Second(name, access.kubeconfig)


def test_a_move_asks_first_then_stops_the_old_side_and_opens_the_new_one_with_the_data_there(
    trial: Workbench, plan: str, second: Second
) -> None:
    where = trial.whereabouts()
    there = after(where, 2)
    trial.make(plan=plan, database=on(SERVER_18))
    old = trial.secret(where, "tenant-database")
    write(old, "before")
    deploy(trial.target, where, 3)
    pinned, inventory = trial.pins(where), trial.inventory(where)
    trial.apply(trial.tenant(plan=plan, database=on(SERVER_18), placement={"region": trial.prefix}))
    told = condition(trial.told("False", "MoveNotApproved", None))["message"]
    assert f"from Cluster {CLUSTER!r} to {second.name!r}" in told
    assert f"{ANNOTATION_APPROVE_MOVE}={second.name}" in told
    approve(trial, f"{second.name}/{SERVER_15}")
    trial.when(lambda body: "it says" in condition(body)["message"], "a wrong value is told")
    assert trial.pins(where) == pinned
    assert trial.inventory(where) == inventory
    assert not refuses(old), "until then it is served where it is"
    write(old, "just before the write-stop")
    with connect(old) as session:
        approve(trial, second.name)
        body = moved(trial, second.name)
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")
    assert body["status"]["cluster"] == second.name
    assert body["status"]["namespace"] == there.namespace != where.namespace
    assert body["status"]["move"]["writeStopSeconds"] < 60
    wait_for(lambda: trial.events("acme", "Moved"), "it is told")
    assert refuses(old)
    assert replicas(trial, where) == 0
    side = trial.record(where)["spec"]["former"][0]
    assert side["epoch"] == 1
    assert "database" not in side
    left(trial, where, side["purgeAfter"])
    assert {name for name in trial.inventory(where) if name.startswith("Ingress/")} == set()
    main = trial.target
    trial.elsewhere(second.kubeconfig)
    new = trial.secret(there, "tenant-database")
    assert canaries(new) == {"before", "just before the write-stop"}
    assert "Ingress/tenant" in trial.inventory(there)
    assert trial.on_target(RESOURCE_QUOTAS, there.namespace, "tenant-off") == {}
    assert "tenantry.io/arriving" not in trial.on_target(NAMESPACES, "", there.namespace)["metadata"]["annotations"]
    write(new, "on the second cluster")
    assert_it_moves_back(trial, plan, where, second, main)


def assert_it_moves_back(trial: Workbench, plan: str, where: Whereabouts, second: Second, main: Api) -> None:
    """While the old side is still there: another namespace beside it, and nothing of it is taken up again."""
    there, third = after(where, 2), after(where, 3)
    new = trial.secret(there, "tenant-database")
    trial.apply(trial.tenant(plan=plan, database=on(SERVER_18), placement={"cluster": CLUSTER}))
    trial.told("False", "MoveNotApproved", None)
    approve(trial, CLUSTER)
    body = moved(trial, CLUSTER)
    assert body["status"]["namespace"] == third.namespace
    assert refuses(new)
    trial.target = main
    assert "on the second cluster" in canaries(trial.secret(third, "tenant-database"))
    end_windows(trial, where, main, where.namespace)
    wait_for(lambda: len(trial.record(where)["spec"]["former"]) == 1, "what was left first is purged", PATIENCE)
    assert trial.on_target(NAMESPACES, "", where.namespace) == {}
    assert {"Ingress/tenant", f"Claim/{body['status']['hosts'][0]}"} <= trial.inventory(third), "not what it has now"
    trial.look_now()
    trial.ready()
    remove(trial)
    assert trial.inventory(third) == set()
    trial.elsewhere(second.kubeconfig)
    assert trial.inventory(there) == set(), "what was left goes with the tenant"
    trial.forgotten(where)
    assert trial.database_traces(where) == set()


def test_a_move_to_another_server_copies_and_gives_the_workloads_back(trial: Workbench, plan: str) -> None:
    where = trial.whereabouts()
    trial.make(plan=plan, database=on(SERVER_15))
    old = trial.secret(where, "tenant-database")
    write(old, "from 15")
    deploy(trial.target, where, 2)
    trial.apply(trial.tenant(plan=plan, database=on(SERVER_18)))
    told = condition(trial.told("False", "MoveNotApproved", None))["message"]
    assert f"from DatabaseServer {SERVER_15!r} to {SERVER_18!r}" in told
    approve(trial, SERVER_18)
    body = moved(trial, SERVER_18)
    assert body["status"]["namespace"] == where.namespace
    new = trial.secret(where, "tenant-database")
    assert new["dbname"] == f"{where.database}_e2"
    assert canaries(new) == {"from 15"}
    assert refuses(old)
    assert replicas(trial, where) == 2
    with psycopg.connect(access_of(trial, SERVER_15).superuser_dsn(where.database)) as session:
        assert session.execute("SELECT word FROM canary").fetchall() == [("from 15",)]
    end_windows(trial, where, trial.target, None, trial.stage.postgres_15)
    wait_for(lambda: not trial.record(where)["spec"].get("former"), "the old database is purged", PATIENCE)
    assert trial.database_traces(where, trial.stage.postgres_15) == set()
    assert canaries(new) == {"from 15"}
    # Back would be to an older version, which no dump can do.
    trial.apply(trial.tenant(plan=plan, database=on(SERVER_15)))
    approve(trial, SERVER_15)
    told = condition(trial.told("False", "MoveNotSupported", None))["message"]
    assert "can't be taken back to an older one" in told
    assert not refuses(new)
    remove(trial)
    assert trial.database_traces(where) == set()


def test_cluster_and_server_move_together(trial: Workbench, plan: str, second: Second) -> None:
    where = trial.whereabouts()
    there = after(where, 2)
    trial.make(plan=plan, database=on(SERVER_15))
    old = trial.secret(where, "tenant-database")
    write(old, "with all")
    trial.apply(trial.tenant(plan=plan, database=on(SERVER_18), placement={"cluster": second.name}))
    trial.told("False", "MoveNotApproved", None)
    approve(trial, f"{second.name}/{SERVER_18}")
    moved(trial, f"{second.name}/{SERVER_18}")
    assert refuses(old)
    main = trial.target
    trial.elsewhere(second.kubeconfig)
    assert canaries(trial.secret(there, "tenant-database")) == {"with all"}
    end_windows(trial, where, main, where.namespace, trial.stage.postgres_15)
    wait_for(lambda: not trial.record(where)["spec"].get("former"), "the old side is purged", PATIENCE)
    assert trial.database_traces(where, trial.stage.postgres_15) == set()
    remove(trial)
    assert trial.inventory(there) == set()


def test_a_copy_that_fails_gives_the_old_side_back_and_waits_for_a_new_approval(trial: Workbench, plan: str) -> None:
    where = trial.whereabouts()
    trial.make(plan=plan, database=on(SERVER_15))
    old = trial.secret(where, "tenant-database")
    write(old, "hidden")
    with connect(old) as session:
        session.execute("ALTER TABLE canary ENABLE ROW LEVEL SECURITY")
        session.execute("ALTER TABLE canary FORCE ROW LEVEL SECURITY")
    deploy(trial.target, where, 2)
    body = trial.tenant(plan=plan, database=on(SERVER_18))
    body["metadata"]["annotations"] = {ANNOTATION_APPROVE_MOVE: SERVER_18}
    trial.apply(body)
    told = condition(trial.told("False", "MoveFailed", None, seconds=PATIENCE))["message"]
    assert "row-level security" in told
    assert not refuses(old), "with the same password as before"
    wait_for(lambda: replicas(trial, where) == 2, "the workloads are back")
    wait_for(lambda: not trial.record(where)["spec"].get("former"), "what was made on the new side is gone", PATIENCE)
    assert trial.database_traces(where) == set()
    trial.look_now()
    trial.told("False", "MoveFailed", None)
    assert not refuses(old), "it is not tried again by itself"
    with connect(old) as session:
        session.execute("ALTER TABLE canary NO FORCE ROW LEVEL SECURITY")
    approve(trial, None)
    trial.told("False", "MoveNotApproved", None)
    approve(trial, SERVER_18)
    moved(trial, SERVER_18)
    assert canaries(trial.secret(where, "tenant-database")) == {"hidden"}
    remove(trial)


SLOW_THERE = (
    "CREATE FUNCTION slow(int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN"
    " IF current_database() LIKE '%_e2' THEN PERFORM pg_sleep(0.1); END IF; RETURN true; END $$",
    "CREATE TABLE slowly (x int CHECK (public.slow(x)))",
    "INSERT INTO slowly SELECT generate_series(1, 600)",
)


def test_a_server_that_goes_away_amid_the_copy_gives_the_old_side_back(
    trial: Workbench, plan: str, fresh_postgres: FreshPostgres
) -> None:
    postgres = fresh_postgres()
    server, where = own_server(trial, postgres.access), trial.whereabouts()
    trial.make(plan=plan, database=on(SERVER_18))
    old = trial.secret(where, "tenant-database")
    write(old, "still there")
    with connect(old) as session:
        for statement in SLOW_THERE:
            session.execute(statement.encode())
    body = trial.tenant(plan=plan, database=on(server))
    body["metadata"]["annotations"] = {ANNOTATION_APPROVE_MOVE: server}
    trial.apply(body)
    trial.when(
        lambda body: condition(body, "MoveProgressing").get("reason") == "MoveCopying", "it copies", seconds=PATIENCE
    )
    assert refuses(old), "nothing is written while it copies"
    assert trial.secret(where, "tenant-database") == old, "nobody is told of the new side yet"
    postgres.stop_server()
    told = condition(trial.told("False", "MoveFailed", None, seconds=PATIENCE))["message"]
    assert server in told
    assert canaries(old) == {"still there"}
    assert trial.record(where)["spec"]["former"][0]["state"] == "Purging"
    postgres.start_server()
    wait_for(lambda: not trial.record(where)["spec"].get("former"), "what was made there is removed", PATIENCE)
    assert trial.database_traces(where, postgres.access) == set()
    remove(trial)


BACK: dict[str, Callable[[Workbench, str], None]] = {
    "the approval is taken back": lambda trial, _: approve(trial, None),
    "the spec is set back": lambda trial, plan: trial.apply(trial.tenant(plan=plan, placement={"cluster": CLUSTER})),
    "the tenant is deleted": lambda trial, _: remove(trial),
}


@pytest.mark.parametrize("way", BACK)
def test_a_move_that_was_not_switched_yet_is_taken_back(trial: Workbench, plan: str, second: Second, way: str) -> None:
    where = trial.whereabouts()
    there = after(where, 2)
    trial.make(plan=plan)
    deploy(trial.target, where, 2)
    main = trial.target
    trial.elsewhere(second.kubeconfig)
    foreign = manifest(NAMESPACES, there.namespace)
    assert trial.target.create(NAMESPACES, foreign, dry=False).status == 201  # nobody of ours: it holds the move up
    trial.apply(trial.tenant(plan=plan, placement={"cluster": second.name}))
    trial.told("False", "MoveNotApproved", None)
    approve(trial, second.name)
    told = trial.when(lambda body: condition(body, "MoveProgressing") != {}, "it is told that it moves")
    assert condition(told, "MoveProgressing")["reason"] == "MovePreparing"
    assert (
        there.namespace
        in trial.when(
            lambda body: "is on the target and is" in condition(body, "MoveProgressing")["message"],
            "and what it waits for",
        )["status"]["conditions"][-1]["message"]
    )
    assert condition(trial.get())["status"] == "True", "the old side serves"
    BACK[way](trial, plan)
    if way != "the tenant is deleted":
        wait_for(lambda: "move" not in trial.record(where)["spec"], "it is rolled back")
        wait_for(lambda: not trial.record(where)["spec"].get("former"), "what was made there is gone", PATIENCE)
        trial.when(lambda body: condition(body, "MoveProgressing") == {}, "it moves no more")
        assert trial.get()["status"]["move"]["phase"] == "RolledBack"
        trial.target, elsewhere = main, trial.target
        assert replicas(trial, where) == 2
        remove(trial)
        trial.target = elsewhere
    assert trial.on_target(NAMESPACES, "", there.namespace), "what is not ours is not touched"
    assert {name for name in trial.inventory(there) if not name.startswith("Claim/")} == set()
    trial.forgotten(where)


def lose_record(trial: Workbench, where: Whereabouts) -> None:
    answer = trial.management.delete(TENANT_RECORDS.path(name=where.identity.record), dry=False)
    assert answer.status == 200, answer.message


def facts(record: Json) -> Json:
    """What of a record must come back."""
    spec = record["spec"]
    sides = {side["epoch"]: (side.get("cluster"), side.get("database")) for side in spec.get("former", ())}
    return {
        "state": spec["state"],
        "epoch": spec["epoch"],
        "places": (spec["cluster"], spec["database"]),
        "left": sides,
    }


@pytest.mark.timeout(900)
def test_a_record_that_is_lost_comes_back_with_the_side_of_the_last_move_and_what_was_left(
    trial: Workbench, plan: str, second: Second
) -> None:
    where = trial.whereabouts()
    trial.make(plan=plan, database=on(SERVER_15))
    write(trial.secret(where, "tenant-database"), "kept")
    body = trial.tenant(plan=plan, database=on(SERVER_18), placement={"cluster": second.name})
    body["metadata"]["annotations"] = {ANNOTATION_APPROVE_MOVE: f"{second.name}/{SERVER_18}"}
    trial.apply(body)
    moved(trial, f"{second.name}/{SERVER_18}")
    before = trial.record(where)
    left(trial, where, before["spec"]["former"][0]["purgeAfter"])
    lose_record(trial, where)
    trial.look_now()
    # Every cluster and server is searched, those of other tests too, which come and go.
    wait_for(lambda: trial.record(where) != {}, "the record is there again", 3 * PATIENCE)
    # It is made of the home that was found first; what was left elsewhere is told it afterwards.
    wait_for(
        lambda: facts(trial.record(where)) == facts(before),
        lambda: f"it says what it said: {facts(trial.record(where))} instead of {facts(before)}",
        PATIENCE,
    )
    trial.ready(seconds=PATIENCE)
    there = after(where, 2)
    main = trial.target
    trial.elsewhere(second.kubeconfig)
    assert canaries(trial.secret(there, "tenant-database")) == {"kept"}
    end_windows(trial, where, main, where.namespace, trial.stage.postgres_15)
    wait_for(lambda: not trial.record(where)["spec"].get("former"), "the old side is purged", PATIENCE)
    remove(trial)
    assert trial.inventory(there) == set()
