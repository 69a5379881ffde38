"""Restores in the passes of their tenant: a database of the next epoch is filled beside the live one, then they swap.

A restore is a move of nothing but the data: its record has it as one, phase by phase, each written before it is acted
upon. Up to the one write that switches, the live database is not touched, but for being locked in the last moment.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from tenantry.api.base import parse_duration
from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.move import MovePhase
from tenantry.api.resources import TENANT_RECORDS, TENANT_RESTORES, Ref
from tenantry.api.tenant import Tenant
from tenantry.api.tenantrecord import Move, PinnedRestore, RestoreResult, TenantRecord
from tenantry.decide import move as decide
from tenantry.decide.conditions import Outcome
from tenantry.decide.deletion import time_text
from tenantry.decide.halt import Terminal, Waiting
from tenantry.ports.kube import KubeError
from tenantry.ports.postgres import DatabaseError
from tenantry.reconcile.arriving import Arrival
from tenantry.reconcile.database import CREATING, PARKED, SharedDatabase, is_own, refused
from tenantry.reconcile.leaving import stop_database
from tenantry.reconcile.loads import Loaded, LoadFailed, Loads
from tenantry.reconcile.openstores import BackupKit
from tenantry.reconcile.placing import Placed
from tenantry.reconcile.records import swap
from tenantry.reconcile.report import Report
from tenantry.reconcile.workloads import Workloads, WorkloadsRefusedError
from tenantry.reconcile.workspace import Workspace
from tenantry.reconcile.world import World

logger = logging.getLogger(__name__)

RETRY: Final = 2.0
LOAD_RETRY: Final = 10.0
AWAY_PATIENCE: Final = 30.0
"""Seconds that a server gets that does not answer after the live database was locked."""


class Restoring:
    """The restores of all tenants."""

    def __init__(self, world: World, kit: BackupKit) -> None:
        self._world = world
        self._loads = Loads(world, kit)
        self._away_since: dict[str, float] = {}

    async def forget(self, record: str) -> None:
        """Break off what is under way in this process for a tenant."""
        self._away_since.pop(record, None)
        await self._loads.stop(record)

    async def advance(self, tenant: Tenant, workspace: Workspace, placed: Placed, report: Report) -> Placed | None:
        """As far as the restore goes in this pass; the tenant's record must have one.

        Returns:
            Where the tenant is served now; None while its database is at rest between the two.

        Raises:
            ConflictError: somebody else wrote.
        """
        move, restore = _under_way(placed.record)
        report.move = placed.record.spec.last_move
        if move.phase == MovePhase.SWITCHED:
            _progress(report, "the restored database is being opened", RETRY)
            return placed
        if not self._is_there(placed.record, restore):
            return await self.take_back(tenant, placed, report, "its TenantRestore was deleted")
        arrival = Arrival(self._world, tenant, placed, move, workspace.labels)
        if move.phase == MovePhase.STOPPING:
            return await self._stop(tenant, placed, report, arrival)
        if restore.returns_to is not None:
            return await self._go_back(tenant, placed, report, arrival)
        return await self._fill(tenant, placed, report, arrival)

    async def finish(self, tenant: Tenant, placed: Placed, report: Report) -> None:
        """The last step: once the tenant can use what was restored, the restore is over.

        Raises:
            ConflictError: somebody else wrote.
            KubeError: of the target, in restarting workloads.
        """
        move, restore = _under_way(placed.record)
        served = (ConditionType.NAMESPACE_READY, ConditionType.DATABASE_READY, ConditionType.SECRETS_READY)
        if move.phase != MovePhase.SWITCHED or not report.good(*served):
            return
        stopped = self._milliseconds(move)
        left = [side for side in placed.record.spec.former if side.restore == restore.uid]
        workloads = Workloads(placed.target, placed.record.spec.cluster.namespace)
        note = ""
        try:
            await workloads.restart(move.started_at)
        except WorkloadsRefusedError as error:
            note = f"; workloads that read the login at their start were not all restarted: {error.message}"
        goes_back = restore.returns_to is not None
        told = "the former database is open again" if goes_back else f"{restore.rows} rows in {restore.tables} tables"
        result = RestoreResult(
            uid=restore.uid,
            outcome="Undone" if goes_back else "Completed",
            message=f"{told}{note}"[:1024],
            database=placed.record.spec.database.name,
            tables=restore.tables,
            rows=restore.rows,
            write_stop_milliseconds=stopped,
            undo_until=left[-1].purge_after if left else None,
            ended_at=time_text(self._world.clock.now()),
        )
        await self._end(placed.record, {"move": None}, result)
        del report.outcomes[ConditionType.MOVE_PROGRESSING]
        reason = Reason.RESTORE_UNDONE if goes_back else Reason.RESTORE_COMPLETED
        self._tell(tenant, reason, f"TenantRestore {restore.name!r}: {result.message}")

    # --- the phases ------------------------------------------------------------------------------------------------
    async def _fill(self, tenant: Tenant, placed: Placed, report: Report, arrival: Arrival) -> Placed | None:
        """The live database serves until the other one is complete."""
        record, (_, restore) = placed.record, _under_way(placed.record)
        found = self._loads.result(record.name)
        if isinstance(found, LoadFailed):
            return await self.take_back(tenant, placed, report, found.message)
        if isinstance(found, Loaded):
            logger.info("%s: %d rows in %d tables are restored", record.name, found.rows, found.tables)
            return await self._begin_stop(tenant, placed, report, arrival, found)
        told = f"TenantRestore {restore.name!r}: the backup is being restored beside the live database"
        if not self._loads.under_way(record.name):
            try:
                self._loads.begin(record.name, tenant.ref, arrival, restore)
            except Waiting as halt:
                told = f"TenantRestore {restore.name!r} waits: {halt.message}"
        _progress(report, told, LOAD_RETRY)
        return placed

    async def _go_back(self, tenant: Tenant, placed: Placed, report: Report, arrival: Arrival) -> Placed | None:
        try:
            await _check_there(arrival.shared(), PARKED)
        except (Terminal, Waiting) as halt:
            return await self.take_back(tenant, placed, report, halt.message)
        return await self._begin_stop(tenant, placed, report, arrival, None)

    async def _begin_stop(
        self, tenant: Tenant, placed: Placed, report: Report, arrival: Arrival, found: Loaded | None
    ) -> Placed | None:
        moment = self._world.clock.now().isoformat(timespec="milliseconds")
        change: dict[str, Any] = {"phase": MovePhase.STOPPING.value, "writeStoppedAt": moment}
        if found is not None:
            change["restore"] = {"tables": found.tables, "rows": found.rows}
        record = await swap(self._world, placed.record, {"move": change})
        return await self._stop(tenant, replace(placed, record=record), report, arrival)

    async def _stop(self, tenant: Tenant, placed: Placed, report: Report, arrival: Arrival) -> Placed | None:
        """Lock the live database, and switch in the same breath."""
        _, restore = _under_way(placed.record)
        try:
            await _check_there(arrival.shared(), PARKED if restore.returns_to is not None else CREATING)
            await stop_database(self._world, placed.record)
        except (Terminal, Waiting) as trouble:
            return await self._be_patient(tenant, placed, report, trouble.message)
        return await self._switch(tenant, placed, report)

    async def _switch(self, tenant: Tenant, placed: Placed, report: Report) -> Placed | None:
        """The one write that can't be taken back, other than by an undo."""
        world, record = self._world, placed.record
        try:
            # The later one, as for a deletion: by a clock that is behind the old database would be due at once.
            now = max(world.clock.now(), await world.management.now())
        except KubeError as trouble:
            return await self._be_patient(tenant, placed, report, trouble.message)
        window = max(parse_duration(placed.effective.deletion.window), timedelta())
        change = decide.switched(record.spec, time_text(now), time_text(now + window))
        record = await swap(world, record, change)
        await self.forget(record.name)
        here = replace(placed, identity=record.identity, record=record)
        report.placed(here)
        _progress(report, "the restored database is being opened", RETRY)
        return here

    async def _be_patient(self, tenant: Tenant, placed: Placed, report: Report, trouble: str) -> Placed | None:
        """A moment, for an answer may come late and the live database may be locked already; then back to it."""
        now = self._world.clock.monotonic()
        if now - self._away_since.setdefault(placed.record.name, now) > AWAY_PATIENCE:
            return await self.take_back(tenant, placed, report, trouble)
        message = f"the restore waits for a moment: {trouble}"
        _progress(report, message, RETRY)
        report.outcomes[ConditionType.DATABASE_READY] = Outcome(
            None, Reason.RESTORE_RUNNING, message, retry_after=RETRY
        )
        return None

    async def take_back(self, tenant: Tenant, placed: Placed, report: Report, why: str) -> Placed:
        """Nothing was written but into the new database, which goes; the live one is opened in this very pass."""
        world, record, (move, restore) = self._world, placed.record, _under_way(placed.record)
        await self.forget(record.name)
        now = time_text(world.clock.now())
        result = RestoreResult(
            uid=restore.uid,
            outcome="NotUndone" if restore.returns_to is not None else "Failed",
            message=why[:1024],
            write_stop_milliseconds=self._milliseconds(move) if move.write_stopped_at else None,
            ended_at=now,
        )
        record = await self._end(record, decide.rolled_back(record.spec, now), result)
        report.outcomes.pop(ConditionType.MOVE_PROGRESSING, None)
        message = f"TenantRestore {restore.name!r} came to nothing, the live database is as it was: {why}"
        self._tell(tenant, Reason.RESTORE_FAILED, message, warning=True)
        return replace(placed, record=record)

    async def _end(self, record: TenantRecord, change: dict[str, Any], result: RestoreResult) -> TenantRecord:
        """In one write with what ends it: a process that dies then has lost nothing of how it ended."""
        plain = result.model_dump(by_alias=True, mode="json")  # with null for what the former one had
        _, restore = _under_way(record)
        record = await swap(self._world, record, {**change, "lastRestore": plain})
        self._world.wake.wake(Ref(TENANT_RESTORES, record.spec.workspace, restore.name))
        self._world.wake.wake(Ref(TENANT_RECORDS, "", record.name))  # what is left has its time
        return record

    # --- telling -------------------------------------------------------------------------------------------------
    def _is_there(self, record: TenantRecord, restore: PinnedRestore) -> bool:
        body = self._world.live.get(Ref(TENANT_RESTORES, record.spec.workspace, restore.name))
        metadata = body["metadata"] if body is not None else {}
        return metadata.get("uid") == restore.uid and "deletionTimestamp" not in metadata

    def _milliseconds(self, move: Move) -> int | None:
        try:
            then = datetime.fromisoformat(move.write_stopped_at or "")
            return max(0, round((self._world.clock.now() - then).total_seconds() * 1000))
        except (ValueError, TypeError):
            return None

    def _tell(self, tenant: Tenant, reason: Reason, message: str, *, warning: bool = False) -> None:
        logger.info("%s: %s", reason, message)
        about = self._world.live.get(tenant.ref)
        if about is not None:
            self._world.events.emit(about, warning=warning, reason=reason, message=message)


