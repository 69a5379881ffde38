"""The part of a Tenant's spec that says which database it has: a union over whose server that is on."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field

from tenantry.api.base import Label, Model, ObjectName, Quantity, Rule, not_yet, rules
from tenantry.api.databaseserver import ExtensionName

_EXTERNAL: Final = "(has(self.mode) && self.mode == 'External')"


class SharedDatabase(Model):
    """A database on a shared server."""

    server: ObjectName | None = Field(None, description="A DatabaseServer; without it: the cluster's.")


class DatabaseSecretRef(Model):
    """A Secret in the Tenant's own workspace, with the label tenantry.io/database: "true"."""

    name: ObjectName


class ExternalDatabase(Model):
    """A database that is somebody else's: the operator hands on how to reach it, and never connects to it itself."""

    secret_ref: DatabaseSecretRef = Field(
        description="Keys: host, port, dbname (or database), username (or user), password, sslmode (require, verify-ca "
        "or verify-full) and ca.crt. No others."
    )


class DedicatedStorage(Model):
    """The volume of a server of the tenant's own."""

    size: Quantity = Field(description="Counts in the tenant's quota, as requests.storage.")
    storage_class_name: ObjectName | None = Field(None, description="Without it: the target's default StorageClass.")


class DedicatedDatabase(Model):
    """A PostgreSQL server of the tenant's own, in its namespace on the target."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "self.version == oldSelf.version",
                "version can't be changed, for another major version can't read the data: make another Tenant and copy "
                "the data",
                ".version",
            ),
            Rule(
                "self.storage == oldSelf.storage",
                "storage can't be changed, for volumes of a StatefulSet stay as they were made: make another Tenant "
                "and copy the data",
                ".storage",
            ),
            Rule(
                "!has(self.instances) || self.instances == 1",
                "instances: more than 1 is not supported yet, for it takes an operator of databases: use 1",
                ".instances",
            ),
        )
    )

    version: Annotated[str, Field(min_length=2, max_length=2, pattern=r"^(1[5-9]|[2-9][0-9])$")] = Field(
        description='PostgreSQL\'s major version, such as "17".'
    )
    instances: Annotated[int, Field(ge=1, le=9)] = 1
    size: Label = Field(description="One of the plan's sizes. Another size restarts the server.")
    storage: DedicatedStorage


class Database(Model):
    """The tenant's database. Without a mode: the first of the plan's allowedModes, pinned when the tenant is placed."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "!has(self.shared) || (has(self.mode) && self.mode == 'Shared')",
                "shared goes with mode: Shared only",
                ".shared",
            ),
            Rule(
                "has(self.dedicated) == (has(self.mode) && self.mode == 'Dedicated')",
                "dedicated must be set with mode: Dedicated, and goes with no other mode",
                ".dedicated",
            ),
            Rule(
                "has(self.external) == (has(self.mode) && self.mode == 'External')",
                "external must be set with mode: External, and goes with no other mode",
                ".external",
            ),
            Rule(
                f"!{_EXTERNAL} || !has(self.extensions) || size(self.extensions) == 0",
                "extensions can't be set with mode: External: whoever owns that database makes them there",
                ".extensions",
            ),
            Rule(
                f"!{_EXTERNAL} || !has(self.maxConnections)",
                "maxConnections can't be set with mode: External: the limits of that database are its owner's",
                ".maxConnections",
            ),
            not_yet("externalAccess"),
        )
    )

    mode: Literal["None", "Shared", "Dedicated", "External"] | None = None
    shared: SharedDatabase | None = None
    dedicated: DedicatedDatabase | None = None
    external: ExternalDatabase | None = None
    extensions: Annotated[list[ExtensionName], Field(max_length=32)] = Field(
        default=[],
        description="Within what the plan and the server allow.",
        json_schema_extra=rules(x_kubernetes_list_type="set"),
    )
    max_connections: Annotated[int, Field(ge=1, le=10000)] | None = Field(
        None, description="At most the plan's, unless the plan says that it is overridable."
    )
    external_access: dict[str, Any] | None = None
