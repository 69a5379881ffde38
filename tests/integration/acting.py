"""Acting as one identity at an API server, and saying who refused it: RBAC, or which admission policy."""

from __future__ import annotations

import base64
import http.client
import re
import ssl
import time
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import orjson
import yaml

from tenantry.api.names import (
    OPERATOR_SERVICE_ACCOUNT,
    SYSTEM_NAMESPACE,
)
from tenantry.api.resources import (
    ROLE_BINDINGS,
    SERVICE_ACCOUNTS,
    Resource,
)

Json = dict[str, Any]
T = TypeVar("T")

PODS: Final = Resource("", "v1", "Pod", "pods")
SERVICES: Final = Resource("", "v1", "Service", "services")
ROLES: Final = Resource("rbac.authorization.k8s.io", "v1", "Role", "roles")
CLUSTER_ROLES: Final = Resource("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", namespaced=False)
CLUSTER_ROLE_BINDINGS: Final = Resource(
    "rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings", namespaced=False
)

RBAC: Final = "RBAC"
"""Refused by RBAC; every other refusal is the name of the admission policy that made it."""
OPERATOR_NAMESPACES: Final = "tenantry-operator-namespaces"
OPERATOR_WRITES: Final = "tenantry-operator-writes"
OPERATOR_BINDINGS: Final = "tenantry-operator-bindings"
STAMPED_OBJECTS: Final = "tenantry-stamped-objects"
HOSTS: Final = "tenantry-hosts"
SERVICE_TYPES: Final = "tenantry-services"
PULL_POLICY: Final = "tenantry-image-pull-policy"

_POLICY = re.compile(r"ValidatingAdmissionPolicy '([^']+)'")
_RBAC = re.compile(r'User "[^"]+" cannot |attempting to grant RBAC permissions')

POD_SECURITY: Final = {"pod-security.kubernetes.io/enforce": "restricted"}
AUTHENTICATED: Final = {"kind": "Group", "name": "system:authenticated", "apiGroup": "rbac.authorization.k8s.io"}
OPERATOR_SUBJECT: Final = {
    "kind": "ServiceAccount", "name": OPERATOR_SERVICE_ACCOUNT, "namespace": SYSTEM_NAMESPACE,
}  # fmt: skip


