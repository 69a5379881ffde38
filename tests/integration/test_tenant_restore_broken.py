"""Restores that something comes in between: the live database is as it was, to the byte, and nothing else is left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import psycopg
import pytest
from tests.controlplane.object_stores import RCLONE
from tests.integration.backup_lab import (
    FAULTS,
    KEPT,
    LARGE,
    BackupLab,
    backup_lab,
    go_on,
    has_ended,
    message_of,
    reason_of,
)
from tests.scene.faulty import WORKSPACE, condition
from tests.scene.lab import tenant_body, wait_until

from tenantry.api.names import ANNOTATION_DRY_RUN
from tenantry.api.resources import TENANT_BACKUPS, TENANT_RESTORES, TENANTS

Json = dict[str, Any]

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.usefixtures("fresh_control_plane"),  # has the binary built outside the time-out; none is started
]

TENANT = "acme"
SHARED = {"mode": "Shared"}
GATE = (
    """
    CREATE FUNCTION gate() RETURNS bool LANGUAGE plpgsql AS $$ BEGIN
      WHILE EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'gate_is_closed') LOOP
        PERFORM pg_catalog.pg_sleep(0.02);
      END LOOP;
      RETURN true;
    END $$
    """,
    "ALTER TABLE big ADD CHECK (x <> 1000 OR public.gate())",
)
"""Where a restore stands still, with few of its rows, as long as a role is there: roles are seen in all databases."""
LARGEST_FILE = 24 * 1024 * 1024
"""Bytes: more than a segment of the log, and less than the table."""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackupLab]:
    with backup_lab(tmp_path_factory.mktemp("restores"), kind=RCLONE) as opened:
        opened.tenant(TENANT, LARGE)
        opened.execute(TENANT, *GATE)
        yield opened


@pytest.fixture(scope="module")
def backup(scene: BackupLab) -> str:
    """One with fewer rows than there are now."""
    name = scene.backed_up(TENANT)
    scene.execute(TENANT, "INSERT INTO big VALUES (0, 'later')")
    return name


class Live:
    """The tenant's database as it was before a restore that is to come to nothing."""

    def __init__(self, scene: BackupLab) -> None:
        self._scene = scene
        self.database = scene.database(TENANT)
        self._before = scene.fingerprint(self.database)

    def is_as_it_was(self) -> None:
        """And it is the only one, as soon as all is cleared away."""
        scene = self._scene
        assert scene.database(TENANT) == self.database
        assert scene.fingerprint(self.database) == self._before
        scene.ready(TENANT)
        scene.only(self.database)
        wait_until(lambda: not scene.record(TENANT)["spec"].get("former"), 120, "its record has nothing of it")
        assert "move" not in scene.record(TENANT)["spec"]
        assert scene.fingerprint(self.database) == self._before


@pytest.fixture
def live(scene: BackupLab, backup: str) -> Live:
    return Live(scene)


def begun(scene: BackupLab, backup: str) -> tuple[str, psutil.Process]:
    """A restore in the middle: its pg_restore stands still."""
    with psycopg.connect(scene.dsn(), autocommit=True) as session:
        session.execute("CREATE ROLE gate_is_closed")
        try:
            name = scene.restore(TENANT, backup)
            process = scene.caught_loading(TENANT)
        finally:
            session.execute("DROP ROLE gate_is_closed")
    scene.wait_phase(TENANT_RESTORES, name, "Restoring")
    return name, process


def test_a_database_server_that_restarts_during_a_restore_fails_it_and_changes_nothing(
    scene: BackupLab, backup: str, live: Live
) -> None:
    name, process = begun(scene, backup)
    scene.restart_postgres()
    go_on(process)
    status = scene.ended(TENANT_RESTORES, name, "Failed")
    assert reason_of(status) == "RestoreFailed"
    assert message_of(status)
    live.is_as_it_was()


@contextmanager
def full_disk(scene: BackupLab) -> Iterator[None]:
    """No file of the server can grow beyond a size that what is there has reached already.

    That is not the whole of a full disk, for the server's own log of changes still has room: it goes on.
    """
    server = scene.lab.postgres
    server.stop_server()
    server.start_server(largest_file=LARGEST_FILE)
    try:
        yield
    finally:
        server.stop_server()
        server.start_server()


def test_a_database_server_without_room_for_the_restored_data_fails_the_restore_and_changes_nothing(
    scene: BackupLab, backup: str, live: Live
) -> None:
    with full_disk(scene):
        name = scene.restore(TENANT, backup)
        status = scene.ended(TENANT_RESTORES, name, "Failed")
    assert reason_of(status) == "RestoreFailed"
    assert "could not extend file" in message_of(status)
    live.is_as_it_was()


def test_a_store_that_goes_away_during_a_restore_fails_it_and_changes_nothing(
    scene: BackupLab, backup: str, live: Live
) -> None:
    name, process = begun(scene, backup)
    scene.store.stop_server()
    try:
        go_on(process)
        status = scene.ended(TENANT_RESTORES, name, "Failed", seconds=300)
    finally:
        scene.store.start_server()
    assert reason_of(status) == "RestoreFailed"
    live.is_as_it_was()
    scene.lab.wait_condition("backupstores.tenantry.io", scene.kept.name, "Ready", "True")


