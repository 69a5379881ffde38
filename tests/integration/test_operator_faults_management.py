"""The running operator while its management cluster fails: kopf's pitfalls, outages, lost answers, signals, silence."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from signal import Signals
from typing import Any

import pytest
from tests.scene.faulty import (
    LATER,
    SOON,
    TENANT,
    WORKSPACE,
    FaultyLab,
    condition,
    faulty_lab,
    operators_writes,
    settled,
    written,
)
from tests.scene.lab import plan_body, wait_until
from tests.scene.operator import OperatorProcess
from tests.scene.proxy_faults import Answer, Cut, Slow, Swallow

from tenantry.runtime.operator import RELIST_SECONDS

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("fresh_control_plane"),  # has the binary built outside the time-out; none is started
]

OUTAGE_SECONDS = 17.0
STOP_SECONDS = 40.0
QUOTA_SECONDS = 5.0
"""After which a tenant is looked at again whose quota Kubernetes has not taken up yet."""
RESYNC = ("--resync", "10")
TENANT_WATCH = r"/tenants\?.*watch="
RECORDS = r"/tenantrecords(\?|$)"
KOPF_ENDED = "the watch on the custom resources ended"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyLab]:
    with faulty_lab(tmp_path_factory.mktemp("management-faults")) as opened:
        yield opened


@pytest.fixture
def name(name_prefix: str) -> str:
    """Of a test's tenant."""
    return name_prefix


def wait_watched(lab: FaultyLab) -> None:
    """Wait until kopf watches all its kinds."""
    kinds = {"tenants", "clusters", "databaseservers", "tenantplans"}

    def all_there() -> bool:
        return kinds <= {watch.path.partition("?")[0].rpartition("/")[2] for watch in lab.management_proxy.watches}

    wait_until(all_there, SOON, "kopf watches")


def wait_silent(lab: FaultyLab) -> None:
    """Wait until the operator has not written anywhere for 2 s."""
    settled(lambda: sum(len(operators_writes(each, after=0)) for each in (lab.management, lab.target)), 2, LATER)


def reconciles(operator: OperatorProcess, controller: str = "tenant") -> float:
    """How many runs there were, by /metrics."""
    text = operator.get("/metrics") or ""
    found = re.findall(
        rf'^controller_runtime_reconcile_total{{controller="{controller}",.*}} (\S+)$', text, re.MULTILINE
    )
    assert found
    return sum(map(float, found))


# --- watches ------------------------------------------------------------------------------------------------------
def test_after_a_410_all_is_listed_anew_nothing_is_lost_and_nothing_is_written(lab: FaultyLab, name: str) -> None:
    old, new, late = f"{name}-old", f"{name}-new", f"{name}-late"
    with lab.operator() as operator:
        lab.apply_tenants(old, new)
        lab.wait_ready(old, new)
        wait_watched(lab)
        wait_until(lambda: len(lab.management_proxy.watches) >= 8, SOON, "all is watched")
        wait_silent(lab)
        mark, target_mark = lab.management.audit_mark(), lab.target.audit_mark()
        with lab.management_proxy.fault(Swallow(name=new), TENANT_WATCH) as swallowed:
            lab.apply_tenants(new, env={"LEVEL": "high"})
            wait_until(lambda: swallowed.hits > 0, SOON, "the event comes by")
        assert lab.management_proxy.inject_error(410) >= 8
        lab.wait_ready(new)
        lab.apply_tenants(late)
        lab.wait_ready(late)
        others = [e for e in operators_writes(lab.management, after=mark) if not e.name.startswith((new, late))]
        # The tenants are counted anew now and then; a record has no name yet while it is made.
        usual = {("clusters", "status"), ("tenantplans", "status")}
        others = [e for e in others if (e.resource, e.subresource) not in usual]
        assert written([e for e in others if (e.resource, e.verb) != ("tenantrecords", "create")]) == []
        assert written(operators_writes(lab.management, after=mark))
        namespace = lab.namespace_of(old)
        touched = [e for e in operators_writes(lab.target, after=target_mark) if namespace in (e.namespace, e.name)]
        assert written(touched) == []
        assert KOPF_ENDED not in operator.log_text
        lab.delete_tenants(old, new, late)


def test_a_watch_error_that_ends_kopf_loses_nothing_for_it_is_started_again(lab: FaultyLab, name: str) -> None:
    with lab.operator(tracebacks=True) as operator:  # kopf's own
        wait_watched(lab)
        pid, seen = operator.pid, len(operator.log_text)
        assert lab.management_proxy.inject_error(500, TENANT_WATCH) == 1
        wait_until(lambda: KOPF_ENDED in operator.log_text[seen:], SOON, lambda: operator.log_text[-3000:])
        lab.apply_tenants(name)
        lab.wait_ready(name)
        wait_watched(lab)
        assert operator.pid == pid
        lab.apply_tenants(name, env={"LEVEL": "high"})
        lab.wait_ready(name)
        lab.delete_tenants(name)


