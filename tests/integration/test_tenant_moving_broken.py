"""Moves that something comes in between: a cluster that goes away, a deletion, another spec, a dry run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pytest
from tests.integration.acting import manifest
from tests.integration.foreign import EXTERNAL, Foreign, bring_your_own, foreign_database, handed_on, put
from tests.integration.moves import (
    DAY,
    PATIENCE,
    after,
    approve,
    canaries,
    connect,
    left,
    moved,
    on,
    refuses,
    remove,
    write,
)
from tests.integration.tenants import condition, wait_for
from tests.scene.installation import install_target, kubeconfig_secret, operator_kubeconfig
from tests.scene.stage import CLUSTER, SERVER_15, SERVER_18, cluster_manifest

from tenantry.api.names import (
    ANNOTATION_APPROVE_MOVE,
    ANNOTATION_DRY_RUN,
    ANNOTATION_FORCE_ORPHAN,
    ANNOTATION_FORGET_SIDE,
)
from tenantry.api.resources import CONFIG_MAPS, NAMESPACES, RESOURCE_QUOTAS, TENANT_RECORDS, TENANTS

if TYPE_CHECKING:
    from tests.controlplane.cluster import ControlPlane
    from tests.controlplane.postgres_access import PostgresAccess
    from tests.integration.conftest import FreshControlPlane
    from tests.integration.tenants import Whereabouts, Workbench

Json = dict[str, Any]

pytestmark = pytest.mark.timeout(600)

SLOW_THERE: Final = (
    "CREATE FUNCTION slow(int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN"
    " IF current_database() LIKE '%_e2' THEN PERFORM pg_sleep(0.1); END IF; RETURN true; END $$",
    "CREATE TABLE slowly (x int CHECK (public.slow(x)))",
    "INSERT INTO slowly SELECT generate_series(1, 250)",
)
"""A copy of it takes 25 seconds: what comes in between has to be done by then."""


@dataclass(frozen=True, slots=True)
class Other:
    """Another cluster, which may go away."""

    name: str
    plane: ControlPlane


@pytest.fixture
def kept(trial: Workbench) -> str:
    return trial.platform("TenantPlan", "kept", customHosts="Any", deletion=DAY)


@pytest.fixture
def other(trial: Workbench, fresh_control_plane: FreshControlPlane) -> Other:
    plane = fresh_control_plane("other")
    return register(trial, plane)


@pytest.fixture
def foreign(postgres_tls: PostgresAccess, name_prefix: str) -> Iterator[Foreign]:
    with foreign_database(postgres_tls, name_prefix) as made:
        yield made


def register(trial: Workbench, plane: ControlPlane) -> Other:
    name = f"{trial.prefix}-cluster"
    install_target(plane.access)
    trial.apply(kubeconfig_secret(f"{name}-kubeconfig", operator_kubeconfig(plane.access)))
    trial.register(cluster_manifest(name, region=trial.prefix))
    trial.stage.management.kubectl("wait", "--for=condition=Ready", f"tcl/{name}", "--timeout=60s")
    return Other(name, plane)


def in_use(trial: Workbench, plan: str, *, slow: bool) -> tuple[Whereabouts, dict[str, str]]:
    """A tenant with a row; and what its application knows."""
    where = trial.whereabouts()
    trial.make(plan=plan, database=on(SERVER_15))
    secret = trial.secret(where, "tenant-database")
    write(secret, "alive")
    if slow:
        with connect(secret) as session:
            for statement in SLOW_THERE:
                session.execute(statement.encode())
    return where, secret


def begin(trial: Workbench, approval: str, **spec: Any) -> None:
    body = trial.tenant(**spec)
    body["metadata"]["annotations"] = {ANNOTATION_APPROVE_MOVE: approval}
    trial.apply(body)


def phase(trial: Workbench, where: Whereabouts, name: str) -> None:
    wait_for(
        lambda: trial.record(where)["spec"].get("move", {}).get("phase") == name,
        lambda: f"it is {name}: {trial.record(where)['spec']} {trial.get()['status']}",
        PATIENCE,
    )


def nothing_left(trial: Workbench, where: Whereabouts) -> bool:
    return not trial.record(where)["spec"].get("former")


def test_a_new_cluster_that_goes_away_amid_the_copy_gives_the_old_side_back_and_is_cleared_when_it_is_back(
    trial: Workbench, kept: str, other: Other
) -> None:
    where, old = in_use(trial, kept, slow=True)
    begin(trial, f"{other.name}/{SERVER_18}", plan=kept, database=on(SERVER_18), placement={"cluster": other.name})
    phase(trial, where, "Copying")
    other.plane.stop_apiserver()  # nobody has noticed yet when the copy is complete
    trial.told("False", "MoveFailed", None, seconds=PATIENCE)
    assert canaries(old) == {"alive"}
    assert trial.record(where)["spec"]["epoch"] == 1
    write(old, "written since")
    other.plane.start_apiserver()
    wait_for(lambda: nothing_left(trial, where), "what was made there is gone", PATIENCE)
    assert trial.database_traces(where, trial.stage.postgres_18) == set()
    approve(trial, None)
    trial.told("False", "MoveNotApproved", None)
    approve(trial, f"{other.name}/{SERVER_18}")
    moved(trial, f"{other.name}/{SERVER_18}")
    assert refuses(old)
    trial.elsewhere(other.plane.access.kubeconfig)
    there = after(where, trial.record(where)["spec"]["epoch"])
    assert canaries(trial.secret(there, "tenant-database")) == {"alive", "written since"}
    remove(trial)


def test_a_new_cluster_that_is_slow_to_answer_when_the_copy_is_complete_is_waited_for(
    trial: Workbench, kept: str, other: Other
) -> None:
    where, old = in_use(trial, kept, slow=True)
    begin(trial, f"{other.name}/{SERVER_18}", plan=kept, database=on(SERVER_18), placement={"cluster": other.name})
    phase(trial, where, "Copying")
    other.plane.pause_apiserver()
    trial.when(
        lambda body: "waits for a moment" in condition(body, "MoveProgressing").get("message", ""),
        "it is waited for",
        seconds=PATIENCE,
    )
    other.plane.resume_apiserver()
    moved(trial, f"{other.name}/{SERVER_18}")
    assert refuses(old)
    trial.elsewhere(other.plane.access.kubeconfig)
    assert canaries(trial.secret(after(where, 2), "tenant-database")) == {"alive"}
    remove(trial)


def test_a_new_cluster_that_goes_for_good_while_it_is_prepared_costs_the_old_side_nothing(
    trial: Workbench, kept: str, other: Other
) -> None:
    where, old = in_use(trial, kept, slow=False)
    main, there = trial.target, after(where, 2)
    trial.elsewhere(other.plane.access.kubeconfig)
    foreign = manifest(NAMESPACES, there.namespace)
    assert trial.target.create(NAMESPACES, foreign, dry=False).status == 201  # nobody of ours: it holds the move up
    trial.target = main
    begin(trial, other.name, plan=kept, database=on(SERVER_15), placement={"cluster": other.name})
    phase(trial, where, "Preparing")
    other.plane.stop_apiserver()
    write(old, "meanwhile")
    trial.apply(trial.tenant(plan=kept, database=on(SERVER_15), placement={"cluster": CLUSTER}))
    wait_for(lambda: "move" not in trial.record(where)["spec"], "it is rolled back", PATIENCE)
    trial.ready(seconds=PATIENCE)
    assert canaries(old) == {"alive", "meanwhile"}
    # What was begun there can't be looked after: the tenant can't be destroyed as if nothing were left.
    trial.kubectl("patch", "tenant", "acme", "--type=merge", "-p", '{"spec": {"deletion": {"window": "0s"}}}')
    trial.delete()
    wait_for(lambda: trial.record(where)["spec"]["state"] == "Purging", "its end has begun", PATIENCE)
    uid = trial.get()["metadata"]["uid"]
    patch = {"metadata": {"annotations": {ANNOTATION_FORCE_ORPHAN: uid}}}
    assert trial.management.patch(TENANTS.path(trial.workspace, "acme"), patch, dry=False).status == 200
    trial.gone(seconds=PATIENCE)
    # Found again at once, for its own cluster answers; and then the side that can't be reached is waited for.
    assert trial.record(where)["spec"]["state"] in {"Orphaned", "Purging"}
    other.plane.start_apiserver()
    wait_for(lambda: trial.record(where) == {}, "what was orphaned is dealt with", PATIENCE)
    assert trial.inventory(where) == set()
    assert trial.database_traces(where, trial.stage.postgres_15) == set()


def test_a_side_on_a_cluster_that_is_gone_for_good_keeps_nothing_of_a_deleted_tenant_and_is_forgotten_on_request(
    trial: Workbench, kept: str, other: Other
) -> None:
    where, _ = in_use(trial, kept, slow=False)
    main, there = trial.target, after(where, 2)
    trial.elsewhere(other.plane.access.kubeconfig)
    foreign = manifest(NAMESPACES, there.namespace)
    assert trial.target.create(NAMESPACES, foreign, dry=False).status == 201  # nobody of ours: it holds the move up
    trial.target = main
    begin(trial, other.name, plan=kept, database=on(SERVER_15), placement={"cluster": other.name})
    phase(trial, where, "Preparing")
    other.plane.stop_apiserver()
    trial.apply(trial.tenant(plan=kept, database=on(SERVER_15), deletion={"window": "0s"}))
    wait_for(lambda: "move" not in trial.record(where)["spec"], "it is rolled back", PATIENCE)
    trial.delete()
    wait_for(lambda: trial.inventory(where) == set(), "what it had where it lived is gone, hosts too", PATIENCE)
    assert trial.database_traces(where, trial.stage.postgres_15) == set()
    told = trial.when(lambda body: "forget-side=2" in condition(body)["message"], "who can end it", seconds=PATIENCE)
    assert other.name in condition(told)["message"]
    assert trial.record(where)["spec"]["state"] == "Purging"
    forget_side(trial, where, "7")
    assert "it has 2" in told_of_record(trial, where, "SideNotFound")
    assert [side["epoch"] for side in trial.record(where)["spec"]["former"]] == [2]
    forget_side(trial, where, "2")
    trial.gone(seconds=PATIENCE)
    assert trial.record(where) == {}
    left = told_of_record(trial, where, "SideForgotten")
    assert f"namespace {there.namespace} on Cluster {other.name}" in left


def forget_side(trial: Workbench, where: Whereabouts, epoch: str) -> None:
    patch = {"metadata": {"annotations": {ANNOTATION_FORGET_SIDE: epoch}}}
    answer = trial.management.patch(TENANT_RECORDS.path(name=where.identity.record), patch, dry=False)
    assert answer.status == 200, answer.message


def told_of_record(trial: Workbench, where: Whereabouts, reason: str) -> str:
    """The message of an Event about the tenant's record."""
    fields = f"involvedObject.name={where.identity.record},reason={reason}"

    def found() -> list[Json]:
        listed = json.loads(trial.kubectl("get", "events", "-A", "--field-selector", fields, "-o", "json"))
        items: list[Json] = listed["items"]
        return items

    return str(wait_for(found, f"{reason} is told", PATIENCE)[-1]["message"])


