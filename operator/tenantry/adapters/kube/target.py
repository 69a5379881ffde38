"""One target cluster: its client behind a breaker, the cache of our objects on it, the watches that keep it true."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Final

from tenantry.adapters.breaker import Breaker, BreakerState
from tenantry.adapters.kube.client import KubeClient
from tenantry.adapters.kube.guarded import GuardedKube
from tenantry.adapters.kube.live import LiveCache
from tenantry.adapters.kube.watch import Watcher
from tenantry.api.conditions import Reason
from tenantry.api.resources import ACCESS_REVIEWS, NAMESPACES, WATCHED_ON_TARGETS, WATCHED_WHERE_SERVED, Ref, Resource
from tenantry.ports.kube import Access, ClusterFacts, KubeError, UnreachableError
from tenantry.ports.world import Availability

logger = logging.getLogger(__name__)

PROBE_SECONDS: Final = 5.0
WATCH_RESTART: Final = 5.0
NOT_PROBED: Final = Availability(ok=False, reason=Reason.PROBING, message="it has not been probed yet")


class TargetConnection:
    """Implements `tenantry.ports.kube.Target`.

    Args:
        client: Closed with the connection, unless `shared`.
        cache: Filled by this connection's watches; a successor to the same cluster takes it over.
        labels: What is watched: the stamp of this management cluster.
        shared: The client is the management cluster's own, and belongs to somebody else.
    """

    def __init__(
        self, name: str, client: KubeClient, cache: LiveCache, breaker: Breaker, *, labels: str, shared: bool = False
    ) -> None:
        self._name = name
        self._client = client
        self._kube = GuardedKube(client, breaker)
        self._breaker = breaker
        self._cache = cache
        self._shared = shared
        self._judged = NOT_PROBED
        self._facts: ClusterFacts | None = None
        self._labels = labels
        self._watchers, self._optional = self._new_watchers()
        self._tasks: list[asyncio.Task[None]] = []
        self.stale = False
        """It did not answer: its host may have another address by now."""

    @property
    def name(self) -> str:
        """See `Target`."""
        return self._name

    @property
    def kube(self) -> GuardedKube:
        """See `Target`."""
        return self._kube

    @property
    def live(self) -> LiveCache:
        """See `Target`."""
        return self._cache

    @property
    def facts(self) -> ClusterFacts | None:
        """See `Target`."""
        return self._facts

    @property
    def availability(self) -> Availability:
        """See `Target`."""
        if self._breaker.state is BreakerState.OPEN:
            return Availability(ok=False, reason=Reason.UNREACHABLE, message="several requests in a row had no answer")
        return self._judged

    def judge(self, availability: Availability) -> None:
        """See `Target`."""
        self._judged = availability

    def writing(self, ref: Ref) -> AbstractContextManager[None]:
        """See `Target`."""
        return self._cache.writing(ref)

    async def probe(self, needed: Iterable[Access]) -> ClusterFacts:
        """See `Target`. Not guarded by the breaker, but closes and opens it: it is the trial."""
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                facts = await self._probe(tuple(needed))
        except TimeoutError:
            self._failed()
            raise UnreachableError(f"no answer within {PROBE_SECONDS:g} s") from None
        except UnreachableError:
            self._failed()
            raise
        except KubeError:
            self._breaker.record_success()
            raise
        self._breaker.record_success()
        self.stale = False
        if self._facts is not None and self._facts.cluster_id != facts.cluster_id:
            # What was seen, and from which version on the watches go on, is true of another cluster.
            await self.end_watches()
            self._cache.clear()
            self._watchers, self._optional = self._new_watchers()
        self._facts = facts
        return facts

    async def _probe(self, needed: tuple[Access, ...]) -> ClusterFacts:
        cluster_id = await self._cluster_id()
        if not needed and self._facts is not None:
            return ClusterFacts(cluster_id, self._facts.version, self._facts.missing)
        answers = await asyncio.gather(self._client.version(), *(self._may(access) for access in needed))
        missing = tuple(access for access, allowed in zip(needed, answers[1:], strict=True) if not allowed)
        return ClusterFacts(cluster_id, str(answers[0]), missing)

    async def _may(self, access: Access) -> bool:
        attributes = {
            "verb": access.verb,
            "group": access.group,
            "resource": access.resource,
            "namespace": access.namespace,
            "name": access.name,
        }
        review = {
            "apiVersion": ACCESS_REVIEWS.api_version,
            "kind": ACCESS_REVIEWS.kind,
            "spec": {"resourceAttributes": {key: value for key, value in attributes.items() if value}},
        }
        answer = await self._client.create(review)
        return bool(answer.get("status", {}).get("allowed"))

    def _failed(self) -> None:
        self.stale = True
        self._breaker.record_failure()

    async def sync(self, seconds: float) -> bool:
        """See `Target`."""
        if not self._tasks:
            watchers = (*self._watchers, *self._optional)
            self._tasks = [asyncio.create_task(self._keep(watcher)) for watcher in watchers]
        try:
            async with asyncio.timeout(seconds):
                await asyncio.gather(*(watcher.wait_synced(seconds) for watcher in self._watchers))
        except (TimeoutError, KubeError):
            return False
        return True

    async def _keep(self, watcher: Watcher) -> None:
        while True:
            try:
                await watcher.run()
            except Exception:  # a watch must not end with the first surprise: it is logged and begun again
                logger.exception("a watch of cluster %s ended; it is started again", self._name)
            await asyncio.sleep(WATCH_RESTART)

    def inherit(self, former: TargetConnection) -> None:
        """The same cluster with new credentials: what is known of it still holds."""
        self._facts = former.facts
        self._judged = former._judged

    async def identify(self) -> str | None:
        """The cluster's id, if it says so now."""
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                return await self._cluster_id()
        except (TimeoutError, KubeError):
            return None

    async def _cluster_id(self) -> str:
        return str((await self._client.get(Ref(NAMESPACES, "", "kube-system")))["metadata"]["uid"])

    async def _check_same(self) -> None:
        """Before a watch lists anew: another cluster's list would say that all tenants are gone.

        Raises:
            UnreachableError: another cluster answers; the next probe says so.
        """
        if self._facts is not None and await self._cluster_id() != self._facts.cluster_id:
            self._judged = NOT_PROBED
            raise UnreachableError("another cluster answers than the one that was probed")

    def _new_watchers(self) -> tuple[list[Watcher], list[Watcher]]:
        """Of what every target has, and of what it may have: those try now and then, and nobody waits for them."""

        def watchers(resources: Iterable[Resource]) -> list[Watcher]:
            return [
                Watcher(self._client, self._cache, resource, labels=self._labels, before_relist=self._check_same)
                for resource in resources
            ]

        return watchers(WATCHED_ON_TARGETS), watchers(WATCHED_WHERE_SERVED)

    async def end_watches(self) -> None:
        """Stop the watches; requests may go on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def close(self) -> None:
        """Stop the watches and close the client."""
        await self.end_watches()
        if not self._shared:
            await self._client.close()
