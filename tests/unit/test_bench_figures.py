"""The arithmetic of the benchmark: percentiles, slopes, which requests count, ratios, the keys of its last line."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import pytest
from tests.bench.figures import Load, Requests, count_requests, percentile, slope, slope_per_tenant, sum_of_samples
from tests.bench.report import figures, ratio, table
from tests.bench.run import Batch, Outcome, sizes
from tests.bench.tenants import Run, is_ready
from tests.controlplane.audit import AuditEntry

OPERATOR = "system:serviceaccount:a:b"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def entry(
    verb: str, resource: str, *, user: str = OPERATOR, code: int = 200, stage: str = "ResponseComplete"
) -> AuditEntry:
    return AuditEntry(user, verb, "", resource, "", "ns", "n", code, stage, "/api", "agent", NOW, NOW)


def batch(*, seconds: float, floor: float, tenants: int = 10, writes: int = 150) -> Batch:
    requests = Requests(Counter({"patch": writes, "list": tenants}), writes, refused=0)
    waits = tuple(float(number) for number in range(1, tenants + 1))
    return Batch(tenants, Run(seconds, 0.1, waits), floor, cpu_seconds=0.2, requests=requests, objects=tenants * 12)


@pytest.mark.parametrize(("share", "value"), [(0.5, 2.0), (0.99, 4.0), (0.0, 1.0), (1.0, 4.0), (0.26, 2.0)])
def test_a_percentile_is_a_value_that_was_measured(share: float, value: float) -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], share) == value


def test_nothing_has_no_percentile() -> None:
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 0.5)


def test_the_slope_is_that_of_the_line_through_the_points() -> None:
    assert slope([(0, 100), (100, 300), (200, 500)]) == pytest.approx(2.0)
    assert slope([(5, 1), (5, 9)]) == 0.0
    assert slope([]) == 0.0


def test_memory_a_tenant_is_taken_from_what_fresh_processes_hold_at_rest_and_not_from_their_peaks() -> None:
    loads = [Load(100, peak_kb=9_000, rest_kb=1_000, rest_tenants=0), Load(200, 3_000, 2_000, 100)]
    assert slope_per_tenant(loads) == pytest.approx(10.0)


def test_leases_events_reviews_other_users_and_the_ends_of_watches_are_not_counted() -> None:
    requests = count_requests(
        [
            entry("create", "namespaces", code=201),
            entry("patch", "secrets", code=403),
            entry("get", "tenants"),
            entry("watch", "tenants", stage="ResponseStarted"),
            entry("watch", "tenants"),
            entry("update", "leases"),
            entry("create", "events"),
            entry("create", "selfsubjectaccessreviews"),
            entry("create", "namespaces", user="somebody else"),
        ],
        OPERATOR,
    )
    assert requests.by_verb == {"create": 1, "patch": 1, "get": 1, "watch": 1}
    assert (requests.writes, requests.refused, requests.reads) == (2, 1, 2)


def test_requests_add_up() -> None:
    both = Requests(Counter(get=1), 0, 0) + Requests(Counter(get=1, patch=2), 2, 1)
    assert (both.by_verb["get"], both.writes, both.refused) == (2, 2, 1)


def test_a_metric_is_summed_over_its_labels_and_not_mixed_up_with_one_of_a_longer_name() -> None:
    text = '# HELP depth x\ndepth{name="a"} 1.0\ndepth{name="b"} 2.0\ndepth_total{name="a"} 50.0\ndepth 4.0\n'
    assert sum_of_samples(text, "depth") == 7.0


def test_the_ratio_is_that_of_all_batches_together() -> None:
    assert ratio([batch(seconds=2.0, floor=1.0), batch(seconds=2.0, floor=2.0)]) == pytest.approx(0.75)
    assert ratio([]) is None


def test_batches_make_up_the_total() -> None:
    assert list(sizes(250, 100)) == [100, 100, 50]
    assert list(sizes(-3, 100)) == []


def test_the_last_line_has_the_promised_keys_and_the_figures_follow_from_what_was_measured() -> None:
    outcome = Outcome(
        batches=[batch(seconds=2.0, floor=1.0)],
        database_batches=[batch(seconds=4.0, floor=3.0)],
        singles=[0.3, 0.1, 0.2],
        rest=Requests(Counter({"get": 3}), 0, 0),
        restart=Requests(Counter({"list": 20}), 0, 0),
        rest_seconds=30.0,
        tenants=10,
        peak_kb=120 * 1024,
    )
    found = figures(outcome)
    promised = {
        "tenants": 10,
        "ratio_to_floor": 0.5,
        "ratio_to_floor_with_databases": 0.75,
        "writes_per_object": 1.25,
        "reads_per_tenant": 1.0,
        "rest_writes_per_min": 0.0,
        "rest_reads_per_min": 6.0,
        "restart_writes": 0,
        "peak_rss_mb": 120.0,
        "single_ready_p50_s": 0.2,
        "ready_p99_s": 10.0,
        "restart_reads_per_tenant": 2.0,
        "cpu_ms_per_tenant": 20.0,
    }
    assert {name: found[name] for name in promised} == promised
    assert "patch 15" in table(outcome)


def test_a_run_in_which_nothing_was_measured_says_so_instead_of_failing() -> None:
    found = figures(Outcome())
    assert found["ratio_to_floor"] is None
    assert found["ready_p99_s"] is None


@pytest.mark.parametrize(
    ("generation", "status", "ready"),
    [(1, "True", True), (1, "False", False), (1, "Unknown", False), (2, "True", False)],
)
def test_a_tenant_is_ready_only_if_the_status_is_of_its_present_generation(
    generation: int, status: str, ready: bool
) -> None:
    tenant = {
        "metadata": {"generation": generation},
        "status": {"observedGeneration": 1, "conditions": [{"type": "Ready", "status": status}]},
    }
    assert is_ready(tenant) is ready
    assert not is_ready({"metadata": {"generation": 1}})
