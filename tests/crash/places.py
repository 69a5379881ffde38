"""Where tenants may be: clusters, each with the database server that goes with it, and servers of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from psycopg.conninfo import make_conninfo
from tests.controlplane.postgres_access import PostgresAccess
from tests.integration.acting import Api
from tests.integration.node import Node
from tests.integration.tenants import plain

from tenantry.api.names import POSTGRES, POSTGRES_POD
from tenantry.api.resources import PODS, SECRETS
from tenantry.desired.dedicated import SUPERUSER, SUPERUSER_KEY

SECOND, SECOND_SERVER = "eu-2", "shared-ams"

Dsn = Callable[[str], str]
"""The conninfo of a superuser of a server, by the name of a database."""


@dataclass(frozen=True, slots=True)
class Place:
    """A cluster and a server, as their administrators see them.

    Attributes:
        mark: Ends the names of what is found here; empty for the place that every lane has.
    """

    cluster: str
    server: str
    api: Api
    postgres: PostgresAccess
    mark: str = ""


def own_server(node: Node | None, place: Place, namespace: str) -> Dsn | None:
    """The server in a namespace, past everybody; None where none runs."""
    if node is None or place.api.get(PODS.path(namespace, POSTGRES_POD)).status != 200:
        return None
    secret = plain(place.api.get(SECRETS.path(namespace, POSTGRES)).body)
    port = node.port_or_none(namespace)
    if port is None or SUPERUSER_KEY not in secret:
        return None

    def dsn(database: str) -> str:
        password = secret[SUPERUSER_KEY]
        return make_conninfo(host="127.0.0.1", port=port, user=SUPERUSER, password=password, dbname=database)

    return dsn
