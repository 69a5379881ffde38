"""A tenant's backups in its own pass: its schedule is handed on, and its status tells how its backups are."""

from __future__ import annotations

from datetime import datetime

from tenantry.api.backuppolicy import BackupReport
from tenantry.api.conditions import Reason
from tenantry.api.tenant import Tenant
from tenantry.api.tenantbackup import BackupPhase
from tenantry.decide.backuppolicy import History, health
from tenantry.decide.conditions import Outcome
from tenantry.decide.deletion import time_text
from tenantry.decide.schedule import ScheduleError
from tenantry.decide.trial import overdue_at
from tenantry.reconcile.openstores import BackupKit
from tenantry.reconcile.placing import Placed
from tenantry.reconcile.report import Report
from tenantry.reconcile.schedules import Scheduled, schedule_of
from tenantry.reconcile.shelf import disproven, last_proven
from tenantry.reconcile.trialterms import terms_of
from tenantry.reconcile.world import World


def look_after_backups(world: World, kit: BackupKit, tenant: Tenant, placed: Placed, report: Report) -> None:
    """Hand the schedule on, and put into the report how it is with the backups. Of a rehearsal nothing is told."""
    if world.rehearsal:
        return
    own, now = kit.shelf.of(tenant.ref), world.clock.now()
    good = [each for each in own if each.good and each.completed_at]
    last = max((each.completed_at for each in good if each.completed_at is not None), default=None)
    proven = last_proven(own, now)
    scheduled = _schedule(world, tenant, placed, report)
    if scheduled is None:
        kit.schedules.forget(tenant.ref)
        report.backup = _told(last, proven, None)
        return
    kit.schedules.set(scheduled)
    failures = [each for each in own if each.phase == BackupPhase.FAILED and each.completed_at]
    worst = max(failures, key=lambda each: each.completed_at or scheduled.since, default=None)
    bad, terms = disproven(own), terms_of(world, scheduled.store)
    interval = terms.interval if terms is not None else None
    history = History(
        last_success=last,
        last_failure=worst.completed_at if worst is not None else None,
        failure=worst.failure if worst is not None else "",
        since=scheduled.since,
        last_proven=proven,
        disproven=f"{bad.ref.name}: {bad.finding}" if bad is not None else "",
        proof_due=overdue_at(proven, scheduled.since, interval) if interval is not None else None,
        obstacle=world.trials.obstacle(tenant.ref),
    )
    report.backup_outcome = health(scheduled.schedule, scheduled.zone, history, now, suspended=scheduled.suspended)
    report.backup = _told(last, proven, None if scheduled.suspended else scheduled.next_run(now))


def _schedule(world: World, tenant: Tenant, placed: Placed, report: Report) -> Scheduled | None:
    policy, store = placed.effective.backup, placed.cluster.spec.backup_store
    if policy is None:
        return None
    database = placed.record.spec.database
    if database.mode != "Shared":
        told = f"its database is of mode {database.mode}; only Shared ones can be backed up yet"
        report.backup_outcome = Outcome(False, Reason.NO_DATABASE, told)
        return None
    if store is None:
        told = f"Cluster {placed.cluster.name!r} names no backupStore: the platform team has to"
        report.backup_outcome = Outcome(False, Reason.NO_BACKUP_STORE, told)
        return None
    created = datetime.fromisoformat(tenant.metadata.creation_timestamp)
    try:
        where = (store, database.server)
        return schedule_of(policy, tenant.ref, placed.identity, where, created, world.clock.now())
    except ScheduleError as error:
        report.backup_outcome = Outcome(False, Reason.SCHEDULE_INVALID, str(error))
        return None


def _told(last: datetime | None, proven: datetime | None, coming: datetime | None) -> BackupReport | None:
    if last is None and coming is None:
        return None
    return BackupReport(
        last_success=time_text(last) if last is not None else None,
        last_verified=time_text(proven) if proven is not None else None,
        next_run=time_text(coming) if coming is not None else None,
    )
