"""On which cluster a tenant is to live: by name, by region and environment, or the default; pinned once decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tenantry.api.cluster import Cluster
from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.tenant import Placement
from tenantry.decide.halt import Terminal, Waiting
from tenantry.decide.workspaces import allows


@dataclass(frozen=True, slots=True)
class Candidate:
    """A cluster and how many tenants are placed on it, by the records.

    Attributes:
        available: It answers and takes tenants now.
    """

    cluster: Cluster
    tenants: int
    available: bool = True


def place(
    placement: Placement | None,
    workspace_labels: Mapping[str, str],
    candidates: Sequence[Candidate],
    environment: str | None = None,
) -> Cluster:
    """Choose the cluster of a tenant that has none yet.

    Of several that fit by region and environment, one that is available, then the one with the fewest tenants, then
    the first by name.

    Raises:
        Waiting: nothing fits yet: the cluster may be registered, allowed or emptied later.
        Terminal: AmbiguousDefault.
    """
    if placement is not None and placement.cluster is not None:
        return _by_name(placement.cluster, workspace_labels, candidates)
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
    open_ones = [c for c in fitting if not c.cluster.spec.unschedulable and not _full(c)]
    if not open_ones:
        raise Waiting(
            ConditionType.PLACED,
            Reason.CLUSTER_FULL if fitting else Reason.NO_CLUSTER_MATCHES,
            f"every cluster with {described} that this workspace may use is full or unschedulable"
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


def _by_name(name: str, workspace_labels: Mapping[str, str], candidates: Sequence[Candidate]) -> Cluster:
    found = next((c for c in candidates if c.cluster.name == name), None)
    # A workspace learns no more of a cluster that it may not use than of one that is not there.
    if found is None or not allows(found.cluster.spec.allowed_workspaces, workspace_labels):
        raise Waiting(
            ConditionType.PLACED,
            Reason.CLUSTER_NOT_FOUND,
            f"spec.placement.cluster: there is no Cluster {name!r} that this workspace may use",
        )
    if found.cluster.spec.unschedulable:
        raise Waiting(
            ConditionType.PLACED, Reason.CLUSTER_UNSCHEDULABLE, f"Cluster {name!r} takes no new tenants (unschedulable)"
        )
    if _full(found):
        raise Waiting(
            ConditionType.PLACED,
            Reason.CLUSTER_FULL,
            f"Cluster {name!r} is full: spec.capacity.maxTenants is reached; choose another one",
        )
    return found.cluster


def _fits(placement: Placement, cluster: Cluster) -> bool:
    return (placement.region is None or placement.region == cluster.spec.region) and (
        placement.environment is None or placement.environment == cluster.spec.environment
    )


def _full(candidate: Candidate) -> bool:
    capacity = candidate.cluster.spec.capacity
    return capacity is not None and capacity.max_tenants is not None and candidate.tenants >= capacity.max_tenants
