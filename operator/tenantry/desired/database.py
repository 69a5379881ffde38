"""Secret `tenant-database`: works with psql as it is, with CloudNativePG's key names and as a Service Binding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from tenantry.api.identity import TenantIdentity
from tenantry.api.names import SECRET_DATABASE
from tenantry.api.resources import SECRETS
from tenantry.desired.blueprint import DatabaseConnection
from tenantry.desired.encoding import encoded
from tenantry.desired.stamp import stamped

SERVICE_BINDING_TYPE = "servicebinding.io/postgresql"


def database_secret(
    identity: TenantIdentity,
    namespace: str,
    connection: DatabaseConnection,
    annotations: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The Secret with everything that a client needs (servicebinding.io's keys and those of CloudNativePG's -app)."""
    values = {
        "type": "postgresql",
        "provider": "tenantry",
        "host": connection.host,
        "port": str(connection.port),
        "database": connection.database,
        "dbname": connection.database,
        "username": connection.username,
        "user": connection.username,
        "password": connection.password,
        "uri": connection_uri(connection),
        "jdbc-uri": _jdbc_uri(connection),
        "pgpass": _pgpass(connection),
        "sslmode": connection.ssl_mode,
    }
    if connection.ca_pem:
        values["ca.crt"] = connection.ca_pem
    return stamped(
        SECRETS,
        identity,
        SECRET_DATABASE,
        namespace=namespace,
        annotations=annotations,
        type=SERVICE_BINDING_TYPE,
        data=encoded(values),
    )


def connection_uri(connection: DatabaseConnection) -> str:
    """A libpq URI, every part of it quoted."""
    user, password = quote(connection.username, safe=""), quote(connection.password, safe="")
    return (
        f"postgresql://{user}:{password}@{_host(connection)}:{connection.port}"
        f"/{quote(connection.database, safe='')}?sslmode={connection.ssl_mode}"
    )


def _jdbc_uri(connection: DatabaseConnection) -> str:
    user, password = quote(connection.username, safe=""), quote(connection.password, safe="")
    return (
        f"jdbc:postgresql://{_host(connection)}:{connection.port}/{quote(connection.database, safe='')}"
        f"?user={user}&password={password}&sslmode={connection.ssl_mode}"
    )


def _pgpass(connection: DatabaseConnection) -> str:
    parts = (
        connection.host,
        str(connection.port),
        connection.database,
        connection.username,
        connection.password,
    )
    return ":".join(part.replace("\\", "\\\\").replace(":", "\\:") for part in parts) + "\n"


def _host(connection: DatabaseConnection) -> str:
    return f"[{connection.host}]" if ":" in connection.host else connection.host
