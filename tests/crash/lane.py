"""Lane: servers, proxies and an operator of its own, on which one run follows another."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tests.controlplane.postgres_binaries import debian_binaries
from tests.crash.case import TENANT, Case, Names
from tests.crash.differing import State, difference, leaks
from tests.crash.doors import PodDoors, SecondPlace, open_second_place
from tests.crash.gate import Gate, Mode, Point
from tests.crash.looking import Looking
from tests.crash.operations import Operation, make_plan
from tests.crash.places import SECOND, SECOND_SERVER
from tests.crash.stored import STORE, store_bodies
from tests.crash.sweeping import sweep
from tests.integration.node import Node
from tests.scene.faulty import FaultyLab, faulty_lab
from tests.scene.lab import wait_until, workspace_body
from tests.scene.operator import LENIENT, OperatorProcess

from tenantry.api.identity import TenantIdentity
from tenantry.api.resources import NAMESPACES

DONE_SECONDS: Final = 150.0
CONVERGE_SECONDS: Final = 150.0
QUIET_SECONDS: Final = 1.5
"""Without a write, for an operation that says it is done to be over."""


@dataclass(frozen=True, slots=True)
class Undisturbed:
    """What an operation does when nobody breaks it off.

    Attributes:
        points: Its writes, in the order of one run.
        end: All that then is there.
        inside: The same of what takes a session in the tenant's database.
    """

    points: tuple[Point, ...]
    end: State
    inside: State


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one run ended.

    Attributes:
        reached: Whether the write came at all, so that the operator was killed.
        difference: From the undisturbed end, in words; empty for a run that converged.
        leaks: What is there that the undisturbed end does not have.
        seconds: From the kill until the end was the same.
        seen: The writes before the kill.
    """

    point: Point
    mode: Mode
    reached: bool
    difference: tuple[str, ...]
    leaks: tuple[str, ...]
    seconds: float
    seen: tuple[Point, ...]


