"""A tenant's workloads to zero and back, and restarted, on a real target with no more than the operator's rights."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, cast

import pytest
from tests.integration.acting import Api, eventually, made, manifest, pod_spec
from tests.integration.target_scene import Scene, target_scene

from tenantry.adapters.breaker import Breaker
from tenantry.adapters.kube.client import connect
from tenantry.adapters.kube.kubeconfig import parse_kubeconfig
from tenantry.adapters.kube.live import LiveCache
from tenantry.adapters.kube.target import TargetConnection
from tenantry.api.names import (
    ANNOTATION_REPLICAS,
    ANNOTATION_RESTARTED_AT,
    ANNOTATION_SUSPENDED,
    LABEL_TASK,
    OPERATOR_SERVICE_ACCOUNT,
    SECRET_DATABASE,
    SYSTEM_NAMESPACE,
)
from tenantry.api.resources import (
    CRON_JOBS,
    DEPLOYMENTS,
    JOBS,
    NAMESPACES,
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
    STATEFUL_SETS,
    Ref,
    Resource,
)
from tenantry.decide.activity import Activity
from tenantry.ports import ConflictError, KubeError, Target
from tenantry.reconcile.workloads import TRIES, Workloads, WorkloadsRefusedError
from tenantry.runtime.clock import SystemClock

if TYPE_CHECKING:
    from tests.controlplane.access import ClusterAccess

Json = dict[str, Any]
ON, OFF = Activity(workloads=True, tasks=True), Activity(workloads=False, tasks=True)
TASKS_OFF = Activity(workloads=True, tasks=False)
NOON, LATER = "2026-05-01T12:00:00Z", "2026-05-02T12:00:00Z"
HORIZONTAL_POD_AUTOSCALERS: Final = Resource(
    "autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"
)  # fmt: skip
POLICIES: Final = Resource(
    "admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies", namespaced=False
)
BINDINGS: Final = Resource(
    "admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings",
    namespaced=False,
)  # fmt: skip
BY_LOGIN: Final = {"env": [{"name": "P", "valueFrom": {"secretKeyRef": {"name": SECRET_DATABASE, "key": "password"}}}]}


@pytest.fixture(scope="module")
def scene(target: ClusterAccess) -> Iterator[Scene]:
    with target_scene(target.kubeconfig) as scene:
        eventually(lambda: scene.operator.may("patch", DEPLOYMENTS, scene.namespace))
        yield scene


@pytest.fixture
async def connection(target: ClusterAccess) -> AsyncIterator[TargetConnection]:
    """The target as the operator's ServiceAccount."""
    kubeconfig = target.service_account_kubeconfig(SYSTEM_NAMESPACE, OPERATOR_SERVICE_ACCOUNT)
    client = await connect(parse_kubeconfig(kubeconfig, now=datetime.now(UTC)), allow_loopback=True)
    cache = LiveCache(lambda _ref, _tenant, _body: None)
    target_connection = TargetConnection("eu-1", client, cache, Breaker(clock=SystemClock()), labels="")
    yield target_connection
    await target_connection.close()


class Room:
    """The tenant's namespace, emptied of workloads after each test.

    Attributes:
        workloads: What is tested.
        kube: The operator's client.
    """

    def __init__(self, scene: Scene, connection: TargetConnection) -> None:
        self._scene = scene
        self.namespace = scene.namespace
        self.admin: Api = scene.admin
        self.tenant = scene.people["edit"]
        self.connection = connection
        self.kube = connection.kube
        self.workloads = Workloads(connection, scene.namespace)

    def make(self, resource: Resource, name: str, *, labels: Json | None = None, **spec: Any) -> Json:
        """A workload of the tenant's, as the API server stored it."""
        body = manifest(resource, name, self.namespace, labels=labels or {}, annotations={"note": "kept"}, spec=spec)
        return made(self.admin.create(resource, body, dry=False)).body

    def deployment(self, name: str = "web", *, labels: Json | None = None, **spec: Any) -> Json:
        return self.make(DEPLOYMENTS, name, labels=labels, **scaled(name, **spec))

    def get(self, resource: Resource, name: str) -> Json:
        return made(self.admin.get(resource.path(self.namespace, name))).body

    def patch(self, resource: Resource, name: str, patch: Json) -> Json:
        return made(self.tenant.patch(resource.path(self.namespace, name), patch, dry=False)).body

    def scale(self, name: str, replicas: int) -> None:
        self.patch(DEPLOYMENTS, name, {"spec": {"replicas": replicas}})

    def replicas(self, name: str = "web", resource: Resource = DEPLOYMENTS) -> tuple[int, str | None]:
        """The number, and the one that is remembered."""
        body = self.get(resource, name)
        return body["spec"]["replicas"], body["metadata"].get("annotations", {}).get(ANNOTATION_REPLICAS)

    def suspended(self, resource: Resource, name: str) -> tuple[bool, bool]:
        """Whether it is, and whether by us."""
        body = self.get(resource, name)
        return body["spec"].get("suspend", False), ANNOTATION_SUSPENDED in body["metadata"].get("annotations", {})

    def restarted_at(self, name: str, resource: Resource = DEPLOYMENTS) -> str | None:
        found = self.get(resource, name)["spec"]["template"]["metadata"].get("annotations", {})
        return str(found[ANNOTATION_RESTARTED_AT]) if ANNOTATION_RESTARTED_AT in found else None

    def clear(self) -> None:
        for resource in (HORIZONTAL_POD_AUTOSCALERS, CRON_JOBS, DEPLOYMENTS, STATEFUL_SETS, JOBS, REPLICA_SETS,
                         REPLICATION_CONTROLLERS):  # fmt: skip
            self._delete_all(resource.path(self.namespace))

    def _delete_all(self, path: str) -> None:
        self.admin.delete(f"{path}?propagationPolicy=Background", dry=False)
        eventually(lambda: not self.admin.get(path).body["items"], within=30)


