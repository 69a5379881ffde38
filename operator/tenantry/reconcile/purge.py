"""Purge: the end of all that a record says exists. Both sides are marked before either is destroyed."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Final

from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.names import (
    ANNOTATION_FORGET_SIDE,
    ANNOTATION_PURGE_AFTER,
    CLAIM_CLUSTER,
    CLAIM_HOST,
    LABEL_CLAIM,
    STATE_LEFT,
    SYSTEM_NAMESPACE,
)
from tenantry.api.resources import CONFIG_MAPS, NAMESPACES, TENANT_RECORDS, Ref
from tenantry.api.tenantrecord import FormerSide, RecordState, TenantRecord
from tenantry.decide.deletion import parse_time
from tenantry.decide.halt import Halt, Waiting
from tenantry.decide.move import side_spec, still_on
from tenantry.desired.stamp import bears_stamp
from tenantry.ports.kube import ConflictError, KubeError, Target
from tenantry.ports.postgres import DatabaseError
from tenantry.ports.world import Json
from tenantry.reconcile.adoption import let_go
from tenantry.reconcile.contention import hosts_on
from tenantry.reconcile.namespace import blocked_by
from tenantry.reconcile.parking import drop_database, mark_dropping, ready_server, wanted_of
from tenantry.reconcile.placing import usable_target
from tenantry.reconcile.quiescence import mark_namespace, read_namespace
from tenantry.reconcile.records import find_named, swap
from tenantry.reconcile.world import World

logger = logging.getLogger(__name__)

AWAY: Final = frozenset(
    {
        Reason.CLUSTER_NOT_READY,
        Reason.CLUSTER_UNREACHABLE,
        Reason.SERVER_NOT_READY,
        Reason.IDENTITY_CHANGED,
    }
)
"""What is told of a cluster or server that may never come back."""
GONE_RETRY: Final = 5.0
CLOCKS_RETRY: Final = 60.0


async def check_due(world: World, record: TenantRecord) -> None:
    """That the window is over, by the target's and the server's clocks and notes too.

    Our clock may have jumped, and the record's time may have been edited: namespace and claim have it as well.

    Raises:
        Waiting: it is not, or they can't be asked.
    """
    target = usable_target(world, record)
    live = await read_namespace(target, record)
    noted = (live or {}).get("metadata", {}).get("annotations", {}).get(ANNOTATION_PURGE_AFTER)
    times = [parse_time(record.spec.purge_after), parse_time(noted)]
    clocks = {f"Cluster {target.name!r}": await target.kube.now()}
    if record.spec.database.mode == "Shared":
        server = ready_server(world, record)
        try:
            claim = (await server.admin.inspect(wanted_of(record))).claim
            times.append(claim.purge_after if claim is not None else None)
            clocks[f"DatabaseServer {server.name!r}"] = await server.admin.now()
        except DatabaseError as error:
            raise _refused(record, error) from error
    due = max(time for time in times if time is not None)
    for whose, now in clocks.items():
        if now < due:
            raise Waiting(
                ConditionType.PLACED,
                Reason.PURGE_BLOCKED,
                f"by the operator's clock and its record the window is over, but {whose} says that it is not",
                retry_after=min(CLOCKS_RETRY, max(1.0, (due - now).total_seconds())),
            )


async def purge(world: World, record: TenantRecord) -> TenantRecord:
    """Remove all that a record says exists; the record as it then is, in state Purging.

    A side that a move has left holds up the end of the record, and not that of what the tenant has elsewhere.

    Raises:
        Waiting: for what is still there, or can't be reached.
        KubeError: of the target.
    """
    record = await world.farewells.see_to_it(record)
    if record.spec.state != RecordState.PURGING:
        record = await swap(world, record, {"state": RecordState.PURGING.value})
    gone: set[int] = set()
    first: Halt | KubeError | None = None
    for side in record.spec.former:
        try:
            await purge_side(world, record, side, gone)
        except ConflictError:
            raise
        except (Halt, KubeError) as trouble:
            first = first or of_side(side, trouble)
        else:
            gone.add(side.epoch)
    await _take_down(world, record, RecordState.PURGING)
    waiting = [side.cluster for side in record.spec.former if side.epoch not in gone]
    if all(each is None or each.name != record.spec.cluster.name for each in waiting):
        await _give_back(world, record)
    if first is not None:
        raise first
    return record


def of_side(side: FormerSide, trouble: Halt | KubeError) -> Halt | KubeError:
    """What stands in the way of the end of a side, told so that it is known which one, and what ends the waiting."""
    if not isinstance(trouble, Halt) or trouble.reason not in AWAY:
        return trouble
    message = (
        f"what a move has left in epoch {side.epoch} can't be looked after: {trouble.message}. If that is gone for "
        f"good, annotate the TenantRecord with {ANNOTATION_FORGET_SIDE}={side.epoch}"
    )
    retry_after = trouble.retry_after if isinstance(trouble, Waiting) else None
    return Waiting(trouble.condition, trouble.reason, message, retry_after=retry_after)


def side_record(record: TenantRecord, side: FormerSide) -> TenantRecord:
    """A record of nothing but a side that a move has left."""
    return TenantRecord(metadata=record.metadata, spec=side_spec(record.spec, side))


async def purge_side(world: World, record: TenantRecord, side: FormerSide, gone: Collection[int] = ()) -> None:
    """Remove what a move has left, once the record says that it is Purging; what else the tenant has is not touched.

    Args:
        world: The world.
        record: Of the tenant.
        side: What is to go.
        gone: The epochs of the other sides that are gone already, and that the record still has.

    Raises:
        Waiting: for what is still there, or can't be reached.
        KubeError: of the target.
    """
    part = side_record(record, side)
    if side.cluster is None:
        await _mark_database(world, part)
        await _drop_database(world, part)
        return
    await _take_down(world, part, STATE_LEFT)
    # As it is by now: a move that began meanwhile has its own claims there, and no stamp tells them apart.
    latest = find_named(world, Ref(TENANT_RECORDS, "", record.name)) or record
    if not still_on(latest.spec, side.cluster.name, {side.epoch, *gone}):
        await _give_back(world, part)


async def _take_down(world: World, record: TenantRecord, state: RecordState | str) -> None:
    target = usable_target(world, record)
    live = await read_namespace(target, record)
    if live is not None and not live["metadata"].get("deletionTimestamp"):
        live = await mark_namespace(target, record, live, state)
    await _mark_database(world, record)
    if live is not None and record.spec.cluster.adopted and not live["metadata"].get("deletionTimestamp"):
        await let_go(world, target, record, live)
    await _delete_namespace(target, record, live)
    await _drop_database(world, record)
    if live is not None and not record.spec.cluster.adopted:
        raise Waiting(
            ConditionType.NAMESPACE_READY,
            Reason.PURGE_BLOCKED if blocked_by(live) else Reason.DELETING,
            f"the namespace {record.spec.cluster.namespace!r} is being deleted on the target{blocked_by(live)}",
            retry_after=GONE_RETRY,
        )


async def _delete_namespace(target: Target, record: TenantRecord, live: Json | None) -> None:
    """Ask for the namespace's deletion, exactly as it was read."""
    if live is None or record.spec.cluster.adopted or "deletionTimestamp" in live["metadata"]:
        return
    metadata = live["metadata"]
    ref = Ref(NAMESPACES, "", metadata["name"])
    await target.kube.delete(ref, uid=metadata["uid"], resource_version=metadata["resourceVersion"])


