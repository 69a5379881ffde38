"""A tenant's namespace in which workloads are made, switched and looked at; and the bodies of such workloads."""

from __future__ import annotations

import copy
from typing import Any, Final

from tests.integration.acting import Api, eventually, made, manifest, pod_spec
from tests.integration.target_scene import Scene

from tenantry.adapters.kube.target import TargetConnection
from tenantry.api.names import (
    ANNOTATION_REPLICAS,
    ANNOTATION_RESTARTED_AT,
    ANNOTATION_SUSPENDED,
    SECRET_DATABASE,
)
from tenantry.api.resources import (
    CRON_JOBS,
    DEPLOYMENTS,
    JOBS,
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
    STATEFUL_SETS,
    Resource,
)
from tenantry.decide.activity import Activity
from tenantry.reconcile.workloads import Workloads

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
