"""A host belongs to one tenant: what its people may route by Ingress and by the Gateway API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from tests.integration.acting import (
    HOSTS,
    Answer,
    eventually,
    ingress_spec,
    manifest,
)
from tests.integration.target_scene import Scene, target_scene

from tenantry.api import names
from tenantry.api.resources import (
    INGRESSES,
    NAMESPACES,
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


# --- hosts -------------------------------------------------------------------------------------------------------
def ingress(*hosts: str | None, annotations: dict[str, str] | None = None, **spec: Any) -> Attempt:
    def attempt(s: Scene) -> Answer:
        body = manifest(INGRESSES, "app", s.namespace, annotations=annotations or {}, spec=ingress_spec(*hosts, **spec))
        return s.people["admin"].create(INGRESSES, body)

    return attempt


def catch_all(*hosts: str) -> Attempt:
    return ingress(*hosts, defaultBackend={"service": {"name": "app", "port": {"number": 80}}})


INGRESS: dict[str, tuple[str, str, Attempt]] = {
    "its own host": (ALLOWED, "", ingress(OWN_HOST)),
    "its own host with TLS": (ALLOWED, "", ingress(OWN_HOST, tls=(OWN_HOST,))),
    "a wildcard that is its own": (ALLOWED, "", ingress(OWN_WILDCARD, OWN_HOST)),
    "another's host": (HOSTS, "spec.rules names a host that is not of this namespace", ingress(THEIR_HOST)),
    "another's host beside its own": (HOSTS, "spec.rules names a host", ingress(OWN_HOST, THEIR_HOST)),
    "a host under its own wildcard that is not listed": (HOSTS, "spec.rules", ingress("x.acme.example.com")),
    "a wildcard over all": (HOSTS, "spec.rules", ingress("*.example.com")),
    "no host": (HOSTS, "a rule of spec.rules without host takes every host", ingress(None)),
    "an empty host": (HOSTS, "a rule of spec.rules without host takes every host", ingress("")),
    "a default backend": (HOSTS, "spec.defaultBackend takes every host", catch_all()),
    "a default backend beside its own host": (HOSTS, "spec.defaultBackend takes every host", catch_all(OWN_HOST)),
    "a certificate for another's host": (HOSTS, "spec.tls names a host", ingress(OWN_HOST, tls=(THEIR_HOST,))),
    "a certificate for every host": (HOSTS, "an entry of spec.tls without hosts", ingress(OWN_HOST, tls=())),
    "another's host as an alias": (
        HOSTS,
        "annotations that add hosts or raw configuration",
        ingress(OWN_HOST, annotations={"nginx.ingress.kubernetes.io/server-alias": THEIR_HOST}),
    ),
    "raw configuration": (
        HOSTS,
        "annotations that add hosts or raw configuration",
        ingress(OWN_HOST, annotations={"nginx.ingress.kubernetes.io/configuration-snippet": "return 200;"}),
    ),
    "a DNS record for another's host": (
        HOSTS,
        "an external-dns annotation names a host",
        ingress(OWN_HOST, annotations={"external-dns.alpha.kubernetes.io/hostname": f"{OWN_HOST}, {THEIR_HOST}"}),
    ),
    "a DNS record for its own host": (
        ALLOWED,
        "",
        ingress(OWN_HOST, annotations={"external-dns.alpha.kubernetes.io/hostname": OWN_HOST}),
    ),
    "a certificate by cert-manager": (
        ALLOWED,
        "",
        ingress(OWN_HOST, tls=(OWN_HOST,), annotations={"cert-manager.io/cluster-issuer": "letsencrypt"}),
    ),
}


@pytest.mark.parametrize(("refusal", "message", "attempt"), INGRESS.values(), ids=INGRESS)
def test_an_ingress_with(scene: Scene, refusal: str, message: str, attempt: Attempt) -> None:
    answer = attempt(scene)
    assert answer.refused_by == refusal
    assert message in answer.message


def test_the_refusal_of_a_host_names_those_that_are_allowed(scene: Scene) -> None:
    assert "allowed: *.acme.example.com, acme.example.com" in ingress(THEIR_HOST)(scene).message


def test_no_host_at_all_is_allowed_where_the_namespace_lists_none(scene: Scene) -> None:
    spec = ingress_spec(OWN_HOST)
    answer = scene.people["platform"].create(INGRESSES, manifest(INGRESSES, "app", scene.unbound, spec=spec))
    assert answer.refused_by == HOSTS
    assert "allowed: none" in answer.message
    empty = manifest(INGRESSES, "app", scene.unbound, spec=ingress_spec(""))
    assert scene.people["platform"].create(INGRESSES, empty).refused_by == HOSTS


def test_an_ingress_whose_host_was_withdrawn_can_still_lose_its_finalizer(scene: Scene) -> None:
    """Else it would be stuck in deletion; what it serves can't be changed any more without giving the host up."""
    tenant, path = scene.people["admin"], INGRESSES.path(scene.namespace, "withdrawn")
    annotation = names.ANNOTATION_HOSTS
    of_namespace = NAMESPACES.path(name=scene.namespace)
    before = scene.admin.get(of_namespace).body["metadata"]["annotations"][annotation]

    def list_hosts(hosts: str) -> None:
        patch = {"metadata": {"annotations": {annotation: hosts}}}
        assert scene.operator.patch(of_namespace, patch, dry=False).status == 200

    list_hosts(f"{before},old.example.com")
    body = manifest(INGRESSES, "withdrawn", scene.namespace, spec=ingress_spec("old.example.com"))
    body["metadata"]["finalizers"] = ["example.com/held"]
    eventually(lambda: tenant.create(INGRESSES, body).status == 201)
    assert tenant.create(INGRESSES, body, dry=False).status == 201
    list_hosts(before)
    eventually(lambda: tenant.patch(path, ANNOTATION).refused_by == HOSTS)
    assert tenant.patch(path, {"spec": ingress_spec("old.example.com", OWN_HOST)}).refused_by == HOSTS
    assert tenant.patch(path, {"spec": ingress_spec(OWN_HOST)}).refused_by == ALLOWED
    assert tenant.delete(path, dry=False).status == 200
    assert tenant.patch(path, {"metadata": {"finalizers": None}}, dry=False).status == 200
    assert tenant.get(path).status == 404


