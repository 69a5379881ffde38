"""Build: a tenant's objects, Secrets and database, brought to where the blueprint wants them, in a safe order."""

from __future__ import annotations

import asyncio
import hashlib

from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.names import LABEL_TENANT_HASH, SECRET_DATABASE, SECRET_ENV
from tenantry.api.resources import NAMESPACES, RESOURCE_QUOTAS, SECRETS, Ref
from tenantry.api.tenant import Tenant
from tenantry.decide.conditions import GOOD, Outcome
from tenantry.decide.halt import Halt
from tenantry.decide.quantities import same_quantity
from tenantry.desired.blueprint import Blueprint
from tenantry.desired.environment import env_secret, info_config_map
from tenantry.desired.ingress import ingresses
from tenantry.desired.namespace import namespace
from tenantry.desired.network import network_policies
from tenantry.desired.quota import limit_range, resource_quota
from tenantry.desired.rbac import operator_binding, service_account, tenant_bindings
from tenantry.ports import Json
from tenantry.reconcile.apply import Applier
from tenantry.reconcile.database import DatabaseProvisioning, SharedDatabase
from tenantry.reconcile.namespace import ensure_namespace
from tenantry.reconcile.placing import Placed
from tenantry.reconcile.report import Report
from tenantry.reconcile.world import World

QUOTA_RETRY = 5.0
WAITS_FOR_DATABASE = Outcome(None, Reason.PENDING, f"{SECRET_DATABASE} waits for the database")


class Build:
    """One pass over a tenant's objects on its target.

    Attributes:
        trusted: Secrets and database were seen to be right not long ago, made from the same things as now.
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
        self.trusted = False

    def digest(self) -> str:
        """Of all that Secrets and database are made from."""
        live = self._placed.target.live.get(Ref(NAMESPACES, "", self._blueprint.namespace))
        facts = (
            live["metadata"]["uid"] if live else "",
            sorted(self._blueprint.env.items()),
            self._tenant.requested_at,
            self._shared and (self._shared.wanted, self._shared.server.endpoint),
        )
        return hashlib.sha256(repr(facts).encode()).hexdigest()

    async def run(self, report: Report, database_halt: Halt | None) -> None:
        """Namespace, then what guards it, the database, the Secrets; the quota; what lets people and traffic in."""
        target, blueprint = self._placed.target, self._blueprint
        fresh = await ensure_namespace(target, self._applier, self._placed.identity, namespace(blueprint))
        if fresh:
            self._applier.bound()
            report.namespace_made()
        binding = operator_binding(blueprint)
        await self._applier.apply(binding)
        guards = [
            limit_range(blueprint),
            *network_policies(blueprint),
            service_account(blueprint),
            info_config_map(blueprint),
        ]
        quota, gates = resource_quota(blueprint), [*tenant_bindings(blueprint), *ingresses(blueprint)]
        secrets = {} if self.trusted or fresh else await self._secrets()
        provisioning = asyncio.create_task(self._provision_database(database_halt, secrets.get(SECRET_DATABASE)))
        try:
            await self._applier.apply_all(guards)
        finally:
            database = await provisioning
        await self._write_secrets(report, database, secrets)
        await self._applier.apply(quota)
        await self._applier.apply_all(gates)
        if database_halt is None:  # else what the database needs is not known, and must not look unwanted
            await self._applier.prune(
                [namespace(blueprint), binding, *guards, quota, *gates], namespace=blueprint.namespace
            )
        report.outcomes[ConditionType.NAMESPACE_READY] = self._quota_outcome(quota)

    async def _secrets(self) -> dict[str, Json]:
        labels = f"{LABEL_TENANT_HASH}={self._placed.identity.tenant_hash}"
        listing = await self._placed.target.kube.list(SECRETS, namespace=self._blueprint.namespace, labels=labels)
        return {secret["metadata"]["name"]: secret for secret in listing.items}

    async def _provision_database(self, halt: Halt | None, secret: Json | None) -> Outcome:
        if halt is not None:
            return Outcome.of(halt)
        if self._shared is None:
            return Outcome(True, Reason.NOT_WANTED, "mode: None")
        if self.trusted:
            return GOOD
        try:
            await self._provisioning(self._shared).provision(secret)
        except Halt as trouble:
            return Outcome.of(trouble)
        return GOOD

    async def _write_secrets(self, report: Report, database: Outcome, secrets: dict[str, Json]) -> None:
        if not self.trusted:
            await self._applier.apply_secret(env_secret(self._blueprint), secrets.get(SECRET_ENV))
            if self._shared is not None and database.status is True:
                try:
                    await self._provisioning(self._shared).connect(self._applier, secrets.get(SECRET_DATABASE))
                except Halt as trouble:
                    database = Outcome.of(trouble)
        report.outcomes[ConditionType.DATABASE_READY] = database
        report.outcomes[ConditionType.SECRETS_READY] = GOOD if database.status is True else WAITS_FOR_DATABASE

    def _provisioning(self, shared: SharedDatabase) -> DatabaseProvisioning:
        return DatabaseProvisioning(self._world, shared, self._placed.identity, self._blueprint.namespace)

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
