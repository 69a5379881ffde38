"""A lab behind proxies with a store and tenants with databases, and the operator's programs, stopped in the middle."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import psutil
import psycopg
from tests.controlplane.object_stores import MINISTACK, StoreServer
from tests.integration.acting import Api, manifest
from tests.integration.backing import Kept, keep_in
from tests.scene.faulty import WORKSPACE, FaultyLab, condition, faulty_lab
from tests.scene.lab import cluster_body, is_ready, plan_body, tenant_body, wait_until
from tests.scene.operator import OperatorProcess
from tests.scene.proxy_faults import Answer, Cut, Fault

from tenantry.api.resources import TENANT_BACKUPS, TENANT_RECORDS, TENANT_RESTORES, TENANTS, Ref, Resource

Json = dict[str, Any]

ENDS: Final = ("Completed", "Failed")
PATIENCE: Final = 120.0
"""Seconds for what takes some of them on a quiet machine."""
PROMISED: Final = 60.0
"""Seconds from the death of whoever works to Failed, by the statuses' own time stamps."""
DAY: Final = {"minWindow": "24h", "maxWindow": "24h"}
LONG_AGO: Final = "2020-01-01T00:00:00Z"
FAULTS: Final[dict[str, Fault]] = {
    "answer-lost": Cut(after=True),
    "request-lost": Cut(after=False),
    "conflict": Answer.of_status(409, "Conflict"),
    "too-many-requests": Answer.of_status(429, "TooManyRequests", Retry_After="1"),
}
"""What becomes of a request for a change of one of our objects."""
KEPT: Final = "kept"
"""The plan whose tenants, and what restores have left, are kept for a day."""
FILLED: Final = """
CREATE TABLE big AS SELECT i x, md5(i::text) || md5((i * 3)::text) || md5((i * 5)::text) || md5((i * 7)::text) y
  FROM generate_series(1, {rows}) i
"""
SMALL, LARGE = 1000, 300_000


