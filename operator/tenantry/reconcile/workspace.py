"""Workspaces, and who a Tenant in one of them is: which incarnation, and of whose workspace."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.identity import TenantIdentity
from tenantry.api.names import ANNOTATION_ADOPT, ANNOTATION_ADOPT_WORKSPACE, ANNOTATION_START_FRESH
from tenantry.api.resources import NAMESPACES, Ref
from tenantry.api.tenant import Tenant
from tenantry.api.tenantrecord import RecordState
from tenantry.decide.halt import Terminal, Waiting
from tenantry.reconcile.world import World


@dataclass(frozen=True, slots=True)
class Workspace:
    """A namespace of the management cluster.

    Attributes:
        uid: Its own, or that of the former namespace whose tenants it takes over (`adopted`).
    """

    name: str
    uid: str
    labels: dict[str, str]
    adopted: bool = False


def find_workspace(world: World, name: str) -> Workspace:
    """The workspace as the watch on namespaces has seen it; its UID is that of the workspace it takes over, if it does.

    Raises:
        Waiting: not seen yet, which passes.
        Terminal: PredecessorExists: the workspace that it is to take over is another one's.
    """
    body = world.live.get(Ref(NAMESPACES, "", name))
    if body is None:
        raise Waiting(ConditionType.PLACED, Reason.PENDING, f"the workspace {name!r} was not seen yet", retry_after=1.0)
    metadata = body["metadata"]
    former = (metadata.get("annotations") or {}).get(ANNOTATION_ADOPT_WORKSPACE) or metadata["uid"]
    if former != metadata["uid"]:
        _check_workspace_is_free(world, name, former)
    return Workspace(name, former, metadata.get("labels", {}), adopted=former != metadata["uid"])


def workspaces_by_uid(world: World) -> dict[str, Workspace]:
    """All workspaces that are there and stay, by their own UID or the one that they take over.

    As `find_workspace` has each of them: where two want to take over the same one, or it is there itself, none does.
    """
    all_metadata = [body["metadata"] for body in world.live.all(NAMESPACES)]
    former = {
        metadata["name"]: (metadata.get("annotations") or {}).get(ANNOTATION_ADOPT_WORKSPACE) or metadata["uid"]
        for metadata in all_metadata
    }
    wanted = Counter(former.values())
    wanted.update(metadata["uid"] for metadata in all_metadata if former[metadata["name"]] != metadata["uid"])
    found: dict[str, Workspace] = {}
    for metadata in all_metadata:
        uid = former[metadata["name"]]
        adopted = uid != metadata["uid"]
        if "deletionTimestamp" not in metadata and (not adopted or wanted[uid] == 1):
            found[uid] = Workspace(metadata["name"], uid, metadata.get("labels") or {}, adopted=adopted)
    return found


def _check_workspace_is_free(world: World, name: str, former: str) -> None:
    for body in world.live.all(NAMESPACES):
        metadata = body["metadata"]
        taken_over = (metadata.get("annotations") or {}).get(ANNOTATION_ADOPT_WORKSPACE)
        if metadata["name"] != name and former in (metadata["uid"], taken_over):
            raise Terminal(
                ConditionType.PLACED,
                Reason.PREDECESSOR_EXISTS,
                f"the workspace {name!r} can't take over the tenants of {former}: the namespace {metadata['name']!r} "
                f"{'is' if former == metadata['uid'] else 'takes over'} that one; see {ANNOTATION_ADOPT_WORKSPACE}",
            )


def identify(world: World, tenant: Tenant, workspace: Workspace) -> TenantIdentity:
    """Who the tenant is: the incarnation that it has, the last one that left something, or the one after that."""
    own = [entry for entry in world.ledger.namesakes(tenant.ref) if entry.workspace_uid == workspace.uid]
    incarnation = 1
    annotations = tenant.metadata.annotations
    named = [entry for entry in own if entry.record == annotations.get(ANNOTATION_ADOPT)]
    if named and all(entry.tenant_uid != tenant.metadata.uid for entry in own):
        incarnation = named[0].incarnation
    elif own:
        last = max(own, key=lambda entry: (entry.tenant_uid == tenant.metadata.uid, entry.incarnation))
        fresh = annotations.get(ANNOTATION_START_FRESH) == last.record
        begins = fresh and last.state in (RecordState.DELETED, RecordState.RETAINED, RecordState.ORPHANED)
        incarnation = max(entry.incarnation for entry in own) + 1 if begins else last.incarnation
    return TenantIdentity(
        management_id=world.settings.management_id,
        workspace=workspace.name,
        workspace_uid=workspace.uid,
        name=tenant.name,
        incarnation=incarnation,
    )
