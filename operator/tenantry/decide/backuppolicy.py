"""Which backups a tenant has by its plan and its own spec, and whether they are as they should be: pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

from tenantry.api.backuppolicy import TenantBackups
from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.tenant import TenantSpec
from tenantry.api.tenantplan import TenantPlanSpec
from tenantry.decide.conditions import Outcome
from tenantry.decide.halt import Terminal
from tenantry.decide.schedule import Schedule, next_after

OVERRIDABLE = "backup.schedule"
SPREAD = timedelta(hours=1)
"""The most that a tenant's backup begins after its slot."""
LATENESS = timedelta(hours=1)
"""How much later than its slot and jitter a backup may be done before it is said to be overdue."""


def backups(spec: TenantSpec, plan: str, plan_spec: TenantPlanSpec) -> TenantBackups | None:
    """What the schedule does; None where nobody has given one.

    Raises:
        Terminal: PlanExceeded.
    """
    own, given = spec.backup, plan_spec.backup
    mixed = {}
    for field in ("schedule", "time_zone", "retention"):
        wanted, usual = getattr(own, field, None), getattr(given, field, None)
        if wanted is not None and wanted != usual and OVERRIDABLE not in plan_spec.overridable:
            name = {"time_zone": "timeZone"}.get(field, field)
            raise Terminal(
                ConditionType.PLACED,
                Reason.PLAN_EXCEEDED,
                f"spec.backup.{name}: plan {plan!r} does not let a tenant set it ({OVERRIDABLE} is not among its "
                "overridable); take it out",
            )
        mixed[field] = wanted if wanted is not None else usual
    if mixed["schedule"] is None:
        return None
    return TenantBackups.model_construct(**mixed, suspend=own.suspend if own is not None else False)


def last_backup(spec: TenantSpec, plan: str, plan_spec: TenantPlanSpec) -> bool:
    """Whether a tenant's database is backed up before it is destroyed.

    Raises:
        Terminal: PlanExceeded.
    """
    own, given = spec.deletion.final_backup, plan_spec.deletion.final_backup
    if own is False and given:
        raise Terminal(
            ConditionType.PLACED,
            Reason.PLAN_EXCEEDED,
            f"spec.deletion.finalBackup: plan {plan!r} has one for all its tenants; take it out",
        )
    if own is not None or given is not None:
        return bool(own if own is not None else given)
    return any(each is not None and each.schedule is not None for each in (spec.backup, plan_spec.backup))


def spread(schedule: Schedule, after: datetime, zone: tzinfo) -> timedelta:
    """Over which time the tenants of one slot are spread: an hour, or half of the time between two slots."""
    first = next_after(schedule, after, zone)
    second = next_after(schedule, first, zone) if first is not None else None
    return min(SPREAD, (second - first) / 2) if first is not None and second is not None else SPREAD


@dataclass(frozen=True, slots=True)
class History:
    """What is known of a tenant's backups.

    Attributes:
        last_success: When the newest good one was completed.
        last_failure: When the newest one that failed had failed.
        failure: Why.
        since: Since when there is a schedule, or the tenant.
        last_proven: When one was last restored on trial, and was well.
        disproven: What was found when the newest one that was tried was not well; empty if it was.
        proof_due: From when on it is too long ago; None where none is to be restored on trial.
        obstacle: Why none can be restored on trial now; empty where nothing is known to stand in the way.
    """

    last_success: datetime | None
    last_failure: datetime | None
    failure: str
    since: datetime
    last_proven: datetime | None = None
    disproven: str = ""
    proof_due: datetime | None = None
    obstacle: str = ""


def health(schedule: Schedule, zone: tzinfo, history: History, now: datetime, *, suspended: bool) -> Outcome:
    """What the condition BackupHealthy says."""
    good, bad = history.last_success, history.last_failure
    if history.disproven:
        told = f"the newest backup that was restored on trial is not well: {history.disproven}"
        return Outcome(False, Reason.VERIFICATION_FAILED, told)
    if bad is not None and (good is None or bad > good):
        return Outcome(False, Reason.BACKUP_FAILED, f"the newest backup failed: {history.failure}")
    if suspended:
        return Outcome(None, Reason.SUSPENDED, "spec.backup.suspend is true: the schedule makes no backups")
    missed = next_after(schedule, good or history.since, zone)
    if missed is not None and missed + spread(schedule, missed, zone) + LATENESS < now:
        return Outcome(False, Reason.BACKUP_OVERDUE, f"no good backup since the slot of {missed:%Y-%m-%dT%H:%M:%SZ}")
    if good is None:
        return Outcome(None, Reason.BACKUP_PENDING, "the first backup was not due yet, or is under way")
    return _proven(history, good, now)


def _proven(history: History, good: datetime, now: datetime) -> Outcome:
    """Of backups that are good as far as reading them back tells."""
    proven, hindered = history.last_proven, f"; none can be now: {history.obstacle}" if history.obstacle else ""
    tried = f"one was restored on trial at {_time(proven)}" if proven is not None else "none was restored on trial yet"
    if history.proof_due is not None and history.proof_due < now:
        return Outcome(False, Reason.VERIFICATION_OVERDUE, f"{tried}, which is too long ago{hindered}")
    told = f"the newest backup was read back at {_time(good)}"
    if proven is not None or history.proof_due is not None:
        told = f"{told}, {tried}{hindered}"
    return Outcome(True, Reason.BACKUP_COMPLETED, told)


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
