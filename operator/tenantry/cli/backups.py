"""`tenantry backups`: what is in a store, with or without TenantBackups, and a TenantBackup for one of it."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final

import click

from tenantry.adapters.stores.demand import StoresOnDemand
from tenantry.api.backupstore import BackupStore
from tenantry.api.names import ANNOTATION_ADOPT_WORKSPACE, IDENTITY_CONFIG_MAP, IDENTITY_KEY, SYSTEM_NAMESPACE
from tenantry.api.resources import BACKUP_STORES, CONFIG_MAPS, NAMESPACES, SECRETS, TENANT_BACKUPS, Ref
from tenantry.cli.connecting import ManagementClient, carried_out, connected, connection_options, say
from tenantry.cli.departed import NOTHING, table
from tenantry.cli.planning import JoinError
from tenantry.decide.recovering import Found
from tenantry.desired.manifest import MANIFEST, ManifestError, Place, place_of
from tenantry.ports.backup import StoreError, StoreLocation
from tenantry.ports.kube import AlreadyExistsError
from tenantry.reconcile.backupstore import CREDENTIALS
from tenantry.reconcile.openstores import OpenStore
from tenantry.reconcile.storesync import tenant_backup
from tenantry.reconcile.takingup import whole_manifest

HEADINGS: Final = ("WORKSPACE", "TENANT", "COMPLETED", "SIZE", "SCHEDULED", "TENANTBACKUP", "PATH", "MESSAGE")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which backups are to be shown; an empty name means any."""

    store: str
    namespace: str
    workspace: str = ""
    tenant: str = ""

    def has(self, place: Place) -> bool:
        """Whether a backup is among them."""
        identity = place.identity
        return self.workspace in ("", identity.workspace) and self.tenant in ("", identity.name)


@click.group()
def backups() -> None:
    """Backups in a store, also those that have no TenantBackups any more."""


@backups.command("list")
@click.option("--store", required=True, help="The BackupStore.")
@click.option("--workspace", default="", help="Only of this one, as it was called then. [default: all]")
@click.option("--tenant", default="", help="Only of this one. [default: all]")
@click.option("--namespace", default=SYSTEM_NAMESPACE, show_default=True, help="The operator's.")
@connection_options
def list_(
    *, store: str, workspace: str, tenant: str, namespace: str, context: str | None, kubeconfig: str | None
) -> None:
    """Show what is in a store, as its signed manifests say: for the platform team, who may read its Secrets."""
    wanted = Wanted(store, namespace, workspace, tenant)
    click.echo(carried_out(_list(wanted, context, kubeconfig)), nl=False)


@backups.command()
@click.argument("path")
@click.option("--store", required=True, help="The BackupStore that it is in.")
@click.option("--workspace", default="", help="Where its TenantBackup goes. [default: the one whose backup it is]")
@click.option("--namespace", default=SYSTEM_NAMESPACE, show_default=True, help="The operator's.")
@connection_options
def recover(
    path: str, *, store: str, workspace: str, namespace: str, context: str | None, kubeconfig: str | None
) -> None:
    """Make a TenantBackup for one that is in the store only: PATH is as `tenantry backups list` shows it.

    The operator believes it, or does not: it must be of the workspace where it is made, and signed.
    """
    click.echo(carried_out(_recover(path, Wanted(store, namespace, workspace), context, kubeconfig)))


# --- showing ------------------------------------------------------------------------------------------------------
async def _list(wanted: Wanted, context: str | None, kubeconfig: str | None) -> str:
    async with connected(context, kubeconfig) as client:
        with client.asking():
            spec = BackupStore.model_validate(await client.get(Ref(BACKUP_STORES, "", wanted.store)))
            opened = await _open(client, spec, wanted.namespace)
            ids = (await _management_id(client, wanted.namespace), *(spec.spec.former_management_ids or ()))
            objects = {
                (body.get("status") or {}).get("objectKey"): body["metadata"]
                for body in (await client.list(TENANT_BACKUPS)).items
                if body["spec"]["store"] == wanted.store
            }
    names = {path: f"{metadata['namespace']}/{metadata['name']}" for path, metadata in objects.items() if path}
    try:
        rows = [row for each in ids async for row in _rows(opened, wanted, each, names)]
    except StoreError as error:
        raise JoinError(f"BackupStore {wanted.store!r}: {error.message}") from error
    if not rows:
        say(f"there is nothing like that of management id {', '.join(ids)} in BackupStore {wanted.store!r}")
        return ""
    return table(HEADINGS, sorted(rows))


