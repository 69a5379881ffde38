"""Recovery: records of tenants that no record speaks for, made anew from what their namespaces say of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from tenantry.api.identity import TenantIdentity
from tenantry.api.names import (
    ANNOTATION_EPOCH,
    ANNOTATION_INCARNATION,
    ANNOTATION_RECORD,
    ANNOTATION_TENANT_ID,
    ANNOTATION_WORKSPACE_UID,
    LABEL_MANAGEMENT_ID,
    LABEL_TENANT_HASH,
)
from tenantry.api.resources import CLUSTERS, DATABASE_SERVERS, NAMESPACES, TENANTS, Ref
from tenantry.api.tenantrecord import PinnedDatabase, RecordState
from tenantry.desired.namespace import plan_of
from tenantry.desired.stamp import bears_stamp
from tenantry.ports import Json, NotFoundError, Target
from tenantry.reconcile.records import Pins, create_record
from tenantry.reconcile.traces import (
    claims_on,
    dedicated_trace,
    fate_of,
    had_database,
    pinned_cluster,
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
        database = await _database_of(world, target, identity)
        if isinstance(database, str):
            awaited[Ref(TENANTS, identity.workspace, identity.name)] = database
            logger.warning("%s has no record, and none can be made: %s", identity.tenant_id, database)
        else:
            await _recover(world, target, identity, database)
    world.ledger.await_records(target.name, awaited)
    return not awaited


def _without_record(world: World, target: Target) -> Iterator[TenantIdentity]:
    management_id = world.settings.management_id
    for live in target.live.all(NAMESPACES):
        if (live["metadata"].get("labels") or {}).get(LABEL_MANAGEMENT_ID) != management_id:
            continue
        if "deletionTimestamp" in live["metadata"] and fate_of(live).state != RecordState.PURGING:
            continue  # somebody else deletes it: nothing is left to be recorded
        identity = identity_of(live, management_id)
        if identity is not None and world.ledger.entry(identity.record) is None:
            yield identity


async def _recover(world: World, target: Target, identity: TenantIdentity, database: PinnedDatabase) -> None:
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
    pinned = pinned_cluster(target, target.facts, cluster, live, identity)
    pins = Pins(pinned, database, plan=plan_of(live))
    record = await create_record(world, "", identity, pins, fate_of(live))
    logger.warning("%s had no record: made anew from its stamps, %s", identity.tenant_id, record.spec.state)


async def _database_of(world: World, target: Target, identity: TenantIdentity) -> PinnedDatabase | str:
    """The database that the tenant has, or has claimed; or why that can't be told now."""
    namespace = stamped_namespace(target, identity)
    if namespace is not None and (own := dedicated_trace(target, namespace, identity)) is not None:
        return own
    for body in world.live.all(DATABASE_SERVERS):
        name = body["metadata"]["name"]
        server = world.servers.get(name)
        claims = await claims_on(server, identity) if server is not None and server.facts is not None else None
        if server is None or server.facts is None or claims is None:
            return f"DatabaseServer {name!r}, which may have its database, does not answer"
        if identity.record in claims:
            return PinnedDatabase(
                mode="Shared", server=name, id=server.facts.system_identifier, name=claims[identity.record]
            )
    live, cluster = namespace, world.live.get(Ref(CLUSTERS, "", target.name))
    ending = live is not None and fate_of(live).state == RecordState.PURGING
    if live is not None and not ending and cluster is not None and target.facts is not None:
        pinned = pinned_cluster(target, target.facts, cluster, live, identity)
        if await had_database(world, pinned, identity):
            return "the DatabaseServer of its database is not registered"
    return PinnedDatabase(mode="None")
