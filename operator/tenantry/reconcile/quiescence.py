"""Quiescence: a deleted tenant in its window. All of it is kept and nothing of it runs, answers or gets in."""

from __future__ import annotations

from typing import Final

from tenantry.api.names import (
    ANNOTATION_DELETED_AT,
    ANNOTATION_PURGE_AFTER,
    ANNOTATION_STATE,
    OPERATOR_BINDINGS,
)
from tenantry.api.resources import INGRESSES, NAMESPACES, NETWORK_POLICIES, ROLE_BINDINGS, Ref
from tenantry.api.tenantrecord import RecordState, TenantRecord
from tenantry.decide.activity import Activity
from tenantry.desired.network import closed_network
from tenantry.desired.quota import no_pods
from tenantry.desired.rbac import operator_binding
from tenantry.desired.stamp import bears_stamp
from tenantry.ports.kube import NotFoundError, Target
from tenantry.ports.world import Json
from tenantry.reconcile.apply import Applier, ref_of
from tenantry.reconcile.hibernation import hibernate
from tenantry.reconcile.parking import park_database
from tenantry.reconcile.workloads import Workloads
from tenantry.reconcile.world import World

LETS_IN: Final = (INGRESSES.kind, ROLE_BINDINGS.kind, NETWORK_POLICIES.kind)
"""The kinds of ours that let traffic or people in: they come back with an undelete."""


async def quiesce(world: World, target: Target, record: TenantRecord) -> None:
    """Bring a tenant whose record is Deleted to rest; every step may be repeated and lost.

    Raises:
        Waiting: for the database server.
        KubeError: of the target.
    """
    await quiesce_namespace(world, target, record)
    await park_database(world, record)


async def mark_namespace(target: Target, record: TenantRecord, live: Json, state: RecordState | str) -> Json:
    """Write the state on the namespace, if nobody changed it since it was read: a lost record is rebuilt from there.

    Raises:
        ConflictError: somebody did.
    """
    active = state == RecordState.ACTIVE
    wanted = {
        ANNOTATION_STATE: None if active else str(state),
        ANNOTATION_DELETED_AT: None if active else record.spec.deleted_at,
        ANNOTATION_PURGE_AFTER: None if active else record.spec.purge_after,
    }
    metadata = live["metadata"]
    have = metadata.get("annotations") or {}
    change = {name: value for name, value in wanted.items() if have.get(name) != value}
    if not change:
        return live
    ref = Ref(NAMESPACES, "", metadata["name"])
    patch = {
        "metadata": {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"], "annotations": change}
    }
    with target.writing(ref):
        answer = await target.kube.merge_patch(ref, patch)
        target.live.observe(answer)
    return answer


async def read_namespace(target: Target, record: TenantRecord) -> Json | None:
    """The tenant's namespace as it is now; None where it is gone, or is not (any more) this tenant's."""
    ref = Ref(NAMESPACES, "", record.spec.cluster.namespace)
    try:
        live = await target.kube.get(ref)
    except NotFoundError:
        target.live.forget(ref)
        return None
    if not bears_stamp(live, record.identity):
        return None
    target.live.observe(live)
    return live


async def quiesce_namespace(
    world: World, target: Target, record: TenantRecord, state: RecordState | str = RecordState.DELETED
) -> None:
    """The namespace's part of `quiesce`.

    Raises:
        KubeError: of the target.
    """
    live = await read_namespace(target, record)
    if live is None or live["metadata"].get("deletionTimestamp"):
        return
    await mark_namespace(target, record, live, state)
    await bring_to_rest(world, target, record)


async def bring_to_rest(world: World, target: Target, record: TenantRecord) -> None:
    """Nothing in a tenant's namespace runs, answers or gets in any more; the mark on it says that this is our doing.

    Raises:
        KubeError: of the target.
    """
    namespace = record.spec.cluster.namespace
    applier = Applier(target, record.identity, world.clock)
    binding = operator_binding(record.identity, namespace)
    if target.live.get(ref_of(binding)) is None:
        applier.bound()
    await applier.apply(binding)
    closed, none = closed_network(record.identity, namespace), no_pods(record.identity, namespace)
    for each in target.live.of_tenant(record.identity.tenant_hash):
        ref = ref_of(each)
        kept = ref == ref_of(closed) or ref.name in OPERATOR_BINDINGS
        lets_in = each["kind"] in LETS_IN or (each.get("spec") or {}).get("type") == "LoadBalancer"
        if ref.namespace == namespace and lets_in and not kept and bears_stamp(each, record.identity):
            await applier.delete(ref, each)
    await applier.apply_all([closed, none])
    await Workloads(target, namespace).settle(Activity(workloads=False, tasks=False))
    await hibernate(target, record)
