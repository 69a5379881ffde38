"""Who may touch a database server of a tenant's own, and how far the operator's rights on it reach."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from tests.integration.acting import (
    OPERATOR_WRITES,
    PODS,
    RBAC,
    STAMPED_OBJECTS,
    Answer,
    Api,
    eventually,
    made,
    manifest,
    pod_spec,
    token_of,
)
from tests.integration.target_scene import Scene, target_scene
from tests.integration.test_admission_of_switches import OPERATOR_WORKLOADS

from tenantry.api.dedicated import DedicatedServer
from tenantry.api.names import POSTGRES, POSTGRES_POD, POSTGRES_VOLUME
from tenantry.api.resources import SECRETS, SERVICES, STATEFUL_SETS, VOLUME_CLAIMS, Resource
from tenantry.desired.dedicated import server_objects, stateful_set

if TYPE_CHECKING:
    from tests.controlplane.access import ClusterAccess

Json = dict[str, Any]
Attempt = Callable[[Scene], Answer]
ALLOWED = ""
AUTOSCALERS = Resource("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
ANNOTATION: Json = {"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "node-1"}}}
UNSTAMPED: Json = {"metadata": {"labels": {"tenantry.io/tenant-hash": None, "tenantry.io/management-id": None}}}
IMAGE: Json = {"spec": {"template": {"metadata": {"labels": {"more": "labels"}}}}}
SERVER = DedicatedServer(
    image="registry.example.com/postgres:17", user=999, cpu="1", memory="1Gi", shared_buffers=16384, storage="1Gi",
    storage_class="", max_connections=30, pull_policy="Always", database_id="", running=False,
)  # fmt: skip


@pytest.fixture(scope="module")
def scene(target: ClusterAccess) -> Iterator[Scene]:
    """With a server that the operator made with no more than its rights; and a StatefulSet of the tenant's own."""
    with target_scene(target.kubeconfig) as opened:
        eventually(lambda: opened.operator.may("create", STATEFUL_SETS, opened.namespace))
        for body in server_objects(SERVER, opened.identity, opened.namespace):
            resource = SERVICES if body["kind"] == "Service" else Resource("", "v1", "ConfigMap", "configmaps")
            made(opened.operator.apply(resource, body, dry=False))
        made(opened.operator.apply(STATEFUL_SETS, stateful_set(SERVER, opened.identity, opened.namespace), dry=False))
        made(opened.admin.create(STATEFUL_SETS, plain(opened, "app"), dry=False))
        made(opened.admin.create(AUTOSCALERS, autoscaler(opened, "StatefulSet", "app", "there"), dry=False))
        claim = opened.stamped(VOLUME_CLAIMS, POSTGRES_VOLUME, opened.namespace)
        claim["spec"] = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        made(opened.admin.create(VOLUME_CLAIMS, claim, dry=False))
        yield opened


def plain(scene: Scene, name: str) -> Json:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": pod_spec()}
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template, "serviceName": name}
    return manifest(STATEFUL_SETS, name, scene.namespace, spec=spec)


def change(who: str, resource: Resource, name: str, patch: Json) -> Attempt:
    return lambda s: (s.people.get(who) or s.operator).patch(resource.path(s.namespace, name), patch)


def remove(who: str, resource: Resource, name: str) -> Attempt:
    return lambda s: (s.people.get(who) or s.operator).delete(resource.path(s.namespace, name))


def scale_as(who: Api, scene: Scene, name: str) -> Answer:
    return who.patch(STATEFUL_SETS.path(scene.namespace, name, "scale"), {"spec": {"replicas": 3}})


def scale(who: str, name: str) -> Attempt:
    return lambda s: scale_as(s.people[who], s, name)


def autoscaler(scene: Scene, kind: str, target: str, name: str = "new") -> Json:
    wanted = {"apiVersion": "apps/v1", "kind": kind, "name": target}
    return manifest(AUTOSCALERS, name, scene.namespace, spec={"maxReplicas": 3, "scaleTargetRef": wanted})


def autoscale(kind: str, target: str) -> Attempt:
    return lambda s: s.people["admin"].create(AUTOSCALERS, autoscaler(s, kind, target))


def stamps(scene: Scene) -> Json:
    return {"metadata": {"labels": scene.stamped(SECRETS, "x")["metadata"]["labels"]}}


