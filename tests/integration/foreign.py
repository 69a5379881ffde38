"""Databases of somebody else's for tests: on a real server, described in a workspace's Secret, handed on from it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from tests.integration.acting import manifest
from tests.integration.tenants import condition

from tenantry.api.names import LABEL_DATABASE_SECRET
from tenantry.api.resources import NETWORK_POLICIES, SECRETS

if TYPE_CHECKING:
    from tests.controlplane.postgres_access import PostgresAccess
    from tests.integration.tenants import Whereabouts, Workbench

Json = dict[str, Any]

NAME = "customer-db"
EXTERNAL = {"mode": "External", "external": {"secretRef": {"name": NAME}}}
NOT_THERE = (
    f"spec.database.external.secretRef: this workspace has no Secret {NAME!r} with the label "
    'tenantry.io/database: "true"'
)


@dataclass(frozen=True, slots=True)
class Foreign:
    """A database on a server that the operator knows nothing of, with a login to it."""

    server: PostgresAccess
    name: str
    password: str = field(repr=False)

    def values(self, **changes: str | None) -> dict[str, str]:
        """What its owner writes into the Secret."""
        tls = {"sslmode": "verify-full", "ca.crt": self.server.ca_pem} if self.server.ca_pem else {"sslmode": "disable"}
        usual: dict[str, str | None] = {
            "host": self.server.host,
            "port": str(self.server.port),
            "dbname": self.name,
            "username": self.name,
            "password": self.password,
            **tls,
        }
        return {key: value for key, value in (usual | changes).items() if value is not None}

    def new_password(self) -> Foreign:
        """The same with another password, on the server too."""
        changed = Foreign(self.server, self.name, secrets.token_hex(8))
        with psycopg.connect(self.server.superuser_dsn(), autocommit=True) as session:
            session.execute(
                sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(self.name), sql.Literal(changed.password))
            )
        return changed


@contextmanager
def foreign_database(server: PostgresAccess, prefix: str) -> Iterator[Foreign]:
    """A database and a login of the same name on a server, for as long as the block runs."""
    made = Foreign(server, f"{prefix}_own", secrets.token_hex(8))
    name = sql.Identifier(made.name)
    with psycopg.connect(server.superuser_dsn(), autocommit=True) as session:
        session.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(name, sql.Literal(made.password)))
        session.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(name, name))
        try:
            yield made
        finally:
            session.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))
            session.execute(sql.SQL("DROP ROLE {}").format(name))


def bring_your_own(workbench: Workbench) -> str:
    """A plan that allows it; deleted tenants are kept for a day at the most."""
    modes = ["Shared", "External", "None"]
    return workbench.platform("TenantPlan", "own", allowedModes=modes, deletion={"maxWindow": "24h"})


def put(workbench: Workbench, values: dict[str, str], *, labelled: bool = True) -> None:
    """Write the workspace's Secret anew, as its admin would."""
    workbench.kubectl("delete", "secret", NAME, "--ignore-not-found")
    labels = {LABEL_DATABASE_SECRET: "true"} if labelled else {}
    workbench.apply(manifest(SECRETS, NAME, workbench.workspace, labels=labels, stringData=values))


def handed_on(workbench: Workbench, where: Whereabouts) -> dict[str, str]:
    """What is in the tenant's own Secret on the target; empty where there is none."""
    return workbench.secret(where, "tenant-database")


def connect(secret: dict[str, str], foreign: Foreign) -> psycopg.Connection[tuple[Any, ...]]:
    """As the tenant's application does, with its Secret and the CA in it."""
    target = make_conninfo(secret["uri"], sslrootcert=str(foreign.server.ca_path))
    return psycopg.connect(target, autocommit=True, connect_timeout=30)


def egress(workbench: Workbench, where: Whereabouts) -> Json:
    """Where the tenant is let out to for its database: CIDRs and port; empty without the policy."""
    policy = workbench.on_target(NETWORK_POLICIES, where.namespace, "tenant-database")
    if not policy:
        return {}
    (rule,) = policy["spec"]["egress"]
    return {"to": [peer["ipBlock"]["cidr"] for peer in rule["to"]], "port": rule["ports"][0]["port"]}


def refused(workbench: Workbench, reason: str, part: str, status: str = "False") -> None:
    """Wait until DatabaseReady says this."""

    def says(body: Json) -> bool:
        told = condition(body, "DatabaseReady")
        return (told.get("status"), told.get("reason")) == (status, reason) and part in told["message"]

    workbench.when(says, f"it is told that {part}")
