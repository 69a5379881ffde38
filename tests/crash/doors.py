"""More doors that writes go through: a second cluster and its server, and each server of a tenant's own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from tests.controlplane.cluster import ControlPlane
from tests.controlplane.postgres import PostgresServer
from tests.controlplane.postgres_binaries import wheel_binaries
from tests.crash.places import SECOND, SECOND_SERVER
from tests.scene.faulty import CLUSTER, FaultyLab
from tests.scene.installation import admin_secret, install_target, kubeconfig_secret, operator_kubeconfig
from tests.scene.lab import cluster_body, server_body
from tests.scene.proxy import FaultProxy
from tests.scene.proxy_postgres import DatabaseProxy

IMAGE = "registry.example.com/postgres:{version}"


@dataclass(frozen=True, slots=True)
class SecondPlace:
    """A cluster and a server, each behind a proxy."""

    target: ControlPlane
    postgres: PostgresServer
    target_door: FaultProxy
    postgres_door: DatabaseProxy


def open_second_place(stack: ExitStack, lab: FaultyLab) -> SecondPlace:
    """Start and register it; and let the first cluster have databases of tenants' own."""
    target = stack.enter_context(ControlPlane("second"))
    postgres = stack.enter_context(PostgresServer(wheel_binaries()))
    install_target(target.access)
    door = stack.enter_context(FaultProxy(target.access))
    database = DatabaseProxy(postgres.access.port).start()
    stack.callback(database.stop)
    lab.apply(
        kubeconfig_secret(f"{SECOND}-kubeconfig", door.kubeconfig(operator_kubeconfig(target.access))),
        admin_secret(f"{SECOND_SERVER}-admin", postgres.access),
        cluster_body(CLUSTER, dedicatedDatabases={"image": IMAGE}),
        cluster_body(SECOND, default=False, databaseServer=SECOND_SERVER),
        server_body(SECOND_SERVER, database.port),
    )
    return SecondPlace(target, postgres, door, database)


class PodDoors:
    """One proxy for each port that a pod listens on.

    Attributes:
        opened: Called with each new one.
    """

    def __init__(self) -> None:
        self.opened: Callable[[int, DatabaseProxy], None] = lambda _port, _door: None
        self._doors: dict[int, DatabaseProxy] = {}

    def through(self, port: int) -> int:
        """The port of the proxy before a port."""
        if port not in self._doors:
            door = DatabaseProxy(port).start()
            self.opened(port, door)
            self._doors[port] = door
        return self._doors[port].port

    def stop(self) -> None:
        """Close them all."""
        for door in self._doors.values():
            door.stop()
