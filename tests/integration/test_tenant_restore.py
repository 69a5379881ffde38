"""TenantRestores as a workspace's admin makes them: what was backed up is live again, or all is as it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.controlplane.object_stores import MINISTACK, StoreServer
from tests.integration.acting import manifest
from tests.integration.backing import PATIENCE, ROWS, Kept, backup, ended, fill, read, register
from tests.integration.moves import DAY, connect, end_windows, refuses
from tests.integration.tenants import Whereabouts, Workbench, condition, wait_for

from tenantry.api.names import ANNOTATION_UNDO_RESTORE
from tenantry.api.resources import DEPLOYMENTS, TENANT_BACKUPS, TENANT_RESTORES, Ref

Json = dict[str, Any]
SHARED = {"mode": "Shared"}
LATER = "INSERT INTO customers (name) VALUES ('came later')"

pytestmark = pytest.mark.timeout(500)


@pytest.fixture(scope="module")
def bucket() -> Iterator[StoreServer]:
    with StoreServer(MINISTACK) as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "kept"


@pytest.fixture
def kept(workbench: Workbench, folder: Path) -> Kept:
    return register(workbench, folder)


@pytest.fixture
def where(workbench: Workbench, kept: Kept) -> Whereabouts:
    """Tenant `acme`, backed up as `first`, and changed since."""
    return made(workbench, kept)


def made(workbench: Workbench, kept: Kept, *more: str, **spec: Any) -> Whereabouts:
    workbench.make(database=SHARED, **spec)
    found = workbench.whereabouts()
    fill(workbench, found, *more)
    workbench.apply(backup(workbench, "first", kept.name))
    ended(workbench, "first", "Completed", "BackupCompleted")
    execute(workbench, found, LATER)
    return found


def restore(workbench: Workbench, name: str, *, of: str = "first", tenant: str = "acme", **spec: Any) -> Json:
    wanted = {"backupRef": {"name": of}, "tenantRef": {"name": tenant}, "safetyBackup": False, **spec}
    return manifest(TENANT_RESTORES, name, workbench.workspace, spec=wanted)


def seen(workbench: Workbench, name: str) -> Json:
    answer = workbench.management.get(Ref(TENANT_RESTORES, workbench.workspace, name).path)
    return answer.body if answer.status == 200 else {}


def is_at(workbench: Workbench, name: str, phase: str, reason: str) -> Json:
    """A TenantRestore once it says so.

    Raises:
        AssertionError: it does not in time, or has ended otherwise.
    """

    def there() -> Json | None:
        body = seen(workbench, name)
        status = body.get("status", {})
        if phase != "Failed" and status.get("phase") == "Failed":
            raise AssertionError(f"{name} has failed: {condition(body)}")
        return body if (status.get("phase"), condition(body).get("reason")) == (phase, reason) else None

    return wait_for(there, lambda: f"{name} is {phase}: {seen(workbench, name).get('status')}", PATIENCE)


def done(workbench: Workbench, name: str) -> Json:
    status: Json = is_at(workbench, name, "Completed", "RestoreCompleted")["status"]
    workbench.ready(seconds=PATIENCE)
    return status


def execute(workbench: Workbench, where: Whereabouts, *statements: str) -> None:
    with connect(workbench.secret(where, "tenant-database")) as session:
        for statement in statements:
            session.execute(statement.encode())


def names(workbench: Workbench, where: Whereabouts) -> set[str]:
    with connect(workbench.secret(where, "tenant-database")) as session:
        return {row[0] for row in session.execute("SELECT name FROM customers").fetchall()}


def databases(workbench: Workbench, where: Whereabouts) -> set[str]:
    rows = workbench.ask("SELECT datname::text FROM pg_database WHERE datname LIKE %s", f"tenantry_{where.hash}%")
    return {row[0] for row in rows}


def fingerprint(workbench: Workbench, database: str) -> list[tuple[Any, ...]]:
    """Of all rows of `customers`, as the server has them on its pages: a rewritten row has another place."""
    with psycopg.connect(workbench.stage.postgres_18.superuser_dsn(database)) as session:
        return session.execute("SELECT ctid::text, xmin::text, name FROM customers ORDER BY 1").fetchall()


def nothing_is_left(workbench: Workbench, where: Whereabouts) -> None:
    def traces() -> set[str]:
        """Databases and roles, which go after them."""
        return {name for name in workbench.database_traces(where) if "_e2" in name}

    wait_for(lambda: not traces(), lambda: str(traces()), PATIENCE)
    wait_for(lambda: not workbench.record(where)["spec"].get("former"), "the record has nothing of it", PATIENCE)
    assert databases(workbench, where) == {where.database}


def test_a_restore_saves_what_is_there_exchanges_the_data_and_is_undone_by_an_annotation(
    workbench: Workbench, kept: Kept
) -> None:
    where = made(workbench, kept, plan=workbench.platform("TenantPlan", "kept", deletion=DAY))
    old = workbench.secret(where, "tenant-database")
    workbench.apply(restore(workbench, "back", safetyBackup=True))
    status = done(workbench, "back")
    saved = read(workbench, status["safetyBackup"])
    assert (saved["status"]["phase"], saved["status"]["rows"]) == ("Completed", ROWS + 1)
    assert (status["rows"], status["tables"], status["database"]) == (ROWS, 2, f"{where.database}_e2")
    assert status["writeStopMilliseconds"] < 30_000, "a moment, and not as long as the restore"
    assert "came later" not in names(workbench, where)
    assert len(names(workbench, where)) == 1000
    assert refuses(old), "the former credentials and database are locked"
    new = workbench.secret(where, "tenant-database")
    assert new["dbname"] == f"{where.database}_e2"
    side = workbench.record(where)["spec"]["former"][0]
    assert status["undoUntil"] == side["purgeAfter"] > status["completedAt"]
    execute(workbench, where, "INSERT INTO customers (name) VALUES ('after the restore')")
    uid = seen(workbench, "back")["metadata"]["uid"]
    workbench.kubectl("annotate", "tnr", "back", f"{ANNOTATION_UNDO_RESTORE}=something")
    told = condition(is_at(workbench, "back", "Completed", "UndoNotPossible"))["message"]
    assert uid in told
    workbench.kubectl("annotate", "--overwrite", "tnr", "back", f"{ANNOTATION_UNDO_RESTORE}={uid}")
    is_at(workbench, "back", "Undone", "RestoreUndone")
    workbench.ready(seconds=PATIENCE)
    assert "came later" in names(workbench, where)
    assert "after the restore" not in names(workbench, where)
    assert refuses(new)
    assert databases(workbench, where) == {where.database, f"{where.database}_e2"}, "what the undo left is kept too"
    end_windows(workbench, where, workbench.target, None, workbench.stage.postgres_18)
    wait_for(lambda: databases(workbench, where) == {where.database}, "what was left is purged", 3 * PATIENCE)
    assert "came later" in names(workbench, where)


def test_an_encrypted_backup_in_a_bucket_comes_back_and_workloads_with_it_in_their_environment_are_restarted(
    workbench: Workbench, bucket: StoreServer
) -> None:
    kept = register(workbench, bucket.access, encrypted=True, readable=True)
    where = made(workbench, kept)
    reading = {"name": "app", "image": "example.com/a", "envFrom": [{"secretRef": {"name": "tenant-database"}}]}
    pod = {"metadata": {"labels": {"app": "app"}}, "spec": {"containers": [reading]}}
    spec = {"replicas": 1, "selector": {"matchLabels": {"app": "app"}}, "template": pod}
    body = manifest(DEPLOYMENTS, "app", where.namespace, spec=spec)
    assert workbench.target.create(DEPLOYMENTS, body, dry=False).status == 201
    workbench.apply(restore(workbench, "back"))
    done(workbench, "back")
    assert "came later" not in names(workbench, where)
    template = workbench.on_target(DEPLOYMENTS, where.namespace, "app")["spec"]["template"]
    assert "kubectl.kubernetes.io/restartedAt" in template["metadata"].get("annotations", {})


def test_a_backup_is_cloned_into_another_tenant_of_the_workspace_and_into_none_of_another(
    workbench: Workbench, where: Whereabouts, kept: Kept
) -> None:
    workbench.make("beta", database=SHARED)
    there = workbench.whereabouts("beta")
    workbench.apply(restore(workbench, "clone", tenant="beta"))
    is_at(workbench, "clone", "Completed", "RestoreCompleted")
    workbench.ready("beta", seconds=PATIENCE)
    assert len(names(workbench, there)) == 1000
    assert "came later" in names(workbench, where), "the one that it was taken of is as it was"
    other = workbench.make_workspace(f"{workbench.prefix}-other")
    workbench.make("acme", other, database=SHARED)
    body = restore(workbench, "theirs")
    body["metadata"]["namespace"] = other
    workbench.apply(body)
    path = Ref(TENANT_RESTORES, other, "theirs").path

    def reason() -> str:
        return str(condition(workbench.management.get(path).body).get("reason", ""))

    wait_for(lambda: reason() == "BackupNotFound", reason, PATIENCE)


def test_a_status_that_points_to_another_backup_is_not_believed(
    workbench: Workbench, where: Whereabouts, kept: Kept
) -> None:
    workbench.apply(backup(workbench, "second", kept.name))
    other = ended(workbench, "second", "Completed", "BackupCompleted")["status"]["objectKey"]
    path = Ref(TENANT_BACKUPS, workbench.workspace, "first").path
    answer = workbench.management.patch(f"{path}/status", {"status": {"objectKey": other}}, dry=False)
    assert answer.status == 200, answer.message
    workbench.apply(restore(workbench, "back"))
    told = condition(is_at(workbench, "back", "Failed", "RestoreNotPossible"))["message"]
    assert "is not the place of this very backup" in told
    nothing_is_left(workbench, where)


@pytest.mark.parametrize("harm", ["flipped", "truncated", "missing", "manifest"])
def test_what_was_changed_in_the_store_is_never_restored_and_the_live_data_is_byte_for_byte_as_it_was(
    workbench: Workbench, where: Whereabouts, folder: Path, harm: str
) -> None:
    before, old = fingerprint(workbench, where.database), workbench.secret(where, "tenant-database")
    (dump,) = folder.rglob("database.dump")
    data = bytearray(dump.read_bytes())
    if harm == "flipped":
        data[len(data) // 2] ^= 1
        dump.write_bytes(data)
    elif harm == "truncated":
        dump.write_bytes(data[: len(data) // 2])
    elif harm == "missing":
        dump.unlink()
    else:
        file = dump.parent / "manifest.json"
        changed = json.loads(file.read_text())
        changed["rows"]["public.customers"] = 999
        file.write_text(json.dumps(changed))
    workbench.apply(restore(workbench, "back"))
    is_at(workbench, "back", "Failed", "RestoreNotPossible" if harm == "manifest" else "RestoreFailed")
    nothing_is_left(workbench, where)
    assert fingerprint(workbench, where.database) == before
    assert not refuses(old), "the live database was never locked for good"
    assert workbench.secret(where, "tenant-database") == old
    workbench.ready(seconds=PATIENCE)


def test_code_in_a_backup_runs_as_the_tenants_own_login_and_never_as_the_operator(
    workbench: Workbench, kept: Kept
) -> None:
    spy = (
        "CREATE FUNCTION spy(int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN "
        "IF current_database() LIKE '%_e2' AND session_user <> current_database() || '_0' THEN "
        "RAISE EXCEPTION 'run by %', session_user; END IF; RETURN true; END $$",
        "CREATE TABLE watched (x int CHECK (public.spy(x)))",
        "INSERT INTO watched VALUES (1)",
        "CREATE INDEX watched_spied ON watched ((CASE WHEN x > 0 THEN 1 END))",
    )
    where = made(workbench, kept, *spy)
    workbench.apply(restore(workbench, "back"))
    done(workbench, "back")
    with connect(workbench.secret(where, "tenant-database")) as session:
        assert session.execute("SELECT x FROM watched").fetchall() == [(1,)]
        owners = session.execute(
            "SELECT DISTINCT pg_get_userbyid(relowner)::text FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        ).fetchall()
    assert owners == [(f"{where.database}_e2_owner",)]
    (acl,) = workbench.ask(
        "SELECT has_database_privilege('public', oid, 'CONNECT'), datconnlimit > 0, "
        "pg_get_userbyid(datdba) = %s FROM pg_database WHERE datname = %s",
        f"{where.database}_e2_owner", f"{where.database}_e2",
    )[:1]  # fmt: skip
    assert acl == (False, True, False), "nobody else gets in, the limit holds, and the tenant does not own it"


def test_a_restore_that_is_deleted_before_its_end_is_taken_back(workbench: Workbench, kept: Kept) -> None:
    slow = (
        "CREATE FUNCTION slow(int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN"
        " IF current_database() LIKE '%_e2' THEN PERFORM pg_sleep(0.5); END IF; RETURN true; END $$",
        "CREATE TABLE slowly (x int CHECK (public.slow(x)))",
        "INSERT INTO slowly SELECT generate_series(1, 200)",
    )
    where = made(workbench, kept, *slow)
    before = fingerprint(workbench, where.database)
    workbench.apply(restore(workbench, "back"))
    is_at(workbench, "back", "Restoring", "RestoreRunning")
    wait_for(lambda: f"{where.database}_e2" in databases(workbench, where), "it is being filled", PATIENCE)
    workbench.kubectl("delete", "tnb", "first", "--wait=false")
    wait_for(lambda: condition(read(workbench, "first")).get("reason") == "InUse", "its backup stays", PATIENCE)
    assert "came later" in names(workbench, where), "it is served meanwhile"
    workbench.kubectl("delete", "tnr", "back")
    nothing_is_left(workbench, where)
    assert fingerprint(workbench, where.database) == before
    wait_for(lambda: not read(workbench, "first"), "now its backup goes", PATIENCE)
    workbench.ready(seconds=PATIENCE)


def test_a_restore_goes_only_forward_waits_for_its_time_and_its_spec_stays(
    workbench: Workbench, where: Whereabouts
) -> None:
    workbench.apply(restore(workbench, "later", notBefore="2199-01-01T00:00:00Z"))
    is_at(workbench, "later", "Pending", "NotYetTime")
    workbench.kubectl("delete", "tnr", "later")
    workbench.apply(restore(workbench, "back"))
    done(workbench, "back")
    path = Ref(TENANT_RESTORES, workbench.workspace, "back").path
    for phase in ("Restoring", None):
        answer = workbench.management.patch(f"{path}/status", {"status": {"phase": phase}}, dry=False)
        assert answer.status == 422, phase
        assert "only goes forward" in answer.message
