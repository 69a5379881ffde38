"""Metrics for Prometheus: controller-runtime's names, which people's dashboards know, and our own."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge, GCCollector, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from tenantry.api.resources import (
    BACKUP_STORES,
    CLUSTERS,
    DATABASE_SERVERS,
    TENANT_BACKUPS,
    TENANT_PLANS,
    TENANT_RESTORES,
    TENANTS,
    Resource,
)
from tenantry.ports.world import Clock
from tenantry.runtime.backupmetrics import BackupMetrics
from tenantry.runtime.queue import Key, QueueObserver
from tenantry.runtime.workers import Outcome, RunObserver

RequestHook: TypeAlias = Callable[[str, int, float], None]
"""What a Kube client calls after each request: method, HTTP status (0 where no answer came), seconds."""

_RECONCILE_BUCKETS: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.25, 1.5),
    *(1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5, 6, 7, 8, 9, 10, 15, 20, 25, 30, 40, 50, 60),
)  # fmt: skip
_QUEUE_BUCKETS: Final = tuple(10.0**exponent for exponent in range(-8, 4))
_REQUEST_BUCKETS: Final = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60)
# All three as in controller-runtime and client-go.

_NO_ANSWER: Final = "<error>"  # client-go's word for it


_CONTROLLERS: Final = (
    TENANTS,
    CLUSTERS,
    DATABASE_SERVERS,
    TENANT_PLANS,
    BACKUP_STORES,
    TENANT_BACKUPS,
    TENANT_RESTORES,
)


class TenantState(StrEnum):
    """What tenants are counted by: few values, since each is a time series. As kstatus reads the conditions."""

    READY = "ready"
    RECONCILING = "reconciling"
    STALLED = "stalled"
    SUSPENDED = "suspended"
    DELETING = "deleting"


class _Families:
    """All metrics with their labels, registered with one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        by = ("controller",)
        self.reconciles = Counter(
            "controller_runtime_reconcile_total",
            "Reconciliations by how they ended.",
            (*by, "result"),
            registry=registry,
        )
        self.errors = Counter(
            "controller_runtime_reconcile_errors_total", "Reconciliations that failed.", by, registry=registry
        )
        self.time = Histogram(
            "controller_runtime_reconcile_time_seconds",
            "How long a reconciliation takes.",
            by,
            buckets=_RECONCILE_BUCKETS,
            registry=registry,
        )
        self.active = Gauge("controller_runtime_active_workers", "Workers at work.", by, registry=registry)
        self.most = Gauge(
            "controller_runtime_max_concurrent_reconciles", "Most workers at work at a time.", by, registry=registry
        )
        of = ("name",)
        self.depth = Gauge("workqueue_depth", "Keys that wait.", of, registry=registry)
        self.adds = Counter("workqueue_adds_total", "Keys that began to wait.", of, registry=registry)
        self.retries = Counter("workqueue_retries_total", "Keys put back with backoff.", of, registry=registry)
        self.waited = Histogram(
            "workqueue_queue_duration_seconds", "How long keys wait.", of, buckets=_QUEUE_BUCKETS, registry=registry
        )
        self.worked = Histogram(
            "workqueue_work_duration_seconds",
            "How long keys are worked on.",
            of,
            buckets=_QUEUE_BUCKETS,
            registry=registry,
        )
        self.longest = Gauge(
            "workqueue_longest_running_processor_seconds", "How long the oldest work goes on.", of, registry=registry
        )
        self.unfinished = Gauge(
            "workqueue_unfinished_work_seconds", "How long all work in hand goes on, summed up.", of, registry=registry
        )
        self.requests = Counter(
            "rest_client_requests_total",
            "Requests to API servers by status code, method and host.",
            ("code", "method", "host"),
            registry=registry,
        )
        self.request_time = Histogram(
            "rest_client_request_duration_seconds",
            "How long requests to API servers take.",
            ("verb", "host"),
            buckets=_REQUEST_BUCKETS,
            registry=registry,
        )
        self.clusters = Gauge(
            "tenantry_cluster_connection_status",
            "Whether a target cluster answers: 1 or 0.",
            ("cluster",),
            registry=registry,
        )
        self.servers = Gauge(
            "tenantry_database_server_connection_status",
            "Whether a database server answers: 1 or 0.",
            ("server",),
            registry=registry,
        )
        self.tenants = Gauge("tenantry_tenants", "Tenants by their state.", ("state",), registry=registry)
        self.leader = Gauge(
            "leader_election_master_status",
            "Whether this process holds the Lease of that name: 1 or 0.",
            ("name",),
            registry=registry,
        )
        self.build = Gauge(
            "tenantry_build_info", "Always 1; says what is running.", ("version", "python_version"), registry=registry
        )


class _Controller:
    """The children of one controller's time series, looked up once: `labels()` costs more than counting does."""

    __slots__ = (
        "active", "adds", "clock", "depth", "errors", "most",
        "outcomes", "retries", "running", "time", "waited", "worked",
    )  # fmt: skip

    def __init__(self, families: _Families, name: str, clock: Clock) -> None:
        self.clock = clock
        self.running: dict[Key, float] = {}
        self.outcomes = {outcome: families.reconciles.labels(name, outcome) for outcome in Outcome}
        self.errors = families.errors.labels(name)
        self.time = families.time.labels(name)
        self.active = families.active.labels(name)
        self.most = families.most.labels(name)
        self.depth = families.depth.labels(name)
        self.adds = families.adds.labels(name)
        self.retries = families.retries.labels(name)
        self.waited = families.waited.labels(name)
        self.worked = families.worked.labels(name)
        families.longest.labels(name).set_function(lambda: max(self._ages(), default=0.0))
        families.unfinished.labels(name).set_function(lambda: sum(self._ages()))

    def _ages(self) -> Iterator[float]:
        now = self.clock.monotonic()
        return (now - started for started in self.running.values())


