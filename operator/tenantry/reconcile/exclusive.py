"""Tier3's own cluster: a claim whose atomic creation on the target decides who has the cluster for itself (rule 4)."""

from __future__ import annotations

import logging
from typing import Final

from tenantry.api.cluster import Cluster
from tenantry.api.identity import TenantIdentity
from tenantry.api.names import (
    ANNOTATION_RECORD,
    ANNOTATION_TENANT_ID,
    CLUSTER_CLAIM,
    LABEL_MANAGED_BY,
    LABEL_MANAGEMENT_ID,
    MANAGED_BY,
    SYSTEM_NAMESPACE,
)
from tenantry.api.resources import CLUSTERS, CONFIG_MAPS, NAMESPACES, TENANT_RECORDS, TENANTS, Ref
from tenantry.api.tenant import OWN_CLUSTER, Tenant
from tenantry.api.tenantrecord import PinnedCluster, TenantRecord, TenantRecordSpec
from tenantry.decide.placement import cluster_claimed, cluster_not_empty, means
from tenantry.desired.claims import cluster_claim
from tenantry.desired.stamp import bears_stamp
from tenantry.ports.kube import AlreadyExistsError, NotFoundError, Target
from tenantry.ports.world import Json
from tenantry.reconcile.contention import ROOM
from tenantry.reconcile.ledger import others_of
from tenantry.reconcile.records import swap
from tenantry.reconcile.world import World

logger = logging.getLogger(__name__)

CLAIM: Final = Ref(CONFIG_MAPS, SYSTEM_NAMESPACE, CLUSTER_CLAIM)


def wants_own(tenant: Tenant) -> bool:
    """Whether a tenant is to have its cluster for itself."""
    return tenant.spec.tier == OWN_CLUSTER


async def hold(world: World, target: Target, identity: TenantIdentity, *, kept: bool = False) -> None:
    """Let a tenant have a whole cluster: right before its record says so. Safe to repeat and to lose.

    The claim is written first and others are looked for afterwards, with reads that see every earlier write; others
    write their record first and look for a claim afterwards: so of two at least one sees the other.

    Args:
        world: The world.
        target: The cluster.
        identity: Whose it is to be.
        kept: The record says that it has it: the claim is not given back where others have got in meanwhile.

    Raises:
        Waiting: ClusterClaimed, ClusterNotEmpty.
        KubeError: of the target or the management cluster.
    """
    live = await _read(target)
    if live is None:
        try:
            with target.writing(CLAIM):
                live = await target.kube.create(cluster_claim(identity))
        except AlreadyExistsError:
            live = await target.kube.get(CLAIM)
    _note(world, target, live)
    if not _is_of(live, identity):
        raise cluster_claimed(target.name)
    if await _has_others(world, target, identity):
        if not kept:
            await _give_back(world, target, live)
        raise cluster_not_empty(target.name)


async def check_unclaimed(target: Target, identity: TenantIdentity) -> None:
    """That nobody else has the whole cluster: once the record is written, and before anything is made there.

    Raises:
        Waiting: ClusterClaimed.
        KubeError: of the target.
    """
    live = await _read(target)
    if live is not None and not _is_of(live, identity):
        raise cluster_claimed(target.name)


def claimed_by_another(target: Target | None, record: str) -> bool:
    """Whether a watch has seen that another tenant of ours has the whole cluster."""
    live = target.live.get(CLAIM) if target is not None else None
    return live is not None and _record_of(live) != record


def has_claim(target: Target, identity: TenantIdentity) -> bool:
    """Whether a watch has seen that the tenant has the whole cluster."""
    live = target.live.get(CLAIM)
    return live is not None and _is_of(live, identity)


async def settle(world: World, tenant: Tenant, record: TenantRecord, cluster: Cluster, target: Target) -> TenantRecord:
    """Let claim and record say what the spec's tier does, where the tenant lives; the record as it then is.

    A spec that means another place changes nothing here: a move makes its claim there, and what it leaves is kept
    until it is purged. While a move is under way nothing changes either.

    Raises:
        Waiting: ClusterClaimed, ClusterNotEmpty.
        ConflictError: somebody else wrote.
        KubeError: of the target.
    """
    pinned, identity = record.spec.cluster, record.identity
    if record.spec.move is not None:
        return record
    stays = means(tenant.spec.placement, cluster)
    if wants_own(tenant) and (pinned.exclusive or stays):
        if pinned.exclusive and has_claim(target, identity):
            return record
        await hold(world, target, identity, kept=pinned.exclusive)
        return record if pinned.exclusive else await swap(world, record, {"cluster": {"exclusive": True}})
    if pinned.exclusive:
        if stays:
            record = await swap(world, record, {"cluster": {"exclusive": False}})
            world.wake.wake(Ref(CLUSTERS, "", cluster.name))  # it gives the claim back
        return record
    if target.live.get(Ref(NAMESPACES, "", pinned.namespace)) is None:
        await check_unclaimed(target, identity)
    return record


