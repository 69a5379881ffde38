"""`tenantry deletions`: what was deleted, what is held, and the word that lets a held deletion go on or end."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import click

from tenantry.api.names import ANNOTATION_ABORT_DELETION, ANNOTATION_CONFIRM_DELETION
from tenantry.api.resources import TENANT_RECORDS, TENANTS, Ref
from tenantry.api.tenantrecord import RecordState, TenantRecord
from tenantry.cli.connecting import ManagementClient, carried_out, connected, connection_options, say
from tenantry.cli.departed import (
    HEADINGS,
    is_held,
    is_undecided,
    ready_of,
    row_of_record,
    row_of_tenant,
    table,
    why_not_held,
)
from tenantry.cli.manifests import as_json, as_list, as_yaml
from tenantry.ports.kube import ConflictError, ForbiddenError, KubeError, NotFoundError
from tenantry.ports.world import Json

Command = TypeVar("Command", bound=Callable[..., Any])
ATTEMPTS: Final = 3


@dataclass(frozen=True, slots=True)
class Word:
    """What a person can say about a deletion that is held.

    Attributes:
        annotation: Says it; its value is the Tenant's UID, so that it holds for this very deletion.
        opposite: Is taken back with it: the last word counts.
        applies: To which Tenants it can be said.
    """

    annotation: str
    opposite: str
    done: str
    means: str
    applies: Callable[[Json], bool]


def _is_waiting(tenant: Json) -> bool:
    """Its deletion is held, or will turn out to be: a word that touches nothing can be said to it in advance."""
    return is_held(tenant) or is_undecided(tenant)


CONFIRM: Final = Word(
    ANNOTATION_CONFIRM_DELETION,
    ANNOTATION_ABORT_DELETION,
    "confirmed",
    "its deletion goes on as its window says",
    is_held,
)
ABORT: Final = Word(
    ANNOTATION_ABORT_DELETION,
    ANNOTATION_CONFIRM_DELETION,
    "aborted",
    "the Tenant goes, what it has runs on unmanaged",
    _is_waiting,
)
SEARCHED_FOR: Final = "heard when its lost record is found, if its deletion is held then"


@dataclass(frozen=True, slots=True)
class Choice:
    """Which Tenants are meant: those that are named, or all that are held in a workspace or anywhere."""

    refs: tuple[Ref, ...] = ()
    workspace: str = ""


@click.group()
def deletions() -> None:
    """Deletions of tenants: what can be had back, and what waits for somebody to say so."""


@deletions.command("list")
@click.option("--workspace", default="", help="Only of this one. [default: all]")
@connection_options
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), help="The objects instead of a table.")
def list_(workspace: str, *, context: str | None, kubeconfig: str | None, output: str | None) -> None:
    """Show what is deleted and not gone: TenantRecords that are not Active, and Tenants whose deletion is held."""
    click.echo(carried_out(_list(workspace, context, kubeconfig, output)), nl=False)


async def _list(workspace: str, context: str | None, kubeconfig: str | None, output: str | None) -> str:
    async with connected(context, kubeconfig) as client:
        with client.asking():
            tenants = await _waiting(client, workspace, _is_waiting)
            records = await _departed(client, workspace)
    if output is not None:
        found = as_list([*tenants, *records])
        return as_json(found) if output == "json" else as_yaml([found])
    rows = [row_of_tenant(body) for body in tenants]
    rows += [row_of_record(TenantRecord.model_validate(body)) for body in records]
    if not rows:
        say("nothing is deleted or held" + (f" in {workspace}" if workspace else ""))
        return ""
    return table(HEADINGS, sorted(rows, key=lambda row: (row[2], row[1], row[3])))


async def _waiting(client: ManagementClient, workspace: str, wanted: Callable[[Json], bool]) -> list[Json]:
    return [body for body in (await client.list(TENANTS, namespace=workspace)).items if wanted(body)]


async def _departed(client: ManagementClient, workspace: str) -> list[Json]:
    """The records that are not Active; of one workspace also without the right to read them: none."""
    try:
        listing = await client.list(TENANT_RECORDS)
    except ForbiddenError as error:
        if not workspace:
            raise
        say(f"warning: only held deletions are shown, you may not read records: {error.message}")
        return []
    return [
        body
        for body in listing.items
        if body["spec"]["state"] != RecordState.ACTIVE and workspace in ("", body["spec"]["workspace"])
    ]


# --- the word -----------------------------------------------------------------------------------------------------
def choice_options(command: Command) -> Command:
    """The options that say which Tenants are meant."""
    for option in (
        click.option("--all", "everywhere", is_flag=True, help="All whose deletion is held, in every workspace."),
        click.option("--workspace", default="", help="All of this one; with NAMES, where these are."),
        click.argument("names", nargs=-1, metavar="[WORKSPACE/NAME]..."),
    ):
        command = option(command)
    return command


@deletions.command()
@choice_options
@connection_options
@click.option("--yes", is_flag=True, help="Don't ask.")
def confirm(
    names: tuple[str, ...],
    *,
    workspace: str,
    everywhere: bool,
    context: str | None,
    kubeconfig: str | None,
    yes: bool,
) -> None:
    """Let deletions that are held go on, those of protected Tenants too.

    What is deleted can be had back until its window is over (spec.deletion.window; 0s: it can't).
    """
    choice = _choice(names, workspace, everywhere=everywhere)
    if not yes and not sys.stdin.isatty():
        raise click.ClickException("nobody can be asked, as this is no terminal: look at the list, then say --yes")
    _tell(carried_out(_say_word(CONFIRM, choice, context, kubeconfig, ask=not yes)))


@deletions.command()
@choice_options
@connection_options
def abort(
    names: tuple[str, ...], *, workspace: str, everywhere: bool, context: str | None, kubeconfig: str | None
) -> None:
    """Let the Tenants go and touch nothing that they have: it runs on, and applying them again takes it over."""
    choice = _choice(names, workspace, everywhere=everywhere)
    _tell(carried_out(_say_word(ABORT, choice, context, kubeconfig, ask=False)))


def _choice(names: tuple[str, ...], workspace: str, *, everywhere: bool) -> Choice:
    if everywhere and (workspace or names):
        raise click.UsageError("--all is for itself: leave --workspace and names out")
    if not (everywhere or workspace or names):
        raise click.UsageError("say which: WORKSPACE/NAME, --workspace or --all")
    refs = []
    for name in names:
        before, slash, after = name.rpartition("/")
        where = before or workspace
        if not where or not after or (slash and workspace not in ("", before)):
            raise click.UsageError(f"{name}: say WORKSPACE/NAME, or NAME with --workspace")
        refs.append(Ref(TENANTS, where, after))
    return Choice(tuple(dict.fromkeys(refs)), "" if refs else workspace)


def _tell(all_done: bool) -> None:
    if not all_done:
        sys.exit(1)


async def _say_word(word: Word, choice: Choice, context: str | None, kubeconfig: str | None, *, ask: bool) -> bool:
    """Say it for each; whether that could be done for all."""
    async with connected(context, kubeconfig) as client:
        with client.asking():
            held, troubles = await _chosen(client, choice, word)
        for trouble in troubles:
            say(trouble)
        if not held and not troubles:
            say("no deletion is held")
        if held and ask:
            say(table(HEADINGS, [row_of_tenant(body) for body in held]))
            if not click.confirm(f"Let {_many(len(held))} go on?", err=True):
                say("nothing is confirmed")
                return False
        done = [await _annotate(client, word, body) for body in held]
        return all(done) and not troubles


async def _chosen(client: ManagementClient, choice: Choice, word: Word) -> tuple[list[Json], list[str]]:
    """The Tenants whose deletion is held, and what is to be said of those that were named and are not."""
    if not choice.refs:
        return await _waiting(client, choice.workspace, word.applies), []
    held, troubles = [], []
    for ref in choice.refs:
        try:
            body = await client.get(ref)
        except NotFoundError:
            troubles.append(f"{ref.namespace}/{ref.name}: there is no such Tenant")
            continue
        if word.applies(body):
            held.append(body)
        else:
            troubles.append(f"{ref.namespace}/{ref.name}: {why_not_held(body)}")
    return held, troubles


async def _annotate(client: ManagementClient, word: Word, tenant: Json) -> bool:
    """Say it to the very Tenant that was looked at, as long as it is held for the reason that was seen."""
    ref = Ref(TENANTS, tenant["metadata"]["namespace"], tenant["metadata"]["name"])
    name, uid, reason = f"{ref.namespace}/{ref.name}", tenant["metadata"]["uid"], ready_of(tenant)["reason"]
    for _ in range(ATTEMPTS):
        said = tenant["metadata"].get("annotations") or {}
        if said.get(word.annotation) == uid and word.opposite not in said:
            click.echo(f"{name}: {word.done} already")
            return True
        change = {word.annotation: uid, word.opposite: None}
        version = tenant["metadata"]["resourceVersion"]
        try:
            await client.amend(ref, {"metadata": {"uid": uid, "resourceVersion": version, "annotations": change}})
        except ConflictError:
            try:
                tenant = await client.get(ref)
            except KubeError:
                break
            if tenant["metadata"]["uid"] != uid or not word.applies(tenant):
                break
            if word is CONFIRM and ready_of(tenant)["reason"] != reason:
                break
        except KubeError as error:
            say(f"{name}: not {word.done}: {error.message}")
            return False
        else:
            click.echo(f"{name}: {word.done}: {SEARCHED_FOR if is_undecided(tenant) else word.means}")
            return True
    say(f"{name}: not {word.done}: it was changed meanwhile, look at it again")
    return False


def _many(count: int) -> str:
    return "this deletion" if count == 1 else f"these {count} deletions"