async def _mark_database(world: World, record: TenantRecord) -> None:
    if record.spec.database.mode != "Shared":
        return
    server = ready_server(world, record)
    try:
        await mark_dropping(server, wanted_of(record))
    except DatabaseError as error:
        raise _refused(record, error) from error


async def _drop_database(world: World, record: TenantRecord) -> None:
    if record.spec.database.mode != "Shared":
        return
    server = ready_server(world, record)
    try:
        await drop_database(server, wanted_of(record))
    except DatabaseError as error:
        raise _refused(record, error) from error


def _refused(record: TenantRecord, error: DatabaseError) -> Waiting:
    pinned = record.spec.database
    return Waiting(
        ConditionType.DATABASE_READY,
        Reason.DATABASE_REFUSED,
        f"database {pinned.name!r} on DatabaseServer {pinned.server!r} can't be dropped yet: {error.message}",
        retry_after=GONE_RETRY,
    )


async def _give_back(world: World, record: TenantRecord) -> None:
    """Give back what the tenant has claimed on its cluster, and let those know who may wait for it."""
    target = usable_target(world, record)
    if await _release_claims(target, record):
        world.contention.freed(hosts_on(target.name), world.wake.wake)


async def _release_claims(target: Target, record: TenantRecord) -> int:
    """Give back what the tenant has claimed, hosts and the cluster itself; how many that were."""
    released = 0
    for live in target.live.of_tenant(record.identity.tenant_hash):
        metadata = live["metadata"]
        claim = metadata.get("labels", {}).get(LABEL_CLAIM)
        if claim in (CLAIM_HOST, CLAIM_CLUSTER) and bears_stamp(live, record.identity):
            ref = Ref(CONFIG_MAPS, SYSTEM_NAMESPACE, metadata["name"])
            await target.kube.delete(ref, uid=metadata["uid"])
            target.live.forget(ref, uid=metadata["uid"])
            released += 1
    return released
