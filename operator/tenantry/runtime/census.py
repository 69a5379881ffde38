"""Census: how many tenants there are in each state, as the metrics tell it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tenantry.api.conditions import ConditionType
from tenantry.ports.world import Json
from tenantry.runtime.metrics import TenantState


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
