"""Moves as their tests go about them: what is asked for and looked at, and how the time of what is left ends."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import psycopg
from tests.integration.acting import Api, manifest
from tests.integration.tenants import Whereabouts, wait_for
from tests.scene.stage import SERVER_18

from tenantry.api.identity import namespace_name
from tenantry.api.names import ANNOTATION_APPROVE_MOVE
from tenantry.api.resources import DEPLOYMENTS, NAMESPACES, TENANT_RECORDS, TENANTS

if TYPE_CHECKING:
    from tests.controlplane.postgres_access import PostgresAccess
    from tests.integration.tenants import Workbench

Json = dict[str, Any]

PATIENCE = 120.0
"""Seconds; an early look at a purge that is not due everywhere is repeated after one minute."""
DAY = {"minWindow": "0s", "maxWindow": "24h"}


@dataclass(frozen=True, slots=True)
class Second:
    """Another cluster, as its administrator sees it."""

    name: str
    kubeconfig: str


def on(server: str) -> Json:
    return {"mode": "Shared", "shared": {"server": server}}


def approve(trial: Workbench, value: str | None) -> None:
    patch = {"metadata": {"annotations": {ANNOTATION_APPROVE_MOVE: value}}}
    answer = trial.management.patch(TENANTS.path(trial.workspace, "acme"), patch, dry=False)
    assert answer.status == 200, answer.message


def after(where: Whereabouts, epoch: int) -> Whereabouts:
    """Where the tenant is after so many moves to other clusters."""
    identity = replace(where.identity, epoch=epoch)
    return Whereabouts(identity, namespace_name("{workspace}-{tenant}", identity))


def access_of(trial: Workbench, server: str) -> PostgresAccess:
    return trial.stage.postgres_18 if server == SERVER_18 else trial.stage.postgres_15


def connect(secret: dict[str, str]) -> psycopg.Connection[tuple[Any, ...]]:
    mode = "require" if secret["sslmode"] == "verify-full" else secret["sslmode"]  # no file with the CA here
    return psycopg.connect(secret["uri"], sslmode=mode, autocommit=True, connect_timeout=30)


def refuses(secret: dict[str, str]) -> bool:
    try:
        connect(secret).close()
    except psycopg.OperationalError:
        return True
    return False


def write(secret: dict[str, str], word: str) -> None:
    with connect(secret) as session:
        session.execute("CREATE TABLE IF NOT EXISTS canary (word text PRIMARY KEY)")
        session.execute("INSERT INTO canary VALUES (%s)", (word,))


def canaries(secret: dict[str, str]) -> set[str]:
    with connect(secret) as session:
        return {row[0] for row in session.execute("SELECT word FROM canary").fetchall()}


def deploy(api: Api, where: Whereabouts, replicas: int) -> None:
    pod = {"metadata": {"labels": {"app": "app"}}, "spec": {"containers": [{"name": "app", "image": "example.com/a"}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": "app"}}, "template": pod}
    assert api.create(DEPLOYMENTS, manifest(DEPLOYMENTS, "app", where.namespace, spec=spec), dry=False).status == 201


def replicas(trial: Workbench, where: Whereabouts) -> int:
    return int(trial.on_target(DEPLOYMENTS, where.namespace, "app")["spec"]["replicas"])


def moved(trial: Workbench, to: str) -> Json:
    """The Tenant, once it lives there and the move is over."""

    def over(body: Json) -> bool:
        move = body.get("status", {}).get("move") or {}
        return (move.get("phase"), move.get("destination")) == ("Completed", to)

    trial.when(over, f"it is moved to {to}", seconds=PATIENCE)
    return trial.ready(seconds=PATIENCE)


def left(trial: Workbench, where: Whereabouts, purge_after: str) -> None:
    """Wait until the old side says that it was left, and until when it is kept: that comes after the move."""

    def says() -> bool:
        found = trial.on_target(NAMESPACES, "", where.namespace)["metadata"]["annotations"]
        return (found.get("tenantry.io/state"), found.get("tenantry.io/purge-after")) == ("Left", purge_after)

    wait_for(says, f"{where.namespace} was left and is kept until {purge_after}")


def end_windows(
    trial: Workbench, where: Whereabouts, target: Api, namespace: str | None, *servers: PostgresAccess
) -> None:
    """As if the time of all that was left were over, by all who know it, until a purge begins."""
    count = len(trial.record(where)["spec"]["former"])

    def begun() -> bool:
        sides = trial.record(where)["spec"].get("former", [])
        return len(sides) < count or any(side["state"] == "Purging" for side in sides)

    # The operator writes these times, too: what it has under way may be written after what is written here.
    for second in range(10):
        write_ends(trial, where, f"2020-01-01T00:00:0{second}Z", target, namespace, *servers)
        with suppress(AssertionError):
            wait_for(begun, "a purge has begun", 15)
            return
    raise AssertionError(f"no purge has begun: {trial.record(where)}")


def write_ends(
    trial: Workbench, where: Whereabouts, end: str, target: Api, namespace: str | None, *servers: PostgresAccess
) -> None:
    """By all who know it: the record first, for it is what is told."""
    sides = trial.record(where)["spec"]["former"]
    change = {"spec": {"former": [{**side, "purgeAfter": end} for side in sides]}}
    path = TENANT_RECORDS.path(name=where.identity.record)
    assert trial.management.patch(path, change, dry=False).status == 200
    for access in servers:
        with psycopg.connect(access.superuser_dsn("tenantry"), autocommit=True) as connection:
            connection.execute(
                "UPDATE claims SET purge_after = %s WHERE tenant_hash = %s AND state = 'parked'", (end, where.hash)
            )
    if namespace is not None:
        patch = {"metadata": {"annotations": {"tenantry.io/purge-after": end}}}
        assert target.patch(NAMESPACES.path(name=namespace), patch, dry=False).status in (200, 404)


def remove(trial: Workbench) -> None:
    """The tenant and all it has, at once."""
    trial.kubectl("patch", "tenant", "acme", "--type=merge", "-p", '{"spec": {"deletion": {"window": "0s"}}}')
    trial.delete()
    trial.gone(seconds=PATIENCE)
