"""`tenantry preview`: what a Tenant's held spec would do, readably."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Final

import click

from tenantry.api.base import parse_duration
from tenantry.api.conditions import ConditionType
from tenantry.api.names import ANNOTATION_DRY_RUN
from tenantry.api.preview import Preview
from tenantry.api.resources import TENANTS, Ref
from tenantry.api.tenant import Tenant
from tenantry.cli.connecting import ManagementClient, carried_out, connected, connection_options
from tenantry.cli.departed import table
from tenantry.cli.manifests import as_json, as_yaml
from tenantry.cli.planning import JoinError
from tenantry.ports.kube import NotFoundError
from tenantry.ports.world import Json

HEADINGS: Final = ("ACTION", "WHAT", "DETAIL")
POLL: Final = 0.3


@click.command()
@click.argument("name", metavar="WORKSPACE/NAME")
@connection_options
@click.option(
    "--wait/--no-wait", default=True, show_default=True, help="Until the operator has looked at the newest spec."
)
@click.option("--timeout", default="30s", show_default=True, help="How long to wait.")
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), help="status.preview as it is.")
def preview(
    name: str, *, context: str | None, kubeconfig: str | None, wait: bool, timeout: str, output: str | None
) -> None:
    """Show what a spec that is held by the annotation tenantry.io/dry-run would create, change and destroy."""
    workspace, _, tenant = name.rpartition("/")
    if not workspace or not tenant:
        raise click.UsageError(f"{name}: say WORKSPACE/NAME")
    try:
        patience = parse_duration(timeout).total_seconds() if wait else 0.0
    except ValueError as error:
        raise click.UsageError(f"--timeout: {error}") from error
    click.echo(carried_out(_preview(Ref(TENANTS, workspace, tenant), context, kubeconfig, patience, output)), nl=False)


async def _preview(ref: Ref, context: str | None, kubeconfig: str | None, patience: float, output: str | None) -> str:
    async with connected(context, kubeconfig) as client:
        body = await _seen(client, ref, patience)
    if output is None:
        return text_of(body)
    found = body.get("status", {}).get("preview") or {}
    return as_json(found) if output == "json" else as_yaml([found])


async def _seen(client: ManagementClient, ref: Ref, patience: float) -> Json:
    """The Tenant, once its newest spec was looked at.

    Raises:
        JoinError: it is not there, or was not looked at in time.
    """
    end = time.monotonic() + patience
    while True:
        with client.asking():
            try:
                body = await client.get(ref)
            except NotFoundError:
                raise JoinError(f"there is no {ref}") from None
        tenant = Tenant.model_validate(body)
        if not tenant.dry_run or _is_judged(tenant) or not patience:
            return body
        if time.monotonic() > end:
            raise JoinError(
                f"generation {tenant.metadata.generation} of {ref} was not looked at within {patience:g} s: is "
                "`tenantry operator` running?"
            )
        await asyncio.sleep(POLL)


def _is_judged(tenant: Tenant) -> bool:
    """Whether the condition ChangeHeld is about the newest spec."""
    return any(
        each.type == ConditionType.CHANGE_HELD and each.observed_generation == tenant.metadata.generation
        for each in tenant.status.conditions
    )


def text_of(body: Json) -> str:
    """What there is to say of a Tenant's held spec, in lines."""
    return "".join(f"{line}\n" for line in _lines(Tenant.model_validate(body)))


def _lines(tenant: Tenant) -> Iterator[str]:
    called, found = f"Tenant {tenant.workspace}/{tenant.name}", tenant.status.preview
    if not tenant.dry_run:
        yield f"{called}: nothing is held, as it has no annotation {ANNOTATION_DRY_RUN}"
        return
    if not _is_judged(tenant):
        yield f"{called}: generation {tenant.metadata.generation} was not looked at yet"
        return
    if found is None:
        yield f"{called}: nothing is held, as its spec is the one that is applied"
        return
    applied = next((each.observed_generation for each in tenant.status.conditions if each.type == "Ready"), 0)
    yield f"{called}: generation {found.generation} is held" + (f", {applied} is applied" if applied else "")
    yield from _sections(found)


def _sections(found: Preview) -> Iterator[str]:
    yield f"It {_line(found.message)}"
    if found.data_loss_reasons:
        yield "\nDATA LOSS"
        yield from (f"  {_line(reason)}" for reason in found.data_loss_reasons)
    if found.refusals:
        yield "\nWOULD NOT GET READY"
        yield from (f"  {each.reason} ({each.condition}): {_line(each.message)}" for each in found.refusals)
    if found.items:
        rows = [(each.action, each.what, each.detail or "-") for each in found.items]
        yield f"\n{table(HEADINGS, rows)}".rstrip("\n")
    if found.left_out:
        yield f"and {found.left_out} more, which status.preview leaves out"
    if found.fields:
        yield f"\nFields that differ: {_line(', '.join(found.fields))}"


def _line(text: str) -> str:
    """One line, whatever is in it."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
