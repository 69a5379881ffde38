"""A Kube whose requests fail fast while the target's breaker is open."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from datetime import datetime
from typing import TypeVar

from tenantry.adapters.breaker import Breaker
from tenantry.api.resources import Ref, Resource
from tenantry.ports.kube import WEBHOOK_FAILED, Kube, Listing, Tunnel, UnreachableError, WatchEvent
from tenantry.ports.world import Json

T = TypeVar("T")


class GuardedKube:
    """Implements `tenantry.ports.kube.Kube` on another one; every answer, refusals too, is a success to the breaker."""

    def __init__(self, inner: Kube, breaker: Breaker) -> None:
        self._inner = inner
        self._breaker = breaker

    async def get(self, ref: Ref) -> Json:
        """See `Kube`."""
        return await self._guard(self._inner.get(ref))

    async def list(self, resource: Resource, *, namespace: str = "", labels: str = "") -> Listing:
        """See `Kube`."""
        return await self._guard(self._inner.list(resource, namespace=namespace, labels=labels))

    def watch(
        self, resource: Resource, *, resource_version: str, namespace: str = "", labels: str = ""
    ) -> AsyncIterator[WatchEvent]:
        """See `Kube`. Not guarded: a watch has its own backoff, and its end says little about the target."""
        return self._inner.watch(resource, resource_version=resource_version, namespace=namespace, labels=labels)

    async def create(self, body: Json) -> Json:
        """See `Kube`."""
        return await self._guard(self._inner.create(body))

    async def apply(self, body: Json) -> Json:
        """See `Kube`."""
        return await self._guard(self._inner.apply(body))

    async def rehearse(self, body: Json) -> Json:
        """See `Kube`."""
        return await self._guard(self._inner.rehearse(body))

    async def replace(self, body: Json) -> Json:
        """See `Kube`."""
        return await self._guard(self._inner.replace(body))

    async def merge_patch(self, ref: Ref, patch: Json, *, subresource: str = "") -> Json:
        """See `Kube`."""
        return await self._guard(self._inner.merge_patch(ref, patch, subresource=subresource))

    async def delete(self, ref: Ref, *, uid: str | None = None, resource_version: str | None = None) -> None:
        """See `Kube`."""
        await self._guard(self._inner.delete(ref, uid=uid, resource_version=resource_version))

    async def forward(self, pod: Ref, port: int) -> Tunnel:
        """See `Kube`. Only held back: that one pod's node does not answer says nothing of the API server."""
        if not self._breaker.allow():
            raise UnreachableError(f"not asked: it did not answer lately; next try in {self._breaker.retry_in:.0f} s")
        return await self._inner.forward(pod, port)

    async def version(self) -> str:
        """See `Kube`."""
        return await self._guard(self._inner.version())

    async def now(self) -> datetime:
        """See `Kube`."""
        return await self._guard(self._inner.now())

    async def _guard(self, call: Awaitable[T]) -> T:
        if not self._breaker.allow():
            if hasattr(call, "close"):
                call.close()  # a coroutine that is never awaited would warn
            raise UnreachableError(f"not asked: it did not answer lately; next try in {self._breaker.retry_in:.0f} s")
        try:
            answer = await call
        except UnreachableError as error:
            # It is there: it asks for patience, or waits itself for somebody's webhook.
            if error.status == 429 or WEBHOOK_FAILED in error.message:
                self._breaker.record_success()
            else:
                self._breaker.record_failure()
            raise
        except Exception:  # whatever it is, the breaker has to hear of it
            self._breaker.record_success()
            raise
        self._breaker.record_success()
        return answer
