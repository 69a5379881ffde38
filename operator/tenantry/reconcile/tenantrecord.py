"""TenantRecord: what becomes of what a tenant has when its Tenant is not there (any more)."""

from __future__ import annotations

import logging
from typing import Any

from tenantry.api.conditions import Reason
from tenantry.api.names import ANNOTATION_START_FRESH, CLAIM_CLUSTER, LABEL_CLAIM
from tenantry.api.resources import CLUSTERS, TENANT_RECORDS, TENANTS, Ref
from tenantry.api.tenant import Tenant
from tenantry.api.tenantrecord import RecordState, TenantRecord
from tenantry.decide.deletion import departure, parse_time
from tenantry.decide.halt import Halt, Waiting
from tenantry.desired.stamp import bears_stamp
from tenantry.ports.kube import ConflictError, KubeError, NotFoundError
from tenantry.ports.postgres import DatabaseError
from tenantry.reconcile.holding import Holding, SettlingError, ends_by_itself
from tenantry.reconcile.leftsides import LeftSides
from tenantry.reconcile.memory import Memory
from tenantry.reconcile.placing import usable_target
from tenantry.reconcile.purge import check_due, purge
from tenantry.reconcile.quiescence import quiesce
from tenantry.reconcile.records import find_named, remove_record, swap
from tenantry.reconcile.result import Result
from tenantry.reconcile.workspace import find_workspace
from tenantry.reconcile.world import World

logger = logging.getLogger(__name__)

RETRY = 30.0