def test_a_deletion_amid_the_copy_keeps_all_on_the_old_side_and_is_undone_there(trial: Workbench, kept: str) -> None:
    where, old = in_use(trial, kept, slow=True)
    begin(trial, SERVER_18, plan=kept, database=on(SERVER_18), deletion={"window": "1h"})
    phase(trial, where, "Copying")
    trial.delete()
    trial.gone(seconds=PATIENCE)
    record = trial.record(where)["spec"]
    assert (record["state"], record["epoch"], record["database"]["server"]) == ("Deleted", 1, SERVER_15)
    assert "move" not in record
    assert refuses(old)
    trial.apply(trial.tenant(plan=kept, database=on(SERVER_15)))
    trial.ready(seconds=PATIENCE)
    assert canaries(trial.secret(where, "tenant-database")) == {"alive"}
    wait_for(lambda: nothing_left(trial, where), "the copy is gone", PATIENCE)
    assert trial.database_traces(where, trial.stage.postgres_18) == set()
    remove(trial)


def test_a_tenant_that_is_retained_amid_the_copy_runs_on_where_it_was(trial: Workbench, kept: str) -> None:
    where, old = in_use(trial, kept, slow=True)
    begin(trial, SERVER_18, plan=kept, database=on(SERVER_18), deletion={"policy": "Retain"})
    phase(trial, where, "Copying")
    trial.delete()
    trial.gone(seconds=PATIENCE)
    record = trial.record(where)["spec"]
    assert (record["state"], record["epoch"], record["database"]["server"]) == ("Retained", 1, SERVER_15)
    assert "move" not in record
    assert canaries(old) == {"alive"}, "with the same password as before"
    assert trial.on_target(RESOURCE_QUOTAS, where.namespace, "tenant-off") == {}
    trial.apply(trial.tenant(plan=kept, database=on(SERVER_15)))
    trial.ready(seconds=PATIENCE)
    remove(trial)


