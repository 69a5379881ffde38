"""Census: how many tenants there are in each state, and how backups are, as the metrics tell it at each scrape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tenantry.api.conditions import ConditionType
from tenantry.api.resources import BACKUP_STORES, TENANTS
from tenantry.ports.kube import LiveObjects
from tenantry.ports.world import Json
from tenantry.reconcile.shelf import Shelf
from tenantry.runtime.backupmetrics import store_figures, tenant_figures
from tenantry.runtime.metrics import Metrics, TenantState


def take_census(metrics: Metrics, live: LiveObjects, shelf: Shelf) -> None:
    """Tell the metrics what there is. On the event loop: TenantBackups, the most there are, are not read for that."""
    tenants = live.all(TENANTS)
    metrics.set_tenants(count_tenants(tenants))
    metrics.backups.set_tenants(tenant_figures(tenants))
    metrics.backups.set_stores(store_figures(live.all(BACKUP_STORES), shelf.all()))


def count_tenants(tenants: Iterable[Json]) -> Counter[TenantState]:
    """Tenants by state. A scrape counts them all, so what was read is looked at as it is, without a model."""
    return Counter(_state(tenant) for tenant in tenants)


def _state(tenant: Json) -> TenantState:
    """In kstatus' order."""
    metadata, status = tenant["metadata"], tenant.get("status") or {}
    true = {entry["type"] for entry in status.get("conditions") or () if entry["status"] == "True"}
    if metadata.get("deletionTimestamp"):
        return TenantState.DELETING
    if tenant["spec"].get("suspend"):
        return TenantState.SUSPENDED
    if status.get("observedGeneration") != metadata.get("generation"):
        return TenantState.RECONCILING
    if ConditionType.STALLED in true:
        return TenantState.STALLED
    return TenantState.READY if ConditionType.READY in true else TenantState.RECONCILING
