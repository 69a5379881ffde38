"""`tenantry undelete`: a deleted tenant is had back by making its Tenant again from its record."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import click

from tenantry.api.base import parse_duration
from tenantry.api.resources import NAMESPACES, TENANT_RECORDS, TENANTS, Ref
from tenantry.api.tenantrecord import RecordState, TenantRecord
from tenantry.cli.connecting import ManagementClient, carried_out, connected, connection_options, say
from tenantry.cli.departed import obstacle, of_tenant, undeleted
from tenantry.cli.planning import JoinError
from tenantry.desired.joining import readiness
from tenantry.ports.kube import AlreadyExistsError, NotFoundError
from tenantry.ports.world import Json

POLL: Final = 0.3
STALLED_SECONDS: Final = 5.0
"""A Tenant that stays Stalled for so long will not get Ready by waiting."""


def _seconds(_context: click.Context, _option: click.Parameter, value: str) -> float:
    try:
        return parse_duration(value).total_seconds()
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command()
@click.argument("record")
@connection_options
@click.option("--wait/--no-wait", default=True, show_default=True, help="Until the Tenant is Ready.")
@click.option("--timeout", default="2m", show_default=True, callback=_seconds, help="How long to wait.")
def undelete(record: str, *, context: str | None, kubeconfig: str | None, wait: bool, timeout: float) -> None:
    """Give a deleted tenant back all it had: RECORD is the name of its TenantRecord, or WORKSPACE/NAME.

    `tenantry deletions list` shows the records. Annotations and labels of the former Tenant are not kept.
    """
    click.echo(carried_out(_undelete(record, context, kubeconfig, timeout if wait else None)))


async def _undelete(name: str, context: str | None, kubeconfig: str | None, patience: float | None) -> str:
    async with connected(context, kubeconfig) as client:
        with client.asking():
            record, namesakes = await _chosen(client, name)
            body = undeleted(record, namesakes, await client.now())
            try:
                tenant = await client.make(body)
            except AlreadyExistsError as error:
                raise JoinError(f"TenantRecord {record.name!r} can't be undeleted: {error.message}") from None
        called = f"Tenant {record.spec.workspace}/{record.spec.tenant}"
        if patience is None:
            return f"{called} is made again"
        say(f"{called} is made again")
        await Waiting(client, record, tenant).until_ready(patience)
        return f"{called} is Ready, with all that TenantRecord {record.name} kept"


# --- which record -------------------------------------------------------------------------------------------------
async def _chosen(client: ManagementClient, name: str) -> tuple[TenantRecord, list[TenantRecord]]:
    """The record that is meant and can be undeleted, and all of its Tenant's name.

    Raises:
        JoinError: there is none, or more than one.
    """
    records = [TenantRecord.model_validate(body) for body in (await client.list(TENANT_RECORDS)).items]
    workspace, slash, tenant = name.partition("/")
    if slash:
        namesakes = of_tenant(records, workspace, tenant)
        return await _only(client, name, namesakes), namesakes
    named = next((each for each in records if each.name == name), None)
    if named is None:
        raise JoinError(f"there is no TenantRecord {name!r}: `tenantry deletions list` shows those that there are")
    if (why := await _obstacle(client, named)) is not None:
        raise JoinError(f"TenantRecord {name!r} can't be undeleted: {why}")
    return named, of_tenant(records, named.spec.workspace, named.spec.tenant)


async def _only(client: ManagementClient, name: str, namesakes: list[TenantRecord]) -> TenantRecord:
    """The one record of a Tenant's name that can be undeleted."""
    obstacles = [(each, await _obstacle(client, each)) for each in namesakes]
    possible = [each for each, why in obstacles if why is None]
    if len(possible) == 1:
        return possible[0]
    if possible:
        told = ", ".join(
            f"{each.name} ({each.spec.state}, deleted {each.spec.deleted_at or 'at an unknown time'})"
            for each in possible
        )
        raise JoinError(f"{name}: there are {len(possible)} that can be undeleted, say which: {told}")
    told = "; ".join(f"{each.name}: {why}" for each, why in obstacles)
    raise JoinError(f"{name}: there is no TenantRecord of it that can be undeleted" + (f": {told}" if told else ""))


async def _obstacle(client: ManagementClient, record: TenantRecord) -> str | None:
    if record.spec.state in (RecordState.ACTIVE, RecordState.PURGING):
        workspace = None
    else:
        workspace = await _found(client, Ref(NAMESPACES, "", record.spec.workspace))
    return obstacle(record, workspace, await _found(client, Ref(TENANTS, record.spec.workspace, record.spec.tenant)))


async def _found(client: ManagementClient, ref: Ref) -> Json | None:
    try:
        return await client.get(ref)
    except NotFoundError:
        return None


# --- seeing it through --------------------------------------------------------------------------------------------
class Waiting:
    """For a Tenant that was made again, until it is Ready with what its record kept."""

    def __init__(self, client: ManagementClient, record: TenantRecord, tenant: Json) -> None:
        self._client = client
        self._record = record
        self._uid = tenant["metadata"]["uid"]
        self._ref = Ref(TENANTS, record.spec.workspace, record.spec.tenant)

    async def until_ready(self, patience: float) -> None:
        """Says each new thing that is told on the way.

        Args:
            patience: Seconds.

        Raises:
            JoinError: it is not Ready in time, can't be, or its record was purged meanwhile.
        """
        told, stalled_since, end = "", None, time.monotonic() + patience
        while True:
            tenant = await self._look()
            state, now = readiness(tenant, requested_at=None), time.monotonic()
            if state.ready and tenant["status"].get("record") == self._record.name:
                return
            if state.message != told:
                told = state.message
                say(f"waiting for {self._ref}: {told}")
            stalled_since = (stalled_since or now) if state.stalled else None
            if now > end or (stalled_since is not None and now - stalled_since > STALLED_SECONDS):
                raise JoinError(f"{self._ref} is made again but not Ready: {told}")
            await asyncio.sleep(POLL)

    async def _look(self) -> Json:
        """The Tenant, as long as it and its record are what they were."""
        with self._client.asking():
            record = await _found(self._client, Ref(TENANT_RECORDS, "", self._record.name))
            tenant = await _found(self._client, self._ref)
        if tenant is None or tenant["metadata"]["uid"] != self._uid or "deletionTimestamp" in tenant["metadata"]:
            raise JoinError(f"{self._ref} was made again, and deleted by somebody else meanwhile")
        same = record is not None and record["metadata"]["uid"] == self._record.metadata.uid
        if record is None or not same or record["spec"]["state"] == RecordState.PURGING:
            raise JoinError(
                f"it was too late: TenantRecord {self._record.name!r} was purged meanwhile. {self._ref} was made again "
                "and begins empty: delete it if it is not to"
            )
        return tenant