@pytest.fixture
def room(scene: Scene, connection: TargetConnection) -> Iterator[Room]:
    opened = Room(scene, connection)
    yield opened
    opened.clear()


def template(name: str, **container: Any) -> Json:
    pod = pod_spec()
    pod["containers"][0] |= container
    return {"metadata": {"labels": {"app": name}}, "spec": pod}


def scaled(name: str, *, container: Json | None = None, **spec: Any) -> Json:
    selector = {"matchLabels": {"app": name}}
    return {"replicas": 2, "selector": selector, "template": template(name, **(container or {})), **spec}


def job_spec(name: str, **spec: Any) -> Json:
    body = template(name)
    body["spec"]["restartPolicy"] = "Never"
    return {"template": body, **spec}


def cron_spec(name: str, **spec: Any) -> Json:
    return {"schedule": "0 3 1 1 *", "jobTemplate": {"spec": job_spec(name)}, **spec}


def settled(body: Json) -> Json:
    """What an owner cares about: without what the API server counts and what controllers write."""
    kept = copy.deepcopy(body)
    kept.pop("status", None)
    for key in ("managedFields", "generation", "resourceVersion"):
        kept["metadata"].pop(key, None)
    kept["metadata"].get("annotations", {}).pop("deployment.kubernetes.io/revision", None)
    return kept


# --- to zero and back ---------------------------------------------------------------------------------------------
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


# --- races, refusals, many ------------------------------------------------------------------------------------------
class Meddling:
    """A Kube that lets somebody else act just before each patch reaches the server."""

    def __init__(self, inner: Any, meddle: Callable[[int], object]) -> None:
        self._inner = inner
        self._meddle = meddle
        self.patches = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def merge_patch(self, ref: Ref, patch: Json) -> Json:
        self.patches += 1
        self._meddle(self.patches)
        answer: Json = await self._inner.merge_patch(ref, patch)
        return answer


def meddled(room: Room, meddle: Callable[[int], object]) -> tuple[Workloads, Meddling]:
    kube = Meddling(room.kube, meddle)
    return Workloads(cast("Target", SimpleNamespace(kube=kube)), room.namespace), kube


async def test_a_number_set_between_reading_and_writing_is_not_lost(room: Room) -> None:
    room.deployment("web")
    workloads, kube = meddled(room, lambda patch: room.scale("web", 6) if patch == 1 else None)
    assert await workloads.settle(OFF) == 1
    assert kube.patches >= 2  # the Deployment's controller writes its status in between too
    assert room.replicas("web") == (0, "6")


async def test_somebody_who_switched_it_in_between_leaves_nothing_to_do(room: Room) -> None:
    room.deployment("web")
    workloads, kube = meddled(room, lambda _: room.scale("web", 0))
    assert await workloads.settle(OFF) == 0
    assert (kube.patches, room.replicas("web")) == (1, (0, None))


async def test_a_workload_that_is_deleted_in_between_is_no_error(room: Room) -> None:
    room.deployment("web")
    path = DEPLOYMENTS.path(room.namespace, "web")
    workloads, _ = meddled(room, lambda _: made(room.admin.delete(path, dry=False)))
    assert await workloads.settle(OFF) == 0


async def test_a_workload_that_changes_all_the_time_is_given_up_as_a_conflict(room: Room) -> None:
    room.deployment("web")
    room.deployment("calm")
    workloads, kube = meddled(room, lambda patch: room.scale("web", 10 + patch))
    with pytest.raises(ConflictError):
        await workloads.settle(OFF)
    assert kube.patches >= TRIES
    assert room.replicas("calm") == (0, "2")
    assert await room.workloads.settle(OFF) == 1


