"""The part of a Tenant's spec that says which database it has: a union over whose server that is on."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field

from tenantry.api.base import Model, ObjectName, Rule, not_yet, rules
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


class Database(Model):
    """The tenant's database. Without a mode: the first of the plan's allowedModes, pinned when the tenant is placed."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "!has(self.mode) || self.mode != 'Dedicated'",
                "mode: Dedicated is not supported yet: use Shared, External or None",
                ".mode",
            ),
            Rule(
                "!has(self.shared) || (has(self.mode) && self.mode == 'Shared')",
                "shared goes with mode: Shared only",
                ".shared",
            ),
            not_yet("dedicated", "use mode: Shared"),
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
    dedicated: dict[str, Any] | None = None
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