async def _rows(
    opened: OpenStore, wanted: Wanted, management_id: str, names: Mapping[str, str]
) -> AsyncIterator[tuple[str, ...]]:
    async for each in opened.store.walk(f"{management_id}/"):
        path, _, name = each.key.rpartition("/")
        place = place_of(path)
        if name != MANIFEST or place is None or not wanted.has(place):
            continue
        identity, shown = place.identity, names.get(path, NOTHING)
        try:
            manifest = await whole_manifest(opened, path)
        except ManifestError as error:
            yield (identity.workspace, identity.name, NOTHING, NOTHING, NOTHING, shown, path, error.message)
        else:
            size, slot = str(manifest.database.size), manifest.slot or NOTHING
            yield (identity.workspace, identity.name, manifest.completed_at, size, slot, shown, path, "")


async def _open(client: ManagementClient, spec: BackupStore, namespace: str) -> OpenStore:
    """The store, with what its Secrets say.

    Raises:
        JoinError: it can't be opened from here.
    """
    scheme = spec.spec.url.partition(":")[0]
    if scheme == "file":
        raise JoinError(f"BackupStore {spec.name!r} is a folder of the operator's: look there")
    credentials: dict[str, str] = {}
    if spec.spec.credentials_secret_ref is not None:
        required, optional = CREDENTIALS[scheme]
        found = await _secret(client, namespace, spec.spec.credentials_secret_ref.name)
        credentials = {key: found[key] for key in (*required, *optional) if key in found}
    signing = await _secret(client, namespace, spec.spec.signing_secret_ref.name)
    location = StoreLocation(spec.spec.url, spec.spec.endpoint or "", spec.spec.region or "", credentials)
    try:
        return OpenStore(StoresOnDemand().open(location), signing.get("key", "").strip())
    except StoreError as error:
        raise JoinError(f"BackupStore {spec.name!r}: spec.url: {error.message}") from error


async def _secret(client: ManagementClient, namespace: str, name: str) -> dict[str, str]:
    data = (await client.get(Ref(SECRETS, namespace, name))).get("data") or {}
    try:
        return {key: base64.b64decode(value).decode() for key, value in data.items()}
    except ValueError:
        raise JoinError(f"Secret {namespace}/{name} has a value that is no UTF-8 text") from None


async def _management_id(client: ManagementClient, namespace: str) -> str:
    """The operator's; a flag may have set it, but it is written down, too."""
    identity = await client.get(Ref(CONFIG_MAPS, namespace, IDENTITY_CONFIG_MAP))
    return str(identity["data"][IDENTITY_KEY])


# --- recovering ---------------------------------------------------------------------------------------------------
async def _recover(path: str, wanted: Wanted, context: str | None, kubeconfig: str | None) -> str:
    place = place_of(path.strip("/"))
    if place is None:
        raise JoinError(f"{path}: this is no backup's path; `tenantry backups list` shows them")
    async with connected(context, kubeconfig) as client:
        with client.asking():
            workspace = wanted.workspace or await _workspace(client, place.identity.workspace_uid)
            own = await _management_id(client, wanted.namespace)
            found = Found(workspace, place.identity, place.run, path.strip("/"), "", "", present=False)
            body = tenant_backup(found, wanted.store, own)
            try:
                await client.make(body)
            except AlreadyExistsError as error:
                raise JoinError(error.message) from error
    name = body["metadata"]["name"]
    return f"TenantBackup {workspace}/{name} is made: kubectl -n {workspace} get tnb {name}"


async def _workspace(client: ManagementClient, uid: str) -> str:
    """The namespace that is, or takes over, the workspace with a UID.

    Raises:
        JoinError: there is none.
    """
    for body in (await client.list(NAMESPACES)).items:
        metadata = body["metadata"]
        if uid == ((metadata.get("annotations") or {}).get(ANNOTATION_ADOPT_WORKSPACE) or metadata["uid"]):
            return str(metadata["name"])
    raise JoinError(
        f"no namespace has the UID {uid}, or takes it over: annotate the one that is to have it with "
        f"{ANNOTATION_ADOPT_WORKSPACE}={uid}"
    )
