"""Several operators on one management cluster: one works, the next takes over, and never do two write."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from signal import Signals
from typing import Any, Final

import pytest
from tests.controlplane.audit import AuditEntry
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.postgres import PostgresServer
from tests.controlplane.postgres_binaries import wheel_binaries
from tests.scene.careful import found
from tests.scene.faulty import IDENTITY
from tests.scene.installation import NAMESPACE, apply
from tests.scene.lab import Lab, conditions_text, is_ready, make_lab, tenant_body, wait_until, workspace_body
from tests.scene.operator import LENIENT, OperatorProcess

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("fresh_control_plane"),  # has the binary built outside the time-out; none is started
]

LEASE: Final = ("lease", "tenantry-operator", "-n", NAMESPACE)
WORKSPACE: Final = "shop"
CHANGED: Final = ("t0", "t1", "t2")
SHORT: Final = (
    *("--leader-elect-lease-duration", "6", "--leader-elect-renew-deadline", "3"),
    *("--leader-elect-retry-period", "0.5"),
)
"""For what is not about how long it takes by default."""
SHORT_LEASE: Final = 6.0
SECONDS: Final = 120.0
ALARM: Final = 128 + Signals.SIGALRM
"""The exit code of a process that the dead man's switch has ended."""


class Company:
    """Operators with names, on servers of this module's own, and what each of them has written."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self._folder = folder
        self._running: list[OperatorProcess] = []

    def start(self, name: str, *flags: str, ready: bool = True) -> OperatorProcess:
        """One more, with an election."""
        log = self._folder / f"{name}.log"
        kubeconfig = self._folder / "operator.kubeconfig"
        operator = OperatorProcess(kubeconfig, log, (*LENIENT, "--instance", name, *flags), elect=True)
        self._running.append(operator)
        return operator.start(ready=ready)

    def stop_all(self) -> None:
        """End them gracefully."""
        while self._running:
            self._running.pop().stop()

    @property
    def lease(self) -> dict[str, Any]:
        """The spec of the Lease; empty if there is none."""
        return dict(found(self.lab.management.access, *LEASE).get("spec", {}))

    def wait_leader(self, name: str, seconds: float = SECONDS) -> None:
        """Until the Lease has that name in it."""
        wait_until(lambda: self.lease.get("holderIdentity") == name, seconds, lambda: f"{self.lease}{self.logs()}")

    def writes(self, name: str) -> list[AuditEntry]:
        """What an operator has asked to change anywhere, in order; not the Lease."""
        both = (self.lab.management.access.audit_entries(), self.lab.target.access.audit_entries())
        entries = [
            entry
            for entries in both
            for entry in entries
            if entry.is_write and entry.user == IDENTITY and f"({name})" in entry.user_agent
        ]
        return sorted((entry for entry in entries if entry.name != LEASE[1]), key=lambda entry: entry.received)

    def first_write(self, name: str) -> datetime:
        """When an operator began to write."""
        wait_until(lambda: bool(self.writes(name)), SECONDS, self.logs)
        return self.writes(name)[0].received

    def logs(self) -> str:
        """For the message of a failure."""
        return "\n\n".join(operator.log_text[-2000:] for operator in self._running)

    def assert_one_after_the_other(self, former: str, later: str) -> None:
        """No write of the former one came in, or went on, after the first one of the later."""
        begun = self.first_write(later)
        both = self.writes(former), self.writes(later)
        assert all(both), (former, later)
        late = [entry for entry in both[0] if max(entry.received, entry.answered) >= begun]
        assert not late, late

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Tenants are changed all the time in here."""
        over = threading.Event()

        def change() -> None:
            number = 0
            while not over.wait(0.1):
                number += 1
                self.tenants(*CHANGED, env={"NUMBER": str(number)})

        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(change)
            try:
                yield
            finally:
                over.set()
            done.result()

    def tenants(self, *names: str, **spec: Any) -> None:
        """Make or change tenants."""
        bodies = (tenant_body(name, WORKSPACE, **{"database": {"mode": "Shared"}, **spec}) for name in names)
        apply(self.lab.management.access, *bodies)

    def wait_ready(self, *names: str) -> None:
        """Until these tenants are Ready as they are asked for now."""

        def ready() -> bool:
            return all(is_ready(self.lab.management.access.get("tenants", each, "-n", WORKSPACE)) for each in names)

        wait_until(ready, SECONDS, lambda: f"{self.logs()}\n{conditions_text(self.lab)}")

    def patch_lease(self, spec: dict[str, Any]) -> None:
        """As a person does."""
        self.lab.management.access.kubectl(
            "patch", *LEASE, "--type=merge", "-p", json.dumps({"spec": spec}), "--field-manager=kubectl-edit"
        )


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with ExitStack() as stack:
        management, target = ControlPlane("leaders", audit=True), ControlPlane("leaders-target", audit=True)
        postgres = PostgresServer(wheel_binaries())
        servers: tuple[ControlPlane | PostgresServer, ...] = (management, target, postgres)
        for server in servers:
            stack.callback(server.stop)
        with ThreadPoolExecutor(len(servers)) as pool:
            list(pool.map(lambda server: server.start(), servers))
        folder = tmp_path_factory.mktemp("leaders")
        made = make_lab(management, target, postgres, folder)
        apply(management.access, workspace_body(WORKSPACE))
        yield made


