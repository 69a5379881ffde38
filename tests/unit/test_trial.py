"""Restores on trial: when they are due, what stands in their way, and what is told of them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.strategies import calmly

from tenantry.api.backupstore import StoreVerification
from tenantry.api.identity import TenantIdentity
from tenantry.api.resources import TENANT_BACKUPS, TENANTS, Ref
from tenantry.api.tenantbackup import BackupPhase, TenantBackup
from tenantry.decide.schedule import parse
from tenantry.decide.trial import (
    FIRST_PAUSE,
    LEAST_TIME,
    LONGEST_PAUSE,
    LONGEST_TENANTS_PAUSE,
    LONGEST_TIME,
    RESERVE,
    Ground,
    Specimen,
    Window,
    blames_content,
    due_at,
    free,
    obstacle,
    overdue_at,
    pause,
    readable,
    room_for,
    tenants_pause,
    time_for,
)
from tenantry.desired.manifest import tenant_path
from tenantry.ports.postgres import DatabaseClaim
from tenantry.reconcile.scratch import is_scratch, scratch_named
from tenantry.reconcile.shelf import Shelved, disproven, is_newer, last_proven, of_incarnation
from tenantry.reconcile.trials import Finding, Trial, Trials, Verdict
from tenantry.reconcile.trialtelling import is_disproven, of_trial, waits_for_trial
from tenantry.reconcile.trialterms import terms_from

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
DAY = timedelta(days=1)
WEEK = 7 * DAY
GIB = 2**30
ACME = Ref(TENANTS, "shop", "acme")
SPECIMEN = Specimen(server_version=160004, extensions=frozenset({"citext"}), readable=True, size=GIB)
GROUND = Ground(version=180001, extensions=frozenset({"citext", "hstore"}), capacity=100 * GIB, used=GIB)


def shelved(name: str, completed: timedelta, **more: object) -> Shelved:
    return Shelved(
        ref=Ref(TENANT_BACKUPS, "shop", name),
        uid=name,
        tenant=ACME,
        store="s",
        run=name,
        phase=BackupPhase.COMPLETED,
        slot=None,
        completed_at=NOW - completed,
        **more,  # type: ignore[arg-type] # of many types, each as it is named
    )


# --- when -----------------------------------------------------------------------------------------------------
@calmly
@given(st.timedeltas(timedelta(minutes=1), timedelta(days=365)), st.text("0123456789abcdef", min_size=8, max_size=8))
def test_the_first_one_is_due_within_an_interval_and_each_other_one_an_interval_later(
    interval: timedelta, tenant_hash: str
) -> None:
    first = due_at(None, NOW, interval, tenant_hash)
    assert NOW <= first < NOW + interval
    assert due_at(None, NOW, interval, tenant_hash) == first
    assert due_at(NOW + DAY, NOW, interval, tenant_hash) == NOW + DAY + interval
    assert overdue_at(first, NOW, interval) > due_at(first, NOW, interval, tenant_hash)
    assert overdue_at(None, NOW, interval) > first


def test_the_first_ones_of_many_tenants_are_spread_over_the_interval() -> None:
    hours = {int((due_at(None, NOW, WEEK, f"{n:08x}") - NOW) / timedelta(hours=12)) for n in range(500)}
    assert hours == set(range(14))


@given(st.integers(0, 10_000))
def test_what_is_not_possible_is_tried_again_later_and_later_but_within_hours(failures: int) -> None:
    assert FIRST_PAUSE <= pause(failures) <= pause(failures + 1) <= LONGEST_PAUSE


@given(st.integers(0, 10_000))
def test_a_tenant_whose_trials_came_to_nothing_for_hours_waits_at_least_as_long(failures: int) -> None:
    assert LONGEST_TIME <= tenants_pause(failures) <= tenants_pause(failures + 1) <= LONGEST_TENANTS_PAUSE


@given(st.integers(0, 2**60), st.integers(0, 2**60))
def test_what_is_larger_may_take_longer_but_nothing_longer_than_the_longest(one: int, other: int) -> None:
    smaller, larger = sorted((one, other))
    assert LEAST_TIME <= time_for(smaller) <= time_for(larger) <= LONGEST_TIME
    assert time_for(0) == LEAST_TIME
    assert time_for(3_000_000_000) == LEAST_TIME + timedelta(minutes=10)


@pytest.mark.parametrize(
    ("moment", "is_open"),
    [
        ("2026-11-22T00:59:59+01:00", False),
        ("2026-11-22T01:00:00+01:00", True),
        ("2026-11-22T04:59:59+01:00", True),
        ("2026-11-22T05:00:00+01:00", False),
        ("2026-06-22T01:30:00+02:00", True),
        ("2026-06-22T23:30:00+00:00", True),
    ],
)
def test_a_window_is_open_from_its_slot_for_as_long_as_it_lasts_in_its_own_zone(moment: str, is_open: bool) -> None:
    window = Window(parse("0 1 * * *"), ZoneInfo("Europe/Berlin"), timedelta(hours=4))
    assert window.is_open(datetime.fromisoformat(moment).astimezone(UTC)) is is_open


def test_a_window_that_is_none_is_told_with_its_field_and_its_store() -> None:
    wanted = {"window": {"schedule": "61 * * * *", "duration": "1h"}}
    found = terms_from(StoreVerification.model_validate(wanted), "s3-fra")
    assert found.problem.startswith("spec.verification.window.schedule: ")
    assert "'s3-fra'" in found.problem
    zone = {"window": {"schedule": "0 1 * * *", "duration": "1h", "timeZone": "Mars/Olympus"}}
    assert "spec.verification.window.timeZone" in terms_from(StoreVerification.model_validate(zone), "s").problem
    usual = terms_from(StoreVerification(), "s")
    assert (usual.interval, usual.server, usual.window, usual.problem) == (WEEK, None, None, "")
    assert terms_from(StoreVerification(interval="0s"), "s").interval is None


# --- whether --------------------------------------------------------------------------------------------------
def test_nothing_stands_in_the_way_of_what_fits() -> None:
    assert obstacle(SPECIMEN, GROUND) == ""
    assert obstacle(SPECIMEN, replace(GROUND, version=160001)) == ""


@pytest.mark.parametrize(
    ("specimen", "ground", "said"),
    [
        (replace(SPECIMEN, readable=False), GROUND, "spec.encryption.secretRef"),
        (SPECIMEN, replace(GROUND, version=150018), "it comes from PostgreSQL 16, and the server for trials has 15"),
        (SPECIMEN, replace(GROUND, extensions=frozenset()), "does not have the extensions citext"),
        (SPECIMEN, replace(GROUND, capacity=None), "can't be told: the platform team has to set spec.capacity.storage"),
        (replace(SPECIMEN, size=0), GROUND, "its manifest does not say how large"),
        (SPECIMEN, replace(GROUND, used=200 * GIB), "the server for trials has no room for it"),
        (SPECIMEN, replace(GROUND, used=89 * GIB), "has no room for it: it may take 1.6 GiB"),
    ],
)
def test_what_stands_in_the_way_is_told_with_the_way_out(specimen: Specimen, ground: Ground, said: str) -> None:
    assert said in obstacle(specimen, ground)


QUERY = "pg_restore failed: could not execute query: "
COPY = 'pg_restore failed: COPY failed for table "orders": '


@pytest.mark.parametrize(
    "said",
    [
        QUERY + 'ERROR:  relation "connections" does not exist',
        QUERY + 'ERROR:  could not create unique index "orders_pkey"',
        QUERY + 'ERROR:  insert or update on table "a" violates foreign key constraint "b"',
        QUERY + "ERROR:  division by zero",
        COPY + 'ERROR:  invalid input syntax for type timestamp with time zone: "No space left"',
        COPY + 'ERROR:  value "7" is out of range for type smallint',
    ],
)
def test_what_a_server_says_of_the_content_is_held_against_the_backup(said: str) -> None:
    assert blames_content(said)


@pytest.mark.parametrize(
    "said",
    [
        "",
        "pg_restore failed: exit code 1",
        "pg_restore failed: could not read from input file: end of file",
        "pg_restore failed: query failed: ERROR:  permission denied to set role",
        'pg_restore failed: connection to server at "h", port 5432 failed: FATAL:  sorry, too many clients already',
        QUERY + "SSL SYSCALL error: EOF detected",
        QUERY + "SSL connection has been closed unexpectedly",
        QUERY + "server closed the connection unexpectedly",
        QUERY + "could not receive data from server: Connection timed out",
        QUERY + "no connection to the server",
        QUERY + "FATAL:  terminating connection due to administrator command",
        QUERY + "FEHLER:  Division durch Null",
        "pg_restore failed: error returned by PQputCopyData: server closed the connection unexpectedly",
        QUERY + "ERROR:  temporary file size exceeds temp_file_limit (1024kB)",
        QUERY + 'ERROR:  could not open file "base/1/2": Too many open files in system',
        QUERY + "ERROR:  out of file descriptors: Too many open files; release and retry",
        QUERY + "ERROR:  cannot execute CREATE TABLE in a read-only transaction",
        QUERY + 'ERROR:  extension "postgis" is not available',
        QUERY + 'ERROR:  could not create locale "de_DE": No such file or directory',
        QUERY + 'ERROR:  collation "de_DE" for encoding "UTF8" does not exist',
        QUERY + "ERROR:  could not resize shared memory segment: No space left on device",
        QUERY + 'ERROR:  role "tenantry_abc_owner" does not exist',
        QUERY + 'ERROR:  time zone "Mars/Olympus" not recognized',
        QUERY + 'ERROR:  could not access file "$libdir/x": No such file or directory',
        COPY + 'ERROR:  could not extend file "base/1/2": No space left on device',
        COPY + "ERROR:  could not write block 1 of temporary file: No space left on device",
        COPY + "ERROR:  out of memory",
        COPY + "ERROR:  canceling statement due to statement timeout",
    ],
)
def test_what_is_the_servers_own_or_not_known_is_held_against_no_backup(said: str) -> None:
    assert not blames_content(said)


@given(st.text())
def test_no_text_but_a_servers_error_is_held_against_a_backup(said: str) -> None:
    assert not blames_content(said)
    assert not blames_content(f"{QUERY}{said}".replace("ERROR: ", ""))


SIZES = st.integers(1, 2**50)


@given(SIZES, SIZES, SIZES)
def test_what_is_begun_never_takes_the_last_tenth_of_a_server(size: int, capacity: int, used: int) -> None:
    ground = replace(GROUND, capacity=capacity, used=used)
    fits = not obstacle(replace(SPECIMEN, size=size), ground)
    assert room_for(size) > size
    assert fits == (room_for(size) <= free(ground))
    if fits:
        assert used + room_for(size) <= round(capacity * (1 - RESERVE))
    else:
        assert used + room_for(size) > round(capacity * (1 - RESERVE))


def test_sizes_are_told_as_people_read_them() -> None:
    assert [readable(size) for size in (0, 512, 2**20, 5 * 2**29)] == ["0 bytes", "512 bytes", "1.0 MiB", "2.5 GiB"]


@given(st.text(), st.text())
def test_a_scratch_database_is_nobodys_and_known_by_its_claim(management_id: str, token: str) -> None:
    wanted = scratch_named(management_id, token)
    claim = DatabaseClaim(wanted.database, management_id, wanted.tenant_hash, wanted.record, "creating")
    assert is_scratch(claim)
    assert not is_scratch(replace(claim, record="acme-abcdefgh"))
    assert not is_scratch(replace(claim, database="tenantry_abcdefgh"))
    assert "/" in wanted.record  # no object of Kubernetes is called so
    assert wanted.tenant_hash not in wanted.database
    assert max(len(name) for name in (wanted.database, wanted.owner, *wanted.logins)) < 63


# --- what was found -------------------------------------------------------------------------------------------
def test_a_bad_backup_counts_until_a_newer_one_is_restored_well() -> None:
    bad = shelved("bad", 2 * DAY, disproven_at=NOW - DAY, finding="rows are missing")
    older = shelved("older", 3 * DAY, proven_at=NOW - timedelta(hours=1))
    newer = shelved("newer", DAY)
    assert disproven([bad, older, newer]) == bad
    assert disproven([bad, older, replace(newer, proven_at=NOW)]) is None
    assert disproven([older, newer]) is None
    assert is_newer(newer, bad)
    assert not is_newer(older, bad)
    assert (bad.good, newer.good) == (False, True)


def test_what_a_clock_that_had_jumped_has_written_is_no_proof() -> None:
    known = [shelved("a", DAY, proven_at=NOW + DAY), shelved("b", DAY, proven_at=NOW - DAY), shelved("c", DAY)]
    assert last_proven(known, NOW) == NOW - DAY
    assert last_proven(known[:1], NOW) is None


def test_what_is_of_a_former_tenant_of_the_name_or_of_the_future_counts_for_nothing() -> None:
    identity = TenantIdentity("m", "shop", "uid", "acme", incarnation=2)
    path, former = f"{tenant_path(identity)}/run", f"{tenant_path(replace(identity, incarnation=1))}/run"
    own, failed = shelved("own", DAY, path=path), shelved("failed", DAY)
    known = [
        own,
        failed,
        shelved("former", DAY, path=former, proven_at=NOW - DAY),
        shelved("failed-before", 3 * DAY),
        shelved("of-the-future", -DAY, path=path),
    ]
    assert of_incarnation(known, identity, NOW - 2 * DAY, NOW) == [own, failed]


def completed(verification: dict[str, str] | None = None, verify: str = "Restore") -> TenantBackup:
    return TenantBackup.read(
        {
            "metadata": {"name": "first", "namespace": "shop", "uid": "u", "creationTimestamp": "2026-11-22T09:00:00Z"},
            "spec": {"source": {"tenant": {"name": "acme"}}, "store": "s", "verify": verify},
            "status": {"phase": "Completed", "rows": 7, "tables": 2, "sizeBytes": 100, "verification": verification},
        }
    )


READ = {"method": "Read", "time": "2026-11-22T09:01:00Z", "result": "Passed"}
PROVEN = {"method": "Restore", "time": "2026-11-22T09:02:00Z", "result": "Passed"}
DISPROVEN = {"method": "Restore", "time": "2026-11-22T09:02:00Z", "result": "Failed", "message": "rows"}


def test_a_backup_tells_what_its_trial_has_found() -> None:
    finding = Finding(Verdict.PASSED, "7 rows of 2 tables, as many as were backed up", NOW, 1.0)
    outcome, verification = of_trial(completed(READ), finding)
    assert (outcome.status, outcome.reason) == (True, "BackupCompleted")
    assert outcome.message == (
        "7 rows of 2 tables in 100 bytes, read back from the store, and restored on trial at 2026-11-22T10:00:00Z"
    )
    assert verification.model_dump() == {
        "method": "Restore", "time": "2026-11-22T10:00:00Z", "result": "Passed", "message": finding.message,
    }  # fmt: skip
    outcome, verification = of_trial(completed(READ), replace(finding, verdict=Verdict.FAILED, message="no rows"))
    assert (outcome.status, outcome.reason, outcome.terminal) == (False, "VerificationFailed", True)
    assert (verification.result, verification.message) == ("Failed", "no rows")


def test_only_a_backup_that_was_to_be_tried_and_was_not_tells_why_it_waits() -> None:
    waiting = waits_for_trial(completed(READ), "the server is full")
    assert waiting is not None
    assert waiting.message.endswith("it is to be restored on trial, which is not possible now: the server is full")
    assert waits_for_trial(completed(READ, verify="Read"), "the server is full") is None
    assert waits_for_trial(completed(PROVEN), "the server is full") is None
    assert [is_disproven(completed(each)) for each in (None, READ, PROVEN, DISPROVEN)] == [False, False, False, True]


# --- what is under way ----------------------------------------------------------------------------------------
async def test_a_trial_whose_backup_goes_is_broken_off_and_what_it_found_forgotten() -> None:
    ended: list[str] = []

    async def work() -> Finding:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cleaned up")
        raise AssertionError("it waits for ever")

    trials, backup = Trials(), Ref(TENANT_BACKUPS, "shop", "first")
    trials.begin("fra", Trial(backup, "u", ACME, "s", "tenantry_verify_x", asyncio.create_task(work())))
    trials.found(backup, "u", Finding(Verdict.PASSED, "", NOW, 1.0))
    assert trials.finding(backup, "u") is not None
    assert trials.finding(backup, "of a namesake") is None
    assert trials.databases() == {"tenantry_verify_x"}
    await asyncio.sleep(0)
    assert trials.of(backup)
    assert trials.take_ended() == []
    await trials.stop(backup)
    assert ended == ["cleaned up"]
    assert (trials.count, trials.finding(backup, "u"), trials.of(backup)) == (0, None, False)


def test_an_obstacle_is_news_once_and_again_when_it_is_gone() -> None:
    trials = Trials()
    assert [trials.hinder(ACME, why) for why in ("full", "full", "down", "", "")] == [True, False, True, True, False]
    assert trials.obstacle(ACME) == ""
