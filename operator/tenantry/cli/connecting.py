"""How commands about the management cluster get there: their common options, their client, their errors."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

import click
import orjson

from tenantry.adapters.kube.management import ManagementConfigError
from tenantry.adapters.kube.shape import checked, collection_of, parsed, ref_of
from tenantry.cli.contexts import ContextError, kubeconfig_paths, load_context
from tenantry.cli.person import FIELD_MANAGER, PersonClient, person_client
from tenantry.cli.planning import JoinError, asking
from tenantry.ports.world import Json

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., Any])


class ManagementClient(PersonClient):
    """A person at the management cluster."""

    @property
    def described(self) -> str:
        """What it is called in messages."""
        return f"the management cluster ({self.server})"

    async def make(self, body: Json) -> Json:
        """POST in the person's name. Raises AlreadyExistsError."""
        ref = ref_of(body)
        target = f"{collection_of(ref.resource, ref.namespace)}?fieldManager={FIELD_MANAGER}&fieldValidation=Strict"
        return checked(parsed(await self._transport.request("POST", target, orjson.dumps(body))))

    def asking(self) -> contextlib.AbstractContextManager[None]:
        """Whatever it refuses inside becomes one line for the person: a JoinError."""
        return asking(
            self.described,
            missing=f"{self.described} lacks it, or does not know the kind: tenantry crds | "
            "kubectl apply --server-side -f -",
        )


def connection_options(command: Command) -> Command:
    """The options that say which cluster is meant."""
    for option in (
        click.option("--kubeconfig", type=click.Path(), help="Of the management cluster. [default: KUBECONFIG]"),
        click.option("--context", help="In that kubeconfig. [default: the current one]"),
    ):
        command = option(command)
    return command


@contextlib.asynccontextmanager
async def connected(context: str | None, kubeconfig: str | None) -> AsyncIterator[ManagementClient]:
    """A client with the rights of the person who runs the command; without a kubeconfig, those of this pod.

    Raises:
        ContextError, ManagementConfigError: there is no way to the cluster.
    """
    paths = kubeconfig_paths(kubeconfig)
    if paths is None and context is not None:
        raise ContextError("there is no kubeconfig: give --kubeconfig, or set KUBECONFIG")
    client = ManagementClient.of(await person_client(load_context(paths, context) if paths else None))
    try:
        yield client
    finally:
        await client.close()


def carried_out(work: Coroutine[Any, Any, T]) -> T:
    """The result of a command's work; its errors as one line.

    Raises:
        ClickException: with what is wrong.
    """
    try:
        return asyncio.run(work)
    except (ContextError, ManagementConfigError, JoinError) as error:
        raise click.ClickException(str(error)) from error


def say(line: str) -> None:
    """Progress goes to standard error, so that the output can be piped."""
    click.echo(line, err=True)
