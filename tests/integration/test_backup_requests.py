"""What annotations ask for is done once: a backup now, and a look through a store, wherever the operator dies."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from tests.integration.acting import manifest
from tests.integration.backing import put_all, signed
from tests.integration.backup_lab import KEPT, PATIENCE, BackupLab, backup_lab
from tests.scene.faulty import WORKSPACE
from tests.scene.lab import cluster_body, tenant_body, wait_until

from tenantry.api.identity import TenantIdentity
from tenantry.api.names import ANNOTATION_BACKUP_NOW, ANNOTATION_SYNC_FROM_STORE
from tenantry.api.resources import BACKUP_STORES, NAMESPACES, TENANT_BACKUPS, TENANT_RECORDS, TENANTS, Ref

Json = dict[str, Any]
OTHERS = 15
"""Tenants of which there are backups in the store only."""
EACH = 60
SHOWN = 5
MEBIBYTE = 1024 * 1024

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackupLab]:
    with backup_lab(tmp_path_factory.mktemp("lab")) as opened:
        yield opened


def annotate(lab: BackupLab, ref: Ref, name: str, value: str | None) -> None:
    answer = lab.api.patch(ref.path, {"metadata": {"annotations": {name: value}}}, dry=False)
    assert answer.status == 200, answer.message


def ask(lab: BackupLab, tenant: str, value: str) -> None:
    annotate(lab, Ref(TENANTS, WORKSPACE, tenant), ANNOTATION_BACKUP_NOW, value)


def requested(lab: BackupLab, tenant: str) -> Json:
    """What the Tenant says of its request."""
    found: Json = (lab.get(TENANTS, tenant).get("status", {}).get("backup") or {}).get("requested") or {}
    return found


def told(lab: BackupLab, tenant: str, value: str, text: str) -> None:
    def says() -> bool:
        found = requested(lab, tenant)
        return found.get("request") == value and text in found.get("message", "") and not found.get("backup")

    wait_until(says, PATIENCE, lambda: f"{text}: {requested(lab, tenant)}\n{lab.operator.log_text[-3000:]}")


def made(lab: BackupLab, tenant: str, value: str) -> str:
    """The TenantBackup of a request."""

    def name() -> str:
        found = requested(lab, tenant)
        return str(found.get("backup", "")) if found.get("request") == value else ""

    wait_until(lambda: bool(name()), PATIENCE, lambda: f"{requested(lab, tenant)}\n{lab.operator.log_text[-3000:]}")
    return name()


def backups_of(lab: BackupLab, tenant: str) -> set[str]:
    items = lab.api.get(TENANT_BACKUPS.path(WORKSPACE)).body["items"]
    return {body["metadata"]["name"] for body in items if body["spec"]["source"]["tenant"]["name"] == tenant}


def looked_at(lab: BackupLab, tenant: str, value: str) -> None:
    annotate(lab, Ref(TENANTS, WORKSPACE, tenant), "tenantry.io/requestedAt", value)
    wait_until(
        lambda: lab.get(TENANTS, tenant)["status"].get("lastHandledReconcileAt") == value,
        PATIENCE,
        lambda: lab.told(TENANTS, tenant),
    )


def test_a_backup_is_made_once_for_each_value_also_after_it_was_deleted_and_the_operator_restarted(
    lab: BackupLab,
) -> None:
    lab.tenant("now")
    ask(lab, "now", "2026-01-01T00:00:00Z")
    first = made(lab, "now", "2026-01-01T00:00:00Z")
    lab.ended(TENANT_BACKUPS, first, "Completed")
    assert lab.get(TENANT_BACKUPS, first)["spec"]["store"] == lab.kept.name
    lab.delete(TENANT_BACKUPS, first)
    lab.wait_gone(TENANT_BACKUPS, first)
    lab.operator.kill()
    lab.restart()
    looked_at(lab, "now", "1")
    assert backups_of(lab, "now") == set()
    ask(lab, "now", "again")
    second = made(lab, "now", "again")
    assert second != first
    assert backups_of(lab, "now") == {second}
    lab.ended(TENANT_BACKUPS, second, "Completed")
    annotate(lab, Ref(TENANTS, WORKSPACE, "now"), ANNOTATION_BACKUP_NOW, None)
    wait_until(lambda: not requested(lab, "now"), PATIENCE, lambda: lab.told(TENANTS, "now"))


def test_a_process_that_died_between_the_backup_and_the_note_of_it_makes_no_second_one(lab: BackupLab) -> None:
    lab.tenant("twice")
    ask(lab, "twice", "v1")
    name = made(lab, "twice", "v1")
    lab.ended(TENANT_BACKUPS, name, "Completed")
    record = lab.record("twice")
    assert record["spec"]["backedUpFor"] == "v1"
    lab.operator.kill()
    path = TENANT_RECORDS.path(name=record["metadata"]["name"])
    assert lab.api.patch(path, {"spec": {"backedUpFor": None}}, dry=False).status == 200
    lab.restart()
    wait_until(
        lambda: lab.record("twice")["spec"].get("backedUpFor") == "v1", PATIENCE, lambda: str(lab.record("twice"))
    )
    assert backups_of(lab, "twice") == {name}


def test_where_no_backup_can_be_made_the_tenant_says_why_and_it_is_made_up_for_where_that_makes_sense(
    lab: BackupLab,
) -> None:
    lab.tenant("asleep")
    lab.lab.apply(tenant_body("bare", WORKSPACE, plan=KEPT, database={"mode": "None"}))
    lab.ready("bare")
    ask(lab, "bare", "v")
    told(lab, "bare", "v", "mode None")

    path = Ref(TENANTS, WORKSPACE, "asleep").path
    assert lab.api.patch(path, {"spec": {"suspend": True}}, dry=False).status == 200
    ask(lab, "asleep", "v")
    told(lab, "asleep", "v", "spec.suspend is true")
    assert backups_of(lab, "asleep") == set()

    lab.lab.apply(cluster_body("eu-1"))
    assert lab.api.patch(path, {"spec": {"suspend": False}}, dry=False).status == 200
    told(lab, "asleep", "v", "names no backupStore")
    lab.lab.apply(cluster_body("eu-1", backupStore=lab.kept.name))
    lab.ended(TENANT_BACKUPS, made(lab, "asleep", "v"), "Completed")

    taken = backups_of(lab, "asleep").pop().rpartition("-")[0]
    assert taken == "asleep-now"


def test_a_name_that_somebody_else_has_taken_is_told_and_a_deleted_tenant_makes_none(lab: BackupLab) -> None:
    lab.tenant("taken")
    ask(lab, "taken", "v")
    name = made(lab, "taken", "v")
    lab.ended(TENANT_BACKUPS, name, "Completed")
    lab.delete(TENANT_BACKUPS, name)
    lab.wait_gone(TENANT_BACKUPS, name)
    lab.operator.kill()
    path = TENANT_RECORDS.path(name=lab.record("taken")["metadata"]["name"])
    assert lab.api.patch(path, {"spec": {"backedUpFor": None}}, dry=False).status == 200
    spec = {"source": {"tenant": {"name": "taken"}}, "store": "nowhere"}
    answer = lab.api.create(TENANT_BACKUPS, manifest(TENANT_BACKUPS, name, WORKSPACE, spec=spec), dry=False)
    assert answer.status == 201, answer.message
    lab.restart()
    told(lab, "taken", "v", "is there that was made otherwise")
    before = backups_of(lab, "taken")
    finalizers = [*lab.get(TENANTS, "taken")["metadata"]["finalizers"], "test.tenantry.io/held"]
    tenant = Ref(TENANTS, WORKSPACE, "taken").path
    assert lab.api.patch(tenant, {"metadata": {"finalizers": finalizers}}, dry=False).status == 200
    lab.delete(TENANTS, "taken")
    ask(lab, "taken", "too late")
    wait_until(
        lambda: "tenantry.io/tenant" not in lab.get(TENANTS, "taken")["metadata"]["finalizers"],
        PATIENCE,
        lambda: lab.told(TENANTS, "taken"),
    )
    assert backups_of(lab, "taken") == before
    assert lab.api.patch(tenant, {"metadata": {"finalizers": []}}, dry=False).status == 200


def test_a_look_through_a_store_goes_on_wherever_it_was_killed_in_bounded_memory(lab: BackupLab) -> None:
    identity = TenantIdentity(
        str(
            lab.api.get("/api/v1/namespaces/tenantry-system/configmaps/tenantry-identity").body["data"]["managementId"]
        ),
        WORKSPACE,
        lab.api.get(NAMESPACES.path(name=WORKSPACE)).body["metadata"]["uid"],
        "x",
    )
    objects: dict[str, bytes] = {}
    for number, day in itertools.product(range(OTHERS), range(EACH)):
        whose = TenantIdentity(identity.management_id, WORKSPACE, identity.workspace_uid, f"other-{number}")
        slot = f"2025-{1 + day // 28:02}-{1 + day % 28:02}T03:00:00Z"
        run = f"{slot[:4]}{slot[5:7]}{slot[8:10]}t030000z-{number:08x}"
        objects |= signed(lab.kept, whose, run, slot=slot)
    asyncio.run(put_all(lab.kept, objects))
    others = {f"other-{number}" for number in range(OTHERS)}

    def found() -> list[Json]:
        items: list[Json] = lab.api.get(TENANT_BACKUPS.path(WORKSPACE)).body["items"]
        return [body for body in items if body["spec"]["source"]["tenant"]["name"] in others]

    resident = psutil.Process(lab.operator.pid).memory_info().rss
    annotate(lab, Ref(BACKUP_STORES, "", lab.kept.name), ANNOTATION_SYNC_FROM_STORE, "v")
    for count in (1, OTHERS * SHOWN // 2):  # in the middle of making them
        wait_until(lambda count=count: len(found()) >= count, PATIENCE, lambda: lab.operator.log_text[-3000:])  # type: ignore[misc]  # bound for the loop
        grown = psutil.Process(lab.operator.pid).memory_info().rss - resident
        assert grown < 64 * MEBIBYTE, f"{grown / MEBIBYTE:.0f} MiB more"
        lab.operator.kill()
        assert len(found()) < OTHERS * SHOWN
        lab.restart()
        resident = psutil.Process(lab.operator.pid).memory_info().rss

    def sync() -> Json:
        status: Json = lab.api.get(BACKUP_STORES.path(name=lab.kept.name)).body["status"]["sync"]
        return status

    wait_until(lambda: bool(sync().get("completedAt")), PATIENCE, lambda: f"{sync()}\n{lab.operator.log_text[-3000:]}")
    assert len(found()) == OTHERS * SHOWN
    assert sync()["left"] == OTHERS * (EACH - SHOWN), json.dumps(sync())
    slots = {body["metadata"]["annotations"]["tenantry.io/scheduled-for"] for body in found()}
    assert slots == {"2025-02-28T03:00:00Z", *(f"2025-03-0{day}T03:00:00Z" for day in range(1, SHOWN))}
    wait_until(
        lambda: all(body.get("status", {}).get("phase") == "Completed" for body in found()),
        PATIENCE,
        lambda: json.dumps([body.get("status") for body in found()])[-3000:],
    )
