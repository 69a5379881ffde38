"""The operator: everything wired together, started in the right order, stopped without leaving work half told."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import signal
import socket
from typing import Final

from tenantry import __version__
from tenantry.adapters.certificates import server_certificate
from tenantry.adapters.dns import DnsLookup
from tenantry.adapters.kube.client import KubeClient
from tenantry.adapters.kube.events import EventWriter
from tenantry.adapters.kube.management import management_client
from tenantry.adapters.kube.targets import TargetPool
from tenantry.adapters.kube.transport import NOBODY_SPECIAL
from tenantry.adapters.postgres.copying import PostgresCopier
from tenantry.adapters.postgres.dumping import PostgresDumper
from tenantry.adapters.postgres.loading import PostgresLoader
from tenantry.adapters.postgres.own import TunnelledServers
from tenantry.adapters.postgres.servers import ServerPool
from tenantry.adapters.stores.demand import StoresOnDemand
from tenantry.adapters.stores.sealing import AgeSealer
from tenantry.api.resources import (
    BACKUP_STORES,
    CLUSTERS,
    DATABASE_SERVERS,
    TENANT_BACKUPS,
    TENANT_RECORDS,
    TENANTS,
    Ref,
    Resource,
)
from tenantry.ports.kube import ConflictError, KubeError
from tenantry.ports.world import Json
from tenantry.reconcile.finalbackups import FinalBackups
from tenantry.reconcile.identity import management_id
from tenantry.reconcile.ledger import Ledger
from tenantry.reconcile.openstores import BackupKit
from tenantry.reconcile.result import Result
from tenantry.reconcile.scheduling import Scheduling
from tenantry.reconcile.shelf import Shelf
from tenantry.reconcile.verifying import Verifying
from tenantry.reconcile.world import Settings, World
from tenantry.runtime.census import take_census
from tenantry.runtime.clock import SystemClock
from tenantry.runtime.handlers import run_kopf
from tenantry.runtime.health import Heartbeat, no_run_over
from tenantry.runtime.http import HttpEndpoints
from tenantry.runtime.kinds import RenewedKinds
from tenantry.runtime.leading import Leadership
from tenantry.runtime.logs import configure_logging, log_context
from tenantry.runtime.management import HANDLED, ManagementCache
from tenantry.runtime.metrics import Metrics
from tenantry.runtime.options import Options
from tenantry.runtime.queue import WorkQueue
from tenantry.runtime.reconcilers import Reconcile, reconcilers_of
from tenantry.runtime.turns import Turns
from tenantry.runtime.waking import Waker
from tenantry.runtime.workers import run_workers

logger = logging.getLogger(__name__)

RUN_DEADLINE: Final = 120.0
STUCK_RUN: Final = 240.0
PRIME_SECONDS: Final = 60.0
FIRST_PASS_SECONDS: Final = 30.0
RELIST_SECONDS: Final = 60.0
"""A watch that was lost with its kind, or silently, is made up for by a list this often."""
WATCH_LAG: Final = 5.0
"""What a list has shown, a watch has told of by then; or it tells nothing any more."""
PASSWORD_BYTES: Final = 24
MAX_INSTANCE: Final = 128
"""Characters of an Event's `reportingInstance`."""