class TenantRecordReconciler:
    """Reconciles TenantRecords. While its Tenant is there, a record is the Tenant's reconcile's business."""

    def __init__(self, world: World, memory: Memory) -> None:
        self._world = world
        self._memory = memory
        self._purges: list[float] = []
        self._holding = Holding(world, memory)
        self._left = LeftSides(world, self._purge_slot)

    async def reconcile(self, key: Ref) -> Result:
        """One pass over one TenantRecord."""
        record = find_named(self._world, key)
        if record is None:
            return Result()
        record = await self._left.forget(record)
        record, again = await self._left.look_after(record)
        if await self._has_tenant(record):
            return Result(requeue_after=again)
        return _sooner(await self._alone(record), again)

    async def _alone(self, record: TenantRecord) -> Result:
        try:
            return await self._look_after(record)
        except Halt as halt:
            retry_after = halt.retry_after if isinstance(halt, Waiting) else None
            if halt.reason != Reason.DELETING and self._is_due(record):
                await self._note(record.name, halt.message)
            return Result(requeue_after=retry_after or RETRY)
        except ConflictError:
            raise
        except KubeError as error:
            if self._is_due(record):
                await self._note(record.name, error.message)
            return Result.after(error)

    async def _look_after(self, record: TenantRecord) -> Result:
        match record.spec.state:
            case RecordState.ACTIVE:
                return await self._abandoned(record)
            case RecordState.ORPHANED:
                return await self._found_again(record)
            case RecordState.DELETED:
                return await self._in_window(record)
            case RecordState.PURGING:
                return await self._purge(record)
            case RecordState.RETAINED:
                return Result()

    async def _abandoned(self, record: TenantRecord) -> Result:
        world = self._world
        empty = False if record.spec.former or record.spec.move is not None else await self._is_empty(record)
        if empty is None:
            return Result(retry=True)
        if empty:
            await remove_record(world, record)  # the Tenant went before anything was made for it
            world.wake.wake(Ref(CLUSTERS, "", record.spec.cluster.name))  # it gives a claim of the whole of it back
            return Result()
        if (tenant := world.endings.tenant_of(record.spec.tenant_uid)) is not None:
            return await self._deleted_too_soon(record, tenant)
        # Somebody removed our finalizer by hand: nothing is destroyed that nobody asked to destroy.
        world.events.emit(
            _about(record),
            warning=True,
            reason="TenantMissing",
            message=f"Tenant {record.spec.workspace}/{record.spec.tenant} is gone without having been deleted here; "
            "what it has goes on running. Apply it again to take it over, or apply and delete it to remove it",
        )
        return Result(requeue_after=world.jitter(world.settings.resync))

    async def _deleted_too_soon(self, record: TenantRecord, tenant: Tenant) -> Result:
        """It was deleted while it got our finalizer: its deletion goes on without it, as its record says.

        Where it would be held, nobody can be asked any more: then it is as if it had been aborted.
        """
        world = self._world
        now = max(world.clock.now(), await world.management.now())
        change: dict[str, Any] = departure(record.spec.deletion, now)
        try:
            record = await self._holding.check(tenant, record)
        except SettlingError as settling:
            return Result(requeue_after=settling.seconds)
        except Waiting:
            record = find_named(world, Ref(TENANT_RECORDS, "", record.name)) or record
            change = {**change, **_retained(record)}
        if ends_by_itself(tenant, now):
            change["expired"] = True
        if change["state"] == RecordState.PURGING:
            if (wait := self._purge_slot()) is not None:
                return Result(requeue_after=wait)
            if "expired" not in change:
                await self._memory.note_deletion(record)
        if not tenant.dry_run:
            change["lastSpec"] = world.endings.spec_of(tenant.metadata.uid)
        record = await swap(world, record, change)
        world.endings.forget(tenant.metadata.uid)
        if "message" in change:
            logger.warning("%s: %s", record.name, record.spec.message)
            world.events.emit(_about(record), warning=True, reason=Reason.RETAINED, message=record.spec.message)
        return await self._look_after(record)

    async def _found_again(self, record: TenantRecord) -> Result:
        """What was let go of is dealt with as its deletion said, once its cluster and server are back."""
        usable_target(self._world, record)
        state = RecordState.PURGING if record.spec.purge_after is None else RecordState.DELETED
        record = await swap(self._world, record, {"state": state.value, "message": ""})
        return await self._look_after(record)

    async def _in_window(self, record: TenantRecord) -> Result:
        """At rest until its time is over; then purged, not too many at a time."""
        world = self._world
        due = parse_time(record.spec.purge_after)
        now = world.clock.now()
        if due is None or not self._is_due(record):
            await quiesce(world, usable_target(world, record), record)
            await self._note(record.name, "")
            times = [world.jitter(world.settings.resync)]
            times += [(due - now).total_seconds()] if due is not None else []
            return Result(requeue_after=max(0.0, min(times)))
        if self._was_applied_again(record):
            await self._note(
                record.name, "its Tenant was applied again and has not taken it over yet: see its conditions"
            )
            return Result(requeue_after=world.jitter(RETRY))
        await check_due(world, record)
        record = await world.farewells.see_to_it(record)  # before its turn: it takes several passes
        if (wait := self._purge_slot()) is not None:
            return Result(requeue_after=wait)
        began = parse_time(record.spec.deleted_at)
        if began is not None and now - began < world.settings.stop.span and not record.spec.expired:
            await self._memory.note_deletion(record)
        return await self._purge(record)

    def _was_applied_again(self, record: TenantRecord) -> bool:
        """Whether a Tenant is there that may still take this over: it is suspended, say, or its plan is gone."""
        world, spec = self._world, record.spec
        body = world.live.get(Ref(TENANTS, spec.workspace, spec.tenant))
        if body is None:
            return False
        tenant = Tenant.model_validate(body)
        if tenant.deleting or tenant.metadata.annotations.get(ANNOTATION_START_FRESH) == record.name:
            return False
        try:
            same = find_workspace(world, spec.workspace).uid == spec.workspace_uid
        except Halt:
            same = False
        others = (entry.tenant_uid for entry in world.ledger.namesakes(tenant.ref))
        return same and tenant.metadata.uid not in others

    def _is_due(self, record: TenantRecord) -> bool:
        """Whether its end has come: what stands in the way of it is told, and what happens before that is not."""
        due = parse_time(record.spec.purge_after)
        return record.spec.state != RecordState.DELETED or (due is not None and due <= self._world.clock.now())

    def _purge_slot(self) -> float | None:
        """Seconds until the next purge may begin; None where it may begin now."""
        rule, now = self._world.settings.stop, self._world.clock.monotonic()
        span = rule.span.total_seconds()
        self._purges = [began for began in self._purges if now - began < span]
        if rule.count and len(self._purges) >= rule.count:
            return self._purges[0] + span - now
        self._purges.append(now)
        return None

    async def _purge(self, record: TenantRecord) -> Result:
        record = await purge(self._world, record)
        await remove_record(self._world, record)
        logger.info("purged: nothing of %s is left", record.identity.tenant_id)
        self._world.events.emit(
            _about(record),
            warning=False,
            reason=Reason.PURGED,
            message=_farewell(record),
        )
        # a namesake may have waited for this
        self._world.wake.wake(Ref(TENANTS, record.spec.workspace, record.spec.tenant))
        return Result()

    async def _note(self, name: str, message: str) -> None:
        """Keep on the record what its purge waits for, or that it waits no more; written only where it differs."""
        record = find_named(self._world, Ref(TENANT_RECORDS, "", name))
        if record is None or record.spec.message == message[:1024]:
            return
        if record.spec.state not in (RecordState.DELETED, RecordState.PURGING):
            return
        await swap(self._world, record, {"message": message[:1024]})
        if message:
            logger.warning("%s: %s", name, message)
            self._world.events.emit(_about(record), warning=True, reason=Reason.PURGE_BLOCKED, message=message)

    async def _is_empty(self, record: TenantRecord) -> bool | None:
        """Whether nothing bears the tenant's stamp where its record says that it was to be made; None: can't be told.

        What can't be told is asked again soon: a record that stays for nothing keeps a name and a slot.
        """
        pinned = record.spec.database
        target = self._world.targets.get(record.spec.cluster.name)
        if target is None or not target.availability.ok:
            return None
        identity = record.identity
        stamped = (live for live in target.live.of_tenant(identity.tenant_hash) if bears_stamp(live, identity))
        if any(live["metadata"]["labels"].get(LABEL_CLAIM) != CLAIM_CLUSTER for live in stamped):
            return False
        if pinned.mode != "Shared":
            return True
        server = self._world.servers.get(pinned.server)
        if server is None or not server.availability.ok:
            return None
        try:
            claims = await server.admin.claims(identity.management_id)
        except DatabaseError:
            return None
        return all(claim.record != record.name for claim in claims)

    async def _has_tenant(self, record: TenantRecord) -> bool:
        """Whether the very Tenant of the record is there, as the API server says and not only the watch."""
        tenant = Ref(TENANTS, record.spec.workspace, record.spec.tenant)
        seen = self._world.live.get(tenant)
        if seen is not None and seen["metadata"]["uid"] == record.spec.tenant_uid:
            return True
        try:
            body = await self._world.management.get(tenant)
        except NotFoundError:
            return False
        return bool(body["metadata"]["uid"] == record.spec.tenant_uid)