async def _check_there(shared: SharedDatabase | None, state: str) -> None:
    """That the database that is to be switched to is there, and as it was left.

    Raises:
        Waiting: the server does not answer.
        Terminal: it is not.
    """
    if shared is None:
        raise Terminal(ConditionType.DATABASE_READY, Reason.RESTORE_FAILED, "this tenant has no database any more")
    try:
        found = await shared.server.admin.inspect(shared.wanted)
    except DatabaseError as error:
        raise refused(error) from error
    claim = found.claim
    if not found.exists or claim is None or claim.state != state or not is_own(claim, shared.wanted):
        told = f"database {shared.wanted.database!r} is not there, or not as it was left"
        raise Terminal(ConditionType.DATABASE_READY, Reason.RESTORE_FAILED, told)


def _under_way(record: TenantRecord) -> tuple[Move, PinnedRestore]:
    """The restore of a record that has one."""
    move = record.spec.move
    assert move is not None  # noqa: S101 - asked for only where there is one
    assert move.restore is not None  # noqa: S101 - as above
    return move, move.restore


def _progress(report: Report, message: str, retry_after: float) -> None:
    report.outcomes[ConditionType.MOVE_PROGRESSING] = Outcome(
        True, Reason.RESTORE_RUNNING, message, retry_after=retry_after
    )
