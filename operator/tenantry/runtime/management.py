"""What is known of the management cluster: one cache over several watches, and what each change in it wakes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Final

from tenantry.adapters.kube.live import LiveCache
from tenantry.adapters.kube.watch import Watcher
from tenantry.api.names import GROUP, LABEL_DATABASE_SECRET, LABEL_ENV_SECRET, LABEL_PLAN
from tenantry.api.resources import (
    BACKUP_STORES,
    CLUSTERS,
    CONTROLLER_REVISIONS,
    DATABASE_SERVERS,
    NAMESPACES,
    SECRETS,
    TENANT_BACKUPS,
    TENANT_PLANS,
    TENANT_RECORDS,
    TENANT_RESTORES,
    TENANTS,
    Ref,
    Resource,
    resource_of,
)
from tenantry.ports.kube import Kube, WatchEvent
from tenantry.ports.world import Json

logger = logging.getLogger(__name__)

HANDLED: Final = (TENANTS, CLUSTERS, DATABASE_SERVERS, TENANT_PLANS, BACKUP_STORES, TENANT_BACKUPS, TENANT_RESTORES)
"""The kinds that people write: watched by kopf."""
WATCH_RESTART: Final = 5.0


@dataclass(frozen=True, slots=True)
class _Essence:
    """What of an object can change what we do; its status and what others keep in its metadata can't."""

    generation: int
    deleted: bool
    finalizers: tuple[str, ...]
    labels: tuple[tuple[str, str], ...]
    annotations: tuple[tuple[str, str], ...]


def _essence(body: Json) -> _Essence:
    metadata = body["metadata"]
    annotations = metadata.get("annotations") or {}
    return _Essence(
        generation=metadata.get("generation", 0),
        deleted="deletionTimestamp" in metadata,
        finalizers=tuple(metadata.get("finalizers") or ()),
        labels=tuple(sorted((metadata.get("labels") or {}).items())),
        annotations=tuple(sorted((key, value) for key, value in annotations.items() if key.startswith(f"{GROUP}/"))),
    )


def _is_old_news(former: _Essence | None, present: _Essence) -> bool:
    """Nothing changed that matters; a finalizer more, which mostly is our own, does not. One that is missing does."""
    if former is None or not set(former.finalizers) <= set(present.finalizers):
        return False
    return replace(former, finalizers=present.finalizers) == present


@dataclass(frozen=True, slots=True)
class Change:
    """What happened to an object of the management cluster.

    Attributes:
        body: The object now; None if it is gone.
        new_generation: Its spec is another one, or it is new.
    """

    ref: Ref
    body: Json | None
    new_generation: bool


