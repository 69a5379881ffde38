"""Adopted namespaces: taken over with their owner's consent, never made by us, never deleted, only let go of."""

from __future__ import annotations

import asyncio
from typing import Final

from tenantry.api.cluster import Cluster
from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.identity import TenantIdentity
from tenantry.api.names import (
    ANNOTATION_ADOPT_NAMESPACE,
    CONFIG_MAP_INFO,
    INGRESS,
    INGRESS_OWN_CERTIFICATES,
    LABEL_TENANT_HASH,
    LIMIT_RANGE,
    OPERATOR_ROLE_BINDING,
    RESOURCE_QUOTA,
    RESOURCE_QUOTA_OFF,
    SERVICE_ACCOUNT,
)
from tenantry.api.resources import (
    CONFIG_MAPS,
    INGRESSES,
    LIMIT_RANGES,
    NAMESPACES,
    NETWORK_POLICIES,
    RESOURCE_QUOTAS,
    ROLE_BINDINGS,
    SECRETS,
    SERVICE_ACCOUNTS,
    TENANTS,
    Ref,
)
from tenantry.api.tenant import Tenant
from tenantry.api.tenantrecord import TenantRecord
from tenantry.decide.activity import Activity
from tenantry.decide.adoption import is_offered, is_reserved, letting_go, taking
from tenantry.decide.halt import Terminal
from tenantry.desired import network
from tenantry.desired.rbac import CLUSTER_ROLES, operator_binding
from tenantry.desired.stamp import bears_stamp
from tenantry.ports.kube import NotFoundError, Target
from tenantry.ports.world import Json
from tenantry.reconcile.apply import Applier, ref_of
from tenantry.reconcile.namespace import conflict, not_there
from tenantry.reconcile.records import swap
from tenantry.reconcile.workloads import Workloads
from tenantry.reconcile.world import World

NAMES: Final = (
    (RESOURCE_QUOTAS, (RESOURCE_QUOTA, RESOURCE_QUOTA_OFF)),
    (LIMIT_RANGES, (LIMIT_RANGE,)),
    (SERVICE_ACCOUNTS, (SERVICE_ACCOUNT,)),
    (CONFIG_MAPS, (CONFIG_MAP_INFO,)),
    (NETWORK_POLICIES, (network.ISOLATION, network.INGRESS_CONTROLLER, network.EGRESS, network.DATABASE)),
    (
        ROLE_BINDINGS,
        (OPERATOR_ROLE_BINDING, "tenant-self-service", *(f"tenant-{role.lower()}" for role in CLUSTER_ROLES)),
    ),
    (INGRESSES, (INGRESS, INGRESS_OWN_CERTIFICATES)),
)
"""What the operator makes in every tenant's namespace, and may read there before it has rights in it."""


async def named_namespace(
    world: World, tenant: Tenant, identity: TenantIdentity, cluster: Cluster, target: Target
) -> str | None:
    """The namespace that a new tenant is to adopt, as its annotation says; None without one.

    Raises:
        Terminal: NamespaceReserved, NamespaceConflict: it is not to be had.
        Waiting: NamespaceNotFound.
        KubeError: of the target.
    """
    name = tenant.metadata.annotations.get(ANNOTATION_ADOPT_NAMESPACE)
    if name is None:
        return None
    if is_reserved(name) or _is_ours_to_work_in(world, cluster, name):
        raise Terminal(
            ConditionType.NAMESPACE_READY,
            Reason.NAMESPACE_RESERVED,
            f"{ANNOTATION_ADOPT_NAMESPACE}: the namespace {name!r} is reserved and can't be adopted; name another one",
        )
    try:
        live = await target.kube.get(Ref(NAMESPACES, "", name))
    except NotFoundError:
        raise not_there(name, identity) from None
    if not is_offered(live, identity) and not bears_stamp(live, identity):
        raise conflict(live, identity)
    return name