# --- outages ------------------------------------------------------------------------------------------------------
def test_a_long_5xx_of_everything_ends_nothing_and_spoils_no_status(lab: FaultyLab, name: str) -> None:
    still, changed, late = f"{name}-still", f"{name}-changed", f"{name}-late"

    def statuses() -> list[Any]:
        cluster = lab.get("clusters.tenantry.io", "eu-1") or {}
        return [lab.tenant(still)["status"], cluster["status"]["conditions"]]

    with lab.operator() as operator:
        lab.apply_tenants(still, changed)
        lab.wait_ready(still, changed)
        wait_watched(lab)
        wait_silent(lab)
        before, mark, pid = statuses(), lab.management.audit_mark(), operator.pid
        with lab.management_proxy.fault(Answer.of_status(503, "ServiceUnavailable")) as outage:
            lab.management_proxy.cut_connections()
            lab.apply_tenants(changed, env={"LEVEL": "high"})
            wait_until(lambda: time.monotonic() - outage.since > OUTAGE_SECONDS, LATER, "the outage lasts")
            assert outage.hits > 0
            assert operator.get("/healthz") is not None
            assert operators_writes(lab.management, after=mark) == []
        lab.wait_ready(changed, seconds=LATER)
        lab.apply_tenants(late)
        lab.wait_ready(late, seconds=LATER)
        assert operator.pid == pid
        assert statuses() == before
        lab.delete_tenants(still, changed, late)


def test_a_429_is_obeyed_for_as_long_as_its_retry_after_says(lab: FaultyLab, name: str) -> None:
    refusal = Answer.of_status(429, "TooManyRequests", Retry_After="4")
    after = len(lab.management_proxy.journal.entries)
    with lab.operator(), lab.management_proxy.fault(refusal, RECORDS, method="POST", times=2) as rule:
        lab.apply_tenants(name)
        lab.wait_ready(name)
        posts = lab.management_proxy.journal.matching("POST", RECORDS, after=after)
        pauses = [later.at - former.at for former, later in itertools.pairwise(posts)]
        assert rule.hits == 2
        assert len(pauses) == 2
        assert all(3.9 <= pause < 60 for pause in pauses), pauses
        lab.delete_tenants(name)


def gone(name: str) -> Answer:
    """As an API server says it of one object."""
    status = {"kind": "Status", "apiVersion": "v1", "reason": "NotFound", "message": f"tenants {name!r} not found"}
    return Answer(404, json.dumps({**status, "details": {"name": name, "kind": "tenants"}}))


@pytest.mark.parametrize("times", [1, 2], ids=["first-visit", "all-of-it"])
def test_a_tenant_that_is_said_to_be_gone_and_is_not_is_found_by_the_next_list(
    lab: FaultyLab, name: str, times: int
) -> None:
    """Although nobody changes it after that."""
    with lab.operator(*RESYNC):
        with lab.management_proxy.fault(gone(name), rf"/tenants/{name}/status", method="PATCH", times=times) as rule:
            lab.apply_tenants(name)
            wait_until(lambda: rule.hits > 0, SOON, "it was said")
        lab.wait_ready(name)
        lab.delete_tenants(name)


def test_a_status_whose_kind_is_not_served_yet_is_written_soon(lab: FaultyLab, name: str) -> None:
    """As while the kind is installed again: long before the next list of all."""
    not_served = Answer(404, "404 page not found", "text/plain")
    with lab.operator():
        with lab.management_proxy.fault(not_served, rf"/tenants/{name}/status", method="PATCH", times=2) as rule:
            lab.apply_tenants(name)
            lab.wait_ready(name, seconds=RELIST_SECONDS / 2)
        assert rule.hits == 2
        lab.delete_tenants(name)


