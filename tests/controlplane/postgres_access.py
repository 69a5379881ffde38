"""Access to a test PostgreSQL as a plain value: usable in a process that did not start the server."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from psycopg.conninfo import make_conninfo


@dataclass(frozen=True, slots=True)
class PostgresAccess:
    """One running server as its superuser and as the operator's admin role, which is none.

    Attributes:
        version: `server_version_num`, such as 150018.
        admin_user: Has CREATEDB, CREATEROLE and BYPASSRLS, and may connect to `postgres` and `template1`.
        ca_pem: What to trust the server by; None for a server without TLS.
        ca_path: The same as a file.
        bin: Where psql, pg_dump, pg_restore of the same version are.
        pid: Of the postmaster.
    """

    host: str
    port: int
    version: int
    superuser: str
    superuser_password: str
    admin_user: str
    admin_password: str
    bin: Path
    ca_pem: str | None = None
    ca_path: Path | None = None
    pid: int = 0

    def dsn(self, user: str, password: str, database: str = "postgres", **parameters: str) -> str:
        """A connection string; with TLS the server is verified in full unless a parameter says otherwise."""
        tls = {"sslmode": "disable"}
        if self.ca_path:
            tls = {"sslmode": "verify-full", "sslrootcert": str(self.ca_path)}
        fixed = {"host": self.host, "port": str(self.port), "dbname": database, "connect_timeout": "10"}
        return make_conninfo("", **{**fixed, **tls, "user": user, "password": password, **parameters})

    def superuser_dsn(self, database: str = "postgres") -> str:
        """For what only the owner of the server may do."""
        return self.dsn(self.superuser, self.superuser_password, database)

    def admin_dsn(self, database: str = "postgres") -> str:
        """As the operator connects."""
        return self.dsn(self.admin_user, self.admin_password, database)

    def to_json(self) -> str:
        """For another process."""
        return json.dumps(dataclasses.asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What `to_json` wrote."""
        data: dict[str, Any] = json.loads(text)
        data["bin"] = Path(data["bin"])
        data["ca_path"] = Path(data["ca_path"]) if data["ca_path"] else None
        return cls(**data)
