"""Taking away what runs have left, by hand and behind a dead operator: its own deletion is what is being tested."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import psycopg
from psycopg import sql
from tests.controlplane.postgres_access import PostgresAccess
from tests.crash.case import TENANT, Names
from tests.crash.looking import Looking
from tests.crash.stored import backups_of, restores_of, sweep_store
from tests.integration.acting import Api
from tests.scene.lab import wait_until

from tenantry.api.names import SYSTEM_NAMESPACE
from tenantry.api.resources import (
    NAMESPACES,
    TENANT_BACKUPS,
    TENANT_PLANS,
    TENANT_RECORDS,
    TENANT_RESTORES,
    TENANTS,
    resource_of,
)

GONE_SECONDS: Final = 120.0


def sweep(looking: Looking, cases: Sequence[Names]) -> None:
    """Remove all of these cases from all servers; an operator that starts before they are gone would recover them."""
    for names in cases:
        for resource, bodies in (
            (TENANT_RESTORES, restores_of(looking.management, names)),
            (TENANT_BACKUPS, backups_of(looking.management, names)),
        ):
            for body in bodies:
                _remove(looking.management, resource.path(names.case.workspace, body["metadata"]["name"]))
        sweep_store(looking.kept, names)
        _remove(looking.management, TENANTS.path(names.case.workspace, TENANT))
        for record in looking.records(names):
            _remove(looking.management, TENANT_RECORDS.path(name=record["metadata"]["name"]))
        _remove(looking.management, NAMESPACES.path(name=names.case.workspace))
        _remove(looking.management, TENANT_PLANS.path(name=names.case.plan))
        for body in looking.of_plan(names):
            _remove(looking.management, resource_of(body).path(SYSTEM_NAMESPACE, body["metadata"]["name"]))
        for place in looking.places:
            for body in looking.on_target(names, place):
                metadata = body["metadata"]
                _remove(place.api, resource_of(body).path(metadata.get("namespace", ""), metadata["name"]))
            _drop(place.postgres, names.hash)
    wait_until(
        lambda: not any(looking.on_target(names, place) for names in cases for place in looking.places),
        GONE_SECONDS,
        "namespaces still on their way out",
    )


def _remove(api: Api, path: str) -> None:
    answer = api.get(path)
    if answer.status == 200 and answer.body["metadata"].get("finalizers"):
        api.patch(path, {"metadata": {"finalizers": None}}, dry=False)
    answer = api.delete(path, dry=False)
    assert answer.status < 300 or answer.status == 404, answer.message


def _drop(access: PostgresAccess, tenant_hash: str) -> None:
    values = {"hash": tenant_hash}
    with psycopg.connect(access.superuser_dsn(), autocommit=True) as connection:
        for kind, query, how in (
            ("DATABASE", "SELECT datname FROM pg_database WHERE strpos(datname, %(hash)s) > 0", " WITH (FORCE)"),
            ("ROLE", "SELECT rolname FROM pg_roles WHERE strpos(rolname, %(hash)s) > 0", ""),
        ):
            for (name,) in connection.execute(query, values).fetchall():
                connection.execute(sql.SQL("DROP {} {}{}").format(sql.SQL(kind), sql.Identifier(name), sql.SQL(how)))
    with psycopg.connect(access.superuser_dsn("tenantry"), autocommit=True) as connection:
        connection.execute("DELETE FROM claims WHERE tenant_hash = %(hash)s", values)