class ManagementCache:
    """Implements `tenantry.ports.kube.LiveObjects` for the management cluster.

    Secrets are kept in three caches: those of the operator's namespace, and those of workspaces that carry the label
    for envFrom or the one for External databases. No other Secret is ever read.

    Args:
        on_change: Told of every change that somebody else made and that matters.
    """

    def __init__(self, kube: Kube, namespace: str, on_change: Callable[[Change], None]) -> None:
        self._kube = kube
        self._namespace = namespace
        self._on_change = on_change
        self._essences: dict[Ref, _Essence] = {}
        self._told: dict[Resource, int] = {}
        self._main = LiveCache(self._changed)
        self._platform_secrets = LiveCache(self._changed)
        self._env_secrets = LiveCache(self._changed)
        self._database_secrets = LiveCache(self._changed)
        self._watchers = [
            Watcher(kube, self._main, NAMESPACES),
            Watcher(kube, self._main, TENANT_RECORDS),
            Watcher(kube, self._main, CONTROLLER_REVISIONS, namespace=namespace, labels=LABEL_PLAN),
            Watcher(kube, self._platform_secrets, SECRETS, namespace=namespace),
            Watcher(kube, self._env_secrets, SECRETS, labels=f"{LABEL_ENV_SECRET}=true"),
            Watcher(kube, self._database_secrets, SECRETS, labels=f"{LABEL_DATABASE_SECRET}=true"),
        ]

    # --- LiveObjects ----------------------------------------------------------------------------------------------
    def get(self, ref: Ref) -> Json | None:
        """See `LiveObjects`."""
        found = self._cache_of(ref).get(ref)
        if found is None and ref.resource == SECRETS and ref.namespace != self._namespace:
            return self._database_secrets.get(ref)
        return found

    def of_tenant(self, tenant_hash: str) -> list[Json]:
        """See `LiveObjects`."""
        return self._main.of_tenant(tenant_hash)

    def all(self, resource: Resource) -> list[Json]:
        """See `LiveObjects`. Secrets have no such list."""
        return self._main.all(resource)

    def observe(self, body: Json) -> None:
        """See `LiveObjects`.

        The answer to our own write may be the first that is heard of somebody else's new spec: what the watch tells of
        it afterwards is older than the answer, and no news any more.
        """
        self._main.observe(body)
        metadata = body["metadata"]
        ref = Ref(resource_of(body), metadata.get("namespace", ""), metadata["name"])
        known = self._essences.get(ref)
        if known is not None and known.generation < metadata.get("generation", 0):
            self._changed(ref, "", body)

    def forget(self, ref: Ref, *, uid: str = "") -> None:
        """See `LiveObjects`."""
        self._cache_of(ref).forget(ref, uid=uid)

    def writing(self, ref: Ref) -> AbstractContextManager[None]:
        """See `LiveObjects`."""
        return self._cache_of(ref).writing(ref)

    # --- feeding --------------------------------------------------------------------------------------------------
    def take(self, resource: Resource, kind: str | None, body: Json) -> None:
        """Take in what kopf has seen; the kind of event is None for its first list."""
        self._told[resource] = max(self._told.get(resource, 0), int(body["metadata"]["resourceVersion"]))
        self._main.take_event(resource, WatchEvent(kind or "ADDED", body))

    async def prime(self, seconds: float) -> None:
        """List everything once, so that the first reconcile knows all there is.

        Raises:
            KubeError: the management cluster did not answer.
        """
        await self.relist()
        for watcher in self._watchers:
            await watcher.wait_synced(seconds)
        for resource in (*HANDLED, NAMESPACES):  # else the first word of each object would look like a new spec
            for body in self._main.all(resource):
                metadata = body["metadata"]
                self._essences.setdefault(
                    Ref(resource, metadata.get("namespace", ""), metadata["name"]), _essence(body)
                )

    def untold(self, newest: Mapping[Resource, int]) -> list[Resource]:
        """The kinds of which kopf has not told this much."""
        return [resource for resource, version in newest.items() if self._told.get(resource, 0) < version]

    async def relist(self) -> dict[Resource, int]:
        """List the kinds that kopf watches, for what a watch can miss; the newest resourceVersion of each kind."""
        newest = {}
        for resource in HANDLED:
            since = self._main.mark()
            listing = await self._kube.list(resource)
            self._main.replace_all(resource, listing.items, listing.resource_version, since=since)
            newest[resource] = max((int(body["metadata"]["resourceVersion"]) for body in listing.items), default=0)
        return newest

    async def run(self) -> None:
        """Keep the watches of our own going, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for watcher in self._watchers:
                group.create_task(self._keep(watcher))

    async def _keep(self, watcher: Watcher) -> None:
        while True:
            try:
                await watcher.run()
            except Exception:  # a watch must not end with the first surprise: it is logged and begun again
                logger.exception("a watch of the management cluster ended; it is started again")
            await asyncio.sleep(WATCH_RESTART)

    def _cache_of(self, ref: Ref) -> LiveCache:
        if ref.resource != SECRETS:
            return self._main
        return self._platform_secrets if ref.namespace == self._namespace else self._env_secrets

    def _changed(self, ref: Ref, _tenant: str, body: Json | None) -> None:
        former = self._essences.pop(ref, None)
        essence = None
        if body is not None and ref.resource in (*HANDLED, NAMESPACES):
            essence = self._essences[ref] = _essence(body)
            if _is_old_news(former, essence):
                return
        new_generation = essence is not None and (former is None or former.generation != essence.generation)
        self._on_change(Change(ref, body, new_generation))
