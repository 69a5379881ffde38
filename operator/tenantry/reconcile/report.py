"""Report: what one pass over a Tenant found out, and its way into the Tenant's status and events."""

from __future__ import annotations

import logging
from dataclasses import replace

from tenantry.api.conditions import Condition, ConditionType, Reason
from tenantry.api.effective import Effective
from tenantry.api.names import SECRET_DATABASE
from tenantry.api.preview import Preview
from tenantry.api.tenant import BindingStatus, EffectiveStatus, Tenant, TenantStatus
from tenantry.decide.backupnow import left_alone
from tenantry.decide.conditions import Outcome, condition_of, summarize, suspended, time_of
from tenantry.decide.preview import held_outcome
from tenantry.decide.rollout import Health
from tenantry.desired.blueprint import Blueprint
from tenantry.ports.kube import KubeError, UnreachableError
from tenantry.reconcile.placing import Placed
from tenantry.reconcile.result import Result
from tenantry.reconcile.status import write_status
from tenantry.reconcile.world import World

logger = logging.getLogger(__name__)

FIRST_VISIT_PATIENCE = 10.0
"""Seconds for which a pass that only waits for the quota leaves the first visit's conditions as they are."""


HELD = "a change is held: see ChangeHeld and status.preview"
NOTE = f"{Reason.NAMESPACE_RECREATED.value}: "