class BackupLab:
    """Servers, an operator and a store of one test module.

    Attributes:
        lab: The servers behind their proxies, and the operator.
        kept: The BackupStore.
        store: The server behind it.
    """

    def __init__(self, lab: FaultyLab, kept: Kept, store: StoreServer, api: Api) -> None:
        self.lab = lab
        self.kept = kept
        self.store = store
        self.api = api
        self.operator: OperatorProcess = lab.start_operator()
        self._numbers = itertools.count(1)

    # --- the operator and its programs ----------------------------------------------------------------------------
    def restart(self) -> None:
        """A new operator, in the place of one that was killed or not."""
        self.operator = self.lab.start_operator()

    def caught(self, program: str, having: str = "") -> psutil.Process:
        """A program of the operator's at work, stopped in its tracks.

        Args:
            program: Its name.
            having: What one of its arguments must have in it.
        """
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for child in self.programs(program, having):
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.suspend()  # else it may have ended before anybody could do anything
                    return child
        raise AssertionError(f"no {program} at work\n{self.operator.log_text[-3000:]}")

    def caught_loading(self, tenant: str) -> psutil.Process:
        """The pg_restore that fills a tenant's new database, stopped while rows are going in."""
        query = "SELECT 1 FROM pg_stat_activity WHERE datname <> %s AND datname LIKE %s AND query LIKE 'COPY %%'"
        database = self.database(tenant)
        stem = re.sub(r"_e[0-9]+$", "", database)
        deadline = time.monotonic() + PATIENCE
        with psycopg.connect(self.dsn(), autocommit=True) as session:
            while not session.execute(query, (database, f"{stem}%")).fetchone():
                assert time.monotonic() < deadline, f"nothing is restored\n{self.operator.log_text[-3000:]}"
                time.sleep(0.002)  # a server is polled; the deadline bounds it
        return self.caught("pg_restore", "--dbname=")

    def programs(self, program: str, having: str = "") -> list[psutil.Process]:
        """Those of a name that the operator runs."""
        found = []
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.operator.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    line = child.cmdline()
                    at_work = bool(line) and Path(line[0]).name == program and "--version" not in line
                    if at_work and any(having in word for word in line):
                        found.append(child)
        return found

    def restart_postgres(self) -> None:
        """All sessions are cut; the data stays."""
        self.lab.postgres.stop_server()
        self.lab.postgres.start_server()

    # --- tenants --------------------------------------------------------------------------------------------------
    def tenant(self, name: str, rows: int = SMALL, **spec: Any) -> str:
        """A tenant on plan `kept` with a table `big`; its database."""
        self.lab.apply(tenant_body(name, WORKSPACE, **{"plan": KEPT, "database": {"mode": "Shared"}, **spec}))
        self.ready(name)
        database = self.database(name)
        self.execute(name, FILLED.format(rows=rows))
        return database

    def ready(self, name: str) -> None:
        """Wait until it is Ready as it is written now."""
        wait_until(lambda: is_ready(self.get(TENANTS, name)), PATIENCE, lambda: self.told(TENANTS, name))

    def record(self, tenant: str) -> Json:
        """Its TenantRecord; empty where there is none."""
        bodies: list[Json] = self.api.get(TENANT_RECORDS.path()).body["items"]
        return next((body for body in bodies if body["spec"]["tenant"] == tenant), {})

    def database(self, tenant: str) -> str:
        """The one that its record says it lives in."""
        return str(self.record(tenant)["spec"]["database"]["name"])

    def execute(self, tenant: str, *statements: str) -> None:
        """In its database, as the owner of what is in it."""
        database = self.database(tenant)
        with psycopg.connect(self.dsn(database), autocommit=True) as session:
            session.execute(f'SET ROLE "{database}_owner"'.encode())
            for statement in statements:
                session.execute(statement.encode())

    def dsn(self, database: str = "postgres") -> str:
        """Of the server's superuser, past the proxy."""
        return self.lab.postgres.access.superuser_dsn(database)

    # --- backups and restores -------------------------------------------------------------------------------------
    def back_up(self, tenant: str, **spec: Any) -> str:
        """Ask for a TenantBackup; its name."""
        wanted = {"source": {"tenant": {"name": tenant}}, "store": self.kept.name, **spec}
        return self._make(TENANT_BACKUPS, f"{tenant}-backup", wanted)

    def restore(self, tenant: str, backup: str, **spec: Any) -> str:
        """Ask for a TenantRestore; its name."""
        wanted = {"backupRef": {"name": backup}, "tenantRef": {"name": tenant}, "safetyBackup": False, **spec}
        return self._make(TENANT_RESTORES, f"{tenant}-restore", wanted)

    def ended(self, resource: Resource, name: str, phase: str, *, seconds: float = PATIENCE) -> Json:
        """Its status once it has ended.

        Raises:
            AssertionError: it does not in time, or otherwise.
        """
        wait_until(lambda: self.phase(resource, name) in ENDS, seconds, lambda: self.told(resource, name))
        status: Json = self.get(resource, name)["status"]
        assert status["phase"] == phase, self.told(resource, name)
        return status

    def backed_up(self, tenant: str) -> str:
        """A good TenantBackup."""
        name = self.back_up(tenant)
        self.ended(TENANT_BACKUPS, name, "Completed")
        return name

    def phase(self, resource: Resource, name: str) -> str:
        """Empty before the first."""
        return str(self.get(resource, name).get("status", {}).get("phase", ""))

    def wait_phase(self, resource: Resource, name: str, phase: str) -> None:
        """Wait until it has come so far."""
        wait_until(lambda: self.phase(resource, name) == phase, PATIENCE, lambda: self.told(resource, name))

    def get(self, resource: Resource, name: str) -> Json:
        """An object of the workspace; empty where there is none."""
        answer = self.api.get(Ref(resource, WORKSPACE, name).path)
        assert answer.status in (200, 404), answer.message
        return answer.body if answer.status == 200 else {}

    def delete(self, resource: Resource, name: str) -> None:
        """Ask for its deletion."""
        answer = self.api.delete(Ref(resource, WORKSPACE, name).path, dry=False)
        assert answer.status < 300, answer.message

    def wait_gone(self, resource: Resource, name: str, *, seconds: float = PATIENCE) -> None:
        """Wait until it is not there any more."""
        wait_until(lambda: not self.get(resource, name), seconds, lambda: self.told(resource, name))

    def told(self, resource: Resource, name: str) -> str:
        """What it says, for the message of a failure."""
        return f"{name}: {json.dumps(self.get(resource, name).get('status'))}\n{self.operator.log_text[-4000:]}"

    def _make(self, resource: Resource, prefix: str, spec: Json) -> str:
        name = f"{prefix}-{next(self._numbers)}"
        answer = self.api.create(resource, manifest(resource, name, WORKSPACE, spec=spec), dry=False)
        assert answer.status == 201, answer.message
        return name

    # --- what is left ---------------------------------------------------------------------------------------------
    def objects(self) -> set[str]:
        """What is in the store."""
        return asyncio.run(self.kept.keys())

    def nothing_is_in_the_store(self, *, but: Sequence[str] = ()) -> None:
        """Wait until only the objects of these TenantBackups are there, whole, and nothing half written."""
        paths = {self.get(TENANT_BACKUPS, name)["status"]["objectKey"] for name in but}

        def left() -> set[str]:
            return {key for key in self.objects() if key.rpartition("/")[0] not in paths}

        wait_until(lambda: not left() and not self.store.open_uploads(), PATIENCE, lambda: f"left: {left()}")
        for path in paths:
            asyncio.run(self.kept.manifest(path))

    def roles_of_dumps(self) -> list[str]:
        """That are on the server."""
        return self._names("SELECT rolname::text FROM pg_roles WHERE rolname ~ '^tenantry_.*_dump$'")

    def no_role_is_left(self) -> None:
        """Wait until no role of a dump is there."""
        wait_until(lambda: not self.roles_of_dumps(), PATIENCE, lambda: f"left: {self.roles_of_dumps()}")

    def databases_of(self, database: str) -> set[str]:
        """All of a tenant, by the name of its first."""
        return set(self._names("SELECT datname::text FROM pg_database WHERE datname LIKE %s", f"{database}%"))

    def only(self, database: str) -> None:
        """Wait until a tenant has this database, its roles, and nothing else on the server."""
        named = (
            "SELECT datname::text FROM pg_database WHERE datname LIKE %(name)s UNION ALL "
            "SELECT rolname::text FROM pg_roles WHERE rolname LIKE %(name)s"
        )

        def found() -> set[str]:
            return set(self._names(named, {"name": f"{name}%"}))

        name = re.sub(r"_e[0-9]+$", "", database)  # of an earlier epoch, or a later one
        wanted = {database, *(f"{database}_{end}" for end in ("owner", "0", "1"))}
        wait_until(lambda: found() == wanted, PATIENCE, lambda: f"{found()} is {wanted}")

    def end_former(self, tenant: str) -> None:
        """As if the time of the databases that restores have left were over, by all who know it."""
        record = self.record(tenant)
        sides = [{**side, "purgeAfter": LONG_AGO} for side in record["spec"].get("former", ())]
        with psycopg.connect(self.dsn("tenantry"), autocommit=True) as session:
            session.execute(
                "UPDATE claims SET purge_after = %s WHERE record = %s AND state = 'parked'",
                (LONG_AGO, record["metadata"]["name"]),
            )
        path = TENANT_RECORDS.path(name=record["metadata"]["name"])
        answer = self.api.patch(path, {"spec": {"former": sides}}, dry=False)
        assert answer.status == 200, answer.message

    def fingerprint(self, database: str) -> list[tuple[Any, ...]]:
        """Of all rows with their places on the server's pages: one that was written again has another one."""
        with psycopg.connect(self.dsn(database)) as session:
            return session.execute(
                "SELECT count(*), sum(hashtext(ctid::text || xmin::text || big::text)::bigint) FROM big"
            ).fetchall()

    def _names(self, query: str, *values: Any) -> list[str]:
        given = values[0] if values and isinstance(values[0], dict) else values
        with psycopg.connect(self.dsn()) as session:
            return [row[0] for row in session.execute(query.encode(), given or None).fetchall()]


