"""What is put on the clusters of a test session before the first test sees them, and which servers there are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.controlplane.access import ClusterAccess
from tests.controlplane.existing import given_or_own
from tests.controlplane.postgres import PostgresServer
from tests.controlplane.postgres_binaries import debian_binaries, wheel_binaries
from tests.controlplane.shared import Startable
from tests.scene.stage import Stage

REPOSITORY: Final = Path(__file__).resolve().parents[2]
CRDS: Final = REPOSITORY / "crds"
TARGET_RBAC: Final = REPOSITORY / "deploy" / "target-rbac.yaml"

FIELD_MANAGER: Final = "tenantry-tests"


def install_kinds(access: ClusterAccess) -> None:
    """Apply crds/ as a user does and wait until the API serves the kinds. Nothing where there are none."""
    if not any(CRDS.glob("*.yaml")):
        return
    _apply(access, CRDS)
    access.kubectl("wait", "--for=condition=Established", "--timeout=90s", "-f", str(CRDS))


def install_target_rights(access: ClusterAccess) -> None:
    """Apply deploy/target-rbac.yaml as a user does. Nothing where there is none."""
    if TARGET_RBAC.exists():
        _apply(access, TARGET_RBAC)


def _apply(access: ClusterAccess, path: Path) -> None:
    access.kubectl("apply", "--server-side", "--force-conflicts", "--field-manager", FIELD_MANAGER, "-f", str(path))


class PreparedCluster:
    """A test cluster that is ready for use only when a preparation has run on it."""

    def __init__(self, name: str, prepare: Callable[[ClusterAccess], None]) -> None:
        self._cluster = given_or_own(name, audit=True)
        self._prepare = prepare

    @property
    def access(self) -> ClusterAccess:
        """As `ControlPlane.access`."""
        return self._cluster.access

    def start(self) -> PreparedCluster:
        """Start it and prepare it."""
        self._cluster.start()
        try:
            self._prepare(self.access)
        except BaseException:
            self._cluster.stop()
            raise
        return self

    def stop(self) -> None:
        """End it."""
        self._cluster.stop()


def session_servers() -> dict[str, Callable[[], Startable]]:
    """The servers of a test session by name; none is started."""
    return {
        "management": lambda: PreparedCluster("management", install_kinds),
        "target": lambda: PreparedCluster("target", install_target_rights),
        "postgres": lambda: PostgresServer(wheel_binaries()),
        "postgres_tls": lambda: PostgresServer(debian_binaries(), tls=True),
        "stage": Stage,
        "proving": Stage,
    }
