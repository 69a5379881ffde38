"""What is done with a backup that is restored, for real or on trial: read whole, filled into a database, counted."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Final

from tenantry.desired.manifest import Manifest
from tenantry.ports.backup import StoreError
from tenantry.ports.postgres import WantedDatabase
from tenantry.ports.servers import Server
from tenantry.reconcile.backing_up import Meter, watched
from tenantry.reconcile.openstores import BackupKit, OpenStore

_MOST_NAMED: Final = 3


class ContentChangedError(StoreError):
    """What the store holds is not what was backed up: it is there, and it is something else."""


async def read_whole(opened: OpenStore, manifest: Manifest) -> None:
    """Read a backup to its end and compare it: nothing that was changed in the store gets into pg_restore.

    Raises:
        StoreError: it can't be read; ContentChangedError, if it is not what was written.
    """
    meter = Meter()

    async def through() -> None:
        async for _ in meter.through(opened.store.read(f"{manifest.path}/{manifest.database.name}")):
            pass

    await watched(through(), lambda: meter.size)
    _check_stored(manifest, meter)


async def fill(
    kit: BackupKit, opened: OpenStore, manifest: Manifest, server: Server, wanted: WantedDatabase, password: str
) -> None:
    """Fill a settled database in its own login's name, and lock that login again afterwards.

    Args:
        kit: What restores take.
        opened: Where the backup is.
        manifest: Of it.
        server: Where the database is.
        wanted: The database.
        password: A new one, known to nobody else: the login has it until the end.

    Raises:
        DatabaseError, SealError: what went wrong.
        StoreError: it can't be read; ContentChangedError, if it is not what was written.
    """
    meter = Meter()
    chunks = meter.through(opened.store.read(f"{manifest.path}/{manifest.database.name}"))
    if manifest.encrypted:
        chunks = kit.sealer.unseal(chunks, list(opened.identities))
    await server.admin.set_password(wanted, wanted.logins[0], password)
    try:
        loading = kit.loader.load(server, wanted, password, chunks, manifest.tool_major)
        await watched(loading, _moved(meter, manifest.database.size))
    finally:
        await server.admin.lock_logins(wanted)
    _check_stored(manifest, meter)


def differing_rows(manifest: Manifest, have: Mapping[str, int]) -> str:
    """What of a restored database is not as its manifest has it, in words; empty where all of it is.

    Only tables of the manifest are named: what others are called the code that was restored has chosen there and then.
    """
    wanted = manifest.rows
    differing = sorted(table for table, rows in wanted.items() if have.get(table) != rows)
    told = []
    if differing:
        more = f" and {len(differing) - _MOST_NAMED} more" if len(differing) > _MOST_NAMED else ""
        told.append(f"table {', '.join(table[:128] for table in differing[:_MOST_NAMED])}{more}")
    if added := len(have.keys() - wanted.keys()):
        told.append(f"{added} more that {'was' if added == 1 else 'were'} not")
    return f"what was restored has not the rows that were backed up: {'; '.join(told)}" if told else ""


def _moved(meter: Meter, size: int) -> Callable[[], int]:
    """What tells that it goes on: the bytes, and after the last of them the mere time."""
    ticks = itertools.count(size + 1)
    return lambda: meter.size if meter.size < size else next(ticks)


def _check_stored(manifest: Manifest, meter: Meter) -> None:
    part = manifest.database
    if (meter.size, meter.sha256) != (part.size, part.sha256):
        raise ContentChangedError(
            f"what the store holds is not what was backed up: {meter.size} bytes, and not the {part.size} with the "
            "manifest's sha256"
        )
