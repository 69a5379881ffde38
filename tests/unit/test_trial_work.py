"""One trial without a server: what is held against a backup, and what of it a workspace is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tenantry.api.identity import TenantIdentity
from tenantry.desired.manifest import Manifest, Part, encode
from tenantry.ports.backup import ServerUse
from tenantry.ports.postgres import DatabaseClaim, DatabaseError, DatabaseState, ProgramFailedError, WantedDatabase
from tenantry.reconcile import trial
from tenantry.reconcile.filling import differing_rows
from tenantry.reconcile.openstores import BackupKit, OpenStore
from tenantry.reconcile.scratch import Scratch, made, scratch_named
from tenantry.reconcile.trial import TrialJob, TrialWork
from tenantry.reconcile.trials import Finding, Verdict

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
KEY = "k" * 32
NOTHING = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
FOUND_OUT = "10.0.0.7 and 4711 bytes"
REFUSES = f"pg_restore failed: could not execute query: ERROR:  {FOUND_OUT}"
FULL = f"pg_restore failed: could not execute query: ERROR:  No space left on device: {FOUND_OUT}"
BACKUP = Manifest(
    identity=TenantIdentity("m", "shop", "00000000-0000-0000-0000-000000000000", "acme"),
    run="20261122t090000z-00000000",
    backup="first",
    started_at="2026-11-22T09:00:00Z",
    completed_at="2026-11-22T09:01:00Z",
    server_version=180001,
    tool_major=18,
    rows={"public.a": 3, "public.b": 0},
    database=Part("database.dump", 0, NOTHING, 0, NOTHING),
    encrypted=False,
    tenant_spec=None,
    database_size=1,
)


class Place:
    """A server, a store with one backup, and programs that do as they are told."""

    def __init__(self, *errors: Exception, rows: Mapping[str, int] | None = None) -> None:
        self.errors = iter(errors)
        self.rows = BACKUP.rows if rows is None else rows
        self.claims: dict[str, str] = {}
        self.refuses_to_drop = False
        self.size = 0
        self.filling = asyncio.Event()
        self.loads = 0
        self.hangs = False

    # --- what the server does -------------------------------------------------------------------------------------
    async def inspect(self, wanted: WantedDatabase) -> DatabaseState:
        state = self.claims.get(wanted.database)
        if state is None:
            return DatabaseState(None, exists=False, stamped=False, settled=False)
        return DatabaseState(self.claim_of(wanted, state), exists=True, stamped=True, settled=True)

    def claim_of(self, wanted: WantedDatabase, state: str) -> DatabaseClaim:
        return DatabaseClaim(wanted.database, wanted.management_id, wanted.tenant_hash, wanted.record, state)

    async def claim(self, wanted: WantedDatabase, **_: Any) -> DatabaseClaim:
        return self.claim_of(wanted, self.claims.setdefault(wanted.database, "creating"))

    async def mark(self, wanted: WantedDatabase, *, before: str, after: str) -> bool:
        if self.refuses_to_drop:
            raise DatabaseError("the server closed the connection")
        assert self.claims[wanted.database] == before
        self.claims[wanted.database] = after
        return True

    async def release(self, wanted: WantedDatabase) -> None:
        del self.claims[wanted.database]

    async def load(self, *_: Any) -> None:
        self.loads += 1
        self.filling.set()
        if self.hangs:
            await asyncio.Event().wait()
        if (error := next(self.errors, None)) is not None:
            raise error

    async def count(self, *_: Any) -> Mapping[str, int]:
        return self.rows

    async def use_of(self, *_: Any) -> ServerUse:
        return ServerUse(0, NOW)

    async def size_of(self, *_: Any) -> int:
        return self.size

    async def read(self, _: str) -> AsyncIterator[bytes]:
        for chunk in list[bytes]():
            yield chunk

    async def get(self, _: str, **__: Any) -> bytes:
        return encode(BACKUP, KEY)

    # --- the trial ------------------------------------------------------------------------------------------------
    @property
    def server(self) -> Any:
        async def nothing(*_: Any) -> None:
            pass

        steps = ("ensure_roles", "ensure_database", "settle", "set_password", "lock_logins", "drop")
        admin = SimpleNamespace(
            inspect=self.inspect,
            claim=self.claim,
            mark=self.mark,
            release=self.release,
            **dict.fromkeys(steps, nothing),
        )
        return SimpleNamespace(admin=admin, facts=SimpleNamespace(version=180001, extensions=frozenset()))

    @property
    def kit(self) -> BackupKit:
        async def nothing(*_: Any) -> None:
            pass

        loader = SimpleNamespace(load=self.load, use_of=self.use_of, size=self.size_of, check=nothing)
        return cast(BackupKit, SimpleNamespace(loader=loader, dumper=SimpleNamespace(count=self.count, forget=nothing)))

    async def run(self, *, discreet: bool = True) -> Finding:
        store = cast(Any, SimpleNamespace(read=self.read, get=self.get))
        clock = cast(Any, SimpleNamespace(now=lambda: NOW, monotonic=lambda: 0.0))
        wanted = scratch_named("m", "token")
        job = TrialJob(BACKUP.path, OpenStore(store, KEY), self.server, 2**40, wanted, lambda: "secret", discreet)
        return await TrialWork(self.kit, clock, job).run()


async def test_a_backup_with_the_rows_of_its_manifest_is_well_and_nothing_is_left() -> None:
    place = Place()
    finding = await place.run()
    assert (finding.verdict, finding.message) == (Verdict.PASSED, "3 rows of 2 tables, as many as were backed up")
    assert place.claims == {}


@pytest.mark.parametrize("discreet", [True, False])
async def test_what_the_restored_code_says_goes_to_the_log_and_to_no_workspace(discreet: bool) -> None:
    refused = await Place(ProgramFailedError(REFUSES), ProgramFailedError(REFUSES)).run(discreet=discreet)
    assert (refused.verdict, refused.detail) == (Verdict.FAILED, REFUSES)
    assert (
        refused.message == "it can't be restored: PostgreSQL refuses its content; the operator's log has what it says"
    )
    full = await Place(ProgramFailedError(FULL)).run(discreet=discreet)
    assert (full.verdict, full.detail) == (Verdict.NOT_POSSIBLE, FULL)
    assert full.message == "the server for trials could not go on with it, and the operator's log has why"


async def test_of_a_server_that_is_the_platforms_no_table_is_named() -> None:
    rows = {"public.a": 3, "public.b": 1, FOUND_OUT: 1}
    told = await Place(rows=rows).run(discreet=True)
    assert (told.verdict, told.message) == (Verdict.FAILED, "what was restored has not the rows that were backed up")
    assert "public.b" in told.detail
    assert (
        await Place(rows=rows).run(discreet=False)
    ).message == f"{told.message}: table public.b; 1 more that was not"


def test_only_tables_of_the_manifest_are_named_and_others_counted() -> None:
    assert differing_rows(BACKUP, BACKUP.rows) == ""
    said = "what was restored has not the rows that were backed up: "
    assert differing_rows(BACKUP, {**BACKUP.rows, FOUND_OUT: 0, "other": 2}) == f"{said}2 more that were not"
    assert differing_rows(BACKUP, {FOUND_OUT: 3}) == f"{said}table public.a, public.b; 1 more that was not"


async def test_what_an_attempt_has_left_is_never_taken_for_the_backups() -> None:
    exists = ProgramFailedError('pg_restore failed: could not execute query: ERROR:  relation "a" already exists')
    place = Place(DatabaseError("cut off"), exists)
    place.refuses_to_drop = True
    scratch = Scratch(place.server, scratch_named("m", "token"))
    async with made(place.kit, scratch):
        assert len(place.claims) == 1
    with pytest.raises(DatabaseError, match="is not dropped yet"):
        async with made(place.kit, scratch):
            raise AssertionError("it is not there to be filled")


async def test_a_second_attempt_that_would_begin_in_the_first_ones_tables_says_nothing_of_the_backup() -> None:
    exists = 'pg_restore failed: could not execute query: ERROR:  relation "a" already exists'
    place = Place(ProgramFailedError(REFUSES), ProgramFailedError(exists))
    place.refuses_to_drop = True
    finding = await place.run(discreet=False)
    assert (finding.verdict, place.loads) == (Verdict.NOT_POSSIBLE, 1)
    assert "is not dropped yet" in finding.message


async def test_what_takes_longer_than_its_size_allows_is_broken_off_and_laid_to_its_tenant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trial, "time_for", lambda size: timedelta(milliseconds=50 if size == 1 else 1e6))
    place = Place()
    place.hangs = True
    async with asyncio.timeout(20):
        finding = await place.run()
    assert place.filling.is_set()
    assert (finding.verdict, finding.spent) == (Verdict.NOT_POSSIBLE, True)
    assert finding.message.startswith("it took longer than ")
    assert place.claims == {}


async def test_what_grows_beyond_its_room_is_broken_off_and_laid_to_its_tenant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "LOOK_SECONDS", 0.01)
    place = Place()
    place.hangs, place.size = True, 2**30
    async with asyncio.timeout(20):
        finding = await place.run()
    assert (finding.verdict, finding.spent) == (Verdict.NOT_POSSIBLE, True)
    assert "it took more than" in finding.message


async def test_a_timeout_that_is_not_the_trials_own_is_not_laid_to_its_tenant() -> None:
    finding = await Place(TimeoutError()).run()
    assert (finding.verdict, finding.spent) == (Verdict.NOT_POSSIBLE, False)
