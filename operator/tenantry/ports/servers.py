"""Connections to database servers, shared ones and tenants' own: which there are, and what is moved between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from tenantry.ports.kube import Tunnel
from tenantry.ports.postgres import DatabaseAdmin, ServerFacts, WantedDatabase
from tenantry.ports.world import Availability


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