@pytest.fixture
def company(lab: Lab, tmp_path: Path) -> Iterator[Company]:
    """Nobody runs at first, and the Lease is free: given back, or not there yet."""
    kubeconfig = lab.operator.kubeconfig
    (tmp_path / "operator.kubeconfig").write_text(kubeconfig.read_text())
    opened = Company(lab, tmp_path)
    try:
        yield opened
    finally:
        opened.stop_all()
        if opened.lease:
            opened.patch_lease({"holderIdentity": "", "leaseDurationSeconds": 1})


def exit_code(operator: OperatorProcess, seconds: float = SECONDS) -> int:
    process = operator.process
    wait_until(lambda: process.exit_code is not None, seconds, lambda: operator.log_text[-3000:])
    assert process.exit_code is not None
    return process.exit_code


def test_a_killed_leader_is_followed_within_20_seconds_or_so_and_the_next_one_does_the_work(company: Company) -> None:
    begun = time.monotonic()
    leader = company.start("first")
    taken = time.monotonic() - begun
    assert company.lease["holderIdentity"] == "first"  # at once: nobody was ever here
    standby = company.start("second")
    assert standby.get("/healthz") is not None
    assert 'leader_election_master_status{name="tenantry-operator"} 0.0' in (standby.get("/metrics") or "")
    assert 'leader_election_master_status{name="tenantry-operator"} 1.0' in (leader.get("/metrics") or "")
    company.tenants(*CHANGED)
    company.wait_ready(*CHANGED)
    assert company.writes("second") == []
    with company.changing():
        wait_until(lambda: company.lease["leaseDurationSeconds"] == 15, SECONDS, "it says how long it lasts")
        leader.process.send(Signals.SIGKILL)
        exit_code(leader)
        killed = datetime.now().astimezone()
        company.tenants("made-meanwhile")
        company.wait_leader("second")
        failover = (company.first_write("second") - killed).total_seconds()
    company.wait_ready("made-meanwhile", *CHANGED)
    print(f"started in {taken:.1f} s; failover in {failover:.1f} s from SIGKILL to the first write")  # noqa: T201 - the figure
    assert failover < 40
    company.assert_one_after_the_other("first", "second")
    assert company.lease["leaseTransitions"] == 1


def test_a_leader_that_stood_still_for_longer_than_its_lease_writes_nothing_after(company: Company) -> None:
    leader = company.start("frozen", *SHORT)
    company.start("relief", *SHORT, ready=False)
    company.tenants(*CHANGED)
    company.wait_ready(*CHANGED)
    with company.changing():
        wait_until(lambda: len(company.writes("frozen")) > 5, SECONDS, company.logs)
        leader.process.pause()
        company.wait_leader("relief")
        company.first_write("relief")
        leader.process.send(Signals.SIGCONT)
        assert exit_code(leader) == ALARM
    company.wait_ready(*CHANGED)
    company.assert_one_after_the_other("frozen", "relief")


