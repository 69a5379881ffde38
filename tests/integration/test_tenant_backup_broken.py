"""Backups that something comes in between: a server that restarts, a deletion, an API that answers badly or not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psutil
import pytest
from tests.integration.backup_lab import (
    FAULTS,
    LARGE,
    PROMISED,
    BackupLab,
    backup_lab,
    go_on,
    has_ended,
    message_of,
    now,
    reason_of,
    seconds_since,
)
from tests.scene.faulty import WORKSPACE
from tests.scene.lab import wait_until

from tenantry.api.resources import TENANT_BACKUPS

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("fresh_control_plane"),  # has the binary built outside the time-out; none is started
]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackupLab]:
    with backup_lab(tmp_path_factory.mktemp("backups")) as opened:
        opened.tenant("large", LARGE)
        opened.tenant("small")
        yield opened


@pytest.fixture(autouse=True)
def cleared(scene: BackupLab) -> Iterator[None]:
    """The next test finds no backup."""
    yield
    for body in scene.api.get(TENANT_BACKUPS.path(WORKSPACE)).body["items"]:
        scene.delete(TENANT_BACKUPS, body["metadata"]["name"])
        scene.wait_gone(TENANT_BACKUPS, body["metadata"]["name"])


def test_a_database_server_that_restarts_during_a_dump_is_a_failed_backup_and_nothing_of_it_stays(
    scene: BackupLab,
) -> None:
    name = scene.back_up("large", deletionPolicy="Delete")
    process = scene.caught("pg_dump")
    began = now()
    scene.restart_postgres()
    go_on(process)
    status = scene.ended(TENANT_BACKUPS, name, "Failed")
    assert reason_of(status) == "BackupFailed"
    assert message_of(status)
    assert seconds_since(began, status) <= PROMISED
    scene.nothing_is_in_the_store()
    scene.no_role_is_left()
    again = scene.back_up("large", deletionPolicy="Delete")
    assert scene.ended(TENANT_BACKUPS, again, "Completed")["rows"] == LARGE


@pytest.mark.parametrize(("program", "phase"), [("pg_dump", "Running"), ("pg_restore", "Verifying")])
def test_a_backup_that_is_deleted_while_it_is_made_leaves_nothing(scene: BackupLab, program: str, phase: str) -> None:
    name = scene.back_up("large")
    process = scene.caught(program)
    scene.wait_phase(TENANT_BACKUPS, name, phase)
    scene.delete(TENANT_BACKUPS, name)
    scene.wait_gone(TENANT_BACKUPS, name)
    assert has_ended(process)
    scene.nothing_is_in_the_store()
    scene.no_role_is_left()


@pytest.mark.parametrize("program", ["pg_dump", "pg_restore"])
def test_a_backup_that_is_deleted_while_no_operator_runs_leaves_nothing_when_one_is_back(
    scene: BackupLab, program: str
) -> None:
    """With the policy to retain what is in the store, of which there is nothing that would be a backup."""
    name = scene.back_up("large")
    process = scene.caught(program)
    scene.operator.kill()
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()
    scene.delete(TENANT_BACKUPS, name)
    scene.restart()
    scene.wait_gone(TENANT_BACKUPS, name)
    scene.nothing_is_in_the_store()
    scene.no_role_is_left()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_backup_whose_statuses_and_finalizer_are_answered_badly_or_to_nobody_is_made_once_and_whole(
    scene: BackupLab, fault: str
) -> None:
    proxy = scene.lab.management_proxy
    with (
        proxy.fault(FAULTS[fault], r"/tenantbackups/[^/]+/status", method="PATCH", times=2) as statuses,
        proxy.fault(FAULTS[fault], r"/tenantbackups/[^/]+\?", method="PATCH", times=1) as finalizers,
    ):
        name = scene.back_up("small", deletionPolicy="Delete")
        status = scene.ended(TENANT_BACKUPS, name, "Completed")
        assert (statuses.hits, finalizers.hits) == (2, 1)
    assert status["rows"] == 1000
    scene.nothing_is_in_the_store(but=[name])
    with proxy.fault(FAULTS[fault], r"/tenantbackups/[^/]+\?", method="PATCH", times=1) as finalizers:
        scene.delete(TENANT_BACKUPS, name)
        scene.wait_gone(TENANT_BACKUPS, name)
        assert finalizers.hits == 1
    scene.nothing_is_in_the_store()


def test_whoever_works_dies_and_the_backup_is_failed_within_a_minute_by_its_own_time_stamps(scene: BackupLab) -> None:
    name = scene.back_up("large")
    process = scene.caught("pg_dump")
    died = now()
    process.kill()
    assert seconds_since(died, scene.ended(TENANT_BACKUPS, name, "Failed")) <= PROMISED
    name = scene.back_up("large")
    process = scene.caught("pg_dump")
    scene.wait_phase(TENANT_BACKUPS, name, "Running")
    died = now()
    scene.operator.kill()
    go_on(process)
    scene.restart()
    status = scene.ended(TENANT_BACKUPS, name, "Failed")
    assert reason_of(status) == "BackupInterrupted"
    assert seconds_since(died, status) <= PROMISED
    scene.nothing_is_in_the_store()
    wait_until(lambda: has_ended(process), PROMISED, "its pg_dump has ended, too")


def test_watches_that_drop_while_a_backup_is_made_lose_nothing_of_it(scene: BackupLab) -> None:
    name = scene.back_up("large", deletionPolicy="Delete")
    process = scene.caught("pg_dump")
    assert scene.lab.management_proxy.inject_error(410) >= 1
    scene.lab.management_proxy.cut_connections()
    go_on(process)
    assert scene.ended(TENANT_BACKUPS, name, "Completed")["rows"] == LARGE
    scene.nothing_is_in_the_store(but=[name])