def eventually(probe: Callable[[], T | None], *, within: float = 60.0) -> T:
    """The first answer of the probe that is true.

    Raises:
        TimeoutError: if there is none within that many seconds.
    """
    deadline = time.monotonic() + within
    while not (found := probe()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"still {found!r} after {within:g} s")
        time.sleep(0.02)  # a server is polled; the deadline bounds it
    return found


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API server said: the HTTP status and the parsed body."""

    status: int
    body: Json

    @property
    def message(self) -> str:
        """What a person reads of a refusal."""
        return str(self.body.get("message", ""))

    @property
    def refused_by(self) -> str:
        """`RBAC` or the name of an admission policy; empty if it was allowed; else the whole answer, to be seen."""
        if self.status < 300:
            return ""
        if self.status == 403 and (policy := _POLICY.search(self.message)):
            return policy[1]
        return RBAC if self.status == 403 and _RBAC.search(self.message) else f"{self.status} {self.message}"


class Api:
    """An API server as one identity over one kept-alive connection. Writes are dry runs unless told otherwise.

    A dry run passes authorization, admission and validation and stores nothing: attempts don't disturb each other.
    """

    def __init__(self, kubeconfig: str, token: str = "") -> None:
        config = yaml.safe_load(kubeconfig)
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        server = urllib.parse.urlsplit(cluster["server"])
        context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        self._headers = {"Authorization": f"Bearer {token or user['token']}"}
        self._connection = http.client.HTTPSConnection(server.netloc, timeout=30, context=context)

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def send(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        *,
        dry: bool = True,
        content: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request; `dry` counts for writes only."""
        if dry and method != "GET":
            path += ("&" if "?" in path else "?") + "dryRun=All"
        sent = {**self._headers, "Content-Type": content, **(headers or {})}
        payload = orjson.dumps(body) if body is not None else None
        try:
            self._connection.request(method, path, payload, sent)
            response = self._connection.getresponse()
        except (http.client.CannotSendRequest, http.client.RemoteDisconnected, OSError):
            # The server has closed a connection that was long idle: it has seen nothing of this.
            self._connection.close()
            self._connection.request(method, path, payload, sent)
            response = self._connection.getresponse()
        text = response.read()
        if "json" not in response.headers.get("Content-Type", ""):  # an API group that is not there yet: plain text
            return Answer(response.status, {"message": text.decode(errors="replace")})
        return Answer(response.status, orjson.loads(text))

    def get(self, path: str) -> Answer:
        """GET an object or a list."""
        return self.send("GET", path)

    def create(self, resource: Resource, body: Json, *, dry: bool = True) -> Answer:
        """POST an object into the namespace that its metadata names."""
        return self.send("POST", resource.path(body["metadata"].get("namespace", "")), body, dry=dry)

    def apply(self, resource: Resource, body: Json, *, dry: bool = True) -> Answer:
        """Server-side apply, as the operator does it."""
        path = resource.path(body["metadata"].get("namespace", ""), body["metadata"]["name"])
        query = "?fieldManager=tenantry&force=true"
        return self.send("PATCH", path + query, body, dry=dry, content="application/apply-patch+yaml")

    def patch(self, path: str, body: Json, *, dry: bool = True) -> Answer:
        """A JSON merge patch."""
        return self.send("PATCH", path, body, dry=dry, content="application/merge-patch+json")

    def delete(self, path: str, *, dry: bool = True) -> Answer:
        """DELETE an object, or with a collection's path, all of it."""
        return self.send("DELETE", path, dry=dry)

    def may(self, verb: str, resource: Resource, namespace: str = "", *, name: str = "", subresource: str = "") -> bool:
        """What a SelfSubjectAccessReview says: for verbs that a test can't well do."""
        attributes = {
            "verb": verb, "group": resource.group, "version": resource.version, "resource": resource.plural,
            "subresource": subresource, "namespace": namespace, "name": name,
        }  # fmt: skip
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        answer = self.send("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review, dry=False)
        return bool(answer.body["status"]["allowed"])


def made(answer: Answer) -> Answer:
    """The answer, if it was not a refusal."""
    assert answer.status < 300, answer.message
    return answer


def token_of(admin: Api, namespace: str, name: str) -> str:
    """A token of a ServiceAccount, as `kubectl create token` gets it."""
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    answer = admin.send("POST", SERVICE_ACCOUNTS.path(namespace, name, "token"), request, dry=False)
    made(answer)
    return str(answer.body["status"]["token"])


def manifest(resource: Resource, name: str, namespace: str = "", **content: Any) -> Json:
    """An object; `labels` and `annotations` go into its metadata, the rest stands beside it."""
    metadata: Json = {"name": name}
    if namespace:
        metadata["namespace"] = namespace
    for key in ("labels", "annotations"):
        if key in content:
            metadata[key] = content.pop(key)
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, **content}


def role_binding(name: str, namespace: str, role: str, *subjects: Mapping[str, str], **content: Any) -> Json:
    """A RoleBinding to a ClusterRole."""
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}
    return manifest(ROLE_BINDINGS, name, namespace, roleRef=reference, subjects=list(subjects), **content)


def ingress_spec(*hosts: str | None, tls: tuple[str, ...] | None = None, **spec: Any) -> Json:
    """The spec of an Ingress with a rule a host; None is a rule without a host."""
    backend = {"service": {"name": "app", "port": {"number": 80}}}
    http_rule = {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}
    rules = [{"host": host, "http": http_rule} if host is not None else {"http": http_rule} for host in hosts]
    entries: Json = {"tls": [{"hosts": list(tls), "secretName": "app-tls"}]} if tls is not None else {}
    return {**({"rules": rules} if rules else {}), **entries, **spec}


def container(pull_policy: str, name: str = "app") -> Json:
    """A container that Pod Security `restricted` lets pass."""
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    return {"name": name, "image": "app:1", "imagePullPolicy": pull_policy, "securityContext": security}


def pod_spec(pull_policy: str = "Always", **spec: Any) -> Json:
    """The spec of a pod that Pod Security `restricted` lets pass."""
    security = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    return {"containers": [container(pull_policy)], "securityContext": security, **spec}
