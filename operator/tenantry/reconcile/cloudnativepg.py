"""Dedicated by CloudNativePG: the same server, made from a Cluster of CloudNativePG's instead of a StatefulSet of ours.

CloudNativePG owns the volumes: they go when its Cluster goes. So nothing here deletes a Cluster, and none is made where
there was a database that a new one would not find.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.dedicated import CLOUDNATIVEPG, DedicatedServer, Operated
from tenantry.api.names import LABEL_POSTGRES_CLUSTER, POSTGRES, RESOURCE_QUOTA
from tenantry.api.resources import (
    NETWORK_POLICIES,
    PODS,
    POSTGRES_CLUSTERS,
    RESOURCE_QUOTAS,
    SECRETS,
    VOLUME_CLAIMS,
    Ref,
)
from tenantry.api.tenant import Tenant
from tenantry.api.tenantrecord import TenantRecord
from tenantry.decide import cloudnativepg as decide
from tenantry.decide.dedicated import STARTING_RETRY, needs
from tenantry.decide.halt import Terminal, Waiting
from tenantry.desired.cloudnativepg import (
    INSTANCES,
    SECRET_KEYS,
    SECRET_LABELS,
    SUPERUSER_SECRET,
    certificate_hosts,
    kept_objects,
    open_objects,
    postgres_cluster,
    server_objects,
)
from tenantry.desired.dedicated import CERTIFICATE_KEYS, PORT, SUPERUSER_KEY, is_whole, passwords_secret
from tenantry.desired.encoding import decoded
from tenantry.desired.rbac import cloudnativepg_binding
from tenantry.desired.stamp import stamped
from tenantry.ports.kube import WEBHOOK_FAILED, ForbiddenError, NotFoundError, Tunnel, UnreachableError
from tenantry.ports.world import Json
from tenantry.reconcile.apply import Applier, ref_of
from tenantry.reconcile.dedicated import DedicatedDatabase
from tenantry.reconcile.placing import Placed
from tenantry.reconcile.world import World

OWN_CLAIMS: Final = f"{LABEL_POSTGRES_CLUSTER}={INSTANCES[LABEL_POSTGRES_CLUSTER]}"


def is_operated(record: TenantRecord) -> bool:
    """Whether CloudNativePG makes the tenant's server."""
    return record.spec.database.provider == CLOUDNATIVEPG


def dedicated_database(world: World, tenant: Tenant, placed: Placed, applier: Applier) -> DedicatedDatabase:
    """The tenant's own server, whoever makes it."""
    kind = OperatedDatabase if is_operated(placed.record) else DedicatedDatabase
    return kind(world, tenant, placed, applier)