@pytest.fixture(scope="module")
def gateway_api(scene: Scene) -> None:
    """The two kinds of route that the tests send, as bare as can be, or those that are installed.

    They stay: other workers may be using them.
    """
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    for resource in (HTTP_ROUTES, TCP_ROUTES):
        version = {"name": resource.version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
        spec = {
            "group": resource.group,
            "scope": "Namespaced",
            "names": {"plural": resource.plural, "kind": resource.kind},
            "versions": [version],
        }
        approval = {"api-approved.kubernetes.io": "unapproved, a bare copy for tests"}
        body = manifest(CRDS, f"{resource.plural}.{resource.group}", annotations=approval, spec=spec)
        assert scene.admin.create(CRDS, body, dry=False).status in (201, 409)
        _wait_until_served(scene, resource)


def _wait_until_served(scene: Scene, resource: Resource) -> None:
    eventually(lambda: scene.admin.get(resource.path(scene.foreign)).status == 200)


ROUTES: dict[str, tuple[Resource, dict[str, Any], str]] = {
    "its own host passes": (HTTP_ROUTES, {"hostnames": [OWN_HOST]}, ALLOWED),
    "another's host is refused": (HTTP_ROUTES, {"hostnames": [OWN_HOST, THEIR_HOST]}, "spec.hostnames names a host"),
    "no host is refused": (HTTP_ROUTES, {"parentRefs": [{"name": "shared"}]}, "a route without spec.hostnames"),
    "an empty list of hosts is refused": (HTTP_ROUTES, {"hostnames": []}, "a route without spec.hostnames"),
    "a TCPRoute is refused": (TCP_ROUTES, {"parentRefs": [{"name": "shared"}]}, "a TCPRoute or UDPRoute knows no host"),
}


@pytest.mark.usefixtures("gateway_api")
@pytest.mark.parametrize(("resource", "spec", "message"), ROUTES.values(), ids=ROUTES)
def test_a_gateway_route_with(scene: Scene, resource: Resource, spec: dict[str, Any], message: str) -> None:
    """Sent by a platform admin: tenants have no rights on routes yet, and hosts bind everybody but the operator."""

    def attempt() -> Answer | None:
        answer = scene.people["platform"].create(resource, manifest(resource, "app", scene.namespace, spec=spec))
        return answer if answer.refused_by == (HOSTS if message else ALLOWED) else None

    # The API server takes a moment to know a new kind of object in its admission policies.
    assert message in eventually(attempt).message
