"""The metrics: their names and labels, what is counted when, and that series come and go."""

from __future__ import annotations

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse
from tests.unit.fake_time import FakeTime

from tenantry.api.resources import CLUSTERS, TENANTS
from tenantry.runtime.metrics import Metrics, TenantState
from tenantry.runtime.queue import Key, WorkQueue
from tenantry.runtime.workers import Outcome

ACME = Key(TENANTS, "shop", "acme")


def metrics_at(time: FakeTime) -> Metrics:
    return Metrics(clock=time, version="1.2.3", workers=16)


def samples(metrics: Metrics) -> dict[str, float]:
    """All samples by name and labels, as `name{label="value"}`."""
    body, _ = metrics.expose()
    return {
        sample.name + "".join(f"{{{k}={v}}}" for k, v in sorted(sample.labels.items())): sample.value
        for family in parse(body.decode())
        for sample in family.samples
    }


def test_the_names_and_labels_are_the_ones_that_dashboards_know() -> None:
    metrics = metrics_at(FakeTime())
    metrics.request_hook("eu:6443")("GET", 200, 0.1)
    metrics.set_cluster("eu", reachable=True)
    metrics.set_database_server("pg", reachable=False)
    body, _ = metrics.expose()
    labels = {
        family.name: set().union(*(sample.labels for sample in family.samples)) - {"le"}
        for family in parse(body.decode())
    }
    expected = {
        "controller_runtime_reconcile_total": {"controller", "result"},
        "controller_runtime_reconcile_errors_total": {"controller"},
        "controller_runtime_reconcile_time_seconds": {"controller"},
        "controller_runtime_active_workers": {"controller"},
        "controller_runtime_max_concurrent_reconciles": {"controller"},
        "workqueue_depth": {"name"},
        "workqueue_adds_total": {"name"},
        "workqueue_queue_duration_seconds": {"name"},
        "workqueue_work_duration_seconds": {"name"},
        "workqueue_retries_total": {"name"},
        "workqueue_longest_running_processor_seconds": {"name"},
        "workqueue_unfinished_work_seconds": {"name"},
        "rest_client_requests_total": {"code", "method", "host"},
        "rest_client_request_duration_seconds": {"verb", "host"},
        "tenantry_cluster_connection_status": {"cluster"},
        "tenantry_database_server_connection_status": {"server"},
        "tenantry_tenants": {"state"},
        "tenantry_build_info": {"version", "python_version"},
        "process_cpu_seconds_total": set(),
        "python_gc_collections_total": {"generation"},
    }
    found = {name.removesuffix("_total"): label for name, label in labels.items()}
    assert {name: found.get(name.removesuffix("_total")) for name in expected} == expected


def test_series_start_at_zero_so_that_the_first_event_is_seen_by_rate() -> None:
    found = samples(metrics_at(FakeTime()))
    assert found["controller_runtime_reconcile_total{controller=tenant}{result=error}"] == 0
    assert found["workqueue_adds_total{name=cluster}"] == 0
    assert found["tenantry_tenants{state=stalled}"] == 0
    assert found["controller_runtime_max_concurrent_reconciles{controller=tenant}"] == 16


def test_two_operators_in_one_process_do_not_add_up() -> None:
    first, second = metrics_at(FakeTime()), metrics_at(FakeTime())
    first.key_added(ACME)
    assert samples(first)["workqueue_adds_total{name=tenant}"] == 1
    assert samples(second)["workqueue_adds_total{name=tenant}"] == 0


def test_a_queue_is_counted_from_adding_to_done() -> None:
    time = FakeTime()
    metrics = metrics_at(time)
    queue = WorkQueue(
        lane_of=lambda _: "eu", clock=time, roll=lambda: 1.0, observer=metrics, call_later=time.call_later
    )
    for name in ("acme", "zeta", "acme"):
        queue.add(Key(TENANTS, "shop", name))
    assert samples(metrics)["workqueue_depth{name=tenant}"] == 2
    time.advance(2)
    queue.take()
    time.advance(3)
    queue.take()
    time.advance(5)
    found = samples(metrics)
    assert found["workqueue_depth{name=tenant}"] == 0
    assert found["workqueue_adds_total{name=tenant}"] == 2
    assert found["workqueue_queue_duration_seconds_sum{name=tenant}"] == 2 + 5
    assert found["workqueue_longest_running_processor_seconds{name=tenant}"] == 8
    assert found["workqueue_unfinished_work_seconds{name=tenant}"] == 8 + 5
    queue.add_rate_limited(ACME)
    queue.done(ACME)
    found = samples(metrics)
    assert found["workqueue_retries_total{name=tenant}"] == 1
    assert found["workqueue_work_duration_seconds_sum{name=tenant}"] == 8
    assert found["workqueue_longest_running_processor_seconds{name=tenant}"] == 5


