"""What the operator may change on a tenant's own workloads: enough to switch and to restart them, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import pytest
from tests.integration.acting import (
    OPERATOR_SUBJECT,
    OPERATOR_WRITES,
    PODS,
    RBAC,
    Answer,
    eventually,
    made,
    manifest,
    pod_spec,
    role_binding,
)
from tests.integration.target_scene import Scene, target_scene

from tenantry.api import names
from tenantry.api.resources import (
    CRON_JOBS,
    DEPLOYMENTS,
    JOBS,
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
    ROLE_BINDINGS,
    STATEFUL_SETS,
    WORKLOADS,
    Resource,
)
from tenantry.decide.permissions import needed_rights_in

if TYPE_CHECKING:
    from tests.controlplane.access import ClusterAccess

Json = dict[str, Any]
Attempt = Callable[[Scene], Answer]
OPERATOR_WORKLOADS: Final = "tenantry-operator-workloads"
ALLOWED: Final = ""
STATEMENT: Final = {"metadata": {"annotations": {"note": "changed"}}}


def labels_of(resource: Resource) -> dict[str, str]:
    """Each kind its own: a Deployment adopts ReplicaSets that match its selector."""
    return {"app": resource.plural}


def template(resource: Resource, **spec: Any) -> Json:
    return {"metadata": {"labels": labels_of(resource), "annotations": {"note": "kept"}}, "spec": pod_spec(**spec)}


def spec_of(resource: Resource) -> Json:
    """A spec of each kind, at zero or suspended, so that no controller has anything to do."""
    if resource == JOBS:
        return {"suspend": True, "template": template(resource, restartPolicy="Never")}
    if resource == CRON_JOBS:
        job = {"template": template(resource, restartPolicy="Never")}
        return {"schedule": "0 3 * * *", "suspend": True, "jobTemplate": {"spec": job}}
    named = {"serviceName": "app"} if resource == STATEFUL_SETS else {}
    labels = labels_of(resource)
    selector = labels if resource == REPLICATION_CONTROLLERS else {"matchLabels": labels}
    return {"replicas": 0, "selector": selector, "template": template(resource), **named}


def workload(resource: Resource, namespace: str) -> Json:
    metadata = {"labels": labels_of(resource), "annotations": {"note": "kept"}}
    return manifest(resource, "app", namespace, **metadata, spec=spec_of(resource))


@pytest.fixture(scope="module")
def scene(target: ClusterAccess) -> Iterator[Scene]:
    with target_scene(target.kubeconfig) as scene:
        for resource in WORKLOADS:
            made(scene.admin.create(resource, workload(resource, scene.namespace), dry=False))
        eventually(lambda: scene.operator.may("patch", DEPLOYMENTS, scene.namespace))
        path = DEPLOYMENTS.path(scene.namespace, "app")
        eventually(lambda: scene.operator.patch(path, STATEMENT).refused_by == OPERATOR_WORKLOADS)
        yield scene


def patched(scene: Scene, resource: Resource, patch: Json, namespace: str = "") -> Answer:
    return scene.operator.patch(resource.path(namespace or scene.namespace, "app"), patch)


def by_operator(resource: Resource, **spec: Any) -> Attempt:
    return lambda scene: patched(scene, resource, {"spec": spec})


def marked(resource: Resource, key: str, **spec: Any) -> Attempt:
    patch = {"metadata": {"annotations": {key: "3"}}, "spec": spec}
    return lambda scene: patched(scene, resource, patch)


def of_metadata(resource: Resource, **metadata: Any) -> Attempt:
    return lambda scene: patched(scene, resource, {"metadata": metadata})


def restarted(resource: Resource, key: str = names.ANNOTATION_RESTARTED_AT) -> Attempt:
    return by_operator(resource, template={"metadata": {"annotations": {key: "2026-05-01T12:00:00Z"}}})


def created(resource: Resource) -> Attempt:
    return lambda s: s.operator.create(resource, manifest(resource, "new", s.namespace, spec=spec_of(resource)))


def deleted(resource: Resource) -> Attempt:
    return lambda s: s.operator.delete(resource.path(s.namespace, "app"))


def replaced(resource: Resource) -> Attempt:
    return lambda s: s.operator.send("PUT", resource.path(s.namespace, "app"), workload(resource, s.namespace))


def container(**content: Any) -> Json:
    return {"spec": {"containers": [{**pod_spec()["containers"][0], **content}]}}


NEEDED: dict[str, Attempt] = {
    **{f"remember and scale a {each.kind}": marked(each, names.ANNOTATION_REPLICAS, replicas=2)
       for each in (DEPLOYMENTS, STATEFUL_SETS, REPLICA_SETS, REPLICATION_CONTROLLERS)},
    **{f"remember and resume a {each.kind}": marked(each, names.ANNOTATION_SUSPENDED, suspend=False)
       for each in (CRON_JOBS, JOBS)},
    "restart a Deployment": restarted(DEPLOYMENTS),
    "restart a StatefulSet": restarted(STATEFUL_SETS),
}  # fmt: skip

OWNER: Final = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x", "uid": "u", "controller": True}

REFUSED: dict[str, tuple[str, Attempt]] = {
    **{f"annotate a {each.kind}": (OPERATOR_WORKLOADS, of_metadata(each, annotations={"note": "x"}))
       for each in WORKLOADS},
    **{f"take an annotation off a {each.kind}": (OPERATOR_WORKLOADS, of_metadata(each, annotations={"note": None}))
       for each in WORKLOADS},
    **{f"label a {each.kind}": (OPERATOR_WORKLOADS, of_metadata(each, labels={"app": "b"})) for each in WORKLOADS},
    **{f"own a {each.kind}": (OPERATOR_WORKLOADS, of_metadata(each, ownerReferences=[OWNER])) for each in WORKLOADS},
    **{f"hold a {each.kind}": (OPERATOR_WORKLOADS, of_metadata(each, finalizers=["example.com/x"]))
       for each in WORKLOADS},
    **{f"change the image of a {each.kind}": (OPERATOR_WORKLOADS, by_operator(each, template=container(image="evil:1")))
       for each in (DEPLOYMENTS, STATEFUL_SETS, REPLICA_SETS, REPLICATION_CONTROLLERS)},
    "change the image of a CronJob": (
        OPERATOR_WORKLOADS,
        by_operator(CRON_JOBS, jobTemplate={"spec": {"template": container(image="evil:1")}}),
    ),
    "change the environment of a Deployment": (
        OPERATOR_WORKLOADS,
        by_operator(DEPLOYMENTS, template=container(env=[{"name": "A", "value": "b"}])),
    ),
    "mount a Secret in a Deployment": (
        OPERATOR_WORKLOADS,
        by_operator(DEPLOYMENTS, template={"spec": {"volumes": [{"name": "s", "secret": {"secretName": "s"}}]}}),
    ),
    "give a Deployment another identity": (
        OPERATOR_WORKLOADS,
        by_operator(DEPLOYMENTS, template={"spec": {"serviceAccountName": "other"}}),
    ),
    "label the pods of a Deployment": (
        OPERATOR_WORKLOADS,
        by_operator(DEPLOYMENTS, template={"metadata": {"labels": {"tier": "x"}}}),
    ),
    "annotate the pods of a Deployment": (OPERATOR_WORKLOADS, restarted(DEPLOYMENTS, "example.com/inject")),
    "annotate the pods of a Deployment in our name": (OPERATOR_WORKLOADS, restarted(DEPLOYMENTS, "tenantry.io/x")),
    "restart a ReplicaSet": (OPERATOR_WORKLOADS, restarted(REPLICA_SETS)),
    "change the time of a CronJob": (OPERATOR_WORKLOADS, by_operator(CRON_JOBS, schedule="* * * * *")),
    "change the strategy of a Deployment": (OPERATOR_WORKLOADS, by_operator(DEPLOYMENTS, minReadySeconds=5)),
    "let more pods of a Job run": (OPERATOR_WORKLOADS, by_operator(JOBS, parallelism=5)),
    **{f"make a {each.kind}": (OPERATOR_WRITES if each == STATEFUL_SETS else RBAC, created(each))
       for each in WORKLOADS},
    **{f"delete a {each.kind}": (RBAC, deleted(each)) for each in WORKLOADS},
    **{f"replace a {each.kind}": (RBAC, replaced(each)) for each in WORKLOADS},
    "scale by the subresource": (RBAC, lambda s: s.operator.patch(
        DEPLOYMENTS.path(s.namespace, "app", "scale"), {"spec": {"replicas": 1}})),
    "say how a Deployment is": (RBAC, lambda s: s.operator.patch(
        DEPLOYMENTS.path(s.namespace, "app", "status"), {"status": {"replicas": 1}})),
    "list the pods": (RBAC, lambda s: s.operator.get(PODS.path(s.namespace))),
    "list workloads of all tenants": (RBAC, lambda s: s.operator.get(DEPLOYMENTS.path())),
    "list workloads of a foreign namespace": (RBAC, lambda s: s.operator.get(DEPLOYMENTS.path(s.foreign))),
    "list workloads where it did not bind itself": (RBAC, lambda s: s.operator.get(DEPLOYMENTS.path(s.unbound))),
}  # fmt: skip


@pytest.mark.parametrize("attempt", NEEDED.values(), ids=NEEDED)
def test_the_operator_can(scene: Scene, attempt: Attempt) -> None:
    assert attempt(scene).refused_by == ALLOWED


@pytest.mark.parametrize(("refusal", "attempt"), REFUSED.values(), ids=REFUSED)
def test_the_operator_must_not(scene: Scene, refusal: str, attempt: Attempt) -> None:
    assert attempt(scene).refused_by == refusal


@pytest.mark.parametrize("resource", WORKLOADS, ids=lambda resource: resource.plural)
def test_a_refusal_says_what_may_be_changed(scene: Scene, resource: Resource) -> None:
    assert "only annotations that begin with tenantry.io/" in patched(scene, resource, STATEMENT).message


@pytest.mark.parametrize("resource", WORKLOADS, ids=lambda resource: resource.plural)
def test_the_operator_lists_and_reads(scene: Scene, resource: Resource) -> None:
    listed = scene.operator.get(resource.path(scene.namespace))
    assert "app" in {body["metadata"]["name"] for body in listed.body["items"]}
    assert scene.operator.get(resource.path(scene.namespace, "app")).status == 200


def test_a_tenant_changes_its_own_workloads_as_before(scene: Scene) -> None:
    for patch in (STATEMENT, {"spec": {"template": container(image="app:2")}}, {"spec": {"replicas": 1}}):
        path = DEPLOYMENTS.path(scene.namespace, "app")
        assert scene.people["edit"].patch(path, patch).refused_by == ALLOWED


def test_an_operator_that_may_do_all_switches_nothing_where_the_namespace_lacks_the_stamp(scene: Scene) -> None:
    made(scene.admin.create(DEPLOYMENTS, workload(DEPLOYMENTS, scene.foreign), dry=False))
    binding = role_binding("too-much", scene.foreign, "admin", OPERATOR_SUBJECT)
    made(scene.admin.create(ROLE_BINDINGS, binding, dry=False))
    eventually(lambda: scene.operator.may("patch", DEPLOYMENTS, scene.foreign))
    answer = patched(scene, DEPLOYMENTS, {"spec": {"replicas": 1}}, scene.foreign)
    assert answer.refused_by == OPERATOR_WORKLOADS
    assert "does not carry the stamp" in answer.message
    scaled = scene.operator.patch(DEPLOYMENTS.path(scene.foreign, "app", "scale"), {"spec": {"replicas": 1}})
    assert scaled.refused_by == OPERATOR_WORKLOADS


def test_all_rights_that_are_asked_for_in_a_tenants_namespace_are_there_and_only_there(scene: Scene) -> None:
    def missing(namespace: str) -> list[str]:
        rights = needed_rights_in(namespace)
        assert {right[3] for right in rights} == {namespace}
        return [
            f"{verb} {plural}"
            for verb, group, plural, _ in rights
            if not scene.operator.may(verb, Resource(group, "v1", "", plural), namespace)
        ]

    assert missing(scene.namespace) == []
    assert {"patch deployments", "list cronjobs", "get replicationcontrollers", "get secrets"} <= {
        *missing(scene.unbound)
    }
