"""A PostgreSQL server for tests, demo and benchmarks: SCRAM over loopback, with TLS where its build has it."""

from __future__ import annotations

import dataclasses
import os
import pwd
import secrets
import subprocess
from pathlib import Path
from signal import Signals
from typing import Final, Self

import psycopg
from psycopg import sql
from tests.controlplane.certificates import Authority
from tests.controlplane.postgres_access import PostgresAccess
from tests.controlplane.postgres_binaries import server_user
from tests.controlplane.processes import LOOPBACK, DataFolder, Deadline, HeldPort, PortTakenError, Server, ServerError

START_SECONDS: Final = 60.0
STOP_GRACE: Final = 5.0
START_ATTEMPTS: Final = 3
ULIMIT_BLOCK: Final = 512
"""Bytes, as POSIX has it."""
SUPERUSER: Final = "postgres"
ADMIN: Final = "tenantry_admin"
MAX_CONNECTIONS: Final = 200


class PostgresServer:
    """One PostgreSQL server that this process owns. It is gone when this process is, even by SIGKILL.

    Blocking; use it as a context manager, or `start()` and `stop()`.
    """

    def __init__(
        self,
        binaries: Path,
        *,
        tls: bool = False,
        fsync: bool = False,
        public_connect: bool = False,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        """Nothing is started yet.

        Args:
            binaries: The folder with `postgres` and `initdb`: `wheel_binaries()` or `debian_binaries()`.
            tls: Take TLS connections only; needs a build with OpenSSL.
            fsync: Be as durable as in production; for benchmarks.
            public_connect: Leave PUBLIC its CONNECT on `postgres` and `template1`.
            max_connections: The server's limit.
        """
        self._binaries = binaries
        self._tls = tls
        self._fsync = fsync
        self._public_connect = public_connect
        self._max_connections = max_connections
        self._folder: DataFolder | None = None
        self._server: Server | None = None
        self._port: HeldPort | None = None
        self._access: PostgresAccess | None = None

    @property
    def access(self) -> PostgresAccess:
        """Raises ServerError before the start and after the stop."""
        if self._access is None:
            raise ServerError("PostgreSQL is not running")
        return self._access

    def start(self, *, deadline: float = START_SECONDS) -> Self:
        """Make a cluster, start it, and make the admin role.

        Raises:
            ServerError: if that takes longer than `deadline` seconds or the server ends; with the end of its log.
        """
        if self._folder is not None:
            raise ServerError("PostgreSQL is running already")
        if not (self._binaries / "postgres").exists():
            raise ServerError(f"there is no PostgreSQL in {self._binaries}")
        limit = Deadline(deadline)
        for attempt in range(1, START_ATTEMPTS + 1):
            try:
                return self._start(limit)
            except PortTakenError:
                self.stop()
                if attempt == START_ATTEMPTS:
                    raise
            except BaseException:
                self.stop()
                raise
        raise AssertionError("the last attempt returns or raises")

    def stop(self) -> None:
        """End it with all its sessions, wait until it is gone, and remove the data. Harmless when repeated."""
        if self._server:
            self._server.stop(Signals.SIGINT, grace=STOP_GRACE)
        if self._port:
            self._port.release()
        if self._folder:
            self._folder.remove()
        self._server = self._folder = self._access = self._port = None

    def pause(self) -> None:
        """Let it hang: new connections are never answered (SIGSTOP to the postmaster); open sessions go on."""
        self._running().pause()

    def resume(self) -> None:
        """The end of `pause`."""
        self._running().resume()

    def stop_server(self) -> None:
        """Make it unreachable, sessions cut and connections refused. Its port and its data stay."""
        self._running().stop(Signals.SIGINT, grace=STOP_GRACE)
        self._server = None
        self._port = HeldPort(self.access.port)

    def start_server(self, *, deadline: float = START_SECONDS, largest_file: int = 0) -> None:
        """Start it again at the same address with the same data.

        Args:
            deadline: Seconds that it gets.
            largest_file: No file of its grows beyond so many bytes, as on a disk that is full; 0: without a limit.

        Raises:
            ServerError: as `start()`.
        """
        if self._server:
            raise ServerError("PostgreSQL is running already")
        self._access = self._launch(self.access, Deadline(deadline), largest_file)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _running(self) -> Server:
        if self._server is None:
            raise ServerError("PostgreSQL is not running")
        return self._server

    def _start(self, limit: Deadline) -> Self:
        user = server_user()
        folder = self._folder = DataFolder("postgres")
        access = PostgresAccess(
            host=LOOPBACK,
            port=0,
            version=0,
            superuser=SUPERUSER,
            superuser_password=secrets.token_urlsafe(24),
            admin_user=ADMIN,
            admin_password=secrets.token_urlsafe(24),
            bin=self._binaries,
        )
        self._initialise(access, folder.path, user, limit)
        if self._tls:
            access = self._with_certificates(access, folder.path)
        (folder.path / "data" / "pg_hba.conf").write_text(_host_rules(tls=self._tls))
        _hand_over(folder.path, user)
        self._port = HeldPort()
        access = self._launch(dataclasses.replace(access, port=self._port.number), limit)
        self._access = self._prepare(access)
        return self

    def _launch(self, access: PostgresAccess, limit: Deadline, largest_file: int = 0) -> PostgresAccess:
        assert self._folder is not None
        folder = self._folder.path
        command: list[str | Path] = [self._binaries / "postgres", "-D", folder / "data"]
        command += self._settings(folder, access)
        if largest_file:
            command = ["/bin/sh", "-c", 'ulimit -f "$0" && exec "$@"', str(largest_file // ULIMIT_BLOCK), *command]
        if self._port:
            self._port.release()
            self._port = None
        self._server = Server(
            "PostgreSQL",
            command,
            log=folder / "log",
            remove=folder,
            user=server_user(),
            on_orphan=Signals.SIGQUIT,  # unlike SIGKILL it leaves no shared memory behind
        )
        self._server.wait_until(lambda: _accepts(access), limit, "takes no connections")
        return dataclasses.replace(access, pid=self._server.pid)

    def _initialise(self, access: PostgresAccess, folder: Path, user: str, limit: Deadline) -> None:
        """Run initdb as the server's user; the superuser's password goes through a file, never an argument."""
        password = folder / "password"
        password.touch(mode=0o600)
        password.write_text(access.superuser_password)
        _hand_over(folder, user)
        command: list[str | Path] = [self._binaries / "initdb", "-D", folder / "data"]
        command += [
            "--username",
            access.superuser,
            "--pwfile",
            password,
            "--auth",
            "scram-sha-256",
            "--encoding",
            "UTF8",
            "--locale",
            "C",
        ]
        done = subprocess.run(
            [*command, "--no-sync", "--no-instructions"],
            stdin=subprocess.DEVNULL,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=max(1.0, limit.left),
            user=user or None,
            group=pwd.getpwnam(user).pw_gid if user else None,
            extra_groups=[] if user else None,
        )
        password.unlink()
        if done.returncode:
            raise ServerError(f"initdb failed:\n{done.stderr.strip()}")

    def _with_certificates(self, access: PostgresAccess, folder: Path) -> PostgresAccess:
        authority = Authority.new("PostgreSQL test authority")
        pair = authority.server("localhost", access.host)
        (folder / "server.crt").write_text(pair.certificate_pem)
        (folder / "server.key").touch(mode=0o600)
        (folder / "server.key").write_text(pair.key_pem)
        ca_path = folder / "ca.crt"
        ca_path.write_text(authority.certificate_pem)
        return dataclasses.replace(access, ca_pem=authority.certificate_pem, ca_path=ca_path)

    def _settings(self, folder: Path, access: PostgresAccess) -> list[str]:
        settings = {
            "listen_addresses": access.host,
            "port": str(access.port),
            "unix_socket_directories": "",
            "password_encryption": "scram-sha-256",
            "max_connections": str(self._max_connections),
            "shared_buffers": "64MB",
            "timezone": "UTC",
        }
        if not self._fsync:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        if self._tls:
            settings |= {"ssl": "on", "ssl_cert_file": f"{folder}/server.crt", "ssl_key_file": f"{folder}/server.key"}
        return [f"--{name}={value}" for name, value in settings.items()]

    def _prepare(self, access: PostgresAccess) -> PostgresAccess:
        """What a DBA does once before handing a server to the operator."""
        admin = sql.Identifier(access.admin_user)
        statements: list[sql.Composed] = [
            sql.SQL("CREATE ROLE {} LOGIN CREATEDB CREATEROLE BYPASSRLS PASSWORD {}").format(
                admin, sql.Literal(access.admin_password)
            )
        ]
        for database in map(sql.Identifier, ("postgres", "template1")):
            if not self._public_connect:
                statements.append(sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(database))
            statements.append(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, admin))
        with psycopg.connect(access.superuser_dsn(), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)
            return dataclasses.replace(access, version=connection.info.server_version)


def _host_rules(*, tls: bool) -> str:
    return f"{'hostssl' if tls else 'host'} all all {LOOPBACK}/32 scram-sha-256\n"


def _hand_over(folder: Path, user: str) -> None:
    """Give a folder, with all in it, to the server's user."""
    if not user:
        return
    owner = pwd.getpwnam(user)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, owner.pw_uid, owner.pw_gid, follow_symlinks=False)


def _accepts(access: PostgresAccess) -> bool:
    try:
        with psycopg.connect(access.superuser_dsn()) as connection:
            connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True
