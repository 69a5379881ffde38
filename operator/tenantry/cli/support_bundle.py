"""`tenantry support-bundle`: what somebody who helps needs to see, in one file, and no secret in it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from tenantry.api.names import SYSTEM_NAMESPACE
from tenantry.cli.archive import MEGABYTE, Archive, ArchiveError, refuse_to_overwrite
from tenantry.cli.bundling import Bundling, Order
from tenantry.cli.connecting import connected, connection_options, say
from tenantry.cli.inspecting import Inspector, Scope
from tenantry.cli.install_check import answered

FOLDER: Final = "tenantry-support-bundle"


@click.command("support-bundle")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path(f"{FOLDER}.tar.gz"),
    show_default=True,
    help="Must not be there yet.",
)
@click.option("--namespace", default=SYSTEM_NAMESPACE, show_default=True, help="The operator's.")
@click.option("--workspace", "workspaces", multiple=True, help="Only tenants of this one; can be given again.")
@click.option(
    "--no-pods", is_flag=True, help="The operator runs elsewhere: look for no Deployment, pod, log or metric."
)
@click.option("--log-size", type=click.IntRange(1, 100), default=5, show_default=True, help="MB of each log, its end.")
@click.option("--max-size", type=click.IntRange(1, 10_000), default=200, show_default=True, help="MB of all, unpacked.")
@connection_options
def support_bundle(
    *,
    output: Path,
    namespace: str,
    workspaces: tuple[str, ...],
    no_pods: bool,
    log_size: int,
    max_size: int,
    context: str | None,
    kubeconfig: str | None,
) -> None:
    """Write what tells how the installation is doing into a tar.gz, for somebody who helps.

    Secrets are not asked for. Values of environments, free texts and what looks like a secret are taken out; look
    through it all the same before you give it away.
    """
    order = Order(Scope(namespace, workspaces, pods=not no_pods), log_size * MEGABYTE)
    try:
        refuse_to_overwrite(output)  # before anybody is asked anything
        left_out = answered(_bundle(output, order, max_size * MEGABYTE, context, kubeconfig))
    except ArchiveError as error:
        raise click.ClickException(str(error)) from error
    if left_out:
        say(f"{left_out} things could not be had or are too big: manifest.json in it names them")
    click.echo(f"written: {output}")


async def _bundle(path: Path, order: Order, limit: int, context: str | None, kubeconfig: str | None) -> int:
    """Write it; how much was left out."""
    async with connected(context, kubeconfig) as client:
        with client.asking():
            now = await client.now()
            with Archive(path, FOLDER, now, limit) as archive:
                await Bundling(Inspector.of(client), order, archive).carry_out()
                return archive.left_out
