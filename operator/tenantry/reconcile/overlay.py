"""A rehearsed API server: reads are real, writes are kept here and never sent, and reads see the writes before them."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import Any, Final

from tenantry.api.names import LABEL_TENANT_HASH
from tenantry.api.resources import INGRESSES, NAMESPACES, Ref, Resource
from tenantry.decide.merging import merged
from tenantry.decide.preview import Write
from tenantry.ports.kube import (
    AlreadyExistsError,
    InvalidError,
    Kube,
    Listing,
    LiveObjects,
    NotFoundError,
    Tunnel,
    WatchEvent,
)
from tenantry.ports.world import Json
from tenantry.reconcile.apply import ref_of

NO_DRY_RUN: Final = "does not support dry run"
"""What an API server says where an admission webhook has side effects: then it can't be asked."""


class Overlay:
    """What would be there after the rehearsed writes, where that differs from what is there."""

    def __init__(self) -> None:
        self._now: dict[Ref, Json | None] = {}
        self._before: dict[Ref, Json | None] = {}

    def writes(self) -> list[Write]:
        """Each object that was written, as it was before the first write and would be after the last."""
        return [Write(ref, before, self._now[ref]) for ref, before in self._before.items()]

    def write(self, ref: Ref, before: Json | None, after: Json | None) -> None:
        """An object is another one from now on; None is none."""
        self._before.setdefault(ref, before)
        self._now[ref] = after

    def written(self, ref: Ref) -> bool:
        """Whether it was written."""
        return ref in self._before

    def is_new(self, namespace: str) -> bool:
        """Whether a namespace is there in the rehearsal only: nothing real is in it."""
        ref = Ref(NAMESPACES, "", namespace)
        return bool(namespace) and ref in self._before and self._before[ref] is None

    def covers(self, ref: Ref) -> bool:
        """Whether it knows of an object what is really there no more."""
        return ref in self._now

    def get(self, ref: Ref) -> Json | None:
        """One that it covers."""
        return copy.deepcopy(self._now[ref])

    def present(self) -> list[tuple[Ref, Json]]:
        """All that it has, but for what it says is gone."""
        return [(ref, copy.deepcopy(body)) for ref, body in self._now.items() if body is not None]


class RehearsedLive:
    """Implements `tenantry.ports.kube.LiveObjects` over real ones. What is really read goes to the real ones."""

    def __init__(self, inner: LiveObjects, overlay: Overlay) -> None:
        self._inner = inner
        self._overlay = overlay

    def get(self, ref: Ref) -> Json | None:
        """See `LiveObjects`."""
        return self._overlay.get(ref) if self._overlay.covers(ref) else self._inner.get(ref)

    def of_tenant(self, tenant_hash: str) -> list[Json]:
        """See `LiveObjects`."""
        own = [
            body
            for _, body in self._overlay.present()
            if (body["metadata"].get("labels") or {}).get(LABEL_TENANT_HASH) == tenant_hash and body["kind"] != "Secret"
        ]
        return [*self._real(self._inner.of_tenant(tenant_hash)), *own]

    def all(self, resource: Resource) -> list[Json]:
        """See `LiveObjects`."""
        own = [body for ref, body in self._overlay.present() if ref.resource == resource]
        return [*self._real(self._inner.all(resource)), *own]

    def observe(self, body: Json) -> None:
        """See `LiveObjects`; an answer of the rehearsal is known already."""
        if not self._overlay.covers(ref_of(body)):
            self._inner.observe(body)

    def forget(self, ref: Ref, *, uid: str = "") -> None:
        """See `LiveObjects`."""
        if not self._overlay.covers(ref):
            self._inner.forget(ref, uid=uid)

    def writing(self, ref: Ref) -> AbstractContextManager[None]:
        """See `LiveObjects`: no echo will come."""
        return nullcontext()

    def _real(self, bodies: list[Json]) -> list[Json]:
        return [body for body in bodies if not self._overlay.covers(ref_of(body))]


