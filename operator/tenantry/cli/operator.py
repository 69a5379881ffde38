"""`tenantry operator`: run the operator in this process."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import click

from tenantry.adapters.kube.management import ManagementConfigError
from tenantry.api.names import SYSTEM_NAMESPACE
from tenantry.decide.deletion import StopRule
from tenantry.decide.rollout import Pace
from tenantry.ports.kube import KubeError
from tenantry.reconcile.identity import IdentityError
from tenantry.runtime.http import parse_address
from tenantry.runtime.logs import LogFormat
from tenantry.runtime.options import Options


def _address(_context: click.Context, _option: click.Parameter, value: str) -> str:
    """Refuses what is no address before anything is begun."""
    try:
        parse_address(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return value


@click.command(context_settings={"auto_envvar_prefix": "TENANTRY"})
@click.option(
    "--kubeconfig", type=click.Path(), help="Of the management cluster. [default: in cluster, then KUBECONFIG]"
)
@click.option("--namespace", default=SYSTEM_NAMESPACE, show_default=True, help="The operator's own.")
@click.option("--management-id", help="Who this management cluster is. [default: kept in the cluster]")
@click.option(
    "--metrics-address", default=":8080", show_default=True, callback=_address, help="host:port, or 0 for none."
)
@click.option(
    "--health-address", default=":8081", show_default=True, callback=_address, help="host:port, or 0 for none."
)
@click.option("--workers", type=click.IntRange(1, 1000), default=32, show_default=True, help="Reconciles at a time.")
@click.option("--resync", type=click.FloatRange(10), default=600, show_default=True, help="Seconds.")
@click.option(
    "--mass-deletion-count",
    type=click.IntRange(0),
    default=10,
    show_default=True,
    help="More deletions than this within --mass-deletion-span wait for somebody to confirm them; 0 for any number.",
)
@click.option("--mass-deletion-span", type=click.FloatRange(1), default=600, show_default=True, help="Seconds.")
@click.option(
    "--mass-deletion-share",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Of a workspace with 3 tenants or more: more than this part waits, too; 1 for any part.",
)
@click.option(
    "--hold-terminating/--no-hold-terminating",
    default=True,
    show_default=True,
    help="Deletions that come from deleting a workspace or the kind wait for somebody to confirm them.",
)
@click.option(
    "--rollout-settle",
    type=click.FloatRange(0),
    default=60,
    show_default=True,
    help="Seconds for which the tenants of one wave have to have been Ready before the next one gets a changed plan.",
)
@click.option(
    "--rollout-patience",
    type=click.FloatRange(0),
    default=300,
    show_default=True,
    help="Seconds after which a tenant that is not Ready on a changed plan stops its rollout.",
)
@click.option("--allow-loopback-targets", is_flag=True, help="Targets and servers on this machine: for development.")
@click.option(
    "--dns-server",
    "dns_servers",
    multiple=True,
    help="For custom hosts' proofs and External databases. [default: the system's]",
)
@click.option("--log-format", type=click.Choice([f.value for f in LogFormat]), default="text", show_default=True)
@click.option("--log-level", default="INFO", show_default=True)
def operator(
    log_format: str,
    dns_servers: tuple[str, ...],
    mass_deletion_count: int,
    mass_deletion_span: float,
    mass_deletion_share: float,
    hold_terminating: bool,
    rollout_settle: float,
    rollout_patience: float,
    **flags: object,
) -> None:
    """Run the operator until it is told to stop (SIGINT or SIGTERM)."""
    # Imported here: it brings kopf and half of the start-up time, which the other commands can do without.
    from tenantry.runtime.operator import run_operator  # noqa: PLC0415 - see above

    stop = StopRule(
        count=mass_deletion_count,
        span=timedelta(seconds=mass_deletion_span),
        share=mass_deletion_share,
        terminating=hold_terminating,
    )
    rollout = Pace(settle=rollout_settle, patience=rollout_patience)
    options = Options(log_format=LogFormat(log_format), dns_servers=dns_servers, stop=stop, rollout=rollout, **flags)  # type: ignore[arg-type]  # click has checked the types
    try:
        asyncio.run(run_operator(options))
    except (ManagementConfigError, IdentityError, KubeError) as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:  # such as an address that somebody else listens on
        raise click.ClickException(error.strerror or str(error)) from error
