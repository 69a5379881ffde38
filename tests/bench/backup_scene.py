"""What backups are measured on: two control planes, PostgreSQL as in production, a store, an operator for each size."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import psycopg
from tests.bench.backup_figures import Backed, Restored, rows_for
from tests.bench.scene import memory_kb, settle
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.object_stores import StoreServer
from tests.controlplane.postgres import PostgresServer
from tests.controlplane.postgres_binaries import wheel_binaries
from tests.controlplane.processes import DataFolder
from tests.integration.acting import Api, manifest
from tests.integration.backing import Kept, keep_in
from tests.scene.installation import apply
from tests.scene.lab import Lab, is_ready, make_lab, tenant_body, workspace_body

from tenantry.api.resources import TENANT_BACKUPS, TENANT_RECORDS, TENANT_RESTORES, TENANTS, Ref, Resource

Json = dict[str, Any]

WORKSPACE: Final = "shop"
TABLES: Final = 4
POLL_SECONDS: Final = 0.02
READY_SECONDS: Final = 120.0
LONGEST: Final = 3600.0
"""Seconds for one backup or restore, on whatever machine."""
ENDS: Final = ("Completed", "Failed")

_FILL: Final = """
CREATE TABLE part_{number} AS
SELECT i AS id, (i * 7919) % 10007 AS customer, now() - i * interval '1 second' AS at, (i % 100000) / 7.0 AS amount,
       md5(i::text) || md5((i * 3)::text) || md5((i * 5)::text) AS token, repeat(md5((i % 1000)::text), 6) AS note
  FROM generate_series(1, {rows}) i
"""


class BackupScene:
    """A lab with a store, and what people do there; see `open_backup_scene`."""

    def __init__(self, lab: Lab, kept: Kept, api: Api) -> None:
        self._lab = lab
        self._api = api
        self.kept = kept
        self.postgres = lab.postgres.access

    # --- the operator -----------------------------------------------------------------------------------------------
    def start(self) -> None:
        """A fresh operator, once it has nothing left to do."""
        self._lab.operator.start()
        settle(self._lab.operator)

    def stop(self) -> float:
        """End it; the most memory that it ever held, in MiB."""
        peak = memory_kb(self._lab.operator.pid).peak / 1024
        self._lab.operator.stop()
        return peak

    # --- what people do -------------------------------------------------------------------------------------------
    def make_tenant(self, name: str, megabytes: int) -> float:
        """A tenant with so much in its database; how much the server says that it is."""
        apply(self._lab.management.access, tenant_body(name, WORKSPACE, database={"mode": "Shared"}))
        self._wait(lambda: is_ready(self._get(TENANTS, name)), READY_SECONDS, f"{name} is Ready")
        database = self.database(name)
        with psycopg.connect(self.postgres.superuser_dsn(database), autocommit=True) as session:
            session.execute(f'SET ROLE "{database}_owner"'.encode())
            for number in range(TABLES):
                session.execute(_FILL.format(number=number, rows=rows_for(megabytes) // TABLES).encode())
                session.execute(f"ALTER TABLE part_{number} ADD PRIMARY KEY (id)".encode())
            session.execute("RESET ROLE")
            session.execute("VACUUM ANALYZE")
            session.execute("CHECKPOINT")
            row = session.execute("SELECT pg_database_size(current_database())").fetchone()
        return float(row[0]) / 1e6 if row else 0.0

    def back_up(self, name: str, tenant: str) -> Backed:
        """Make a TenantBackup and wait for its end.

        Raises:
            RuntimeError: it failed.
        """
        spec = {"source": {"tenant": {"name": tenant}}, "store": self.kept.name}
        asked = self._create(TENANT_BACKUPS, name, spec)
        phases = self._follow(TENANT_BACKUPS, name)
        written = phases.get("Verifying", phases["Completed"])  # what is small is read back before anybody looks
        return Backed(written - phases.get("Running", asked), phases["Completed"] - asked)

    def restore(self, name: str, backup: str, tenant: str) -> Restored:
        """Make a TenantRestore, wait for its end, and until nothing of the former database is left.

        Raises:
            RuntimeError: it failed.
        """
        spec = {"backupRef": {"name": backup}, "tenantRef": {"name": tenant}, "safetyBackup": False}
        asked = self._create(TENANT_RESTORES, name, spec)
        whole = self._follow(TENANT_RESTORES, name)["Completed"] - asked
        cutover = self._get(TENANT_RESTORES, name)["status"]["writeStopMilliseconds"] / 1000
        self._wait(lambda: not self._record(tenant).get("former"), LONGEST, "the former database is gone")
        return Restored(whole, cutover)

    def size_of(self, backup: str) -> float:
        """What a backup takes in its store, in MB."""
        return float(self._get(TENANT_BACKUPS, backup)["status"]["sizeBytes"]) / 1e6

    def database(self, tenant: str) -> str:
        """The one that a tenant lives in now."""
        return str(self._record(tenant)["database"]["name"])

    # --- inside ---------------------------------------------------------------------------------------------------
    def _create(self, resource: Resource, name: str, spec: Json) -> float:
        answer = self._api.create(resource, manifest(resource, name, WORKSPACE, spec=spec), dry=False)
        if answer.status != 201:
            raise RuntimeError(f"{name} was refused: {answer.message}")
        return time.perf_counter()

    def _follow(self, resource: Resource, name: str) -> dict[str, float]:
        """When each phase was seen first, until the last."""
        seen: dict[str, float] = {}
        deadline = time.monotonic() + LONGEST
        while not any(end in seen for end in ENDS):
            status = self._get(resource, name).get("status", {})
            if phase := status.get("phase"):
                seen.setdefault(phase, time.perf_counter())
            if "Failed" in seen or time.monotonic() > deadline:
                raise RuntimeError(f"{name} came to nothing: {status}")
            time.sleep(POLL_SECONDS)  # polling a server; the deadline bounds it
        return seen

    def _get(self, resource: Resource, name: str) -> Json:
        return self._api.get(Ref(resource, WORKSPACE, name).path).body

    def _record(self, tenant: str) -> Json:
        records: list[Json] = self._api.get(TENANT_RECORDS.path()).body["items"]
        return next(record["spec"] for record in records if record["spec"]["tenant"] == tenant)

    @staticmethod
    def _wait(check: Callable[[], bool], seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while not check():
            if time.monotonic() > deadline:
                raise RuntimeError(f"not within {seconds:g} s: {what}")
            time.sleep(POLL_SECONDS)  # as above


@contextmanager
def open_backup_scene(store: str) -> Iterator[BackupScene]:
    """Start all of it but the operator.

    Args:
        store: `folder`, or the kind of an S3 server.
    """
    with ExitStack() as stack:
        management = stack.enter_context(ControlPlane("management"))
        target = stack.enter_context(ControlPlane("target"))
        postgres = stack.enter_context(PostgresServer(wheel_binaries(), fsync=True))
        folder = DataFolder("bench-backup")
        stack.callback(folder.remove)
        place = folder.path / "kept" if store == "folder" else stack.enter_context(StoreServer(store)).access
        lab = make_lab(management, target, postgres, folder.path)
        kept, bodies = keep_in(place, "bench")
        apply(management.access, workspace_body(WORKSPACE), *bodies)
        stack.callback(lab.operator.stop)
        api = Api(management.access.kubeconfig)
        stack.callback(api.close)
        yield BackupScene(lab, kept, api)
