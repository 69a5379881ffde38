"""TenantRecords: written before the first write to a target, adopted by a successor, moved on by compare-and-swap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import ValidationError

from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.identity import TenantIdentity
from tenantry.api.names import (
    ANNOTATION_ADOPT,
    ANNOTATION_ADOPT_WORKSPACE,
    ANNOTATION_START_FRESH,
    LABEL_MANAGED_BY,
    LABEL_TENANT_HASH,
    MANAGED_BY,
    TENANT_FINALIZER,
)
from tenantry.api.resources import CLUSTERS, DATABASE_SERVERS, TENANT_PLANS, TENANT_RECORDS, Ref
from tenantry.api.tenant import Tenant, TenantSpec
from tenantry.api.tenantrecord import (
    FormerSide,
    PinnedCluster,
    PinnedDatabase,
    PinnedDeletion,
    PinnedPlan,
    RecordState,
    TenantRecord,
    TenantRecordSpec,
)
from tenantry.decide.deletion import parse_time
from tenantry.decide.halt import Terminal, Waiting
from tenantry.decide.merging import merge_patch
from tenantry.ports.kube import AlreadyExistsError, ConflictError
from tenantry.ports.world import Json
from tenantry.reconcile.contention import ROOM
from tenantry.reconcile.platform import set_finalizer
from tenantry.reconcile.world import World


@dataclass(frozen=True, slots=True)
class Fate:
    """The state in which a tenant's stamps say that it is; times as in a record."""

    state: RecordState = RecordState.ACTIVE
    deleted_at: str | None = None
    purge_after: str | None = None


@dataclass(frozen=True, slots=True)
class Pins:
    """What a record says that a tenant has.

    Attributes:
        deletion: What is to happen at its deletion; the default where that is not known.
        plan: Which plan and revision; None where that is not known.
        former: What moves have left, as far as it was found.
    """

    cluster: PinnedCluster
    database: PinnedDatabase
    deletion: PinnedDeletion = field(default_factory=PinnedDeletion)
    plan: PinnedPlan | None = None
    former: Sequence[FormerSide] = ()


def record_ref(identity: TenantIdentity) -> Ref:
    """The name of a tenant's record."""
    return Ref(TENANT_RECORDS, "", identity.record)


def find_record(world: World, identity: TenantIdentity) -> TenantRecord | None:
    """A tenant's record as the watch or our own last write has seen it."""
    return find_named(world, record_ref(identity))


def find_named(world: World, ref: Ref) -> TenantRecord | None:
    """A record by its name, as the watch or our own last write has seen it."""
    body = world.live.get(ref)
    return TenantRecord.model_validate(body) if body is not None else None


