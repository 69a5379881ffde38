"""Restores whose tenant is suspended in the middle, or whose record is older than they are: nothing is lost by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.integration.backing import backup, ended, fill, register
from tests.integration.moves import DAY, refuses
from tests.integration.tenants import Whereabouts, Workbench, condition, wait_for
from tests.integration.test_tenant_moving_stale import claim_states, put_record
from tests.integration.test_tenant_restore import LATER, SHARED, done, execute, is_at, names, restore, seen

from tenantry.api.names import ANNOTATION_UNDO_RESTORE
from tenantry.api.resources import TENANT_RECORDS

Json = dict[str, Any]
PATIENCE = 90.0
STARTED = "2026-05-01T12:00:00Z"
LONG_AGO = "2020-01-01T00:00:00Z"
OLDER = "knows nothing: it may be older than a move or restore"

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def plan(workbench: Workbench) -> str:
    """What a restore has left is kept for a day."""
    return workbench.platform("TenantPlan", "kept", deletion=DAY)


@pytest.fixture
def where(workbench: Workbench, plan: str, tmp_path: Path) -> Whereabouts:
    """Tenant `acme`, backed up as `first`, and changed since."""
    kept = register(workbench, tmp_path / "kept")
    workbench.make(plan=plan, database=SHARED)
    found = workbench.whereabouts()
    fill(workbench, found)
    workbench.apply(backup(workbench, "first", kept.name))
    ended(workbench, "first", "Completed", "BackupCompleted")
    execute(workbench, found, LATER)
    return found


def suspended(workbench: Workbench, plan: str) -> None:
    workbench.apply(workbench.tenant(plan=plan, database=SHARED, suspend=True))
    workbench.when(
        lambda body: (
            condition(body).get("reason") == "Suspended"
            and condition(body)["observedGeneration"] == body["metadata"]["generation"]
        ),
        "it is suspended",
        seconds=PATIENCE,
    )


def put(workbench: Workbench, where: Whereabouts, change: Json) -> None:
    path = TENANT_RECORDS.path(name=where.identity.record)
    answer = workbench.management.patch(path, {"spec": change}, dry=False)
    assert answer.status == 200, answer.message


def under_way(workbench: Workbench, where: Whereabouts, name: str, phase: str, **more: Any) -> Json:
    """The move of a record by which a TenantRestore is in some phase."""
    uid = seen(workbench, name)["metadata"]["uid"]
    part = {"name": name, "uid": uid, "store": f"{workbench.prefix}-store", "path": "some/where", **more}
    fresh = {**workbench.record(where)["spec"]["database"], "name": f"{where.database}_e2"}
    return {
        "phase": phase, "epoch": 2, "destination": fresh["name"], "database": fresh, "restore": part,
        "startedAt": STARTED, "writeStoppedAt": STARTED,
    }  # fmt: skip


def waits(workbench: Workbench, name: str, reason: str, words: str) -> None:
    """Until a TenantRestore that has not begun says why."""
    told = is_at(workbench, name, "Pending", reason)
    assert words in condition(told)["message"]


def frozen(workbench: Workbench) -> str:
    """What the tenant says, once it says that its record may be older than what is there."""
    workbench.look_now()
    told = condition(workbench.told("Unknown", "MoveNotSupported", None, seconds=PATIENCE))["message"]
    assert OLDER in told
    return str(told)


def lock_logins(workbench: Workbench, where: Whereabouts) -> None:
    """As a restore does it before it switches."""
    with psycopg.connect(workbench.stage.postgres_18.superuser_dsn(), autocommit=True) as session:
        for number in (0, 1):
            session.execute(f'ALTER ROLE "{where.database}_{number}" NOLOGIN'.encode())


def test_a_restore_that_has_stopped_its_tenant_is_taken_back_when_that_is_suspended(
    workbench: Workbench, where: Whereabouts, plan: str
) -> None:
    old = workbench.secret(where, "tenant-database")
    suspended(workbench, plan)
    workbench.apply(restore(workbench, "back"))
    waits(workbench, "back", "Suspended", "spec.suspend is true")
    lock_logins(workbench, where)
    assert refuses(old)
    put(workbench, where, {"move": under_way(workbench, where, "back", "Stopping")})
    workbench.look_now()
    told = condition(is_at(workbench, "back", "Failed", "RestoreFailed"))["message"]
    assert "spec.suspend is true" in told
    record = workbench.record(where)["spec"]
    assert "move" not in record
    assert (record["lastRestore"]["outcome"], record["epoch"]) == ("Failed", 1)
    assert not record.get("moveFailed"), "no move failed: none needs a new approval"
    assert not refuses(old), "with the same password as before"
    assert "came later" in names(workbench, where)
    workbench.when(lambda body: condition(body).get("reason") == "Suspended", "it is left as it is", seconds=PATIENCE)
    workbench.apply(workbench.tenant(plan=plan, database=SHARED))
    workbench.ready(seconds=PATIENCE)
    wait_for(lambda: not workbench.record(where)["spec"].get("former"), "nothing is left of it", PATIENCE)
    assert "came later" in names(workbench, where)


def test_a_restore_that_has_switched_is_brought_to_its_end_before_its_tenant_is_left_as_it_is(
    workbench: Workbench, where: Whereabouts, plan: str
) -> None:
    suspended(workbench, plan)
    workbench.apply(restore(workbench, "back"))
    waits(workbench, "back", "Suspended", "spec.suspend is true")
    lock_logins(workbench, where)
    move = under_way(workbench, where, "back", "Switched", tables=2, rows=7)
    put(workbench, where, {"move": {**move, "database": workbench.record(where)["spec"]["database"]}})
    workbench.look_now()
    status = is_at(workbench, "back", "Completed", "RestoreCompleted")["status"]
    assert (status["tables"], status["rows"]) == (2, 7)
    record = workbench.record(where)["spec"]
    assert "move" not in record
    assert not record.get("lastMove"), "it was no move"
    assert not refuses(workbench.secret(where, "tenant-database"))


def test_a_record_from_before_a_restore_opens_nothing_and_a_restore_by_it_begins_nothing(
    workbench: Workbench, where: Whereabouts
) -> None:
    old, past = workbench.secret(where, "tenant-database"), workbench.record(where)["spec"]
    workbench.apply(restore(workbench, "back"))
    done(workbench, "back")
    execute(workbench, where, "INSERT INTO customers (name) VALUES ('after the restore')")
    put_record(workbench, where, past)
    assert f"{where.database}_e2" in frozen(workbench)
    assert refuses(old), "never two databases that are written to"
    workbench.apply(restore(workbench, "again"))
    waits(workbench, "again", "MoveNotSupported", OLDER)
    assert "move" not in workbench.record(where)["spec"]
    workbench.kubectl("delete", "tnr", "again")
    assert "after the restore" in names(workbench, where)
    workbench.kubectl("delete", "tnrec", where.identity.record)  # the way out that the message names
    wait_for(lambda: workbench.record(where).get("spec", {}).get("epoch") == 2, "the record is made anew", PATIENCE)
    workbench.look_now()
    workbench.ready(seconds=PATIENCE)
    assert "after the restore" in names(workbench, where)
    (side,) = workbench.record(where)["spec"]["former"]
    assert side["database"]["name"] == where.database
    assert refuses(old)


def test_a_record_from_the_middle_of_a_restore_takes_back_nothing_that_was_opened_since(
    workbench: Workbench, where: Whereabouts
) -> None:
    past = workbench.record(where)["spec"]
    workbench.apply(restore(workbench, "back"))
    move = under_way(workbench, where, "back", "Preparing")
    done(workbench, "back")
    execute(workbench, where, "INSERT INTO customers (name) VALUES ('after the restore')")
    present = workbench.record(where)["spec"]
    put_record(workbench, where, {**past, "move": {**move, "writeStoppedAt": None}})
    workbench.look_now()

    def held_back() -> bool:
        sides = workbench.record(where)["spec"].get("former") or [{}]
        return OLDER in sides[0].get("message", "")

    wait_for(held_back, lambda: f"its purge waits: {workbench.record(where)['spec']}", PATIENCE)
    states = claim_states(workbench, where)
    assert states[f"{where.database}_e2"] == "ready"
    frozen(workbench)
    assert "after the restore" in names(workbench, where)
    put_record(workbench, where, present)
    workbench.look_now()
    workbench.ready(seconds=PATIENCE)
    assert "after the restore" in names(workbench, where)


def test_a_record_from_before_an_undo_neither_locks_nor_purges_what_the_tenant_went_back_to(
    workbench: Workbench, where: Whereabouts
) -> None:
    workbench.apply(restore(workbench, "back"))
    done(workbench, "back")
    past = workbench.record(where)["spec"]
    uid = seen(workbench, "back")["metadata"]["uid"]
    workbench.kubectl("annotate", "tnr", "back", f"{ANNOTATION_UNDO_RESTORE}={uid}")
    is_at(workbench, "back", "Undone", "RestoreUndone")
    workbench.ready(seconds=PATIENCE)
    present = workbench.record(where)["spec"]
    (left,) = past["former"]
    put_record(workbench, where, {**past, "former": [{**left, "purgeAfter": LONG_AGO}]})

    def held_back() -> bool:
        return OLDER in workbench.record(where)["spec"]["former"][0].get("message", "")

    wait_for(held_back, lambda: f"its purge waits: {workbench.record(where)['spec']}", 2 * PATIENCE)
    frozen(workbench)
    assert claim_states(workbench, where)[where.database] == "ready"
    assert "came later" in names(workbench, where)
    put_record(workbench, where, present)
    workbench.look_now()
    workbench.ready(seconds=PATIENCE)
    assert "came later" in names(workbench, where)
