"""Rollouts in waves, and slots, with an operator of their own: canary, pause, resume, restarts, two at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.postgres import PostgresServer
from tests.controlplane.postgres_binaries import wheel_binaries
from tests.scene.installation import NAMESPACE, apply, operator_kubeconfig
from tests.scene.lab import (
    Lab,
    conditions_text,
    is_ready,
    make_lab,
    plan_body,
    tenant_body,
    wait_until,
    workspace_body,
)
from tests.scene.operator import LENIENT, OperatorProcess

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("fresh_control_plane"),  # has the binary built outside the time-out; none is started
]

Json = dict[str, Any]

PACE = ("--rollout-settle=5", "--rollout-patience=60")
"""A wave lasts long enough to be seen, and nobody has failed who is only slow."""
SECONDS = 150.0
TENANTS = 8
WAVES = (1, 2, TENANTS)
SMALL: Json = {"ceilings": {"limits": {"SEATS": "5"}}}
"""What a tenant with 9 seats stalls on."""
NO_DATABASE: Json = {"mode": "None"}


@dataclass(frozen=True, slots=True)
class Business:
    """A plan in waves and the workspace of its tenants, both called after the test; the operator of the lab runs."""

    lab: Lab
    name: str

    def change(self, *, annotations: dict[str, str] | None = None, **spec: Any) -> None:
        """Apply the plan."""
        body = plan_body(self.name, **{"ceilings": {"limits": {"SEATS": "0"}}, "rollout": {"type": "Waves"}, **spec})
        body["metadata"]["annotations"] = annotations or {}
        apply(self.lab.management.access, body)

    def tenant(self, name: str, **spec: Any) -> Json:
        return tenant_body(name, self.name, plan=self.name, database=NO_DATABASE, **spec)

    def make_tenants(self, **spec: Any) -> None:
        """All of them, on the plan's first content."""
        self.change(env={"LEVEL": "1"})
        apply(self.lab.management.access, *(self.tenant(f"t{n}", **spec) for n in range(TENANTS)))
        self.wait_ready()

    def wait_ready(self) -> None:
        def all_ready() -> bool:
            tenants = self.lab.management.access.get("tenants", "-n", self.name)["items"]
            return len(tenants) == TENANTS and all(is_ready(tenant) for tenant in tenants)

        wait_until(all_ready, SECONDS, lambda: conditions_text(self.lab))

    def records(self) -> list[Json]:
        found: list[Json] = self.lab.management.access.get("tenantrecords")["items"]
        return [record for record in found if record["spec"]["workspace"] == self.name]

    def generations(self) -> dict[str, int]:
        """How often each record was written."""
        return {record["metadata"]["name"]: record["metadata"]["generation"] for record in self.records()}

    def spread(self) -> Counter[str]:
        """How many records have each revision."""
        return Counter(record["spec"]["plan"]["revision"] for record in self.records())

    def rollout(self) -> Json:
        status: Json = self.lab.management.access.get("tenantplans", self.name)["status"]["rollout"]
        return status

    def condition(self, kind: str) -> Json:
        conditions = self.lab.management.access.get("tenantplans", self.name)["status"]["conditions"]
        return next((entry for entry in conditions if entry["type"] == kind), {})

    def wait_phase(self, phase: str, revision: str) -> Json:
        """The plan's rollout, once it is so far with that revision."""

        def there() -> bool:
            status = self.rollout()
            return (status["phase"], status["revision"]) == (phase, revision)

        def told() -> str:
            return f"{phase} of {revision}; {self.rollout()} {self.spread()}\n{conditions_text(self.lab)}"

        wait_until(there, SECONDS, told)
        return self.rollout()

    def newest(self, *, than: str) -> str:
        """The revision that a change of the plan has made, once it is there."""
        wait_until(lambda: self.rollout()["revision"] != than, SECONDS, f"another revision than {than}")
        return str(self.rollout()["revision"])

    def env(self, record: Json) -> Json:
        namespace = record["spec"]["cluster"]["namespace"]
        data: Json = self.lab.target.access.get("secret/tenant-env", "-n", namespace)["data"]
        return data


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Tenantry on servers of its own; the operator runs, and does not wait long between waves."""
    with (
        ControlPlane("management") as management,
        ControlPlane("target") as target,
        PostgresServer(wheel_binaries()) as postgres,
    ):
        made = make_lab(management, target, postgres, tmp_path_factory.mktemp("rollouts"), *PACE)
        made.operator.start()
        yield made
        made.operator.stop()


@pytest.fixture
def business(lab: Lab, name_prefix: str) -> Business:
    """A plan and its workspace; they stay until the lab goes."""
    apply(lab.management.access, workspace_body(name_prefix))
    return Business(lab, name_prefix)


def test_a_change_goes_in_waves_each_after_the_one_before_was_well_and_over_restarts(business: Business) -> None:
    business.make_tenants()
    former, before, operator = business.rollout()["revision"], business.generations(), business.lab.operator
    business.change(env={"LEVEL": "2"})
    revision = business.newest(than=former)
    steps: list[int] = []
    killed: set[int] = set()

    def done() -> bool:
        status = business.rollout()  # first: what is counted after Complete was read is all there is to count
        have = business.spread()[revision]
        if not steps or steps[-1] != have:
            steps.append(have)
        if have in WAVES[:2] and have not in killed:
            killed.add(have)
            operator.kill()
            operator.start()
        return bool(status["phase"] == "Complete" and status["revision"] == revision)

    wait_until(done, SECONDS, lambda: f"{steps} {business.rollout()} {conditions_text(business.lab)}")
    assert killed == set(WAVES[:2])
    assert set(WAVES) <= set(steps)
    assert steps == sorted(steps), "no tenant goes back"
    business.wait_ready()
    assert business.generations() == {name: number + 1 for name, number in before.items()}, "one write a tenant"
    assert business.rollout()["updated"] == business.rollout()["total"] == TENANTS
    assert business.condition("RolledOut")["status"] == "True"


def test_it_stops_at_the_first_tenant_that_gets_worse_and_goes_on_when_it_is_told_to(business: Business) -> None:
    business.make_tenants(limits={"SEATS": "9"})
    lab, former = business.lab, business.rollout()["revision"]
    business.change(env={"LEVEL": "2"}, **SMALL)
    bad = business.newest(than=former)
    status = business.wait_phase("Paused", bad)
    assert business.spread() == {former: TENANTS - 1, bad: 1}
    (canary,) = (record for record in business.records() if record["spec"]["plan"]["revision"] == bad)
    name = canary["metadata"]["name"]
    assert status["message"].startswith(f"{name} was Ready and is Stalled on the new revision. It goes on when ")
    told = business.condition("Stalled")["reason"], business.condition("Ready")["status"]
    assert told == ("RolloutPaused", "False")
    other = next(record for record in business.records() if record["metadata"]["name"] != name)

    apply(lab.management.access, business.tenant(canary["spec"]["tenant"], limits={"SEATS": "5"}))
    business.wait_ready()
    lab.operator.kill()
    apply(lab.management.access, business.tenant(other["spec"]["tenant"], limits={"SEATS": "9"}, env={"MINE": "1"}))
    lab.operator.start()
    wait_until(lambda: "MINE" in business.env(other), SECONDS, "a tenant's own change is made meanwhile")
    assert business.rollout()["phase"] == "Paused", "also when the canary is well again, and the operator new"
    assert business.spread() == {former: TENANTS - 1, bad: 1}, "it stays on the content that it has"

    business.change(env={"LEVEL": "2"}, annotations={"tenantry.io/resume-rollout": bad}, **SMALL)
    business.wait_phase("Complete", bad)
    assert business.spread() == {bad: TENANTS}
    business.change(env={"LEVEL": "1"})
    business.wait_phase("Complete", former)
    business.wait_ready()


def test_a_further_change_of_a_paused_plan_begins_anew_and_so_does_the_content_that_was_paused(
    business: Business,
) -> None:
    business.make_tenants(limits={"SEATS": "9"})
    former = business.rollout()["revision"]
    business.change(env={"LEVEL": "2"}, **SMALL)
    bad = business.newest(than=former)
    business.wait_phase("Paused", bad)
    business.change(env={"LEVEL": "3"})
    good = business.newest(than=bad)
    business.wait_phase("Complete", good)
    assert business.spread() == {good: TENANTS}
    business.wait_ready()

    apply(business.lab.management.access, *(business.tenant(f"t{n}", limits={"SEATS": "5"}) for n in range(TENANTS)))
    business.wait_ready()
    business.change(env={"LEVEL": "2"}, **SMALL)
    business.wait_phase("Complete", bad)
    business.wait_ready()


def test_a_suspended_tenant_keeps_what_it_has_until_it_is_resumed_and_holds_up_nobody(business: Business) -> None:
    business.make_tenants()
    former, access = business.rollout()["revision"], business.lab.management.access
    one = next(record for record in business.records() if record["spec"]["tenant"] == "t3")
    level = business.env(one)["LEVEL"]
    apply(access, business.tenant("t3", suspend=True))

    def suspended() -> bool:
        conditions = access.get("tenants", "t3", "-n", business.name)["status"]["conditions"]
        return any(entry["reason"] == "Suspended" for entry in conditions)

    wait_until(suspended, SECONDS, lambda: conditions_text(business.lab))
    business.change(env={"LEVEL": "2"})
    revision = business.newest(than=former)
    business.wait_phase("Complete", revision)
    business.wait_ready()
    assert business.spread() == {revision: TENANTS}
    assert business.env(one)["LEVEL"] == level
    apply(access, business.tenant("t3"))
    wait_until(lambda: business.env(one)["LEVEL"] != level, SECONDS, "it catches up")


def test_two_operators_at_once_never_give_more_slots_than_the_plan_has(business: Business, tmp_path: Path) -> None:
    lab = business.lab
    business.change(maxTenants=3)
    kubeconfig = tmp_path / "operator.kubeconfig"
    kubeconfig.write_text(operator_kubeconfig(lab.management.access))
    second = OperatorProcess(kubeconfig, tmp_path / "second.log", (*LENIENT, *PACE))
    with second:
        apply(lab.management.access, *(business.tenant(f"t{n:02}") for n in range(12)))

        def told() -> Counter[str]:
            tenants = lab.management.access.get("tenants", "-n", business.name)["items"]
            conditions = (entry for tenant in tenants for entry in tenant.get("status", {}).get("conditions", []))
            return Counter(entry["reason"] for entry in conditions if entry["type"] == "Ready")

        wait_until(lambda: told() == {"Ready": 3, "PlanFull": 9}, SECONDS, lambda: f"{told()} {conditions_text(lab)}")
        selector = f"tenantry.io/claim=slot,tenantry.io/plan={business.name}"
        leases = lab.management.access.get("leases", "-n", NAMESPACE, "-l", selector)["items"]
        held = sorted(lease["spec"]["holderIdentity"] for lease in leases)
        assert held == sorted(record["metadata"]["name"] for record in business.records())
        assert len(held) == 3
