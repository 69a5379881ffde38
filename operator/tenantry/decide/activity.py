"""What brings each of a tenant's own workloads to zero and back, and what restarts those that read its login.

Everything that is needed to switch a workload on again is kept on the workload itself, written in the same patch that
switches it off: no order of crashes, retries or switches can lose it.

An autoscaler needs no care: while a workload is at zero, its HorizontalPodAutoscaler does nothing. The number to
remember is the one that the workload has, not the one in anybody's manifest: the autoscaler's, where there is one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from tenantry.api.names import (
    ANNOTATION_REPLICAS,
    ANNOTATION_RESTARTED_AT,
    ANNOTATION_SUSPENDED,
    LABEL_TASK,
    SECRET_DATABASE,
)
from tenantry.api.resources import CRON_JOBS, JOBS

Json = dict[str, Any]

OFF: Final = "off"
TASKS_OFF: Final = "tasks-off"

MOST_REPLICAS: Final = 1000
"""What a remembered number is cut to: tenants can write it."""
_LONGEST_NUMBER: Final = 10
_SUSPENDABLE: Final = frozenset({CRON_JOBS.kind, JOBS.kind})
_FINISHED: Final = frozenset({"Complete", "Failed"})


@dataclass(frozen=True, slots=True)
class Activity:
    """What of a tenant may run.

    Attributes:
        workloads: Anything at all: `spec.enabled`, and not deleted.
        tasks: `spec.tasks.enabled`: CronJobs, Jobs, and workloads labelled `tenantry.io/task: "true"`. They run only
            where workloads do.
    """

    workloads: bool
    tasks: bool


# --- the note on the namespace: nothing is read for a tenant that is on -----------------------------------------
def note(activity: Activity) -> str | None:
    """The annotation `tenantry.io/activity` of the namespace: `off`, `tasks-off`, or None where all is on.

    It is written before the first workload is changed and taken off after the last one is back.
    """
    if not activity.workloads:
        return OFF
    return None if activity.tasks else TASKS_OFF


def must_settle(noted: str | None, activity: Activity) -> bool:
    """Whether the workloads have to be looked at; False, without a request, for all that is on and always was.

    While something is off, whoever deploys may bring it up again, so it is looked at on each resync. Any note
    counts, for a process may have died between it and the last workload.

    Args:
        noted: The namespace's annotation as it is now.
        activity: What is wanted.
    """
    return noted is not None or note(activity) is not None


# --- one workload ---------------------------------------------------------------------------------------------
def change(live: Mapping[str, Any], activity: Activity) -> Json | None:
    """The JSON merge patch that one workload needs, or None.

    Args:
        live: A Deployment, StatefulSet, ReplicaSet, ReplicationController, CronJob or Job as the API server has it.
        activity: What of the tenant may run.
    """
    if left_alone(live):
        return None
    on = activity.workloads and (activity.tasks or not _is_task(live))
    return _suspension(live, on) if live["kind"] in _SUSPENDABLE else _scale(live, on)


def left_alone(live: Mapping[str, Any]) -> bool:
    """Whether a workload is not ours to switch: it is being deleted, or another controller decides over it.

    That controller (a Deployment's over its ReplicaSets, a database operator's over its StatefulSets) would set back
    at once whatever we set, and we would again, without end. A CronJob's controller only makes Jobs and never looks at
    their suspension: those are switched.
    """
    metadata = live["metadata"]
    if metadata.get("deletionTimestamp"):
        return True
    return any(
        owner.get("controller") and not (live["kind"] == JOBS.kind and _is_cron_job(owner))
        for owner in metadata.get("ownerReferences") or ()
    )


def _is_cron_job(owner: Mapping[str, Any]) -> bool:
    return owner.get("kind") == CRON_JOBS.kind and str(owner.get("apiVersion")).startswith(f"{CRON_JOBS.group}/")


def _is_task(live: Mapping[str, Any]) -> bool:
    return live["kind"] in _SUSPENDABLE or (live["metadata"].get("labels") or {}).get(LABEL_TASK) == "true"


def _scale(live: Mapping[str, Any], on: bool) -> Json | None:
    replicas = _replicas(live)
    remembered = _annotations(live["metadata"]).get(ANNOTATION_REPLICAS)
    if on:
        if remembered is None:  # never switched off by us: at zero, it is so by its owner's will
            return None
        # Already up: somebody scaled it since, and knows better than we what it needs.
        return _patch(ANNOTATION_REPLICAS, None, "replicas", replicas or _as_number(remembered))
    if replicas == 0:  # ours, or its owner's: 0 is never remembered
        return None
    # Not remembered yet, or scaled up by hand or from git since: the newest number is the one that is wanted.
    return _patch(ANNOTATION_REPLICAS, str(replicas), "replicas", 0)


def _suspension(live: Mapping[str, Any], on: bool) -> Json | None:
    suspended = bool((live.get("spec") or {}).get("suspend"))
    ours = ANNOTATION_SUSPENDED in _annotations(live["metadata"])
    if on:
        return _patch(ANNOTATION_SUSPENDED, None, "suspend", False) if ours else None
    if suspended or _is_finished(live):  # by us, or by its owner: then it stays so afterwards
        return None
    return _patch(ANNOTATION_SUSPENDED, "true", "suspend", True)


def _is_finished(live: Mapping[str, Any]) -> bool:
    conditions = (live.get("status") or {}).get("conditions") or ()
    return live["kind"] == JOBS.kind and any(
        condition.get("type") in _FINISHED and condition.get("status") == "True" for condition in conditions
    )


def _replicas(live: Mapping[str, Any]) -> int:
    replicas = (live.get("spec") or {}).get("replicas")
    return 1 if replicas is None else int(replicas)


def _as_number(remembered: str) -> int:
    """The remembered number; 1 for what is none, and at most 1000."""
    if not (remembered.isascii() and remembered.isdecimal()):
        return 1
    digits = remembered.lstrip("0") or "0"
    return MOST_REPLICAS if len(digits) > _LONGEST_NUMBER else min(int(digits), MOST_REPLICAS)


def _patch(annotation: str, kept: str | None, field: str, value: int | bool) -> Json:
    return {"metadata": {"annotations": {annotation: kept}}, "spec": {field: value}}


# --- restarts -------------------------------------------------------------------------------------------------
def restart(live: Mapping[str, Any], at: str) -> Json | None:
    """The JSON merge patch that gives a workload new pods, if its pods read the tenant's login only at their start.

    A login in a mounted volume is updated in the running pod, and a workload at zero reads it when it comes back: those
    need no restart. Any other time than `at` leads to one, a later one too: clocks jump, and one rolling restart too
    many harms less than pods that keep a login which will be locked.

    Args:
        live: A Deployment or StatefulSet as the API server has it.
        at: The time of the rotation, RFC 3339; once for each, for it is the same time that makes this idempotent.
    """
    template = (live.get("spec") or {}).get("template") or {}
    if left_alone(live) or _replicas(live) == 0 or not _reads_login_at_start(template.get("spec") or {}):
        return None
    if _same_time(_annotations(template.get("metadata") or {}).get(ANNOTATION_RESTARTED_AT), at):
        return None
    return {"spec": {"template": {"metadata": {"annotations": {ANNOTATION_RESTARTED_AT: at}}}}}


def _reads_login_at_start(pod: Mapping[str, Any]) -> bool:
    containers = [*(pod.get("containers") or ()), *(pod.get("initContainers") or ())]
    return any(name == SECRET_DATABASE for container in containers for name in _env_secrets(container))


def _env_secrets(container: Mapping[str, Any]) -> Iterator[str | None]:
    for source in container.get("envFrom") or ():
        yield (source.get("secretRef") or {}).get("name")
    for variable in container.get("env") or ():
        yield ((variable.get("valueFrom") or {}).get("secretKeyRef") or {}).get("name")


def _same_time(before: str | None, at: str) -> bool:
    """Whether two texts tell the same instant: kubectl writes it in the zone of whoever typed."""
    if before is None or before == at:
        return before == at
    try:
        return datetime.fromisoformat(before) == datetime.fromisoformat(at)
    except ValueError:
        return False


def _annotations(metadata: Mapping[str, Any]) -> Mapping[str, str]:
    return metadata.get("annotations") or {}