@contextlib.contextmanager
def platform_refuses(room: Room, name: str, expression: str) -> Iterator[None]:
    """An admission policy of the platform's on workloads of this namespace, in force."""
    rule = {"apiGroups": ["apps"], "apiVersions": ["*"], "operations": ["UPDATE"], "resources": ["*"]}
    own = {"matchLabels": {"kubernetes.io/metadata.name": room.namespace}}
    spec = {
        "matchConstraints": {"resourceRules": [rule], "namespaceSelector": own},
        "validations": [{"expression": expression, "message": "frozen by the platform"}],
    }
    binding = {"policyName": name, "validationActions": ["Deny"]}
    made(room.admin.create(POLICIES, manifest(POLICIES, name, spec=spec), dry=False))
    made(room.admin.create(BINDINGS, manifest(BINDINGS, name, spec=binding), dry=False))
    try:
        room.deployment("probe", replicas=0, labels={"frozen": "true"})
        path = DEPLOYMENTS.path(room.namespace, "probe")
        eventually(lambda: room.admin.patch(path, {"metadata": {"annotations": {"a": "b"}}}).status >= 400)
        yield
    finally:
        room.admin.delete(BINDINGS.path(name=name), dry=False)
        room.admin.delete(POLICIES.path(name=name), dry=False)


async def test_what_a_policy_refuses_is_told_when_all_the_others_were_done(room: Room, name_prefix: str) -> None:
    room.deployment("frozen", labels={"frozen": "true"})
    room.deployment("web")
    room.make(STATEFUL_SETS, "store", **scaled("store", serviceName="store"))
    with platform_refuses(room, name_prefix, "!has(object.metadata.labels) || !('frozen' in object.metadata.labels)"):
        with pytest.raises(WorkloadsRefusedError) as refused:
            await room.workloads.settle(OFF)
        assert "Deployment frozen: " in refused.value.message
        assert "frozen by the platform" in refused.value.message
        assert "web" not in refused.value.message
        assert refused.value.status == 422
        assert (room.replicas("web"), room.replicas("store", STATEFUL_SETS)) == ((0, "2"), (0, "2"))
        assert room.replicas("frozen") == (2, None)


async def test_a_target_that_gives_no_right_to_workloads_says_so_for_every_kind(
    scene: Scene, connection: TargetConnection
) -> None:
    with pytest.raises(WorkloadsRefusedError, match=r'cannot list resource "cronjobs".*and 2 more'):
        await Workloads(connection, scene.unbound).settle(OFF)


async def test_a_target_that_does_not_answer_is_no_refusal(room: Room) -> None:
    room.deployment("web")

    def fail(_: int) -> None:
        raise KubeError("no answer", status=0)

    workloads, _ = meddled(room, fail)
    with pytest.raises(KubeError) as caught:
        await workloads.settle(OFF)
    assert not isinstance(caught.value, WorkloadsRefusedError)
    assert room.replicas("web") == (2, None)


async def test_a_namespace_that_is_gone_has_nothing_to_switch(scene: Scene, connection: TargetConnection) -> None:
    assert scene.operator.get(NAMESPACES.path(name=f"{scene.namespace}-x")).status == 404
    with pytest.raises(WorkloadsRefusedError):  # rights come with the namespace: RBAC answers before anybody looks
        await Workloads(connection, f"{scene.namespace}-x").settle(OFF)


async def test_hundreds_of_workloads_are_switched_whatever_dies_in_between(room: Room) -> None:
    """The first pass ends in the middle; the second one does the rest and remembers nothing anew."""
    count = 60
    for number in range(count):
        room.deployment(f"app-{number}", replicas=1, paused=True)

    workloads, _ = meddled(room, lambda patch: passing.cancel() if patch == count // 2 else None)
    passing = asyncio.create_task(workloads.settle(OFF))
    with pytest.raises(asyncio.CancelledError):
        await passing
    done = [name for name in range(count) if room.replicas(f"app-{name}") == (0, "1")]
    assert 0 < len(done) < count
    assert await room.workloads.settle(OFF) == count - len(done)
    assert await room.workloads.settle(ON) == count
    assert all(room.replicas(f"app-{name}") == (1, None) for name in range(count))


# --- restarts -----------------------------------------------------------------------------------------------------
async def test_a_rotation_restarts_once_what_reads_the_login_at_its_start(room: Room) -> None:
    room.deployment("reader", container=BY_LOGIN)
    room.deployment("idle", container=BY_LOGIN, replicas=0)
    room.deployment("other")
    room.make(STATEFUL_SETS, "store", **scaled(
        "store", serviceName="store", container={"envFrom": [{"secretRef": {"name": SECRET_DATABASE}}]}
    ))  # fmt: skip
    eventually(lambda: len(room.admin.get(REPLICA_SETS.path(room.namespace)).body["items"]) == 3)
    assert await room.workloads.restart(NOON) == 2
    assert await room.workloads.restart(NOON) == 0
    assert (room.restarted_at("reader"), room.restarted_at("store", STATEFUL_SETS)) == (NOON, NOON)
    assert (room.restarted_at("idle"), room.restarted_at("other")) == (None, None)
    eventually(lambda: len(room.admin.get(REPLICA_SETS.path(room.namespace)).body["items"]) == 4)
    assert await room.workloads.restart(LATER) == 2
    assert room.restarted_at("reader") == LATER


async def test_what_is_off_is_not_restarted_and_keeps_its_number(room: Room) -> None:
    room.deployment("reader", container=BY_LOGIN)
    await room.workloads.settle(OFF)
    assert await room.workloads.restart(NOON) == 0
    await room.workloads.settle(ON)
    assert (room.replicas("reader"), room.restarted_at("reader")) == ((2, None), None)