def _farewell(record: TenantRecord) -> str:
    last = f"; its final backup is {record.spec.final_backup}" if record.spec.final_backup else ""
    return f"nothing of {record.identity.tenant_id} is left{last}"


def _retained(record: TenantRecord) -> dict[str, Any]:
    """What its record says of a tenant whose deletion is stopped and whose Tenant is gone."""
    why = record.spec.message or "spec.deletion.protected is true"
    message = (
        f"its deletion was stopped ({why}), and its Tenant is not there any more to be confirmed: what it has runs on "
        f"unmanaged. Apply it again, or `tenantry undelete {record.name}`, to have it back, and delete it then to be "
        "rid of it"
    )
    return {"state": RecordState.RETAINED.value, "purgeAfter": None, "heldSince": None, "message": message[:1024]}


def _sooner(result: Result, seconds: float | None) -> Result:
    """The same, but looked at again no later than after these seconds."""
    if seconds is None or result.retry:
        return result
    again = result.requeue_after
    return Result(requeue_after=seconds if again is None else min(seconds, again))


def _about(record: TenantRecord) -> dict[str, Any]:
    """What an Event about a record has to say of it."""
    metadata = {"name": record.name, "uid": record.metadata.uid}
    return {"apiVersion": TENANT_RECORDS.api_version, "kind": TENANT_RECORDS.kind, "metadata": metadata}
