"""TenantRecord: what to do with a record whose Tenant is not there (any more)."""

from __future__ import annotations

from tenantry.api.resources import TENANTS, Ref
from tenantry.api.tenantrecord import RecordState, TenantRecord
from tenantry.decide.halt import Halt, Waiting
from tenantry.desired.stamp import bears_stamp
from tenantry.ports import DatabaseError, NotFoundError
from tenantry.reconcile.deletion import Deletion
from tenantry.reconcile.records import remove_record
from tenantry.reconcile.result import Result
from tenantry.reconcile.world import World

RETRY = 30.0


class TenantRecordReconciler:
    """Reconciles TenantRecords. While its Tenant is there, a record is the Tenant's reconcile's business."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._deletion = Deletion(world)

    async def reconcile(self, key: Ref) -> Result:
        """One pass over one TenantRecord."""
        world = self._world
        body = world.live.get(key)
        if body is None:
            return Result()
        record = TenantRecord.model_validate(body)
        tenant = Ref(TENANTS, record.spec.workspace, record.spec.tenant)
        if await self._is_there(tenant, record):
            return Result()
        if record.spec.state != RecordState.PURGING:
            if await self._is_empty(record):
                await remove_record(world, record)  # the Tenant went before anything was made for it
                return Result()
            # Somebody removed our finalizer by hand: nothing is destroyed that nobody asked to destroy.
            world.events.emit(
                body,
                warning=True,
                reason="TenantMissing",
                message=f"Tenant {tenant.namespace}/{tenant.name} is gone without having been deleted here; what it "
                "has goes on running. Apply it again to take it over, or apply and delete it to remove it",
            )
            return Result(requeue_after=world.jitter(world.settings.resync))
        try:
            record = await self._deletion.purge(record)
        except Halt as halt:
            retry_after = halt.retry_after if isinstance(halt, Waiting) else None
            return Result(requeue_after=retry_after or RETRY)
        await remove_record(world, record)
        world.wake.wake(tenant)  # a namesake may have waited for this
        return Result()

    async def _is_empty(self, record: TenantRecord) -> bool:
        """Whether nothing bears the tenant's stamp where its record says that it was to be made."""
        pinned = record.spec.database
        target = self._world.targets.get(record.spec.cluster.name)
        if target is None or not target.availability.ok:
            return False
        identity = record.identity
        if any(bears_stamp(live, identity) for live in target.live.of_tenant(identity.tenant_hash)):
            return False
        if pinned.mode != "Shared":
            return True
        server = self._world.servers.get(pinned.server)
        if server is None or not server.availability.ok:
            return False
        try:
            claims = await server.admin.claims(identity.management_id)
        except DatabaseError:
            return False
        return all(claim.record != record.name for claim in claims)

    async def _is_there(self, tenant: Ref, record: TenantRecord) -> bool:
        """Whether the very Tenant of the record is there, as the API server says and not only the watch."""
        seen = self._world.live.get(tenant)
        if seen is not None and seen["metadata"]["uid"] == record.spec.tenant_uid:
            return True
        try:
            body = await self._world.management.get(tenant)
        except NotFoundError:
            return False
        return bool(body["metadata"]["uid"] == record.spec.tenant_uid)
