"""How what Tenantry looks after is doing: the operator, platform kinds, tenants, records. Judges; asks nobody."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Final

from tenantry import __version__
from tenantry.api.conditions import ConditionType
from tenantry.api.names import IDENTITY_CONFIG_MAP, IDENTITY_KEY, TENANT_FINALIZER
from tenantry.api.tenantrecord import RecordState
from tenantry.cli.departed import is_held, ready_of
from tenantry.cli.findings import Area, Finding, notice, well, wrong
from tenantry.decide.deletion import parse_time
from tenantry.ports.world import Json

PATIENCE: Final = timedelta(minutes=10)
"""What has not become Ready for longer than this does not pass for being under way."""
UNOBSERVED_PATIENCE: Final = timedelta(minutes=2)
"""An operator that runs has looked at a new object by then."""
MOST_NAMED: Final = 10
"""So many tenants are told of one by one; all are counted."""

TROUBLESHOOTING: Final = "docs/guides/troubleshooting.md has a section on this reason"
START: Final = "start the operator, or look at why it does not: its log, and /readyz?verbose"
LOOK: Final = (
    "kubectl -n {0} describe pods -l app.kubernetes.io/name=tenantry; kubectl -n {0} logs deploy/{1} --previous"
)


# --- the operator ---------------------------------------------------------------------------------------------------
def of_identity(config_map: Json | None) -> Finding:
    """Whether the management cluster knows who it is."""
    what = f"ConfigMap {IDENTITY_CONFIG_MAP}"
    if config_map is None:
        return wrong(
            Area.OPERATOR,
            what,
            "is not there: no operator has started here yet, or somebody deleted it",
            "start the operator; if there were tenants, with --management-id and the id in the label "
            "tenantry.io/management-id of their namespaces",
        )
    if not (config_map.get("data") or {}).get(IDENTITY_KEY):
        return wrong(Area.OPERATOR, what, f"has no {IDENTITY_KEY}", "put the id back that is in the targets' labels")
    return well(Area.OPERATOR, what, "holds the management id")


def of_deployments(deployments: Sequence[Json], namespace: str) -> list[Finding]:
    """Whether there is one, and whether it has the replicas that it asks for."""
    if not deployments:
        remedy = "helm install, or kubectl apply --server-side -f deploy/install.yaml; --no-pods if it runs elsewhere"
        return [wrong(Area.OPERATOR, f"Deployment in {namespace}", "there is none of the operator", remedy)]
    return [_of_deployment(each, namespace) for each in deployments]


def _of_deployment(body: Json, namespace: str) -> Finding:
    name, wanted = body["metadata"]["name"], body["spec"].get("replicas", 1)
    ready = (body.get("status") or {}).get("readyReplicas", 0)
    what = f"Deployment {namespace}/{name}"
    if not wanted:
        remedy = f"kubectl -n {namespace} scale deployment {name} --replicas=1"
        return wrong(Area.OPERATOR, what, "is scaled to zero: nothing is looked after", remedy)
    if ready < wanted:
        return wrong(Area.OPERATOR, what, f"{ready} of {wanted} ready", LOOK.format(namespace, name))
    return well(Area.OPERATOR, what, f"{ready} of {wanted} ready")


def of_pods(pods: Sequence[Json], namespace: str) -> list[Finding]:
    """Whether each is ready, and of this version."""
    if not pods:
        remedy = f"kubectl -n {namespace} get events; --no-pods if the operator runs elsewhere"
        return [wrong(Area.OPERATOR, f"pods in {namespace}", "no pod of the operator is seen", remedy)]
    return [_of_pod(each, namespace) for each in pods]


def _of_pod(pod: Json, namespace: str) -> Finding:
    what = f"Pod {namespace}/{pod['metadata']['name']}"
    status = pod.get("status") or {}
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions") or ())
    version = version_of(pod)
    if not ready:
        told = f"not ready: {_why(status)}, of version {version or 'unknown'}"
        return wrong(Area.OPERATOR, what, told, LOOK.format(namespace, "tenantry-operator"))
    if version not in (None, __version__):
        told = f"ready, of version {version}, and this command is {__version__}"
        return notice(Area.OPERATOR, what, told, "use the command of the operator's version, or finish the upgrade")
    return well(Area.OPERATOR, what, f"ready, of version {version or 'unknown'}")


def version_of(pod: Json) -> str | None:
    """Which version a pod runs, as the chart's label or the tag of its image says; None where neither does."""
    if label := (pod["metadata"].get("labels") or {}).get("app.kubernetes.io/version"):
        return str(label)
    image = next((each.get("image", "") for each in pod["spec"].get("containers") or ()), "")
    _, colon, tag = image.partition("@")[0].rpartition("/")[2].partition(":")
    return tag if colon else None


