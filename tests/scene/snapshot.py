"""All that an installation has made, in a form in which two runs can be compared: no uids, times, ports, secrets."""

from __future__ import annotations

import base64
import json
from typing import Any

import psycopg
from tests.controlplane.access import ClusterAccess
from tests.controlplane.postgres_access import PostgresAccess

TARGET_KINDS = (
    "namespaces,resourcequotas,limitranges,networkpolicies,serviceaccounts,rolebindings,configmaps,secrets,ingresses"
)
VOLATILE = ("uid", "resourceVersion", "creationTimestamp", "managedFields", "generation", "selfLink")
RANDOM_KEYS = ("password", "port", "uri", "jdbc-uri", "pgpass", "token", "previous")

DATABASES = """
SELECT d.datname, pg_get_userbyid(d.datdba) AS owner, d.datacl::text, d.datconnlimit, d.datallowconn,
       shobj_description(d.oid, 'pg_database') AS stamp
  FROM pg_database d WHERE d.datname LIKE 'tenantry\\_%' ORDER BY 1
"""
ROLES = """
SELECT r.rolname, r.rolcanlogin, r.rolsuper, r.rolcreatedb, r.rolcreaterole, r.rolbypassrls,
       array(SELECT pg_get_userbyid(m.roleid)::text FROM pg_auth_members m WHERE m.member = r.oid ORDER BY 1) AS groups
  FROM pg_roles r WHERE r.rolname LIKE 'tenantry\\_%' ORDER BY 1
"""
CLAIMS = "SELECT database, management_id, tenant_hash, record, state FROM claims ORDER BY 1"


def snapshot(management: ClusterAccess, target: ClusterAccess, server: PostgresAccess) -> dict[str, Any]:
    """Records, tenants' statuses, stamped objects, databases, roles and claims; tenant hashes told by tenant names."""
    records = management.get("tenantrecords")["items"]
    hashes = {
        record["metadata"]["labels"][
            "tenantry.io/tenant-hash"
        ]: f"{record['spec']['workspace']}/{record['spec']['tenant']}"
        for record in records
    }
    uids = {record["spec"]["workspaceUid"]: record["spec"]["workspace"] for record in records}
    stamped = target.get(TARGET_KINDS, "-A", "-l", "tenantry.io/management-id")["items"]
    found = {
        "records": [plain_body(record) for record in records],
        "tenants": [_tenant(tenant) for tenant in management.get("tenants", "-A")["items"]],
        "objects": sorted((plain_body(body) for body in stamped), key=_sort_key),
        "databases": _rows(server, "postgres", DATABASES),
        "roles": _rows(server, "postgres", ROLES),
        "claims": _rows(server, "tenantry", CLAIMS),
    }
    text = json.dumps(found, sort_keys=True)
    for uid, workspace in uids.items():
        text = text.replace(uid, f"<uid of {workspace}>")
    for number, (tenant_hash, name) in enumerate(sorted(hashes.items(), key=lambda item: item[1])):
        placeholder = f"<{number}:{name}>"
        text = text.replace(tenant_hash, placeholder).replace(f"-{tenant_hash[:6]}", f"-{placeholder}")
    replaced: dict[str, list[dict[str, Any]]] = json.loads(text)
    return _sorted_lists(replaced)


def plain_body(body: dict[str, Any]) -> dict[str, Any]:
    """An object without status, uids, versions, digests and random values."""
    metadata = {key: value for key, value in body["metadata"].items() if key not in VOLATILE}
    annotations = {key: value for key, value in metadata.get("annotations", {}).items() if "desired-hash" not in key}
    plain = {key: value for key, value in body.items() if key not in ("metadata", "status")}
    plain["metadata"] = {**metadata, "annotations": annotations}
    if body["kind"] == "ConfigMap" and "host" in metadata.get("labels", {}).get("tenantry.io/claim", ""):
        plain["metadata"]["name"] = "host-claim"  # a digest of a host
    if body["kind"] == "Secret":
        plain["data"] = {
            key: "***" if key in RANDOM_KEYS else base64.b64decode(value).decode()
            for key, value in body.get("data", {}).items()
        }
    if body["kind"] == "NetworkPolicy" and metadata["name"] == "tenant-database":
        for rule in plain["spec"]["egress"]:
            rule.pop("ports")
    if body["kind"] == "TenantRecord":
        for key in ("tenantUid", "workspaceUid"):
            plain["spec"].pop(key)
        plain["spec"]["cluster"].pop("id")
        plain["spec"]["database"].pop("id", None)
    return plain


def _tenant(tenant: dict[str, Any]) -> dict[str, Any]:
    """What the status says, without times."""
    status = json.loads(json.dumps(tenant["status"]))
    for condition in status["conditions"]:
        condition.pop("lastTransitionTime")
    return {"name": tenant["metadata"]["name"], "status": status, "finalizers": tenant["metadata"].get("finalizers")}


def _rows(server: PostgresAccess, database: str, query: str) -> list[dict[str, Any]]:
    with psycopg.connect(server.superuser_dsn(database), row_factory=psycopg.rows.dict_row) as connection:
        return list(connection.execute(query).fetchall())


def _sort_key(body: dict[str, Any]) -> tuple[str, str, str]:
    metadata = body["metadata"]
    return body["kind"], metadata.get("namespace", ""), json.dumps(metadata, sort_keys=True)


def _sorted_lists(found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """In an order that does not depend on hashes."""
    for role in found["roles"]:
        role["groups"] = sorted(role["groups"])
    return {key: sorted(items, key=lambda item: json.dumps(item, sort_keys=True)) for key, items in found.items()}
