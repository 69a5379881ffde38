"""DedicatedServer: a database server of a tenant's own, as a plain value that decisions make and builders read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MODE: Final = "Dedicated"
"""Of `spec.database.mode`."""
BUILTIN: Final = "Builtin"
CLOUDNATIVEPG: Final = "CloudNativePG"
"""Of `spec.database.dedicated.provider`."""


@dataclass(frozen=True, slots=True)
class Operated:
    """What a server takes beside that where CloudNativePG makes it.

    Attributes:
        major: PostgreSQL's major version.
        instances: One primary, and replicas of it.
        operator_namespace: Where CloudNativePG runs on the target.
        api_server_cidrs: The target's API server as pods reach it.
    """

    major: int
    instances: int
    operator_namespace: str
    api_server_cidrs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DedicatedServer:
    """What a tenant's own server is made from.

    Attributes:
        image: With the version filled in.
        user: The number of the user and group that it runs as.
        cpu: A quantity; request and limit.
        memory: A quantity; request and limit.
        shared_buffers: In KiB.
        storage: A quantity.
        storage_class: Empty for the target's default.
        max_connections: Of the server, with room for the operator.
        pull_policy: Of the image.
        database_id: The system identifier of the database that is on its volume; empty until there is one.
        running: Whether it is to run; else its volume waits.
        outside: From where it can be reached from outside of the cluster, as CIDRs; empty for nowhere.
        node_ports: Whether the quota has node ports for that.
        operated: None of one that we make ourselves.
    """

    image: str
    user: int
    cpu: str
    memory: str
    shared_buffers: int
    storage: str
    storage_class: str
    max_connections: int
    pull_policy: str
    database_id: str
    running: bool
    outside: tuple[str, ...] = ()
    node_ports: bool = False
    operated: Operated | None = None
