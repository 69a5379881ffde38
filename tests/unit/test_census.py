"""How tenants are counted for the metrics: as kstatus reads their conditions."""

from __future__ import annotations

from typing import Any

import pytest

from tenantry.runtime.census import count_tenants
from tenantry.runtime.metrics import TenantState


def tenant(*true: str, observed: int = 1, deleting: bool = False, suspend: bool = False) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": "acme", "generation": 1}
    if deleting:
        metadata["deletionTimestamp"] = "2026-11-21T00:00:00Z"
    conditions = [{"type": kind, "status": "True"} for kind in true] + [{"type": "Placed", "status": "Unknown"}]
    status = {"observedGeneration": observed, "conditions": conditions}
    return {"metadata": metadata, "spec": {"suspend": suspend}, "status": status}


@pytest.mark.parametrize(
    ("body", "state"),
    [
        (tenant("Ready"), TenantState.READY),
        (tenant("Reconciling"), TenantState.RECONCILING),
        (tenant("Ready", observed=0), TenantState.RECONCILING),
        (tenant("Stalled"), TenantState.STALLED),
        (tenant("Ready", suspend=True), TenantState.SUSPENDED),
        (tenant("Ready", deleting=True), TenantState.DELETING),
        ({"metadata": {"name": "new", "generation": 1}, "spec": {}}, TenantState.RECONCILING),
    ],
)
def test_a_tenant_is_counted_in_one_state(body: dict[str, Any], state: TenantState) -> None:
    assert count_tenants([body]) == {state: 1}


def test_tenants_of_one_state_add_up() -> None:
    assert count_tenants([tenant("Ready"), tenant("Ready"), tenant("Stalled")]) == {"ready": 2, "stalled": 1}
