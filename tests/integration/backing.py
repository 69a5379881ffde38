"""What tests about backups have in common: stores, backups of a tenant, and a look at what is in the store."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from tests.controlplane.object_stores import StoreAccess
from tests.integration.acting import manifest
from tests.integration.tenants import Whereabouts, Workbench, condition, wait_for
from tests.scene.installation import secret

from tenantry.adapters.stores.client import ObstoreStores
from tenantry.adapters.stores.sealing import AgeSealer
from tenantry.api.identity import TenantIdentity
from tenantry.api.resources import TENANT_BACKUPS, TENANT_RECORDS, Ref
from tenantry.api.tenantrecord import TenantRecord
from tenantry.desired.manifest import MOST_BYTES, Manifest, Part, decode, encode, tenant_path
from tenantry.ports.backup import AgeKey, ObjectStore, StoreLocation

Json = dict[str, Any]

CONTENT = (
    "CREATE TABLE customers (id serial PRIMARY KEY, name text NOT NULL)",
    "INSERT INTO customers (name) SELECT 'customer ' || i FROM generate_series(1, 1000) i",
    "CREATE TABLE hidden (x int)",
    "INSERT INTO hidden SELECT generate_series(1, 5)",
    "ALTER TABLE hidden ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE hidden FORCE ROW LEVEL SECURITY",
)
ROWS = 1005
PATIENCE = 120.0
"""Seconds; what is waited for takes some of them on a quiet machine."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A BackupStore as it was registered, and a way in of the test's own."""

    name: str
    location: StoreLocation
    store: ObjectStore
    signing_key: str = field(repr=False)
    key: AgeKey | None = None

    async def keys(self) -> set[str]:
        """All objects but the operator's probe."""
        return {each.key for each in await self.store.list("", most=1000) if not each.key.endswith("/probe")}

    async def manifest(self, path: str) -> Manifest:
        """The manifest at a path, with its signature checked."""
        return decode(await self.store.get(f"{path}/manifest.json", most=MOST_BYTES), path, self.signing_key)

    async def dump(self, path: str) -> bytes:
        """The database's part, decrypted."""
        name = (await self.manifest(path)).database.name
        chunks = self.store.read(f"{path}/{name}")
        if self.key is not None:
            chunks = AgeSealer().unseal(chunks, [self.key.identity])
        return b"".join([chunk async for chunk in chunks])


def keep_in(
    place: StoreAccess | Path, prefix: str, *, encrypted: bool = False, readable: bool = False
) -> tuple[Kept, list[Json]]:
    """A BackupStore in a bucket or a folder, with its Secrets, as manifests to be applied in this order.

    Args:
        place: Where.
        prefix: Of all names.
        encrypted: For a key of the test's own.
        readable: That the operator has, too.
    """
    name, signing = f"{prefix}-store", secrets.token_urlsafe(32)
    bodies = [secret(f"{name}-signing", {"key": signing})]
    spec: Json = {"signingSecretRef": {"name": f"{name}-signing"}, "allowedWorkspaces": {"from": "All"}}
    if isinstance(place, Path):
        location = StoreLocation(f"file://{place}")
    else:
        location = StoreLocation(
            f"s3://{place.bucket}/{prefix}", endpoint=place.endpoint, credentials=place.credentials
        )
        bodies.append(secret(f"{name}-credentials", place.credentials))
        spec |= {"endpoint": place.endpoint, "credentialsSecretRef": {"name": f"{name}-credentials"}}
    key = AgeSealer().new_key() if encrypted else None
    if key is not None and readable:
        bodies.append(secret(f"{name}-age", {"identity": key.identity}))
        spec["encryption"] = {"secretRef": {"name": f"{name}-age"}}
    elif key is not None:
        spec["encryption"] = {"recipients": [key.recipient]}
    spec["url"] = location.url
    body = {
        "apiVersion": "tenantry.io/v1alpha1",
        "kind": "BackupStore",
        "metadata": {"name": name},
        "spec": spec,
    }
    return Kept(name, location, ObstoreStores().open(location), signing, key), [*bodies, body]


