"""Tenant: from its spec to a working environment on its target, and the truth about it in its status."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.names import TENANT_FINALIZER
from tenantry.api.resources import TENANT_RECORDS, Ref
from tenantry.api.tenant import Tenant
from tenantry.api.tenantrecord import TenantRecord
from tenantry.decide.conditions import GOOD, PENDING, Outcome
from tenantry.decide.halt import Halt, Terminal, Waiting
from tenantry.decide.rollout import Health
from tenantry.ports.kube import ConflictError, KubeError
from tenantry.reconcile.applied import Hold, hold_of, note_applied, note_suspended, own_record
from tenantry.reconcile.backuphealth import look_after_backups
from tenantry.reconcile.backupnow import back_up_now
from tenantry.reconcile.build import Build
from tenantry.reconcile.contention import LACKS_ROOM, ROOM, hosts_on
from tenantry.reconcile.database import SharedDatabase, pinned_database
from tenantry.reconcile.deletion import Deletion
from tenantry.reconcile.holding import expiry_of
from tenantry.reconcile.ingress import IngressReadiness
from tenantry.reconcile.memory import Memory
from tenantry.reconcile.moving import Moving
from tenantry.reconcile.openstores import BackupKit
from tenantry.reconcile.placing import Placed, Placing
from tenantry.reconcile.preview import preview
from tenantry.reconcile.reopening import Having, Reopening
from tenantry.reconcile.report import Report
from tenantry.reconcile.restoring import Restoring
from tenantry.reconcile.result import Result
from tenantry.reconcile.serving import blueprint_of, claim_hosts, host_claims
from tenantry.reconcile.workspace import Workspace, find_workspace
from tenantry.reconcile.world import World

CONCERNS = (
    ConditionType.PLACED,
    ConditionType.NAMESPACE_READY,
    ConditionType.DATABASE_READY,
    ConditionType.SECRETS_READY,
    ConditionType.INGRESS_READY,
)
CLOCK_RETRY = 60.0
REFUSED_RETRY = 60.0
"""Seconds after which it is looked again whether a held spec would still be refused."""
SUSPENDED = "left as it is: spec.suspend is true"


@dataclass(frozen=True, slots=True)
class Verified:
    """What no watch can tell was last seen to be right: the Secrets, the database, the login.

    Attributes:
        digest: Of all that they were made from; in memory only.
        until: When to look again, in monotonic seconds.
        secrets: What SecretsReady said.
    """

    digest: str
    until: float
    secrets: Outcome


class TenantReconciler:
    """Reconciles Tenants."""

    def __init__(self, world: World, memory: Memory, kit: BackupKit) -> None:
        self._world = world
        self._kit = kit
        self._placing = Placing(world)
        self._moving = Moving(world)
        self._restoring = Restoring(world, kit)
        self._memory = memory
        self._reopening = Reopening(world, self._steps, self._open, self._unknown)
        self._deletion = Deletion(world, memory, self._reopening)
        self._ingress = IngressReadiness(world.clock)
        self._verified: dict[str, Verified] = {}

    async def reconcile(self, key: Ref) -> Result:
        """One pass over one Tenant."""
        body = self._world.live.get(key)
        if body is None:
            self._kit.schedules.forget(key)
            if (record := self._world.ledger.record_of(key)) is not None:
                # It may have gone between its record and its finalizer, when nobody was there to see it go.
                self._world.wake.wake(Ref(TENANT_RECORDS, "", record))
            return Result()
        tenant = Tenant.model_validate(body)
        before = self._world.ledger.of_tenant(key)
        revision = before.plan.revision if before is not None and before.plan is not None else ""
        hold = hold_of(self._world, tenant)
        if tenant.deleting:
            record = self._world.ledger.record_of(key) or ""
            self._judge(key, revision, Health.IDLE)
            self._verified.pop(record, None)
            await self._moving.forget(record)
            await self._restoring.forget(record)
            self._kit.schedules.forget(key)
            return await self._deletion.reconcile(hold.applied if hold and hold.applied else tenant)
        return await self._look_after(tenant, hold, revision)

    async def _look_after(self, tenant: Tenant, hold: Hold | None, revision: str) -> Result:
        """The Tenant as it is to be; during a dry run as it was last, and what it would be is only told."""
        current = (hold.applied if hold is not None else None) or tenant
        report = Report(
            self._world, current, dict.fromkeys(CONCERNS, PENDING), generation=hold.generation if hold else None
        )
        expiry = expiry_of(current) if not current.spec.deletion.protected else None  # protected wins
        if expiry is not None and expiry <= self._world.clock.now():
            return await self._expire(current, expiry)
        left = hold is not None and hold.applied is None
        health: Health | None = Health.IDLE
        suspended = SUSPENDED
        if current.spec.suspend and not left:
            suspended = await self._rest(current, report)
            if hold is None:
                await note_suspended(self._world, tenant)
        elif not current.spec.suspend and not left:
            await self.attempt(current, report)
            health = report.health
        if hold is not None:
            await self._foresee(tenant, hold, report)
        if hold is not None and left:
            await report.write_left_alone(Reason.DRY_RUN, hold.why)
        elif current.spec.suspend:
            await report.write_left_alone(Reason.SUSPENDED, suspended)
        else:
            await report.write()
        self._judge(tenant.ref, report.revision or revision, health)
        return self._next(report, expiry)

    def _unknown(self, tenant: Tenant) -> Report:
        return Report(self._world, tenant, dict.fromkeys(CONCERNS, PENDING))

    async def _rest(self, tenant: Tenant, report: Report) -> str:
        """What is told of a suspended tenant; one that a move has stopped is opened before it is left as it is.

        Raises:
            ConflictError: it was opened, or somebody else wrote: look again at once.
        """
        try:
            await self._reopening.reopen(tenant, own_record(self._world, tenant), "spec.suspend is true")
        except Waiting as halt:
            report.outcomes[halt.condition] = Outcome.of(halt)
            return f"{SUSPENDED}; {halt.message}"
        return SUSPENDED

    async def attempt(self, tenant: Tenant, report: Report) -> None:
        """Bring the tenant to where its spec wants it; what stops that is told in the report.

        Raises:
            ConflictError: somebody else wrote: look again at once, there is nothing to tell.
        """
        try:
            await self._check_echo(tenant)
            await self._provision(tenant, report)
        except Halt as halt:
            report.outcomes[halt.condition] = Outcome.of(halt)
        except ConflictError:
            raise
        except KubeError as error:
            report.trouble(error)
        if any(outcome.reason in LACKS_ROOM for outcome in report.outcomes.values()):
            self._world.contention.wait(tenant.ref, ROOM)

    async def _foresee(self, tenant: Tenant, hold: Hold, report: Report) -> None:
        """Put into the report what the held spec would do."""

        async def attempt(world: World, wanted: Tenant, rehearsed: Report) -> None:
            await TenantReconciler(world, self._memory, self._kit).attempt(wanted, rehearsed)

        found = None
        if hold.held:
            former, outcomes = report.effective, dict.fromkeys(CONCERNS, PENDING)
            found = await preview(self._world, tenant, hold, former, outcomes, attempt)
        report.dry_run(found)

    def _judge(self, key: Ref, revision: str, health: Health | None) -> None:
        """Let the rollout of the tenant's plan know how it is on the revision that this pass was about."""
        record = self._world.ledger.record_of(key)
        if record is not None and health is not None:
            self._world.verdicts.note(record, revision, health, self._world.clock.monotonic())

    async def _provision(self, tenant: Tenant, report: Report) -> None:
        world = self._world
        workspace = find_workspace(world, tenant.workspace)
        placed = await self._place(tenant, workspace)
        report.placed(placed)
        if not tenant.has_finalizer:
            await self._add_finalizer(tenant)
        await report.write_first()
        placed = replace(placed, record=await note_applied(world, tenant, placed.record))
        look_after_backups(world, self._kit, tenant, placed, report)
        placed = replace(placed, record=await back_up_now(world, self._kit, tenant, placed, report))
        # A rehearsal says that a move would begin; one that is under way is none of its business.
        moving = not world.rehearsal or placed.record.spec.move is None
        steps = self._steps(placed.record)
        here = await steps.advance(tenant, workspace, placed, report) if moving else placed
        if here is not placed:
            self._verified.pop(placed.record.name, None)  # it was at rest, whatever was seen of it before
        if here is None:
            return
        placed = here
        await self._serve(tenant, placed, self._database(placed, workspace.labels), report)
        if moving:
            await self._steps(placed.record).finish(tenant, placed, report)

    async def _place(self, tenant: Tenant, workspace: Workspace) -> Placed:
        """Where it is to be; what is refused now takes nothing from a tenant that was stopped for a move."""
        try:
            return await self._placing.place(tenant, workspace)
        except (Terminal, Waiting) as halt:
            try:
                await self._reopening.reopen(tenant, own_record(self._world, tenant), halt.message)
            except Waiting as trouble:
                told = f"{halt.message}; {trouble.message}"
                raise Waiting(halt.condition, halt.reason, told, retry_after=trouble.retry_after) from halt
            raise

    async def _open(self, tenant: Tenant, placed: Placed, having: Having, report: Report) -> None:
        self._verified.pop(placed.record.name, None)  # it was at rest, whatever was seen of it before
        await self._serve(tenant, placed, (having.shared, None), report, having.env)

    async def _serve(
        self,
        tenant: Tenant,
        placed: Placed,
        database: tuple[SharedDatabase | None, Halt | None],
        report: Report,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """One pass over all that the tenant has where it is placed."""
        world, (shared, database_halt) = self._world, database
        claims = host_claims(world, placed)
        hosts = await claim_hosts(tenant, placed, claims)
        blueprint = blueprint_of(world, tenant, placed, hosts, shared, env=env)
        report.serves(blueprint)
        build = Build(world, placed, blueprint, shared, tenant)
        verified = self._verified.get(placed.record.name)
        build.trusted = (
            verified is not None and verified.until > world.clock.monotonic() and (verified.digest == build.digest())
        )
        if build.trusted and verified is not None:
            build.trusted_secrets = replace(verified.secrets, retry_after=verified.until - world.clock.monotonic())
        else:
            self._verified.pop(placed.record.name, None)
        await build.run(report, database_halt)
        if not build.trusted and report.good(ConditionType.SECRETS_READY, ConditionType.DATABASE_READY):
            secrets = report.outcomes[ConditionType.SECRETS_READY]
            seconds = min(world.jitter(world.settings.resync), secrets.retry_after or math.inf)
            self._verified[placed.record.name] = Verified(build.digest(), world.clock.monotonic() + seconds, secrets)
        released = GOOD
        if hosts.outcome.reason == Reason.HOSTNAME_CONFLICT:
            world.contention.wait(tenant.ref, hosts_on(placed.cluster.name))
        if placed.cluster.spec.ingress is not None:  # else the tenant is not served, but its hosts stay its own
            released = await claims.release(hosts.served, namespace=blueprint.namespace)
            if claims.released:
                world.contention.freed(hosts_on(placed.cluster.name), world.wake.wake)
        trouble = released if hosts.outcome.status is True else hosts.outcome
        report.outcomes[ConditionType.INGRESS_READY] = await self._ingress.outcome(placed.target, blueprint, trouble)

    def _steps(self, record: TenantRecord) -> Moving | Restoring:
        """Who sees to it that a tenant gets from one place, or database, to another."""
        move = record.spec.move
        return self._restoring if move is not None and move.restore is not None else self._moving

    def _database(self, placed: Placed, labels: dict[str, str]) -> tuple[SharedDatabase | None, Halt | None]:
        if placed.record.spec.database.mode != "Shared":
            return None, None
        try:
            return pinned_database(self._world, placed.record, placed.effective, labels), None
        except Halt as halt:
            return None, halt

    async def _add_finalizer(self, tenant: Tenant) -> None:
        patch = {
            "metadata": {
                "resourceVersion": tenant.metadata.resource_version,
                "finalizers": [*tenant.metadata.finalizers, TENANT_FINALIZER],
            }
        }
        self._world.live.observe(await self._world.management.merge_patch(tenant.ref, patch))

    async def _check_echo(self, tenant: Tenant) -> None:
        undeleted = self._world.ledger.record_of(tenant.ref) is not None
        if not tenant.has_finalizer and not undeleted and await self._memory.is_echo(tenant):
            raise Terminal(
                ConditionType.PLACED,
                Reason.EXPIRED,
                "an ephemeral tenant of this name has just come to its end, and was made again at once, as from git: "
                "take it out there; who wants another one waits for ten minutes, or chooses another name",
            )

    async def _expire(self, tenant: Tenant, expiry: datetime) -> Result:
        """The time of an ephemeral tenant is over, by the management cluster's clock too: ours may have jumped."""
        if await self._world.management.now() < expiry:
            return Result(requeue_after=CLOCK_RETRY)
        if not tenant.has_finalizer and await self._memory.is_echo(tenant):
            return Result()
        await self._memory.note_end(tenant)
        self._world.events.emit(
            self._world.live.get(tenant.ref) or {},
            warning=False,
            reason=Reason.EXPIRED,
            message="spec.ephemeral.ttl is over",
        )
        await self._world.management.delete(tenant.ref, uid=tenant.metadata.uid)
        return Result()

    def _next(self, report: Report, expiry: datetime | None) -> Result:
        if report.retry:
            return Result(retry=True)
        times = [self._world.jitter(self._world.settings.resync)]
        times += [outcome.retry_after for outcome in report.outcomes.values() if outcome.retry_after is not None]
        if report.refuses:
            times.append(REFUSED_RETRY)
        if expiry is not None:
            times.append(max(0.0, (expiry - self._world.clock.now()).total_seconds()))
        return Result(requeue_after=min(times))
