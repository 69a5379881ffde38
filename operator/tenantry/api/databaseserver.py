"""DatabaseServer: a shared PostgreSQL server on which tenants get databases of their own."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field

from tenantry.api.base import (
    AGE,
    MESSAGE,
    READY,
    REASON,
    AllowedWorkspaces,
    Cidr,
    Column,
    Kind,
    Model,
    ObjectMeta,
    Port,
    Quantity,
    Rule,
    SecretRef,
    Text,
    rules,
)
from tenantry.api.conditions import Condition
from tenantry.api.names import ANNOTATION_ACCEPT_IDENTITY
from tenantry.api.resources import DATABASE_SERVERS

MINIMUM_VERSION: Final = 140000
"""`server_version_num` of the oldest PostgreSQL that is supported: 14."""

ExtensionName = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z][a-z0-9_-]*$")]


class ServerCapacity(Model):
    """What the server has: nobody can ask it."""

    storage: Quantity = Field(description="How much all its databases may take together.")


class DatabaseServerSpec(Model):
    """A shared PostgreSQL server as the platform team wants it used."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "!(self.sslMode in ['verify-ca', 'verify-full']) || has(self.caSecretRef)",
                "caSecretRef must be set with sslMode verify-ca or verify-full",
                ".caSecretRef",
            )
        )
    )

    description: Text = ""
    host: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?$")] = (
        Field(description="A DNS name or an IP address, as the operator and the tenants' pods reach it.")
    )
    port: Port = 5432
    admin_secret_ref: SecretRef = Field(
        description="Secret in the operator's namespace with keys username and password: a role with CREATEDB and "
        "CREATEROLE (and BYPASSRLS for backups); no superuser."
    )
    ssl_mode: Literal["disable", "prefer", "require", "verify-ca", "verify-full"] = Field(
        "verify-full", description="As libpq's sslmode; the tenants' Secrets carry it too."
    )
    ca_secret_ref: SecretRef | None = Field(
        None, description="Secret in the operator's namespace with key ca.crt: the CA of the server's certificate."
    )
    cidrs: Annotated[list[Cidr], Field(max_length=16)] = Field(
        default=[], description="Where the server is, for the tenants' egress policy. Without it: the host's address."
    )
    max_databases: Annotated[int, Field(ge=0, le=100000)] | None = Field(
        None,
        description="New databases are refused with ServerFull when this many are claimed; those that are there stay.",
    )
    capacity: ServerCapacity | None = Field(
        None, description="Without it no backup is restored on trial here: nobody could tell whether there is room."
    )
    allowed_extensions: Annotated[list[ExtensionName], Field(max_length=64)] = []
    allowed_workspaces: AllowedWorkspaces = AllowedWorkspaces()


class DatabaseServerStatus(Model):
    """What was last found out about the server: a report, nothing is decided from it."""

    observed_generation: int = -1
    conditions: list[Condition] = []
    system_identifier: str | None = None
    version: str | None = None
    databases: int | None = Field(None, description="Claimed databases, of any management cluster; at most 30 s old.")
    last_handled_reconcile_at: str | None = None


class DatabaseServer(Model):
    """A DatabaseServer as read from the API."""

    metadata: ObjectMeta
    spec: DatabaseServerSpec
    status: DatabaseServerStatus = DatabaseServerStatus()

    @property
    def name(self) -> str:
        """Its name."""
        return self.metadata.name

    @property
    def accepted_identity(self) -> str | None:
        """The system identifier that the platform accepted by annotation after it changed."""
        return self.metadata.annotations.get(ANNOTATION_ACCEPT_IDENTITY)


KIND: Final = Kind(
    resource=DATABASE_SERVERS,
    spec=DatabaseServerSpec,
    status=DatabaseServerStatus,
    description="A shared PostgreSQL server (14 and newer) on which tenants get databases of their own.",
    short_names=("dbs",),
    columns=(
        READY,
        REASON,
        Column("Version", ".status.version"),
        Column("Databases", ".status.databases", "integer"),
        Column("Host", ".spec.host"),
        Column("System-Id", ".status.systemIdentifier", priority=1),
        MESSAGE,
        AGE,
    ),
)