# --- lost answers -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("after", [True, False], ids=["answer-lost", "request-lost"])
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", RECORDS), ("PATCH", r"/tenants/{name}\?"), ("PATCH", r"/tenants/{name}/status")],
    ids=["record", "finalizer", "status"],
)
def test_a_write_of_which_nothing_is_heard_is_put_right(
    lab: FaultyLab, name: str, method: str, path: str, after: bool
) -> None:
    proxy = lab.management_proxy
    with lab.operator():
        with proxy.fault(Cut(after=after), path.format(name=name), method=method, times=2) as rule:
            lab.apply_tenants(name)
            lab.wait_ready(name)
            assert rule.hits >= 1
        record = lab.record_of(name)
        assert record["spec"]["incarnation"] == 1
        assert lab.tenant(name)["status"]["record"] == record["metadata"]["name"]
        assert lab.tenant(name)["metadata"]["finalizers"] == ["tenantry.io/tenant"]
        with proxy.fault(Cut(after=after), rf"/tenants/{name}\?", method="PATCH", times=1) as rule:
            lab.delete_tenants(name)
            assert rule.hits == 1
        wait_until(lambda: lab.get("tenantrecords", record["metadata"]["name"]) is None, SOON, "its record goes")


@pytest.mark.parametrize("after", [True, False], ids=["answer-lost", "request-lost"])
def test_a_record_of_whose_change_or_deletion_nothing_is_heard_ends_right(
    lab: FaultyLab, name: str, after: bool
) -> None:
    proxy = lab.management_proxy
    with lab.operator():
        lab.apply_tenants(name)
        lab.wait_ready(name)
        record = lab.record_of(name)["metadata"]["name"]
        with proxy.fault(Cut(after=after), rf"/tenantrecords/{record}", method="PATCH", times=2) as rule:
            lab.apply_tenants(name, database={"mode": "Shared"})
            lab.wait_ready(name)
            assert rule.hits >= 1
        assert lab.record_of(name)["spec"]["database"]["mode"] == "Shared"
        assert lab.tenant(name)["status"]["binding"] == {"name": "tenant-database"}
        with proxy.fault(Cut(after=after), rf"/tenantrecords/{record}", method="DELETE", times=3) as rule:
            lab.delete_tenants(name)
            wait_until(lambda: lab.get("tenantrecords", record) is None, SOON, "the record is gone")
            assert rule.hits >= 1


def test_each_write_waits_for_what_a_test_does_before_and_after_it(lab: FaultyLab, name: str) -> None:
    proxy, told = lab.management_proxy, list[tuple[str, int]]()
    with lab.operator():
        wait_silent(lab)
        proxy.before_write = lambda write: told.append(("before", write.write))
        proxy.after_write = lambda write: told.append(("after", write.write))
        first = proxy.journal.writes + 1
        try:
            lab.apply_tenants(name)
            lab.wait_ready(name)
            wait_silent(lab)
        finally:
            proxy.before_write = proxy.after_write = None
        numbers = range(first, proxy.journal.writes + 1)
        assert len(numbers) >= 4  # the record, the finalizer, the status on the first visit and in the end
        assert sorted(told) == sorted((when, number) for number in numbers for when in ("before", "after"))
        assert all(told.index(("before", number)) < told.index(("after", number)) for number in numbers)
        lab.delete_tenants(name)


# --- silence ------------------------------------------------------------------------------------------------------
def test_the_echoes_of_its_own_writes_start_no_storm(lab: FaultyLab, name: str) -> None:
    with lab.operator() as operator:
        wait_watched(lab)
        wait_silent(lab)
        before, began = reconciles(operator), time.monotonic()
        lab.apply_tenants(name)
        lab.wait_ready(name)
        waits = (time.monotonic() - began) // QUOTA_SECONDS
        wait_silent(lab)
        made = reconciles(operator) - before
        assert 1 <= made <= 6 + waits
        lab.apply_tenants(name, env={"LEVEL": "high"})
        lab.wait_ready(name)
        wait_silent(lab)
        assert 1 <= reconciles(operator) - before - made <= 4
        lab.delete_tenants(name)


def test_changes_and_deletions_that_no_watch_told_of_are_found_by_the_relist(lab: FaultyLab, name: str) -> None:
    changed, deleted, planned = f"{name}-changed", f"{name}-deleted", f"{name}-planned"
    with lab.operator(*RESYNC) as operator:
        lab.apply(plan_body(name))
        lab.apply_tenants(changed, deleted)
        lab.apply_tenants(planned, plan=name)
        lab.wait_ready(changed, deleted, planned)
        wait_watched(lab)
        with lab.management_proxy.fault(Swallow(), r"/(tenants|tenantplans)\?.*watch=") as swallowed:
            lab.apply_tenants(changed, env={"LEVEL": "high"})
            lab.management.kubectl("delete", TENANT, deleted, "-n", WORKSPACE, "--wait=false")
            lab.management.kubectl("delete", "tenantplan", name, "--wait=false")
            lab.wait_ready(changed, seconds=LATER)
            lab.wait_gone(deleted, seconds=LATER)
            kept = f"PlanNotFound: there is no TenantPlan '{name}' any more"
            wait_until(
                lambda: kept in condition(lab.tenant(planned), "Placed")["message"], LATER, lambda: lab.told(planned)
            )
            assert swallowed.hits >= 3
        assert KOPF_ENDED not in operator.log_text
        lab.delete_tenants(changed, planned)


