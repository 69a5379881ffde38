"""Which Services and pods a tenant's people may make."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from tests.integration.acting import (
    OPERATOR_WRITES,
    PODS,
    PULL_POLICY,
    SERVICE_TYPES,
    SERVICES,
    Answer,
    container,
    eventually,
    manifest,
    pod_spec,
    role_binding,
)
from tests.integration.target_scene import Scene, target_scene

from tenantry.api import names
from tenantry.api.resources import (
    NAMESPACES,
    ROLE_BINDINGS,
    SECRETS,
    Resource,
)

if TYPE_CHECKING:
    from tests.controlplane.access import ClusterAccess

Attempt = Callable[[Scene], Answer]
ALLOWED = ""
CRDS = Resource("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False)
GATEWAY_GROUP = "gateway.networking.k8s.io"
HTTP_ROUTES = Resource(GATEWAY_GROUP, "v1", "HTTPRoute", "httproutes")
TCP_ROUTES = Resource(GATEWAY_GROUP, "v1alpha2", "TCPRoute", "tcproutes")
ANNOTATION = {"metadata": {"annotations": {"a": "b"}}}
OWN_HOST, OWN_WILDCARD, THEIR_HOST = "acme.example.com", "*.acme.example.com", "globex.example.com"


@pytest.fixture(scope="module")
def scene(target: ClusterAccess) -> Iterator[Scene]:
    with target_scene(target.kubeconfig) as made:
        yield made


# --- Services ----------------------------------------------------------------------------------------------------
def service(**spec: Any) -> dict[str, Any]:
    return {"ports": [{"port": 80}], "selector": {"app": "a"}, **spec}


SERVICE_SPECS: dict[str, tuple[str, dict[str, Any], dict[str, str]]] = {
    "no type passes": ("", service(), {}),
    "type ClusterIP passes": ("", service(type="ClusterIP"), {}),
    "no address of its own passes": ("", service(clusterIP="None"), {}),
    "type NodePort is refused": ("Services of type NodePort are not allowed", service(type="NodePort"), {}),
    "type LoadBalancer is refused": ("Services of type LoadBalancer are not allowed", service(type="LoadBalancer"), {}),
    "type ExternalName is refused": (
        "Services of type ExternalName are not allowed",
        {"type": "ExternalName", "externalName": "db.other.svc.cluster.local"},
        {},
    ),
    "an external address is refused": (
        "spec.externalIPs could take traffic",
        service(externalIPs=["192.0.2.1"]),
        {},
    ),
    "a DNS record for another's host is refused": (
        "an external-dns annotation names a host",
        service(clusterIP="None"),
        {"external-dns.alpha.kubernetes.io/hostname": THEIR_HOST},
    ),
}


@pytest.mark.parametrize(("message", "spec", "annotations"), SERVICE_SPECS.values(), ids=SERVICE_SPECS)
def test_a_service_with(scene: Scene, message: str, spec: dict[str, Any], annotations: dict[str, str]) -> None:
    body = manifest(SERVICES, "app", scene.namespace, annotations=annotations, spec=spec)
    answer = scene.people["admin"].create(SERVICES, body)
    assert answer.refused_by == (SERVICE_TYPES if message else ALLOWED)
    assert message in answer.message


def test_a_service_must_not_change_its_type_later(scene: Scene) -> None:
    tenant, path = scene.people["admin"], SERVICES.path(scene.namespace, "turning")
    body = manifest(SERVICES, "turning", scene.namespace, spec=service())
    assert tenant.create(SERVICES, body, dry=False).status == 201
    assert tenant.patch(path, {"spec": {"type": "NodePort"}}).refused_by == SERVICE_TYPES
    assert tenant.patch(path, {"spec": {"externalIPs": ["192.0.2.1"]}}).refused_by == SERVICE_TYPES
    assert tenant.patch(path, {"spec": {"selector": {"app": "b"}}}).refused_by == ALLOWED


def test_a_plan_can_allow_more_types_of_service(scene: Scene) -> None:
    platform = scene.people["platform"]
    path, key = NAMESPACES.path(name=scene.unbound), names.ANNOTATION_SERVICE_TYPES
    patch = {"metadata": {"annotations": {key: "ClusterIP,LoadBalancer"}}}
    assert scene.operator.patch(path, patch, dry=False).status == 200

    def of_type(kind: str) -> str:
        body = manifest(SERVICES, f"app-{uuid.uuid4().hex[:4]}", scene.unbound, spec=service(type=kind))
        return platform.create(SERVICES, body).refused_by

    eventually(lambda: of_type("LoadBalancer") == ALLOWED)
    assert of_type("ClusterIP") == ALLOWED
    assert of_type("NodePort") == SERVICE_TYPES


# --- images ------------------------------------------------------------------------------------------------------
IMAGE_VOLUME = {"name": "data", "image": {"reference": "data:1", "pullPolicy": "IfNotPresent"}}

POD_SPECS: dict[str, tuple[str, dict[str, Any]]] = {
    "Always passes": (ALLOWED, pod_spec("Always")),
    "IfNotPresent is refused": (PULL_POLICY, pod_spec("IfNotPresent")),
    "Never is refused": (PULL_POLICY, pod_spec("Never")),
    "one of two containers is refused": (
        PULL_POLICY,
        {**pod_spec(), "containers": [container("Always"), container("Never", "second")]},
    ),
    "an init container is refused": (PULL_POLICY, pod_spec(initContainers=[container("IfNotPresent", "init")])),
    "an init container that pulls passes": (ALLOWED, pod_spec(initContainers=[container("Always", "init")])),
    "an image as a volume is refused": (PULL_POLICY, pod_spec(volumes=[IMAGE_VOLUME])),
}


@pytest.mark.parametrize(("refusal", "spec"), POD_SPECS.values(), ids=POD_SPECS)
def test_a_pod_where_images_are_always_pulled(scene: Scene, refusal: str, spec: dict[str, Any]) -> None:
    answer = scene.people["edit"].create(PODS, manifest(PODS, "app", scene.namespace, spec=spec))
    assert answer.refused_by == refusal


def test_an_ephemeral_container_must_pull_too(scene: Scene) -> None:
    tenant = scene.people["admin"]
    made = tenant.create(PODS, manifest(PODS, "debugged", scene.namespace, spec=pod_spec()), dry=False)
    assert made.status == 201, made.message
    path = PODS.path(scene.namespace, "debugged", "ephemeralcontainers")
    for policy, refusal in (("IfNotPresent", PULL_POLICY), ("Always", ALLOWED)):
        patch = {"spec": {"ephemeralContainers": [container(policy, "debug")]}}
        answer = tenant.send("PATCH", path, patch, content="application/strategic-merge-patch+json")
        assert answer.refused_by == refusal


def test_a_pod_pulls_as_it_likes_where_the_plan_says_nothing(scene: Scene) -> None:
    body = manifest(PODS, "app", scene.unbound, spec=pod_spec("IfNotPresent"))
    eventually(lambda: scene.people["platform"].create(PODS, body).refused_by == ALLOWED)


def test_an_operator_that_may_do_all_is_still_held_to_its_own_namespaces(scene: Scene) -> None:
    """The policies hold also where somebody gave the operator more rights than it needs."""
    binding = role_binding("too-much", scene.foreign, "admin", {
        "kind": "ServiceAccount", "name": names.OPERATOR_SERVICE_ACCOUNT, "namespace": names.SYSTEM_NAMESPACE,
    })  # fmt: skip
    assert scene.admin.create(ROLE_BINDINGS, binding, dry=False).status == 201
    body = scene.stamped(SECRETS, "x", scene.foreign)
    eventually(lambda: scene.operator.create(SECRETS, body).refused_by == OPERATOR_WRITES)
