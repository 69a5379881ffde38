"""`tenantry install-check`: what a person runs after an installation, and before a call at night."""

from __future__ import annotations

import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

import click

from tenantry.api.names import SYSTEM_NAMESPACE
from tenantry.cli.connecting import carried_out, connected, connection_options
from tenantry.cli.findings import Finding, as_report, as_text, exit_code
from tenantry.cli.inspecting import Inspection, Inspector, Scope
from tenantry.cli.manifests import as_json
from tenantry.ports.kube import KubeError

T = TypeVar("T")


class NotAsked(click.ClickException):
    """Nobody could be asked."""

    exit_code = 2


@click.command("install-check")
@click.option("--namespace", default=SYSTEM_NAMESPACE, show_default=True, help="The operator's.")
@click.option("--workspace", "workspaces", multiple=True, help="Only tenants of this one; can be given again.")
@click.option("--no-pods", is_flag=True, help="The operator runs elsewhere: look for no Deployment and no pod.")
@connection_options
@click.option("-o", "--output", type=click.Choice(["json"]), help="For programs.")
def install_check(
    *,
    namespace: str,
    workspaces: tuple[str, ...],
    no_pods: bool,
    context: str | None,
    kubeconfig: str | None,
    output: str | None,
) -> None:
    """Check the installation: kinds, admission, rights, the operator, and how everything that it looks after is doing.

    It writes nothing. Exit code 0: all is well; 1: something is wrong; 2: the cluster could not be asked, or nothing
    wrong was found but not everything could be seen.
    """
    findings = answered(_check(Scope(namespace, workspaces, pods=not no_pods), context, kubeconfig))
    text = as_json(as_report(findings)) if output else as_text(findings)
    click.echo(text, nl=False)
    sys.exit(exit_code(findings))


async def _check(scope: Scope, context: str | None, kubeconfig: str | None) -> list[Finding]:
    async with connected(context, kubeconfig) as client:
        with client.asking():
            return await Inspection(Inspector.of(client), scope).carry_out()


def answered(work: Coroutine[Any, Any, T]) -> T:
    """The result of looking; where nobody could be asked, one line and exit code 2.

    Raises:
        NotAsked: with what is wrong.
    """
    try:
        return carried_out(work)
    except click.ClickException as error:
        raise NotAsked(error.message) from error
    except (KubeError, FileNotFoundError) as error:
        raise NotAsked(str(error)) from error