class Lane:
    """One set of servers. Not for use by several threads.

    Attributes:
        log: The operator's, of all its lives.
    """

    def __init__(self, lab: FaultyLab, looking: Looking, node: Node | None = None) -> None:
        self._lab = lab
        self._node = node
        self._looking = looking
        self.log = lab.folder / "operator.log"
        self._operator = OperatorProcess(lab.kubeconfig, self.log, LENIENT)
        self._gate = Gate(self._operator.kill)
        self._gate.stand_before(lab.management_proxy, lab.target_proxy, lab.database_proxy)
        self._management_id = ""

    def stand_before(self, second: SecondPlace, doors: PodDoors) -> None:
        """Have the writes noted that go to a second place, and to servers of tenants' own."""
        self._gate.stand_before_place("-2", second.target_door, second.postgres_door)
        doors.opened = lambda port, door: self._gate.stand_before_server(f"own-{port}", door, word="own")

    def start(self) -> None:
        """Start the operator and wait until its cluster and its server are ready."""
        self._operator.start()
        for place in self._looking.places:
            self._lab.wait_condition("clusters.tenantry.io", place.cluster, "Ready", "True")
            self._lab.wait_condition("databaseservers.tenantry.io", place.server, "Ready", "True")
        self._lab.wait_condition("backupstores.tenantry.io", STORE, "Ready", "True")
        self._management_id = self._looking.management_id()

    def stop(self) -> None:
        """End the operator gracefully. Harmless when repeated."""
        self._gate.rest()
        self._operator.stop()

    # --- runs -----------------------------------------------------------------------------------------------------
    def prepare(self, operation: Operation, count: int) -> list[Names]:
        """So many cases, each brought to where the operation begins."""
        cases = [self.open_case() for _ in range(count)]
        for step in operation.after:
            for names in cases:
                self._act(step, names)
            for names in cases:
                self._wait(step, names)
        if operation.after:
            self._settle()
        return cases

    def open_case(self) -> Names:
        """A case that is new: its workspace and its plan."""
        return open_case(self._looking, self._management_id)

    def undisturbed(self, operation: Operation, names: Names, *, quiet: float = QUIET_SECONDS) -> Undisturbed:
        """Let the operation run to its end, and note its writes and the end.

        Args:
            operation: What is done.
            names: To whom.
            quiet: Seconds without a write, after which no more are waited for.
        """
        self._gate.arm(names.placeholders)
        self._act(operation, names)
        self._wait(operation, names)
        wait_until(lambda: self._gate.quiet_for > quiet, DONE_SECONDS, "no write comes any more")
        return Undisturbed(tuple(self._gate.rest()), self._looking.state(names), self._looking.inside(names))

    def disturbed(self, operation: Operation, names: Names, expected: Undisturbed, point: Point, mode: Mode) -> Verdict:
        """Break the operation off at one write, start the operator again, and compare the end."""
        self._gate.arm(names.placeholders, point, mode)
        self._act(operation, names)
        stuck = self._await_kill(operation, names)
        reached, seen = self._gate.fired.is_set(), self._gate.rest()
        killed_at = time.monotonic()
        if not self._operator.running:
            self._operator.start()
        found, whole = self._converge(names, expected), {**expected.end, **expected.inside}
        return Verdict(
            point,
            mode,
            reached=reached,
            difference=(*stuck, *difference(whole, found)),
            leaks=tuple(leaks(whole, found)),
            seconds=time.monotonic() - killed_at,
            seen=tuple(seen),
        )

    def look_again(self, names: Names, expected: Undisturbed, verdict: Verdict) -> Verdict:
        """The verdict on an end that was right, now that it had time to go wrong."""
        found = self._looking.state(names)
        return replace(
            verdict,
            difference=tuple(difference(expected.end, found)),
            leaks=tuple(leaks(expected.end, found)),
        )

    def clear(self, cases: Sequence[Names]) -> None:
        """Take away all of these cases behind the operator's back, and start it anew."""
        self._operator.kill()
        sweep(self._looking, cases)
        if self._node is not None:
            for names in cases:
                self._node.let_go(names.namespace)
        self._operator.start()

    # --- steps ----------------------------------------------------------------------------------------------------
    def _act(self, operation: Operation, names: Names) -> None:
        if self._node is not None and operation.own_server:
            self._node.look_after(names.namespace)
        operation.act(self._looking, names)

    def _wait(self, operation: Operation, names: Names) -> None:
        wait_until(lambda: operation.done(self._looking, names), DONE_SECONDS, lambda: self._told(operation, names))

    def _settle(self) -> None:
        self._gate.arm(lambda text: text)
        wait_until(lambda: self._gate.quiet_for > QUIET_SECONDS, DONE_SECONDS, "no write comes any more")
        self._gate.rest()

    def _await_kill(self, operation: Operation, names: Names) -> tuple[str, ...]:
        """Wait until the operator is killed, or the operation is over without it; what it says if neither comes."""

        def over() -> bool:
            if self._gate.fired.is_set():
                return True
            return self._gate.quiet_for > QUIET_SECONDS and operation.done(self._looking, names)

        try:
            wait_until(over, DONE_SECONDS, lambda: self._told(operation, names))
        except AssertionError as error:
            return (f"neither killed nor done: {error}",)
        return ()

    def _converge(self, names: Names, expected: Undisturbed) -> State:
        """What is there when it is as expected, or at the deadline."""
        deadline = time.monotonic() + CONVERGE_SECONDS
        while True:
            found = self._looking.state(names)
            late = time.monotonic() > deadline
            if late or not difference(expected.end, found):
                found = {**found, **self._looking.inside(names)}
                if late or not difference({**expected.end, **expected.inside}, found):
                    return found
            time.sleep(0.15)  # polls what another process does; the deadline bounds it

    def _told(self, operation: Operation, names: Names) -> str:
        return f"{operation.name}: {self._looking.tenant(names)}\n{self._operator.log_text[-3000:]}"


def open_case(looking: Looking, management_id: str) -> Names:
    """A case that is new: its workspace and its plan."""
    case = Case()
    answer = looking.management.create(NAMESPACES, workspace_body(case.workspace), dry=False)
    assert answer.status < 300, answer.message
    make_plan(looking, case)
    return Names(case, TenantIdentity(management_id, case.workspace, answer.body["metadata"]["uid"], TENANT))


@contextlib.contextmanager
def open_lane(folder: Path) -> Iterator[Lane]:
    """A lane whose servers and operator run: two clusters, each with a server, and a node on the first one."""
    with ExitStack() as stack:
        lab = stack.enter_context(faulty_lab(folder))
        second, doors = open_second_place(stack, lab), PodDoors()
        stack.callback(doors.stop)
        node = stack.enter_context(Node(lab.target, "crash", debian_binaries(), door=doors.through))
        looking = stack.enter_context(Looking(lab, node))
        lab.apply(*store_bodies(looking.kept))
        looking.know(SECOND, SECOND_SERVER, second.target.access, second.postgres.access)
        lane = Lane(lab, looking, node)
        lane.stand_before(second, doors)
        stack.callback(lane.stop)
        lane.start()
        yield lane