def go_on(process: psutil.Process) -> None:
    """Let a program that was caught work on, if it is still there."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process.resume()


def has_ended(process: psutil.Process) -> bool:
    """Also where nobody has asked yet how it ended."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def seconds_since(moment: datetime, status: Json) -> float:
    """From a moment to the end that a status tells of."""
    return (datetime.fromisoformat(status["completedAt"]) - moment).total_seconds()


def now() -> datetime:
    """In UTC, cut to the second as statuses have it."""
    return datetime.now(UTC).replace(microsecond=0)


def message_of(status: Json) -> str:
    """What its Ready says."""
    return str(condition({"status": status}, "Ready").get("message", ""))


def reason_of(status: Json) -> str:
    """Why its Ready is as it is."""
    return str(condition({"status": status}, "Ready").get("reason", ""))


@contextlib.contextmanager
def backup_lab(
    folder: Path, prepare: Callable[[FaultyLab], None] | None = None, *, kind: str = MINISTACK
) -> Iterator[BackupLab]:
    """Start all of it: one encrypted store, which the cluster names.

    Args:
        folder: For logs and such.
        prepare: Called with the servers before the operator is started.
        kind: Of the store's server: MiniStack's lists its uploads, and rclone's keeps its objects when it is stopped.
    """
    with contextlib.ExitStack() as stack:
        lab = stack.enter_context(faulty_lab(folder))
        store = stack.enter_context(StoreServer(kind))
        kept, bodies = keep_in(store.access, "lab", encrypted=True, readable=True)
        lab.apply(*bodies, cluster_body("eu-1", backupStore=kept.name), plan_body(KEPT, deletion=DAY))
        if prepare is not None:
            prepare(lab)
        api = Api(lab.management.kubeconfig)
        stack.callback(api.close)
        opened = BackupLab(lab, kept, store, api)
        lab.wait_condition("backupstores.tenantry.io", kept.name, "Ready", "True")
        yield opened
