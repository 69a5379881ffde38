"""`python -m tests.controlplane`: `build` and `parts` get what tests need, `up` runs test clusters until Ctrl-C."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable
from signal import Signals, signal

import click
from tests.controlplane.access import ClusterAccess
from tests.controlplane.build import BuildError, ensure_built
from tests.controlplane.cloudnativepg import clusters_crd
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.gitops import gitops_crds
from tests.controlplane.helm import ensure_helm
from tests.controlplane.modules import ModuleError
from tests.controlplane.monitoring import monitoring_crds
from tests.controlplane.object_stores import installed
from tests.controlplane.postgres import PostgresServer
from tests.controlplane.postgres_binaries import wheel_binaries
from tests.controlplane.processes import ServerError
from tests.controlplane.sessions import install_kinds, install_target_rights
from tests.controlplane.toolchain import ToolchainError


@click.group()
def cli() -> None:
    """Kubernetes control planes and PostgreSQL for tests, from packages alone."""


@cli.command()
def build() -> None:
    """Build the multi-call Kubernetes binary, unless it is in the cache, and print its path."""
    click.echo(ensure_built())


@cli.command()
def parts() -> None:
    """Have at hand what tests take from others, or its download would count as their time."""
    named: tuple[tuple[str, Callable[[], object]], ...] = (
        ("helm", ensure_helm),
        ("S3 servers", installed),
        ("the kinds of CloudNativePG", clusters_crd),
        ("the kinds of the Prometheus operator", monitoring_crds),
        ("the kinds of Argo CD and Flux", gitops_crds),
    )
    for name, get in named:
        started = time.monotonic()
        get()
        click.echo(f"{name}: there ({time.monotonic() - started:.0f} s)")


@cli.command()
def up() -> None:
    """Start a management and a target cluster and a PostgreSQL, say how to reach them, stop them at Ctrl-C."""
    ended = threading.Event()
    for number in (Signals.SIGINT, Signals.SIGTERM):
        signal(number, lambda *_: ended.set())
    with contextlib.ExitStack() as stack:
        management = stack.enter_context(ControlPlane("management", audit=True)).access
        install_kinds(management)
        _show(management)
        target = stack.enter_context(ControlPlane("target", audit=True)).access
        install_target_rights(target)
        _show(target)
        database = stack.enter_context(PostgresServer(wheel_binaries())).access
        click.echo(f"postgres    psql '{database.admin_dsn()}'")
        click.echo("Ctrl-C stops all.")
        ended.wait()


def _show(access: ClusterAccess) -> None:
    click.echo(f"{access.name:11} export KUBECONFIG={access.kubeconfig_path}")


if __name__ == "__main__":
    try:
        cli()
    except (BuildError, ModuleError, ServerError, ToolchainError) as error:
        sys.exit(f"tests.controlplane: {error}")
