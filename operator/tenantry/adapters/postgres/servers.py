"""All connections to database servers: an address resolved once, an admin connection each, made anew on a change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tenantry.adapters.kube.addresses import AddressRefused, resolve
from tenantry.adapters.postgres.admin import PostgresAdmin
from tenantry.adapters.postgres.params import ServerParams
from tenantry.api.conditions import Reason
from tenantry.ports.kube import CredentialsRefusedError, UnreachableError
from tenantry.ports.postgres import DatabaseError, DatabaseUnreachableError, ServerFacts
from tenantry.ports.servers import ServerEndpoint
from tenantry.ports.world import Availability

NOT_PROBED = Availability(ok=False, reason=Reason.PROBING, message="it has not been probed yet")


class ServerConnection:
    """Implements `tenantry.ports.servers.Server`."""

    def __init__(
        self, name: str, endpoint: ServerEndpoint, address: str, may_write: Callable[[], bool] | None = None
    ) -> None:
        self._name = name
        self._endpoint = endpoint
        self._address = address
        self._admin = PostgresAdmin(
            ServerParams(
                host=endpoint.host,
                port=endpoint.port,
                username=endpoint.username,
                password=endpoint.password,
                ssl_mode=endpoint.ssl_mode,
                ca_pem=endpoint.ca_pem or None,
                hostaddr=address,
                may_write=may_write,
            )
        )
        self._facts: ServerFacts | None = None
        self._judged = NOT_PROBED
        self.stale = False
        """It did not answer: its host may have another address by now."""

    @property
    def name(self) -> str:
        """See `Server`."""
        return self._name

    @property
    def admin(self) -> PostgresAdmin:
        """See `Server`."""
        return self._admin

    @property
    def endpoint(self) -> ServerEndpoint:
        """See `Server`."""
        return self._endpoint

    @property
    def address(self) -> str:
        """See `Server`."""
        return self._address

    @property
    def facts(self) -> ServerFacts | None:
        """See `Server`."""
        return self._facts

    @property
    def availability(self) -> Availability:
        """See `Server`."""
        return self._judged

    def judge(self, availability: Availability) -> None:
        """See `Server`."""
        self._judged = availability

    async def probe(self) -> ServerFacts:
        """See `Server`."""
        try:
            self._facts = await self._admin.probe()
        except DatabaseError:
            self.stale = True
            raise
        self.stale = False
        return self._facts

    def inherit(self, former: ServerConnection) -> None:
        """Until the first probe of this connection, what was known of the server holds."""
        self._facts = former.facts
        self._judged = former.availability

    async def close(self) -> None:
        """End all its connections."""
        await self._admin.close()


@dataclass(frozen=True, slots=True)
class _Held:
    connection: ServerConnection
    endpoint: ServerEndpoint

    @property
    def address(self) -> str:
        return self.connection.address


class ServerPool:
    """Implements `tenantry.ports.servers.Servers`.

    Args:
        allow_loopback: Servers may be on this machine.
        may_write: Asked before each statement.
    """

    def __init__(self, *, allow_loopback: bool, may_write: Callable[[], bool] | None = None) -> None:
        self._allow_loopback = allow_loopback
        self._may_write = may_write
        self._held: dict[str, _Held] = {}

    def get(self, name: str) -> ServerConnection | None:
        """See `Servers`."""
        held = self._held.get(name)
        return held.connection if held else None

    def all(self) -> list[ServerConnection]:
        """See `Servers`."""
        return [held.connection for held in self._held.values()]

    async def connect(self, name: str, endpoint: ServerEndpoint) -> ServerConnection:
        """See `Servers`. One that did not answer is made anew too: its host may have moved."""
        held = self._held.get(name)
        if held is not None and held.endpoint == endpoint and not held.connection.stale:
            return held.connection
        try:
            address = await resolve(endpoint.host, endpoint.port, allow_loopback=self._allow_loopback)
        except AddressRefused as refused:
            raise CredentialsRefusedError(refused.reason, refused.message) from refused
        except UnreachableError as error:
            raise DatabaseUnreachableError(error.message) from error
        connection = ServerConnection(name, endpoint, address, self._may_write)
        self._held[name] = _Held(connection, endpoint)
        if held is not None:
            if (held.address, held.endpoint.port) == (address, endpoint.port):
                connection.inherit(held.connection)
            await held.connection.close()
        return connection

    async def disconnect(self, name: str) -> None:
        """See `Servers`."""
        held = self._held.pop(name, None)
        if held is not None:
            await held.connection.close()

    async def close(self) -> None:
        """Close all of them."""
        for name in list(self._held):
            await self.disconnect(name)