def _why(status: Json) -> str:
    for each in status.get("containerStatuses") or ():
        for state in ("waiting", "terminated"):
            if found := (each.get("state") or {}).get(state):
                told = f"{found.get('reason', state)} {found.get('message', '')}".strip()
                return f"{told}, {each.get('restartCount', 0)} restarts"
    return str(status.get("phase") or "Unknown")


# --- platform kinds -------------------------------------------------------------------------------------------------
def of_platform(kind: str, bodies: Sequence[Json]) -> list[Finding]:
    """Those that are not Ready, one by one, and how many there are."""
    bad = [each for each in bodies if ready_of(each).get("status") != "True"]
    findings = [_of_platform_object(kind, each) for each in bad]
    if not bad:
        findings.append(well(Area.PLATFORM, kind, f"{len(bodies)}, all Ready" if bodies else "there is none"))
    return findings


def _of_platform_object(kind: str, body: Json) -> Finding:
    ready = ready_of(body)
    what = f"{kind} {body['metadata']['name']}"
    if not ready:
        return wrong(Area.PLATFORM, what, "nobody has looked at it yet", START)
    told = f"{ready.get('reason', '')}: {ready.get('message', '')}".strip(": ")
    return wrong(Area.PLATFORM, what, told, TROUBLESHOOTING)


# --- tenants --------------------------------------------------------------------------------------------------------
class Rank(IntEnum):
    """How a tenant is doing; the worst first."""

    STALLED = 0
    UNOBSERVED = 1
    STUCK = 2
    HELD = 3
    DELETING = 4
    WAITING = 5
    FINE = 6


@dataclass(frozen=True, slots=True)
class Standing:
    """One tenant: how it is doing, under which word it is counted, and what it says itself."""

    name: str
    rank: Rank
    word: str
    message: str


def standing_of(tenant: Json, now: datetime) -> Standing:
    """How a tenant is doing.

    Args:
        tenant: As the API server has it.
        now: The API server's time.
    """
    metadata, status, ready = tenant["metadata"], tenant.get("status") or {}, ready_of(tenant)
    name = f"{metadata['namespace']}/{metadata['name']}"
    reason, message = str(ready.get("reason") or "Unobserved"), str(ready.get("message") or "")
    if is_held(tenant):
        return Standing(name, Rank.HELD, reason, message)
    if "deletionTimestamp" in metadata:
        ours = TENANT_FINALIZER in metadata.get("finalizers", ())
        told = message if ours else "it waits for somebody else's finalizer"
        return Standing(name, Rank.DELETING, "Deleting", f"{reason}: {told}" if ours else told)
    if any(each["type"] == "Stalled" and each["status"] == "True" for each in status.get("conditions") or ()):
        return Standing(name, Rank.STALLED, reason, message)
    if not ready or status.get("observedGeneration", -1) < 0:
        old = _older(metadata.get("creationTimestamp"), now, UNOBSERVED_PATIENCE)
        return Standing(name, Rank.UNOBSERVED if old else Rank.WAITING, "Unobserved", "nobody has looked at it yet")
    if ready["status"] == "True":
        return Standing(name, Rank.FINE, reason, message)
    stuck = _older(ready.get("lastTransitionTime"), now, PATIENCE)
    return Standing(name, Rank.STUCK if stuck else Rank.WAITING, reason, message)


def _older(time: str | None, now: datetime, patience: timedelta) -> bool:
    """Whether a time is so long ago; one that says nothing is."""
    since = parse_time(time)
    return since is None or now - since > patience


_WAYS: Final = {
    Rank.STALLED: TROUBLESHOOTING,
    Rank.STUCK: TROUBLESHOOTING,
    Rank.UNOBSERVED: START,
    Rank.HELD: "docs/guides/deletion-by-mistake.md, then tenantry deletions confirm or abort",
}