def test_a_status_that_somebody_spoilt_is_told_right_again(lab: FaultyLab, name: str) -> None:
    def timeless() -> dict[str, Any]:
        status: dict[str, Any] = lab.tenant(name)["status"]
        return {**status, "conditions": [{**entry, "lastTransitionTime": ""} for entry in status["conditions"]]}

    with lab.operator(*RESYNC):
        lab.apply_tenants(name)
        lab.wait_ready(name)
        before = timeless()
        spoilt = '{"status": {"cluster": "elsewhere", "namespace": null, "conditions": []}}'
        patch = ("patch", TENANT, name, "-n", WORKSPACE, "--subresource=status", "--type=merge", "-p", spoilt)
        lab.management.kubectl(*patch)
        wait_until(lambda: timeless() == before, LATER, lambda: lab.told(name))
        lab.delete_tenants(name)


def test_nothing_is_written_while_nothing_changes_nor_after_a_restart(lab: FaultyLab, name: str) -> None:
    tenants = [f"{name}-{number}" for number in range(3)]
    limited = plan_body("basic", maxTenants=50, rollout={"type": "Waves"})
    with lab.operator(*RESYNC) as operator:
        lab.apply(limited)
        lab.apply_tenants(*tenants)
        lab.apply_tenants(tenants[0], database={"mode": "Shared"})
        lab.wait_ready(*tenants)
        wait_silent(lab)
        wait_counted(lab, len(tenants))
        marks = lab.management.audit_mark(), lab.target.audit_mark()
        wait_rounds(operator, tenants=len(tenants))
    restarted = lab.start_operator(*RESYNC)
    wait_rounds(restarted, tenants=len(tenants))
    for cluster, mark in zip((lab.management, lab.target), marks, strict=True):
        assert written(operators_writes(cluster, after=mark)) == []
        assert cluster.audit_entries(after=mark)
    with lab.operator(*RESYNC):
        lab.delete_tenants(*tenants)
        lab.apply(plan_body("basic"))


def wait_counted(lab: FaultyLab, tenants: int) -> None:
    """Wait until the counters, which are written at most every 30 s, say how many there are."""

    def counted() -> bool:
        cluster, plan = lab.get("clusters.tenantry.io", "eu-1") or {}, lab.get("tenantplan", "basic") or {}
        return [body["status"].get("tenants") for body in (cluster, plan)] == [tenants, tenants]

    wait_until(counted, LATER, "the counters are right")


def wait_rounds(operator: OperatorProcess, *, tenants: int) -> None:
    """Wait until everything was looked at again at least twice."""
    wanted = {"tenant": 2 * tenants, "cluster": 2, "databaseserver": 2, "tenantplan": 2}
    before = {controller: reconciles(operator, controller) for controller in wanted}

    def done() -> bool:
        return all(reconciles(operator, key) - before[key] >= number for key, number in wanted.items())

    wait_until(done, LATER, "two rounds over everything")


# --- signals ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("number", [Signals.SIGTERM, Signals.SIGINT])
def test_a_signal_during_work_ends_it_soon_and_cleanly(lab: FaultyLab, name: str, number: Signals) -> None:
    tenants = [f"{name}-{each}" for each in range(8)]
    lab.stop_operator()
    log = lab.folder / f"signal-{number.name}.log"
    command = [sys.executable, "-m", "tenantry", "operator", "--kubeconfig", str(lab.kubeconfig)]
    flags = ["--metrics-address", "0", "--health-address", "0", "--allow-loopback-targets", "--no-leader-elect"]
    with (
        lab.management_proxy.fault(Slow(0.5), "", method="PATCH") as slow,
        log.open("wb") as output,
        subprocess.Popen([*command, *flags], stdout=output, stderr=output) as process,
    ):
        try:
            lab.apply_tenants(*tenants)
            wait_until(lambda: slow.hits >= 4, LATER, lambda: log.read_text()[-3000:])
            process.send_signal(number)
            begun = time.monotonic()
            assert process.wait(STOP_SECONDS) == 0
            assert time.monotonic() - begun < STOP_SECONDS
        finally:
            process.kill()
    assert "Traceback" not in log.read_text()
    assert "stopping: work in hand is finished" in log.read_text()
    with lab.operator():
        lab.wait_ready(*tenants, seconds=LATER)
        lab.delete_tenants(*tenants)
