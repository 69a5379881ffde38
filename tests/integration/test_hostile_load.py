"""A hostile workspace admin can't keep the operator from the others, nor bring it down, by size, floods or garbage."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.integration.hostile import Mallory
from tests.integration.tenants import KINDS, condition, wait_for
from tests.scene.zone import SILENT

from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.names import ANNOTATION_REQUESTED_AT
from tenantry.api.resources import SECRETS

if TYPE_CHECKING:
    from tests.integration.tenants import Workbench

Json = dict[str, Any]

FAIR_SECONDS = 60.0
"""What the other workspace's tenant may take meanwhile: about a second where nobody floods, on a quiet machine."""
CROWD = 50
EDITS = 200


@pytest.fixture
def mallory(trial: Workbench) -> Iterator[Mallory]:
    with Mallory(trial) as attacker:
        yield attacker
        failed = attacker.failures()
        assert not failed, failed[0]


def time_to_ready(bench: Workbench, *, name: str = "quick") -> float:
    """Seconds until a new tenant of another workspace is Ready."""
    workspace = bench.make_workspace(f"{bench.prefix}-{name}")
    begun = time.monotonic()
    bench.apply(bench.tenant(name, workspace))
    bench.ready(name, workspace, seconds=FAIR_SECONDS)
    return time.monotonic() - begun


def huge() -> Json:
    """A spec at every bound."""
    subjects = [{"kind": "User", "name": f"{number:03d}{'u' * 250}"} for number in range(64)]
    return {
        "displayName": "d" * 128,
        "description": "d" * 1024,
        "tags": {f"{'k' * 60}{number:02d}": "v" * 63 for number in range(32)},
        "env": {f"E{number:02d}{'E' * 125}": "v" * 2048 for number in range(64)},
        "limits": {f"L{number:02d}{'L' * 125}": "9" * 64 for number in range(64)},
        "quota": {"hard": {f"count/things{number:02d}.example.com": 5 for number in range(64)}},
        "domains": [{"host": f"h{number}.{'.'.join(['d' * 60] * 3)}.{SILENT}"} for number in range(32)],
        "rbac": {"bindings": [{"role": role, "subjects": subjects} for role in ("Admin", "Edit", "View")]},
        "envFrom": [{"secretRef": {"name": f"{'s' * 240}-{number}"}} for number in range(16)],
    }


@pytest.mark.timeout(600)
def test_a_crowd_of_tenants_at_every_bound_whose_dns_never_answers_does_not_hold_up_the_others(
    mallory: Mallory,
) -> None:
    """Each of them waits for 32 proofs that never come: one time-out a run, and not one a host."""
    bench = mallory.bench
    plan = bench.platform("TenantPlan", "big", overridable=["limits", "quota"])
    for number in range(16):
        bench.env_secret(f"{'s' * 240}-{number}", {f"S{number}": "v" * 4096})
    for number in range(CROWD):
        assert mallory.create(f"{'t' * 37}-{number:02d}", plan=plan, **huge()).status == 201
    print(f"others Ready after {time_to_ready(bench):.1f} s")  # noqa: T201 - shown where the test fails
    name = f"{'t' * 37}-00"
    tenant = bench.told("Unknown", "HostNotVerified", None, name=name, seconds=120)
    for kind in ("Placed", "NamespaceReady", "SecretsReady", "DatabaseReady"):
        assert condition(tenant, kind)["status"] == "True", kind
    env = bench.secret(bench.whereabouts(name), "tenant-env")
    assert len(env) == 64 + 64 + 16
    assert len(bench.on_target(SECRETS, bench.whereabouts(name).namespace, "tenant-env")["data"]) == len(env)


@pytest.mark.timeout(600)
def test_a_flood_of_edits_does_not_hold_up_the_others_and_the_last_one_counts(mallory: Mallory) -> None:
    bench = mallory.bench
    mallory.make()
    took = FAIR_SECONDS
    for number in range(EDITS):
        patch: Json = {"spec": {"env": {"NUMBER": str(number)}}}
        if number % 2:
            patch = {"metadata": {"annotations": {ANNOTATION_REQUESTED_AT: str(number)}}}
        assert mallory.edit("acme", patch).status == 200
        if number == EDITS // 2:
            took = time_to_ready(bench)
    assert took < FAIR_SECONDS
    tenant = bench.ready(seconds=FAIR_SECONDS)
    assert tenant["metadata"]["generation"] > EDITS / 2
    assert bench.secret(bench.whereabouts(), "tenant-env")["NUMBER"] == str(EDITS - 2)


