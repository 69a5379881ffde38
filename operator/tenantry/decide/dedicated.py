"""A database server of a tenant's own: what the plan and the cluster give it, whether it fits, how it comes up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from tenantry.api.cluster import Cluster
from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.database import DedicatedDatabase, ExternalAccess
from tenantry.api.dedicated import BUILTIN, DedicatedServer, Operated
from tenantry.api.effective import Effective
from tenantry.api.names import ANNOTATION_START_FRESH, POSTGRES, POSTGRES_POD, POSTGRES_VOLUME
from tenantry.api.tenantplan import Size, TenantPlanSpec
from tenantry.decide.halt import Terminal, Waiting
from tenantry.decide.quantities import parse_quantity, times

SPARE_CONNECTIONS: Final = 10
"""Of a server beyond its tenant's: the operator's, and those that PostgreSQL keeps for superusers."""
LEAST_BUFFERS: Final = 16 * 1024
"""KiB."""
LEAST_MEMORY: Final = 128 * 1024 * 1024
"""Bytes: with less, PostgreSQL is killed while it starts."""
LOST: Final = "DatabaseMissing"
"""What the container's last message starts with where its volume has not the database that is expected."""
REVISION_LABEL: Final = "controller-revision-hash"
"""Of a StatefulSet's pods: which revision of it they were made from."""
RECOVERY: Final = timedelta(minutes=10)
"""As long as the startup probe waits."""
STARTING_RETRY: Final = 15.0
PATIENT_RETRY: Final = 60.0
MAX_TOLD: Final = 300

Json = Mapping[str, Any]


