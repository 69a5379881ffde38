"""The part of a Tenant's spec that says which database it has: a union over whose server that is on."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field

from tenantry.api.base import Cidr, Label, Model, ObjectName, Quantity, Rule, rules
from tenantry.api.databaseserver import ExtensionName

Provider = Literal["Builtin", "CloudNativePG"]
"""Who makes a server of the tenant's own."""

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
                "self.provider == oldSelf.provider",
                "provider can't be changed, for one can't take over the other's volumes: make another Tenant and copy "
                "the data",
                ".provider",
            ),
            Rule(
                "self.instances == 1 || self.provider == 'CloudNativePG'",
                "instances: more than 1 takes an operator of databases: use 1, or provider: CloudNativePG",
                ".instances",
            ),
        )
    )

    version: Annotated[str, Field(min_length=2, max_length=2, pattern=r"^(1[5-9]|[2-9][0-9])$")] = Field(
        description='PostgreSQL\'s major version, such as "17".'
    )
    provider: Provider = Field(
        "Builtin",
        description="Who makes the server, within the plan's dedicatedProviders: Tenantry itself, or CloudNativePG, "
        "which the platform team has installed on the target.",
    )
    instances: Annotated[int, Field(ge=1, le=9)] = Field(
        1, description="One primary, and replicas that take over; each counts in the quota. Builtin makes one."
    )
    size: Label = Field(description="One of the plan's sizes. Another size restarts the server.")
    storage: DedicatedStorage


class ExternalAccess(Model):
    """The way to a server of the tenant's own from outside of its cluster: a Service of type LoadBalancer."""

    enabled: bool = False
    cidrs: Annotated[list[Cidr], Field(min_length=1, max_length=32)] = Field(
        description="Who is let in: addresses as the server's cluster sees them."
    )


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
            Rule(
                "!has(self.externalAccess) || (has(self.mode) && self.mode == 'Dedicated')",
                "externalAccess goes with mode: Dedicated only: other tenants' databases are on the shared servers",
                ".externalAccess",
            ),
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
    external_access: ExternalAccess | None = None