def texts(length: int) -> st.SearchStrategy[str]:
    return st.text(st.characters(exclude_categories=["Cs"]), max_size=length)


def named(values: type[Reason] | type[ConditionType]) -> st.SearchStrategy[str]:
    return st.sampled_from([value.value for value in values])


CONDITION = st.fixed_dictionaries(
    {
        "type": named(ConditionType) | texts(20),
        "status": st.sampled_from(["True", "False", "Unknown"]),
        "reason": named(Reason) | texts(20),
    },
    optional={
        "message": st.just("NamespaceRecreated: ") | texts(40),
        "lastTransitionTime": st.sampled_from(["2999-01-01T00:00:00Z", "0000-00-00T99:99:99Z", "now"]) | texts(32),
        "observedGeneration": st.integers(-(2**63), 2**63 - 1) | st.just(1),
    },
)
STATUS = st.fixed_dictionaries(
    {},
    optional={
        "observedGeneration": st.integers(-(2**63), 2**63 - 1),
        "conditions": st.lists(CONDITION, max_size=8, unique_by=lambda entry: entry["type"]),
        "tenantId": texts(40),
        "record": texts(40),
        "cluster": texts(40),
        "namespace": texts(40),
        "url": texts(40),
        "hosts": st.lists(texts(40), max_size=4),
        "binding": st.fixed_dictionaries({"name": texts(20)}),
        "effective": st.dictionaries(st.sampled_from(["limits", "quota"]), st.dictionaries(texts(9), texts(9))),
        "lastHandledReconcileAt": texts(40),
        "unknown": texts(10),
    },
)


@pytest.mark.timeout(600)
def test_no_status_whatever_brings_the_operator_down_or_survives_its_next_look(mallory: Mallory) -> None:
    bench = mallory.bench
    mallory.make()
    mallory.create("unplaced", plan="no-such-plan")
    bench.told("Unknown", "PlanNotFound", None, name="unplaced")
    truths = {name: _without_times(bench.get(name)["status"]) for name in ("acme", "unplaced")}
    taken = 0

    @settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(status=STATUS)
    def attack(status: Json) -> None:
        nonlocal taken
        for name, truth in truths.items():
            answer = mallory.set_status(name, status)
            assert answer.status in (200, 409, 422), answer.message
            taken += answer.status == 200
            mallory.handled(name)
            wait_for(partial(_tells, bench, name, truth), f"{name} is put right")

    attack()
    assert taken > 40, "most of them were taken by the API server"
    assert condition(bench.get("unplaced"))["reason"] == "PlanNotFound"
    assert not mallory.failures()
    assert time_to_ready(bench) < FAIR_SECONDS


def _tells(bench: Workbench, name: str, truth: Json) -> bool:
    return _without_times(bench.get(name)["status"]) == truth


def _without_times(status: Json) -> Json:
    """The generation it is of and the conditions, each with whether its time is one, and one that was already."""
    conditions = []
    for entry in status["conditions"]:
        since = entry["lastTransitionTime"]
        sound = bool(re.fullmatch(r"20\d\d-[01]\d-[0-3]\dT\d\d:\d\d:\d\dZ", since))
        conditions.append({**entry, "lastTransitionTime": sound})
    return {"observedGeneration": status["observedGeneration"], "conditions": conditions}


def test_passwords_are_nowhere_but_in_the_tenants_own_secrets(mallory: Mallory) -> None:
    """Also where things go wrong: a password in a message would be one that a workspace's admin reads."""
    bench = mallory.bench
    mallory.make(database={"mode": "Shared"}, env={"A": "1"})
    where = bench.whereabouts()
    server = bench.stage.postgres_18
    hidden = {bench.secret(where, "tenant-database")["password"], server.admin_password, server.superuser_password}
    bench.ask(f"ALTER DATABASE {where.database} WITH ALLOW_CONNECTIONS false")
    mallory.handled()
    bench.ask(f"ALTER DATABASE {where.database} RENAME TO {where.database}_away")
    mallory.handled()
    told = bench.told("False", "DatabaseMissing", None)
    bench.ask(f"ALTER DATABASE {where.database}_away RENAME TO {where.database}")
    mallory.handled()
    bench.ready()
    said = bench.stage.log.read_text(errors="replace") + str(told) + str(bench.record(where))
    for resource in (*KINDS.values(),):
        said += str(bench.management.get(resource.path()).body)
    said += str(bench.management.get("/apis/events.k8s.io/v1/events").body)
    assert where.identity.record in said
    assert len(hidden) == 3
    for password in hidden:
        assert password not in said
