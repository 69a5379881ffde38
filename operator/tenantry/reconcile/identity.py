"""The management id: random, made once, kept in a ConfigMap of the operator's namespace; all stamps carry it."""

from __future__ import annotations

import logging
from collections.abc import Callable

from tenantry.api.identity import MANAGEMENT_ID
from tenantry.api.names import (
    IDENTITY_CONFIG_MAP,
    IDENTITY_KEY,
    LABEL_MANAGED_BY,
    LABEL_MANAGEMENT_ID,
    MANAGED_BY,
)
from tenantry.api.resources import CLUSTERS, CONFIG_MAPS, NAMESPACES, SECRETS, TENANT_RECORDS, Ref
from tenantry.ports.kube import AlreadyExistsError, CredentialsRefusedError, Kube, KubeError, NotFoundError, Targets
from tenantry.ports.world import Json

logger = logging.getLogger(__name__)


class IdentityError(Exception):
    """The operator can't say who it is, and must not guess: a wrong answer would take everything for foreign."""


async def management_id(
    kube: Kube, namespace: str, given: str | None, *, new_id: Callable[[], str], targets: Targets
) -> str:
    """The management id: the given one, or the one that is kept, or on the very first start a new one.

    Args:
        kube: The management cluster.
        namespace: The operator's own.
        given: By the flag.
        new_id: Makes a random one.
        targets: To look for stamps on the registered clusters, on the very first start only.

    Raises:
        IdentityError: the given one is malformed or is not the one that is kept; or none is kept although
            TenantRecords or stamps on a target say that there was one.
    """
    if given is not None and not MANAGEMENT_ID.match(given):
        raise IdentityError(f"--management-id {given!r}: use at most 63 lower-case letters, digits and dashes")
    kept = await _kept(kube, namespace)
    if kept is not None:
        if given is not None and given != kept:
            raise IdentityError(
                f"--management-id {given!r}: ConfigMap {namespace}/{IDENTITY_CONFIG_MAP} says {kept!r}; leave the flag "
                "out, or delete the ConfigMap if you are sure that nothing of that id is left"
            )
        return kept
    if given is None:
        await _check_first_start(kube, namespace, targets)
    chosen = given or new_id()
    body: Json = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": IDENTITY_CONFIG_MAP, "namespace": namespace, "labels": {LABEL_MANAGED_BY: MANAGED_BY}},
        "data": {IDENTITY_KEY: chosen},
    }
    try:
        await kube.create(body)
    except AlreadyExistsError:
        return await _kept(kube, namespace) or chosen
    return chosen


async def _kept(kube: Kube, namespace: str) -> str | None:
    try:
        body = await kube.get(Ref(CONFIG_MAPS, namespace, IDENTITY_CONFIG_MAP))
    except NotFoundError:
        return None
    kept = (body.get("data") or {}).get(IDENTITY_KEY)
    return str(kept) if kept else None


async def _check_first_start(kube: Kube, namespace: str, targets: Targets) -> None:
    """Records or stamps without an identity mean that the ConfigMap was lost, not that this is a new installation."""
    records = await kube.list(TENANT_RECORDS)
    traces = {record["spec"]["managementId"]: "TenantRecords" for record in records.items}
    for cluster in (await kube.list(CLUSTERS)).items:
        name = cluster["metadata"]["name"]
        try:
            for found in await _stamps_on(kube, namespace, cluster, targets):
                traces.setdefault(found, f"namespaces on Cluster {name!r}")
        except (KubeError, CredentialsRefusedError) as error:
            logger.warning("Cluster %s could not be searched for stamps of a former installation: %s", name, error)
    if traces:
        told = ", ".join(f"{trace} ({where})" for trace, where in sorted(traces.items()))
        raise IdentityError(
            f"there is no ConfigMap {IDENTITY_CONFIG_MAP}, but stamps with a management id were found: {told}. If this "
            f"management cluster is the successor, start with --management-id {min(traces)}; if it is another one that "
            "shares the target, start with an id of its own choice"
        )


async def _stamps_on(kube: Kube, namespace: str, cluster: Json, targets: Targets) -> set[str]:
    reference = cluster["spec"].get("kubeconfigSecretRef")
    data = None
    if reference is not None:
        data = (await kube.get(Ref(SECRETS, namespace, reference["name"]))).get("data") or {}
    target = await targets.connect(cluster["metadata"]["name"], data, (reference or {}).get("key"))
    listing = await target.kube.list(NAMESPACES, labels=LABEL_MANAGEMENT_ID)
    return {body["metadata"]["labels"][LABEL_MANAGEMENT_ID] for body in listing.items}
