"""Dedicated: a database on a server of the tenant's own, in its namespace; reached by way of the target's API server.

What it is made of is on the target; that there was a database is in the record, and on the target in the settings that
its own start obeys: so nobody, not even Kubernetes by itself, makes an empty one in the place of one that is gone.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.dedicated import MODE, DedicatedServer
from tenantry.api.identity import TenantIdentity
from tenantry.api.names import POSTGRES, POSTGRES_OUTSIDE, POSTGRES_POD, POSTGRES_VOLUME, RESOURCE_QUOTA
from tenantry.api.resources import PODS, RESOURCE_QUOTAS, SECRETS, SERVICES, STATEFUL_SETS, VOLUME_CLAIMS, Ref
from tenantry.api.tenant import Tenant
from tenantry.api.tenantrecord import TenantRecord
from tenantry.decide import dedicated as decide
from tenantry.decide.conditions import Outcome
from tenantry.decide.halt import Halt, Terminal, Waiting
from tenantry.desired.dedicated import (
    ADMIN,
    ADMIN_KEY,
    CA_KEY,
    CERTIFICATE_KEYS,
    PORT,
    SUPERUSER,
    SUPERUSER_KEY,
    host_of,
    hosts_of,
    is_whole,
    kept_objects,
    outside_objects,
    passwords_secret,
    server_objects,
    stateful_set,
)
from tenantry.desired.encoding import decoded
from tenantry.ports.kube import ConflictError, ForbiddenError, KubeError, NotFoundError, Target, Tunnel
from tenantry.ports.postgres import DatabaseCredentialsError, DatabaseError, DatabaseUnreachableError
from tenantry.ports.servers import OwnServer, ServerEndpoint
from tenantry.ports.world import Json
from tenantry.reconcile.apply import Applier
from tenantry.reconcile.database import SharedDatabase, wanted_database
from tenantry.reconcile.placing import Placed
from tenantry.reconcile.records import swap
from tenantry.reconcile.world import World

logger = logging.getLogger(__name__)

AT_REST = Outcome(True, Reason.DISABLED, "its server is at rest while spec.enabled is false; its volume is kept")
UNREACHED_RETRY = 10.0


def is_dedicated(record: TenantRecord) -> bool:
    """Whether the record pins a database on a server of the tenant's own."""
    return record.spec.database.mode == MODE