async def sweep(world: World, target: Target) -> None:
    """Give back a claim that nobody can have by right any more: its tenant went, or wants it no longer.

    Raises:
        KubeError: of the target or the management cluster.
    """
    live = target.live.get(CLAIM)
    if live is None or live["metadata"]["labels"].get(LABEL_MANAGEMENT_ID) != world.settings.management_id:
        return
    if not await _is_needed(world, target, live):
        logger.info("Cluster %s is given back by %s", target.name, _record_of(live))
        await _give_back(world, target, live)


async def _is_needed(world: World, target: Target, claim: Json) -> bool:
    """By the record; without one that says so, by the Tenant, whose record may be about to come."""
    name = _record_of(claim)
    body = await _either(world, Ref(TENANT_RECORDS, "", name)) if name else None
    spec = TenantRecord.model_validate(body).spec if body is not None else None
    if spec is not None and any(each.exclusive and each.name == target.name for each in places_of(spec)):
        return True
    annotations = claim["metadata"].get("annotations") or {}
    workspace, _, rest = annotations.get(ANNOTATION_TENANT_ID, "").partition("_")
    tenant_name, _, tenant_hash = rest.partition("_")
    if spec is None and any(each["kind"] == NAMESPACES.kind for each in target.live.of_tenant(tenant_hash)):
        return True  # its record was lost, and is about to be made anew
    found = await _either(world, Ref(TENANTS, workspace, tenant_name)) if workspace and tenant_name else None
    cluster = world.live.get(Ref(CLUSTERS, "", target.name))
    if found is None or cluster is None:
        return False
    tenant = Tenant.model_validate(found)
    if tenant.deleting or not wants_own(tenant) or not means(tenant.spec.placement, Cluster.model_validate(cluster)):
        return False
    placement = tenant.spec.placement
    named = placement is not None and placement.cluster == target.name
    return spec is None or named or not spec.cluster.exclusive


def places_of(spec: TenantRecordSpec) -> list[PinnedCluster]:
    """Where a record says that the tenant has something, or will have."""
    return [spec.cluster, *others_of(spec)[0]]


async def _has_others(world: World, target: Target, identity: TenantIdentity) -> bool:
    """Whether another tenant has something on the cluster, by all records and by all stamps, of whichever operator."""
    records = await world.management.list(TENANT_RECORDS)
    for body in records.items:
        record = TenantRecord.model_validate(body)
        if record.name != identity.record and any(each.name == target.name for each in places_of(record.spec)):
            return True
    namespaces = await target.kube.list(NAMESPACES, labels=f"{LABEL_MANAGED_BY}={MANAGED_BY}")
    return any(
        LABEL_MANAGEMENT_ID in live["metadata"]["labels"] and not bears_stamp(live, identity)
        for live in namespaces.items
    )


def _note(world: World, target: Target, live: Json) -> None:
    """Remember a claim of ours. No watch would say that another installation's is gone."""
    if live["metadata"]["labels"].get(LABEL_MANAGEMENT_ID) == world.settings.management_id:
        target.live.observe(live)


async def _read(target: Target) -> Json | None:
    try:
        return await target.kube.get(CLAIM)
    except NotFoundError:
        target.live.forget(CLAIM)
        return None


async def _either(world: World, ref: Ref) -> Json | None:
    """As a watch has seen it; where it has not, as the API server says."""
    if (seen := world.live.get(ref)) is not None:
        return seen
    try:
        return await world.management.get(ref)
    except NotFoundError:
        return None


async def _give_back(world: World, target: Target, live: Json) -> None:
    with target.writing(CLAIM):
        await target.kube.delete(CLAIM, uid=live["metadata"]["uid"])
        target.live.forget(CLAIM, uid=live["metadata"]["uid"])
    world.contention.freed(ROOM, world.wake.wake)


def _is_of(claim: Json, identity: TenantIdentity) -> bool:
    return bears_stamp(claim, identity) and _record_of(claim) == identity.record


def _record_of(claim: Json) -> str:
    return str((claim["metadata"].get("annotations") or {}).get(ANNOTATION_RECORD, ""))
