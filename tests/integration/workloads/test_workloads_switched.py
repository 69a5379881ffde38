"""A tenant's workloads to zero and back, on a real target."""

from __future__ import annotations

from datetime import UTC, datetime

from tests.integration.acting import eventually, made, manifest
from tests.integration.workloads.room import (
    HORIZONTAL_POD_AUTOSCALERS,
    OFF,
    ON,
    TASKS_OFF,
    Room,
    cron_spec,
    job_spec,
    scaled,
    settled,
    template,
)

from tenantry.api.names import ANNOTATION_REPLICAS, LABEL_TASK
from tenantry.api.resources import (
    CRON_JOBS,
    DEPLOYMENTS,
    JOBS,
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
    STATEFUL_SETS,
    Resource,
)


async def test_all_that_runs_goes_to_zero_and_comes_back_as_it_was(room: Room) -> None:
    web = room.deployment("web", replicas=3)
    idle = room.deployment("idle", replicas=0)
    store = room.make(STATEFUL_SETS, "store", **scaled("store", serviceName="store"))
    bare = room.make(REPLICA_SETS, "bare", **scaled("bare"))
    old = room.make(REPLICATION_CONTROLLERS, "old", replicas=4, selector={"app": "old"}, template=template("old"))
    nightly = room.make(CRON_JOBS, "nightly", **cron_spec("nightly"))
    paused = room.make(CRON_JOBS, "paused", **cron_spec("paused", suspend=True))
    once = room.make(JOBS, "once", **job_spec("once"))
    before = [
        (DEPLOYMENTS, web), (DEPLOYMENTS, idle), (STATEFUL_SETS, store), (REPLICA_SETS, bare),
        (REPLICATION_CONTROLLERS, old), (CRON_JOBS, nightly), (CRON_JOBS, paused), (JOBS, once),
    ]  # fmt: skip

    assert await room.workloads.settle(OFF) == 6
    assert room.replicas("web") == (0, "3")
    assert room.replicas("idle") == (0, None)
    assert room.replicas("store", STATEFUL_SETS) == (0, "2")
    assert room.replicas("bare", REPLICA_SETS) == (0, "2")
    assert room.replicas("old", REPLICATION_CONTROLLERS) == (0, "4")
    assert room.suspended(CRON_JOBS, "nightly") == (True, True)
    assert room.suspended(CRON_JOBS, "paused") == (True, False)
    assert room.suspended(JOBS, "once") == (True, True)
    assert await room.workloads.settle(OFF) == 0

    assert await room.workloads.settle(ON) == 6
    for resource, body in before:
        assert settled(room.get(resource, body["metadata"]["name"])) == settled(body)
    assert await room.workloads.settle(ON) == 0


async def test_the_controllers_follow_and_no_pod_is_left(room: Room) -> None:
    """A Deployment's ReplicaSets get its annotations from its controller, and are left to it all the same."""
    room.deployment("web")
    pods = Resource("", "v1", "Pod", "pods").path(room.namespace)
    eventually(lambda: len(room.admin.get(pods).body["items"]) == 2)
    await room.workloads.settle(OFF)
    eventually(lambda: not [pod for pod in room.admin.get(pods).body["items"] if "deletionTimestamp" not in pod])
    (controlled,) = room.admin.get(REPLICA_SETS.path(room.namespace)).body["items"]
    assert controlled["spec"]["replicas"] == 0
    await room.workloads.settle(ON)
    eventually(lambda: len(room.admin.get(pods).body["items"]) == 2)
    assert room.replicas("web") == (2, None)
    (controlled,) = room.admin.get(REPLICA_SETS.path(room.namespace)).body["items"]
    assert controlled["spec"]["replicas"] == 2


async def test_without_tasks_only_tasks_stop(room: Room) -> None:
    room.deployment("web")
    room.deployment("worker", labels={LABEL_TASK: "true"})
    room.make(CRON_JOBS, "nightly", **cron_spec("nightly"))
    assert await room.workloads.settle(TASKS_OFF) == 2
    assert (room.replicas("web"), room.replicas("worker")) == ((2, None), (0, "2"))
    assert await room.workloads.settle(OFF) == 1
    assert await room.workloads.settle(TASKS_OFF) == 1
    assert (room.replicas("web"), room.replicas("worker")) == ((2, None), (0, "2"))
    assert await room.workloads.settle(ON) == 2
    assert (room.replicas("worker"), room.suspended(CRON_JOBS, "nightly")) == ((2, None), (False, False))


