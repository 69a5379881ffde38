"""What is done to tenants with a database server of their own, whoever makes it; a played node runs that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
from tests.integration.node import Node
from tests.integration.tenants import wait_for

if TYPE_CHECKING:
    from tests.integration.tenants import Whereabouts, Workbench

SECONDS = 120.0
"""Within which such a server is up."""


def brought_up(workbench: Workbench, node: Node, **spec: Any) -> Whereabouts:
    """A tenant that is Ready, in whose namespace the node runs what is wanted."""
    where = workbench.whereabouts()
    node.look_after(where.namespace)
    workbench.apply(workbench.tenant(**spec))
    workbench.ready(seconds=SECONDS)
    return where


def session(
    workbench: Workbench, node: Node, where: Whereabouts, **changes: Any
) -> psycopg.Connection[tuple[Any, ...]]:
    """As one of the tenant's pods."""
    there = node.reach(where.namespace, workbench.secret(where, "tenant-database"), **changes)
    return psycopg.connect(there, autocommit=True, connect_timeout=30)


def leave_row(workbench: Workbench, node: Node, where: Whereabouts) -> None:
    """Write what has to be there later."""
    with session(workbench, node, where) as own:
        own.execute("CREATE TABLE kept (word text)")
        own.execute("INSERT INTO kept VALUES ('alive')")


def has_row(workbench: Workbench, node: Node, where: Whereabouts) -> bool:
    """Whether it is there, once its server runs: a Ready may be from before it went."""

    def rows() -> tuple[list[Any]] | None:
        if node.port_or_none(where.namespace) is None:
            return None
        try:
            with session(workbench, node, where) as own:
                return (own.execute("SELECT word FROM kept").fetchall(),)
        except psycopg.OperationalError:
            return None

    return wait_for(rows, "its server runs", SECONDS) == ([("alive",)],)


def looked_at(workbench: Workbench) -> None:
    """Have the operator look at the tenant, and wait until it has."""
    seen = workbench.look_now()
    workbench.when(lambda body: body["status"].get("lastHandledReconcileAt") == seen, "it was looked at again")