class DedicatedDatabase:
    """A tenant's own server in one pass; each step safe to repeat and to lose.

    Attributes:
        halt: Why it can't be said how the server should be; nothing of it is changed then.
    """

    _way_out = f"If that Secret was lost, delete the pod {POSTGRES_POD}: the server takes the new ones when it starts"

    def __init__(self, world: World, tenant: Tenant, placed: Placed, applier: Applier) -> None:
        self._world = world
        self._record = placed.record
        self._placed = placed
        self._applier = applier
        self._namespace = placed.record.spec.cluster.namespace
        self._server: DedicatedServer | None = None
        self.halt: Halt | None = None
        try:
            self._server = self._wanted(tenant)
        except Halt as halt:
            self.halt = halt

    @property
    def shown(self) -> object:
        """What it is made from, for a digest."""
        return self._server or str(self.halt)

    @property
    def outside(self) -> str:
        """Where it is reached from outside, in words; empty where it is not."""
        service = self._target.live.get(Ref(SERVICES, self._namespace, POSTGRES_OUTSIDE))
        return decide.address_told(self._server, service) if self._server is not None else ""

    def kept(self) -> list[Json]:
        """Its objects by name, whatever is known of it; the way in from outside only where there is to be one."""
        outside = outside_objects(self._server, *self._whose) if self._server is not None else []
        return [*kept_objects(*self._whose), *outside]

    async def bring_up(self, secrets: Mapping[str, Json] | None) -> None:
        """Settings and passwords, then the StatefulSet; and that it runs, where it is to.

        Args:
            secrets: The tenant's Secrets as they are now; None to believe that they and the volume are as last seen.

        Raises:
            Halt: why it does not, or may not, run.
        """
        server = self._sure()
        ref = Ref(STATEFUL_SETS, self._namespace, POSTGRES)
        live = self._target.live.get(ref)
        if live is not None:
            decide.check_unchanged(server, live)
        if secrets is not None:
            await self._check_volume(server)
            if not is_whole(secrets.get(POSTGRES)):
                await self._applier.apply_secret(self._new_passwords(), secrets.get(POSTGRES))
        await self._applier.apply_all([*server_objects(server, *self._whose), *outside_objects(server, *self._whose)])
        live = await self._applier.apply(stateful_set(server, *self._whose))
        if server.running:
            await self._check_up(server, live)

    @asynccontextmanager
    async def open(self, secrets: Mapping[str, Json]) -> AsyncIterator[SharedDatabase]:
        """The database's server, to be provisioned like a shared one; it is known from now on which one it is.

        Args:
            secrets: The tenant's Secrets as they are now.

        Raises:
            Halt: it can't be reached, or is not the one that it was.
        """
        passwords = await self._passwords(secrets)
        own = OwnServer(
            endpoint=ServerEndpoint(
                host=host_of(self._namespace),
                port=PORT,
                username=ADMIN,
                password=passwords.get(ADMIN_KEY, ""),
                ssl_mode="verify-full",
                ca_pem=passwords.get(CA_KEY, ""),
            ),
            superuser=SUPERUSER,
            superuser_password=passwords.get(SUPERUSER_KEY, ""),
        )
        wanted = wanted_database(self._placed.identity, self._record.spec.database.name, self._placed.effective)
        async with AsyncExitStack() as stack:
            try:
                server = await stack.enter_async_context(self._world.own_servers.open(own, self._dial))
            except (KubeError, DatabaseError) as error:
                raise unreached(error, self._way_out) from error
            await self._pin(server.facts.system_identifier if server.facts is not None else "")
            yield SharedDatabase(server, None, wanted)

    @property
    def _whose(self) -> tuple[TenantIdentity, str]:
        return self._placed.identity, self._namespace

    def _new_passwords(self) -> Json:
        made = self._world.certificate(hosts_of(self._namespace))
        pem = (made.ca_pem, made.certificate_pem, made.key_pem)
        certificate = dict(zip(CERTIFICATE_KEYS, pem, strict=True))
        token = self._world.token
        return passwords_secret(*self._whose, superuser=token(), admin=token(), certificate=certificate)

    @property
    def _target(self) -> Target:
        return self._placed.target

    def _sure(self) -> DedicatedServer:
        if self._server is None:
            raise self.halt or AssertionError("it is one or the other")
        return self._server

    def _wanted(self, tenant: Tenant) -> DedicatedServer:
        wanted = tenant.spec.database.dedicated
        if wanted is None:
            raise decide.not_described()
        return decide.dedicated_server(
            wanted,
            tenant.spec.database.external_access,
            self._placed.cluster,
            self._placed.effective,
            self._placed.plan,
            database_id=self._record.spec.database.id,
            running=tenant.spec.enabled,
        )

    async def _check_volume(self, server: DedicatedServer) -> None:
        """Where there was a database there is a volume, or nothing is made."""
        if not server.database_id:
            return
        try:
            await self._target.kube.get(Ref(VOLUME_CLAIMS, self._namespace, POSTGRES_VOLUME))
        except NotFoundError:
            raise self._missing() from None

    async def _check_up(self, server: DedicatedServer, live: Json) -> None:
        quota = self._target.live.get(Ref(RESOURCE_QUOTAS, self._namespace, RESOURCE_QUOTA)) or {}
        needed = decide.needs(server.cpu, server.memory, server.storage, server.storage_class)
        status = quota.get("status") or {}
        try:
            decide.check_up(live, None, status, needed, self._record.name)
        except Waiting:
            pod = await self._pod()
            if pod is not None and decide.is_stuck(live, pod, self._world.clock.now()):
                await self._replace(pod)
            decide.check_up(live, pod, status, needed, self._record.name)

    async def _replace(self, pod: Json) -> None:
        """Delete the pod, exactly as it was seen; its StatefulSet makes the one that is wanted.

        Not where the volume's claim is gone or going: the pod may be all that still holds it. Safe to lose.

        Raises:
            Waiting: the target's rights are of an older version.
        """
        if self._world.rehearsal:
            return
        try:
            claim = await self._target.kube.get(Ref(VOLUME_CLAIMS, self._namespace, POSTGRES_VOLUME))
        except NotFoundError:
            return
        if "deletionTimestamp" in claim["metadata"]:
            return
        logger.info("%s: pod %s is not as it is wanted and not Ready: replaced", self._record.name, POSTGRES_POD)
        try:
            await self._applier.delete(Ref(PODS, self._namespace, POSTGRES_POD), pod)
        except ConflictError:
            return  # it is another one by now, or Ready
        except ForbiddenError as error:
            raise decide.not_replaced(error.message) from error

    async def _pod(self) -> Json | None:
        try:
            return await self._target.kube.get(Ref(PODS, self._namespace, POSTGRES_POD))
        except NotFoundError:
            return None

    async def _passwords(self, secrets: Mapping[str, Json]) -> dict[str, str]:
        secret = secrets.get(POSTGRES)
        if secret is None or not is_whole(secret):  # it was made in this pass
            secret = await self._target.kube.get(Ref(SECRETS, self._namespace, POSTGRES))
        return decoded(secret.get("data") or {})

    async def _dial(self) -> Tunnel:
        return await self._target.kube.forward(Ref(PODS, self._namespace, POSTGRES_POD), PORT)

    async def _pin(self, found: str) -> None:
        """Write down which database it is: in the record, then where its start looks; before anything is in it.

        Raises:
            Terminal: DatabaseMissing: it is another one.
        """
        known = self._record.spec.database.id
        if known and found != known:
            raise self._missing()
        if not known:
            self._record = await swap(self._world, self._record, {"database": {"id": found}})
        await self._applier.apply_all(self._telling(replace(self._sure(), database_id=found)))

    def _telling(self, server: DedicatedServer) -> list[Json]:
        """What says on the target which database it is."""
        return server_objects(server, *self._whose)

    def _missing(self) -> Terminal:
        return decide.missing(self._record.name)


def unreached(error: KubeError | DatabaseError, way_out: str) -> Waiting:
    """Nobody got in, for this time."""
    if isinstance(error, DatabaseCredentialsError):
        return Waiting(
            ConditionType.DATABASE_READY,
            Reason.LOGIN_FAILED,
            f"its server does not take the passwords in Secret {POSTGRES}: {error.message}. {way_out}",
            retry_after=UNREACHED_RETRY,
        )
    asked = error.retry_after if isinstance(error, DatabaseUnreachableError) else None
    return Waiting(
        ConditionType.DATABASE_READY,
        Reason.SERVER_NOT_READY,
        f"its server can't be reached by way of the target's API server: {error.message}",
        retry_after=(asked if asked is not None else UNREACHED_RETRY),
    )
