"""All connections to target clusters: made from kubeconfigs of strangers, made anew when these change."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from tenantry.adapters.breaker import Breaker
from tenantry.adapters.kube.addresses import AddressRefused, resolve_all
from tenantry.adapters.kube.client import KubeClient, connect
from tenantry.adapters.kube.kubeconfig import kubeconfig_from_secret, parse_kubeconfig
from tenantry.adapters.kube.live import LiveCache
from tenantry.adapters.kube.refusal import KubeconfigRefused
from tenantry.adapters.kube.target import TargetConnection
from tenantry.adapters.kube.transport import NOBODY_SPECIAL, REQUEST_SECONDS, Caller, OnRequest
from tenantry.api.names import LABEL_MANAGEMENT_ID
from tenantry.api.resources import Ref
from tenantry.ports.kube import CredentialsRefusedError, UnreachableError
from tenantry.ports.world import Clock, Json

OnTargetChange = Callable[[str, Ref, str, Json | None], None]
"""Told what somebody else changed on a target: the cluster's name, the object, its tenant hash, its body if it is."""


@dataclass(frozen=True, slots=True)
class _Held:
    connection: TargetConnection
    fingerprint: str
    addresses: tuple[str, ...]


class TargetPool:
    """Implements `tenantry.ports.kube.Targets`.

    Args:
        management: For Clusters without a kubeconfig.
        management_id: Whose stamps are watched.
        on_request: Gives the hook that counts the requests to a cluster.
        caller: Who asks them.
    """

    def __init__(
        self,
        *,
        management: KubeClient,
        management_id: str,
        allow_loopback: bool,
        clock: Clock,
        on_change: OnTargetChange,
        on_request: Callable[[str], OnRequest],
        caller: Caller = NOBODY_SPECIAL,
    ) -> None:
        self._management = management
        self._stamp = (LABEL_MANAGEMENT_ID, management_id)
        self._allow_loopback = allow_loopback
        self._clock = clock
        self._on_change = on_change
        self._on_request = on_request
        self._caller = caller
        self._held: dict[str, _Held] = {}
        self._retiring: set[asyncio.Task[None]] = set()

    def get(self, name: str) -> TargetConnection | None:
        """See `Targets`."""
        held = self._held.get(name)
        return held.connection if held else None

    def all(self) -> list[TargetConnection]:
        """See `Targets`."""
        return [held.connection for held in self._held.values()]

    async def connect(self, name: str, secret: Mapping[str, str] | None, key: str | None) -> TargetConnection:
        """See `Targets`. A client that did not answer is made anew if its host leads somewhere else by now."""
        document = _document(secret, key)
        fingerprint = hashlib.sha256(document).hexdigest() if document is not None else ""
        held = self._held.get(name)
        if held is not None and held.fingerprint == fingerprint:
            if document is None or not held.connection.stale:
                return held.connection
            if await self._addresses(document) == held.addresses:
                return held.connection
        client = self._management if document is None else await self._client(name, document)
        former = held.connection if held is not None else None
        connection = await self._successor(name, client, former, shared=document is None)
        addresses = await self._addresses(document) if document is not None else ()
        self._held[name] = _Held(connection, fingerprint, addresses)
        if former is not None:
            self._retire(former)
        return connection

    async def disconnect(self, name: str) -> None:
        """See `Targets`."""
        held = self._held.pop(name, None)
        if held is not None:
            await held.connection.close()

    async def close(self) -> None:
        """Close all of them."""
        for name in list(self._held):
            await self.disconnect(name)
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)

    def _retire(self, former: TargetConnection) -> None:
        """Close a connection that was replaced, once the requests that are under way on it have ended."""

        async def close_later() -> None:
            try:
                await former.end_watches()
                await asyncio.sleep(REQUEST_SECONDS)
            finally:
                await former.close()

        task = asyncio.create_task(close_later())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _addresses(self, document: bytes) -> tuple[str, ...]:
        """Where the kubeconfig's host leads now; nothing if that can't be said."""
        try:
            credentials = parse_kubeconfig(document, now=self._now())
            return await resolve_all(credentials.host, credentials.port, allow_loopback=self._allow_loopback)
        except (KubeconfigRefused, AddressRefused, UnreachableError):
            return ()

    async def _successor(
        self, name: str, client: KubeClient, former: TargetConnection | None, *, shared: bool
    ) -> TargetConnection:
        """A connection that goes on where the former one was, if it leads to the same cluster."""
        labels = "=".join(self._stamp)
        breaker = Breaker(clock=self._clock)
        if former is not None and former.facts is not None:
            heir = TargetConnection(name, client, former.live, breaker, labels=labels, shared=shared)
            if await heir.identify() == former.facts.cluster_id:
                heir.inherit(former)
                return heir
        cache = LiveCache(lambda ref, tenant, body: self._on_change(name, ref, tenant, body), stamp=self._stamp)
        return TargetConnection(name, client, cache, breaker, labels=labels, shared=shared)

    async def _client(self, name: str, document: bytes) -> KubeClient:
        try:
            credentials = parse_kubeconfig(document, now=self._now())
            return await connect(
                credentials,
                allow_loopback=self._allow_loopback,
                on_request=self._on_request(name),
                caller=self._caller,
            )
        except KubeconfigRefused as refused:
            raise CredentialsRefusedError(refused.reason, refused.message) from refused
        except AddressRefused as refused:
            raise CredentialsRefusedError(refused.reason, refused.message) from refused

    def _now(self) -> datetime:
        return self._clock.now()


def _document(secret: Mapping[str, str] | None, key: str | None) -> bytes | None:
    if secret is None:
        return None
    try:
        return kubeconfig_from_secret(secret, key)
    except KubeconfigRefused as refused:
        raise CredentialsRefusedError(refused.reason, refused.message) from refused
