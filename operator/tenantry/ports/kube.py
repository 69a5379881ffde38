"""What the reconcilers ask of API servers: the protocols, the values that cross them, and the errors they raise."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from tenantry.api.resources import Ref, Resource
from tenantry.ports.world import Availability, Json


class KubeError(Exception):
    """An API server refused or did not answer.

    Attributes:
        status: The HTTP status; 0 where no answer came.
        reason: The machine-readable `reason` of the Status object, such as `AlreadyExists`.
        message: What the server said, without secrets; safe for conditions.
    """

    def __init__(self, message: str, *, status: int = 0, reason: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.reason = reason


class NotFoundError(KubeError):
    """404."""


class NoSuchKindError(NotFoundError):
    """404 that names no object: the kind is not served (yet), which says nothing of the object."""


class AlreadyExistsError(KubeError):
    """409 with reason AlreadyExists."""


class ConflictError(KubeError):
    """409 with any other reason: a precondition failed, or a transient clash such as one of quota admission."""


class ForbiddenError(KubeError):
    """403: RBAC, an admission policy, quota, or a namespace that is terminating."""


class UnauthorizedError(KubeError):
    """401: the credentials are not accepted."""


class InvalidError(KubeError):
    """400, 413 or 422: the object itself is refused; trying again does not help."""


class ExpiredError(KubeError):
    """410: the resourceVersion or continue token of a list or watch is too old."""


class UnreachableError(KubeError):
    """No usable answer: refused, reset, time-out, TLS failure, 5xx, 429, or an answer that is not Kubernetes'.

    Attributes:
        retry_after: Seconds the server asked for, or None.
    """

    def __init__(self, message: str, *, status: int = 0, reason: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, status=status, reason=reason)
        self.retry_after = retry_after


WEBHOOK_FAILED = "failed calling webhook"


@dataclass(frozen=True, slots=True)
class Listing:
    """The answer to a list: objects as parsed JSON (each with apiVersion and kind) and the list's resourceVersion."""

    items: list[Json]
    resource_version: str


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One line of a watch. `type` is ADDED, MODIFIED, DELETED or BOOKMARK."""

    type: str
    object: Json


class Tunnel(Protocol):
    """A stream of bytes to a port of a pod. Every call raises only KubeError and its subclasses."""

    async def read(self) -> bytes:
        """What came next; nothing when the pod's side has ended."""

    async def write(self, data: bytes) -> None:
        """Send some."""

    async def close(self) -> None:
        """End it."""


class Kube(Protocol):
    """One API server as one identity. Every call has a deadline and raises only KubeError and its subclasses."""

    async def get(self, ref: Ref) -> Json:
        """The object. Raises NotFoundError."""

    async def list(self, resource: Resource, *, namespace: str = "", labels: str = "") -> Listing:
        """All objects, page by page; `labels` is a label selector as kubectl takes it."""

    def watch(
        self, resource: Resource, *, resource_version: str, namespace: str = "", labels: str = ""
    ) -> AsyncIterator[WatchEvent]:
        """Events after `resource_version` until the server ends the watch. Raises ExpiredError when it is too old."""

    async def create(self, body: Json) -> Json:
        """POST. Raises AlreadyExistsError."""

    async def apply(self, body: Json) -> Json:
        """Server-side apply with our field manager, forced; only onto what was read as ours or is not there."""

    async def rehearse(self, body: Json) -> Json:
        """As `apply`, with everything checked and nothing stored (dryRun=All): the object as it would be."""

    async def replace(self, body: Json) -> Json:
        """PUT; the body's metadata.resourceVersion makes it a compare-and-swap. Raises ConflictError."""

    async def merge_patch(self, ref: Ref, patch: Json, *, subresource: str = "") -> Json:
        """JSON merge patch; a metadata.resourceVersion or uid in it is a precondition."""

    async def delete(self, ref: Ref, *, uid: str | None = None, resource_version: str | None = None) -> None:
        """DELETE with preconditions; no error if it is not there. Raises ConflictError if a precondition fails."""

    async def forward(self, pod: Ref, port: int) -> Tunnel:
        """A connection to a port of a pod, as `kubectl port-forward` makes it."""

    async def version(self) -> str:
        """`gitVersion` of the API server, such as `v1.36.3`."""

    async def now(self) -> datetime:
        """The API server's clock, in whole seconds."""


