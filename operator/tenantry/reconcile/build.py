"""Build: a tenant's objects, Secrets and database, brought to where the blueprint wants them, in a safe order."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import AsyncExitStack
from dataclasses import replace

from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.names import (
    ANNOTATION_ACTIVITY,
    ANNOTATION_ROTATE_CREDENTIALS,
    ANNOTATION_ROTATE_SYNC_TOKEN,
    ANNOTATION_STATE,
    LABEL_TENANT_HASH,
    SECRET_DATABASE,
    SECRET_ENV,
    SECRET_SYNC,
)
from tenantry.api.resources import NAMESPACES, RESOURCE_QUOTAS, SECRETS, Ref
from tenantry.api.tenant import Tenant
from tenantry.api.tenantrecord import RecordState
from tenantry.decide.activity import OFF, Activity, must_settle, note
from tenantry.decide.conditions import GOOD, Outcome
from tenantry.decide.halt import Halt
from tenantry.decide.quantities import same_quantity
from tenantry.desired.blueprint import Blueprint
from tenantry.desired.environment import env_secret, info_config_map
from tenantry.desired.ingress import ingresses
from tenantry.desired.namespace import namespace
from tenantry.desired.network import network_policies
from tenantry.desired.quota import limit_range, no_pods, resource_quota
from tenantry.desired.rbac import operator_binding, service_account, tenant_bindings
from tenantry.desired.stamp import bears_stamp
from tenantry.ports.kube import NotFoundError
from tenantry.ports.world import Json
from tenantry.reconcile.adoption import take
from tenantry.reconcile.apply import Applier, ref_of
from tenantry.reconcile.cloudnativepg import dedicated_database
from tenantry.reconcile.database import DatabaseProvisioning, SharedDatabase
from tenantry.reconcile.dedicated import AT_REST, DedicatedDatabase, is_dedicated
from tenantry.reconcile.external import External, Source, is_copy, is_external, look_up, rotation_outcome, source
from tenantry.reconcile.login import DatabaseLogin
from tenantry.reconcile.namespace import NamespaceOfferedError, conflict, ensure_namespace, put_right
from tenantry.reconcile.placing import Placed
from tenantry.reconcile.quiescence import mark_namespace
from tenantry.reconcile.report import Report
from tenantry.reconcile.synctoken import keep_token, together
from tenantry.reconcile.workloads import Workloads
from tenantry.reconcile.world import World

QUOTA_RETRY = 5.0
LOGINS_LOCKED = Outcome(True, Reason.DISABLED, "its logins are locked while spec.enabled is false")
WAITS_FOR_DATABASE = Outcome(None, Reason.PENDING, f"{SECRET_DATABASE} waits for the database")


class Build:
    """One pass over a tenant's objects on its target.

    Attributes:
        trusted: Secrets and database were seen to be right not long ago, made from the same things as now.
        trusted_secrets: What was said of the Secrets then.
    """

    def __init__(
        self, world: World, placed: Placed, blueprint: Blueprint, shared: SharedDatabase | None, tenant: Tenant
    ) -> None:
        self._world = world
        self._placed = placed
        self._blueprint = blueprint
        self._shared = shared
        self._tenant = tenant
        self._applier = Applier(placed.target, placed.identity, world.clock)
        self._provisioning = DatabaseProvisioning(shared) if shared is not None else None
        self._described = self._description()
        self._external: External | None = None
        self._dedicated: DedicatedDatabase | None = None
        if is_dedicated(placed.record):
            self._dedicated = dedicated_database(world, tenant, placed, self._applier)
        self._opened = AsyncExitStack()
        self.trusted = False
        self.trusted_secrets: Outcome | None = None

    def digest(self) -> str:
        """Of all that Secrets and database are made from."""
        live = self._placed.target.live.get(Ref(NAMESPACES, "", self._blueprint.namespace))
        facts = (
            live["metadata"]["uid"] if live else "",
            sorted(self._blueprint.env.items()),
            self._tenant.requested_at,
            self._tenant.metadata.annotations.get(ANNOTATION_ROTATE_CREDENTIALS),
            self._tenant.metadata.annotations.get(ANNOTATION_ROTATE_SYNC_TOKEN),
            self._tenant.spec.rotation,
            self._shared and (self._shared.wanted, self._shared.server.endpoint),
            _shown(self._described),
            self._dedicated and self._dedicated.shown,
            self._activity,
        )
        return hashlib.sha256(repr(facts).encode()).hexdigest()

    async def run(self, report: Report, database_halt: Halt | None) -> None:
        """Namespace, then what guards it, the database, the Secrets; the quota; what lets people and traffic in."""
        async with self._opened:
            await self._run(report, database_halt)

    async def _run(self, report: Report, database_halt: Halt | None) -> None:
        database_halt = database_halt or await self._look_up_external()
        if self._dedicated is not None:
            database_halt = self._dedicated.halt
        target, blueprint = self._placed.target, self._blueprint
        noted = self._noted_activity()
        wanted = namespace(blueprint, note(self._activity) or noted)
        fresh = await self._ensure_namespace(wanted)
        if fresh:
            self._applier.bound()
            report.namespace_made()
        await self._revive()
        binding = operator_binding(blueprint.identity, blueprint.namespace)
        if target.live.get(ref_of(binding)) is None:
            self._applier.bound()
        await self._applier.apply(binding)
        guards = [
            limit_range(blueprint),
            *network_policies(blueprint),
            service_account(blueprint),
            info_config_map(blueprint),
        ]
        if not blueprint.spec.enabled:
            guards.append(no_pods(blueprint.identity, blueprint.namespace))
        quota, gates = resource_quota(blueprint), [*tenant_bindings(blueprint), *ingresses(blueprint)]
        secrets = {} if self.trusted or fresh else await self._secrets()
        if self._dedicated is not None:
            await self._applier.apply(quota)  # its objects count, so the room for them comes first
        provisioning = asyncio.create_task(self._provision_database(database_halt, secrets))
        try:
            await self._applier.apply_all(guards)
        finally:
            database = await provisioning
        await self._write_secrets(report, database, secrets)
        await self._applier.apply(quota)
        if not self.trusted and not blueprint.arriving:  # after the quota, in which it has its place
            args = (self._world, self._tenant, self._placed, self._applier)
            token = await keep_token(*args, secrets.get(SECRET_SYNC))
            found = report.outcomes[ConditionType.SECRETS_READY]
            report.outcomes[ConditionType.SECRETS_READY] = together(found, token)
        await self._applier.apply_all(gates)
        if database_halt is None or not blueprint.spec.enabled or self._dedicated is not None:
            # Else what the database needs is not known, and must not look unwanted; of a server of its own it is.
            own = self._dedicated.kept() if self._dedicated is not None else []
            await self._applier.prune([wanted, binding, *guards, quota, *gates, *own], namespace=blueprint.namespace)
        if must_settle(noted, self._activity) and not (self.trusted and note(self._activity) == noted):
            await Workloads(target, blueprint.namespace).settle(self._activity)
            await put_right(target, self._applier, namespace(blueprint, note(self._activity)))
        report.outcomes[ConditionType.NAMESPACE_READY] = self._quota_outcome(quota)

    async def _ensure_namespace(self, wanted: Json) -> bool:
        placed = self._placed
        target, adopted = placed.target, placed.record.spec.cluster.adopted
        try:
            return await ensure_namespace(target, self._applier, placed.identity, wanted, adopted=adopted)
        except NamespaceOfferedError as offered:
            if self._blueprint.arriving:  # a move makes its own
                raise conflict(offered.live, placed.identity) from None
            record = await take(self._world, target, placed.record, offered.live, wanted)
            self._placed = replace(placed, record=record)
            return await ensure_namespace(target, self._applier, placed.identity, wanted, adopted=True)

    @property
    def _activity(self) -> Activity:
        spec = self._blueprint.spec
        return Activity(workloads=spec.enabled, tasks=spec.tasks.enabled)

    def _noted_activity(self) -> str | None:
        """What of the workloads may be at zero by our doing, as the namespace says."""
        live = self._placed.target.live.get(Ref(NAMESPACES, "", self._blueprint.namespace)) or {}
        annotations: dict[str, str] = live.get("metadata", {}).get("annotations") or {}
        return OFF if ANNOTATION_STATE in annotations else annotations.get(ANNOTATION_ACTIVITY)

    async def _revive(self) -> None:
        """Take off the namespace that the tenant was deleted: after it was noted what that has brought to zero."""
        target, identity = self._placed.target, self._placed.identity
        live = target.live.get(Ref(NAMESPACES, "", self._blueprint.namespace))
        if live is None or ANNOTATION_STATE not in (live["metadata"].get("annotations") or {}):
            return
        if bears_stamp(live, identity) and not live["metadata"].get("deletionTimestamp"):
            await mark_namespace(target, self._placed.record, live, RecordState.ACTIVE)

    def _description(self) -> Source | Halt | None:
        """Of an External database. Read once a pass: a change meanwhile must not look as if it had been seen to."""
        if not is_external(self._placed.record):
            return None
        try:
            return source(self._world.live, self._tenant)
        except Halt as halt:
            return halt

    async def _look_up_external(self) -> Halt | None:
        """Where an External database is, for the blueprint; else why that is not known."""
        if not isinstance(self._described, Source):
            return self._described
        try:
            self._external = await look_up(self._world.dns, self._described)
        except Halt as halt:
            return halt
        port, cidrs = self._external.database.port, self._external.cidrs
        self._blueprint = replace(self._blueprint, database_port=port, database_cidrs=cidrs)
        return None

    async def _secrets(self) -> dict[str, Json]:
        labels = f"{LABEL_TENANT_HASH}={self._placed.identity.tenant_hash}"
        listing = await self._placed.target.kube.list(SECRETS, namespace=self._blueprint.namespace, labels=labels)
        found = {secret["metadata"]["name"]: secret for secret in listing.items}
        if self._placed.record.spec.cluster.adopted:
            await self._add_foreign(found)
        former = found.get(SECRET_DATABASE)
        if former is not None and is_copy(former) and not is_external(self._placed.record):
            # Of an External database that was let go of: it would look like the trace of one that we made.
            if bears_stamp(former, self._placed.identity):
                await self._applier.delete(Ref(SECRETS, self._blueprint.namespace, SECRET_DATABASE), former)
            del found[SECRET_DATABASE]
        return found

    async def _add_foreign(self, found: dict[str, Json]) -> None:
        """Secrets of our names that were in an adopted namespace before: to be told of, and not written over."""
        for name in {SECRET_DATABASE, SECRET_ENV, SECRET_SYNC} - found.keys():
            try:
                found[name] = await self._placed.target.kube.get(Ref(SECRETS, self._blueprint.namespace, name))
            except NotFoundError:
                continue

    async def _provision_database(self, halt: Halt | None, secrets: dict[str, Json]) -> Outcome:
        if halt is not None:
            return Outcome.of(halt)
        enabled = self._blueprint.spec.enabled
        if self._external is not None:
            return self._external.outcome(enabled=enabled)
        if self._dedicated is not None:
            return await self._provision_own(self._dedicated, secrets)
        if self._provisioning is None:
            return Outcome(True, Reason.NOT_WANTED, "mode: None")
        try:
            if not self.trusted:
                await self._provisioning.provision(secrets.get(SECRET_DATABASE))
                if not enabled:
                    await self._provisioning.lock()
        except Halt as trouble:
            return Outcome.of(trouble)
        return GOOD if enabled else LOGINS_LOCKED

    async def _provision_own(self, dedicated: DedicatedDatabase, secrets: dict[str, Json]) -> Outcome:
        """A server of the tenant's own: it is brought up, and then provisioned as a shared one is."""
        try:
            await dedicated.bring_up(None if self.trusted else secrets)
            if not self._blueprint.spec.enabled:
                return AT_REST
            if not self.trusted:
                opened = await self._opened.enter_async_context(dedicated.open(secrets))
                self._provisioning = DatabaseProvisioning(opened)
                await self._provisioning.provision(secrets.get(SECRET_DATABASE))
        except Halt as trouble:
            return Outcome.of(trouble)
        return replace(GOOD, message=dedicated.outside)

    async def _write_secrets(self, report: Report, database: Outcome, secrets: dict[str, Json]) -> None:
        written = self.trusted_secrets or GOOD
        if not self.trusted:
            await self._applier.apply_secret(env_secret(self._blueprint), secrets.get(SECRET_ENV))
            if self._external is not None:
                body = self._external.body(self._placed.identity, self._blueprint.namespace)
                await self._applier.apply_secret(body, secrets.get(SECRET_DATABASE))
                written = rotation_outcome(self._tenant)
            elif self._provisioning is not None and database.status is True and self._blueprint.spec.enabled:
                login = DatabaseLogin(self._world, self._tenant, self._placed, self._provisioning.shared, self._applier)
                try:
                    written = await login.connect(secrets.get(SECRET_DATABASE), was_ready=self._provisioning.was_ready)
                except Halt as trouble:
                    database = Outcome.of(trouble)
        report.outcomes[ConditionType.DATABASE_READY] = database
        report.outcomes[ConditionType.SECRETS_READY] = written if database.status is True else WAITS_FOR_DATABASE

    def _quota_outcome(self, quota: Json) -> Outcome:
        """Enforced means that the quota controller has taken the limits over into the status."""
        ref = Ref(RESOURCE_QUOTAS, self._blueprint.namespace, quota["metadata"]["name"])
        live = self._placed.target.live.get(ref) or {}
        enforced = live.get("status", {}).get("hard", {})
        wanted = quota["spec"]["hard"]
        if all(name in enforced and same_quantity(wanted[name], enforced[name]) for name in wanted):
            return GOOD
        return Outcome(
            None, Reason.QUOTA_NOT_ENFORCED, "the quota is not enforced on the target yet", retry_after=QUOTA_RETRY
        )


def _shown(described: Source | Halt | None) -> object:
    """What an External database is made from, for the digest."""
    return (described.name, sorted(described.data.items())) if isinstance(described, Source) else str(described)
