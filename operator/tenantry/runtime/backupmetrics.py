"""Metrics of backups: by BackupStore, and by what tenants' BackupHealthy says; never by tenant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.tenantbackup import BackupPhase
from tenantry.ports.backup import BackupObserver
from tenantry.ports.world import Json
from tenantry.reconcile.shelf import Shelved

_MINUTE: Final = 60.0
_DURATION_BUCKETS: Final = (
    *(1.0, 5.0, 15.0, 30.0, _MINUTE, 2 * _MINUTE, 5 * _MINUTE, 10 * _MINUTE, 20 * _MINUTE, 40 * _MINUTE),
    *(60 * _MINUTE, 120 * _MINUTE, 240 * _MINUTE, 720 * _MINUTE),
)  # fmt: skip
_SIZE_BUCKETS: Final = tuple(float(4**exponent) for exponent in range(8, 20))
"""From 64 KiB to 256 GiB."""


class BackupState(StrEnum):
    """What tenants with a backup schedule are counted by: few values, since each is a time series."""

    HEALTHY = "healthy"
    PENDING = "pending"
    SUSPENDED = "suspended"
    FAILED = "failed"
    OVERDUE = "overdue"
    IMPOSSIBLE = "impossible"
    VERIFICATION_FAILED = "verification_failed"
    VERIFICATION_OVERDUE = "verification_overdue"


_STATES: Final = {
    Reason.BACKUP_COMPLETED: BackupState.HEALTHY,
    Reason.BACKUP_PENDING: BackupState.PENDING,
    Reason.SUSPENDED: BackupState.SUSPENDED,
    Reason.BACKUP_FAILED: BackupState.FAILED,
    Reason.BACKUP_OVERDUE: BackupState.OVERDUE,
    Reason.VERIFICATION_FAILED: BackupState.VERIFICATION_FAILED,
    Reason.VERIFICATION_OVERDUE: BackupState.VERIFICATION_OVERDUE,
}
"""By the reason of BackupHealthy; any other says that none can be made."""


@dataclass(frozen=True, slots=True)
class TenantFigures:
    """Of all tenants with a backup schedule.

    Attributes:
        states: How many there are in each state.
        oldest_success: The least recent of their newest good backups, in seconds since 1970; 0 if none has any.
        oldest_verified: The same of their restores on trial.
    """

    states: Mapping[BackupState, int]
    oldest_success: float = 0.0
    oldest_verified: float = 0.0


@dataclass(slots=True)
class StoreFigures:
    """Of one store; times in seconds since 1970, 0 for none."""

    ready: bool
    last_success: float = 0.0
    last_verified: float = 0.0


class BackupMetrics(BackupObserver):
    """Counts what ends, and tells what there is."""

    def __init__(self, registry: CollectorRegistry) -> None:
        by = ("store",)
        self._tenants = Gauge(
            "tenantry_backup_tenants", "Tenants with a backup schedule by how that is.", ("state",), registry=registry
        )
        self._oldest_success = Gauge(
            "tenantry_backup_oldest_success_timestamp_seconds",
            "When the tenant whose newest good backup is the oldest was backed up.",
            registry=registry,
        )
        self._oldest_verified = Gauge(
            "tenantry_backup_oldest_verified_timestamp_seconds",
            "When a backup of the tenant for whom that is longest ago was restored on trial.",
            registry=registry,
        )
        self._ready = Gauge(
            "tenantry_backup_store_connection_status", "Whether a store answers: 1 or 0.", by, registry=registry
        )
        self._last_success = Gauge(
            "tenantry_backup_last_success_timestamp_seconds", "When the newest good backup was completed.", by,
            registry=registry,
        )  # fmt: skip
        self._last_verified = Gauge(
            "tenantry_backup_last_verified_timestamp_seconds", "When a backup was last restored on trial and was well.",
            by, registry=registry,
        )  # fmt: skip
        self._runs = Counter(
            "tenantry_backup_runs_total", "Backups by how they ended.", (*by, "result"), registry=registry
        )
        self._seconds = Histogram(
            "tenantry_backup_duration_seconds", "How long good backups take.", by, buckets=_DURATION_BUCKETS,
            registry=registry,
        )  # fmt: skip
        self._bytes = Histogram(
            "tenantry_backup_size_bytes", "Size of good backups in the store.", by, buckets=_SIZE_BUCKETS,
            registry=registry,
        )  # fmt: skip
        self._verifications = Counter(
            "tenantry_backup_verifications_total", "Restores on trial by how they ended.", (*by, "result"),
            registry=registry,
        )  # fmt: skip
        self._verification_seconds = Histogram(
            "tenantry_backup_verification_duration_seconds", "How long restores on trial take.", by,
            buckets=_DURATION_BUCKETS, registry=registry,
        )  # fmt: skip
        self._known: set[str] = set()
        self.set_tenants(TenantFigures({}))

    # --- what ends ------------------------------------------------------------------------------------------------
    def backup_ended(self, store: str, *, good: bool, seconds: float, size: int) -> None:
        """See `BackupObserver`."""
        self._introduce(store)
        self._runs.labels(store, "completed" if good else "failed").inc()
        if good:
            self._seconds.labels(store).observe(seconds)
            self._bytes.labels(store).observe(size)

    def verification_ended(self, store: str, result: str, seconds: float) -> None:
        """See `BackupObserver`."""
        self._introduce(store)
        self._verifications.labels(store, result).inc()
        if result != "not_possible":
            self._verification_seconds.labels(store).observe(seconds)

    # --- what there is --------------------------------------------------------------------------------------------
    def set_tenants(self, figures: TenantFigures) -> None:
        """What tenants' conditions say; 0 where nothing is said."""
        for state in BackupState:
            self._tenants.labels(state).set(figures.states.get(state, 0))
        self._oldest_success.set(figures.oldest_success)
        self._oldest_verified.set(figures.oldest_verified)

    def set_stores(self, stores: Mapping[str, StoreFigures]) -> None:
        """The stores that there are; the series of others go."""
        for gone in self._known - stores.keys():
            self._forget(gone)
        for name, figures in stores.items():
            self._introduce(name)
            self._ready.labels(name).set(figures.ready)
            self._last_success.labels(name).set(figures.last_success)
            self._last_verified.labels(name).set(figures.last_verified)

    def _introduce(self, store: str) -> None:
        """Its series are there with 0 from the start, so that rates are right from the first event on."""
        if store in self._known:
            return
        self._known.add(store)
        for result in ("completed", "failed"):
            self._runs.labels(store, result)
        for result in ("passed", "failed", "not_possible"):
            self._verifications.labels(store, result)
        for family in (self._ready, self._last_success, self._last_verified, self._seconds, self._bytes):
            family.labels(store)
        self._verification_seconds.labels(store)

    def _forget(self, store: str) -> None:
        self._known.discard(store)
        for result in ("completed", "failed"):
            self._runs.remove(store, result)
        for result in ("passed", "failed", "not_possible"):
            self._verifications.remove(store, result)
        for family in (self._ready, self._last_success, self._last_verified, self._seconds, self._bytes):
            family.remove(store)
        self._verification_seconds.remove(store)


