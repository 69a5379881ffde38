"""The protocols between the reconcilers and the world, the plain values that cross them, and the errors they raise."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from tenantry.api.resources import Ref, Resource

Json = dict[str, Any]


# --- errors ---------------------------------------------------------------------------------------------------
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
"""In the message of an UnreachableError: the API server did answer, and somebody's admission webhook did not."""


class DatabaseError(Exception):
    """A database server refused a statement; `message` has no secret in it and names no other tenant."""

    def __init__(self, message: str, *, sqlstate: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.sqlstate = sqlstate


class DatabaseUnreachableError(DatabaseError):
    """The server did not answer in time, or refused the connection for a reason that may pass.

    Attributes:
        retry_after: Seconds after which it is to be asked again, or None.
    """

    def __init__(self, message: str, *, sqlstate: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, sqlstate=sqlstate)
        self.retry_after = retry_after


class DatabaseCredentialsError(DatabaseError):
    """The server refused the admin credentials or they lack the rights named in the message."""


# --- Kubernetes -----------------------------------------------------------------------------------------------
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


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether tenants may use a cluster or server now, and if not, why not (a Reason and a message for people)."""

    ok: bool
    reason: str = ""
    message: str = ""


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


# --- PostgreSQL -----------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What a probe found out about a database server.

    Attributes:
        system_identifier: From pg_control_system(), as decimal text.
        version: `server_version_num`, such as 150018.
        public_connect: Those of `postgres` and `template1` on which PUBLIC may CONNECT.
        missing_rights: What the admin role lacks of CREATEDB and CREATEROLE; also says if it is a superuser (allowed).
        databases: Number of claims this server holds, of any management cluster.
        extensions: Names in pg_available_extensions.
    """

    system_identifier: str
    version: int
    public_connect: tuple[str, ...]
    missing_rights: tuple[str, ...]
    databases: int
    extensions: frozenset[str]


@dataclass(frozen=True, slots=True)
class DatabaseClaim:
    """One row of table `claims` in database `tenantry` on a server: who a database name belongs to.

    Attributes:
        state: `creating`, `ready`, `parked` or `dropping`.
        purge_after: When a parked one may be dropped, in UTC; None for never, and in all other states but `dropping`.
    """

    database: str
    management_id: str
    tenant_hash: str
    record: str
    state: str
    purge_after: datetime | None = None


@dataclass(frozen=True, slots=True)
class WantedDatabase:
    """A tenant's database on a shared server as it should be.

    Attributes:
        database: The database's name, also the stem of its roles: `<database>_owner`, `<database>_0`, `<database>_1`.
        connection_limit: Of the database, for all logins together.
        extensions: Already checked against the server's and the plan's allow-lists.
    """

    database: str
    management_id: str
    tenant_hash: str
    record: str
    connection_limit: int
    extensions: tuple[str, ...] = ()

    @property
    def owner(self) -> str:
        """The role that owns the tenant's schema and objects; it can't log in."""
        return f"{self.database}_owner"

    @property
    def logins(self) -> tuple[str, str]:
        """The two login roles that rotation alternates between."""
        return f"{self.database}_0", f"{self.database}_1"


@dataclass(frozen=True, slots=True)
class DatabaseState:
    """What of a wanted database exists and is as it should be, read in one go.

    Attributes:
        claim: The row for this database name, whoever owns it; None if there is none.
        exists: The database itself is there.
        stamped: Its comment carries this management id and tenant hash.
        settled: Owner, privileges, limits, roles and settings are all as wanted (nothing left to do but passwords).
    """

    claim: DatabaseClaim | None
    exists: bool
    stamped: bool
    settled: bool


@dataclass(frozen=True, slots=True)
class LoginState:
    """One of a tenant's two logins at one moment.

    Attributes:
        can_login: It is there, has LOGIN, and its validity is not over. Whether it has a password can't be seen.
        sessions: Of this login, in all databases.
        clients: Who they say they are and where they come from, such as `psql at 10.0.0.7`: different ones, at most 10
            of at most 64 printable characters each.
    """

    name: str
    can_login: bool
    sessions: int
    clients: tuple[str, ...]


class DatabaseAdmin(Protocol):
    """One shared PostgreSQL server as its admin role. Each method is one idempotent step; all raise only DatabaseError.

    The order of the steps is the reconciler's: claim (committed), roles, database, settle, stamp, mark ready.
    """

    async def probe(self) -> ServerFacts:
        """Connect, make sure that database `tenantry` and its table are there, and read the facts."""

    async def inspect(self, wanted: WantedDatabase) -> DatabaseState:
        """The state of one tenant's database."""

    async def now(self) -> datetime:
        """The server's clock, in UTC."""

    async def claims(self, management_id: str) -> list[DatabaseClaim]:
        """All claims of one management cluster."""

    async def claim(self, wanted: WantedDatabase, *, max_databases: int | None) -> DatabaseClaim | None:
        """Commit a claim in state `creating` unless the name is claimed; the row as it then is.

        None if the server is full (counted and inserted atomically).
        """

    async def ensure_roles(self, wanted: WantedDatabase) -> None:
        """The owner role and both logins, without password and NOLOGIN where new; attributes put right."""

    async def ensure_database(self, wanted: WantedDatabase) -> None:
        """CREATE DATABASE from template0 owned by the admin's role, where it is missing."""

    async def settle(self, wanted: WantedDatabase) -> None:
        """Privileges, schema public, search_path, role settings, limits and extensions; then the stamp (comment)."""

    async def mark(self, wanted: WantedDatabase, *, before: str, after: str) -> bool:
        """Compare-and-swap of the claim's state; False if it was not `before`."""

    async def set_password(self, wanted: WantedDatabase, login: str, password: str) -> None:
        """LOGIN and a SCRAM-SHA-256 verifier made here; the server never sees the password."""

    async def login_works(self, wanted: WantedDatabase, login: str, password: str) -> bool:
        """Whether a tenant's login gets into its database and `SELECT current_user` is its owner role."""

    async def park(self, wanted: WantedDatabase, *, purge_after: datetime | None) -> bool:
        """Claim to `parked`, logins locked with their passwords kept, no privilege on the database, sessions ended.

        The data stays. False if there is no such claim or it is in `dropping`. Safe to repeat.

        Args:
            wanted: Whose database it is.
            purge_after: When it may be dropped, with a zone; None for never.
        """

    async def unpark(self, wanted: WantedDatabase) -> bool:
        """Claim from `parked` to `ready`, or to `creating` if it was never complete; False if it was not parked.

        `ensure_roles`, `settle` and `set_password` then open it again.
        """

    async def expire(self, wanted: WantedDatabase) -> bool:
        """Claim from `parked` to `dropping` if its `purge_after` is over by the server's clock; else False."""

    async def lock_logins(self, wanted: WantedDatabase) -> None:
        """Both logins locked with their passwords kept, and their sessions ended; `set_password` unlocks one."""

    async def logins(self, wanted: WantedDatabase) -> tuple[LoginState, LoginState]:
        """Both logins, and who uses them now."""

    async def lock_login(self, wanted: WantedDatabase, login: str, *, end_sessions: bool) -> LoginState:
        """One login locked and its password forgotten; what it was before. Never both, whoever else is at it."""

    async def reassign(self, wanted: WantedDatabase) -> None:
        """What the logins themselves own in the tenant's database is given to the owner role."""

    async def drop(self, wanted: WantedDatabase) -> None:
        """Lock the logins, end the sessions, drop the database and the roles. Needs the claim in `dropping`."""

    async def release(self, wanted: WantedDatabase) -> None:
        """Delete the claim in state `dropping`: the last step."""

    async def close(self) -> None:
        """End all connections."""


@dataclass(frozen=True, slots=True)
class ServerEndpoint:
    """Where a database server is and how its admin gets in."""

    host: str
    port: int
    username: str
    password: str = field(repr=False)
    ssl_mode: str
    ca_pem: str = ""


class Server(Protocol):
    """The connection to one shared database server."""

    @property
    def name(self) -> str:
        """The name of its DatabaseServer."""

    @property
    def admin(self) -> DatabaseAdmin:
        """Its admin connection."""

    @property
    def endpoint(self) -> ServerEndpoint:
        """What it was connected with."""

    @property
    def address(self) -> str:
        """The IP address that the host was resolved to, and that is dialled."""

    @property
    def facts(self) -> ServerFacts | None:
        """Of the last probe that was answered."""

    @property
    def availability(self) -> Availability:
        """Whether tenants may use it now."""

    def judge(self, availability: Availability) -> None:
        """The DatabaseServer's reconcile says whether tenants may use it."""

    async def probe(self) -> ServerFacts:
        """`admin.probe()`, remembered as `facts`."""


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy brought over, as both sides have it.

    Attributes:
        rows: Of all tables together.
    """

    tables: int
    rows: int
    sequences: int
    large_objects: int


class DatabaseCopier(Protocol):
    """Brings a tenant's database from one shared server to another, through this process and never by way of a disk."""

    async def check(self, source: Server, destination: Server) -> None:
        """That the tools are there that can copy between these versions.

        Raises:
            DatabaseError: naming what is missing.
        """

    async def is_empty(self, destination: Server, wanted: WantedDatabase) -> bool:
        """Whether nothing was ever written into a database that was just made: no earlier copy that died.

        Raises:
            DatabaseError: it can't be told.
        """

    async def copy(
        self, source: Server, old: WantedDatabase, destination: Server, new: WantedDatabase, password: str
    ) -> Copied:
        """Copy, then compare both: rows and a checksum a table, sequences, large objects.

        Nobody may write to either meanwhile. The new one must be empty; what is there after an error is of no use.

        Args:
            source: Where it is; it is read as the admin role.
            old: The database there.
            destination: Where it goes.
            new: The database there, settled. It is written as its first login, which must be open with `password`.
            password: Of that login.

        Raises:
            DatabaseError: what went wrong, or where the two differ.
        """


class Servers(Protocol):
    """All connections to database servers, by the name of the DatabaseServer."""

    def get(self, name: str) -> Server | None:
        """The connection, or None."""

    def all(self) -> Sequence[Server]:
        """All connections."""

    async def connect(self, name: str, endpoint: ServerEndpoint) -> Server:
        """The connection to this endpoint; a new one when it has changed.

        Raises:
            CredentialsRefusedError: for an address that is not dialled.
            DatabaseUnreachableError: for a host that does not resolve.
        """

    async def disconnect(self, name: str) -> None:
        """Close it; no error if there is none."""


@dataclass(frozen=True, slots=True)
class OwnServer:
    """A database server of a tenant's own, which only the tenant's pods can dial.

    Attributes:
        endpoint: As the tenant's pods reach it; username and password are the operator's role there, which is made
            where it is missing.
        superuser: The role that makes it.
    """

    endpoint: ServerEndpoint
    superuser: str
    superuser_password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ServerCertificate:
    """A server's certificate, its key, and the authority that clients check it by; all PEM."""

    ca_pem: str
    certificate_pem: str
    key_pem: str = field(repr=False)


class OwnServers(Protocol):
    """Sessions on the servers of tenants' own, each for one use."""

    def open(
        self, server: OwnServer, dial: Callable[[], Awaitable[Tunnel]], *, read_only: bool = False
    ) -> AbstractAsyncContextManager[Server]:
        """The server, probed, by way of tunnels to its port; closed with all its sessions afterwards.

        Args:
            server: Which one.
            dial: Makes one tunnel.
            read_only: Nothing is made or put right there, not even the operator's role, and every write is refused.

        Raises (on entering):
            KubeError: no tunnel came about.
            DatabaseError: the server refused, or did not answer.
        """


# --- the rest of the world ------------------------------------------------------------------------------------
class Clock(Protocol):
    """Time, so that tests can move it."""

    def now(self) -> datetime:
        """The time in UTC, with its zone."""

    def monotonic(self) -> float:
        """Seconds that never go back."""


class Dns(Protocol):
    """What a stranger's names lead to."""

    async def txt(self, name: str) -> tuple[str, ...]:
        """The TXT records at a name; empty where there are none. Raises TimeoutError if no server answered."""

    async def addresses(self, host: str) -> tuple[str, ...]:
        """The IP addresses of a host (a DNS name in full, or an address), at least one, sorted.

        Raises:
            CredentialsRefusedError: one of them is an address that no stranger may name; the reason says which sort.
            UnreachableError: the name does not resolve, or no server answered.
        """


class Events(Protocol):
    """Kubernetes Events on our own objects: for people, never read back."""

    def emit(self, about: Mapping[str, Any], *, warning: bool, reason: str, message: str) -> None:
        """Write an event soon, without waiting; repeated ones are counted up in one object."""


class Wake(Protocol):
    """How a reconciler makes another key be reconciled."""

    def wake(self, key: Ref) -> None:
        """Enqueue one key."""

    def every(self, resource: Resource) -> None:
        """Enqueue all objects of a kind."""

    def tenants_of_cluster(self, name: str) -> None:
        """Enqueue every Tenant that lives on a Cluster or waits for one."""

    def tenants_of_server(self, name: str) -> None:
        """Enqueue every Tenant whose database is on a DatabaseServer, or that waits for one."""
