"""Rehearsal: a world in which a reconcile can be tried. It reads the real one, and all that it writes is kept here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from typing import Any

from tenantry.api.effective import Effective
from tenantry.api.preview import PreviewItem
from tenantry.api.resources import TENANT_RECORDS, Ref, Resource
from tenantry.api.tenantrecord import TenantRecordSpec
from tenantry.decide.preview import Write
from tenantry.ports.kube import Access, ClusterFacts, Kube, LiveObjects, Target, Targets, Tunnel
from tenantry.ports.postgres import WantedDatabase
from tenantry.ports.servers import Copied, DatabaseCopier, OwnServer, OwnServers, Server, ServerEndpoint, Servers
from tenantry.ports.world import Availability, Json
from tenantry.reconcile.ledger import Ledger
from tenantry.reconcile.overlay import Overlay, RehearsedKube, RehearsedLive
from tenantry.reconcile.rehearsed_database import RehearsedServer, Steps
from tenantry.reconcile.world import World


class Rehearsal:
    """One reconcile that is tried.

    Attributes:
        world: For the reconciler. No event comes of it, and nobody is woken.

    Args:
        world: The real one.
        former: What the tenant has now; None where that is not known.
    """

    def __init__(self, world: World, former: Effective | None) -> None:
        self._management = Overlay()
        self._steps = Steps(former)
        self._targets = RehearsedTargets(world.targets)
        live = RehearsedLive(world.live, self._management)
        silent = _Silent()
        # Each port by name, and not `replace`: a new one must be thought of here before a rehearsal can use it.
        self.world = World(
            settings=world.settings,
            management=RehearsedKube(world.management, live, self._management, asks=False),
            live=live,
            ledger=_FixedLedger(world.ledger),
            targets=self._targets,
            servers=RehearsedServers(world.servers, self._steps),
            own_servers=RehearsedOwnServers(world.own_servers, self._steps),
            clock=world.clock,
            dns=world.dns,
            events=silent,
            wake=silent,
            token=world.token,
            certificate=world.certificate,
            jitter=world.jitter,
            copier=_NoCopier(world.copier),
            rehearsal=True,
        )

    def writes(self) -> list[Write]:
        """What would be written to targets."""
        return self._targets.writes()

    def steps(self) -> list[PreviewItem]:
        """What would be done on database servers."""
        return self._steps.items()

    def records(self) -> tuple[TenantRecordSpec | None, TenantRecordSpec | None]:
        """The record that would be written, before and after; None twice where none would be."""
        for write in self._management.writes():
            if write.ref.resource == TENANT_RECORDS:
                before, after = (body["spec"] if body is not None else None for body in (write.before, write.after))
                return (
                    TenantRecordSpec.model_validate(before) if before is not None else None,
                    TenantRecordSpec.model_validate(after) if after is not None else None,
                )
        return None, None


class RehearsedTarget:
    """Implements `tenantry.ports.kube.Target` over a real one."""

    def __init__(self, inner: Target) -> None:
        self._inner = inner
        self.overlay = Overlay()
        self._live = RehearsedLive(inner.live, self.overlay)
        self._kube = RehearsedKube(inner.kube, self._live, self.overlay, asks=True)

    @property
    def name(self) -> str:
        """See `Target`."""
        return self._inner.name

    @property
    def kube(self) -> Kube:
        """See `Target`."""
        return self._kube

    @property
    def live(self) -> LiveObjects:
        """See `Target`."""
        return self._live

    @property
    def facts(self) -> ClusterFacts | None:
        """See `Target`."""
        return self._inner.facts

    @property
    def availability(self) -> Availability:
        """See `Target`."""
        return self._inner.availability

    def judge(self, availability: Availability) -> None:
        """See `Target`: a rehearsal judges nothing."""

    async def probe(self, needed: Iterable[Access]) -> ClusterFacts:
        """See `Target`."""
        return await self._inner.probe(needed)

    async def sync(self, seconds: float) -> bool:
        """See `Target`."""
        return await self._inner.sync(seconds)

    def writing(self, ref: Ref) -> AbstractContextManager[None]:
        """See `Target`: no echo will come."""
        return nullcontext()


class RehearsedTargets:
    """Implements `tenantry.ports.kube.Targets` over the real ones; none comes or goes."""

    def __init__(self, inner: Targets) -> None:
        self._inner = inner
        self._made: dict[str, RehearsedTarget] = {}

    def get(self, name: str) -> Target | None:
        """See `Targets`."""
        if name not in self._made and (target := self._inner.get(name)) is not None:
            self._made[name] = RehearsedTarget(target)
        return self._made.get(name)

    def all(self) -> Sequence[Target]:
        """See `Targets`."""
        return [target for each in self._inner.all() if (target := self.get(each.name)) is not None]

    async def connect(self, name: str, secret: Mapping[str, str] | None, key: str | None) -> Target:
        """See `Targets`: no tenant's pass connects anything."""
        raise NotImplementedError("a rehearsal connects nothing")

    async def disconnect(self, name: str) -> None:
        """See `Targets`: no tenant's pass ends a connection."""

    def writes(self) -> list[Write]:
        """What would be written to any of them."""
        return [write for target in self._made.values() for write in target.overlay.writes()]


