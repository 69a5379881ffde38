"""The store of a lane, and what of backups and restores is the same in every run, broken off or not."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tests.crash.case import Names
from tests.integration.acting import Api
from tests.scene.installation import secret

from tenantry.api.names import API_VERSION
from tenantry.api.resources import BACKUP_STORES, TENANT_BACKUPS, TENANT_RESTORES, Resource

Json = dict[str, Any]

STORE: Final = "kept"
BACKUP_ENDS: Final = ("Completed", "Failed")
_WHOLE: Final = {"manifest.json", "database.dump"}


def store_bodies(folder: Path) -> Sequence[Json]:
    """A BackupStore in a folder, with its Secret."""
    spec = {
        "url": f"file://{folder}",
        "signingSecretRef": {"name": f"{STORE}-signing"},
        "allowedWorkspaces": {"from": "All"},
    }
    body = {"apiVersion": API_VERSION, "kind": BACKUP_STORES.kind, "metadata": {"name": STORE}, "spec": spec}
    return secret(f"{STORE}-signing", {"key": secrets.token_urlsafe(32)}), body


def backups_of(api: Api, names: Names) -> list[Json]:
    """The TenantBackups of a run's workspace."""
    return _items(api, TENANT_BACKUPS, names)


def restores_of(api: Api, names: Names) -> list[Json]:
    """The TenantRestores of a run's workspace."""
    return _items(api, TENANT_RESTORES, names)


def is_sound(kept: Path, body: Json) -> bool:
    """Whether the store has all of a backup that is Completed, and nothing of one that is Failed."""
    status = body.get("status") or {}
    key = status.get("objectKey")
    there = {path.name for path in (kept / key).glob("*")} if key else set()
    return there == (_WHOLE if status.get("phase") == "Completed" else set())


def told_of(api: Api, kept: Path, names: Names) -> Json:
    """What is compared: of a backup not whether it came to a good end, for one whose operator dies has failed."""
    found: Json = {}
    for body in backups_of(api, names):
        ended = (body.get("status") or {}).get("phase") in BACKUP_ENDS
        found[f"TenantBackup {body['metadata']['name']}"] = {"ended": ended, "sound": is_sound(kept, body)}
    for body in restores_of(api, names):
        status = body.get("status") or {}
        kept_of_it = {name: status.get(name) for name in ("phase", "database", "tables", "rows", "safetyBackup")}
        reasons = [each["reason"] for each in status.get("conditions", [])]
        found[f"TenantRestore {body['metadata']['name']}"] = {**kept_of_it, "reasons": reasons}
    return found


def sweep_store(kept: Path, names: Names) -> None:
    """All that is of a tenant's backups."""
    for path in kept.glob(f"*/{names.identity.workspace_uid}"):
        shutil.rmtree(path, ignore_errors=True)


def _items(api: Api, resource: Resource, names: Names) -> list[Json]:
    answer = api.get(resource.path(names.case.workspace))
    assert answer.status == 200, answer.message
    bodies: list[Json] = answer.body["items"]
    return bodies
