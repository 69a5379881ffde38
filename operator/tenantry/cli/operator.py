"""`tenantry operator`: run the operator in this process."""

from __future__ import annotations

import asyncio
import re
from dataclasses import asdict
from datetime import timedelta
from typing import Any, Final

import click

from tenantry.adapters.kube.management import ManagementConfigError
from tenantry.api.names import LEADER_LEASE, SYSTEM_NAMESPACE
from tenantry.decide.deletion import StopRule
from tenantry.decide.election import Timings
from tenantry.decide.rollout import Pace
from tenantry.ports.kube import KubeError
from tenantry.reconcile.identity import IdentityError
from tenantry.runtime.http import parse_address
from tenantry.runtime.logs import LogFormat
from tenantry.runtime.options import Options

_LEASE: Final = re.compile(r"(?!slot-)[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
_INSTANCE: Final = re.compile(r"[A-Za-z0-9._:-]{1,253}")


def _address(_context: click.Context, _option: click.Parameter, value: str) -> str:
    """Refuses what is no address before anything is begun."""
    try:
        parse_address(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return value


def _lease(_context: click.Context, _option: click.Parameter, value: str) -> str:
    if not _LEASE.fullmatch(value):
        message = f"{value!r} is no name for it: use up to 63 lower-case letters, digits, dots and dashes, not slot-..."
        raise click.BadParameter(message)
    return value


def _instance(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    if value is not None and not _INSTANCE.fullmatch(value):
        raise click.BadParameter(f"{value!r}: use up to 253 letters, digits, dots, dashes, underscores and colons")
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
@click.option(
    "--leader-elect/--no-leader-elect",
    default=True,
    show_default=True,
    help="Work only while holding a Lease, so that several may run and one works.",
)
@click.option(
    "--leader-elect-resource-name",
    default=LEADER_LEASE,
    show_default=True,
    callback=_lease,
    help="Of the Lease, in --namespace.",
)
@click.option(
    "--leader-elect-lease-duration",
    type=click.IntRange(1, 3600),
    default=15,
    show_default=True,
    help="Seconds after which others take over from one that does not renew.",
)
@click.option(
    "--leader-elect-renew-deadline",
    type=click.FloatRange(0.5),
    default=10,
    show_default=True,
    help="Seconds without a renewal after which the leader ends.",
)
@click.option(
    "--leader-elect-retry-period",
    type=click.FloatRange(0.1),
    default=2,
    show_default=True,
    help="Seconds between two renewals.",
)
@click.option("--instance", callback=_instance, help="This one's name among several. [default: host name, random end]")
@click.option("--allow-loopback-targets", is_flag=True, help="Targets and servers on this machine: for development.")
@click.option(
    "--dns-server",
    "dns_servers",
    multiple=True,
    help="For custom hosts' proofs and External databases. [default: the system's]",
)
@click.option("--log-format", type=click.Choice([f.value for f in LogFormat]), default="text", show_default=True)
@click.option("--log-level", default="INFO", show_default=True)
def operator(**flags: Any) -> None:
    """Run the operator until it is told to stop (SIGINT or SIGTERM)."""
    # Imported here: it brings kopf and half of the start-up time, which the other commands can do without.
    from tenantry.runtime.operator import run_operator  # noqa: PLC0415 - see above

    options = _options(flags)
    try:
        asyncio.run(run_operator(options))
    except (ManagementConfigError, IdentityError, KubeError) as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:  # such as an address that somebody else listens on
        raise click.ClickException(error.strerror or str(error)) from error


def _options(flags: dict[str, Any]) -> Options:
    """The flags, as click has checked them one by one.

    Raises:
        click.UsageError: some of them do not go together.
    """
    take = flags.pop
    stop = StopRule(
        count=take("mass_deletion_count"),
        span=timedelta(seconds=take("mass_deletion_span")),
        share=take("mass_deletion_share"),
        terminating=take("hold_terminating"),
    )
    rollout = Pace(settle=take("rollout_settle"), patience=take("rollout_patience"))
    timings = Timings(
        duration=take("leader_elect_lease_duration"),
        renew=take("leader_elect_renew_deadline"),
        retry=take("leader_elect_retry_period"),
    )
    if (problem := timings.problem()) is not None:
        given = "--leader-elect-lease-duration {duration:g}, --leader-elect-renew-deadline {renew:g}, "
        given += "--leader-elect-retry-period {retry:g}"
        raise click.UsageError(f"{given.format(**asdict(timings))}: {problem}")
    log_format = LogFormat(take("log_format"))
    return Options(log_format=log_format, stop=stop, rollout=rollout, leader_elect_timings=timings, **flags)