ATTEMPTS: dict[str, tuple[str, Attempt]] = {
    "the operator changes its own server": (ALLOWED, change("operator", STATEFUL_SETS, POSTGRES, IMAGE)),
    "the operator must not take the stamp off it": (
        OPERATOR_WORKLOADS, change("operator", STATEFUL_SETS, POSTGRES, UNSTAMPED)),
    "the operator must not make a StatefulSet of the tenant's its own": (
        OPERATOR_WORKLOADS, lambda s: s.operator.patch(STATEFUL_SETS.path(s.namespace, "app"), stamps(s))),
    "the operator must not change a StatefulSet of the tenant's": (
        OPERATOR_WORKLOADS, change("operator", STATEFUL_SETS, "app", IMAGE)),
    "the operator must not make one without the stamp": (
        OPERATOR_WRITES, lambda s: s.operator.create(STATEFUL_SETS, plain(s, "new"))),
    "the operator must not make a Service without the stamp": (
        OPERATOR_WRITES, lambda s: s.operator.create(
            SERVICES, manifest(SERVICES, "new", s.namespace, spec={"ports": [{"port": 80}]}))),
    "the operator must not delete its server": (RBAC, remove("operator", STATEFUL_SETS, POSTGRES)),
    "the operator must not delete the volume": (RBAC, remove("operator", VOLUME_CLAIMS, POSTGRES_VOLUME)),
    "the admin must not scale the server": (STAMPED_OBJECTS, scale("admin", POSTGRES)),
    "the admin scales a StatefulSet of the tenant's": (ALLOWED, scale("admin", "app")),
    "the platform scales the server": (ALLOWED, lambda s: scale_as(s.admin, s, POSTGRES)),
    "the admin must not have the server scaled": (STAMPED_OBJECTS, autoscale("StatefulSet", POSTGRES)),
    "the admin must not turn an autoscaler to the server": (
        STAMPED_OBJECTS, change("admin", AUTOSCALERS, "there", {"spec": {"scaleTargetRef": {"name": POSTGRES}}})),
    "the admin has a StatefulSet of the tenant's scaled": (ALLOWED, autoscale("StatefulSet", "app")),
    "the admin has a Deployment of that name scaled": (ALLOWED, autoscale("Deployment", POSTGRES)),
    "the operator must not delete other pods": (RBAC, remove("operator", PODS, "app-0")),
    "the operator must not look at other volumes": (
        RBAC, lambda s: s.operator.get(VOLUME_CLAIMS.path(s.namespace, "data-other-0"))),
    "the operator must not look at other pods": (RBAC, lambda s: s.operator.get(PODS.path(s.namespace, "app-0"))),
    "the admin must not change the server": (STAMPED_OBJECTS, change("admin", STATEFUL_SETS, POSTGRES, IMAGE)),
    "the admin must not delete the server": (STAMPED_OBJECTS, remove("admin", STATEFUL_SETS, POSTGRES)),
    "the admin must not delete its Service": (STAMPED_OBJECTS, remove("admin", SERVICES, POSTGRES)),
    "the admin must not delete the volume": (STAMPED_OBJECTS, remove("admin", VOLUME_CLAIMS, POSTGRES_VOLUME)),
    "the admin must not take the stamp off the volume": (
        STAMPED_OBJECTS, change("admin", VOLUME_CLAIMS, POSTGRES_VOLUME, UNSTAMPED)),
    "what schedulers write on the volume passes": (
        ALLOWED, change("admin", VOLUME_CLAIMS, POSTGRES_VOLUME, ANNOTATION)),
}  # fmt: skip


@pytest.mark.parametrize(("refusal", "attempt"), ATTEMPTS.values(), ids=ATTEMPTS)
def test_on_a_server_of_the_tenants_own(scene: Scene, refusal: str, attempt: Attempt) -> None:
    assert attempt(scene).refused_by == refusal


def test_an_autoscaler_that_was_there_before_the_server_does_not_scale_it_either(
    scene: Scene, target: ClusterAccess
) -> None:
    token = token_of(scene.admin, "kube-system", "horizontal-pod-autoscaler")
    with contextlib.closing(Api(target.kubeconfig, token=token)) as kubernetes:
        for name, refusal in ((POSTGRES, STAMPED_OBJECTS), ("app", ALLOWED)):
            path = STATEFUL_SETS.path(scene.namespace, name, "scale")
            body = {**made(kubernetes.get(path)).body, "spec": {"replicas": 3}}
            assert kubernetes.send("PUT", path, body).refused_by == refusal


def test_the_operator_deletes_that_one_pod_and_no_other(scene: Scene) -> None:
    assert scene.operator.may("delete", PODS, scene.namespace, name=POSTGRES_POD)
    assert not scene.operator.may("delete", PODS, scene.namespace, name="app-0")
    assert not scene.operator.may("delete", PODS, scene.namespace)
    assert not scene.operator.may("delete", PODS, scene.unbound, name=POSTGRES_POD)


@pytest.mark.parametrize("verb", ["get", "create"])
def test_the_operator_gets_through_to_that_one_pod_and_no_other(scene: Scene, verb: str) -> None:
    def may(name: str, subresource: str = "portforward") -> bool:
        return scene.operator.may(verb, PODS, scene.namespace, name=name, subresource=subresource)

    assert may(POSTGRES_POD)
    assert not may("app-0")
    assert not may("")
    assert not may(POSTGRES_POD, "exec")
    assert not scene.operator.may(verb, PODS, scene.unbound, name=POSTGRES_POD, subresource="portforward")
