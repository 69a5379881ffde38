"""The tenant's namespace: made by POST so that nobody else's is taken, read for its stamp first where it is there."""

from __future__ import annotations

from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.identity import TenantIdentity
from tenantry.api.names import (
    ANNOTATION_ACTIVITY,
    ANNOTATION_ALLOW_ADOPTION,
    ANNOTATION_ARRIVING,
    LABEL_MANAGEMENT_ID,
    LABEL_TENANT_HASH,
)
from tenantry.api.resources import NAMESPACES, Ref
from tenantry.decide.adoption import consent, is_foreign, is_offered, is_reserved
from tenantry.decide.drift import with_desired_hash
from tenantry.decide.halt import Terminal, Waiting
from tenantry.desired.stamp import bears_stamp
from tenantry.ports.kube import AlreadyExistsError, NotFoundError, Target
from tenantry.ports.world import Json
from tenantry.reconcile.apply import Applier

TERMINATING_RETRY = 5.0
MISSING_RETRY = 30.0
FOR_A_TIME = (ANNOTATION_ACTIVITY, ANNOTATION_ARRIVING)


class NamespaceOfferedError(Exception):
    """It is nobody's, and its owner consents to its adoption by this tenant.

    Attributes:
        live: As it was read.
    """

    def __init__(self, live: Json) -> None:
        super().__init__(live["metadata"]["name"])
        self.live = live


def check_name(name: str) -> None:
    """That a namespace name is not one of Kubernetes' or the operator's own.

    Raises:
        Terminal: NamespaceReserved.
    """
    if is_reserved(name):
        raise Terminal(
            ConditionType.NAMESPACE_READY,
            Reason.NAMESPACE_RESERVED,
            f"the namespace {name!r} is reserved; the Cluster's namespaceTemplate has to give another one",
        )


async def ensure_namespace(
    target: Target, applier: Applier, identity: TenantIdentity, body: Json, *, adopted: bool = False
) -> bool:
    """Make the namespace or put it right; whether it was made just now.

    Args:
        target: Where.
        applier: Writes.
        identity: Whose.
        body: As it is to be.
        adopted: It was somebody else's before: it is never made.

    Raises:
        NamespaceOfferedError: it has to be adopted first.
        Terminal: NamespaceConflict: it is somebody else's, and is not touched.
        Waiting: it is being deleted, or an adopted one is gone.
    """
    ref = Ref(NAMESPACES, "", body["metadata"]["name"])
    check_name(ref.name)
    live = target.live.get(ref)
    if live is None and adopted:
        live = await _read_adopted(target, identity, ref)
    elif live is None:
        try:
            with target.writing(ref):
                target.live.observe(await target.kube.create(with_desired_hash(body)))
        except AlreadyExistsError:
            live = await target.kube.get(ref)
            _check(live, identity)
            target.live.observe(live)
        else:
            applier.wrote += 1
            return True
    else:
        _check(live, identity)
    await put_right(target, applier, body)
    return False


async def _read_adopted(target: Target, identity: TenantIdentity, ref: Ref) -> Json:
    try:
        live = await target.kube.get(ref)
    except NotFoundError:
        raise not_there(ref.name, identity) from None
    _check(live, identity)
    target.live.observe(live)
    return live


async def put_right(target: Target, applier: Applier, body: Json) -> None:
    """Apply a namespace that is there, and take off what is on it only for a time.

    What a POST has set stays with the POST's field manager, so that an apply without it does not take it off.

    Raises:
        Terminal: as `Applier.apply`.
        ConflictError: somebody else changed it meanwhile.
    """
    live = await applier.apply(body)
    wanted, metadata = body["metadata"]["annotations"], live["metadata"]
    over = [name for name in FOR_A_TIME if name in (metadata.get("annotations") or {}) and name not in wanted]
    if not over:
        return
    ref = Ref(NAMESPACES, "", metadata["name"])
    version = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
    with target.writing(ref):
        patch = {"metadata": {**version, "annotations": dict.fromkeys(over)}}
        target.live.observe(await target.kube.merge_patch(ref, patch))


def _check(live: Json, identity: TenantIdentity) -> None:
    name = live["metadata"]["name"]
    if is_offered(live, identity):
        raise NamespaceOfferedError(live)
    if not bears_stamp(live, identity):
        raise conflict(live, identity)
    if live["metadata"].get("deletionTimestamp"):
        raise Waiting(
            ConditionType.NAMESPACE_READY,
            Reason.NAMESPACE_TERMINATING,
            f"the namespace {name!r} is being deleted; it is made again when it is gone{blocked_by(live)}",
            retry_after=TERMINATING_RETRY,
        )


def conflict(live: Json, identity: TenantIdentity) -> Terminal:
    """What is told of a namespace that is not this tenant's, with the way out."""
    labels = live["metadata"].get("labels", {})
    whose = "another tenant's" if LABEL_TENANT_HASH in labels else "not made by this operator"
    if labels.get(LABEL_MANAGEMENT_ID, identity.management_id) != identity.management_id:
        whose = "another management cluster's"
    way = ""
    if is_foreign(live):
        way = f", or have its owner annotate it with {ANNOTATION_ALLOW_ADOPTION}={consent(identity)}"
    return Terminal(
        ConditionType.NAMESPACE_READY,
        Reason.NAMESPACE_CONFLICT,
        f"the namespace {live['metadata']['name']!r} is on the target and is {whose}; it is not touched: rename or "
        f"delete it there{way}",
    )


def not_there(name: str, identity: TenantIdentity) -> Waiting:
    """What is told of a namespace that is to be adopted, or was, and is not there: it is not ours to make."""
    return Waiting(
        ConditionType.NAMESPACE_READY,
        Reason.NAMESPACE_NOT_FOUND,
        f"the namespace {name!r} is not on the target, and one that is adopted is never made by this operator: have "
        f"its owner make it, with the annotation {ANNOTATION_ALLOW_ADOPTION}={consent(identity)}",
        retry_after=MISSING_RETRY,
    )


def blocked_by(namespace: Json) -> str:
    """What holds up the deletion of a namespace, as its conditions say; empty where nothing does yet."""
    messages = [
        condition.get("message", "")
        for condition in namespace.get("status", {}).get("conditions", [])
        if condition.get("status") == "True"
        and condition.get("type", "").startswith(
            ("NamespaceContentRemaining", "NamespaceFinalizersRemaining", "NamespaceDeletion")
        )
    ]
    return f" ({'; '.join(messages)})" if messages else ""
