"""How a shared PostgreSQL server is reached: its parameters, the time limits, and the libpq options made from them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from psycopg.conninfo import make_conninfo

from tenantry.ports.postgres import DatabaseError

HOME: Final = "tenantry"
"""The database that holds the claims, and that the admin role stays connected to."""

ADMIN_AUTH: Final = "scram-sha-256,md5"
"""A server may neither ask for the admin's password in clear text nor let the role in without one."""

TENANT_AUTH: Final = "scram-sha-256"
"""A server that lets a tenant in by `trust` isolates nobody, so such a login does not count as working."""

SEARCH_PATH: Final = "pg_catalog,pg_temp"
"""Of every operator session. Without `public`, which a tenant owns: an operator or function there with a closer match
of argument types would win over one in pg_catalog, and run as the admin role."""


@dataclass(frozen=True, slots=True)
class ServerParams:
    """One server and the role that administers it.

    Attributes:
        host: What certificates are checked against, and what is resolved unless `hostaddr` says where to.
        ssl_mode: As libpq's sslmode.
        ca_pem: The certificates that verify-ca and verify-full trust, as PEM text; nothing else is trusted then.
        hostaddr: The address that `host` was resolved to, so that a changed answer of DNS leads nowhere new.
        read_only: The server itself is to refuse every write of the admin role's sessions.
        may_write: Asked before each statement of a session, the end of a transaction too: if not, it is not sent.
    """

    host: str
    port: int
    username: str
    password: str = field(repr=False)
    ssl_mode: str = "verify-full"
    ca_pem: str | None = field(default=None, repr=False)
    hostaddr: str | None = None
    read_only: bool = False
    may_write: Callable[[], bool] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what one server may cost: times in whole seconds.

    Attributes:
        connect: From dialling to a usable session.
        statement: One statement, enforced by the server; generous, for DROP DATABASE waits for a checkpoint.
        lock: Waiting for one lock, enforced by the server.
        lease: All that happens on one borrowed connection, enforced here, for a server that no longer answers.
        sessions: Connections to the server at once.
    """

    connect: int = 5
    statement: int = 60
    lock: int = 5
    lease: int = 120
    sessions: int = 8


class Dialling:
    """The libpq options for sessions on one server, and the CA file in them (libpq reads CAs from files only)."""

    def __init__(self, params: ServerParams, limits: Limits) -> None:
        if params.ssl_mode.startswith("verify-") and not params.ca_pem:
            raise DatabaseError(
                f"sslMode {params.ssl_mode} needs caSecretRef: there is no CA to verify the server with"
            )
        self.params = params
        self.limits = limits
        self._ca_file = _private_file(params.ca_pem) if params.ca_pem and params.ssl_mode != "disable" else None

    @property
    def ca_file(self) -> Path | None:
        """The file with the CA, where there is one; until `close`."""
        return self._ca_file

    def as_admin(self, database: str) -> str:
        """Connection string for a session of the admin role."""
        options = {
            "search_path": SEARCH_PATH,
            "statement_timeout": f"{self.limits.statement}s",
            "lock_timeout": f"{self.limits.lock}s",
            "idle_in_transaction_session_timeout": f"{self.limits.lease}s",
        }
        if self.params.read_only:
            options["default_transaction_read_only"] = "on"
        return self._conninfo(database, self.params.username, self.params.password, ADMIN_AUTH, options)

    def as_tenant(self, database: str, login: str, password: str) -> str:
        """Connection string for a session of a tenant's login: its own settings, such as `role`, must take effect."""
        options = {"statement_timeout": f"{self.limits.connect}s"}
        return self._conninfo(database, login, password, TENANT_AUTH, options)

    def _conninfo(self, database: str, user: str, password: str, auth: str, settings: dict[str, str]) -> str:
        """Every option is given, so that neither the environment nor a file in a home folder has a say."""
        chosen: dict[str, str | int] = {
            "host": self.params.host,
            "port": self.params.port,
            "dbname": database,
            "user": user,
            "password": password,
            "require_auth": auth,
            "sslmode": self.params.ssl_mode,
            "sslcertmode": "disable",
            "gssencmode": "disable",
            "target_session_attrs": "primary",
            "application_name": "tenantry",
            "client_encoding": "UTF8",
            "connect_timeout": self.limits.connect,
            "keepalives": 1,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 20_000,
            "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
        }
        if self.params.hostaddr:
            chosen["hostaddr"] = self.params.hostaddr
        if self._ca_file is not None:
            chosen["sslrootcert"] = str(self._ca_file)
        return make_conninfo("", **chosen)

    def close(self) -> None:
        """Remove the CA file."""
        if self._ca_file is not None:
            self._ca_file.unlink(missing_ok=True)
            self._ca_file = None


def _private_file(text: str) -> Path:
    """A new file with that content that only this user can read."""
    descriptor, name = tempfile.mkstemp(prefix="tenantry-ca-", suffix=".pem")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    return Path(name)