def tenant_figures(tenants: Iterable[Json]) -> TenantFigures:
    """Of Tenants as they were read: a scrape looks at them all, so without a model."""
    states = dict.fromkeys(BackupState, 0)
    successes, verified = [], []
    for tenant in tenants:
        status = tenant.get("status") or {}
        healthy = next((c for c in status.get("conditions") or () if c["type"] == ConditionType.BACKUP_HEALTHY), None)
        if healthy is None:
            continue
        states[_STATES.get(healthy["reason"], BackupState.IMPOSSIBLE)] += 1
        told = status.get("backup") or {}
        successes.append(_seconds(told.get("lastSuccess")))
        verified.append(_seconds(told.get("lastVerified")))
    return TenantFigures(states, _oldest(successes), _oldest(verified))


def store_figures(stores: Iterable[Json], backups: Iterable[Shelved]) -> dict[str, StoreFigures]:
    """Of BackupStores as they were read, and of all TenantBackups: too many to be read at each scrape."""
    figures = {body["metadata"]["name"]: StoreFigures(_is_ready(body)) for body in stores}
    for backup in backups:
        found = figures.get(backup.store)
        if found is None or backup.phase != BackupPhase.COMPLETED:
            continue
        if backup.completed_at is not None:
            found.last_success = max(found.last_success, backup.completed_at.timestamp())
        if backup.proven_at is not None:
            found.last_verified = max(found.last_verified, backup.proven_at.timestamp())
    return figures


def _is_ready(body: Json) -> bool:
    conditions = (body.get("status") or {}).get("conditions") or ()
    return any(c["type"] == ConditionType.READY and c["status"] == "True" for c in conditions)


def _oldest(times: Iterable[float]) -> float:
    return min((time for time in times if time), default=0.0)


def _seconds(text: str | None) -> float:
    try:
        return datetime.fromisoformat(text).timestamp() if text else 0.0
    except ValueError:
        return 0.0
