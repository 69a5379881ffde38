"""Which backups a tenant has by plan and spec, whether they are healthy, and which of its slots is due."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.strategies import calmly

from tenantry.api.backuppolicy import KeptBackups, TenantBackups
from tenantry.api.identity import TenantIdentity
from tenantry.api.resources import TENANTS, Ref
from tenantry.api.tenant import TenantSpec
from tenantry.api.tenantplan import TenantPlanSpec
from tenantry.decide.backuppolicy import SPREAD, History, backups, health, last_backup, spread
from tenantry.decide.halt import Terminal
from tenantry.decide.schedule import ScheduleError, parse
from tenantry.reconcile.schedules import Schedules, schedule_of

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
NIGHTLY = "0 3 * * *"
DAILY = parse(NIGHTLY)
ACME = Ref(TENANTS, "shop", "acme")
IDENTITY = TenantIdentity("m", "shop", "uid", "acme")


def plan(**spec: Any) -> TenantPlanSpec:
    return TenantPlanSpec.model_validate(spec)


def tenant(**spec: Any) -> TenantSpec:
    return TenantSpec.model_validate(spec)


def test_without_a_schedule_no_backup_is_made_by_itself_and_none_at_the_end() -> None:
    assert backups(tenant(), "basic", plan()) is None
    assert last_backup(tenant(), "basic", plan()) is False
    kept = {"retention": {"keepLast": 3}}
    assert backups(tenant(), "basic", plan(backup=kept)) is None


def test_a_tenant_has_its_plans_backups_and_changes_them_only_where_the_plan_lets_it() -> None:
    given_ = {"schedule": NIGHTLY, "timeZone": "Europe/Berlin", "retention": {"keepLast": 7}}
    found = backups(tenant(), "basic", plan(backup=given_))
    assert found is not None
    assert (found.schedule, found.time_zone, found.suspend) == (NIGHTLY, "Europe/Berlin", False)
    own = tenant(backup={"schedule": "@hourly", "suspend": True})
    with pytest.raises(Terminal, match=r"spec\.backup\.schedule: plan 'basic' does not let"):
        backups(own, "basic", plan(backup=given_))
    found = backups(own, "basic", plan(backup=given_, overridable=["backup.schedule"]))
    assert found is not None
    assert (found.schedule, found.time_zone, found.suspend) == ("@hourly", "Europe/Berlin", True)
    assert found.retention == KeptBackups(keep_last=7)
    backups(tenant(backup={"schedule": NIGHTLY}), "basic", plan(backup=given_))  # the same is no change
    with pytest.raises(Terminal, match=r"spec\.backup\.timeZone"):
        backups(tenant(backup={"timeZone": "UTC"}), "basic", plan(backup=given_))


@pytest.mark.parametrize(
    ("own", "given_", "schedule", "wanted"),
    [
        (None, None, True, True),
        (None, None, False, False),
        (False, None, True, False),
        (True, None, False, True),
        (None, True, False, True),
        (None, False, True, False),
        (True, False, False, True),
    ],
)
def test_the_last_backup_is_the_tenants_wish_then_the_plans_then_that_of_who_has_a_schedule(
    own: bool | None, given_: bool | None, schedule: bool, wanted: bool
) -> None:
    backup = {"schedule": NIGHTLY} if schedule else None
    spec = plan(backup=backup, deletion={} if given_ is None else {"finalBackup": given_})
    assert last_backup(tenant(deletion={} if own is None else {"finalBackup": own}), "basic", spec) is wanted


def test_a_plan_that_wants_a_last_backup_can_not_be_refused_it() -> None:
    with pytest.raises(Terminal, match=r"spec\.deletion\.finalBackup"):
        last_backup(tenant(deletion={"finalBackup": False}), "basic", plan(deletion={"finalBackup": True}))


def history(good: timedelta | None = None, bad: timedelta | None = None, age: timedelta = timedelta(days=9)) -> History:
    return History(
        last_success=NOW - good if good is not None else None,
        last_failure=NOW - bad if bad is not None else None,
        failure="the disk is full",
        since=NOW - age,
    )


def told(found: History, *, suspended: bool = False) -> tuple[bool | None, str]:
    outcome = health(DAILY, UTC, found, NOW, suspended=suspended)
    return outcome.status, outcome.reason


def test_backups_are_healthy_when_the_newest_is_good_and_no_slot_was_missed() -> None:
    hour, day = timedelta(hours=1), timedelta(days=1)
    assert told(history(good=6 * hour)) == (True, "BackupCompleted")
    assert told(history(good=6 * hour, bad=2 * day)) == (True, "BackupCompleted")
    assert told(history(good=2 * day, bad=hour)) == (False, "BackupFailed")
    assert told(history(good=2 * day)) == (False, "BackupOverdue")
    assert told(history()) == (False, "BackupOverdue")
    assert told(history(age=2 * hour)) == (None, "BackupPending")
    assert told(history(good=9 * day), suspended=True) == (None, "Suspended")
    assert told(history(bad=hour), suspended=True) == (False, "BackupFailed")


def test_a_backup_that_can_not_be_restored_is_louder_than_all_else() -> None:
    found = replace(history(bad=timedelta(hours=1)), disproven="b1: table x has not the rows")
    outcome = health(DAILY, UTC, found, NOW, suspended=True)
    assert (outcome.status, outcome.reason) == (False, "VerificationFailed")
    assert "b1: table x has not the rows" in outcome.message


def test_backups_that_were_not_restored_on_trial_for_long_are_not_healthy_and_say_why() -> None:
    good = history(good=timedelta(hours=6))
    tried = replace(good, last_proven=NOW - timedelta(days=3), proof_due=NOW + timedelta(days=11))
    outcome = health(DAILY, UTC, tried, NOW, suspended=False)
    assert (outcome.status, outcome.reason) == (True, "BackupCompleted")
    assert outcome.message.endswith("one was restored on trial at 2026-11-19T10:00:00Z")
    late = replace(good, proof_due=NOW - timedelta(days=1), obstacle="the server is full")
    outcome = health(DAILY, UTC, late, NOW, suspended=False)
    assert (outcome.status, outcome.reason) == (False, "VerificationOverdue")
    assert outcome.message == (
        "none was restored on trial yet, which is too long ago; none can be now: the server is full"
    )
    outcome = health(DAILY, UTC, replace(late, proof_due=NOW + timedelta(days=1)), NOW, suspended=False)
    assert outcome.status is True
    assert outcome.message.endswith("none was restored on trial yet; none can be now: the server is full")


def test_tenants_of_one_slot_are_spread_over_an_hour_or_half_of_the_time_between_slots() -> None:
    assert spread(DAILY, NOW, UTC) == SPREAD
    assert spread(parse("* * * * *"), NOW, UTC) == timedelta(seconds=30)
    assert spread(parse("*/30 * * * *"), NOW, UTC) == timedelta(minutes=15)


@pytest.mark.parametrize(
    ("policy", "field"),
    [
        ({"schedule": "61 * * * *"}, "backup.schedule"),
        ({"schedule": "@often"}, "backup.schedule"),
        ({"schedule": NIGHTLY, "timeZone": "Mars/Olympus"}, "backup.timeZone"),
        ({"schedule": NIGHTLY, "timeZone": "Europe"}, "backup.timeZone"),
    ],
)
def test_a_schedule_that_is_none_is_told_with_its_field(policy: dict[str, str], field: str) -> None:
    with pytest.raises(ScheduleError, match=field.replace(".", r"\.")):
        schedule_of(TenantBackups.model_validate(policy), ACME, IDENTITY, ("s", "d"), NOW, NOW)


@calmly
@given(st.timedeltas(timedelta(), timedelta(days=400)))
def test_the_next_run_is_later_than_now_and_within_a_day_and_the_jitter(after: timedelta) -> None:
    found = schedule_of(TenantBackups(schedule=NIGHTLY), ACME, IDENTITY, ("s", "d"), NOW, NOW)
    run = found.next_run(NOW + after)
    assert run is not None
    assert NOW + after < run <= NOW + after + timedelta(days=1)
    assert timedelta() <= found.delay < SPREAD


def test_what_was_worked_out_for_a_schedule_holds_until_it_is_changed_or_the_clock_goes_back() -> None:
    schedules = Schedules()
    nightly = schedule_of(TenantBackups(schedule=NIGHTLY), ACME, IDENTITY, ("s", "d"), NOW, NOW)
    schedules.set(nightly)
    assert schedules.to_be_looked_at(NOW) == [nightly]
    schedules.look_again(ACME, NOW + timedelta(hours=1))
    assert schedules.to_be_looked_at(NOW) == []
    schedules.set(nightly)
    assert schedules.to_be_looked_at(NOW) == []
    assert schedules.to_be_looked_at(NOW + timedelta(hours=1)) == [nightly]
    schedules.look_soon()
    assert schedules.to_be_looked_at(NOW) == [nightly]
    schedules.look_again(ACME, None)
    hourly = schedule_of(TenantBackups(schedule="@hourly"), ACME, IDENTITY, ("s", "d"), NOW, NOW)
    schedules.set(hourly)
    assert schedules.to_be_looked_at(NOW) == [hourly]
    suspended = schedule_of(TenantBackups(schedule="@hourly", suspend=True), ACME, IDENTITY, ("s", "d"), NOW, NOW)
    schedules.set(suspended)
    assert schedules.to_be_looked_at(NOW) == []
