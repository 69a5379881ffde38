"""Backups that are in a store already: found again by whose they are, by nobody else, and only if they are believed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.controlplane.object_stores import RCLONE, StoreServer
from tests.integration.acting import manifest
from tests.integration.backing import (
    PATIENCE,
    ROWS,
    Kept,
    backup,
    ended,
    fill,
    put_all,
    register,
    signed,
    waits,
)
from tests.integration.tenants import Whereabouts, Workbench, condition, wait_for

from tenantry.api.names import ANNOTATION_SYNC_FROM_STORE
from tenantry.api.resources import BACKUP_STORES, TENANT_BACKUPS, Ref
from tenantry.cli.main import main

Json = dict[str, Any]
SHARED = {"mode": "Shared"}
RUN = "20260101t030000z-0000000{}"
SLOT = "2026-01-0{}T03:00:00Z"
FOREIGN_KEY = "x" * 40

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def bucket() -> Iterator[StoreServer]:
    with StoreServer(RCLONE) as server:
        yield server


@pytest.fixture
def kept(workbench: Workbench, bucket: StoreServer) -> Kept:
    return register(workbench, bucket.access)


@pytest.fixture
def where(workbench: Workbench) -> Whereabouts:
    """Tenant `acme`; most of the backups here are not of its database, and say only that they are its own."""
    workbench.make(database=SHARED)
    return workbench.whereabouts()


def stored(workbench: Workbench, name: str, kept: Kept, run: str, **more: Any) -> Json:
    body = backup(workbench, name, kept.name)
    body["spec"] |= {"source": {"tenant": {"name": "acme"}, "stored": {"run": run, **more}}}
    return body


def sync(workbench: Workbench, kept: Kept, value: str) -> Json:
    """Ask for it; what came of it."""
    workbench.kubectl("annotate", "--overwrite", "bks", kept.name, f"{ANNOTATION_SYNC_FROM_STORE}={value}")

    def done() -> Json | None:
        told: Json = seen(workbench, kept).get("status", {}).get("sync") or {}
        return told if told.get("request") == value and told.get("completedAt") else None

    return wait_for(done, lambda: json.dumps(seen(workbench, kept).get("status")), PATIENCE)


def seen(workbench: Workbench, kept: Kept) -> Json:
    return workbench.management.get(Ref(BACKUP_STORES, "", kept.name).path).body


def backups(workbench: Workbench, workspace: str = "") -> dict[str, Json]:
    answer = workbench.management.get(TENANT_BACKUPS.path(workspace or workbench.workspace))
    return {body["metadata"]["name"]: body for body in answer.body["items"]}


def counts(told: Json) -> tuple[int, ...]:
    return tuple(told[key] for key in ("found", "present", "made", "left", "unmapped", "quarantined"))


def told_of(kept: Kept, told: Json) -> dict[str, str]:
    """Why each that is not believed is not, by what its path ends with."""
    return {each["path"]: each["reason"] for each in told.get("quarantine", ())}


def test_a_backup_whose_object_was_deleted_is_taken_up_again_with_the_status_that_it_had(
    workbench: Workbench, where: Whereabouts, kept: Kept
) -> None:
    fill(workbench, where)
    workbench.apply(backup(workbench, "first", kept.name))
    before = ended(workbench, "first", "Completed", "BackupCompleted")["status"]
    workbench.apply(stored(workbench, "twin", kept, before["run"]))
    assert "'first' is of this very backup" in condition(waits(workbench, "twin", "InUse"))["message"]
    workbench.kubectl("delete", "tnb", "first", "--timeout=90s")
    asyncio.run(kept.manifest(before["objectKey"]))
    after = ended(workbench, "twin", "Completed", "BackupCompleted")["status"]
    changed = {key for key in before if before[key] != after.get(key)}
    assert changed <= {"conditions", "worker", "observedGeneration"}, (before, after)
    assert f"found in the store again: {ROWS} rows" in condition({"status": after})["message"]


def test_what_is_not_there_or_not_believed_fails_with_the_reason_and_its_deletion_leaves_it_as_it_is(
    workbench: Workbench, where: Whereabouts, kept: Kept
) -> None:
    cut, unsigned, foreign = (RUN.format(number) for number in (1, 2, 3))
    objects = {
        **signed(kept, where.identity, cut),
        **signed(kept, where.identity, unsigned),
        **signed(replace(kept, signing_key=FOREIGN_KEY), where.identity, foreign),
    }
    objects[next(key for key in objects if f"{cut}/database" in key)] = b"du"
    objects[next(key for key in objects if f"{unsigned}/manifest" in key)] = b"{}"
    asyncio.run(put_all(kept, objects))
    expected = {
        RUN.format(9): "has no such backup of this tenant",
        cut: "database.dump has 2 bytes, and was written with 4",
        unsigned: "it is not signed",
        foreign: "its signature is not one of this store's key",
    }
    for run in expected:
        workbench.apply(stored(workbench, f"b-{run}", kept, run))
    for run, why in expected.items():
        assert why in condition(ended(workbench, f"b-{run}", "Failed", "NotInStore"))["message"]
    workbench.kubectl("delete", "tnb", "--all", "--timeout=90s")
    assert asyncio.run(kept.keys()) == set(objects)


def test_a_namesake_workspace_gets_nothing_whatever_its_admin_writes(
    workbench: Workbench, where: Whereabouts, kept: Kept
) -> None:
    run = RUN.format(1)
    former = replace(where.identity, management_id="former")
    asyncio.run(put_all(kept, {**signed(kept, where.identity, run), **signed(kept, former, run)}))
    other = workbench.make_workspace(f"{workbench.prefix}-thief")
    spec = {"tenant": {"name": "acme"}, "stored": {"run": run, "workspace": workbench.workspace}}
    for name, extra in (("plain", {}), ("former", {"managementId": "former"})):
        wanted = {"source": {**spec, "stored": {**spec["stored"], **extra}}, "store": kept.name}
        workbench.apply(manifest(TENANT_BACKUPS, name, other, spec=wanted))

    def of(name: str) -> Json:
        return workbench.management.get(Ref(TENANT_BACKUPS, other, name).path).body

    wait_for(lambda: of("plain").get("status", {}).get("phase") == "Failed", lambda: str(of("plain")), PATIENCE)
    assert condition(of("plain"))["reason"] == "NotInStore"
    wait_for(lambda: condition(of("former")).get("reason") == "NotInStore", lambda: str(of("former")), PATIENCE)
    assert of("former")["status"]["phase"] == "Pending"
    assert "formerManagementIds" in condition(of("former"))["message"]

    path = next(iter(signed(kept, where.identity, run))).rpartition("/")[0]
    forged = {"objectKey": path, "run": run, "phase": "Completed"}
    answer = workbench.management.patch(
        f"{Ref(TENANT_BACKUPS, other, 'former').path}/status", {"status": forged}, dry=False
    )
    assert answer.status == 200, answer.message
    told = sync(workbench, kept, "1")
    assert counts(told) == (1, 0, 1, 0, 0, 0)
    assert set(backups(workbench, other)) == {"plain", "former"}
    assert set(backups(workbench)) == {f"acme-{run}"}
    workbench.management.delete(Ref(TENANT_BACKUPS, other, "former").path, dry=False)
    wait_for(lambda: not of("former").get("spec"), "it is gone", PATIENCE)
    assert len(asyncio.run(kept.keys())) == 4


def test_a_sync_makes_the_newest_few_tells_of_the_rest_and_quarantines_what_it_does_not_believe(
    workbench: Workbench, where: Whereabouts, kept: Kept
) -> None:
    identity = where.identity
    objects: dict[str, bytes] = {}
    for day in range(1, 9):
        objects |= signed(kept, identity, f"2026010{day}t030000z-0000000{day}", slot=SLOT.format(day))
    objects |= signed(kept, identity, "20251224t000000z-000000aa")
    objects |= signed(kept, replace(identity, incarnation=2), "20260201t000000z-000000bb")
    stranger = replace(identity, workspace="gone", workspace_uid="11111111-2222-4333-8444-555555555555")
    objects |= signed(kept, stranger, "20260101t000000z-000000cc")
    bad = rejected(kept, where)
    asyncio.run(put_all(kept, {**objects, **{key: body for key, (body, _) in bad.items()}}))
    before = asyncio.run(kept.keys())

    told = sync(workbench, kept, "now")
    assert counts(told) == (16, 0, 7, 3, 1, 5), told
    reasons = told_of(kept, told)
    for key, (_, why) in bad.items():
        if why:
            assert why in reasons[key.rpartition("/")[0]], (key, reasons)
    assert [(each["uid"], each["name"], each["backups"]) for each in told["unmappedWorkspaces"]] == [
        (stranger.workspace_uid, "gone", 1)
    ]
    made = backups(workbench)
    assert set(made) == {
        *(f"acme-2026010{day}t030000z-0000000{day}" for day in range(4, 9)),
        "acme-20251224t000000z-000000aa",
        "acme-20260201t000000z-000000bb",
    }
    for name in made:
        ended(workbench, name, "Completed", "BackupCompleted")
    labelled = {name for name, body in made.items() if body["metadata"].get("labels")}
    assert len(labelled) == 5
    assert asyncio.run(kept.keys()) == before, "nothing is moved or deleted"

    uids = {name: body["metadata"]["uid"] for name, body in made.items()}
    again = sync(workbench, kept, "once-more")
    assert counts(again) == (16, 7, 0, 3, 1, 5), again
    assert {name: body["metadata"]["uid"] for name, body in backups(workbench).items()} == uids
    told_before = seen(workbench, kept)["status"]["sync"]
    workbench.kubectl("annotate", "--overwrite", "bks", kept.name, "tenantry.io/requestedAt=later")
    wait_for(lambda: seen(workbench, kept)["status"].get("lastHandledReconcileAt") == "later", "looked at", PATIENCE)
    assert seen(workbench, kept)["status"]["sync"] == told_before, "one value, one look"


def rejected(kept: Kept, where: Whereabouts) -> dict[str, tuple[bytes, str]]:
    """Objects that are not to be believed, and why; no reason for the dumps beside them."""
    found: dict[str, tuple[bytes, str]] = {}

    def add(run: str, keep: Kept, why: str, change: Any = None, dump: bytes | None = None) -> None:
        for key, body in signed(keep, where.identity, run).items():
            if key.endswith("/manifest.json"):
                found[key] = (change(body) if change else body, why)
            else:
                found[key] = (body if dump is None else dump, "")

    add(RUN.format(7), replace(kept, signing_key=FOREIGN_KEY), "its signature is not one of this store's key")
    add(RUN.format(2), kept, "it is no JSON", lambda body: body[: len(body) // 2])
    add(RUN.format(3), kept, "database.dump has 2 bytes", dump=b"du")
    add(RUN.format(4), kept, "it is not signed", lambda _: json.dumps({"version": 1}).encode())
    elsewhere = next(key for key in signed(kept, where.identity, RUN.format(5)) if key.endswith("/manifest.json"))
    moved = signed(kept, where.identity, RUN.format(6))
    found[elsewhere] = (next(body for key, body in moved.items() if key.endswith("/manifest.json")), "its signature")
    return found


def test_backups_of_a_former_installation_are_found_where_the_store_names_it(
    workbench: Workbench, where: Whereabouts, tmp_path: Path
) -> None:
    kept = register(workbench, tmp_path / "kept")
    former = replace(where.identity, management_id="the-former-one", workspace="as-it-was-called")
    asyncio.run(put_all(kept, signed(kept, former, RUN.format(1))))
    told = sync(workbench, kept, "1")
    assert counts(told) == (0, 0, 0, 0, 0, 0)
    assert where.identity.management_id in told["message"]
    workbench.kubectl(
        "patch", "bks", kept.name, "--type=merge", "-p", '{"spec":{"formerManagementIds":["the-former-one"]}}'
    )
    assert counts(sync(workbench, kept, "2")) == (1, 0, 1, 0, 0, 0)
    name = f"acme-{RUN.format(1)}"
    body = ended(workbench, name, "Completed", "BackupCompleted")
    assert body["spec"]["source"]["stored"]["managementId"] == "the-former-one"
    assert body["status"]["objectKey"].startswith("the-former-one/")
    workbench.apply(stored(workbench, "unknown", kept, RUN.format(1), managementId="another"))
    waits(workbench, "unknown", "NotInStore")


def test_people_list_a_store_and_have_one_of_its_backups_back_by_its_path(
    workbench: Workbench, where: Whereabouts, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = signed(kept, where.identity, RUN.format(1), slot=SLOT.format(1))
    stranger = replace(where.identity, name="other", workspace_uid="11111111-2222-4333-8444-555555555555")
    strangers = signed(kept, stranger, RUN.format(2))
    cut = signed(kept, where.identity, RUN.format(3))
    cut[next(key for key in cut if "database" in key)] = b"du"
    asyncio.run(put_all(kept, {**objects, **strangers, **cut}))
    monkeypatch.setenv("KUBECONFIG", str(workbench.stage.management.kubeconfig_path))

    def run(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, ["backups", *arguments, "--store", kept.name])
        return done.exit_code, done.output

    code, shown = run("list", "--tenant", "acme")
    assert code == 0, shown
    lines = [line.split() for line in shown.splitlines()]
    path = next(iter(objects)).rpartition("/")[0]
    good = next(line for line in lines if path in line)
    assert good[2:6] == ["2026-01-01T03:00:00Z", "4", SLOT.format(1), "-"]
    assert "database.dump has 2 bytes" in shown
    assert "other" not in shown

    assert run("recover", "no/such/path")[0] == 1
    code, told = run("recover", next(iter(strangers)).rpartition("/")[0])
    assert (code, "no namespace has the UID" in told) == (1, True), told
    code, told = run("recover", path)
    assert code == 0, told
    name = f"acme-{RUN.format(1)}"
    body = ended(workbench, name, "Completed", "BackupCompleted")
    assert not body["metadata"].get("labels"), "asked for by a person: no schedule takes it away"
    assert "TENANTBACKUP" in run("list")[1]
    assert f"{workbench.workspace}/{name}" in run("list")[1]
    assert run("recover", path)[0] == 1
