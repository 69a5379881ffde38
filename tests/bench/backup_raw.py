"""The floor for backups and restores: PostgreSQL's own programs with the operator's flags, and nothing between."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import psycopg
from tests.controlplane.postgres_access import PostgresAccess

from tenantry.adapters.postgres.copying import LEFT_OUT
from tenantry.adapters.postgres.dumping import FLAGS

RAW = "bench_raw"


class Raw:
    """pg_dump and pg_restore of one server, as its superuser."""

    def __init__(self, access: PostgresAccess) -> None:
        self._access = access
        self._environment = {
            "PATH": os.environ.get("PATH", ""),
            "LC_ALL": "C",
            "PGHOST": access.host,
            "PGPORT": str(access.port),
            "PGUSER": access.superuser,
            "PGPASSWORD": access.superuser_password,
            "PGSSLMODE": "disable",
        }

    def dump(self, database: str) -> float:
        """`pg_dump ... | cat >/dev/null`; seconds.

        Raises:
            RuntimeError: one of the two failed.
        """
        with Path(os.devnull).open("wb") as nowhere:
            return self._dump(database, nowhere.fileno())

    def save(self, database: str, file: Path) -> None:
        """The same into a file.

        Raises:
            RuntimeError: it failed.
        """
        with file.open("wb") as archive:
            self._dump(database, archive.fileno())

    def restore(self, archive: Path) -> float:
        """`cat archive | pg_restore` into a database of its own, which goes afterwards; seconds.

        Raises:
            RuntimeError: one of the two failed.
        """
        self._execute(f"CREATE DATABASE {RAW} TEMPLATE template0")
        try:
            program = [str(self._access.bin / "pg_restore"), f"--dbname={RAW}", "--exit-on-error", "--no-password"]
            began = time.perf_counter()
            with subprocess.Popen(["cat", archive], stdout=subprocess.PIPE) as source:
                done = subprocess.run(
                    [*program, *LEFT_OUT], stdin=source.stdout, env=self._environment, check=False, capture_output=True
                )
            _check("pg_restore", done.returncode, source.returncode, done.stderr)
            return time.perf_counter() - began
        finally:
            self._execute(f"DROP DATABASE {RAW} WITH (FORCE)")

    def rest(self) -> None:
        """Write out what is dirty, so that nobody else has to while he is measured."""
        self._execute("CHECKPOINT")

    def _dump(self, database: str, output: int) -> float:
        program = [str(self._access.bin / "pg_dump"), *FLAGS, f"--dbname={database}"]
        began = time.perf_counter()
        with subprocess.Popen(program, stdout=subprocess.PIPE, env=self._environment) as dump:
            done = subprocess.run(["cat"], stdin=dump.stdout, stdout=output, check=False)
        _check("pg_dump", dump.returncode, done.returncode, b"")
        return time.perf_counter() - began

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self._access.superuser_dsn(), autocommit=True) as session:
            session.execute(statement.encode())


def _check(program: str, code: int, of_cat: int, told: bytes) -> None:
    if code or of_cat:
        raise RuntimeError(f"{program} ended with {code}, cat with {of_cat}: {told[-500:].decode(errors='replace')}")
