"""The port `Kube` on raw aiohttp and orjson: CPU per request is what bounds how many tenants one operator can carry."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import quote

import orjson

from tenantry.adapters.kube.addresses import Lookup, resolve_all, system_lookup
from tenantry.adapters.kube.kubeconfig import TargetCredentials
from tenantry.adapters.kube.lines import LineSplitter, LineTooLongError
from tenantry.adapters.kube.portforward import PROTOCOL, PodTunnel
from tenantry.adapters.kube.shape import (
    checked,
    checked_version,
    collection_of,
    event_of,
    foreign,
    parsed,
    path_of,
    ref_of,
)
from tenantry.adapters.kube.tls import client_context
from tenantry.adapters.kube.transport import MAX_BODY, NOBODY_SPECIAL, REQUEST_SECONDS, Caller, OnRequest, Transport
from tenantry.api.names import FIELD_MANAGER
from tenantry.api.resources import Ref, Resource
from tenantry.ports.kube import (
    ExpiredError,
    InvalidError,
    KubeError,
    Listing,
    NotFoundError,
    UnreachableError,
    WatchEvent,
)
from tenantry.ports.world import Json

PAGE: Final = 500
MAX_PAGE_BYTES: Final = 128 * 1024 * 1024
LIST_SECONDS: Final = 120.0
LIST_ATTEMPTS: Final = 3
WATCH_SECONDS: Final = 290
SILENCE_SECONDS: Final = 130.0
"""A living watch is heard of at least once a minute: API servers send a bookmark."""

_WRITE: Final = f"fieldManager={FIELD_MANAGER}&fieldValidation=Strict"
_APPLY: Final = f"fieldManager={FIELD_MANAGER}&force=true"  # always strict: an unknown field is refused anyway
_VERSION = re.compile(r"v[0-9]+\.[0-9]+[0-9A-Za-z.+-]{0,48}")


async def connect(
    credentials: TargetCredentials,
    *,
    allow_loopback: bool,
    on_request: OnRequest | None = None,
    seconds: float = REQUEST_SECONDS,
    lookup: Lookup = system_lookup,
    caller: Caller = NOBODY_SPECIAL,
) -> KubeClient:
    """A client for a target: its host is resolved now, judged, and from then on only those addresses are dialled.

    Sends no request yet. Close it when the credentials change, and connect anew.

    Args:
        credentials: From `parse_kubeconfig`.
        allow_loopback: For targets on this machine.
        on_request: For metrics.
        seconds: Deadline of a request.
        lookup: How the host is resolved.
        caller: Who asks.

    Raises:
        AddressRefused: if the host leads to a forbidden address.
        UnreachableError: if its name does not resolve, or OpenSSL does not take its certificates.
    """
    addresses = await resolve_all(credentials.host, credentials.port, allow_loopback=allow_loopback, lookup=lookup)
    tls = client_context(credentials.ca_pem, credentials.client_certificate_pem, credentials.client_key_pem)
    transport = Transport(
        credentials.server,
        tls=tls,
        addresses=addresses,
        server_name=credentials.tls_server_name,
        authorization=f"Bearer {credentials.token}" if credentials.token else None,
        seconds=seconds,
        on_request=on_request,
        caller=caller,
    )
    return KubeClient(transport)


class KubeClient:
    """One API server as one identity; see `tenantry.ports.kube.Kube`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @property
    def server(self) -> str:
        """The URL requests go to, without secrets: for messages and logs."""
        return self._transport.server

    async def close(self) -> None:
        """End all connections; whatever is asked of this client from now on is an UnreachableError."""
        await self._transport.close()

    async def get(self, ref: Ref) -> Json:
        """The object. Raises NotFoundError."""
        return checked(parsed(await self._transport.request("GET", path_of(ref))))

    async def list(self, resource: Resource, *, namespace: str = "", labels: str = "") -> Listing:
        """All objects, in pages of 500, without managedFields; started over when a continue token expires.

        Raises:
            KubeError: also when it takes more than 120 s, or expires a third time.
        """
        try:
            async with asyncio.timeout(LIST_SECONDS):
                for _ in range(LIST_ATTEMPTS - 1):
                    try:
                        return await self._list_once(resource, namespace, labels)
                    except ExpiredError:
                        continue
                return await self._list_once(resource, namespace, labels)
        except TimeoutError:
            raise UnreachableError(f"the server did not list its {resource.plural} within {LIST_SECONDS:g} s") from None

    async def _list_once(self, resource: Resource, namespace: str, labels: str) -> Listing:
        query = f"{collection_of(resource, namespace)}?limit={PAGE}{_selector(labels)}"
        api_version, kind = resource.api_version, resource.kind
        items: list[Json] = []
        token = ""
        while True:
            target = f"{query}&continue={quote(token, safe='')}" if token else query
            page = parsed(await self._transport.request("GET", target, limit=MAX_PAGE_BYTES))
            metadata, found = page.get("metadata"), page.get("items") or []
            if not isinstance(metadata, dict) or not isinstance(found, list):
                raise foreign("JSON that is not a list of Kubernetes objects")
            for item in found:
                checked(item)["apiVersion"] = api_version
                item["kind"] = kind
                item["metadata"].pop("managedFields", None)  # as much again as the object, and nobody reads it
            items += found
            token = str(metadata.get("continue") or "")
            if not token:
                return Listing(items, checked_version(metadata))

    async def watch(
        self, resource: Resource, *, resource_version: str, namespace: str = "", labels: str = ""
    ) -> AsyncGenerator[WatchEvent, None]:
        """Events after `resource_version` (bookmarks too), without managedFields, until the server ends the watch.

        Raises:
            ExpiredError: if `resource_version` is too old.
            UnreachableError: also after 130 s without a byte, and if it ends in the middle of an event.
        """
        target = (
            f"{collection_of(resource, namespace)}?watch=1&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}"
            f"&resourceVersion={quote(resource_version, safe='')}{_selector(labels)}"
        )
        lines = LineSplitter(MAX_BODY)
        pieces = self._transport.stream(target, silence=SILENCE_SECONDS)
        try:
            async for piece in pieces:
                for line in lines.feed(piece):
                    yield event_of(line)
        except KubeError as error:
            raise self._transport.cleaned(error) from None
        except LineTooLongError:
            raise UnreachableError(f"the server sent an event larger than {MAX_BODY // 1024 // 1024} MiB") from None
        finally:
            await pieces.aclose()
        if lines.pending:
            raise UnreachableError("the server broke off in the middle of an event")

    async def create(self, body: Json) -> Json:
        """POST. Raises AlreadyExistsError."""
        ref = ref_of(body)
        answer = parsed(await self._send("POST", f"{collection_of(ref.resource, ref.namespace)}?{_WRITE}", body))
        return checked(answer) if ref.name else answer  # a review is answered, not stored

    async def apply(self, body: Json) -> Json:
        """Server-side apply with our field manager, forced; only onto what was read as ours or is not there."""
        target = f"{path_of(ref_of(body))}?{_APPLY}"
        return checked(parsed(await self._send("PATCH", target, body, "application/apply-patch+yaml")))

    async def rehearse(self, body: Json) -> Json:
        """As `apply`, with everything checked and nothing stored; what is not stored may lack a resourceVersion."""
        target = f"{path_of(ref_of(body))}?{_APPLY}&dryRun=All"
        return parsed(await self._send("PATCH", target, body, "application/apply-patch+yaml"))

    async def replace(self, body: Json) -> Json:
        """PUT; the body's metadata.resourceVersion makes it a compare-and-swap. Raises ConflictError."""
        return checked(parsed(await self._send("PUT", f"{path_of(ref_of(body))}?{_WRITE}", body)))

    async def merge_patch(self, ref: Ref, patch: Json, *, subresource: str = "") -> Json:
        """JSON merge patch; a metadata.resourceVersion or uid in it is a precondition."""
        target = f"{path_of(ref, subresource)}?{_WRITE}"
        return checked(parsed(await self._send("PATCH", target, patch, "application/merge-patch+json")))

    async def delete(self, ref: Ref, *, uid: str | None = None, resource_version: str | None = None) -> None:
        """DELETE with preconditions, dependants in the background; no error if it is not there.

        Raises ConflictError if a precondition fails.
        """
        options: Json = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        preconditions = {"uid": uid, "resourceVersion": resource_version}
        if preconditions := {name: value for name, value in preconditions.items() if value is not None}:
            options["preconditions"] = preconditions
        try:
            parsed(await self._send("DELETE", path_of(ref), options))
        except NotFoundError:
            return

    async def forward(self, pod: Ref, port: int) -> PodTunnel:
        """A connection to a port of a pod, by way of the API server and the pod's node."""
        return PodTunnel(await self._transport.websocket(f"{path_of(pod, 'portforward')}?ports={port}", PROTOCOL))

    async def version(self) -> str:
        """`gitVersion` of the API server, such as `v1.36.3`."""
        version = parsed(await self._transport.request("GET", "/version")).get("gitVersion")
        if not isinstance(version, str) or not _VERSION.fullmatch(version):
            raise foreign("a version that is none")
        return version

    async def now(self) -> datetime:
        """The API server's clock, as the header `Date` of its answers tells it, in whole seconds."""
        try:
            return parsedate_to_datetime(await self._transport.date("/version"))
        except ValueError:
            raise foreign("an answer without a date") from None

    async def _send(self, method: str, target: str, body: Json, content_type: str = "application/json") -> bytes:
        try:
            data = orjson.dumps(body)
        except TypeError as error:
            raise InvalidError(f"the object can't be written as JSON: {error}") from None
        return await self._transport.request(method, target, data, content_type=content_type)


def _selector(labels: str) -> str:
    return f"&labelSelector={quote(labels, safe='')}" if labels else ""
