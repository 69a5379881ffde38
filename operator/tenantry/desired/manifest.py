"""The manifest beside each backup in a store: what it is of and how large, signed, and bound to its path."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from dataclasses import dataclass, replace
from typing import Any, Final

from tenantry.api.identity import TenantIdentity
from tenantry.api.tenantbackup import RUN_PATTERN

VERSION: Final = 1
MANIFEST: Final = "manifest.json"
DUMP: Final = "database.dump"
SEALED: Final = ".age"
MOST_BYTES: Final = 4 * 1024 * 1024
"""A larger manifest is none of ours."""
LEAST_KEY: Final = 32
_DOMAIN: Final = b"tenantry.io/backup-manifest/v1"
_SIGNATURE: Final = "signature"
_RUN: Final = re.compile(RUN_PATTERN)
_INCARNATION: Final = re.compile(r"[1-9][0-9]{0,6}")


class ManifestError(Exception):
    """A manifest that is not believed; the message says why."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True, slots=True)
class Part:
    """One object of a backup.

    Attributes:
        name: Of the object, below the backup's path.
        size: In bytes, as it is in the store.
        sha256: In hex, of the object as it is in the store.
        content_size: In bytes, before encryption.
        content_sha256: In hex, before encryption.
    """

    name: str
    size: int
    sha256: str
    content_size: int
    content_sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """All that is said of a backup.

    Attributes:
        workspace_uid: Whose backup it is: whoever restores it must be of this workspace.
        run: The run's id.
        server_version: `server_version_num`.
        tool_major: Major version of pg_dump.
        rows: By table.
        encrypted: The parts are age files.
        tenant_spec: The Tenant's spec as it was applied, without secrets.
        slot: For which a schedule has made it; empty for one that was asked for.
        database_size: In bytes, of the database on its server; 0 where that is not known.
    """

    identity: TenantIdentity
    run: str
    backup: str
    started_at: str
    completed_at: str
    server_version: int
    tool_major: int
    rows: dict[str, int]
    database: Part
    encrypted: bool
    tenant_spec: dict[str, Any] | None
    slot: str = ""
    database_size: int = 0

    def __post_init__(self) -> None:
        # A backup is the tenant's, whatever database it lived in then: the epoch is no part of it, nor of its path.
        object.__setattr__(self, "identity", replace(self.identity, epoch=1))

    @property
    def path(self) -> str:
        """Where it belongs."""
        return backup_path(self.identity, self.run)


def run_id(created: str, uid: str) -> str:
    """The id of a run: when its TenantBackup was made, and the beginning of that object's UID.

    It is worked out of what only the API server sets, so nobody can point a backup at another's objects.
    """
    moment = re.sub(r"[^0-9t]", "", created.lower())
    return f"{moment}z-{hashlib.sha256(uid.encode()).hexdigest()[:8]}"


def tenant_path(identity: TenantIdentity) -> str:
    """Where all backups of one incarnation of a tenant are: ends without a slash."""
    return f"{identity.management_id}/{identity.workspace_uid}/{identity.tenant_id}/{identity.incarnation}"


def backup_path(identity: TenantIdentity, run: str) -> str:
    """Where the objects of one backup are: ends without a slash.

    Raises:
        ValueError: if the run's id is none.
    """
    if not _RUN.match(run):
        raise ValueError(f"{run!r} is no id of a run")
    return f"{tenant_path(identity)}/{run}"


@dataclass(frozen=True, slots=True)
class Place:
    """Whose backup a path is of, and of which run."""

    identity: TenantIdentity
    run: str


def place_of(path: str) -> Place | None:
    """The inverse of `backup_path`; None for what no backup's path is. That it is said there proves nothing."""
    parts = path.split("/")
    names = parts[2].split("_") if len(parts) == 5 else []
    if len(names) != 3 or not _INCARNATION.fullmatch(parts[3]):
        return None
    identity = TenantIdentity(
        management_id=parts[0], workspace=names[0], workspace_uid=parts[1], name=names[1], incarnation=int(parts[3])
    )
    sound = _RUN.match(parts[4]) is not None and backup_path(identity, parts[4]) == path
    return Place(identity, parts[4]) if sound else None


