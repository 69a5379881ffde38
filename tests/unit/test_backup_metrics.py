"""The metrics of backups: counted by store, told by state, and never by tenant."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families as parse

from tenantry.api.tenantbackup import TenantBackup
from tenantry.reconcile.shelf import Shelved
from tenantry.runtime.backupmetrics import BackupMetrics, BackupState, StoreFigures, store_figures, tenant_figures

Json = dict[str, Any]
NOON = 1795435200.0
NOON_TEXT = "2026-11-23T12:00:00Z"
ONE_TEXT = "2026-11-23T13:00:00Z"


def samples(registry: CollectorRegistry) -> dict[str, float]:
    return {
        sample.name.removeprefix("tenantry_backup_")
        + "".join(f"{{{k}={v}}}" for k, v in sorted(sample.labels.items())): sample.value
        for family in parse(generate_latest(registry).decode())
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def tenant(reason: str | None, last_success: str = "", last_verified: str = "") -> Json:
    conditions = [] if reason is None else [{"type": "BackupHealthy", "status": "True", "reason": reason}]
    told = {"lastSuccess": last_success, "lastVerified": last_verified}
    return {"metadata": {"name": "secret-name"}, "status": {"conditions": conditions, "backup": told}}


def backup(phase: str, store: str = "s3", **status: Any) -> Shelved:
    metadata = {"name": "b", "namespace": "shop", "uid": "u", "creationTimestamp": NOON_TEXT}
    spec = {"source": {"tenant": {"name": "acme"}}, "store": store}
    return Shelved.of(TenantBackup.read({"metadata": metadata, "spec": spec, "status": {"phase": phase, **status}}))


def test_what_ends_is_counted_by_store_and_a_store_starts_at_zero() -> None:
    registry = CollectorRegistry()
    metrics = BackupMetrics(registry)
    metrics.set_stores({"s3": StoreFigures(ready=True)})
    assert samples(registry)["runs_total{result=failed}{store=s3}"] == 0
    assert samples(registry)["verifications_total{result=failed}{store=s3}"] == 0
    metrics.backup_ended("s3", good=True, seconds=7.0, size=1000)
    metrics.backup_ended("s3", good=False, seconds=9.0, size=0)
    for result in ("passed", "failed", "not_possible"):
        metrics.verification_ended("s3", result, 3.0)
    found = samples(registry)
    assert found["runs_total{result=completed}{store=s3}"] == found["runs_total{result=failed}{store=s3}"] == 1
    assert (found["duration_seconds_sum{store=s3}"], found["size_bytes_sum{store=s3}"]) == (7.0, 1000.0)
    assert found["verifications_total{result=not_possible}{store=s3}"] == 1
    assert found["verification_duration_seconds_count{store=s3}"] == 2


def test_the_series_of_a_store_go_with_it() -> None:
    registry = CollectorRegistry()
    metrics = BackupMetrics(registry)
    metrics.set_stores({"s3": StoreFigures(ready=True), "gs": StoreFigures(ready=False)})
    metrics.backup_ended("s3", good=True, seconds=1.0, size=1)
    metrics.set_stores({"gs": StoreFigures(ready=False)})
    found = samples(registry)
    assert not [name for name in found if "s3" in name]
    assert found["store_connection_status{store=gs}"] == 0
    metrics.set_stores({"s3": StoreFigures(ready=True)})
    assert samples(registry)["runs_total{result=completed}{store=s3}"] == 0


def test_tenants_are_told_by_state_and_the_one_that_waits_longest_without_its_name() -> None:
    registry = CollectorRegistry()
    metrics = BackupMetrics(registry)
    reasons = (
        "BackupCompleted", "BackupCompleted", "BackupPending", "Suspended", "BackupFailed", "BackupOverdue",
        "VerificationFailed", "VerificationOverdue", "NoBackupStore", None,
    )  # fmt: skip
    tenants = [tenant(reason) for reason in reasons]
    tenants += [tenant("BackupCompleted", ONE_TEXT, ""), tenant("BackupCompleted", NOON_TEXT, ONE_TEXT)]
    metrics.set_tenants(tenant_figures(tenants))
    found = samples(registry)
    assert {state: found[f"tenants{{state={state}}}"] for state in BackupState} == {
        "healthy": 4, "pending": 1, "suspended": 1, "failed": 1, "overdue": 1, "impossible": 1,
        "verification_failed": 1, "verification_overdue": 1,
    }  # fmt: skip
    assert found["oldest_success_timestamp_seconds"] == NOON
    assert found["oldest_verified_timestamp_seconds"] == NOON + 3600
    assert "secret-name" not in generate_latest(registry).decode()
    metrics.set_tenants(tenant_figures([]))
    assert samples(registry)["tenants{state=failed}"] == 0


def test_a_store_tells_of_its_newest_good_backup_and_its_newest_good_trial() -> None:
    ready: Json = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    stores: list[Json] = [{"metadata": {"name": "s3"}, **ready}, {"metadata": {"name": "gs"}}]
    passed = {"method": "Restore", "result": "Passed", "time": NOON_TEXT}
    backups = [
        backup("Completed", completedAt=NOON_TEXT, verification={**passed, "method": "Read", "time": ONE_TEXT}),
        backup("Completed", completedAt="2026-11-23T11:00:00Z", verification=passed),
        backup("Completed", completedAt="gibberish", verification={**passed, "result": "Failed", "time": ONE_TEXT}),
        backup("Failed", completedAt=ONE_TEXT),
        backup("Completed", "gone", completedAt=ONE_TEXT),
        backup("Running"),
    ]
    assert store_figures(stores, backups) == {
        "s3": StoreFigures(ready=True, last_success=NOON, last_verified=NOON),
        "gs": StoreFigures(ready=False),
    }
