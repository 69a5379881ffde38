"""The sides that moves have left: at rest until their time is over, then removed; the tenant lives on beside them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from tenantry.api.conditions import Reason
from tenantry.api.names import ANNOTATION_FORGET_SIDE, STATE_LEFT
from tenantry.api.resources import TENANT_RECORDS, Ref
from tenantry.api.tenantrecord import FormerSide, RecordState, TenantRecord
from tenantry.decide.deletion import parse_time
from tenantry.decide.halt import Halt, Waiting
from tenantry.decide.move import left_behind
from tenantry.ports.kube import ConflictError, KubeError
from tenantry.ports.postgres import DatabaseError
from tenantry.reconcile.contention import ROOM
from tenantry.reconcile.database import READY, UnknownSideError, is_own, refused
from tenantry.reconcile.parking import park_database, ready_server, wanted_of
from tenantry.reconcile.placing import usable_target
from tenantry.reconcile.purge import check_due, of_side, purge_side, side_record
from tenantry.reconcile.quiescence import quiesce_namespace
from tenantry.reconcile.records import find_named, swap, take_in
from tenantry.reconcile.world import World

logger = logging.getLogger(__name__)

RETRY: Final = 30.0
IN_CARE: Final = (RecordState.ACTIVE, RecordState.DELETED, RecordState.RETAINED)
"""Of a record that is Purging they go with it, and one that is Orphaned waits for its cluster."""


class LeftSides:
    """Looks after them for all records.

    Args:
        world: The world.
        slot: Seconds until the next purge may begin; None where it may now.
    """

    def __init__(self, world: World, slot: Callable[[], float | None]) -> None:
        self._world = world
        self._slot = slot

    async def look_after(self, record: TenantRecord) -> tuple[TenantRecord, float | None]:
        """One pass over all of a record's; the record as it then is, and seconds until they want the next one.

        Raises:
            ConflictError: somebody else wrote.
        """
        if record.spec.state not in IN_CARE or not record.spec.former:
            return record, None
        times: list[float] = []
        for side in record.spec.former:
            try:
                record, again = await self._one(record, side)
            except ConflictError:
                raise
            except (Halt, KubeError) as trouble:
                retry_after = trouble.retry_after if isinstance(trouble, Waiting) else None
                times.append(retry_after or RETRY)
                record = await self._note(record, side, of_side(side, trouble))
                logger.info("what %s has left waits: %s", record.identity.tenant_id, trouble.message)
            else:
                times += [again] if again is not None else []
        return record, min(times, default=None)

    async def forget(self, record: TenantRecord) -> TenantRecord:
        """Drop the side that the platform team says is gone for good; the record as it then is.

        Nothing of it is touched. It is told before it is written: what was left where is known nowhere afterwards.

        Raises:
            ConflictError: somebody else wrote.
        """
        word = record.metadata.annotations.get(ANNOTATION_FORGET_SIDE)
        if word is None:
            return record
        world, ref = self._world, Ref(TENANT_RECORDS, "", record.name)
        side = next((each for each in record.spec.former if str(each.epoch) == word), None)
        if side is not None:
            reason, told = Reason.SIDE_FORGOTTEN, f"left behind for good, as of epoch {word}: {left_behind(side)}"
        else:
            epochs = ", ".join(str(each.epoch) for each in record.spec.former) or "none"
            reason = Reason.SIDE_NOT_FOUND
            told = f"{ANNOTATION_FORGET_SIDE}: {word[:64]!r} is no epoch of spec.former; it has {epochs}"
        logger.warning("%s: %s: %s", record.name, reason, told)
        world.events.emit(world.live.get(ref) or {}, warning=True, reason=reason, message=told)
        sides = [_plain(each) for each in record.spec.former if each is not side]
        metadata = {"resourceVersion": record.metadata.resource_version, "annotations": {ANNOTATION_FORGET_SIDE: None}}
        with world.live.writing(ref):
            answer = await world.management.merge_patch(ref, {"metadata": metadata, "spec": {"former": sides}})
            record = take_in(world, answer)
        if side is not None:
            world.contention.freed(ROOM, world.wake.wake)
        return record

    async def _one(self, record: TenantRecord, side: FormerSide) -> tuple[TenantRecord, float | None]:
        world, part = self._world, side_record(record, side)
        if side.state != RecordState.PURGING:
            if not self._is_due(side) or record.spec.move is not None:
                if not _is_wanted_back(record, side):
                    await self._check_shut(part)
                    await self._bring_to_rest(part, side)
                return record, self._until(side)
            await check_due(world, part)
            if (wait := self._slot()) is not None:
                return record, wait
            going = side.model_copy(update={"state": RecordState.PURGING})
            record = await self._replace(record, side, going)
            side = going
        await self._check_shut(part)
        await purge_side(world, record, side)
        logger.info("purged: what %s has left in epoch %d is gone", record.identity.tenant_id, side.epoch)
        record = await self._replace(record, side, None)
        world.contention.freed(ROOM, world.wake.wake)
        return record, None

    async def _check_shut(self, part: TenantRecord) -> None:
        """That nobody lives there: what was left is parked before it is left, and what is taken back was never open.

        Raises:
            UnknownSideError: its database is open. The record is from before a move, a restore, or its undo.
            Waiting: it can't be told.
        """
        pinned = part.spec.database
        if pinned.mode != "Shared":
            return
        server, wanted = ready_server(self._world, part), wanted_of(part)
        try:
            state = await server.admin.inspect(wanted)
        except DatabaseError as error:
            raise refused(error) from error
        claim = state.claim
        if state.exists and claim is not None and claim.state == READY and is_own(claim, wanted):
            raise UnknownSideError(f"DatabaseServer {pinned.server!r} has {pinned.name!r} open", part.name)

    async def _bring_to_rest(self, part: TenantRecord, side: FormerSide) -> None:
        """It was stopped before the switch; now it also says until when it is kept."""
        if side.cluster is not None:
            await quiesce_namespace(self._world, usable_target(self._world, part), part, STATE_LEFT)
        await park_database(self._world, part)

    async def _note(self, record: TenantRecord, side: FormerSide, trouble: Halt | KubeError) -> TenantRecord:
        """Keep on the record what a purge waits for; the record as it is after whatever was done before."""
        record = find_named(self._world, Ref(TENANT_RECORDS, "", record.name)) or record
        now = next((each for each in record.spec.former if each.epoch == side.epoch), None)
        message = trouble.message[:1024]
        usual = isinstance(trouble, Halt) and trouble.reason == Reason.DELETING
        if now is None or usual or now.message == message or not self._is_due(now):
            return record
        return await self._replace(record, now, now.model_copy(update={"message": message}))

    async def _replace(self, record: TenantRecord, side: FormerSide, by: FormerSide | None) -> TenantRecord:
        sides = [by if each.epoch == side.epoch else each for each in record.spec.former]
        return await swap(self._world, record, {"former": [_plain(each) for each in sides if each is not None]})

    def _is_due(self, side: FormerSide) -> bool:
        due = parse_time(side.purge_after)
        return side.state == RecordState.PURGING or (due is not None and due <= self._world.clock.now())

    def _until(self, side: FormerSide) -> float:
        """Seconds until it is due, at most the resync; of one that waits only for the end of a move, a moment."""
        world, due = self._world, parse_time(side.purge_after)
        left = (due - world.clock.now()).total_seconds() if due is not None else 0.0
        return min(world.jitter(world.settings.resync), max(left, 2.0))


def _plain(side: FormerSide) -> dict[str, Any]:
    plain: dict[str, Any] = side.model_dump(by_alias=True, mode="json", exclude_none=True)
    return plain


def _is_wanted_back(record: TenantRecord, side: FormerSide) -> bool:
    """Whether the undo of a restore is about to open it again."""
    move = record.spec.move
    return move is not None and move.restore is not None and move.restore.returns_to == side.epoch
