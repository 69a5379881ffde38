"""TenantBackups as a workspace's admin makes them: completed when read back, failed with a reason, never in between."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.controlplane.object_stores import MINISTACK, RCLONE, StoreServer
from tests.controlplane.postgres_binaries import wheel_binaries
from tests.integration.backing import PATIENCE, ROWS, Kept, backup, ended, fill, path_of, read, register, waits
from tests.integration.tenants import Whereabouts, Workbench, condition, wait_for
from tests.scene.stage import SERVER_15

from tenantry.api.resources import NAMESPACES, TENANT_BACKUPS, Ref

Json = dict[str, Any]
SHARED = {"mode": "Shared"}

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, StoreServer]]:
    with ExitStack() as stack:
        yield {kind: stack.enter_context(StoreServer(kind)) for kind in (RCLONE, MINISTACK)}


@pytest.fixture
def where(workbench: Workbench) -> Whereabouts:
    """Tenant `acme` with something in its database."""
    workbench.make(database=SHARED)
    found = workbench.whereabouts()
    fill(workbench, found)
    return found


@pytest.fixture
def kept(workbench: Workbench, servers: dict[str, StoreServer]) -> Kept:
    return register(workbench, servers[RCLONE].access)


def restored_as_sql(archive: bytes) -> str:
    done = subprocess.run(
        [wheel_binaries() / "pg_restore", "--file=-"], input=archive, capture_output=True, check=True, timeout=60
    )
    return done.stdout.decode()


@pytest.mark.parametrize(("place", "encrypted"), [(RCLONE, False), (MINISTACK, True), ("folder", True)])
def test_a_completed_backup_is_whole_signed_and_where_its_status_says(
    workbench: Workbench,
    where: Whereabouts,
    servers: dict[str, StoreServer],
    place: str,
    encrypted: bool,
    tmp_path: Path,
) -> None:
    kept = register(workbench, tmp_path / "kept" if place == "folder" else servers[place].access, encrypted=encrypted)
    workbench.apply(backup(workbench, "first", kept.name))
    status = ended(workbench, "first", "Completed", "BackupCompleted")["status"]
    path = status["objectKey"]
    assert path.startswith(f"{path_of(workbench, where)}/")
    assert (status["rows"], status["tables"], status["encrypted"]) == (ROWS, 2, encrypted)
    assert status["verification"]["result"] == "Passed"
    manifest = asyncio.run(kept.manifest(path))
    assert manifest.rows == {"public.customers": 1000, "public.hidden": 5}
    assert (manifest.database.size, manifest.database.sha256) == (status["sizeBytes"], status["sha256"])
    archive = asyncio.run(kept.dump(path))
    assert hashlib.sha256(archive).hexdigest() == manifest.database.content_sha256
    assert "customer 1000" in restored_as_sql(archive)
    assert asyncio.run(kept.keys()) == {f"{path}/manifest.json", f"{path}/{manifest.database.name}"}
    assert workbench.ask("SELECT 1 FROM pg_roles WHERE rolname = %s", f"{where.database}_dump") == []


def test_a_backup_on_a_server_before_16_is_made_by_the_admin_role(workbench: Workbench, kept: Kept) -> None:
    workbench.make(database={"mode": "Shared", "shared": {"server": SERVER_15}})
    fill(workbench, workbench.whereabouts())
    workbench.apply(backup(workbench, "first", kept.name))
    status = ended(workbench, "first", "Completed", "BackupCompleted")["status"]
    assert status["pgVersion"].startswith("15.")
    assert status["rows"] == ROWS


def test_what_can_not_be_backed_up_says_why_and_waits(workbench: Workbench, kept: Kept) -> None:
    workbench.make("bare")
    workbench.apply(
        backup(workbench, "no-store", "nowhere"),
        backup(workbench, "no-tenant", kept.name),
        backup(workbench, "no-database", kept.name, tenant="bare"),
    )
    assert "'nowhere'" in condition(waits(workbench, "no-store", "StoreNotFound"))["message"]
    assert "'acme'" in condition(waits(workbench, "no-tenant", "TenantNotFound"))["message"]
    assert "mode None" in condition(waits(workbench, "no-database", "NoDatabase"))["message"]
    workbench.make(database=SHARED)
    ended(workbench, "no-tenant", "Completed", "BackupCompleted")


def test_another_workspace_can_neither_use_the_store_nor_name_the_tenant(
    workbench: Workbench, where: Whereabouts, servers: dict[str, StoreServer]
) -> None:
    kept = register(workbench, servers[RCLONE].access)
    workbench.stage.management.kubectl(
        "patch", "bks", kept.name, "--type=merge", "-p",
        '{"spec":{"allowedWorkspaces":{"from":"Selector","selector":{"matchLabels":{"test":"nobody"}}}}}',
    )  # fmt: skip
    workbench.apply(backup(workbench, "first", kept.name))
    waits(workbench, "first", "StoreNotFound")
    other = workbench.make_workspace(f"{workbench.prefix}-other")
    body = backup(workbench, "theirs", kept.name)
    body["metadata"]["namespace"] = other
    workbench.apply(body)
    ref = Ref(TENANT_BACKUPS, other, "theirs")
    wait_for(lambda: condition(workbench.management.get(ref.path).body), "it was looked at", PATIENCE)
    assert asyncio.run(kept.keys()) == set()


def test_a_backup_goes_only_forward_and_its_spec_stays(workbench: Workbench, where: Whereabouts, kept: Kept) -> None:
    workbench.apply(backup(workbench, "first", kept.name))
    ended(workbench, "first", "Completed", "BackupCompleted")
    path = Ref(TENANT_BACKUPS, workbench.workspace, "first").path
    answer = workbench.management.patch(path, {"spec": {"store": "other"}}, dry=False)
    assert answer.status == 422
    assert "a backup can't be changed" in answer.message
    for phase in ("Running", "Failed", None):
        answer = workbench.management.patch(f"{path}/status", {"status": {"phase": phase}}, dry=False)
        assert answer.status == 422, phase
        assert "only goes forward" in answer.message


def test_deleting_a_backup_deletes_what_is_in_the_store_only_where_that_is_its_policy(
    workbench: Workbench, where: Whereabouts, kept: Kept
) -> None:
    workbench.apply(
        backup(workbench, "goes", kept.name, deletionPolicy="Delete"), backup(workbench, "stays", kept.name)
    )
    paths = {
        name: ended(workbench, name, "Completed", "BackupCompleted")["status"]["objectKey"]
        for name in ("goes", "stays")
    }
    workbench.kubectl("delete", "tnb", "goes", "stays", "--timeout=90s")
    left = asyncio.run(kept.keys())
    assert {key.rpartition("/")[0] for key in left} == {paths["stays"]}
    asyncio.run(kept.manifest(paths["stays"]))


def test_a_forged_status_leads_to_nobody_elses_backup(workbench: Workbench, where: Whereabouts, kept: Kept) -> None:
    workbench.apply(
        backup(workbench, "mine", kept.name, deletionPolicy="Delete"), backup(workbench, "other", kept.name)
    )
    victim = ended(workbench, "other", "Completed", "BackupCompleted")["status"]["objectKey"]
    ended(workbench, "mine", "Completed", "BackupCompleted")
    path = Ref(TENANT_BACKUPS, workbench.workspace, "mine").path
    answer = workbench.management.patch(f"{path}/status", {"status": {"objectKey": victim}}, dry=False)
    assert answer.status == 200, answer.message
    workbench.kubectl("delete", "tnb", "mine", "--timeout=90s")
    asyncio.run(kept.manifest(victim))


def test_backups_outlive_their_workspace_whatever_their_policy(
    workbench: Workbench, where: Whereabouts, kept: Kept
) -> None:
    workbench.apply(backup(workbench, "first", kept.name, deletionPolicy="Delete"))
    path = ended(workbench, "first", "Completed", "BackupCompleted")["status"]["objectKey"]
    workbench.management.delete(NAMESPACES.path(name=workbench.workspace), dry=False)
    wait_for(lambda: not read(workbench, "first"), "the TenantBackup is gone", PATIENCE)
    asyncio.run(kept.manifest(path))


def test_a_backup_whose_workspace_is_deleted_while_it_is_made_goes_and_leaves_nothing(
    workbench: Workbench, where: Whereabouts, kept: Kept
) -> None:
    server = workbench.stage.postgres_18
    with contextlib.closing(psycopg.connect(server.superuser_dsn(where.database))) as session:
        session.execute("LOCK TABLE customers")  # so that it does not come to its end
        workbench.apply(backup(workbench, "first", kept.name))
        wait_for(lambda: read(workbench, "first").get("status", {}).get("phase") == "Running", "it is made", PATIENCE)
        workbench.management.delete(NAMESPACES.path(name=workbench.workspace), dry=False)
        wait_for(lambda: not read(workbench, "first"), "the TenantBackup is gone", PATIENCE)
    wait_for(lambda: not asyncio.run(kept.keys()), "nothing is in the store", PATIENCE)
    role = f"{where.database}_dump"
    wait_for(lambda: not workbench.ask("SELECT 1 FROM pg_roles WHERE rolname = %s", role), "no role is left", PATIENCE)


def test_a_backup_whose_time_is_over_goes_but_never_the_last_good_one(
    workbench: Workbench, where: Whereabouts, kept: Kept
) -> None:
    workbench.apply(backup(workbench, "older", kept.name, ttl="1s", deletionPolicy="Delete"))
    first = ended(workbench, "older", "Completed", "BackupCompleted")["status"]
    assert first["expiresAt"] > first["completedAt"]
    workbench.kubectl("annotate", "tnb", "older", "tenantry.io/requestedAt=1")
    assert read(workbench, "older")
    workbench.apply(backup(workbench, "newer", kept.name, ttl="1s", deletionPolicy="Delete"))
    last = ended(workbench, "newer", "Completed", "BackupCompleted")["status"]["objectKey"]
    workbench.kubectl("annotate", "tnb", "older", "--overwrite", "tenantry.io/requestedAt=2")
    wait_for(lambda: not read(workbench, "older"), "the older one is gone", PATIENCE)
    assert {key.rpartition("/")[0] for key in asyncio.run(kept.keys())} == {last}


def test_a_store_that_can_not_be_used_says_which_field_is_wrong(
    workbench: Workbench, servers: dict[str, StoreServer]
) -> None:
    access = servers[RCLONE].access
    kept = register(workbench, access)
    secret_name = f"{kept.name}-credentials"

    def told(reason: str) -> str:
        ref = Ref(TENANT_BACKUPS, "", kept.name)
        path = ref.path.replace("tenantbackups", "backupstores")

        def ready() -> Json | None:
            found = condition(workbench.management.get(path).body)
            return found if found.get("reason") == reason else None

        return str(wait_for(ready, f"{kept.name} is {reason}", PATIENCE)["message"])

    def credentials(**values: str) -> None:
        body = {
            "apiVersion": "v1", "kind": "Secret", "stringData": access.credentials | values,
            "metadata": {"name": secret_name, "namespace": "tenantry-system"},
        }  # fmt: skip
        workbench.apply(body)

    credentials(secretAccessKey="wrong-but-secret")
    message = told("Unauthorized")
    assert "spec.credentialsSecretRef" in message
    assert "wrong-but-secret" not in message
    credentials()
    told("Ready")
    body: Json = {
        "apiVersion": "v1", "kind": "Secret", "stringData": {"key": "short"},
        "metadata": {"name": f"{kept.name}-signing", "namespace": "tenantry-system"},
    }  # fmt: skip
    workbench.apply(body)
    assert "spec.signingSecretRef: the key has fewer than 32 characters" in told("StoreSecretInvalid")


async def test_no_secret_is_in_what_is_told_of_a_backup(workbench: Workbench, servers: dict[str, StoreServer]) -> None:
    workbench.make(database=SHARED)
    found = workbench.whereabouts()
    fill(workbench, found)
    kept = register(workbench, servers[RCLONE].access, encrypted=True)
    workbench.apply(backup(workbench, "first", kept.name))
    body = ended(workbench, "first", "Completed", "BackupCompleted")
    password = workbench.secret(found, "tenant-database")["password"]
    secrets = [
        password,
        kept.signing_key,
        *kept.location.credentials.values(),
        workbench.stage.postgres_18.admin_password,
    ]
    assert kept.key is not None
    secrets.append(kept.key.identity)
    everything = [str(body), workbench.stage.log.read_text(), str(await kept.keys())]
    everything.append((await kept.store.get(f"{body['status']['objectKey']}/manifest.json", most=10**6)).decode())
    everything.append(
        str(workbench.management.get(f"/apis/events.k8s.io/v1/namespaces/{workbench.workspace}/events").body)
    )
    for value in secrets:
        assert value
        assert not [text for text in everything if value in text]