class LiveObjects(Protocol):
    """What a watch has seen of one API server: reads cost no request. Never goes backwards in resourceVersion."""

    def get(self, ref: Ref) -> Json | None:
        """A fresh copy of the object without managedFields, or None."""

    def of_tenant(self, tenant_hash: str) -> list[Json]:
        """All objects with that tenant-hash label."""

    def all(self, resource: Resource) -> list[Json]:
        """All objects of a kind."""

    def observe(self, body: Json) -> None:
        """Take in an object that an own write or read returned."""

    def forget(self, ref: Ref, *, uid: str = "") -> None:
        """Take out an object that an own delete removed or a read did not find."""

    def writing(self, ref: Ref) -> AbstractContextManager[None]:
        """While an own write is under way: the watch's echo of it is no change."""


@dataclass(frozen=True, slots=True)
class Access:
    """One right that is needed on a target: asked for by SelfSubjectAccessReview.

    Attributes:
        namespace: Empty for cluster-wide.
        name: One object only; empty for all.
    """

    verb: str
    group: str
    resource: str
    namespace: str = ""
    name: str = ""

    def __str__(self) -> str:
        what = f"{self.resource}.{self.group}" if self.group else self.resource
        one = f" {self.name!r}" if self.name else ""
        where = f" in {self.namespace}" if self.namespace else ""
        return f"{self.verb} {what}{one}{where}"


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """What a probe found out about a cluster.

    Attributes:
        cluster_id: The UID of its kube-system namespace.
        version: `gitVersion` of its API server.
        missing: The rights that were asked for and are not there.
    """

    cluster_id: str
    version: str
    missing: tuple[Access, ...]


class CredentialsRefusedError(Exception):
    """A kubeconfig, or what it points to, is not accepted.

    Attributes:
        reason: CamelCase, one for each way to be refused.
        message: What is wrong with which field, and the way out; no secrets.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class Target(Protocol):
    """The connection to one target cluster. Its requests fail fast while its breaker is open."""

    @property
    def name(self) -> str:
        """The name of its Cluster."""

    @property
    def kube(self) -> Kube:
        """Its API server."""

    @property
    def live(self) -> LiveObjects:
        """What its watches have seen of our stamped objects."""

    @property
    def facts(self) -> ClusterFacts | None:
        """Of the last probe that was answered."""

    @property
    def availability(self) -> Availability:
        """Whether tenants may use it now: what the Cluster's reconcile set, and the breaker."""

    def judge(self, availability: Availability) -> None:
        """The Cluster's reconcile says whether tenants may use it."""

    async def probe(self, needed: Iterable[Access]) -> ClusterFacts:
        """Ask who and how it is, with a short deadline. `needed` empty: only whether it answers and is the same."""

    async def sync(self, seconds: float) -> bool:
        """Start the watches if they are not running; whether all have listed within the time."""

    def writing(self, ref: Ref) -> AbstractContextManager[None]:
        """While an own write is under way: the watch's echo of it is no change."""


class Targets(Protocol):
    """All connections to target clusters, by the name of the Cluster."""

    def get(self, name: str) -> Target | None:
        """The connection, or None."""

    def all(self) -> Sequence[Target]:
        """All connections."""

    async def connect(self, name: str, secret: Mapping[str, str] | None, key: str | None) -> Target:
        """The connection with these credentials; a new one when they have changed.

        Args:
            name: Of the Cluster.
            secret: `data` of the kubeconfig's Secret, base64; None for the management cluster itself.
            key: The key in it; None for the conventional ones.

        Raises:
            CredentialsRefusedError: with nothing connected.
        """

    async def disconnect(self, name: str) -> None:
        """Stop its watches and close it; no error if there is none."""