def test_a_tenant_that_is_suspended_amid_the_copy_is_left_as_it_is_only_when_it_serves_again(
    trial: Workbench, kept: str
) -> None:
    where, old = in_use(trial, kept, slow=True)
    begin(trial, SERVER_18, plan=kept, database=on(SERVER_18))
    phase(trial, where, "Copying")
    begin(trial, SERVER_18, plan=kept, database=on(SERVER_18), suspend=True, env={"COLOR": "red"})
    told = trial.when(
        lambda body: (
            (body.get("status", {}).get("move") or {}).get("phase") == "RolledBack"
            and condition(body)["reason"] == "Suspended"
        ),
        "it is suspended, and moves no more",
        seconds=PATIENCE,
    )
    assert condition(told, "MoveProgressing") == {}
    assert canaries(old) == {"alive"}
    assert "COLOR" not in trial.secret(where, "tenant-env"), "what is suspended does not come about"
    begin(trial, SERVER_18, plan=kept, database=on(SERVER_18))
    trial.told("False", "MoveFailed", None, seconds=PATIENCE)
    assert canaries(old) == {"alive"}, "each try stops the tenant: it is not tried again by itself"
    trial.apply(trial.tenant(plan=kept, database=on(SERVER_15)))
    trial.ready(seconds=PATIENCE)
    remove(trial)


