"""Deleting a tenant: its database, roles, namespace, claims and record; each step safe to lose, the finalizer last."""

from __future__ import annotations

import logging

from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.names import CLAIM_HOST, LABEL_CLAIM, SYSTEM_NAMESPACE, TENANT_FINALIZER
from tenantry.api.resources import CONFIG_MAPS, NAMESPACES, Ref
from tenantry.api.tenant import Tenant
from tenantry.api.tenantrecord import PinnedDatabase, RecordState, TenantRecord
from tenantry.decide.conditions import Outcome
from tenantry.decide.halt import Halt, Waiting
from tenantry.desired.stamp import bears_stamp
from tenantry.ports import ConflictError, DatabaseError, KubeError, NotFoundError, Target, WantedDatabase
from tenantry.reconcile.database import check_server_identity, drop_database
from tenantry.reconcile.namespace import blocked_by
from tenantry.reconcile.placing import find_workspace, identify, search, usable_target
from tenantry.reconcile.records import create_record, find_record, remove_record, swap
from tenantry.reconcile.report import Report
from tenantry.reconcile.result import Result
from tenantry.reconcile.world import World

logger = logging.getLogger(__name__)

GONE_RETRY = 5.0
SEARCH_RETRY = 30.0


class Deletion:
    """What follows a Tenant's deletion. Nothing is rendered or pruned any more, only taken down."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def reconcile(self, tenant: Tenant) -> Result:
        """One pass: as far as it goes."""
        if not tenant.has_finalizer:
            return Result()
        report = Report(self._world, tenant, {})
        try:
            await self._remove(tenant)
        except Halt as halt:
            report.outcomes[halt.condition] = Outcome.of(halt)
            await report.write()
            retry_after = halt.retry_after if isinstance(halt, Waiting) else None
            return Result(requeue_after=retry_after or SEARCH_RETRY)
        except ConflictError:
            raise
        except KubeError as error:
            report.trouble(error)
            await report.write()
            return Result.after(error)
        return Result()

    async def _remove(self, tenant: Tenant) -> None:
        world = self._world
        identity = identify(world, tenant, find_workspace(world, tenant.workspace))
        record = find_record(world, identity)
        if record is None:
            traces = await search(world, identity)
            if traces.unreachable or (traces.database is not None and traces.cluster is None):
                raise Waiting(
                    ConditionType.PLACED,
                    Reason.RECORD_MISSING,
                    "this tenant has no record; it is let go when every cluster and server was searched for what it "
                    f"left; can't be searched now: {', '.join(traces.unreachable) or 'none'}",
                    retry_after=SEARCH_RETRY,
                )
            if traces.cluster is not None:
                database = traces.database or PinnedDatabase(mode="None")
                record = await create_record(world, tenant, identity, traces.cluster, database)
        if record is not None:
            record = await self.purge(record)
        await self._remove_finalizer(tenant)
        logger.info("deleted: nothing of %s is left", identity.tenant_id)
        if record is not None:
            await remove_record(world, record)

    async def purge(self, record: TenantRecord) -> TenantRecord:
        """Remove all that a record says exists; the record as it then is, in state Purging.

        Raises:
            Waiting: for what is still there, or can't be reached.
        """
        world = self._world
        if record.spec.state != RecordState.PURGING:
            record = await swap(world, record, {"state": RecordState.PURGING.value})
        target = usable_target(world, record)
        namespace_gone = await self._delete_namespace(target, record)
        await self._drop_database(record)
        if not namespace_gone:
            live = target.live.get(Ref(NAMESPACES, "", record.spec.cluster.namespace)) or {}
            raise Waiting(
                ConditionType.NAMESPACE_READY,
                Reason.DELETING,
                f"the namespace {record.spec.cluster.namespace!r} is being deleted on the target{blocked_by(live)}",
                retry_after=GONE_RETRY,
            )
        await self._release_hosts(target, record)
        return record

    async def _delete_namespace(self, target: Target, record: TenantRecord) -> bool:
        """Ask for the namespace's deletion, exactly as it was read; whether it is gone."""
        ref = Ref(NAMESPACES, "", record.spec.cluster.namespace)
        try:
            live = await target.kube.get(ref)
        except NotFoundError:
            target.live.forget(ref)
            return True
        if not bears_stamp(live, record.identity) or record.spec.cluster.adopted:
            return True  # never made by us, or somebody else's by now
        target.live.observe(live)
        metadata = live["metadata"]
        if "deletionTimestamp" not in metadata:
            await target.kube.delete(ref, uid=metadata["uid"], resource_version=metadata["resourceVersion"])
        return False

    async def _drop_database(self, record: TenantRecord) -> None:
        pinned = record.spec.database
        if pinned.mode != "Shared":
            return
        server = self._world.servers.get(pinned.server)
        if server is None or not server.availability.ok:
            why = f": {server.availability.message}" if server is not None else ""
            raise Waiting(
                ConditionType.DATABASE_READY,
                Reason.SERVER_NOT_READY,
                f"its database can't be dropped now: DatabaseServer {pinned.server!r} is not ready{why}",
                retry_after=GONE_RETRY,
            )
        check_server_identity(server, pinned.server, pinned.id)
        wanted = WantedDatabase(
            database=pinned.name,
            management_id=record.spec.management_id,
            tenant_hash=record.identity.tenant_hash,
            record=record.name,
            connection_limit=0,
        )
        try:
            await drop_database(server, wanted)
        except DatabaseError as error:
            raise Waiting(
                ConditionType.DATABASE_READY,
                Reason.DATABASE_REFUSED,
                f"database {pinned.name!r} on DatabaseServer {pinned.server!r} can't be dropped yet: {error.message}",
                retry_after=GONE_RETRY,
            ) from error

    async def _release_hosts(self, target: Target, record: TenantRecord) -> None:
        for live in target.live.of_tenant(record.identity.tenant_hash):
            metadata = live["metadata"]
            if metadata.get("labels", {}).get(LABEL_CLAIM) == CLAIM_HOST and bears_stamp(live, record.identity):
                ref = Ref(CONFIG_MAPS, SYSTEM_NAMESPACE, metadata["name"])
                await target.kube.delete(ref, uid=metadata["uid"])
                target.live.forget(ref, uid=metadata["uid"])

    async def _remove_finalizer(self, tenant: Tenant) -> None:
        patch = {
            "metadata": {
                "resourceVersion": tenant.metadata.resource_version,
                "finalizers": [name for name in tenant.metadata.finalizers if name != TENANT_FINALIZER],
            }
        }
        try:
            answer = await self._world.management.merge_patch(tenant.ref, patch)
        except NotFoundError:
            return
        if answer["metadata"].get("finalizers"):
            self._world.live.observe(answer)
        else:
            self._world.live.forget(tenant.ref, uid=tenant.metadata.uid)
