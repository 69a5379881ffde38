"""Which reconciler looks after which kind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from tenantry.api.resources import (
    BACKUP_STORES,
    CLUSTERS,
    DATABASE_SERVERS,
    TENANT_BACKUPS,
    TENANT_PLANS,
    TENANT_RECORDS,
    TENANT_RESTORES,
    TENANTS,
    Ref,
    Resource,
)
from tenantry.reconcile.backupstore import BackupStoreReconciler
from tenantry.reconcile.cluster import ClusterReconciler
from tenantry.reconcile.databaseserver import DatabaseServerReconciler
from tenantry.reconcile.memory import Memory
from tenantry.reconcile.openstores import BackupKit
from tenantry.reconcile.result import Result
from tenantry.reconcile.tenant import TenantReconciler
from tenantry.reconcile.tenantbackup import TenantBackupReconciler
from tenantry.reconcile.tenantplan import TenantPlanReconciler
from tenantry.reconcile.tenantrecord import TenantRecordReconciler
from tenantry.reconcile.tenantrestore import TenantRestoreReconciler
from tenantry.reconcile.world import World

Reconcile: TypeAlias = Callable[[Ref], Awaitable[Result]]


def reconcilers_of(world: World, kit: BackupKit) -> dict[Resource, Reconcile]:
    """One of each; they share the memory of past deletions."""
    memory = Memory(world)
    return {
        TENANTS: TenantReconciler(world, memory, kit).reconcile,
        TENANT_RECORDS: TenantRecordReconciler(world, memory).reconcile,
        TENANT_PLANS: TenantPlanReconciler(world).reconcile,
        CLUSTERS: ClusterReconciler(world).reconcile,
        DATABASE_SERVERS: DatabaseServerReconciler(world, kit).reconcile,
        BACKUP_STORES: BackupStoreReconciler(world, kit).reconcile,
        TENANT_BACKUPS: TenantBackupReconciler(world, kit).reconcile,
        TENANT_RESTORES: TenantRestoreReconciler(world, kit).reconcile,
    }
