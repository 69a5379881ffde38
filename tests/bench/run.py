"""The phases of the benchmark, in their order: single tenants, batches against the floor, rest, restart, databases."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.bench import sql, statements
from tests.bench.client import Client
from tests.bench.figures import Requests, slope_per_tenant
from tests.bench.floor import FloorTenant, floor_tenant, record_path, replay
from tests.bench.scene import CLUSTER, SERVER, Scene, lines_of, wait_for
from tests.bench.tenants import Run, make_tenants, remove_tenants, tenant_body
from tests.bench.writes import Write, fresh_name, hash_of, tenant_name
from tests.controlplane.audit import end_of
from tests.controlplane.postgres import PostgresServer
from tests.controlplane.postgres_access import PostgresAccess
from tests.controlplane.postgres_binaries import wheel_binaries

NOTHING_LATE: Final = 32.0
"""Seconds; the counters in the status of platform objects are written at most every 30."""


@dataclass(frozen=True, slots=True)
class Options:
    """How much is to be done."""

    tenants: int = 300
    batch: int = 100
    database_tenants: int = 60
    database_batch: int = 30
    singles: int = 15
    rest_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Batch:
    """Some tenants by the operator, and the same writes by the floor.

    Attributes:
        floor_seconds: From the first write to the last.
        cpu_seconds: The operator's, from the first apply until it had settled.
        requests: The operator's until it had settled.
        objects: That it made.
    """

    tenants: int
    run: Run
    floor_seconds: float
    cpu_seconds: float
    requests: Requests
    objects: int


@dataclass(slots=True)
class Outcome:
    """All that was measured."""

    batches: list[Batch] = field(default_factory=list)
    database_batches: list[Batch] = field(default_factory=list)
    singles: list[float] = field(default_factory=list)
    rest: Requests | None = None
    restart: Requests | None = None
    rest_seconds: float = 0.0
    tenants: int = 0
    peak_kb: int = 0
    slope_kb: float = 0.0


@dataclass(frozen=True, slots=True)
class Postgres:
    """A running server and its log of statements."""

    access: PostgresAccess
    log: Path


class Bench:
    """One run."""

    def __init__(self, scene: Scene, options: Options) -> None:
        self._scene = scene
        self._options = options
        self._made = 0
        self.outcome = Outcome()

    def run(self) -> Outcome:
        """All phases."""
        self._start()
        wait_for(self._scene.management, "cluster", CLUSTER)
        self._singles()
        for size in sizes(self._options.tenants - self._made, self._options.batch):
            self.outcome.batches.append(self._batch(size, "None"))
        self._rest()
        self._restart()
        self._measure_memory()
        if self._options.database_tenants:
            self._databases()
        return self.outcome

    def _start(self) -> None:
        self._scene.start_operator(self._made)

    def _stop(self) -> None:
        self._scene.stop_operator(self._made)

    def _names(self, count: int) -> list[str]:
        first = self._made
        self._made += count
        return [tenant_name(number) for number in range(first, self._made)]

    # --- phases ---------------------------------------------------------------------------------------------------
    def _singles(self) -> None:
        for name in self._names(self._options.singles):
            run = asyncio.run(self._make([name], "None"))
            self.outcome.singles.append(run.waits[0])
            self._scene.settle(0.5)
        say(f"{self._options.singles} single tenants: {' '.join(f'{wait:.2f}' for wait in self.outcome.singles)} s")

    def _batch(self, size: int, mode: str, postgres: Postgres | None = None) -> Batch:
        scene, names = self._scene, self._names(size)
        before = scene.objects(0)
        mark, log_mark = scene.mark(), end_of(postgres.log) if postgres else 0
        cpu = scene.cpu_seconds()
        run = asyncio.run(self._make(names, mode))
        scene.settle()
        cpu = scene.cpu_seconds() - cpu
        requests, written = scene.requests(mark), scene.written(mark)
        objects = scene.objects(size) - before
        say(f"operator: {size} tenants in {run.seconds:.2f} s ({size / run.seconds:.1f}/s)")
        self._stop()
        floor = [floor_tenant(name, written[name], mode) for name in names]
        visits = self._visits(postgres, log_mark, written) if postgres else None
        floor_seconds = asyncio.run(self._replay(floor, postgres, visits))
        say(f"floor:    {size} tenants in {floor_seconds:.2f} s ({size / floor_seconds:.1f}/s)")
        say(f"          ratio {floor_seconds / run.seconds:.2f}")
        self._start()
        return Batch(size, run, floor_seconds, cpu, requests, objects)

    def _rest(self) -> None:
        self._quiet()
        mark, seconds = self._scene.mark(), self._options.rest_seconds
        time.sleep(seconds)  # what happens while nothing happens
        self.outcome.rest, self.outcome.rest_seconds = self._scene.requests(mark), seconds
        say(f"rest: {self.outcome.rest.writes} writes, {self.outcome.rest.reads} reads in {seconds:g} s")

    def _restart(self) -> None:
        mark = self._scene.mark()
        self._stop()
        self._start()
        requests = self._scene.requests(mark)
        self._quiet()
        late = self._scene.requests(mark)
        self.outcome.restart = Requests(requests.by_verb, late.writes, late.refused)
        self.outcome.tenants = self._made
        say(f"restart: {late.writes} writes, {requests.reads} reads with {self._made} tenants")

    def _measure_memory(self) -> None:
        loads = [*self._scene.loads, self._scene.load(self._made)]
        self.outcome.peak_kb = max(load.peak_kb for load in loads)
        self.outcome.slope_kb = slope_per_tenant(loads)
        known = [(load.rest_tenants, load.rest_kb // 1024, load.peak_kb // 1024) for load in loads]
        say(f"memory: (tenants at the start, MiB at rest, MiB at the peak) {known}")

    def _databases(self) -> None:
        with ExitStack() as stack:
            server = stack.enter_context(PostgresServer(wheel_binaries()))
            log = stack.enter_context(sql.logging_postgres(server))
            self._scene.register_server(server.access)
            wait_for(self._scene.management, "databaseserver", SERVER)
            self._scene.settle()
            for size in sizes(self._options.database_tenants, self._options.database_batch):
                batch = self._batch(size, "Shared", Postgres(server.access, log))
                self.outcome.database_batches.append(batch)
            self._stop()

    # --- steps ----------------------------------------------------------------------------------------------------
    def _quiet(self) -> None:
        """Wait until the operator has written nothing for longer than it may put a write off."""
        deadline = time.monotonic() + 4 * NOTHING_LATE
        mark, since = self._scene.mark(), time.monotonic()
        while time.monotonic() - since < NOTHING_LATE and time.monotonic() < deadline:
            time.sleep(1.0)  # polling a file
            if self._scene.requests(mark).writes:
                mark, since = self._scene.mark(), time.monotonic()

    async def _make(self, names: Sequence[str], mode: str) -> Run:
        async with Client(self._scene.management) as client:
            return await make_tenants(client, [tenant_body(name, mode) for name in names])

    async def _replay(
        self,
        tenants: Sequence[FloorTenant],
        postgres: Postgres | None,
        visits: dict[str, list[statements.Visit]] | None,
    ) -> float:
        scene = self._scene
        async with (
            Client(scene.management) as user,
            Client(scene.management, scene.tokens["management"]) as management,
            Client(scene.target, scene.tokens["target"]) as target,
        ):
            operators = {"management": management, "target": target}
            if postgres is None or visits is None:
                seconds = await replay(user, operators, tenants)
            else:
                async with sql.SqlReplay(postgres.access, visits) as replayed:
                    seconds = await replay(user, operators, tenants, replayed)
            await remove_tenants(
                user, [fresh_name(tenant.name) for tenant in tenants], [record_path(tenant) for tenant in tenants]
            )
        return seconds

    def _visits(
        self, postgres: Postgres, log_mark: int, written: dict[str, list[Write]]
    ) -> dict[str, list[statements.Visit]]:
        found = statements.visits_of(lines_of(postgres.log, log_mark), postgres.access.superuser)
        visits = {}
        for name, writes in written.items():
            tenant_hash = hash_of(writes)
            visits[name] = statements.renamed(name, tenant_hash, found[tenant_hash])
        return visits


def sizes(total: int, batch: int) -> Iterator[int]:
    """The sizes of batches that make up a total."""
    while total > 0:
        yield min(batch, total)
        total -= batch


def say(line: str) -> None:
    """A line of progress."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - a command line's progress


@contextmanager
def prepared(options: Options) -> Iterator[Bench]:
    """A benchmark with its servers running."""
    say("starting a management and a target control plane")
    with Scene() as scene:
        yield Bench(scene, options)