def test_an_orderly_stop_hands_over_at_once(company: Company) -> None:
    leader, standby = company.start("outgoing"), company.start("incoming")
    begun = time.monotonic()
    with company.changing():
        leader.stop()
        stopped = time.monotonic()
        company.wait_leader("incoming", seconds=10)
        print(f"handed over in {time.monotonic() - stopped:.1f} s, stopped in {stopped - begun:.1f} s")  # noqa: T201 - the figure
    company.wait_ready(*CHANGED)
    company.assert_one_after_the_other("outgoing", "incoming")
    idle = company.start("idle")
    before = company.lease["leaseTransitions"]
    process = idle.process
    idle.stop()
    assert process.exit_code == 0
    assert company.lease["holderIdentity"] == "incoming"
    assert company.lease["leaseTransitions"] == before
    assert standby.running


def test_the_same_name_after_a_crash_need_not_wait_and_ends_one_that_still_runs(company: Company) -> None:
    company.start("pod_uid").kill()
    assert company.lease["holderIdentity"] == "pod_uid"
    again = company.start("pod_uid")
    assert "standing by" not in again.log_text
    company.start("pod_uid")
    assert exit_code(again) == 1
    assert "is held by pod_uid now" in again.log_text


def test_a_lease_that_somebody_deletes_stays_with_its_holder(company: Company) -> None:
    leader = company.start("kept", *SHORT)
    company.start("patient", *SHORT)
    uid = company.lab.management.access.get(*LEASE)["metadata"]["uid"]
    company.lab.management.access.kubectl("delete", *LEASE)
    wait_until(lambda: company.lease.get("holderIdentity") == "kept", SECONDS, company.logs)
    assert company.lab.management.access.get(*LEASE)["metadata"]["uid"] != uid
    assert leader.running
    assert company.writes("patient") == []
    # Also while its holder can't know, neither one that waits nor one that has just come takes it at once.
    leader.process.pause()
    company.lab.management.access.kubectl("delete", *LEASE)
    gone = time.monotonic()
    company.start("newcomer", *SHORT, ready=False)
    wait_until(lambda: company.lease.get("holderIdentity") in {"patient", "newcomer"}, SECONDS, company.logs)
    assert time.monotonic() - gone > SHORT_LEASE - 1
    leader.process.send(Signals.SIGCONT)
    assert exit_code(leader) == ALARM


def test_a_holder_that_somebody_writes_in_ends_the_leader_and_is_waited_for(company: Company) -> None:
    leader = company.start("ousted", *SHORT)
    company.start("next", *SHORT, ready=False)
    company.patch_lease({"holderIdentity": "somebody"})
    changed = time.monotonic()
    assert exit_code(leader) == 1
    assert "is held by somebody now" in leader.log_text
    company.wait_leader("next")
    assert time.monotonic() - changed > SHORT_LEASE - 1
    # An empty holder is no word of the leader's that it has stopped, and it says so.
    company.start("third", *SHORT)
    company.patch_lease({"holderIdentity": ""})
    company.wait_leader("next")
    assert company.writes("third") == []


def test_a_leader_that_can_not_renew_ends_in_time_and_comes_back(company: Company) -> None:
    leader = company.start("cut-off", *SHORT)
    standby = company.start("beside", *SHORT)
    company.lab.management.pause_apiserver()
    paused = time.monotonic()
    try:
        assert exit_code(leader) == 1
        assert time.monotonic() - paused < 10
        assert "was not renewed for 3 s" in leader.log_text
        assert standby.running
        assert standby.get("/readyz") is not None
    finally:
        company.lab.management.resume_apiserver()
    again = company.start("cut-off", *SHORT)
    wait_until(lambda: company.lease["holderIdentity"] in {"cut-off", "beside"}, SECONDS, company.logs)
    assert again.running
    company.tenants("after")
    company.wait_ready("after")


def test_without_the_right_to_leases_it_ends_with_one_line_that_says_so(lab: Lab, tmp_path: Path) -> None:
    kubeconfig = tmp_path / "nobody.kubeconfig"
    kubeconfig.write_text(lab.management.access.service_account_kubeconfig("default", "default"))
    operator = OperatorProcess(kubeconfig, tmp_path / "operator.log", elect=True).start(ready=False)
    try:
        assert exit_code(operator) == 1
    finally:
        operator.stop()
    (line,) = operator.log_text.splitlines()
    assert line.startswith("Error: ")
    assert 'cannot get resource "leases"' in line