def test_a_spec_that_is_refused_amid_the_copy_does_not_keep_the_tenant_stopped(trial: Workbench, kept: str) -> None:
    where, old = in_use(trial, kept, slow=True)
    begin(trial, SERVER_18, plan=kept, database=on(SERVER_18))
    phase(trial, where, "Copying")
    begin(trial, SERVER_18, plan=kept, database=on(SERVER_18), deletion={"window": "480h"})
    trial.told("False", "PlanExceeded", None, seconds=PATIENCE)
    wait_for(lambda: "move" not in trial.record(where)["spec"], "it is rolled back", PATIENCE)
    assert canaries(old) == {"alive"}
    trial.apply(trial.tenant(plan=kept, database=on(SERVER_15)))
    trial.ready(seconds=PATIENCE)
    remove(trial)


def test_another_spec_amid_the_copy_comes_about_on_the_new_side(trial: Workbench, kept: str) -> None:
    where, old = in_use(trial, kept, slow=True)
    begin(trial, SERVER_18, plan=kept, database=on(SERVER_18))
    phase(trial, where, "Copying")
    begin(trial, SERVER_18, plan=kept, database=on(SERVER_18), env={"COLOR": "red"}, quota={"hard": {"pods": "3"}})
    moved(trial, SERVER_18)
    assert canaries(trial.secret(where, "tenant-database")) == {"alive"}
    assert trial.secret(where, "tenant-env")["COLOR"] == "red"
    assert trial.get()["status"]["effective"]["quota"]["pods"] == "3"
    assert refuses(old)
    remove(trial)


def test_another_destination_amid_the_copy_takes_the_move_back_and_asks_anew(trial: Workbench, kept: str) -> None:
    where, old = in_use(trial, kept, slow=True)
    begin(trial, SERVER_18, plan=kept, database=on(SERVER_18))
    phase(trial, where, "Copying")
    trial.apply(trial.tenant(plan=kept, database=on(SERVER_15)))
    trial.ready(seconds=PATIENCE)
    assert canaries(old) == {"alive"}, "with the same password as before"
    wait_for(lambda: nothing_left(trial, where), "the copy is gone", PATIENCE)
    assert trial.database_traces(where, trial.stage.postgres_18) == set()
    remove(trial)


def test_a_change_that_is_held_amid_the_copy_neither_stops_the_move_nor_comes_about(
    trial: Workbench, kept: str
) -> None:
    where, _ = in_use(trial, kept, slow=True)
    begin(trial, SERVER_18, plan=kept, database=on(SERVER_18))
    phase(trial, where, "Copying")
    body = trial.tenant(plan=kept, database=on(SERVER_15), env={"COLOR": "red"})
    body["metadata"]["annotations"] = {ANNOTATION_APPROVE_MOVE: SERVER_18, ANNOTATION_DRY_RUN: "true"}
    trial.apply(body)
    trial.when(
        lambda body: (body.get("status", {}).get("move") or {}).get("phase") == "Completed",
        "it is moved",
        seconds=PATIENCE,
    )
    wait_for(lambda: trial.secret(where, "tenant-database").get("dbname") == f"{where.database}_e2", "it is open")
    assert canaries(trial.secret(where, "tenant-database")) == {"alive"}
    assert "COLOR" not in trial.secret(where, "tenant-env")
    trial.apply(trial.tenant(plan=kept, database=on(SERVER_18)))
    trial.ready(seconds=PATIENCE)
    remove(trial)


def test_an_external_database_stays_where_it_is_when_its_tenant_moves_to_another_cluster(
    trial: Workbench, other: Other, foreign: Foreign
) -> None:
    plan, where = bring_your_own(trial), trial.whereabouts()
    put(trial, foreign.values())
    trial.make(plan=plan, database=EXTERNAL)
    before = handed_on(trial, where)
    database = trial.record(where)["spec"]["database"]
    begin(trial, other.name, plan=plan, database=EXTERNAL, placement={"cluster": other.name})
    moved(trial, other.name)
    assert trial.record(where)["spec"]["database"] == database
    left(trial, where, trial.record(where)["spec"]["former"][0]["purgeAfter"])
    trial.elsewhere(other.plane.access.kubeconfig)
    there = after(where, 2)
    assert handed_on(trial, there) == before
    assert trial.on_target(CONFIG_MAPS, there.namespace, "tenant-info")
    remove(trial)
    assert trial.inventory(there) == set()
