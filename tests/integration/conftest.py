"""Fixtures with real servers: two control planes and two PostgreSQL servers a session, own names for each test."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest
from tests.controlplane.access import ClusterAccess
from tests.controlplane.binaries import Binaries
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.existing import given_or_own
from tests.controlplane.helm import Helm, ensure_helm
from tests.controlplane.plugin import lend
from tests.controlplane.postgres import PostgresServer
from tests.controlplane.postgres_access import PostgresAccess
from tests.controlplane.postgres_binaries import debian_binaries, wheel_binaries
from tests.integration.tenants import Workbench
from tests.scene.stage import StageAccess


class FreshControlPlane(Protocol):
    """Starts control planes that belong to one test alone: it may pause, stop and break them."""

    def __call__(self, name: str = "fresh", *, audit: bool = False) -> ControlPlane:
        """A running one; it is stopped after the test."""


class FreshPostgres(Protocol):
    """Starts PostgreSQL servers that belong to one test alone."""

    def __call__(self, *, tls: bool = False, **options: Any) -> PostgresServer:
        """A running one (Debian's with TLS, else the wheel's); options as of `PostgresServer`."""


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build the control plane's binary and helm, if selected tests need them, outside every test's time-out."""
    wanted = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    own = {name for name in ("management", "target") if isinstance(given_or_own(name), ControlPlane)}
    builds: tuple[tuple[Callable[[], object], set[str]], ...] = (
        (Binaries.find, {"fresh_control_plane", "operator", "proving", *own}),
        (ensure_helm, {"helm"}),
    )
    if session.config.option.collectonly:
        return
    capture = session.config.pluginmanager.getplugin("capturemanager")
    with ExitStack() as stack:
        if capture is not None:
            stack.enter_context(capture.global_and_fixture_disabled())  # the progress is for the user
        for build, fixtures in builds:
            if wanted & fixtures:
                build()


@pytest.fixture(scope="session")
def management(pytestconfig: pytest.Config) -> ClusterAccess:
    """The management cluster, with our kinds installed, as its administrator. Shared by all tests."""
    return ClusterAccess.from_json(lend(pytestconfig, "management"))


@pytest.fixture(scope="session")
def target(pytestconfig: pytest.Config) -> ClusterAccess:
    """A target cluster with deploy/target-rbac.yaml applied, as its administrator. Shared by all tests."""
    return ClusterAccess.from_json(lend(pytestconfig, "target"))


@pytest.fixture(scope="session")
def postgres(pytestconfig: pytest.Config) -> PostgresAccess:
    """PostgreSQL 18 without TLS. Shared by all tests."""
    return PostgresAccess.from_json(lend(pytestconfig, "postgres"))


@pytest.fixture(scope="session")
def postgres_tls(pytestconfig: pytest.Config) -> PostgresAccess:
    """Debian's PostgreSQL, which takes TLS connections only. Shared by all tests."""
    return PostgresAccess.from_json(lend(pytestconfig, "postgres_tls"))


@pytest.fixture(scope="session")
def operator(pytestconfig: pytest.Config) -> StageAccess:
    """A running operator with clusters and database servers of its own. Shared by all tests."""
    return StageAccess.from_json(lend(pytestconfig, "stage"))


@pytest.fixture
def workbench(operator: StageAccess, name_prefix: str) -> Iterator[Workbench]:
    """A new workspace on the operator's management cluster; what was made in it goes after the test, unwaited for."""
    with Workbench(operator, name_prefix) as opened:
        yield opened


@pytest.fixture(scope="session")
def proving(pytestconfig: pytest.Config) -> StageAccess:
    """A second stage, for tests that would disturb those of `operator`: broken clusters and servers, load."""
    return StageAccess.from_json(lend(pytestconfig, "proving"))


@pytest.fixture
def trial(proving: StageAccess, name_prefix: str) -> Iterator[Workbench]:
    """As `workbench`, on the second stage."""
    with Workbench(proving, name_prefix) as opened:
        yield opened


@pytest.fixture
def name_prefix() -> str:
    """Begins the names of what one test makes on shared servers: `t` and 6 hex digits."""
    return f"t{secrets.token_hex(3)}"


@pytest.fixture
def namespace(management: ClusterAccess, name_prefix: str) -> Iterator[str]:
    """A new namespace on the management cluster; what is in it goes after the test, which does not wait for that."""
    name = f"{name_prefix}-workspace"
    management.kubectl("create", "namespace", name)
    yield name
    management.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")


@pytest.fixture
def fresh_control_plane() -> Iterator[FreshControlPlane]:
    """Control planes of a test's own: about 5 s each, so only for tests that break them."""
    with ExitStack() as stack:

        def start(name: str = "fresh", *, audit: bool = False) -> ControlPlane:
            return stack.enter_context(ControlPlane(name, audit=audit))

        yield start


@pytest.fixture
def fresh_postgres() -> Iterator[FreshPostgres]:
    """PostgreSQL servers of a test's own: about 1 s each."""
    with ExitStack() as stack:

        def start(*, tls: bool = False, **options: Any) -> PostgresServer:
            binaries = debian_binaries() if tls else wheel_binaries()
            return stack.enter_context(PostgresServer(binaries, tls=tls, **options))

        yield start


@pytest.fixture
def helm(tmp_path: Path) -> Helm:
    """The real helm, that reaches no cluster unless told of one."""
    return Helm(ensure_helm(), tmp_path / "helm")
