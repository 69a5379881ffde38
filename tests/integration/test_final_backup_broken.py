"""Final backups whose database server or target goes away in the middle: nothing is destroyed before one is whole."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from tests.integration.backup_lab import LARGE, BackupLab, backup_lab, go_on, has_ended
from tests.scene.faulty import FaultyLab
from tests.scene.lab import plan_body, wait_until
from tests.scene.proxy_faults import Answer

from tenantry.api.resources import TENANTS

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.usefixtures("fresh_control_plane"),  # has the binary built outside the time-out; none is started
]

LAST = "last"
"""A plan without a window, whose tenants are backed up before they are destroyed."""
LATER = 240.0
"""Seconds; what failed is tried again a minute later."""


def last_plan(lab: FaultyLab) -> None:
    lab.apply(plan_body(LAST, deletion={"maxWindow": "0s", "finalBackup": True}))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackupLab]:
    with backup_lab(tmp_path_factory.mktemp("final"), last_plan) as opened:
        yield opened


def is_there(scene: BackupLab, database: str) -> bool:
    return database in scene.databases_of(database)


def check_final_backup(scene: BackupLab, place: str) -> None:
    """That what the record has named is whole, and the only thing of this tenant's in the store."""
    path = place.partition("/")[2]
    assert place == f"{scene.kept.name}/{path}"
    assert asyncio.run(scene.kept.manifest(path)).rows == {"public.big": LARGE}
    of_tenant = path.rpartition("/")[0]
    assert {key.rpartition("/")[0] for key in scene.objects() if key.startswith(of_tenant)} == {path}
    assert not scene.store.open_uploads()


def test_a_database_server_that_goes_away_during_a_final_backup_keeps_all_until_it_is_back_and_one_is_whole(
    scene: BackupLab,
) -> None:
    database = scene.tenant("one", LARGE, plan=LAST)
    scene.delete(TENANTS, "one")
    process = scene.caught("pg_dump")
    scene.lab.postgres.stop_server()
    go_on(process)
    wait_until(lambda: has_ended(process), 120, "its dump has ended")
    record = scene.record("one")["spec"]
    assert not record.get("finalBackup")
    scene.lab.postgres.start_server()
    assert is_there(scene, database)
    places: list[str] = []

    def made() -> bool:
        places.append(scene.record("one").get("spec", {}).get("finalBackup", ""))
        return bool(places[-1]) or (bool(places[:-1]) and not scene.record("one"))

    wait_until(made, LATER, lambda: f"{scene.record('one')}\n{scene.told(TENANTS, 'one')}")
    scene.wait_gone(TENANTS, "one", seconds=LATER)
    check_final_backup(scene, next(place for place in places if place))
    wait_until(lambda: not is_there(scene, database), 120, "now it is gone")
    scene.no_role_is_left()


def test_a_target_that_goes_away_during_a_final_backup_does_not_keep_it_from_being_made_but_all_from_being_destroyed(
    scene: BackupLab,
) -> None:
    database = scene.tenant("two", LARGE, plan=LAST)
    scene.delete(TENANTS, "two")
    process = scene.caught("pg_dump")
    with scene.lab.target_proxy.fault(Answer.of_status(503, "ServiceUnavailable")):
        scene.lab.target_proxy.cut_connections()
        go_on(process)
        wait_until(
            lambda: bool(scene.record("two")["spec"].get("finalBackup")),
            LATER,
            lambda: f"{scene.record('two')}\n{scene.told(TENANTS, 'two')}",
        )
        place = scene.record("two")["spec"]["finalBackup"]
        check_final_backup(scene, place)
        assert is_there(scene, database)
        assert scene.get(TENANTS, "two")
    scene.wait_gone(TENANTS, "two", seconds=LATER)
    wait_until(lambda: not is_there(scene, database), 120, "now it is gone")
    check_final_backup(scene, place)
    assert not scene.record("two")


def test_an_operator_that_dies_during_a_final_backup_makes_it_anew_and_leaves_one(scene: BackupLab) -> None:
    scene.tenant("three", LARGE, plan=LAST)
    scene.delete(TENANTS, "three")
    process = scene.caught("pg_dump")
    scene.operator.kill()
    go_on(process)
    scene.restart()
    again = scene.caught("pg_restore")  # it is being read back
    path = next(key for key in scene.objects() if "three" in key).rpartition("/")[0]
    go_on(again)
    scene.wait_gone(TENANTS, "three", seconds=LATER)
    check_final_backup(scene, f"{scene.kept.name}/{path}")
    scene.no_role_is_left()
