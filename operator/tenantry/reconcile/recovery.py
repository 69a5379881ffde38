"""Recovery: records of tenants that no record speaks for, made anew from what their namespaces say of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

from tenantry.api.identity import TenantIdentity
from tenantry.api.names import (
    ANNOTATION_ARRIVING,
    ANNOTATION_EPOCH,
    ANNOTATION_INCARNATION,
    ANNOTATION_RECORD,
    ANNOTATION_STATE,
    ANNOTATION_TENANT_ID,
    ANNOTATION_WORKSPACE_UID,
    LABEL_MANAGEMENT_ID,
    LABEL_TENANT_HASH,
    STATE_MOVING,
)
from tenantry.api.resources import CLUSTERS, DATABASE_SERVERS, NAMESPACES, TENANT_RECORDS, TENANTS, Ref
from tenantry.api.tenantrecord import PinnedDatabase, RecordState, TenantRecord
from tenantry.desired.namespace import plan_of
from tenantry.desired.stamp import bears_stamp
from tenantry.ports.kube import NotFoundError, Target
from tenantry.ports.world import Json
from tenantry.reconcile.ledger import others_of
from tenantry.reconcile.leftsides import IN_CARE
from tenantry.reconcile.records import Pins, create_record, find_record, swap
from tenantry.reconcile.sidetraces import Claimed, Homes, epoch_of, is_home, left_namespace, merged
from tenantry.reconcile.traces import (
    claims_on,
    dedicated_trace,
    fate_of,
    had_database,
    pinned_cluster,
    search,
    stamped_namespace,
)
from tenantry.reconcile.world import World

logger = logging.getLogger(__name__)


def identity_of(namespace: Json, management_id: str) -> TenantIdentity | None:
    """Whose namespace it is, as its stamp says; None where the stamp does not say so, or contradicts itself."""
    metadata = namespace["metadata"]
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    tenant_hash = labels.get(LABEL_TENANT_HASH, "")
    workspace, _, rest = annotations.get(ANNOTATION_TENANT_ID, "").partition("_")
    name = rest.removesuffix(f"_{tenant_hash}")
    try:
        identity = TenantIdentity(
            management_id=management_id,
            workspace=workspace,
            workspace_uid=annotations[ANNOTATION_WORKSPACE_UID],
            name=name,
            incarnation=int(annotations[ANNOTATION_INCARNATION]),
            epoch=int(annotations[ANNOTATION_EPOCH]),
        )
    except (KeyError, ValueError):
        return None
    sound = identity.tenant_hash == tenant_hash and annotations.get(ANNOTATION_RECORD) == identity.record
    return identity if sound and bears_stamp(namespace, identity) else None


async def recover_records(world: World, target: Target) -> bool:
    """Make the records that are missing for the stamped namespaces of a cluster; whether all are there now.

    Until one can be made, for a server that may have the tenant's database does not answer, the ledger says that a
    Tenant of that name has to wait.

    Raises:
        KubeError: of the target or the management cluster.
    """
    awaited: dict[Ref, str] = {}
    for identity in list(_without_record(world, target)):
        homes = await _homes_of(world, target, identity)
        if isinstance(homes, str):
            awaited[Ref(TENANTS, identity.workspace, identity.name)] = homes
            logger.warning("%s has no record, and none can be made: %s", identity.tenant_id, homes)
        elif await _lives_here(world, target, identity):
            await _recover(world, target, identity, homes)
    world.ledger.await_records(target.name, awaited)
    return await recover_sides(world, target) and not awaited


async def _lives_here(world: World, target: Target, identity: TenantIdentity) -> bool:
    """Whether no other cluster has a later home of a tenant whose namespace says that it is stopped for a move.

    Until all can be asked nobody knows.
    """
    live = stamped_namespace(target, identity)
    if live is None or live["metadata"]["annotations"].get(ANNOTATION_STATE) != STATE_MOVING:
        return True
    traces = await search(world, identity)
    return not traces.unreachable and traces.cluster is not None and traces.cluster.name == target.name


async def recover_sides(world: World, target: Target) -> bool:
    """Tell records of what moves have left on a cluster and they don't know; whether all is known now.

    Raises:
        KubeError: of the management cluster.
    """
    all_known = True
    for live in target.live.all(NAMESPACES):
        identity = identity_of(live, world.settings.management_id)
        if identity is None or "deletionTimestamp" in live["metadata"]:
            continue
        record = find_record(world, identity)
        if record is None:
            all_known = all_known and is_home(live)
        elif not _knows(record, target.name, live["metadata"]["name"]) and _is_side_of(record, live):
            await _tell_of(world, record, target, live)
    return all_known


def _is_side_of(record: TenantRecord, live: Json) -> bool:
    """Not a later home, which a record that was restored from an old copy may not know."""
    arriving = ANNOTATION_ARRIVING in live["metadata"]["annotations"]
    return record.spec.state in IN_CARE and (arriving or epoch_of(live) < record.spec.epoch)


def _knows(record: TenantRecord, cluster: str, namespace: str) -> bool:
    pinned = [record.spec.cluster, *others_of(record.spec)[0]]
    return any((each.name, each.namespace) == (cluster, namespace) for each in pinned)


async def _tell_of(world: World, record: TenantRecord, target: Target, live: Json) -> None:
    """What is arriving never was the tenant's home, and goes at once; what was keeps its time, or gets one."""
    cluster = world.live.get(Ref(CLUSTERS, "", target.name))
    if cluster is None or target.facts is None:
        return
    place = pinned_cluster(target, target.facts, cluster, live, replace(record.identity, epoch=epoch_of(live)))
    side = left_namespace(place, live, record.spec.deletion.window, world.clock.now())
    sides = merged([*record.spec.former, side])
    plain = [each.model_dump(by_alias=True, mode="json", exclude_none=True) for each in sides]
    await swap(world, record, {"former": plain})
    logger.warning("%s did not know of namespace %s on %s", record.name, place.namespace, target.name)
    world.wake.wake(Ref(TENANT_RECORDS, "", record.name))