@dataclass(slots=True)
class _Host:
    """The children of one API server's time series by method and code, and how many clients count into them."""

    children: dict[tuple[str, int], tuple[Counter, Histogram]] = field(default_factory=dict)
    users: int = 0


class _WithoutCreated(Collector):
    """A registry without the `_created` series, which nobody asks for and which are a third of all lines."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        for metric in self._registry.collect():
            if metric.type in {"counter", "histogram"}:
                metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric


class Metrics(QueueObserver, RunObserver):
    """All metrics of one operator, in a registry of their own: two operators in one process (tests) don't add up.

    Label values are bounded: kinds, outcomes, and the names and hosts of what is registered and not forgotten.

    Attributes:
        backups: Those of backups.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        version: str,
        workers: int,
        controllers: Iterable[Resource] = _CONTROLLERS,
    ) -> None:
        """The controllers' series are there with 0 from the start, so that rates are right from the first event on."""
        self._clock = clock
        self._workers = workers
        self._registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._families = _Families(self._registry)
        self._families.build.labels(version, platform.python_version()).set(1)
        self._controllers: dict[str, _Controller] = {}
        for resource in controllers:
            self._controller(resource.kind)
        self._hosts: dict[str, _Host] = {}
        self.backups = BackupMetrics(self._registry)
        self.set_tenants({})

    def expose(self, accept: str = "") -> tuple[bytes, str]:
        """The body and content type of /metrics: OpenMetrics if the Accept header asks for it, else plain text."""
        encoder, content_type = choose_encoder(accept)
        return encoder(_WithoutCreated(self._registry)), content_type

    # --- the queue and the workers --------------------------------------------------------------------------------
    def key_added(self, key: Key) -> None:
        """See `QueueObserver`."""
        controller = self._controller(key.resource.kind)
        controller.adds.inc()
        controller.depth.inc()

    def key_taken(self, key: Key, waited: float) -> None:
        """See `QueueObserver`."""
        controller = self._controller(key.resource.kind)
        controller.depth.dec()
        controller.waited.observe(waited)
        controller.running[key] = self._clock.monotonic()

    def key_done(self, key: Key, worked: float) -> None:
        """See `QueueObserver`."""
        controller = self._controller(key.resource.kind)
        controller.worked.observe(worked)
        del controller.running[key]

    def key_retried(self, key: Key) -> None:
        """See `QueueObserver`."""
        self._controller(key.resource.kind).retries.inc()

    def run_started(self, key: Key) -> None:
        """See `RunObserver`."""
        self._controller(key.resource.kind).active.inc()

    def run_ended(self, key: Key, outcome: Outcome, seconds: float) -> None:
        """See `RunObserver`."""
        controller = self._controller(key.resource.kind)
        controller.active.dec()
        controller.outcomes[outcome].inc()
        controller.time.observe(seconds)
        if outcome is Outcome.ERROR:
            controller.errors.inc()

    # --- requests ---------------------------------------------------------------------------------------------------
    def request_hook(self, host: str) -> RequestHook:
        """What the Kube client of one API server calls after each request. `host` is as in its URL, with the port."""
        counted = self._hosts.setdefault(host, _Host())
        counted.users += 1

        def on_request(method: str, code: int, seconds: float) -> None:
            code = code if 100 <= code <= 599 else 0  # a stranger's server chooses the number
            pair = counted.children.get((method, code))
            if pair is None:
                pair = counted.children[method, code] = (
                    self._families.requests.labels(code or _NO_ANSWER, method, host),
                    self._families.request_time.labels(method, host),
                )
            pair[0].inc()
            pair[1].observe(seconds)

        return on_request

    def forget_host(self, host: str) -> None:
        """One hook's client is closed. With the last one of a host its series go; a successor's are kept."""
        counted = self._hosts[host]
        counted.users -= 1
        if counted.users:
            return
        del self._hosts[host]
        for method, code in counted.children:
            self._families.requests.remove(code or _NO_ANSWER, method, host)
            self._families.request_time.remove(method, host)

    # --- what there is ----------------------------------------------------------------------------------------------
    def set_cluster(self, name: str, *, reachable: bool) -> None:
        """Whether a target cluster answers."""
        self._families.clusters.labels(name).set(reachable)

    def forget_cluster(self, name: str) -> None:
        """The Cluster is gone: drops its series."""
        self._families.clusters.remove(name)

    def set_database_server(self, name: str, *, reachable: bool) -> None:
        """Whether a database server answers."""
        self._families.servers.labels(name).set(reachable)

    def forget_database_server(self, name: str) -> None:
        """The DatabaseServer is gone: drops its series."""
        self._families.servers.remove(name)

    def set_leader(self, name: str, *, leading: bool) -> None:
        """Whether this process holds a Lease."""
        self._families.leader.labels(name).set(leading)

    def set_tenants(self, counts: Mapping[TenantState, int]) -> None:
        """How many tenants there are in each state; 0 where nothing is said."""
        for state in TenantState:
            self._families.tenants.labels(state).set(counts.get(state, 0))

    def _controller(self, kind: str) -> _Controller:
        controller = self._controllers.get(kind)
        if controller is None:
            controller = self._controllers[kind] = _Controller(self._families, kind.lower(), self._clock)
            controller.most.set(self._workers)
        return controller
