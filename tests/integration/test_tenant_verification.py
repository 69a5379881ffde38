"""Backups that are restored on trial: what is found, what stands in the way, and that nothing of it is ever left."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack

import psycopg
import pytest
from tests.controlplane.access import KubectlError
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.postgres import PostgresServer
from tests.controlplane.postgres_binaries import wheel_binaries
from tests.integration.backing import CONTENT, ROWS, keep_in
from tests.integration.tenants import condition
from tests.integration.trial_scene import (
    LARGEST_FILE,
    NEVER_OPEN,
    PATIENCE,
    TENANTS,
    WORKSPACE,
    Json,
    Scene,
)
from tests.scene.installation import admin_secret, apply
from tests.scene.lab import (
    all_ready,
    cluster_body,
    conditions_text,
    make_lab,
    server_body,
    tenant_body,
    wait_until,
    workspace_body,
)

from tenantry.reconcile.trial import REFUSED

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with ExitStack() as stack:
        management = stack.enter_context(ControlPlane("management"))
        target = stack.enter_context(ControlPlane("target"))
        postgres = stack.enter_context(PostgresServer(wheel_binaries()))
        spare = stack.enter_context(PostgresServer(wheel_binaries()))
        folder = tmp_path_factory.mktemp("store")
        lab = make_lab(management, target, postgres, tmp_path_factory.mktemp("lab"))
        kept, bodies = keep_in(folder, "lab")
        bodies[-1]["spec"]["verification"] = {"interval": "0s"}
        apply(
            management.access,
            workspace_body(WORKSPACE),
            *bodies,
            cluster_body("eu-1", backupStore=kept.name),
            server_body("shared-fra", postgres.access.port, capacity={"storage": "1Ti"}),
            admin_secret("spare-admin", spare.access),
            server_body("spare", spare.access.port, capacity={"storage": "1Ti"}, allowedWorkspaces={"from": "None"}),
        )
        stack.callback(lab.operator.stop)
        lab.operator.start()
        apply(management.access, *(tenant_body(name, WORKSPACE, database={"mode": "Shared"}) for name in TENANTS))
        wait_until(all_ready(lab, len(TENANTS)), 120, lambda: conditions_text(lab))
        scene = Scene(lab, spare, kept, folder)
        for name, more in TENANTS.items():
            with psycopg.connect(scene.uri(name), autocommit=True) as session:
                for statement in (*CONTENT, *more):
                    session.execute(statement.encode())
        yield scene


@pytest.fixture
def scene(built: Scene) -> Iterator[Scene]:
    """As it was made; and nothing of a trial is left afterwards, on any server."""
    built.capacity("1Ti")
    built.verification()
    yield built
    built.wait(lambda: not built.scratch() and not built.scratch(built.spare), "nothing of a trial is left")


def test_a_backup_is_restored_counted_and_dropped_and_tells_of_it(scene: Scene) -> None:
    before = scene.metric(f'tenantry_backup_verifications_total{{result="passed",store="{scene.kept.name}"}}')
    name = scene.begin()
    found = scene.tried(name)
    assert (found["result"], found["message"]) == ("Passed", f"{ROWS} rows of 2 tables, as many as were backed up")
    body = scene.read(name)
    assert body["status"]["phase"] == "Completed"
    assert "restored on trial at" in condition(body)["message"]
    manifest = asyncio.run(scene.kept.manifest(body["status"]["objectKey"]))
    assert manifest.database_size > 1024 * 1024
    after = scene.metric(f'tenantry_backup_verifications_total{{result="passed",store="{scene.kept.name}"}}')
    assert after == before + 1
    assert scene.metric(f'tenantry_backup_last_verified_timestamp_seconds{{store="{scene.kept.name}"}}') > 0
    taken_back = json.dumps({"status": {"verification": {"method": "Read"}}})
    with pytest.raises(KubectlError, match="what was found out by a restore is not taken back"):
        scene.lab.management.access.kubectl(
            "patch", "tnb", name, "-n", WORKSPACE, "--subresource=status", "--type=merge", "-p", taken_back
        )


def test_a_backup_with_other_rows_than_its_manifest_says_is_loud(scene: Scene) -> None:
    scene.verification(window=NEVER_OPEN)
    name = scene.begin()
    scene.says(name, "it is to be restored on trial")
    path = scene.read(name)["status"]["objectKey"]
    scene.tamper(path, rows={"public.customers": 1001, "public.hidden": 5})
    scene.verification()
    found = scene.tried(name)
    assert (found["result"], found["message"]) == (
        "Failed", "what was restored has not the rows that were backed up: table public.customers",
    )  # fmt: skip
    ready = condition(scene.read(name))
    assert (ready["status"], ready["reason"]) == ("False", "VerificationFailed")
    events = scene.lab.management.access.get("events", "-n", WORKSPACE)["items"]
    told = [each for each in events if each["involvedObject"]["name"] == name and each["type"] == "Warning"]
    assert [each["reason"] for each in told] == ["VerificationFailed"]
    assert scene.metric(f'tenantry_backup_verifications_total{{result="failed",store="{scene.kept.name}"}}') >= 1


@pytest.mark.parametrize("how", ["changed", "gone", "unsigned"])
def test_a_backup_that_was_changed_in_its_store_never_gets_into_a_database(scene: Scene, how: str) -> None:
    scene.verification(window=NEVER_OPEN)
    name = scene.begin()
    scene.says(name, "it is to be restored on trial")
    path = scene.folder / scene.read(name)["status"]["objectKey"]
    dump, manifest = path / "database.dump", path / "manifest.json"
    if how == "changed":
        content = bytearray(dump.read_bytes())
        content[-1] ^= 1
        dump.write_bytes(content)
    elif how == "gone":
        dump.unlink()
    else:
        manifest.write_text(manifest.read_text().replace('"public.customers": 1000', '"public.customers": 999'))
    begun = len(scene.lab.operator.log_text)
    scene.verification()
    found = scene.tried(name)
    assert found["result"] == "Failed"
    said = {
        "changed": "what the store holds is not what was backed up",
        "gone": "its database.dump is not in the store any more",
        "unsigned": "its manifest can't be believed: its signature is not one of this store's key",
    }
    assert found["message"].startswith(said[how])
    assert "CREATE" not in scene.lab.operator.log_text[begun:]


def test_without_room_or_where_nobody_can_tell_nothing_is_tried_and_nothing_is_said_against_the_backup(
    scene: Scene,
) -> None:
    scene.capacity(None)
    name = scene.begin()
    scene.says(name, "can't be told: the platform team has to set spec.capacity.storage")
    scene.capacity("64Mi")
    scene.says(name, "the server for trials has no room for it: it may take")
    assert scene.scratch() == set()
    scene.capacity("1Ti")
    assert scene.tried(name)["result"] == "Passed"


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"server": "nowhere"}, "spec.verification.server: there is no DatabaseServer 'nowhere'"),
        ({"window": {"schedule": "61 * * * *", "duration": "1h"}}, "spec.verification.window.schedule: "),
    ],
)
def test_a_store_whose_verification_makes_no_sense_says_so_and_takes_backups(
    scene: Scene, wanted: Json, said: str
) -> None:
    scene.verification(**wanted)

    def ready() -> Json:
        return condition(scene.lab.management.access.get("bks", scene.kept.name))

    scene.wait(lambda: said in ready()["message"], f"{said!r} is told")
    assert ready()["status"] == "True"
    name = scene.begin()
    scene.says(name, "it is to be restored on trial, which is not possible now: ")


def test_one_is_restored_at_a_time_and_no_tenant_gets_in(scene: Scene) -> None:
    names = [scene.begin("slow"), scene.begin("acme"), scene.begin("slow")]
    scene.wait(scene.is_being_filled, "one is being restored")
    (database,) = scene.scratch_databases()
    for tenant in TENANTS:
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            psycopg.connect(scene.uri(tenant), dbname=database).close()
    most = 0

    def all_tried() -> bool:
        nonlocal most
        most = max(most, len(scene.scratch_databases()))
        found = [scene.read(name)["status"].get("verification") or {} for name in names]
        return all(each.get("method") == "Restore" for each in found)

    scene.wait(all_tried, "all were restored", 3 * PATIENCE)
    assert most == 1
    assert [scene.tried(name)["result"] for name in names] == ["Passed"] * 3


def test_what_a_killed_operator_leaves_is_dropped_by_the_next_one_which_begins_anew(scene: Scene) -> None:
    name = scene.begin("slow")
    scene.wait(scene.is_being_filled, "it is being restored")
    scene.lab.operator.kill()
    left = scene.scratch()
    assert {each for each in left if each.startswith("verification/")}
    assert len(left) >= 5  # a database, three roles, a claim
    scene.lab.operator.start()
    scene.wait(lambda: not scene.scratch() & left, "what was left is gone")
    assert scene.tried(name)["result"] == "Passed"


def test_an_operator_that_is_stopped_drops_what_it_was_at(scene: Scene) -> None:
    name = scene.begin("slow")
    scene.wait(scene.is_being_filled, "it is being restored")
    scene.lab.operator.stop()
    try:
        assert scene.scratch() == set()
    finally:
        scene.lab.operator.start()
    assert scene.tried(name)["result"] == "Passed"


@pytest.mark.parametrize("how", ["restarts", "crashes"])
def test_a_server_that_goes_down_says_nothing_against_a_backup(scene: Scene, how: str) -> None:
    name = scene.begin("slow")
    scene.wait(scene.is_being_filled, "it is being restored")
    if how == "restarts":
        scene.lab.postgres.stop_server()
        scene.lab.postgres.start_server()
    else:
        process = scene.is_being_filled()
        assert process > 0
        os.kill(process, signal.SIGKILL)
    scene.says_nothing_of(name, "shared-fra")
    scene.capacity("2Ti")
    assert scene.tried(name, 2 * PATIENCE)["result"] == "Passed"


def test_a_server_with_less_room_than_it_was_said_to_have_says_nothing_against_a_backup(scene: Scene) -> None:
    scene.verification(server="spare")
    scene.spare.stop_server()
    scene.spare.start_server(largest_file=LARGEST_FILE)
    try:
        name = scene.begin("wide")
        scene.says_nothing_of(name, "spare")
        scene.says(name, "which is not possible now: the server for trials ")
        assert "spare" not in condition(scene.read(name))["message"]
    finally:
        scene.spare.stop_server()
        scene.spare.start_server()
    scene.capacity("2Ti", "spare")
    assert scene.tried(name)["result"] == "Passed"


def test_what_restored_code_finds_out_on_the_platforms_server_goes_to_the_log_and_not_to_the_workspace(
    scene: Scene,
) -> None:
    scene.verification(server="spare")
    name = scene.begin("nosy")
    found = scene.tried(name)
    assert (found["result"], found["message"]) == ("Failed", REFUSED)
    body = json.dumps([scene.read(name), scene.lab.management.access.get("events", "-n", WORKSPACE)["items"]])
    assert "tenantry_verify_" not in body
    assert str(scene.spare.access.port) not in found["message"]
    assert f" at {scene.spare.access.port}" in scene.lab.operator.log_text
    scene.lab.management.access.kubectl("delete", "tnb", name, "-n", WORKSPACE, "--timeout=90s")


def test_a_backup_that_is_deleted_during_its_trial_goes_with_all_of_it(scene: Scene) -> None:
    name = scene.begin("slow", deletionPolicy="Delete")
    scene.wait(scene.is_being_filled, "it is being restored")
    path = scene.folder / scene.read(name)["status"]["objectKey"]
    scene.lab.management.access.kubectl("delete", "tnb", name, "-n", WORKSPACE, "--timeout=90s")
    assert scene.scratch() == set()
    assert not path.exists() or not list(path.iterdir())


def test_a_server_of_its_own_takes_all_trials_whoever_may_use_it_and_is_not_let_go_of_meanwhile(scene: Scene) -> None:
    scene.verification(server="spare")
    name = scene.begin("slow")
    scene.wait(lambda: scene.scratch(scene.spare), "it is being restored there")
    assert scene.scratch() == set()
    scene.lab.management.access.kubectl("delete", "dbs", "spare", "--wait=false")
    scene.lab.management.access.kubectl("wait", "--for=delete", "dbs/spare", "--timeout=90s")
    assert scene.scratch(scene.spare) == set()
    scene.says(name, "the server for trials is not there, or is being deleted")
    assert "spare" not in condition(scene.read(name))["message"]  # no workspace may use it, or learn of it
    spare = server_body("spare", scene.spare.access.port, capacity={"storage": "1Ti"})
    apply(scene.lab.management.access, spare)
    assert scene.tried(name)["result"] == "Passed"
    assert f"trial of {name} on spare: passed" in scene.lab.operator.log_text


def test_what_a_killed_operator_leaves_on_a_server_is_dropped_before_that_is_let_go(scene: Scene) -> None:
    scene.verification(server="spare")
    name = scene.begin("slow")
    scene.wait(lambda: scene.scratch(scene.spare), "it is being restored there")
    scene.lab.operator.kill()
    assert scene.scratch(scene.spare)
    scene.lab.management.access.kubectl("delete", "dbs", "spare", "--wait=false")
    scene.lab.operator.start()
    scene.lab.management.access.kubectl("wait", "--for=delete", "dbs/spare", "--timeout=90s")
    assert scene.scratch(scene.spare) == set()
    spare = server_body("spare", scene.spare.access.port, capacity={"storage": "1Ti"})
    apply(scene.lab.management.access, spare)
    assert scene.tried(name)["result"] == "Passed"


def test_the_newest_backup_of_a_tenant_with_a_schedule_is_tried_by_the_clock(scene: Scene) -> None:
    yearly = {"backup": {"schedule": "0 0 1 1 *"}}
    scene.patch("tnp", "basic", {**yearly, "overridable": ["backup.schedule"]})
    name = scene.begin(verify="Read")
    scene.verification(interval="1m")
    assert scene.tried(name)["result"] == "Passed"

    def healthy() -> Json:
        return condition(scene.tenant(), "BackupHealthy")

    scene.wait(lambda: "one was restored on trial at" in healthy().get("message", ""), "that is told")
    assert healthy()["status"] == "True"
    assert scene.tenant()["status"]["backup"]["lastVerified"] == scene.tried(name)["time"]
    path = scene.read(name)["status"]["objectKey"]
    scene.tamper(path, rows={"public.customers": 1})
    scene.wait(lambda: healthy()["reason"] == "VerificationFailed", "it is loud when it is tried again")
    assert healthy()["status"] == "False"
    assert name in healthy()["message"]
    assert scene.metric('tenantry_backup_tenants{state="verification_failed"}') == 1
    newer = scene.begin(verify="Read")
    assert scene.tried(newer)["result"] == "Passed"
    scene.wait(lambda: healthy()["reason"] == "BackupCompleted", "a newer one is well")
    scene.lab.management.access.kubectl("delete", "tnb", newer, "-n", WORKSPACE, "--timeout=90s")
    scene.wait(lambda: healthy()["reason"] == "VerificationFailed", "what is not there any more proves nothing")
    assert scene.tenant()["status"]["backup"]["lastSuccess"] != scene.tried(name)["time"]