def dump_name(*, encrypted: bool) -> str:
    """The name of the database's part."""
    return DUMP + SEALED if encrypted else DUMP


def encode(manifest: Manifest, key: str) -> bytes:
    """The manifest as it is stored, signed.

    Raises:
        ManifestError: the key is too short to sign with.
    """
    body = _body(manifest)
    body[_SIGNATURE] = _sign(body, manifest.path, key)
    return json.dumps(body, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def decode(data: bytes, path: str, key: str) -> Manifest:
    """The manifest that was found at a path, if it was signed with this key for this very path.

    Raises:
        ManifestError: it is none, was changed, is signed with another key, or belongs elsewhere.
    """
    if len(data) > MOST_BYTES:
        raise ManifestError(f"it has {len(data)} bytes, more than any manifest")
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        raise ManifestError("it is no JSON") from None
    if not isinstance(body, dict) or not isinstance(body.get(_SIGNATURE), str):
        raise ManifestError("it is not signed")
    signature = body.pop(_SIGNATURE)
    # The signature comes first: nothing of what is not signed is looked into.
    if not hmac.compare_digest(_sign(body, path, key).encode(), signature.encode()):
        raise ManifestError("its signature is not one of this store's key for this path")
    if body.get("version") != VERSION:
        raise ManifestError(f"it is of version {body.get('version')!r}, and this operator reads version {VERSION}")
    try:
        manifest = _read(body)
    except (KeyError, TypeError, ValueError):
        raise ManifestError("it lacks what a manifest must say") from None
    if manifest.path != path:
        raise ManifestError("it is of another backup")
    return manifest


def _sign(body: dict[str, Any], path: str, key: str) -> str:
    if len(key) < LEAST_KEY:
        raise ManifestError(f"the signing key must have at least {LEAST_KEY} characters")
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
    message = b"\0".join((_DOMAIN, path.encode(), text))
    return hmac.new(key.encode(), message, hashlib.sha256).hexdigest()


def _body(manifest: Manifest) -> dict[str, Any]:
    identity, part = manifest.identity, manifest.database
    return {
        "version": VERSION,
        "path": manifest.path,
        "tenant": {
            "managementId": identity.management_id,
            "workspace": identity.workspace,
            "workspaceUid": identity.workspace_uid,
            "name": identity.name,
            "incarnation": identity.incarnation,
        },
        "run": manifest.run,
        "backup": manifest.backup,
        "startedAt": manifest.started_at,
        "completedAt": manifest.completed_at,
        "postgres": {"serverVersion": manifest.server_version, "tool": manifest.tool_major},
        "rows": manifest.rows,
        "parts": {
            "database": {
                "name": part.name,
                "size": part.size,
                "sha256": part.sha256,
                "contentSize": part.content_size,
                "contentSha256": part.content_sha256,
            }
        },
        "encrypted": manifest.encrypted,
        "tenantSpec": manifest.tenant_spec,
        "scheduledFor": manifest.slot,
        "databaseSize": manifest.database_size,
    }


def _read(body: dict[str, Any]) -> Manifest:
    tenant, part, postgres = body["tenant"], body["parts"]["database"], body["postgres"]
    return Manifest(
        identity=TenantIdentity(
            management_id=tenant["managementId"],
            workspace=tenant["workspace"],
            workspace_uid=tenant["workspaceUid"],
            name=tenant["name"],
            incarnation=int(tenant["incarnation"]),
        ),
        run=body["run"],
        backup=body["backup"],
        started_at=body["startedAt"],
        completed_at=body["completedAt"],
        server_version=int(postgres["serverVersion"]),
        tool_major=int(postgres["tool"]),
        rows={str(table): int(count) for table, count in body["rows"].items()},
        database=Part(
            name=part["name"],
            size=int(part["size"]),
            sha256=part["sha256"],
            content_size=int(part["contentSize"]),
            content_sha256=part["contentSha256"],
        ),
        encrypted=bool(body["encrypted"]),
        tenant_spec=body["tenantSpec"],
        slot=str(body.get("scheduledFor") or ""),
        database_size=int(body.get("databaseSize") or 0),
    )