def test_a_restore_that_is_deleted_in_the_middle_is_taken_back(scene: BackupLab, backup: str, live: Live) -> None:
    name, process = begun(scene, backup)
    scene.delete(TENANT_RESTORES, name)
    scene.wait_gone(TENANT_RESTORES, name)
    wait_until(lambda: has_ended(process), 120, "nothing fills a database any more")
    live.is_as_it_was()


def test_a_restore_whose_tenant_is_suspended_in_the_middle_says_so_and_goes_on_when_that_is_over(
    scene: BackupLab, backup: str
) -> None:
    former = scene.database(TENANT)
    before = scene.fingerprint(former)
    name, process = begun(scene, backup)
    apply_tenant(scene, suspend=True)
    wait_until(
        lambda: reason_of(scene.get(TENANT_RESTORES, name)["status"]) == "Suspended",
        120,
        lambda: scene.told(TENANT_RESTORES, name),
    )
    go_on(process)
    wait_until(lambda: has_ended(process), 120, "the new database is filled")
    assert "spec.suspend is true" in message_of(scene.get(TENANT_RESTORES, name)["status"])
    assert (scene.database(TENANT), scene.fingerprint(former)) == (former, before)
    apply_tenant(scene)
    assert scene.ended(TENANT_RESTORES, name, "Completed")["rows"] == LARGE
    scene.ready(TENANT)
    assert scene.database(TENANT) != former
    scene.execute(TENANT, "INSERT INTO big VALUES (0, 'later')")
    end_kept(scene)


def test_a_restore_whose_tenant_is_deleted_in_the_middle_is_taken_back_and_an_undelete_gives_what_was_live(
    scene: BackupLab, backup: str, live: Live
) -> None:
    name, process = begun(scene, backup)
    scene.delete(TENANTS, TENANT)
    status = scene.ended(TENANT_RESTORES, name, "Failed")
    assert "the tenant was deleted" in message_of(status)
    scene.wait_gone(TENANTS, TENANT)
    wait_until(lambda: has_ended(process), 120, "nothing fills a database any more")
    apply_tenant(scene)
    scene.ready(TENANT)
    live.is_as_it_was()


def test_a_change_that_is_held_in_the_middle_neither_stops_the_restore_nor_comes_about(
    scene: BackupLab, backup: str
) -> None:
    former = scene.database(TENANT)
    name, process = begun(scene, backup)
    apply_tenant(scene, {ANNOTATION_DRY_RUN: "true"}, env={"LEVEL": "changed"})
    wait_until(lambda: bool(condition(tenant(scene), "ChangeHeld")), 120, lambda: scene.told(TENANTS, TENANT))
    go_on(process)
    assert scene.ended(TENANT_RESTORES, name, "Completed")["rows"] == LARGE
    assert scene.database(TENANT) != former
    assert "changed" not in str(scene.record(TENANT)["spec"]["lastSpec"])
    apply_tenant(scene)
    scene.ready(TENANT)
    scene.execute(TENANT, "INSERT INTO big VALUES (0, 'later')")
    end_kept(scene)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_restore_of_whose_writes_the_answers_are_bad_or_lost_comes_to_its_end_all_the_same(
    scene: BackupLab, backup: str, fault: str
) -> None:
    proxy, former, record = scene.lab.management_proxy, scene.database(TENANT), scene.record(TENANT)["metadata"]["name"]
    given = FAULTS[fault]
    with (
        proxy.fault(given, rf"/tenantrecords/{record}\?", method="PATCH", times=2) as records,
        proxy.fault(given, r"/tenantrestores/[^/]+/status", method="PATCH", times=2) as statuses,
        proxy.fault(given, r"/tenantbackups(\?|$)", method="POST", times=1) as saved,
    ):
        name = scene.restore(TENANT, backup, safetyBackup=True)
        status = scene.ended(TENANT_RESTORES, name, "Completed", seconds=240)
        assert (records.hits, statuses.hits, saved.hits) == (2, 2, 1)
    assert status["rows"] == LARGE
    scene.ready(TENANT)
    assert scene.database(TENANT) != former
    assert scene.get(TENANT_BACKUPS, status["safetyBackup"])["status"]["phase"] == "Completed"
    scene.execute(TENANT, "INSERT INTO big VALUES (0, 'later')")
    end_kept(scene)


def tenant(scene: BackupLab) -> Json:
    return scene.get(TENANTS, TENANT)


def apply_tenant(scene: BackupLab, annotations: dict[str, str] | None = None, **spec: Any) -> None:
    body = tenant_body(TENANT, WORKSPACE, plan=KEPT, database=SHARED, **spec)
    body["metadata"]["annotations"] = annotations or {}
    scene.lab.apply(body)


def end_kept(scene: BackupLab) -> None:
    """As if the time of the former database were over, by all who know it."""
    scene.end_former(TENANT)
    scene.only(scene.database(TENANT))