def check_mode(mode: str) -> None:
    """That a tenant of a mode may live in an adopted namespace: all that we make in it has to go again.

    Raises:
        Terminal: NamespaceConflict.
    """
    if mode == "Dedicated":
        raise Terminal(
            ConditionType.NAMESPACE_READY,
            Reason.NAMESPACE_CONFLICT,
            "an adopted namespace can't hold a Dedicated database: its volume could not be taken back out of it; "
            "choose another database.mode, or a namespace of the tenant's own",
        )


async def take(world: World, target: Target, record: TenantRecord, live: Json, wanted: Json) -> TenantRecord:
    """Put the stamp on a namespace that is offered; its record, which is returned, says first that it was adopted.

    Raises:
        ConflictError: somebody changed the record or the namespace: the next pass goes on.
        Terminal: NamespaceConflict: something that we would have to make is in it, and is not ours.
        KubeError: of the target.
    """
    check_mode(record.spec.database.mode)
    await _check_contents(target, live["metadata"]["name"])
    if not record.spec.cluster.adopted:
        record = await swap(world, record, {"cluster": {"adopted": True}})
    ref = Ref(NAMESPACES, "", live["metadata"]["name"])
    with target.writing(ref):
        target.live.observe(await target.kube.merge_patch(ref, taking(live, wanted)))
    return record


async def let_go(world: World, target: Target, record: TenantRecord, live: Json) -> None:
    """Take all that is ours out of an adopted namespace, give its workloads back, and last the stamp off it.

    Safe to repeat and to lose: as long as the stamp is there, all of it is done again.

    Raises:
        ConflictError: somebody changed what is to go.
        KubeError: of the target.
    """
    name, identity = live["metadata"]["name"], record.identity
    applier = Applier(target, identity, world.clock)
    binding = operator_binding(identity, name)
    if target.live.get(ref_of(binding)) is None:
        applier.bound()
    own = await applier.apply(binding)
    for each in target.live.of_tenant(identity.tenant_hash):
        ref = ref_of(each)
        if ref.namespace == name and ref != ref_of(binding) and bears_stamp(each, identity):
            await applier.delete(ref, each)
    secrets = await target.kube.list(SECRETS, namespace=name, labels=f"{LABEL_TENANT_HASH}={identity.tenant_hash}")
    for secret in secrets.items:
        if bears_stamp(secret, identity):
            await applier.delete(Ref(SECRETS, name, secret["metadata"]["name"]), secret)
    await Workloads(target, name).settle(Activity(workloads=True, tasks=True))
    await applier.delete(ref_of(binding), own)
    ref = Ref(NAMESPACES, "", name)
    with target.writing(ref):
        await target.kube.merge_patch(ref, letting_go(live))
        target.live.forget(ref, uid=live["metadata"]["uid"])


async def _check_contents(target: Target, namespace: str) -> None:
    """That nothing which bears one of our names is there: it would be in the way, and is not ours to change.

    Raises:
        Terminal: NamespaceConflict, with the first of them.
        KubeError: of the target.
    """
    refs = [Ref(resource, namespace, name) for resource, names in NAMES for name in names]
    found = await asyncio.gather(*(_is_there(target, ref) for ref in refs))
    there = next((ref for ref, is_there in zip(refs, found, strict=True) if is_there), None)
    if there is not None:
        raise Terminal(
            ConditionType.NAMESPACE_READY,
            Reason.NAMESPACE_CONFLICT,
            f"the namespace {namespace!r} can't be adopted as it is: it has a {there.resource.kind} {there.name!r}, a "
            "name that this operator uses; rename or delete it there",
        )


async def _is_there(target: Target, ref: Ref) -> bool:
    try:
        await target.kube.get(ref)
    except NotFoundError:
        return False
    return True


def _is_ours_to_work_in(world: World, cluster: Cluster, name: str) -> bool:
    """Whether it is the operator's own namespace, or a workspace, where the cluster is the management cluster."""
    if name == world.settings.namespace:
        return True
    here = cluster.spec.kubeconfig_secret_ref is None
    return here and any(body["metadata"]["namespace"] == name for body in world.live.all(TENANTS))
