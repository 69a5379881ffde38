"""What was really made for each tenant: read from both clusters and the database server, not from any status."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.demo.databases import DatabaseFindings, look_at_databases
from tests.demo.quickstart import EXPECTED, TenantName
from tests.demo.stage import Stage

from tenantry.api.names import (
    LABEL_CLAIM,
    LABEL_MANAGED_BY,
    LABEL_TENANT_HASH,
    MANAGED_BY,
    SECRET_DATABASE,
    SYSTEM_NAMESPACE,
)
from tenantry.api.resources import SECRETS, WATCHED_ON_TARGETS

Json = dict[str, Any]

SECRET_KEYS: Final = ("password", "uri", "jdbc-uri", "pgpass")
STAMPED_KINDS: Final = ",".join(
    f"{resource.plural}.{resource.group}" if resource.group else resource.plural
    for resource in (*WATCHED_ON_TARGETS, SECRETS)
)


@dataclass(frozen=True, slots=True)
class Findings:
    """One tenant as it is.

    Attributes:
        tenant: The Tenant.
        record: Its TenantRecord, or None.
        objects: All with its stamp in its own namespace, and that namespace; Secrets only with the names of their keys.
        claims: Its ConfigMaps in the operator's namespace of the target.
        uri: Of Secret `tenant-database`, as it is; empty where there is none.
        secrets: The values in Secret `tenant-database` that nobody else may see.
    """

    tenant: Json
    record: Json | None
    objects: tuple[Json, ...]
    claims: tuple[Json, ...]
    database: DatabaseFindings | None
    uri: str = field(default="", repr=False)
    secrets: frozenset[str] = field(default=frozenset(), repr=False)

    @property
    def name(self) -> TenantName:
        """Workspace and name."""
        return TenantName.of(self.tenant)

    @property
    def status(self) -> Json:
        """What the operator reports."""
        return dict(self.tenant.get("status", {}))

    @property
    def namespace(self) -> str:
        """The tenant's on its target, by the record; empty without one."""
        return str(self.record["spec"]["cluster"]["namespace"]) if self.record else ""

    def of_kind(self, kind: str) -> list[Json]:
        """Its objects of one kind, by name."""
        return sorted((body for body in self.objects if body["kind"] == kind), key=name_of)

    def named(self, kind: str, name: str) -> Json:
        """One of its objects; empty if it is not there."""
        return next((body for body in self.of_kind(kind) if name_of(body) == name), {})


def name_of(body: Mapping[str, Any]) -> str:
    """An object's name."""
    return str(body["metadata"]["name"])


def gather(stage: Stage) -> dict[TenantName, Findings]:
    """Look at everything now; the tenants of the quick start first, in its order."""
    tenants = stage.management.get("tenants", "-A")["items"]
    records = {
        TenantName(record["spec"]["workspace"], record["spec"]["tenant"]): record
        for record in stage.management.get("tenantrecords")["items"]
    }
    stamped = stage.target.get(STAMPED_KINDS, "-A", "-l", f"{LABEL_MANAGED_BY}={MANAGED_BY}")["items"]
    databases = look_at_databases(stage.postgres)
    by_name = {TenantName.of(tenant): tenant for tenant in tenants}
    order = [*(name for name in EXPECTED if name in by_name), *sorted(by_name.keys() - EXPECTED)]
    return {name: _findings(by_name[name], records.get(name), stamped, databases) for name in order}


def _findings(
    tenant: Json, record: Json | None, stamped: Iterable[Json], databases: Mapping[str, DatabaseFindings]
) -> Findings:
    tenant_hash = name_of(record).rpartition("-")[2] if record else ""
    own = [body for body in stamped if record and body["metadata"]["labels"].get(LABEL_TENANT_HASH) == tenant_hash]
    values = {name_of(body): _decoded(body.get("data", {})) for body in own if body["kind"] == "Secret"}
    login = values.get(SECRET_DATABASE, {})
    return Findings(
        tenant=tenant,
        record=record,
        objects=tuple(_without_values(body) for body in own if not _is_claim(body)),
        claims=tuple(body for body in own if _is_claim(body)),
        database=databases.get(record["spec"]["database"]["name"]) if record else None,
        uri=login.get("uri", ""),
        secrets=frozenset(login[key] for key in SECRET_KEYS if key in login),
    )


def _is_claim(body: Json) -> bool:
    metadata = body["metadata"]
    return metadata.get("namespace") == SYSTEM_NAMESPACE and LABEL_CLAIM in metadata["labels"]


def _decoded(data: Mapping[str, str]) -> dict[str, str]:
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


def _without_values(body: Json) -> Json:
    return body | {"data": dict.fromkeys(body.get("data", {}), "")} if body["kind"] == "Secret" else body
