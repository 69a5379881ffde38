"""TenantRecords: written before the first write to a target, adopted by a successor, moved on by compare-and-swap."""

from __future__ import annotations

from typing import Any

from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.identity import TenantIdentity
from tenantry.api.names import LABEL_MANAGED_BY, LABEL_TENANT_HASH, MANAGED_BY
from tenantry.api.resources import CLUSTERS, DATABASE_SERVERS, TENANT_RECORDS, Ref
from tenantry.api.tenant import Tenant
from tenantry.api.tenantrecord import PinnedCluster, PinnedDatabase, RecordState, TenantRecord, TenantRecordSpec
from tenantry.decide.halt import Terminal, Waiting
from tenantry.ports import AlreadyExistsError, Json
from tenantry.reconcile.world import World


def record_ref(identity: TenantIdentity) -> Ref:
    """The name of a tenant's record."""
    return Ref(TENANT_RECORDS, "", identity.record)


def find_record(world: World, identity: TenantIdentity) -> TenantRecord | None:
    """The record as the watch or our own last write has seen it."""
    body = world.live.get(record_ref(identity))
    return TenantRecord.model_validate(body) if body is not None else None


async def create_record(
    world: World, tenant: Tenant, identity: TenantIdentity, cluster: PinnedCluster, database: PinnedDatabase
) -> TenantRecord:
    """Write a new record; where one is there already (its creation's answer was lost), that one."""
    spec = TenantRecordSpec(
        management_id=identity.management_id,
        workspace=identity.workspace,
        workspace_uid=identity.workspace_uid,
        tenant=identity.name,
        tenant_uid=tenant.metadata.uid,
        incarnation=identity.incarnation,
        epoch=identity.epoch,
        state=RecordState.ACTIVE,
        cluster=cluster,
        database=database,
    )
    body: Json = {
        "apiVersion": TENANT_RECORDS.api_version,
        "kind": TENANT_RECORDS.kind,
        "metadata": {
            "name": identity.record,
            "labels": {LABEL_MANAGED_BY: MANAGED_BY, LABEL_TENANT_HASH: identity.tenant_hash},
        },
        "spec": spec.model_dump(by_alias=True, mode="json", exclude_none=True),
    }
    ref = record_ref(identity)
    with world.live.writing(ref):
        try:
            answer = await world.management.create(body)
        except AlreadyExistsError:
            answer = await world.management.get(ref)
        return take_in(world, answer)


async def adopt(world: World, tenant: Tenant, record: TenantRecord) -> TenantRecord:
    """Let a Tenant have the record of its predecessor of the same workspace and name (rule 3).

    Raises:
        Terminal: PredecessorExists, for a record of another workspace or one that is not Active.
        Waiting: the predecessor is being removed.
    """
    if record.spec.state == RecordState.PURGING:
        raise Waiting(
            ConditionType.PLACED,
            Reason.PREDECESSOR_EXISTS,
            "a deleted tenant of this name is still being removed; this one starts fresh when that is done",
            retry_after=5.0,
        )
    if record.spec.state != RecordState.ACTIVE:
        raise Terminal(
            ConditionType.PLACED,
            Reason.PREDECESSOR_EXISTS,
            f"TenantRecord {record.name!r} of a predecessor is {record.spec.state}; resolve it first",
        )
    if record.spec.tenant_uid == tenant.metadata.uid:
        return record
    return await swap(world, record, {"tenantUid": tenant.metadata.uid})


async def swap(world: World, record: TenantRecord, change: dict[str, Any]) -> TenantRecord:
    """Change a record's spec if nobody else did meanwhile.

    Raises:
        ConflictError: somebody did; the next reconcile sees what.
    """
    patch = {"metadata": {"resourceVersion": record.metadata.resource_version}, "spec": change}
    ref = Ref(TENANT_RECORDS, "", record.name)
    with world.live.writing(ref):
        return take_in(world, await world.management.merge_patch(ref, patch))


async def remove_record(world: World, record: TenantRecord) -> None:
    """Delete exactly the record that was seen; no error if it is gone."""
    ref = Ref(TENANT_RECORDS, "", record.name)
    with world.live.writing(ref):
        await world.management.delete(ref, uid=record.metadata.uid, resource_version=record.metadata.resource_version)
        world.live.forget(ref, uid=record.metadata.uid)
    world.ledger.note(record.name, None)
    for stood_on in (
        Ref(CLUSTERS, "", record.spec.cluster.name),
        Ref(DATABASE_SERVERS, "", record.spec.database.server),
    ):
        body = world.live.get(stood_on)
        if body is not None and body["metadata"].get("deletionTimestamp"):
            world.wake.wake(stood_on)  # it may have waited for its last tenant


def take_in(world: World, body: Json) -> TenantRecord:
    """Remember a record that a write or read returned."""
    world.live.observe(body)
    record = TenantRecord.model_validate(body)
    world.ledger.note(record.name, body)
    return record
