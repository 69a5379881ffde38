"""A server that CloudNativePG makes: whether its Cluster may be applied, and what its status says of how it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.dedicated import BUILTIN, DedicatedServer, Operated
from tenantry.api.names import ANNOTATION_START_FRESH, LABEL_POSTGRES_CLUSTER, POSTGRES
from tenantry.decide.dedicated import MAX_TOLD, PATIENT_RETRY, STARTING_RETRY, short_of
from tenantry.decide.halt import Terminal, Waiting
from tenantry.decide.quantities import parse_quantity

HEALTHY: Final = "Cluster in healthy state"
"""Of the phases of its status, in its own words."""
DATA_ROLE: Final = "PG_DATA"
LABEL_VOLUME_ROLE: Final = "cnpg.io/pvcRole"

Json = Mapping[str, Any]


# --- before it is applied ---------------------------------------------------------------------------------------
def not_served(cluster: str) -> Waiting:
    """The target has no such kind."""
    return Waiting(
        ConditionType.DATABASE_READY,
        Reason.DEDICATED_NOT_OFFERED,
        f"spec.database.dedicated.provider: Cluster {cluster!r} does not serve postgresql.cnpg.io/v1; the platform "
        "team installs CloudNativePG there, or choose another provider",
        retry_after=STARTING_RETRY,
    )


def not_allowed(cluster: str, why: str) -> Waiting:
    """The operator has not the rights that are given apart."""
    return Waiting(
        ConditionType.DATABASE_READY,
        Reason.DEDICATED_NOT_OFFERED,
        f"spec.database.dedicated.provider: on Cluster {cluster!r} the operator may not use CloudNativePG; the "
        f"platform team applies deploy/target-cloudnativepg.yaml there: {why[:MAX_TOLD]}",
        retry_after=PATIENT_RETRY,
    )


def not_judged(why: str) -> Waiting:
    """Its webhook, which has a say in each change of a Cluster, does not answer."""
    return Waiting(
        ConditionType.DATABASE_READY,
        Reason.DATABASE_STARTING,
        f"CloudNativePG does not answer the API server, so its Cluster {POSTGRES} can't be made or changed now: "
        f"{why[:MAX_TOLD]}",
        retry_after=STARTING_RETRY,
    )


def other_provider(pinned: str | None, wanted: str) -> Terminal:
    """The spec names another provider than the one that made the server."""
    return Terminal(
        ConditionType.DATABASE_READY,
        Reason.MOVE_NOT_SUPPORTED,
        f"spec.database.dedicated.provider: {pinned or BUILTIN} made this tenant's server, and {wanted} can't take "
        f"over its volumes; set it back; to have the data there, make another Tenant with provider: {wanted}, copy the "
        "data, and delete this one",
    )


def missing(record: str) -> Terminal:
    """The volumes of a database that was there are not."""
    return Terminal(
        ConditionType.DATABASE_READY,
        Reason.DATABASE_MISSING,
        f"its database was on the volume claims of CloudNativePG's Cluster {POSTGRES!r}, which are gone or hold "
        "another one, and it is never made anew by itself: restore a claim with its volume, or delete this Tenant and "
        f"apply it again with the annotation {ANNOTATION_START_FRESH}={record} to start empty",
    )


def check_volumes(live: Json | None, claims: Sequence[Json], record: str) -> None:
    """That CloudNativePG would find the database that was there, and not make an empty one.

    Args:
        live: Its Cluster; None where that is gone.
        claims: The namespace's volume claims.
        record: The name of the tenant's record.

    Raises:
        Terminal: DatabaseMissing.
    """
    if not any(_holds_data(claim, orphaned=live is None) for claim in claims):
        raise missing(record)


def _holds_data(claim: Json, *, orphaned: bool) -> bool:
    """Where the Cluster is gone, claims that it owns go after it; only such that nobody owns are taken over.

    Where it is there, a claim that is being deleted still has the data: it goes with the last pod that uses it.
    """
    metadata = claim["metadata"]
    labels = metadata.get("labels") or {}
    ours = labels.get(LABEL_POSTGRES_CLUSTER) == POSTGRES and labels.get(LABEL_VOLUME_ROLE, DATA_ROLE) == DATA_ROLE
    leaving = metadata.get("deletionTimestamp") or metadata.get("ownerReferences")
    return ours and not (orphaned and leaving)


def check_unchanged(server: DedicatedServer, operated: Operated, live: Json) -> None:
    """That its data can be read, and its volumes be had, as now wanted: another Tenant may have made them.

    Raises:
        Terminal: MoveNotSupported.
    """
    storage = (live.get("spec") or {}).get("storage") or {}
    was, storage_class = str(storage.get("size", server.storage)), str(storage.get("storageClass") or "")
    if parse_quantity(was) != parse_quantity(server.storage) or storage_class != server.storage_class:
        raise _unchangeable(
            "storage", f"its volumes were made with {was} of {storage_class or 'the default StorageClass'}"
        )
    major = ((live.get("status") or {}).get("pgDataImageInfo") or {}).get("majorVersion")
    if major is not None and major != operated.major:
        raise _unchangeable("version", f"its data was made by PostgreSQL {major}")


def _unchangeable(field: str, why: str) -> Terminal:
    return Terminal(
        ConditionType.DATABASE_READY,
        Reason.MOVE_NOT_SUPPORTED,
        f"spec.database.dedicated.{field}: {why}, and that can't be changed; set it back",
    )


# --- how it runs ------------------------------------------------------------------------------------------------
def primary_of(live: Json) -> str:
    """The pod of its primary; empty while there is none."""
    return str((live.get("status") or {}).get("currentPrimary") or "")


def check_up(operated: Operated, live: Json, quota: Json, needed: Mapping[str, str]) -> None:
    """That all its instances run as they were last wanted.

    Args:
        operated: What is wanted.
        live: CloudNativePG's Cluster.
        quota: The status of the tenant's ResourceQuota.
        needed: What it takes of that.

    Raises:
        Waiting: DatabaseStarting: with what is known of why.
    """
    status = live.get("status") or {}
    phase = str(status.get("phase") or "")
    ready = int(status.get("readyInstances") or 0)
    if phase == HEALTHY and primary_of(live) and ready == operated.instances == status.get("instances"):
        return
    raise Waiting(
        ConditionType.DATABASE_READY,
        Reason.DATABASE_STARTING,
        f"its server (CloudNativePG's Cluster {POSTGRES}) is not ready yet: {ready} of {operated.instances} instances "
        f"are ready{''.join(f'; {each}' for each in _told(status, ready, quota, needed))}",
        retry_after=STARTING_RETRY if phase else PATIENT_RETRY,
    )


def _told(status: Json, ready: int, quota: Json, needed: Mapping[str, str]) -> Iterator[str]:
    phase = str(status.get("phase") or "")
    if not phase:
        yield "CloudNativePG has said nothing of it yet: does it run?"
    elif phase != HEALTHY:
        yield ": ".join(each[:MAX_TOLD] for each in (phase, str(status.get("phaseReason") or "")) if each)
    if not ready:
        yield from short_of(quota, needed)