class Report:
    """Collects outcomes; writes the status once a pass, and on the first visit before the work begins.

    Attributes:
        outcomes: One a concern, in the order in which they are told.
        move: How far a move is, or how the last one ended.
        backup: What is known of its backups.
        backup_outcome: What BackupHealthy says; None where no backup is made by itself.
        retry: Something transient happened.

    Args:
        world: The world.
        tenant: As it is treated: during a dry run not with its own spec.
        outcomes: To begin with.
        generation: That the spec it is treated with was; by default the Tenant's.
    """

    def __init__(
        self,
        world: World,
        tenant: Tenant,
        outcomes: dict[ConditionType, Outcome],
        *,
        generation: int | None = None,
    ) -> None:
        self._world = world
        self._tenant = tenant
        self._generation = tenant.metadata.generation if generation is None else generation
        self._preview: Preview | None = None
        self._held: Outcome | None = None
        self._placed: Placed | None = None
        self._blueprint: Blueprint | None = None
        self._namespace_was_ready = any(
            c.type == ConditionType.NAMESPACE_READY and (c.status == "True" or c.reason == Reason.NAMESPACE_TERMINATING)
            for c in tenant.status.conditions
        )
        self._note = _kept_note(tenant, self._generation)
        self._unanswered = False
        self.outcomes = outcomes
        self.move = tenant.status.move
        self.backup = left_alone(tenant)
        self.backup_outcome: Outcome | None = None
        self.retry = False

    def placed(self, placed: Placed) -> None:
        """The tenant has a place."""
        self._placed = placed
        told = "; ".join(part for part in (f"on cluster {placed.cluster.name}", placed.terms.note) if part)
        self.outcomes[ConditionType.PLACED] = Outcome(True, Reason.READY, told)

    def serves(self, blueprint: Blueprint) -> None:
        """What it is to have is known."""
        self._blueprint = blueprint

    def namespace_made(self) -> None:
        """The namespace was made in this pass: an incident if it had been there before."""
        if not self._namespace_was_ready or self._placed is None:
            return
        name = self._placed.record.spec.cluster.namespace
        self._note = f"{NOTE}{name} had vanished from the target and was made again"
        self._emit(warning=True, reason=Reason.NAMESPACE_RECREATED, message=self._note)

    def trouble(self, error: KubeError) -> None:
        """An API server refused or did not answer: told under the first concern that is not good yet."""
        unreachable = self._unanswered = isinstance(error, UnreachableError)
        asked = Result.after(error).requeue_after
        self.retry = asked is None
        reason = Reason.CLUSTER_UNREACHABLE if unreachable else Reason.RETRYING
        pending = (kind for kind, outcome in self.outcomes.items() if outcome.status is not True)
        kind = next(pending, ConditionType.PLACED)
        self.outcomes[kind] = Outcome(None, reason, error.message, retry_after=asked)

    def dry_run(self, preview: Preview | None) -> None:
        """The annotation is there: what it holds, None where the spec is the one that is applied."""
        self._preview = preview
        self._held = held_outcome(preview)

    @property
    def refuses(self) -> bool:
        """Whether the held spec would be refused, or would wait."""
        return self._preview is not None and bool(self._preview.refusals)

    @property
    def answered(self) -> bool:
        """Whether no request of the pass was left without an answer."""
        return not self._unanswered

    @property
    def effective(self) -> Effective | None:
        """What the tenant has; None where the pass did not get so far."""
        return self._placed.effective if self._placed is not None else None

    def good(self, *kinds: ConditionType) -> bool:
        """Whether these concerns are as they should be."""
        return all(self.outcomes[kind].status is True for kind in kinds)

    @property
    def revision(self) -> str | None:
        """The revision of its plan that this pass was about; None where it did not get to know that."""
        return self._placed.terms.pin.revision if self._placed is not None else None

    @property
    def health(self) -> Health | None:
        """What this pass found out, for the rollout of its plan; None where it found out nothing."""
        if self._passing():
            return None
        if any(outcome.terminal for outcome in self.outcomes.values()):
            return Health.STALLED
        return Health.READY if all(each.status is True for each in self.outcomes.values()) else Health.WAITING

    async def write_first(self) -> None:
        """On the first visit ever: say Unknown and Reconciling before the work begins."""
        if self._tenant.status.observed_generation >= 0:
            return
        first = Outcome(None, Reason.PROGRESSING, "the environment is being made")
        outcomes = {kind: first if outcome.status is None else outcome for kind, outcome in self.outcomes.items()}
        await self._write(outcomes)

    async def write(self) -> None:
        """Write what was found out, if it differs from what the status says."""
        if (self._only_quota_missing() and self._just_begun()) or self._passing():
            return
        await self._write(self.outcomes)

    async def write_left_alone(self, reason: Reason, told: str) -> None:
        """Say that nothing is done: what was last found out stays, Ready with it, under another reason."""
        tenant = self._tenant
        ready, others = suspended(self._previous(), self._generation, self._world.clock.now(), reason=reason, told=told)
        status = self._status([ready, *others, *self._held_conditions()])
        if await write_status(self._world.management, self._world.live, tenant.ref, status):
            self._announce(self._previous(), ready)

    async def _write(self, outcomes: dict[ConditionType, Outcome]) -> None:
        tenant = self._tenant
        before = self._previous()
        message = ", ".join(part for part in (self._url, self._note) if part) or (
            "the environment is there" if tenant.spec.enabled else "switched off: spec.enabled is false"
        )
        database = outcomes.get(ConditionType.DATABASE_READY)
        if database is not None and database.reason == Reason.NOT_VERIFIED:
            message += "; nobody has tried to log in to its External database"
        reason = Reason.READY if tenant.spec.enabled else Reason.DISABLED
        if self._preview is not None:
            reason, message = Reason.DRY_RUN, f"{message}; {HELD}"
        namespace = outcomes.get(ConditionType.NAMESPACE_READY)
        if self._note and namespace is not None:
            told = "; ".join(part for part in (namespace.message, self._note) if part)
            outcomes = {**outcomes, ConditionType.NAMESPACE_READY: replace(namespace, message=told)}
        conditions = summarize(
            outcomes,
            ready_message=message,
            ready_reason=reason,
            previous=before,
            generation=self._generation,
            now=self._world.clock.now(),
        )
        conditions += [*self._backup_conditions(), *self._held_conditions()]
        if await write_status(self._world.management, self._world.live, tenant.ref, self._status(conditions)):
            self._announce(before, conditions[0])

    def _status(self, conditions: list[Condition]) -> TenantStatus:
        tenant, placed, blueprint = self._tenant, self._placed, self._blueprint
        if placed is None:
            # What was known before still holds: the tenant is only not worked on.
            known = tenant.status.model_dump(
                exclude={"conditions", "observed_generation", "preview", "last_handled_reconcile_at", "backup"}
            )
            return TenantStatus(
                **known,
                conditions=conditions,
                preview=self._preview,
                backup=self.backup,
                observed_generation=tenant.metadata.generation,
                last_handled_reconcile_at=tenant.requested_at,
            )
        has_database = placed.record.spec.database.mode != "None"
        return TenantStatus(
            observed_generation=tenant.metadata.generation,
            conditions=conditions,
            tenant_id=placed.identity.tenant_id,
            record=placed.record.name,
            cluster=placed.cluster.name,
            namespace=placed.record.spec.cluster.namespace,
            url=self._url or None,
            hosts=[host.host for host in blueprint.hosts] if blueprint else tenant.status.hosts,
            binding=BindingStatus(name=SECRET_DATABASE) if has_database else None,
            effective=EffectiveStatus(
                plan=placed.effective.plan,
                plan_revision=placed.terms.pin.revision,
                limits=dict(placed.effective.limits),
                quota=dict(placed.effective.quota),
            ),
            preview=self._preview,
            move=self.move,
            backup=self.backup,
            last_handled_reconcile_at=tenant.requested_at,
        )

    def _held_conditions(self) -> list[Condition]:
        """About the generation that is held: all others are about the one that is applied."""
        if self._held is None:
            return []
        generation, now = self._tenant.metadata.generation, self._world.clock.now()
        return [condition_of(ConditionType.CHANGE_HELD, self._held, self._previous(), generation, now)]

    def _backup_conditions(self) -> list[Condition]:
        """Beside Ready: a tenant whose backups fail serves as well as one whose backups don't."""
        if self.backup_outcome is None:
            return []
        now, kind = self._world.clock.now(), ConditionType.BACKUP_HEALTHY
        return [condition_of(kind, self.backup_outcome, self._previous(), self._generation, now)]

    @property
    def _url(self) -> str:
        return self._blueprint.url if self._blueprint else ""

    def _previous(self) -> list[Condition]:
        body = self._world.live.get(self._tenant.ref) or {}
        return Tenant.model_validate(body).status.conditions if body else self._tenant.status.conditions

    def _passing(self) -> bool:
        """One request without an answer makes a tenant that was Ready no less so; the target's breaker counts them."""
        target_is_well = self._placed is None or self._placed.target.availability.ok
        was_ready = any(
            condition.type == ConditionType.READY
            and condition.status == "True"
            and condition.observed_generation == self._generation
            for condition in self._previous()
        )
        return self._unanswered and target_is_well and was_ready

    def _only_quota_missing(self) -> bool:
        missing = [outcome for outcome in self.outcomes.values() if outcome.status is not True]
        return len(missing) == 1 and missing[0].reason == Reason.QUOTA_NOT_ENFORCED

    def _just_begun(self) -> bool:
        """The status says Progressing, of this generation, and has not said so for long."""
        now = self._world.clock.now()
        return any(
            condition.type == ConditionType.READY
            and condition.reason == Reason.PROGRESSING
            and condition.observed_generation == self._generation
            and (since := time_of(condition)) is not None
            and 0 <= (now - since).total_seconds() < FIRST_VISIT_PATIENCE
            for condition in self._previous()
        )

    def _announce(self, before: list[Condition], ready: Condition) -> None:
        former = next((c for c in before if c.type == ConditionType.READY), None)
        if ready.reason == Reason.PROGRESSING:
            return
        if former is not None and (former.status, former.reason) == (ready.status, ready.reason):
            return
        logger.info("%s: %s", ready.reason, ready.message)
        bad = ready.status != "True" and ready.reason != Reason.DELETING
        self._emit(warning=bad, reason=Reason(ready.reason), message=ready.message)

    def _emit(self, *, warning: bool, reason: Reason, message: str) -> None:
        about = self._world.live.get(self._tenant.ref)
        if about is not None:
            self._world.events.emit(about, warning=warning, reason=reason, message=message)


def _kept_note(tenant: Tenant, generation: int) -> str:
    """That the namespace was made again is told until the next change of the spec: one pass would be overlooked."""
    for condition in tenant.status.conditions:
        told = condition.type == ConditionType.NAMESPACE_READY and NOTE in condition.message
        if told and condition.observed_generation == generation:
            return NOTE + condition.message.rpartition(NOTE)[2]
    return ""