class RehearsedKube:
    """Implements `tenantry.ports.kube.Kube` over a real one.

    Args:
        inner: Is read from, and with `asks` is told what would be written, by its own dry run.
        live: The rehearsed ones of the same API server.
        overlay: Takes the writes.
        asks: Whether the API server is asked what it would say: admission policies, webhooks, validation.
    """

    def __init__(self, inner: Kube, live: LiveObjects, overlay: Overlay, *, asks: bool) -> None:
        self._inner = inner
        self._live = live
        self._overlay = overlay
        self._asks = asks

    async def get(self, ref: Ref) -> Json:
        """See `Kube`."""
        if not self._overlay.covers(ref) and not self._overlay.is_new(ref.namespace):
            return await self._inner.get(ref)
        body = self._overlay.get(ref) if self._overlay.covers(ref) else None
        if body is None:
            raise NotFoundError(f"{ref} is not there", status=404)
        return body

    async def forward(self, pod: Ref, port: int) -> Tunnel:
        """See `Kube`: what is asked through it only reads."""
        return await self._inner.forward(pod, port)

    async def list(self, resource: Resource, *, namespace: str = "", labels: str = "") -> Listing:
        """See `Kube`; of what was written that is taken to have the labels which somebody asks for."""
        listing = Listing([], "0")
        if not self._overlay.is_new(namespace):
            listing = await self._inner.list(resource, namespace=namespace, labels=labels)
        real = [
            each
            for each in listing.items
            if not self._overlay.covers(Ref(resource, each["metadata"].get("namespace", ""), each["metadata"]["name"]))
        ]
        own = [
            body
            for ref, body in self._overlay.present()
            if ref.resource == resource and namespace in ("", ref.namespace)
        ]
        return Listing([*real, *own], listing.resource_version)

    def watch(
        self, resource: Resource, *, resource_version: str, namespace: str = "", labels: str = ""
    ) -> AsyncIterator[WatchEvent]:
        """See `Kube`."""
        return self._inner.watch(resource, resource_version=resource_version, namespace=namespace, labels=labels)

    async def create(self, body: Json) -> Json:
        """See `Kube`."""
        ref = ref_of(body)
        if await self._found(ref) is not None:
            raise AlreadyExistsError(f"{ref} already exists", status=409, reason="AlreadyExists")
        return self._written(ref, None, await self._said(ref, None, body) if ref.resource == NAMESPACES else body)

    async def apply(self, body: Json) -> Json:
        """See `Kube`."""
        ref = ref_of(body)
        before = await self._found(ref)
        return self._written(ref, before, await self._said(ref, before, body))

    async def rehearse(self, body: Json) -> Json:
        """See `Kube`."""
        return await self._inner.rehearse(body)

    async def replace(self, body: Json) -> Json:
        """See `Kube`."""
        ref = ref_of(body)
        return self._written(ref, await self._found(ref), body)

    async def merge_patch(self, ref: Ref, patch: Json, *, subresource: str = "") -> Json:
        """See `Kube`."""
        before = await self._found(ref)
        if before is None:
            raise NotFoundError(f"{ref} is not there", status=404)
        return self._written(ref, before, merged(before, patch))

    async def delete(self, ref: Ref, *, uid: str | None = None, resource_version: str | None = None) -> None:
        """See `Kube`."""
        before = await self._found(ref)
        if before is not None:
            self._overlay.write(ref, before, None)

    async def version(self) -> str:
        """See `Kube`."""
        return await self._inner.version()

    async def now(self) -> datetime:
        """See `Kube`."""
        return await self._inner.now()

    async def _found(self, ref: Ref) -> Json | None:
        """The object as it is now, in the rehearsal or else really."""
        if self._overlay.covers(ref) or self._overlay.is_new(ref.namespace):
            return self._overlay.get(ref) if self._overlay.covers(ref) else None
        seen = self._live.get(ref)
        if seen is not None:
            return seen
        try:
            return await self._inner.get(ref)
        except NotFoundError:
            return None

    async def _said(self, ref: Ref, before: Json | None, body: Json) -> Json:
        """What applying it would give, by the API server's own word where that can be had.

        It sees none of the writes before this one: in a namespace that is not there it can't be asked, nor about an
        Ingress whose hosts the namespace does not name yet.
        """
        named_by_namespace = ref.resource == INGRESSES and self._overlay.written(Ref(NAMESPACES, "", ref.namespace))
        if not self._asks or self._overlay.is_new(ref.namespace) or named_by_namespace or self._overlay.written(ref):
            return merged(before or {}, body)
        try:
            answer = await self._inner.rehearse(body)
        except InvalidError as error:
            if NO_DRY_RUN not in error.message:
                raise
            return merged(before or {}, body)
        answer.setdefault("metadata", {}).pop("managedFields", None)
        return answer

    def _written(self, ref: Ref, before: Json | None, after: Mapping[str, Any]) -> Json:
        """Take it in; what reads it later finds a uid and a resourceVersion."""
        metadata = {"uid": "rehearsed", "resourceVersion": "0", **after["metadata"]}
        body: Json = {"apiVersion": ref.resource.api_version, "kind": ref.resource.kind, **after, "metadata": metadata}
        self._overlay.write(ref, before, body)
        return copy.deepcopy(body)