async def test_what_is_scaled_or_resumed_while_off_goes_back_and_the_newest_number_returns(room: Room) -> None:
    room.deployment("web")
    room.make(CRON_JOBS, "nightly", **cron_spec("nightly"))
    await room.workloads.settle(OFF)
    room.scale("web", 5)
    room.patch(CRON_JOBS, "nightly", {"spec": {"suspend": False}})
    assert await room.workloads.settle(OFF) == 2
    assert (room.replicas("web"), room.suspended(CRON_JOBS, "nightly")) == ((0, "5"), (True, True))
    await room.workloads.settle(ON)
    assert (room.replicas("web"), room.suspended(CRON_JOBS, "nightly")) == ((5, None), (False, False))


async def test_what_is_up_already_when_all_is_switched_on_keeps_its_number(room: Room) -> None:
    room.deployment("web")
    await room.workloads.settle(OFF)
    room.scale("web", 7)
    await room.workloads.settle(ON)
    assert room.replicas("web") == (7, None)


async def test_the_number_of_an_autoscaler_is_the_one_that_comes_back(room: Room) -> None:
    room.deployment("web")
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    room.make(HORIZONTAL_POD_AUTOSCALERS, "web", minReplicas=4, maxReplicas=9, scaleTargetRef=reference)
    eventually(lambda: room.replicas("web")[0] == 4, within=60)
    await room.workloads.settle(OFF)
    path = HORIZONTAL_POD_AUTOSCALERS.path(room.namespace, "web")

    def asleep() -> bool:
        conditions = room.admin.get(path).body.get("status", {}).get("conditions", [])
        return any(each["reason"] == "ScalingDisabled" for each in conditions)

    eventually(asleep, within=60)
    assert room.replicas("web") == (0, "4")
    await room.workloads.settle(ON)
    assert room.replicas("web") == (4, None)


async def test_a_number_that_is_none_brings_one_back(room: Room) -> None:
    room.deployment("web")
    await room.workloads.settle(OFF)
    room.patch(DEPLOYMENTS, "web", {"metadata": {"annotations": {ANNOTATION_REPLICAS: "-9; drop"}}})
    await room.workloads.settle(ON)
    assert room.replicas("web") == (1, None)


async def test_the_running_job_of_a_cron_job_is_suspended_and_a_finished_one_is_not(room: Room) -> None:
    nightly = room.make(CRON_JOBS, "nightly", **cron_spec("nightly"))
    owner = {
        "apiVersion": "batch/v1", "kind": "CronJob", "name": "nightly", "uid": nightly["metadata"]["uid"],
        "controller": True,
    }  # fmt: skip
    for name in ("running", "done"):
        body = manifest(JOBS, name, room.namespace, spec=job_spec(name))
        body["metadata"]["ownerReferences"] = [owner]
        made(room.admin.create(JOBS, body, dry=False))
    eventually(lambda: "startTime" in room.get(JOBS, "done").get("status", {}))
    finish(room, "done")
    assert await room.workloads.settle(TASKS_OFF) == 2
    assert room.suspended(JOBS, "running") == (True, True)
    assert room.suspended(JOBS, "done") == (False, False)
    assert await room.workloads.settle(ON) == 2
    assert room.suspended(JOBS, "running") == (False, False)


def finish(room: Room, name: str) -> None:
    """As the Job controller does it at the end of the last pod."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    conditions = [
        {"type": kind, "status": "True", "lastProbeTime": now, "lastTransitionTime": now}
        for kind in ("SuccessCriteriaMet", "Complete")
    ]
    path = JOBS.path(room.namespace, name, "status")

    def told() -> bool:  # its controller writes at the same time
        start = room.get(JOBS, name)["status"]["startTime"]
        status = {"startTime": start, "conditions": conditions, "completionTime": now, "active": 0, "ready": 0,
                  "terminating": 0, "succeeded": 1, "uncountedTerminatedPods": None}  # fmt: skip
        return room.admin.patch(path, {"status": status}, dry=False).status == 200

    eventually(told)


async def test_what_another_controller_decides_over_is_left_to_it(room: Room) -> None:
    owner = room.deployment("owner", replicas=0)
    body = manifest(STATEFUL_SETS, "managed", room.namespace, spec=scaled("managed", serviceName="x"))
    body["metadata"]["ownerReferences"] = [
        {"apiVersion": "apps/v1", "kind": "Deployment", "name": "owner", "uid": owner["metadata"]["uid"],
         "controller": True}
    ]  # fmt: skip
    made(room.admin.create(STATEFUL_SETS, body, dry=False))
    assert await room.workloads.settle(OFF) == 0
    assert room.replicas("managed", STATEFUL_SETS) == (2, None)
