"""Backups and restores that are broken off at each of their writes, and what of them is compared."""

from __future__ import annotations

from typing import Any, Final

from tests.crash.case import TENANT, Names
from tests.crash.looking import Json, Looking
from tests.crash.operations import CREATE, USE, Operation, is_there, write_row
from tests.crash.stored import BACKUP_ENDS, STORE, backups_of, is_sound, restores_of
from tests.integration.acting import manifest

from tenantry.api.resources import TENANT_BACKUPS, TENANT_RESTORES, Resource

FIRST, BACK = "first", "back"


def _make(looking: Looking, names: Names, resource: Resource, name: str, spec: Json) -> None:
    answer = looking.management.create(resource, manifest(resource, name, names.case.workspace, spec=spec), dry=False)
    assert answer.status == 201, answer.message


def _back_up(looking: Looking, names: Names) -> None:
    _make(looking, names, TENANT_BACKUPS, FIRST, {"source": {"tenant": {"name": TENANT}}, "store": STORE})


def _backed_up(looking: Looking, names: Names) -> bool:
    """It has ended, well or not, and the store has all of it or nothing."""
    found = backups_of(looking.management, names)
    ended = all((body.get("status") or {}).get("phase") in BACKUP_ENDS for body in found)
    return bool(found) and ended and all(is_sound(looking.kept, body) for body in found) and is_there(looking, names)


def _restore(looking: Looking, names: Names) -> None:
    """What was written since is gone then."""
    write_row(looking, names, "later")
    spec = {"backupRef": {"name": FIRST}, "tenantRef": {"name": TENANT}, "safetyBackup": False}
    _make(looking, names, TENANT_RESTORES, BACK, spec)


def _restored(looking: Looking, names: Names) -> bool:
    found: list[dict[str, Any]] = restores_of(looking.management, names)
    done = [(body.get("status") or {}).get("phase") == "Completed" for body in found]
    return done == [True] and is_there(looking, names)


BACKUP: Final = Operation("backup", _back_up, _backed_up, (CREATE, USE))
RESTORE: Final = Operation("restore", _restore, _restored, (CREATE, USE, BACKUP))

SAVED: Final = (BACKUP, RESTORE)
"""What is done to a tenant's backups."""