async def create_record(
    world: World,
    tenant_uid: str,
    identity: TenantIdentity,
    pins: Pins,
    fate: Fate | None = None,
    applied: Tenant | None = None,
) -> TenantRecord:
    """Write a new record; where one is there already (its creation's answer was lost), that one.

    Args:
        world: The world.
        tenant_uid: Of the Tenant; empty where it is not there.
        identity: Whose record it is.
        pins: What it has and where.
        fate: The state that its stamps tell, for a record that was lost.
        applied: The Tenant whose spec is about to be applied.
    """
    fate = fate or Fate()
    spec = TenantRecordSpec(
        management_id=identity.management_id,
        workspace=identity.workspace,
        workspace_uid=identity.workspace_uid,
        tenant=identity.name,
        tenant_uid=tenant_uid,
        incarnation=identity.incarnation,
        epoch=identity.epoch,
        state=fate.state,
        cluster=pins.cluster,
        database=pins.database,
        plan=pins.plan,
        deletion=pins.deletion,
        deleted_at=fate.deleted_at,
        purge_after=fate.purge_after,
        last_spec=spec_document(applied) if applied else None,
        last_generation=applied.metadata.generation if applied else None,
        former=list(pins.former),
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

    An undelete is this: a deleted tenant in its window, one that was retained, and one that was let go of.

    Raises:
        Terminal: PredecessorExists, for a record that is not given back without being asked for by name.
        Waiting: the predecessor is being removed.
        ConflictError: the Tenant was changed, by us or by somebody else; the next reconcile goes on.
    """
    spec = record.spec
    if spec.state == RecordState.ORPHANED and spec.purge_after is None:
        raise Terminal(
            ConditionType.PLACED,
            Reason.PREDECESSOR_EXISTS,
            f"TenantRecord {record.name!r} of a predecessor is Orphaned while it was being destroyed, and is not given "
            f"back. Annotate this Tenant with {ANNOTATION_START_FRESH}={record.name} to begin empty beside it",
        )
    if spec.state == RecordState.PURGING:
        raise Waiting(
            ConditionType.PLACED,
            Reason.PREDECESSOR_EXISTS,
            "a deleted tenant of this name is still being removed; this one starts fresh when that is done",
            retry_after=5.0,
        )
    if spec.state == RecordState.ACTIVE and spec.tenant_uid == tenant.metadata.uid:
        return record
    named = tenant.metadata.annotations.get(ANNOTATION_ADOPT) == record.name
    due = parse_time(spec.purge_after)
    over = spec.state == RecordState.DELETED and due is not None and due <= world.clock.now()
    if (over or spec.state == RecordState.ORPHANED) and not named:
        why = "its window is over" if over else f"it was let go of while its cluster was not there: {spec.message}"
        raise Terminal(
            ConditionType.PLACED,
            Reason.PREDECESSOR_EXISTS,
            f"TenantRecord {record.name!r} of a predecessor is {spec.state}, and {why}. Annotate this Tenant with "
            f"{ANNOTATION_ADOPT}={record.name} to have what it left, or with {ANNOTATION_START_FRESH}={record.name} to "
            "begin empty beside it",
        )
    if not tenant.has_finalizer:
        # First: a Tenant that is deleted again before it has got any further must bring its record back to rest.
        await set_finalizer(world, tenant.ref, tenant.metadata, TENANT_FINALIZER, present=True)
        raise ConflictError("its finalizer came first")
    taken = await swap(world, record, {"tenantUid": tenant.metadata.uid, **_ACTIVE_AGAIN})
    if spec.state != RecordState.ACTIVE:
        world.events.emit(
            world.live.get(tenant.ref) or {},
            warning=False,
            reason=Reason.UNDELETED,
            message=f"it has what its predecessor left: TenantRecord {record.name} was {spec.state}",
        )
    return taken


def check_predecessors(world: World, tenant: Tenant, identity: TenantIdentity) -> None:
    """That a Tenant without a record has no namesake of a former workspace that would be forgotten beside it (rule 3).

    Raises:
        Terminal: PredecessorExists.
        Waiting: RecordMissing: there is such a namesake, and its record is still to be made anew.
    """
    if (awaited := world.ledger.awaited(tenant.ref)) is not None:
        raise Waiting(
            ConditionType.PLACED,
            Reason.RECORD_MISSING,
            f"a tenant of this name left a namespace, whose record is still to be made: {awaited}",
            retry_after=30.0,
        )
    for entry in world.ledger.namesakes(tenant.ref):
        if entry.workspace_uid == identity.workspace_uid or entry.state == RecordState.PURGING:
            continue
        if tenant.metadata.annotations.get(ANNOTATION_START_FRESH) == entry.record:
            continue
        raise Terminal(
            ConditionType.PLACED,
            Reason.PREDECESSOR_EXISTS,
            f"TenantRecord {entry.record!r} is of a tenant of this name in a former workspace of this name (UID "
            f"{entry.workspace_uid}). If it is the same customer's, the platform team annotates the workspace with "
            f"{ANNOTATION_ADOPT_WORKSPACE}={entry.workspace_uid}; to begin empty beside it, annotate this Tenant with "
            f"{ANNOTATION_START_FRESH}={entry.record}",
        )


_ACTIVE_AGAIN: Final[Mapping[str, Any]] = {
    "state": RecordState.ACTIVE.value,
    "deletedAt": None,
    "purgeAfter": None,
    "heldSince": None,
    "expired": None,
    "lastGeneration": None,
    "message": "",
}


def spec_document(tenant: Tenant) -> Json:
    """A Tenant's spec as JSON: what its body says, as far as this version knows the fields."""
    return tenant.spec.model_dump(by_alias=True, mode="json", exclude_unset=True, exclude_none=True)


def spec_change(tenant: Tenant, record: TenantRecord) -> dict[str, Any]:
    """The change of a record after which it says that this spec was applied last; empty where it says so already."""
    last = record.spec.last_spec
    # A dry run applies none; the same spec with other defaults filled in (a new version of the kind) is no other one.
    if tenant.dry_run or (last is not None and _means(last, tenant)):
        return {}
    patch = merge_patch(last or {}, spec_document(tenant))
    return {"lastSpec": patch, "lastGeneration": tenant.metadata.generation}


def _means(last: Json, tenant: Tenant) -> bool:
    if last == spec_document(tenant):
        return True
    try:
        return TenantSpec.model_validate(last) == tenant.spec
    except ValidationError:
        return False


async def swap(world: World, record: TenantRecord, change: dict[str, Any]) -> TenantRecord:
    """Change a record's spec if nobody else did meanwhile; None takes a field out.

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
    world.contention.freed(ROOM, world.wake.wake)
    world.verdicts.forget(record.name)
    if record.spec.plan is not None:
        world.wake.wake(Ref(TENANT_PLANS, "", record.spec.plan.name))  # it gives the slot to somebody else
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