def register(
    workbench: Workbench, place: StoreAccess | Path, *, encrypted: bool = False, readable: bool = False
) -> Kept:
    """Apply a BackupStore that goes with the test, and wait until it is Ready."""
    kept, bodies = keep_in(place, workbench.prefix, encrypted=encrypted, readable=readable)
    workbench.apply(*bodies[:-1])
    workbench.register(bodies[-1])
    workbench.kubectl("wait", "--for=condition=Ready", "--timeout=90s", f"bks/{kept.name}")
    return kept


def fill(workbench: Workbench, where: Whereabouts, *more: str) -> None:
    """Something for a backup to have, written by the tenant itself."""
    values = workbench.secret(where, "tenant-database")
    encryption = "disable" if values["sslmode"] == "disable" else "require"  # the CA is in the Secret, not in a file
    with psycopg.connect(values["uri"], autocommit=True, sslmode=encryption) as session:
        for statement in (*CONTENT, *more):
            session.execute(statement.encode())


def backup(workbench: Workbench, name: str, store: str, tenant: str = "acme", **spec: Any) -> Json:
    """A TenantBackup."""
    wanted = {"source": {"tenant": {"name": tenant}}, "store": store, **spec}
    return manifest(TENANT_BACKUPS, name, workbench.workspace, spec=wanted)


def read(workbench: Workbench, name: str) -> Json:
    """A TenantBackup; empty where there is none."""
    answer = workbench.management.get(Ref(TENANT_BACKUPS, workbench.workspace, name).path)
    return answer.body if answer.status == 200 else {}


def ended(workbench: Workbench, name: str, phase: str, reason: str, *, seconds: float = PATIENCE) -> Json:
    """A TenantBackup once it has ended.

    Raises:
        AssertionError: it has not in time, or otherwise.
    """

    def end() -> Json | None:
        body = read(workbench, name)
        return body if body.get("status", {}).get("phase") in ("Completed", "Failed") else None

    body = wait_for(end, lambda: f"{name} has ended: {read(workbench, name).get('status')}", seconds)
    assert (body["status"]["phase"], condition(body)["reason"]) == (phase, reason), body["status"]
    return body


def waits(workbench: Workbench, name: str, reason: str) -> Json:
    """A TenantBackup once it says that it waits for something."""

    def told() -> Json | None:
        body = read(workbench, name)
        return body if condition(body).get("reason") == reason else None

    body = wait_for(told, lambda: f"{name} is {reason}: {read(workbench, name).get('status')}", PATIENCE)
    assert body["status"]["phase"] == "Pending"
    return body


def signed(
    kept: Kept, identity: TenantIdentity, run: str, *, slot: str = "", dump: bytes = b"dump"
) -> dict[str, bytes]:
    """The objects of a backup as an operator that is gone has left them, by their keys.

    Its time is that of its run, and its dump is none that could be restored.
    """
    digest = hashlib.sha256(dump).hexdigest()
    time = f"{run[:4]}-{run[4:6]}-{run[6:8]}T{run[9:11]}:{run[11:13]}:{run[13:15]}Z"
    told = Manifest(
        identity=identity,
        run=run,
        backup=f"{identity.name}-then",
        started_at=time,
        completed_at=time,
        server_version=180000,
        tool_major=18,
        rows={"public.t": 1},
        database=Part("database.dump", len(dump), digest, len(dump), digest),
        encrypted=False,
        tenant_spec={},
        slot=slot,
    )
    return {f"{told.path}/database.dump": dump, f"{told.path}/manifest.json": encode(told, kept.signing_key)}


async def put_all(kept: Kept, objects: dict[str, bytes]) -> None:
    """Write objects, some at a time."""
    keys = sorted(objects)
    for begin in range(0, len(keys), 32):
        await asyncio.gather(*(kept.store.put(key, objects[key]) for key in keys[begin : begin + 32]))


def path_of(workbench: Workbench, where: Whereabouts) -> str:
    """Where all backups of a tenant are."""
    answer = workbench.management.get(Ref(TENANT_RECORDS, "", where.identity.record).path)
    return tenant_path(TenantRecord.model_validate(answer.body).identity)
