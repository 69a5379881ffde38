"""On which cluster a tenant is to live: by name, by region and environment, or the default; pinned once decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tenantry.api.cluster import Cluster
from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.tenant import Placement
from tenantry.decide.halt import Terminal, Waiting
from tenantry.decide.workspaces import allows

CLAIM_RETRY: Final = 30.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A cluster and how many tenants are placed on it, by the records.

    Attributes:
        available: It answers and takes tenants now.
        claimed: Another tenant has it for itself.
    """

    cluster: Cluster
    tenants: int
    available: bool = True
    claimed: bool = False


def place(
    placement: Placement | None,
    workspace_labels: Mapping[str, str],
    candidates: Sequence[Candidate],
    environment: str | None = None,
    *,
    exclusive: bool = False,
) -> Cluster:
    """Choose the cluster of a tenant that has none yet.

    Of several that fit by region and environment, one that is available, then the one with the fewest tenants, then
    the first by name. A tenant that is to have its cluster for itself gets one without tenants.

    Raises:
        Waiting: nothing fits yet: the cluster may be registered, allowed or emptied later.
        Terminal: AmbiguousDefault.
    """
    if placement is not None and placement.cluster is not None:
        return _by_name(placement.cluster, workspace_labels, candidates, exclusive=exclusive)
    allowed = [c for c in candidates if allows(c.cluster.spec.allowed_workspaces, workspace_labels)]
    if placement is None:
        fitting = [c for c in allowed if c.cluster.spec.default]
        if environment is not None and len(fitting) > 1:
            fitting = [c for c in fitting if c.cluster.spec.environment == environment] or fitting
        if len(fitting) > 1:
            names = ", ".join(sorted(c.cluster.name for c in fitting))
            raise Terminal(
                ConditionType.PLACED,
                Reason.AMBIGUOUS_DEFAULT,
                f"more than one default cluster fits: {names}; set spec.placement, or default: true on one only",
            )
        described = "default: true"
    else:
        fitting = [c for c in allowed if _fits(placement, c.cluster)]
        described = ", ".join(
            f"{name}: {value}"
            for name, value in (("region", placement.region), ("environment", placement.environment))
            if value is not None
        )
    open_ones = [c for c in fitting if _refusal(c, exclusive=exclusive) is None]
    if not open_ones:
        raise Waiting(
            ConditionType.PLACED,
            Reason.CLUSTER_FULL if fitting else Reason.NO_CLUSTER_MATCHES,
            f"every cluster with {described} that this workspace may use is full, unschedulable or "
            + ("not empty, as Tier3 needs it" if exclusive else "another tenant's own (Tier3)")
            if fitting
            else f"no cluster with {described} that this workspace may use; register one or set spec.placement",
        )
    return min(open_ones, key=lambda c: (not c.available, c.tenants, c.cluster.name)).cluster


def check_use(cluster: Cluster, workspace_labels: Mapping[str, str]) -> None:
    """That a tenant which is already placed may go on using its cluster.

    Raises:
        Waiting: ClusterNotAllowed. What is there goes on serving, but is no longer changed.
    """
    if not allows(cluster.spec.allowed_workspaces, workspace_labels):
        raise Waiting(
            ConditionType.PLACED,
            Reason.CLUSTER_NOT_ALLOWED,
            f"Cluster {cluster.name!r} does not allow this workspace (spec.allowedWorkspaces); ask the platform team",
        )


def means(placement: Placement | None, cluster: Cluster) -> bool:
    """Whether a placement is content with a cluster; without one, with any."""
    if placement is None:
        return True
    return placement.cluster == cluster.name if placement.cluster is not None else _fits(placement, cluster)


def cluster_claimed(name: str) -> Waiting:
    """Why a cluster takes no others. Does not say whose it is: that is another customer's business."""
    return Waiting(
        ConditionType.PLACED,
        Reason.CLUSTER_CLAIMED,
        f"Cluster {name!r} is another tenant's own (tier: Tier3) and takes no others until that one has left it and "
        "what it left is purged; place this tenant elsewhere, or wait",
        retry_after=CLAIM_RETRY,
    )


def cluster_not_empty(name: str) -> Waiting:
    """Why a tenant can't have a cluster for itself."""
    return Waiting(
        ConditionType.PLACED,
        Reason.CLUSTER_NOT_EMPTY,
        f"spec.tier: Tier3 needs a cluster of its own, and other tenants are on Cluster {name!r} (deleted ones, and "
        "what moves have left, count until they are purged); place this tenant on an empty one, or wait",
        retry_after=CLAIM_RETRY,
    )


def _by_name(
    name: str, workspace_labels: Mapping[str, str], candidates: Sequence[Candidate], *, exclusive: bool
) -> Cluster:
    found = next((c for c in candidates if c.cluster.name == name), None)
    # A workspace learns no more of a cluster that it may not use than of one that is not there.
    if found is None or not allows(found.cluster.spec.allowed_workspaces, workspace_labels):
        raise Waiting(
            ConditionType.PLACED,
            Reason.CLUSTER_NOT_FOUND,
            f"spec.placement.cluster: there is no Cluster {name!r} that this workspace may use",
        )
    if (refusal := _refusal(found, exclusive=exclusive)) is not None:
        raise refusal
    return found.cluster


def _refusal(candidate: Candidate, *, exclusive: bool) -> Waiting | None:
    """Why a cluster takes no new tenant now."""
    name = candidate.cluster.name
    if candidate.cluster.spec.unschedulable:
        return Waiting(
            ConditionType.PLACED, Reason.CLUSTER_UNSCHEDULABLE, f"Cluster {name!r} takes no new tenants (unschedulable)"
        )
    if candidate.claimed:
        return cluster_claimed(name)
    if exclusive and candidate.tenants:
        return cluster_not_empty(name)
    if _full(candidate):
        return Waiting(
            ConditionType.PLACED,
            Reason.CLUSTER_FULL,
            f"Cluster {name!r} is full: spec.capacity.maxTenants is reached; choose another one",
        )
    return None


def _fits(placement: Placement, cluster: Cluster) -> bool:
    return (placement.region is None or placement.region == cluster.spec.region) and (
        placement.environment is None or placement.environment == cluster.spec.environment
    )


def _full(candidate: Candidate) -> bool:
    capacity = candidate.cluster.spec.capacity
    return capacity is not None and capacity.max_tenants is not None and candidate.tenants >= capacity.max_tenants
