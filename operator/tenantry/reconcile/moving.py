"""Moving a tenant to another cluster or server: phase by phase, each written to its record before it is acted upon."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from tenantry.api.base import parse_duration
from tenantry.api.cluster import Cluster
from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.move import MovePhase, MoveStatus
from tenantry.api.names import ANNOTATION_APPROVE_MOVE
from tenantry.api.resources import CLUSTERS, TENANT_RECORDS, Ref
from tenantry.api.tenant import Tenant
from tenantry.api.tenantrecord import Move, TenantRecord
from tenantry.decide import move as decide
from tenantry.decide.conditions import Outcome
from tenantry.decide.deletion import time_text
from tenantry.decide.halt import Terminal, Waiting
from tenantry.decide.move import Destination, Step
from tenantry.decide.placement import means, place
from tenantry.ports.kube import ConflictError, KubeError
from tenantry.ports.servers import Copied
from tenantry.reconcile.arriving import Arrival, pin_cluster, pin_server
from tenantry.reconcile.copies import AT_ONCE, Copies, Failed, copies_of_others
from tenantry.reconcile.database import UnknownSideError
from tenantry.reconcile.exclusive import wants_own
from tenantry.reconcile.leaving import seconds_since, stop_old_side
from tenantry.reconcile.parking import ready_server, wanted_of
from tenantry.reconcile.placing import Placed, candidates
from tenantry.reconcile.records import swap
from tenantry.reconcile.report import Report
from tenantry.reconcile.workspace import Workspace
from tenantry.reconcile.world import World

logger = logging.getLogger(__name__)

RETRY: Final = 2.0
COPY_RETRY: Final = 10.0
AWAY_PATIENCE: Final = 30.0
"""Seconds that a new side gets that does not answer after the write-stop: taking the move back costs another one."""
STOP_PATIENCE: Final = 600.0
"""Seconds that pods and sessions get to end before the move is rolled back."""


class Moving:
    """The moves of all tenants."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._copies = Copies(world)
        self._away_since: dict[str, float] = {}

    async def forget(self, record: str) -> None:
        """Break off what is under way in this process for a tenant that is being deleted."""
        self._away_since.pop(record, None)
        await self._copies.stop(record)

    async def advance(self, tenant: Tenant, workspace: Workspace, placed: Placed, report: Report) -> Placed | None:
        """As far as the move goes in this pass, if there is one.

        Returns:
            Where the tenant is served now, on this side or that; None while it is at rest between the two.

        Raises:
            ConflictError: somebody else wrote.
        """
        record = placed.record
        report.move = record.spec.last_move
        move, approval = record.spec.move, tenant.metadata.annotations.get(ANNOTATION_APPROVE_MOVE)
        try:
            wanted = self._wanted(tenant, workspace, placed, approval)
            step = decide.next_step(wanted, approval, move, record.spec.move_failed)
            match step:
                case Step.ASK:
                    where = record.spec
                    raise decide.not_approved(wanted, where.cluster.name, where.database.server, approval)
                case Step.TELL_FAILURE:
                    raise _failed(record)
                case Step.BEGIN:
                    # What it does comes with the next pass: a pass that only rehearses ends here.
                    return await self._begin(tenant, workspace, placed, wanted, report)
                case Step.FORGET_FAILURE:
                    record = await swap(self._world, record, {"moveFailed": None})
                    return await self.advance(tenant, workspace, replace(placed, record=record), report)
                case Step.ROLL_BACK:
                    return await self.take_back(tenant, placed, report, "it is not wanted any more", failed=False)
                case _:
                    pass
        except UnknownSideError as halt:
            # It may live there: then what the record knows is of the past, and must not be opened beside it.
            report.outcomes[ConditionType.PLACED] = Outcome.of(halt)
            return None
        except (Terminal, Waiting) as halt:
            # What it has goes on being served and repaired where it is.
            report.outcomes[ConditionType.PLACED] = Outcome.of(halt)
            return placed
        return await self._go_on(tenant, workspace, placed, report) if placed.record.spec.move else placed

    async def finish(self, tenant: Tenant, placed: Placed, report: Report) -> None:
        """The last step: once the tenant has all it needs on the new side, the move is over.

        Raises:
            ConflictError: somebody else wrote.
        """
        move = placed.record.spec.move
        served = (ConditionType.NAMESPACE_READY, ConditionType.DATABASE_READY, ConditionType.SECRETS_READY)
        if move is None or move.phase != MovePhase.SWITCHED or not report.good(*served):
            return
        seconds = round(seconds_since(move.write_stopped_at, self._world))
        ended = _status(move, "Completed").model_copy(update={"write_stop_seconds": seconds})
        record = await swap(self._world, placed.record, {"move": None, "lastMove": _plain(ended)})
        del report.outcomes[ConditionType.MOVE_PROGRESSING]
        report.move = ended
        message = f"moved from {move.origin} to {move.destination}: nothing could be written for {seconds} s"
        self._tell(tenant, Reason.MOVED, message)
        self._world.wake.wake(Ref(TENANT_RECORDS, "", record.name))  # what was left has its time

    # --- whether -----------------------------------------------------------------------------------------------
    def _wanted(self, tenant: Tenant, workspace: Workspace, placed: Placed, approval: str | None) -> Destination:
        """Where the spec means the tenant to be, as far as that is another place than it has.

        Raises:
            Waiting, Terminal: it means no cluster that is there.
        """
        record, move = placed.record, placed.record.spec.move
        shared = tenant.spec.database.shared
        server = shared.server if shared is not None and record.spec.database.mode == "Shared" else None
        if server == record.spec.database.server:
            server = None
        placement, here = tenant.spec.placement, placed.cluster
        if means(placement, here):
            return Destination(None, server)
        if placement is not None and placement.cluster is not None:
            return Destination(placement.cluster, server)
        if move is not None:  # nothing is chosen anew, and nothing may stop a pass that has to roll back
            name = move.cluster.name if move.cluster is not None else ""
            body = self._world.live.get(Ref(CLUSTERS, "", name))
            fits = body is not None and means(placement, Cluster.model_validate(body))
            return Destination(name if fits else "another", server)
        return Destination(self._choose(tenant, workspace, record.name, approval), server)

    def _choose(self, tenant: Tenant, workspace: Workspace, record: str, approval: str | None) -> str:
        """A cluster for a region or environment: the one that was approved, if it will do.

        Raises:
            Waiting, Terminal: there is none.
        """
        spec, found = tenant.spec, candidates(self._world, record)
        own = wants_own(tenant)
        named = [each for each in found if each.cluster.name in (approval or "").split("/")]
        try:
            return place(spec.placement, workspace.labels, named, spec.environment, exclusive=own).name
        except (Terminal, Waiting):
            return place(spec.placement, workspace.labels, found, spec.environment, exclusive=own).name

    async def _begin(
        self, tenant: Tenant, workspace: Workspace, placed: Placed, wanted: Destination, report: Report
    ) -> Placed:
        """Write down where it goes, before anything is made there.

        Raises:
            Halt: the destination does not take it.
        """
        world, record = self._world, placed.record
        epoch = decide.next_epoch(record.spec)
        decide.check_mode(record.spec.database.mode)
        if len(record.spec.former) >= decide.MOST_SIDES:
            raise Terminal(
                ConditionType.PLACED,
                Reason.MOVE_NOT_SUPPORTED,
                f"{len(record.spec.former)} sides that this tenant has left still wait for their purge; wait for one",
            )
        cluster = database = None
        if wanted.cluster is not None:
            cluster = await pin_cluster(world, tenant, placed, wanted.cluster, workspace.labels, epoch)
        if wanted.server is not None:
            database = await pin_server(world, placed, wanted.server, workspace.labels, epoch)
        origin = Destination(
            record.spec.cluster.name if cluster else None, record.spec.database.server if database else None
        )
        move = Move(
            phase=MovePhase.PREPARING,
            epoch=epoch,
            origin=origin.word,
            destination=wanted.word,
            cluster=cluster,
            database=database,
            started_at=time_text(world.clock.now()),
        )
        body = move.model_dump(by_alias=True, mode="json", exclude_none=True)
        record = await swap(world, record, {"move": body, "moveFailed": None})
        told = f"moving from {move.origin} to {move.destination}"
        self._tell(tenant, Reason.MOVE_PREPARING, told)
        report.move = _status(move, move.phase)
        report.outcomes[ConditionType.MOVE_PROGRESSING] = Outcome(True, Reason.MOVE_PREPARING, told, retry_after=RETRY)
        world.wake.wake(tenant.ref)
        return replace(placed, record=record)

    # --- how -----------------------------------------------------------------------------------------------------
    async def _go_on(self, tenant: Tenant, workspace: Workspace, placed: Placed, report: Report) -> Placed | None:
        move = _move_of(placed)
        arrival = Arrival(self._world, tenant, placed, move, workspace.labels)
        match move.phase:
            case MovePhase.PREPARING:
                return await self._prepare(tenant, placed, report, arrival)
            case MovePhase.STOPPING:
                return await self._stop(tenant, placed, report, arrival)
            case MovePhase.COPYING:
                return await self._copy(tenant, placed, report, arrival)
            case MovePhase.SWITCHED:
                await self.forget(placed.record.name)
                report.move = _status(move, MovePhase.SWITCHED)
                told = f"it lives at {move.destination} now, and is being opened there"
                report.outcomes[ConditionType.MOVE_PROGRESSING] = Outcome(True, Reason.MOVE_SWITCHED, told)
                return placed

    async def _prepare(self, tenant: Tenant, placed: Placed, report: Report, arrival: Arrival) -> Placed | None:
        """The old side serves until the new one is complete."""
        move = _move_of(placed)
        try:
            made = await arrival.prepare()
        except (Terminal, Waiting) as halt:
            made = Outcome.of(halt)
        except KubeError as error:
            made = Outcome(None, Reason.RETRYING, error.message)
        if made.status is not True:
            report.move = _status(move, move.phase)
            told = f"the new side at {move.destination} is being made: {made.message}"
            report.outcomes[ConditionType.MOVE_PROGRESSING] = Outcome(
                True, Reason.MOVE_PREPARING, told, retry_after=made.retry_after or RETRY
            )
            return placed
        if move.database is not None and (others := copies_of_others(self._world, placed.record)) >= AT_ONCE:
            report.move = _status(move, move.phase)
            told = f"the new side at {move.destination} is there; {others} other tenants are being copied: it waits"
            report.outcomes[ConditionType.MOVE_PROGRESSING] = Outcome(
                True, Reason.MOVE_PREPARING, told, retry_after=COPY_RETRY
            )
            return placed
        stopped_at = self._world.clock.now().isoformat(timespec="milliseconds")
        change = {"phase": MovePhase.STOPPING.value, "writeStoppedAt": stopped_at}
        record = await swap(self._world, placed.record, {"move": change})
        self._tell(tenant, Reason.MOVE_STOPPING, "the new side is there: the old one is stopped")
        return await self._stop(tenant, replace(placed, record=record), report, arrival)

    async def _stop(self, tenant: Tenant, placed: Placed, report: Report, arrival: Arrival) -> Placed | None:
        move = _move_of(placed)
        try:
            self._check_new_side(move, arrival)
        except (Terminal, Waiting) as halt:
            return await self._be_patient(tenant, placed, report, halt.message)
        self._away_since.pop(placed.record.name, None)
        try:
            await stop_old_side(self._world, placed.target, placed.record, move)
        except ConflictError:
            raise
        except (Terminal, Waiting, KubeError) as trouble:
            if seconds_since(move.write_stopped_at, self._world) > STOP_PATIENCE:
                return await self.take_back(tenant, placed, report, trouble.message)
            self._rest(report, placed, Reason.MOVE_STOPPING, f"the old side is being stopped: {trouble.message}", RETRY)
            return None
        if move.database is None:
            return await self._switch(tenant, placed, report, arrival)
        await self._copies.stop(placed.record.name)  # whatever an earlier move has left is nothing of this one
        record = await swap(self._world, placed.record, {"move": {"phase": MovePhase.COPYING.value}})
        return await self._copy(tenant, replace(placed, record=record), report, arrival)

    async def _copy(self, tenant: Tenant, placed: Placed, report: Report, arrival: Arrival) -> Placed | None:
        record, move = placed.record, _move_of(placed)
        found = self._copies.result(record.name)
        if isinstance(found, Copied):
            logger.info("%s is copied and equal: %s", record.identity.tenant_id, found)
            return await self._switch(tenant, placed, report, arrival)
        if isinstance(found, Failed):
            return await self.take_back(tenant, placed, report, f"the copy failed: {found.message}")
        if not self._copies.under_way(record.name):
            try:
                self._check_new_side(move, arrival)
                # Locked again: a process that died, or a person, may have left something open.
                await stop_old_side(self._world, placed.target, record, move)
                old = ready_server(self._world, record)
            except ConflictError:
                raise
            except (Terminal, Waiting, KubeError) as trouble:
                return await self._be_patient(tenant, placed, report, trouble.message)
            self._copies.begin(record.name, tenant.ref, arrival, (old, wanted_of(record)))
        told = f"the database is being copied to {move.destination}; nothing can be written meanwhile"
        self._rest(report, placed, Reason.MOVE_COPYING, told, COPY_RETRY)
        return None

    async def _switch(self, tenant: Tenant, placed: Placed, report: Report, arrival: Arrival) -> Placed | None:
        """The one write that can't be taken back: from here on the tenant lives on the new side."""
        world, record, move = self._world, placed.record, _move_of(placed)
        try:
            self._check_new_side(move, arrival)
            there = arrival.placed()
            if move.cluster is not None:
                await there.target.kube.now()  # that it was there when it was probed last may be a minute ago
        except (Terminal, Waiting, KubeError) as trouble:
            return await self._be_patient(tenant, placed, report, trouble.message)
        # The later one, as for a deletion: by a clock that is behind the old side's time would be over at once.
        now = max(world.clock.now(), await world.management.now())
        window = parse_duration(placed.effective.deletion.window)
        change = decide.switched(record.spec, time_text(now), time_text(now + max(window, timedelta())))
        record = await swap(world, record, change)
        await self.forget(record.name)
        self._tell(tenant, Reason.MOVE_SWITCHED, f"it lives at {move.destination} now")
        there = replace(there, identity=record.identity, record=record)
        report.placed(there)
        report.move = _status(_move_of(there), MovePhase.SWITCHED)
        told = f"it lives at {move.destination} now, and is being opened there"
        report.outcomes[ConditionType.MOVE_PROGRESSING] = Outcome(True, Reason.MOVE_SWITCHED, told)
        return there

    async def _be_patient(self, tenant: Tenant, placed: Placed, report: Report, trouble: str) -> Placed | None:
        """A moment, for an answer may come late and the tenant is stopped already; then back to the old side."""
        now = self._world.clock.monotonic()
        if now - self._away_since.setdefault(placed.record.name, now) > AWAY_PATIENCE:
            return await self.take_back(tenant, placed, report, trouble)
        copying = _move_of(placed).phase == MovePhase.COPYING
        reason = Reason.MOVE_COPYING if copying else Reason.MOVE_STOPPING
        self._rest(report, placed, reason, f"the move waits for a moment: {trouble}", RETRY)
        return None

    async def take_back(
        self, tenant: Tenant, placed: Placed, report: Report, why: str, *, failed: bool = True
    ) -> Placed:
        """Nothing was written on the new side: the old one is all there is, and is opened again in this very pass."""
        world, record, move = self._world, placed.record, _move_of(placed)
        await self.forget(record.name)
        message = f"the move to {move.destination} was rolled back: {why}"
        now = time_text(world.clock.now())
        seconds = round(seconds_since(move.write_stopped_at, world)) if move.write_stopped_at else None
        ended = _status(move, "RolledBack").model_copy(update={"write_stop_seconds": seconds})
        change = decide.rolled_back(record.spec, now, message if failed else "")
        record = await swap(world, record, {**change, "lastMove": _plain(ended)})
        self._tell(tenant, Reason.MOVE_ROLLED_BACK, message, warning=True)
        report.move = ended
        if failed:
            report.outcomes[ConditionType.PLACED] = Outcome.of(_failed(record))
        world.wake.wake(Ref(TENANT_RECORDS, "", record.name))  # what was made there goes
        return replace(placed, record=record)

    @staticmethod
    def _check_new_side(move: Move, arrival: Arrival) -> None:
        """That it is worth waiting for: its cluster and server are there and the same.

        Raises:
            Waiting, Terminal: they are not.
        """
        if move.cluster is not None:
            arrival.placed()
        arrival.shared()

    # --- telling -------------------------------------------------------------------------------------------------
    def _rest(self, report: Report, placed: Placed, reason: Reason, message: str, retry_after: float) -> None:
        report.move = _status(_move_of(placed), _move_of(placed).phase)
        report.outcomes[ConditionType.MOVE_PROGRESSING] = Outcome(True, reason, message)
        report.outcomes[ConditionType.NAMESPACE_READY] = Outcome(None, reason, message, retry_after=retry_after)

    def _tell(self, tenant: Tenant, reason: Reason, message: str, *, warning: bool = False) -> None:
        logger.info("%s: %s", reason, message)
        about = self._world.live.get(tenant.ref)
        if about is not None:
            self._world.events.emit(about, warning=warning, reason=reason, message=message)


def _move_of(placed: Placed) -> Move:
    """The move of a record that has one."""
    move = placed.record.spec.move
    assert move is not None  # noqa: S101 - asked for only where the phase is known
    return move


def _failed(record: TenantRecord) -> Terminal:
    return Terminal(
        ConditionType.PLACED,
        Reason.MOVE_FAILED,
        f"{record.spec.move_failed}. It is not tried again by itself, for each try stops the tenant: take "
        f"{ANNOTATION_APPROVE_MOVE} off and set it again, or set the spec back",
    )


def _plain(status: MoveStatus) -> dict[str, Any]:
    plain: dict[str, Any] = status.model_dump(by_alias=True, mode="json")  # with null for what the former one had
    return plain


def _status(move: Move, phase: str) -> MoveStatus:
    return MoveStatus(
        phase=str(phase),
        origin=move.origin,
        destination=move.destination,
        started_at=move.started_at,
        write_stopped_at=move.write_stopped_at,
    )
