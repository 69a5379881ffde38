"""Bringing a server that CloudNativePG makes to rest: its pods go, its volumes and its Cluster stay."""

from __future__ import annotations

from tenantry.api.dedicated import CLOUDNATIVEPG
from tenantry.api.names import ANNOTATION_HIBERNATION, POSTGRES
from tenantry.api.resources import POSTGRES_CLUSTERS, Ref
from tenantry.api.tenantrecord import TenantRecord
from tenantry.desired.stamp import bears_stamp
from tenantry.ports.kube import ForbiddenError, NotFoundError, Target


async def hibernate(target: Target, record: TenantRecord) -> None:
    """Ask for it, once; nothing where the tenant has no such server. An undelete applies the Cluster, and wakes it.

    Raises:
        ConflictError: somebody changed the Cluster meanwhile.
        KubeError: of the target.
    """
    if record.spec.database.provider != CLOUDNATIVEPG:
        return
    ref = Ref(POSTGRES_CLUSTERS, record.spec.cluster.namespace, POSTGRES)
    try:
        live = await target.kube.get(ref)
    except NotFoundError:
        return  # never made, or its kind is gone and all of it with that
    except ForbiddenError:
        if record.spec.database.id:
            raise
        return  # never made, for the rights that it takes were not given
    metadata = live["metadata"]
    asleep = (metadata.get("annotations") or {}).get(ANNOTATION_HIBERNATION) == "on"
    if asleep or not bears_stamp(live, record.identity) or metadata.get("deletionTimestamp"):
        return
    annotations = {ANNOTATION_HIBERNATION: "on"}
    patch = {"metadata": {"resourceVersion": metadata["resourceVersion"], "annotations": annotations}}
    with target.writing(ref):
        target.live.observe(await target.kube.merge_patch(ref, patch))