class Operator:
    """One running operator."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._clock = SystemClock()
        self._metrics = Metrics(clock=self._clock, version=__version__, workers=options.workers)
        self._ledger = Ledger()
        self._turns = Turns()
        self._queue = WorkQueue(
            lane_of=self._lane_of,
            clock=self._clock,
            roll=random.random,
            limit=options.workers,
            lane_limit=max(1, options.workers * 3 // 4),  # a target that hangs leaves room for the others
            observer=self._metrics,
        )
        self._waker = Waker(self._queue, self._ledger, options.namespace)
        self._heartbeat = Heartbeat(clock=self._clock)
        self._instance = options.instance or f"{socket.gethostname()}_{secrets.token_hex(4)}"
        self._leadership = Leadership(options, self._instance, self._metrics)
        self._caller = NOBODY_SPECIAL
        self._rewatch = asyncio.Event()
        self._primed = False
        self._cache: ManagementCache | None = None
        self._shelf = Shelf()

    async def run(self, stop: asyncio.Event) -> None:
        """Run until told to stop.

        Raises:
            ManagementConfigError, IdentityError, KubeError: it can't start.
        """
        endpoints = HttpEndpoints(
            metrics_address=self._options.metrics_address,
            health_address=self._options.health_address,
            metrics=self._expose,
            live={
                "event-loop": self._heartbeat.check,
                "reconciles": no_run_over(STUCK_RUN, lambda: self._queue.longest_run),
            },
            ready={"caches": self._check_caches},
        )
        await endpoints.start()
        heartbeat = asyncio.create_task(self._heartbeat.run(), name="heartbeat")
        try:
            async with self._leadership.held(stop) as caller:
                if caller is not None:
                    self._caller = caller
                    await self._lead(stop)
        finally:
            heartbeat.cancel()
            await asyncio.gather(heartbeat, return_exceptions=True)
            await endpoints.stop()

    def _check_caches(self) -> str | None:
        """A process that stands by is ready for that, with empty caches."""
        return None if self._primed or self._leadership.waiting else "not everything has been listed yet"

    async def _lead(self, stop: asyncio.Event) -> None:
        hook = self._metrics.request_hook("management")
        kube = await management_client(self._options.kubeconfig, on_request=hook, caller=self._caller)
        try:
            await self._serve(kube, stop)
        finally:
            await kube.close()

    async def _serve(self, kube: KubeClient, stop: asyncio.Event) -> None:
        options = self._options
        identity = await self._identify(kube)
        logger.info("tenantry %s starts with management id %s", __version__, identity)
        cache = ManagementCache(kube, options.namespace, self._waker.changed)
        self._waker.live = self._cache = cache
        targets = self._target_pool(kube, identity)
        servers = ServerPool(allow_loopback=options.allow_loopback_targets, may_write=self._caller.may_write)
        events = EventWriter(kube, self._clock, instance=self._instance[:MAX_INSTANCE])
        world = World(
            settings=Settings(
                management_id=identity,
                namespace=options.namespace,
                resync=options.resync,
                stop=options.stop,
                rollout=options.rollout,
            ),
            management=kube,
            live=cache,
            ledger=self._ledger,
            targets=targets,
            servers=servers,
            own_servers=TunnelledServers(self._clock, self._caller.may_write),
            clock=self._clock,
            dns=DnsLookup(options.dns_servers, allow_loopback=options.allow_loopback_targets),
            events=events,
            wake=self._waker,
            token=lambda: secrets.token_urlsafe(PASSWORD_BYTES),
            certificate=server_certificate,
            jitter=lambda seconds: seconds * random.uniform(0.9, 1.1),  # noqa: S311 - spreads load, guards nothing
            copier=PostgresCopier(),
        )
        background = [
            asyncio.create_task(work, name=name)
            for name, work in (
                ("watches", cache.run()),
                ("events", events.run()),
            )
        ]
        try:
            await self._work(world, cache, stop, background)
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            await targets.close()
            await servers.close()

    async def _identify(self, kube: KubeClient) -> str:
        """The management id; the connections that looking for it takes are closed again."""
        searched = self._target_pool(kube, "")
        try:
            return await management_id(
                kube, self._options.namespace, self._options.management_id, new_id=_new_id, targets=searched
            )
        finally:
            await searched.close()

    def _target_pool(self, kube: KubeClient, identity: str) -> TargetPool:
        return TargetPool(
            management=kube,
            management_id=identity,
            allow_loopback=self._options.allow_loopback_targets,
            clock=self._clock,
            on_change=self._waker.target_changed,
            on_request=self._metrics.request_hook,
            caller=self._caller,
        )

    async def _work(
        self, world: World, cache: ManagementCache, stop: asyncio.Event, background: list[asyncio.Task[None]]
    ) -> None:
        kit = BackupKit(
            StoresOnDemand(),
            AgeSealer(),
            PostgresDumper(),
            PostgresLoader(),
            worker=_new_id(),
            observer=self._metrics.backups,
            shelf=self._shelf,
        )
        world.farewells.see_to_it = FinalBackups(world, kit).see_to_it
        reconcilers = reconcilers_of(world, kit)
        await cache.prime(PRIME_SECONDS)
        kit.shelf.fill(cache.all(TENANT_BACKUPS))
        for record in cache.all(TENANT_RECORDS):
            self._ledger.note(record["metadata"]["name"], record)
        await self._first_pass(reconcilers, cache)
        self._primed = True
        for resource in (*HANDLED, TENANT_RECORDS):
            self._waker.every(resource)
        self._waker.plans_of_revisions()
        background += [
            asyncio.create_task(self._watch(world, cache), name="kopf"),
            asyncio.create_task(self._relist(cache), name="relist"),
            asyncio.create_task(Scheduling(world, kit).run(), name="schedules"),
            asyncio.create_task(Verifying(world, kit).run(), name="verification"),
        ]
        workers = asyncio.create_task(
            run_workers(
                self._queue,
                self._dispatch(world, reconcilers),
                concurrency=self._options.workers,
                deadline=RUN_DEADLINE,
                observer=self._metrics,
            )
        )
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait([workers, stopping, *background], return_when=asyncio.FIRST_COMPLETED)
        for task in background:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                logger.error("%s ended: %r", task.get_name(), error)
        logger.info("stopping: work in hand is finished, nothing new is begun")
        self._queue.shut_down()
        await workers
        stopping.cancel()

    async def _first_pass(self, reconcilers: dict[Resource, Reconcile], cache: ManagementCache) -> None:
        """Clusters and servers before tenants: else every tenant would first be told that its cluster is not ready.

        Servers first: what a lost record had on them is asked for when its cluster is looked at.
        """

        async def visit(key: Ref) -> None:
            try:
                async with asyncio.timeout(FIRST_PASS_SECONDS):
                    await reconcilers[key.resource](key)
            except (KubeError, TimeoutError) as error:
                logger.warning("%s could not be looked at before the start: %s", key, error)
            except Exception:  # one object must not keep the operator from starting
                logger.exception("%s could not be looked at before the start", key)  # it must not hold up the others

        for resource in (DATABASE_SERVERS, CLUSTERS, BACKUP_STORES):
            keys = [Ref(resource, "", body["metadata"]["name"]) for body in cache.all(resource)]
            await asyncio.gather(*(visit(key) for key in keys))

    async def _watch(self, world: World, cache: ManagementCache) -> None:
        def take(resource: Resource, kind: str | None, body: Json) -> None:
            cache.take(resource, kind, body)
            if resource == TENANTS and kind == "DELETED" and world.endings.take(body, world.clock.now()):
                self._waker.wake(Ref(TENANTS, body["metadata"]["namespace"], body["metadata"]["name"]))

        await run_kopf(
            HANDLED,
            take,
            RenewedKinds(HANDLED, self._rewatch.set).take,
            on_restart=cache.relist,
            again=self._rewatch,
            kubeconfig=self._options.kubeconfig,
        )

    async def _relist(self, cache: ManagementCache) -> None:
        while True:
            await asyncio.sleep(min(self._options.resync, RELIST_SECONDS))
            try:
                newest = await cache.relist()
            except KubeError as error:
                logger.warning("the custom resources could not be listed: %s", error.message)
                continue
            await asyncio.sleep(WATCH_LAG)
            if lost := cache.untold(newest):
                logger.warning("no watch told of changes to %s: all watches begin anew", ", ".join(map(str, lost)))
                self._rewatch.set()

    def _dispatch(self, world: World, reconcilers: dict[Resource, Reconcile]) -> Reconcile:
        async def dispatch(key: Ref) -> Result:
            with log_context(cluster=self._lane_of(key)):
                try:
                    if (tenant := self._tenant_of(key)) is not None:
                        async with self._turns.of(tenant):
                            return await reconcilers[key.resource](key)
                    return await reconcilers[key.resource](key)
                except ConflictError as error:
                    logger.info("somebody else wrote meanwhile, looking again: %s", error.message)
                except KubeError as error:
                    logger.warning("the management cluster refused or did not answer: %s", error.message)
                    return Result.after(error)
                finally:
                    self._tell_metrics(world, key)
            return Result(retry=True)

        return dispatch

    def _expose(self, accept: str) -> tuple[bytes, str]:
        if self._cache is not None:
            take_census(self._metrics, self._cache, self._shelf)
        return self._metrics.expose(accept)

    def _tell_metrics(self, world: World, key: Ref) -> None:
        if key.resource == CLUSTERS:
            target = world.targets.get(key.name)
            if world.live.get(key) is None:
                self._metrics.forget_cluster(key.name)
            else:
                self._metrics.set_cluster(key.name, reachable=target is not None and target.availability.ok)
        elif key.resource == DATABASE_SERVERS:
            server = world.servers.get(key.name)
            if world.live.get(key) is None:
                self._metrics.forget_database_server(key.name)
            else:
                self._metrics.set_database_server(key.name, reachable=server is not None and server.availability.ok)

    def _tenant_of(self, key: Ref) -> Ref | None:
        """Whose a key is: a Tenant and its TenantRecord are never looked at at the same time."""
        return self._ledger.tenant_of(key.name) if key.resource == TENANT_RECORDS else _tenant(key)

    def _lane_of(self, key: Ref) -> str:
        match key.resource:
            case resource if resource == TENANTS:
                entry = self._ledger.of_tenant(key)
            case resource if resource == TENANT_RECORDS:
                entry = self._ledger.entry(key.name)
            case _:
                entry = None
        return entry.cluster if entry is not None else ""


def _tenant(key: Ref) -> Ref | None:
    return key if key.resource == TENANTS else None


def _new_id() -> str:
    return secrets.token_hex(8)


async def run_operator(options: Options) -> None:
    """Run in this process until SIGINT or SIGTERM.

    Raises:
        ManagementConfigError, IdentityError, KubeError: it can't start.
    """
    configure_logging(options.log_format, options.log_level)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await Operator(options).run(stop)