def test_runs_are_counted_by_controller_and_by_how_they_ended() -> None:
    metrics = metrics_at(FakeTime())
    metrics.run_started(ACME)
    assert samples(metrics)["controller_runtime_active_workers{controller=tenant}"] == 1
    metrics.run_ended(ACME, Outcome.ERROR, 0.3)
    metrics.run_started(Key(CLUSTERS, "", "eu"))
    metrics.run_ended(Key(CLUSTERS, "", "eu"), Outcome.REQUEUE_AFTER, 1.0)
    found = samples(metrics)
    assert found["controller_runtime_active_workers{controller=tenant}"] == 0
    assert found["controller_runtime_reconcile_total{controller=tenant}{result=error}"] == 1
    assert found["controller_runtime_reconcile_errors_total{controller=tenant}"] == 1
    assert found["controller_runtime_reconcile_errors_total{controller=cluster}"] == 0
    assert found["controller_runtime_reconcile_total{controller=cluster}{result=requeue_after}"] == 1
    assert found["controller_runtime_reconcile_time_seconds_sum{controller=tenant}"] == 0.3


def test_requests_are_counted_by_code_and_those_without_an_answer_as_errors() -> None:
    metrics = metrics_at(FakeTime())
    hook = metrics.request_hook("eu:6443")
    for code in (200, 200, 0):
        hook("PATCH", code, 0.5)
    found = samples(metrics)
    assert found["rest_client_requests_total{code=200}{host=eu:6443}{method=PATCH}"] == 2
    assert found["rest_client_requests_total{code=<error>}{host=eu:6443}{method=PATCH}"] == 1
    assert found["rest_client_request_duration_seconds_sum{host=eu:6443}{verb=PATCH}"] == 1.5


def test_a_server_that_invents_status_codes_makes_no_series_of_its_own() -> None:
    metrics = metrics_at(FakeTime())
    hook = metrics.request_hook("odd:6443")
    for code in range(600, 1000):
        hook("GET", code, 0.1)
    found = {name: value for name, value in samples(metrics).items() if name.startswith("rest_client_requests_total")}
    assert found == {"rest_client_requests_total{code=<error>}{host=odd:6443}{method=GET}": 400}


def test_the_series_of_a_host_go_with_its_last_client() -> None:
    metrics = metrics_at(FakeTime())
    old = metrics.request_hook("eu:6443")
    old("GET", 200, 0.1)
    new = metrics.request_hook("eu:6443")  # a rotated credential: the new client is there before the old one goes
    metrics.forget_host("eu:6443")
    new("GET", 200, 0.1)
    assert samples(metrics)["rest_client_requests_total{code=200}{host=eu:6443}{method=GET}"] == 2
    metrics.forget_host("eu:6443")
    assert not [name for name in samples(metrics) if "eu:6443" in name]


def test_what_is_gone_is_no_longer_reported() -> None:
    metrics = metrics_at(FakeTime())
    metrics.set_cluster("eu", reachable=True)
    metrics.set_cluster("us", reachable=False)
    metrics.set_database_server("pg", reachable=True)
    found = samples(metrics)
    assert found["tenantry_cluster_connection_status{cluster=eu}"] == 1
    assert found["tenantry_cluster_connection_status{cluster=us}"] == 0
    metrics.forget_cluster("eu")
    metrics.forget_database_server("pg")
    found = samples(metrics)
    assert "tenantry_cluster_connection_status{cluster=eu}" not in found
    assert "tenantry_database_server_connection_status{server=pg}" not in found


def test_a_state_without_tenants_falls_back_to_zero() -> None:
    metrics = metrics_at(FakeTime())
    metrics.set_tenants({TenantState.READY: 3, TenantState.STALLED: 1})
    metrics.set_tenants({TenantState.READY: 4})
    found = samples(metrics)
    assert (found["tenantry_tenants{state=ready}"], found["tenantry_tenants{state=stalled}"]) == (4, 0)


def test_both_formats_can_be_read_and_neither_has_created_series() -> None:
    metrics = metrics_at(FakeTime())
    plain, plain_type = metrics.expose("text/plain")
    modern, modern_type = metrics.expose("application/openmetrics-text; version=1.0.0")
    assert plain_type.startswith("text/plain")
    assert modern_type.startswith("application/openmetrics-text")
    assert len(list(parse_openmetrics(modern.decode()))) > 20  # type: ignore[no-untyped-call]  # a library without types
    assert b"_created" not in plain + modern