class OperatedDatabase(DedicatedDatabase):
    """A tenant's own server that CloudNativePG makes, in one pass; each step safe to repeat and to lose."""

    _way_out = (
        f"Where CloudNativePG does not set the password in its Secret {SUPERUSER_SECRET}, its Cluster says why not"
    )

    def kept(self) -> list[Json]:
        """See `DedicatedDatabase`."""
        kept = kept_objects(*self._whose)
        if self._server is None or self._server.operated is None:
            return [*kept, stamped(NETWORK_POLICIES, self._placed.identity, POSTGRES, namespace=self._namespace)]
        return [*kept, *open_objects(self._server, self._server.operated, *self._whose)]

    async def bring_up(self, secrets: Mapping[str, Json] | None) -> None:
        """See `DedicatedDatabase`: rights, settings and certificate, then the Cluster."""
        server, operated = self._sure_operated()
        live = await self._cluster()
        if live is not None:
            decide.check_unchanged(server, operated, live)
        await self._bind()
        if server.database_id and (secrets is not None or live is None):
            await self._check_volumes(live)
        if secrets is not None and not is_whole(secrets.get(POSTGRES), SECRET_KEYS):
            await self._applier.apply_secret(self._new_passwords(), secrets.get(POSTGRES))
        around = [*server_objects(server, *self._whose), *open_objects(server, operated, *self._whose)]
        await self._applier.apply_all(around)
        live = await self._apply(postgres_cluster(server, operated, *self._whose))
        if server.running:
            await self._check_instances(server, operated, live)

    async def _apply(self, body: Json) -> Json:
        try:
            return await self._applier.apply(body)
        except UnreachableError as error:
            if WEBHOOK_FAILED not in error.message:
                raise
            raise decide.not_judged(error.message) from error

    async def _cluster(self) -> Json | None:
        """Its Cluster as it is now.

        Raises:
            Waiting: DedicatedNotOffered: the target has no such kind, or we may not use it.
        """
        ref = Ref(POSTGRES_CLUSTERS, self._namespace, POSTGRES)
        live = self._target.live.get(ref)
        if live is not None:
            return live
        # The watch tells nothing where the kind came only now: a list says whether there is one.
        try:
            listing = await self._target.kube.list(POSTGRES_CLUSTERS, namespace=self._namespace)
        except NotFoundError:
            raise decide.not_served(self._placed.cluster.name) from None
        except ForbiddenError as error:
            raise decide.not_allowed(self._placed.cluster.name, error.message) from error
        return next((each for each in listing.items if each["metadata"]["name"] == POSTGRES), None)

    async def _bind(self) -> None:
        """Give ourselves what rights it takes in this namespace."""
        binding = cloudnativepg_binding(*self._whose)
        fresh = self._target.live.get(ref_of(binding)) is None
        try:
            await self._applier.apply(binding)
        except ForbiddenError as error:
            raise decide.not_allowed(self._placed.cluster.name, error.message) from error
        if fresh:
            self._applier.bound()

    async def _check_volumes(self, live: Json | None) -> None:
        claims = await self._target.kube.list(VOLUME_CLAIMS, namespace=self._namespace, labels=OWN_CLAIMS)
        decide.check_volumes(live, claims.items, self._record.name)

    async def _check_instances(self, server: DedicatedServer, operated: Operated, live: Json) -> None:
        quota = self._target.live.get(Ref(RESOURCE_QUOTAS, self._namespace, RESOURCE_QUOTA)) or {}
        needed = needs(server.cpu, server.memory, server.storage, server.storage_class, instances=operated.instances)
        try:
            decide.check_up(operated, live, quota.get("status") or {}, needed)
        except Waiting:
            if server.database_id:
                await self._check_volumes(live)  # that may be why
            raise

    def _sure_operated(self) -> tuple[DedicatedServer, Operated]:
        server = self._sure()
        if server.operated is None:
            raise decide.other_provider(CLOUDNATIVEPG, "Builtin")
        return server, server.operated

    def _new_passwords(self) -> Json:
        made = self._world.certificate(certificate_hosts(self._namespace))
        pem = (made.ca_pem, made.certificate_pem, made.key_pem)
        certificate = dict(zip(CERTIFICATE_KEYS, pem, strict=True))
        admin = self._world.token()
        return passwords_secret(*self._whose, superuser="", admin=admin, certificate=certificate, labels=SECRET_LABELS)

    async def _passwords(self, secrets: Mapping[str, Json]) -> dict[str, str]:
        own = secrets.get(POSTGRES)
        if own is None or not is_whole(own, SECRET_KEYS):  # it was made in this pass
            own = await self._target.kube.get(Ref(SECRETS, self._namespace, POSTGRES))
        try:
            theirs = await self._target.kube.get(Ref(SECRETS, self._namespace, SUPERUSER_SECRET))
        except NotFoundError:
            raise Waiting(
                ConditionType.DATABASE_READY,
                Reason.DATABASE_STARTING,
                f"CloudNativePG has not made Secret {SUPERUSER_SECRET} yet",
                retry_after=STARTING_RETRY,
            ) from None
        superuser = decoded(theirs.get("data") or {}).get("password", "")
        return {**decoded(own.get("data") or {}), SUPERUSER_KEY: superuser}

    async def _dial(self) -> Tunnel:
        """To the primary, whichever that is at the moment."""
        live = self._target.live.get(Ref(POSTGRES_CLUSTERS, self._namespace, POSTGRES))
        primary = decide.primary_of(live or {})
        if not primary:
            raise NotFoundError("CloudNativePG names no primary", status=404)
        return await self._target.kube.forward(Ref(PODS, self._namespace, primary), PORT)

    def _telling(self, server: DedicatedServer) -> list[Json]:
        told = server_objects(server, *self._whose)
        return [*told, postgres_cluster(server, server.operated, *self._whose)] if server.operated else told

    def _missing(self) -> Terminal:
        return decide.missing(self._record.name)