def of_tenants(tenants: Iterable[Json], now: datetime) -> list[Finding]:
    """How many there are in which state, and the worst of them by name."""
    bodies = list(tenants)
    all_of_them = sorted((standing_of(each, now) for each in bodies), key=lambda each: (each.rank, each.name))
    bad = [each for each in all_of_them if each.rank in _WAYS]
    findings = [
        wrong(
            Area.DELETIONS if each.rank == Rank.HELD else Area.TENANTS,
            f"Tenant {each.name}",
            f"{each.word}: {each.message}".rstrip(": "),
            _WAYS[each.rank],
        )
        for each in bad[:MOST_NAMED]
    ]
    if len(bad) > MOST_NAMED:
        rest = Counter(each.word for each in bad[MOST_NAMED:])
        remedy = "tenantry support-bundle has them all; or kubectl get tenants -A"
        findings.append(wrong(Area.TENANTS, f"{len(bad) - MOST_NAMED} more tenants", _counted(rest), remedy))
    findings += [
        notice(Area.TENANTS, f"Tenant {each.name}", f"{each.word}: {each.message}".rstrip(": "))
        for each in [one for one in all_of_them if one.rank in (Rank.DELETING, Rank.WAITING)][:MOST_NAMED]
    ]
    findings += _of_backups(bodies)
    count = Counter(each.word for each in all_of_them)
    findings.append(well(Area.TENANTS, f"{len(all_of_them)} tenants", _counted(count) or "there is none"))
    if not any(each.rank == Rank.HELD for each in all_of_them):
        findings.append(well(Area.DELETIONS, "deletions", "none is held"))
    return findings


def _of_backups(tenants: Iterable[Json]) -> list[Finding]:
    """The first of those whose backups are not as they should be, whether they are Ready or not."""
    bad = [
        (f"{each['metadata']['namespace']}/{each['metadata']['name']}", condition)
        for each in tenants
        for condition in (each.get("status") or {}).get("conditions") or ()
        if (condition["type"], condition["status"]) == (ConditionType.BACKUP_HEALTHY, "False")
    ]
    findings = [
        wrong(
            Area.TENANTS,
            f"backups of Tenant {name}",
            f"{condition.get('reason', '')}: {condition.get('message', '')}",
            TROUBLESHOOTING,
        )
        for name, condition in sorted(bad, key=lambda each: each[0])[:MOST_NAMED]
    ]
    if len(bad) > MOST_NAMED:
        remedy = "kubectl get tenants -A -o wide"
        findings.append(wrong(Area.TENANTS, f"backups of {len(bad) - MOST_NAMED} more", "are not well", remedy))
    return findings


def _counted(count: Counter[str]) -> str:
    return ", ".join(f"{number} {word}" for word, number in count.most_common())


# --- records --------------------------------------------------------------------------------------------------------
def of_records(records: Sequence[Json], tenants: Iterable[Json]) -> list[Finding]:
    """Those whose Tenant is not there though they say that it is, and how many there are of which state."""
    there = {(each["metadata"]["namespace"], each["metadata"]["name"]) for each in tenants}
    lone = [
        each
        for each in records
        if each["spec"]["state"] == RecordState.ACTIVE
        and (each["spec"]["workspace"], each["spec"]["tenant"]) not in there
    ]
    findings = [
        wrong(
            Area.RECORDS,
            f"TenantRecord {each['metadata']['name']}",
            f"is Active without a Tenant {each['spec']['workspace']}/{each['spec']['tenant']}: what it has runs on",
            "apply the Tenant again to take it over (docs/guides/deletion-by-mistake.md)",
        )
        for each in lone[:MOST_NAMED]
    ]
    if len(lone) > MOST_NAMED:
        remedy = "compare kubectl get tnrec with kubectl get tenants -A"
        findings.append(wrong(Area.RECORDS, f"{len(lone) - MOST_NAMED} more", "Active without a Tenant", remedy))
    count = Counter(str(each["spec"]["state"]) for each in records)
    findings.append(well(Area.RECORDS, f"{len(records)} records", _counted(count) or "there is none"))
    return findings
