"""`tenantry cluster`: commands about target clusters."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime

import click

from tenantry.adapters.kube.certificates import checked_ca
from tenantry.adapters.kube.management import ManagementConfigError
from tenantry.adapters.kube.refusal import KubeconfigRefused
from tenantry.api.base import parse_duration
from tenantry.api.names import SYSTEM_NAMESPACE
from tenantry.cli.contexts import Context, ContextError, kubeconfig_paths, load_context
from tenantry.cli.joining import Join
from tenantry.cli.manifests import TARGET_RIGHTS, as_json, as_list, as_yaml, bundled
from tenantry.cli.person import PersonClient, person_client
from tenantry.cli.planning import HIDDEN, JoinError, Order, Plan, Survey
from tenantry.desired.joining import Wishes, cluster_manifest, token_secret
from tenantry.ports.world import Json


@click.group()
def cluster() -> None:
    """Target clusters."""


@cluster.command()
@click.argument("name")
@click.option("--context", help="Of the target, in your kubeconfig. [default: the current one of --target-kubeconfig]")
@click.option("--target-kubeconfig", type=click.Path(), help="Where that context is. [default: as --kubeconfig]")
@click.option(
    "--kubeconfig", type=click.Path(), help="Of the management cluster, by its current context. [default: KUBECONFIG]"
)
@click.option("--namespace", default=SYSTEM_NAMESPACE, show_default=True, help="Where the operator runs.")
@click.option("--server", help="URL of the target's API server as the operator reaches it. [default: as you do]")
@click.option("--domain", help="Tenants get hosts under it.")
@click.option("--region", help="For tenants that are placed by region.")
@click.option("--environment", help="For tenants that are placed by environment.")
@click.option("--ingress-class", help="The target's IngressClass for tenants' hosts.")
@click.option("--default/--no-default", default=None, help="Whether it takes tenants without a placement.")
@click.option("--allowed-workspaces", type=click.Choice(["All", "None"]), help="[default for a new one: None]")
@click.option("--token-secret", is_flag=True, help="A token that holds until it is deleted; the default.")
@click.option("--token-duration", help="A token that expires, such as 2160h; the target may shorten it.")
@click.option("--timeout", type=click.FloatRange(0), default=60, show_default=True, help="Seconds to wait for Ready.")
@click.option("--dry-run", is_flag=True, help="Look and check, print what would be applied, write nothing.")
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), help="Print the Cluster in the end.")
def join(  # noqa: PLR0913 - one parameter an option, by click's nature
    name: str,
    *,
    context: str | None,
    target_kubeconfig: str | None,
    kubeconfig: str | None,
    namespace: str,
    server: str | None,
    token_secret: bool,
    token_duration: str | None,
    timeout: float,
    dry_run: bool,
    output: str | None,
    **wishes: str | bool | None,
) -> None:
    """Make a kubeconfig with the operator's rights on a target, and register the target as Cluster NAME.

    You need to be an administrator of the target. Run it again to renew the kubeconfig: the former token ends when the
    operator uses the new one.
    """
    if context is None and target_kubeconfig is None:
        raise click.UsageError("name the target: --context, --target-kubeconfig or both")
    order = Order(
        name=name,
        namespace=namespace,
        server=server,
        wishes=Wishes(**wishes),  # type: ignore[arg-type]  # click has checked the types
        token_seconds=_token_seconds(token_duration, secret=token_secret),
        patience=timeout,
    )
    try:
        here = _target_context(context, target_kubeconfig or kubeconfig_paths(kubeconfig))
        there = kubeconfig_paths(kubeconfig)
        text = asyncio.run(_join(order, here, load_context(there) if there else None, dry_run, output))
    except (ContextError, JoinError, FileNotFoundError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(text, nl=False)


async def _join(order: Order, here: Context, there: Context | None, dry_run: bool, output: str | None) -> str:
    async with contextlib.AsyncExitStack() as stack:
        target = await _client(stack, f"context {here.name!r}", here)
        management = await _client(stack, "the management cluster", there)
        plan = await Survey(order, here, target, management, _say).plan()
        if dry_run:
            return _rehearsal(plan, output)
        body = await Join(plan, target, management, _say).carry_out()
        if not order.wishes.allowed_workspaces and (body["spec"].get("allowedWorkspaces") or {}).get("from") == "None":
            _say("no workspace may use it yet: --allowed-workspaces All, or say which in spec.allowedWorkspaces")
        return _shown(body, output) or f"Cluster {order.name} is {'Ready' if order.patience else 'registered'}\n"


async def _client(stack: contextlib.AsyncExitStack, what: str, context: Context | None) -> PersonClient:
    try:
        client = await person_client(context)
    except ManagementConfigError as error:
        raise JoinError(f"{what}: {error}") from None
    stack.push_async_callback(client.close)
    return client


def _target_context(name: str | None, paths: str | None) -> Context:
    """The target's context, its CA looked at first: OpenSSL's own words about a bad one help nobody."""
    if paths is None:
        raise ContextError("there is no kubeconfig: give --target-kubeconfig, or set KUBECONFIG")
    context = load_context(paths, name)
    if (authority := context.authority()) is not None:
        try:
            checked_ca(authority, now=datetime.now(UTC))
        except KubeconfigRefused as refused:
            raise ContextError(f"context {context.name!r}: {refused.message}") from None
    return context


def _token_seconds(duration: str | None, *, secret: bool) -> int | None:
    if duration is None:
        return None
    if secret:
        raise click.UsageError("--token-secret or --token-duration, not both")
    try:
        seconds = int(parse_duration(duration).total_seconds())
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--token-duration") from None
    if seconds < 600:
        raise click.BadParameter("Kubernetes makes no token for less than 10m", param_hint="--token-duration")
    return seconds


def _rehearsal(plan: Plan, output: str | None) -> str:
    """What would be applied on either side, without a token."""
    order = plan.order
    on_target = bundled(TARGET_RIGHTS)
    if order.token_seconds is None:
        on_target.append(token_secret("tenantry-operator-xxxxxxxx", cluster=order.name, joined_by=plan.joined_by))
    on_management: list[Json] = [plan.secret(plan.kubeconfig(HIDDEN))]
    if plan.existing is None:
        on_management.append(cluster_manifest(order.name, order.wishes))
    elif order.wishes.spec():
        on_management.append({**cluster_manifest(order.name, order.wishes), "spec": order.wishes.spec()})
    if output == "json":
        return as_json({"target": as_list(on_target), "management": as_list(on_management)})
    return f"# On the target:\n{as_yaml(on_target)}# On the management cluster:\n{as_yaml(on_management)}"


def _shown(body: Json, output: str | None) -> str:
    """An object as kubectl shows it with -o; empty where that was not asked for."""
    shown = {**body, "metadata": {key: value for key, value in body["metadata"].items() if key != "managedFields"}}
    return {"yaml": as_yaml([shown]), "json": as_json(shown)}.get(output or "", "")


def _say(line: str) -> None:
    """Progress goes to standard error, so that the output can be piped."""
    click.echo(line, err=True)