def dedicated_server(
    wanted: DedicatedDatabase,
    external: ExternalAccess | None,
    cluster: Cluster,
    effective: Effective,
    plan: TenantPlanSpec,
    *,
    database_id: str,
    running: bool,
) -> DedicatedServer:
    """The server as the tenant, its plan and its cluster say.

    Raises:
        Waiting: DedicatedNotOffered: the cluster has no image, or no CloudNativePG.
        Terminal: PlanExceeded, with the field and what would fit.
    """
    image, user, operated = _offered(wanted, cluster, effective, plan)
    size = plan.sizes.get(wanted.size)
    if size is None:
        has = ", ".join(sorted(plan.sizes)) or "none"
        raise _exceeded(
            f"spec.database.dedicated.size: plan {effective.plan!r} does not have {wanted.size}; it has {has}"
        )
    memory = _number("sizes", size.memory)
    if memory < LEAST_MEMORY:
        raise _exceeded(f"spec.database.dedicated.size: {wanted.size} has {size.memory} of memory; 128Mi is the least")
    _check_fits(wanted, size, effective)
    outside = tuple(external.cidrs) if external is not None and external.enabled else ()
    if outside and "LoadBalancer" not in effective.service_types:
        raise _exceeded(
            f"spec.database.externalAccess: it takes a Service of type LoadBalancer, and plan {effective.plan!r} gives "
            "its tenants none (quota services.loadbalancers is 0); set enabled: false, or choose another plan"
        )
    return DedicatedServer(
        image=image.replace("{version}", wanted.version),
        user=user,
        cpu=str(size.cpu),
        memory=str(size.memory),
        shared_buffers=max(LEAST_BUFFERS, int(memory) // 4 // 1024),
        storage=str(wanted.storage.size),
        storage_class=wanted.storage.storage_class_name or "",
        max_connections=effective.max_connections + SPARE_CONNECTIONS,
        pull_policy="Always" if effective.image_pull_policy == "Always" else "IfNotPresent",
        database_id=database_id,
        running=running,
        outside=outside,
        node_ports="NodePort" in effective.service_types,
        operated=operated,
    )


def _offered(
    wanted: DedicatedDatabase, cluster: Cluster, effective: Effective, plan: TenantPlanSpec
) -> tuple[str, int, Operated | None]:
    """The image, the user that it runs as, and what CloudNativePG needs to know where that makes the server.

    Raises:
        Waiting: DedicatedNotOffered.
        Terminal: PlanExceeded.
    """
    if wanted.provider not in plan.dedicated_providers:
        has = ", ".join(plan.dedicated_providers) or "none"
        raise _exceeded(
            f"spec.database.dedicated.provider: plan {effective.plan!r} does not have {wanted.provider}; it has {has}"
        )
    offer = cluster.spec.dedicated_databases
    if wanted.provider == BUILTIN:
        if offer is None or offer.image is None:
            raise _not_offered("mode", cluster, "image to run a server of the tenant's own from", "mode")
        return offer.image, offer.user, None
    made = offer.cloud_native_pg if offer is not None else None
    if made is None:
        raise _not_offered("dedicated.provider", cluster, "cloudNativePG", "provider")
    operated = Operated(int(wanted.version), wanted.instances, made.operator_namespace, tuple(made.api_server_cidrs))
    return made.image, 0, operated


def _not_offered(field: str, cluster: Cluster, what: str, other: str) -> Waiting:
    return Waiting(
        ConditionType.DATABASE_READY,
        Reason.DEDICATED_NOT_OFFERED,
        f"spec.database.{field}: Cluster {cluster.name!r} has no spec.dedicatedDatabases.{what}; the platform team "
        f"sets it, or choose another {other}",
    )


def needs(
    cpu: str | int, memory: str | int, storage: str | int, storage_class: str, *, instances: int = 1
) -> dict[str, str]:
    """What a server takes of a ResourceQuota with all its instances, by the quota's names."""
    cpus, memories, volumes = (times(each, instances) for each in (cpu, memory, storage))
    count = str(instances)
    taken = {
        **dict.fromkeys(("cpu", "requests.cpu", "limits.cpu"), cpus),
        **dict.fromkeys(("memory", "requests.memory", "limits.memory"), memories),
        "requests.storage": volumes,
        "pods": count,
        "count/pods": count,
        "persistentvolumeclaims": count,
        "count/persistentvolumeclaims": count,
    }
    if storage_class:
        taken[f"{storage_class}.storageclass.storage.k8s.io/requests.storage"] = volumes
        taken[f"{storage_class}.storageclass.storage.k8s.io/persistentvolumeclaims"] = count
    return taken


def _check_fits(wanted: DedicatedDatabase, size: Size, effective: Effective) -> None:
    storage_class = wanted.storage.storage_class_name or ""
    needed = needs(size.cpu, size.memory, wanted.storage.size, storage_class, instances=wanted.instances)
    for name, amount in needed.items():
        whole = effective.quota.get(name)
        if whole is not None and _number("storage.size", amount) > _number("quota", whole):
            raise _exceeded(
                f"spec.database.dedicated: its server needs {amount} of {name}, and all that the tenant's quota has is "
                f"{whole}; choose a smaller size or storage, or a plan with a larger quota"
            )
    most = effective.container.max
    if most is None:
        return
    for name, each, limit in (("cpu", size.cpu, most.cpu), ("memory", size.memory, most.memory)):
        if limit is not None and _number("sizes", each) > _number("limitRange", limit):
            raise _exceeded(
                f"spec.database.dedicated.size: {wanted.size} has {each} of {name}, and plan {effective.plan!r} lets "
                f"no container have more than {limit} (limitRange.container.max)"
            )


def _number(field: str, text: str | int) -> Decimal:
    try:
        return parse_quantity(text)
    except ValueError as error:
        raise _exceeded(f"spec.database.dedicated: {field}: {error}") from error


def _exceeded(message: str) -> Terminal:
    return Terminal(ConditionType.DATABASE_READY, Reason.PLAN_EXCEEDED, message)


def not_described() -> Terminal:
    """The tenant is to have, or has, a server of its own that its spec does not describe."""
    return Terminal(
        ConditionType.DATABASE_READY,
        Reason.PLAN_EXCEEDED,
        "spec.database.dedicated: this tenant's database is on a server of its own, and only the spec can say how "
        "large that is: set mode: Dedicated, and dedicated with version, size and storage",
    )


def address_told(server: DedicatedServer, service: Json | None) -> str:
    """Where the server can be reached from outside, for people; empty where it is not to be."""
    if not server.outside:
        return ""
    balancer = ((service or {}).get("status") or {}).get("loadBalancer") or {}
    addresses = [str(entry.get("ip") or entry.get("hostname") or "") for entry in balancer.get("ingress") or ()]
    told = ", ".join(f"{address}:5432" for address in addresses if address)
    return f"from outside: {told[:MAX_TOLD]}" if told else "from outside: the load balancer has no address yet"


# --- what is there ----------------------------------------------------------------------------------------------
def check_unchanged(server: DedicatedServer, live: Json) -> None:
    """That what a StatefulSet can't change is as it was made: else the API server would refuse it in its own words.

    Raises:
        Terminal: MoveNotSupported.
    """
    templates = live.get("spec", {}).get("volumeClaimTemplates") or [{}]
    spec = templates[0].get("spec", {})
    was = str(spec.get("resources", {}).get("requests", {}).get("storage", server.storage))
    storage_class = str(spec.get("storageClassName") or "")
    if parse_quantity(was) == parse_quantity(server.storage) and storage_class == server.storage_class:
        return
    raise Terminal(
        ConditionType.DATABASE_READY,
        Reason.MOVE_NOT_SUPPORTED,
        f"spec.database.dedicated.storage: its volume was made with {was} of "
        f"{storage_class or 'the default StorageClass'}, and can't be changed; set it back",
    )


def missing(record: str) -> Terminal:
    """The volume of a database that was there is not."""
    return Terminal(
        ConditionType.DATABASE_READY,
        Reason.DATABASE_MISSING,
        f"its database was on volume claim {POSTGRES_VOLUME!r}, which is gone or holds another one, and it is never "
        "made anew by itself: restore the claim with its volume, or delete this Tenant and apply it again with the "
        f"annotation {ANNOTATION_START_FRESH}={record} to start empty",
    )


def check_up(live: Json, pod: Json | None, quota: Json, needed: Mapping[str, str], record: str) -> None:
    """That the server runs as it was last wanted.

    Args:
        live: The StatefulSet.
        pod: Its pod, where it was looked at.
        quota: The status of the tenant's ResourceQuota.
        needed: What it takes of that.
        record: The name of the tenant's record.

    Raises:
        Waiting: DatabaseStarting: with what is known of why.
        Terminal: DatabaseMissing, as the container itself says.
    """
    status = live.get("status") or {}
    observed = status.get("observedGeneration", 0) >= live["metadata"].get("generation", 0)
    if observed and status.get("readyReplicas", 0) >= 1 and status.get("updatedReplicas", 0) >= 1:
        return
    why = "; ".join([*(short_of(quota, needed) if observed and not status.get("replicas") else ()), *_told(pod)])
    if why.startswith(LOST):
        raise missing(record)
    raise Waiting(
        ConditionType.DATABASE_READY,
        Reason.DATABASE_STARTING,
        f"its server (StatefulSet {POSTGRES}) is not ready yet{f': {why}' if why else ''}",
        retry_after=STARTING_RETRY if observed else PATIENT_RETRY,
    )


def not_replaced(why: str) -> Waiting:
    """The pod that its StatefulSet waits for is still there."""
    return Waiting(
        ConditionType.DATABASE_READY,
        Reason.DATABASE_STARTING,
        f"pod {POSTGRES_POD} is not as it is wanted by now, and is in the way: delete it, or apply "
        f"deploy/target-rbac.yaml on the cluster so that the operator may: {why[:MAX_TOLD]}",
        retry_after=PATIENT_RETRY,
    )


def is_stuck(live: Json, pod: Json, now: datetime) -> bool:
    """Whether a pod that is not Ready is another one than is wanted by now.

    Its StatefulSet's controller replaces a pod that is Ready, and waits for one that is not: for ever, where what it
    was made from was wrong. A container that runs is given the time to recover in which its probes do so, too.

    Args:
        live: The StatefulSet.
        pod: Its pod.
        now: The time.
    """
    status, metadata = live.get("status") or {}, pod["metadata"]
    if status.get("observedGeneration", 0) < live["metadata"].get("generation", 0) or not status.get("updateRevision"):
        return False  # its controller has not said yet which revision that is
    owners = (each.get("uid") for each in metadata.get("ownerReferences") or () if each.get("controller"))
    if live["metadata"]["uid"] not in owners or "deletionTimestamp" in metadata:
        return False
    if (metadata.get("labels") or {}).get(REVISION_LABEL) == status["updateRevision"]:
        return False
    of_pod = pod.get("status") or {}
    ready = any(each.get("type") == "Ready" and each.get("status") == "True" for each in of_pod.get("conditions") or ())
    return not ready and not any(_recovers(each, now) for each in of_pod.get("containerStatuses") or ())


def _recovers(container: Json, now: datetime) -> bool:
    began = ((container.get("state") or {}).get("running") or {}).get("startedAt")
    return began is not None and now - datetime.fromisoformat(began) < RECOVERY


def short_of(quota: Json, needed: Mapping[str, str]) -> Iterator[str]:
    """Where the quota has too little left for the pod; what storage takes is taken by its claim already."""
    hard, used = quota.get("hard") or {}, quota.get("used") or {}
    for name, amount in needed.items():
        if name not in hard or "storage" in name or "persistentvolumeclaims" in name:
            continue
        left = parse_quantity(hard[name]) - parse_quantity(used.get(name, "0"))
        if left < parse_quantity(amount):
            yield f"it needs {amount} of {name}; of the tenant's quota of {hard[name]}, {used.get(name, '0')} is in use"


def _told(pod: Json | None) -> Iterator[str]:
    """What the pod says of itself: that it can't be placed, or why its container waits or ended."""
    status = (pod or {}).get("status") or {}
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            yield f"pod {POSTGRES_POD} is not placed on a node: {str(condition.get('message', ''))[:MAX_TOLD]}"
    for container in status.get("containerStatuses") or ():
        ended = (container.get("state") or {}).get("terminated") or (container.get("lastState") or {}).get("terminated")
        if message := str((ended or {}).get("message", ""))[:MAX_TOLD]:
            yield message
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            yield f"{waiting['reason']} {str(waiting.get('message', ''))[:MAX_TOLD]}".strip()
