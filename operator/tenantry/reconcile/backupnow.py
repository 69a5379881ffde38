"""A backup that is asked for by an annotation of the Tenant: one TenantBackup for each value, made once."""

from __future__ import annotations

import logging

from tenantry.api.backuppolicy import RequestedBackup
from tenantry.api.names import ANNOTATION_BACKUP_NOW
from tenantry.api.resources import TENANT_BACKUPS, Ref
from tenantry.api.tenant import Tenant
from tenantry.api.tenantbackup import TenantBackup
from tenantry.api.tenantrecord import TenantRecord
from tenantry.decide.backupnow import backup_name, request_of, told
from tenantry.ports.kube import AlreadyExistsError, ForbiddenError, InvalidError
from tenantry.ports.world import Json
from tenantry.reconcile.openstores import BackupKit
from tenantry.reconcile.placing import Placed
from tenantry.reconcile.records import swap
from tenantry.reconcile.report import Report
from tenantry.reconcile.world import World

logger = logging.getLogger(__name__)


async def back_up_now(world: World, kit: BackupKit, tenant: Tenant, placed: Placed, report: Report) -> TenantRecord:
    """Make the TenantBackup that is asked for, if that was not done yet; the record as it then is.

    The record remembers the last value that was done, so that neither the end of the TenantBackup nor a value that
    stays in git makes another one. A process that dies between the two writes finds the TenantBackup by its name.

    Raises:
        ConflictError: somebody changed the record.
        KubeError: of the management cluster.
    """
    record, request = placed.record, request_of(tenant)
    if world.rehearsal:
        return record
    if not request:
        report.backup = told(report.backup, None)
        return record
    ref = Ref(TENANT_BACKUPS, tenant.workspace, backup_name(placed.identity, request))
    if request != record.spec.backed_up_for:
        why = _obstacle(placed) or await _make(world, kit, placed, tenant, ref)
        if why:
            report.backup = told(report.backup, RequestedBackup(request=request, message=why[:1024]))
            return record
        record = await swap(world, record, {"backedUpFor": request})
    report.backup = told(report.backup, RequestedBackup(request=request, backup=ref.name))
    return record


def _obstacle(placed: Placed) -> str:
    mode, store = placed.record.spec.database.mode, placed.cluster.spec.backup_store
    if mode != "Shared":
        return f"its database is of mode {mode}; only Shared ones can be backed up yet"
    if store is None:
        return f"Cluster {placed.cluster.name!r} names no backupStore: the platform team has to"
    return ""


async def _make(world: World, kit: BackupKit, placed: Placed, tenant: Tenant, ref: Ref) -> str:
    """Empty if it is there; else why not."""
    request = request_of(tenant)
    try:
        body = await world.management.create(_manifest(placed, ref, request))
        logger.info("a backup of %s was asked for: %s", placed.identity.tenant_id, ref.name)
    except AlreadyExistsError:
        body = await world.management.get(ref)
        if TenantBackup.read(body).metadata.annotations.get(ANNOTATION_BACKUP_NOW) != request:
            return f"a TenantBackup {ref.name!r} is there that was made otherwise: delete it, or ask by another value"
    except (ForbiddenError, InvalidError) as error:
        return f"no TenantBackup could be made: {error.message}"
    world.live.observe(body)
    kit.shelf.note(TenantBackup.read(body))
    world.wake.wake(ref)
    return ""


def _manifest(placed: Placed, ref: Ref, request: str) -> Json:
    return {
        "apiVersion": TENANT_BACKUPS.api_version,
        "kind": TENANT_BACKUPS.kind,
        "metadata": {"name": ref.name, "namespace": ref.namespace, "annotations": {ANNOTATION_BACKUP_NOW: request}},
        "spec": {
            "source": {"tenant": {"name": placed.identity.name}},
            "store": placed.cluster.spec.backup_store,
            "description": f"asked for by {ANNOTATION_BACKUP_NOW}={request}",
        },
    }