def _without_record(world: World, target: Target) -> Iterator[TenantIdentity]:
    management_id = world.settings.management_id
    for live in target.live.all(NAMESPACES):
        if (live["metadata"].get("labels") or {}).get(LABEL_MANAGEMENT_ID) != management_id:
            continue
        if "deletionTimestamp" in live["metadata"] and fate_of(live).state != RecordState.PURGING:
            continue  # somebody else deletes it: nothing is left to be recorded
        identity = identity_of(live, management_id)
        if identity is not None and world.ledger.entry(identity.record) is None and is_home(live):
            yield identity


async def _recover(world: World, target: Target, identity: TenantIdentity, homes: Homes) -> None:
    """Only of a namespace that is there now: what the watch shows may have been purged a moment ago."""
    cached = stamped_namespace(target, identity)
    if cached is None:
        return
    try:
        live = await target.kube.get(Ref(NAMESPACES, "", cached["metadata"]["name"]))
    except NotFoundError:
        return
    cluster = world.live.get(Ref(CLUSTERS, "", target.name))
    if cluster is None or target.facts is None or world.ledger.entry(identity.record) is not None:
        return
    if not bears_stamp(live, identity):
        return
    identity = replace(identity, epoch=max(epoch_of(live), homes.epoch))
    pinned = pinned_cluster(target, target.facts, cluster, live, identity)
    database = homes.database or PinnedDatabase(mode="None")
    pins = Pins(pinned, database, plan=plan_of(live), former=homes.former)
    record = await create_record(world, "", identity, pins, fate_of(live))
    logger.warning("%s had no record: made anew from its stamps, %s", identity.tenant_id, record.spec.state)


async def _homes_of(world: World, target: Target, identity: TenantIdentity) -> Homes | str:
    """The databases that the tenant has claimed; or why that can't be told now."""
    namespace = stamped_namespace(target, identity)
    if namespace is not None and (own := dedicated_trace(target, namespace, identity)) is not None:
        return Homes(own, 1, ())
    claimed: list[Claimed] = []
    for body in world.live.all(DATABASE_SERVERS):
        name = body["metadata"]["name"]
        server = world.servers.get(name)
        claims = await claims_on(server, identity) if server is not None and server.facts is not None else None
        if server is None or server.facts is None or claims is None:
            return f"DatabaseServer {name!r}, which may have its database, does not answer"
        for claim in claims.get(identity.record, ()):
            pinned = PinnedDatabase(mode="Shared", server=name, id=server.facts.system_identifier, name=claim.database)
            claimed.append(Claimed(pinned, claim))
    if claimed:
        return Homes.of(claimed, world.clock.now())
    live, cluster = stamped_namespace(target, identity), world.live.get(Ref(CLUSTERS, "", target.name))
    nothing = Homes(None, 1, ())
    if live is None or cluster is None or target.facts is None or fate_of(live).state == RecordState.PURGING:
        return nothing
    had = await had_database(world, pinned_cluster(target, target.facts, cluster, live, identity), identity)
    return "the DatabaseServer of its database is not registered" if had else nothing