class RehearsedServers:
    """Implements `tenantry.ports.servers.Servers` over the real ones; none comes or goes."""

    def __init__(self, inner: Servers, steps: Steps) -> None:
        self._inner = inner
        self._steps = steps
        self._made: dict[str, RehearsedServer] = {}

    def get(self, name: str) -> Server | None:
        """See `Servers`."""
        if name not in self._made and (server := self._inner.get(name)) is not None:
            self._made[name] = RehearsedServer(server, self._steps)
        return self._made.get(name)

    def all(self) -> Sequence[Server]:
        """See `Servers`."""
        return [server for each in self._inner.all() if (server := self.get(each.name)) is not None]

    async def connect(self, name: str, endpoint: ServerEndpoint) -> Server:
        """See `Servers`: no tenant's pass connects anything."""
        raise NotImplementedError("a rehearsal connects nothing")

    async def disconnect(self, name: str) -> None:
        """See `Servers`: no tenant's pass ends a connection."""


class RehearsedOwnServers:
    """Implements `tenantry.ports.servers.OwnServers` over the real ones."""

    def __init__(self, inner: OwnServers, steps: Steps) -> None:
        self._inner = inner
        self._steps = steps

    @asynccontextmanager
    async def open(
        self, server: OwnServer, dial: Callable[[], Awaitable[Tunnel]], *, read_only: bool = True
    ) -> AsyncIterator[Server]:
        """See `OwnServers`: it is read from, whatever is asked for, and what would be done on it is told."""
        async with self._inner.open(server, dial, read_only=True) as real:
            yield RehearsedServer(real, self._steps)


class _FixedLedger(Ledger):
    """Knows what the real one knows, and learns nothing."""

    def __init__(self, ledger: Ledger) -> None:
        vars(self).update(vars(ledger))

    def note(self, name: str, body: Json | None) -> None:
        """A record of the rehearsal is none."""

    def await_records(self, cluster: str, why: Mapping[Ref, str]) -> None:
        """Nothing is found out."""


class _NoCopier:
    """Implements `tenantry.ports.servers.DatabaseCopier`: says whether it could."""

    def __init__(self, inner: DatabaseCopier) -> None:
        self._inner = inner

    async def check(self, source: Server, destination: Server) -> None:
        """See `DatabaseCopier`."""
        await self._inner.check(source, destination)

    async def is_empty(self, destination: Server, wanted: WantedDatabase) -> bool:
        """See `DatabaseCopier`: a rehearsal has no part in a move that is under way."""
        raise NotImplementedError("a rehearsal copies nothing")

    async def copy(
        self, source: Server, old: WantedDatabase, destination: Server, new: WantedDatabase, password: str
    ) -> Copied:
        """See `DatabaseCopier`: a rehearsal has no part in a move that is under way."""
        raise NotImplementedError("a rehearsal copies nothing")


class _Silent:
    """Implements `tenantry.ports.world.Events` and `Wake`: nobody hears of a rehearsal."""

    def emit(self, about: Mapping[str, Any], *, warning: bool, reason: str, message: str) -> None:
        """See `Events`."""

    def wake(self, key: Ref) -> None:
        """See `Wake`."""

    def every(self, resource: Resource) -> None:
        """See `Wake`."""

    def tenants_of_cluster(self, name: str) -> None:
        """See `Wake`."""

    def tenants_of_server(self, name: str) -> None:
        """See `Wake`."""
