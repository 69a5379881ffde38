"""How tenants are counted for the metrics: as kstatus reads their conditions."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.unit.fake_time import FakeTime

from tenantry.api.resources import BACKUP_STORES, TENANTS
from tenantry.reconcile.shelf import Shelf
from tenantry.runtime.census import count_tenants, take_census
from tenantry.runtime.metrics import Metrics, TenantState


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


def test_a_scrape_tells_of_backups_without_reading_one_of_them() -> None:
    shelf, metrics = Shelf(), Metrics(clock=FakeTime(), version="1", workers=1)
    metadata = {"name": "b", "namespace": "shop", "uid": "u", "creationTimestamp": "2026-11-21T00:00:00Z"}
    status = {"phase": "Completed", "completedAt": "2026-11-23T12:00:00Z"}
    spec = {"source": {"tenant": {"name": "acme"}}, "store": "s3"}
    shelf.fill([{"metadata": metadata, "spec": spec, "status": status}])
    known = {TENANTS: [tenant("Ready")], BACKUP_STORES: [{"metadata": {"name": "s3"}}]}
    take_census(metrics, cast("Any", SimpleNamespace(all=known.__getitem__)), shelf)
    text = metrics.expose("text/plain")[0].decode()
    assert 'tenantry_backup_last_success_timestamp_seconds{store="s3"} 1.7954352e+09' in text
    assert 'state="ready"} 1.0' in text
