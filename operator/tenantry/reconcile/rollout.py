"""Rollouts: a plan's present content brought to its tenants, by what their records pin and what passes found out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tenantry.api.conditions import Reason
from tenantry.api.names import ANNOTATION_RESUME_ROLLOUT
from tenantry.api.resources import NAMESPACES, TENANT_RECORDS, TENANTS, Ref
from tenantry.api.tenant import Tenant, TenantSpec
from tenantry.api.tenantplan import RolloutStatus, TenantPlan
from tenantry.api.tenantrecord import PinnedPlan, RecordState, TenantRecord
from tenantry.decide.conditions import GOOD, Outcome
from tenantry.decide.deletion import pinned_deletion, time_text
from tenantry.decide.halt import Terminal
from tenantry.decide.rollout import Health, Member, Phase, Step, advance, goes_at_once
from tenantry.decide.workspaces import allows
from tenantry.ports.kube import ConflictError, NotFoundError
from tenantry.reconcile.applied import hold_of
from tenantry.reconcile.ledger import Entry
from tenantry.reconcile.records import find_named, swap
from tenantry.reconcile.revisions import Revisions
from tenantry.reconcile.slots import is_on
from tenantry.reconcile.world import World

logger = logging.getLogger(__name__)

AT_A_TIME: Final = 16
"""Records that are written at the same time."""
LOOKS: Final = 10
"""How often a rollout is looked at while a tenant settles: nothing tells when that time is over."""
SOON: Final = 0.5


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the rollout of a plan is.

    Attributes:
        again: Seconds until the next look; None where nothing is under way.
    """

    status: RolloutStatus
    outcome: Outcome
    again: float | None


@dataclass(slots=True)
class _Seen:
    """Since when this process knows a tenant on a revision, and whether it was proof of it once."""

    revision: str
    since: float
    proven: bool = False


class Rollouts:
    """Moves the pins in the records. What is under way is read from them, so a restart goes on where it was."""

    def __init__(self, world: World, revisions: Revisions) -> None:
        self._world = world
        self._revisions = revisions
        self._began = world.clock.monotonic()
        self._seen: dict[str, dict[str, _Seen]] = {}
        self._at_once: dict[str, tuple[str, str | None, bool]] = {}

    async def go_on(self, plan: TenantPlan, revision: str) -> Progress:
        """The next step of a plan's rollout, if there is one to be made now."""
        resumed = plan.metadata.annotations.get(ANNOTATION_RESUME_ROLLOUT) == revision
        if resumed:
            await self._revisions.pause(revision, None)
        members = self._members(plan, revision)
        step = self._decide(plan, revision, members, resumed=resumed)
        if step.stop:
            logger.warning("the rollout of %s stops: %s", revision, step.stop)
            await self._revisions.pause(revision, step.stop)
        if step.update:
            healths = {member.record: member.health if step.proves else None for member in members}
            await self._pin_all(plan, revision, {record: healths[record] for record in step.update})
            members = self._members(plan, revision)
            step = self._decide(plan, revision, members, resumed=resumed)
        return self._progress(revision, step)

    def _decide(self, plan: TenantPlan, revision: str, members: Sequence[Member], *, resumed: bool) -> Step:
        paused = self._revisions.paused(revision)
        at_once = self._goes_at_once(plan, revision, members, paused=bool(paused))
        step = advance(members, self._world.settings.rollout, at_once=at_once, paused=paused, resumed=resumed)
        if at_once or not step.update or not self._is_early(members):
            return step
        return Step(step.phase, (), step.updated, step.total, "after a start, all tenants are looked at first")

    def _goes_at_once(self, plan: TenantPlan, revision: str, members: Sequence[Member], *, paused: bool) -> bool:
        """Decided when a rollout begins: one that a conflict interrupted does not go on in another way."""
        wanted = plan.spec.rollout.type if plan.spec.rollout is not None else None
        known = self._at_once.get(plan.name)
        if known is not None and known[:2] == (revision, wanted) and not all(m.updated for m in members):
            return known[2]
        at_once = goes_at_once(wanted, members, paused=paused)
        if all(m.updated for m in members):
            self._at_once.pop(plan.name, None)
        else:
            self._at_once[plan.name] = (revision, wanted, at_once)
        return at_once

    def _is_early(self, members: Iterable[Member]) -> bool:
        """Whether there are tenants that no pass has looked at since the start, and may be soon."""
        settling = self._world.clock.monotonic() - self._began < self._world.settings.rollout.settle
        return settling and any(member.health is None for member in members if not member.updated)

    def _members(self, plan: TenantPlan, revision: str) -> list[Member]:
        """Who follows the plan: not tenants that leave, nor those of workspaces that may not use it any more."""
        now = self._world.clock.monotonic()
        former, seen = self._seen.get(plan.name, {}), {}
        members, allowed = [], dict[str, bool]()
        for entry in self._world.ledger.entries():
            if entry.plan is None or not is_on(entry, plan.name) or self._leaves(entry):
                continue
            workspace = entry.tenant.namespace
            if workspace not in allowed:
                allowed[workspace] = self._allows(plan, workspace)
            if not allowed[workspace]:
                continue
            known = former.get(entry.record)
            if known is None or known.revision != entry.plan.revision:
                known = _Seen(entry.plan.revision, now)
            seen[entry.record] = known
            members.append(self._member(entry, entry.plan, revision, known))
        self._seen[plan.name] = seen
        return members

    def _leaves(self, entry: Entry) -> bool:
        """It is deleted, or was asked to be: what is held until somebody confirms that stays as it is."""
        body = self._world.live.get(entry.tenant)
        going = body is not None and "deletionTimestamp" in body["metadata"]
        return going or entry.state != RecordState.ACTIVE

    def _allows(self, plan: TenantPlan, workspace: str) -> bool:
        body = self._world.live.get(Ref(NAMESPACES, "", workspace))
        labels = (body["metadata"].get("labels") or {}) if body is not None else None
        return labels is not None and allows(plan.spec.allowed_workspaces, labels)

    def _member(self, entry: Entry, pinned: PinnedPlan, revision: str, seen: _Seen) -> Member:
        now = self._world.clock.monotonic()
        verdict = self._world.verdicts.of(entry.record)
        if verdict is not None and verdict.revision != pinned.revision:
            verdict = None  # of a pass before it got this one
        health, since = (verdict.health, verdict.since) if verdict is not None else (None, seen.since)
        if health is Health.READY:
            seen.proven = seen.proven or now - since >= self._world.settings.rollout.settle
        elif not seen.proven:
            since = seen.since
        return Member(
            record=entry.record,
            updated=pinned.revision == revision,
            rolled_out=pinned.rolled_out_at is not None,
            was_ready=pinned.was_ready,
            health=health,
            seconds=now - since,
        )

    async def _pin_all(self, plan: TenantPlan, revision: str, healths: Mapping[str, Health | None]) -> None:
        records = list(healths)
        for start in range(0, len(records), AT_A_TIME):
            batch = records[start : start + AT_A_TIME]
            await asyncio.gather(*(self._pin(plan, revision, record, healths[record]) for record in batch))

    async def _pin(self, plan: TenantPlan, revision: str, name: str, health: Health | None) -> None:
        """Give one tenant the revision, in one write; who changed its record meanwhile goes first."""
        record = find_named(self._world, Ref(TENANT_RECORDS, "", name))
        if record is None or record.spec.state != RecordState.ACTIVE:
            return
        if record.spec.plan is None or record.spec.plan.name != plan.name or record.spec.plan.revision == revision:
            return
        tenant = Ref(TENANTS, record.spec.workspace, record.spec.tenant)
        try:
            await swap(self._world, record, self._change(plan, revision, record, tenant, health))
        except (ConflictError, NotFoundError) as error:
            logger.info("%s gets revision %s later: %s", name, revision, error.message)
        self._world.wake.wake(tenant)

    def _change(
        self, plan: TenantPlan, revision: str, record: TenantRecord, tenant: Ref, health: Health | None
    ) -> dict[str, Any]:
        pin = PinnedPlan(
            name=plan.name,
            revision=revision,
            rolled_out_at=time_text(self._world.clock.now()),
            was_ready=health is Health.READY,
        )
        change: dict[str, Any] = {"plan": pin.model_dump(by_alias=True, mode="json")}
        spec = self._applied(tenant)
        if spec is not None:
            try:
                deletion = pinned_deletion(spec, plan.name, plan.spec)
            except Terminal:
                return change  # the tenant's own pass tells
            if deletion != record.spec.deletion:
                change["deletion"] = deletion.model_dump(by_alias=True, mode="json")
        return change

    def _applied(self, ref: Ref) -> TenantSpec | None:
        """The spec that holds for a tenant, which is not one that a dry run holds; None where it is not known."""
        body = self._world.live.get(ref)
        if body is None:
            return None
        tenant = Tenant.model_validate(body)
        hold = hold_of(self._world, tenant)
        applied = hold.applied if hold is not None else tenant
        return applied.spec if applied is not None else None

    def _progress(self, revision: str, step: Step) -> Progress:
        message = step.message
        if step.phase is Phase.PAUSED:
            message += (
                f". It goes on when the plan is changed, or with the annotation {ANNOTATION_RESUME_ROLLOUT}={revision}"
            )
        status = RolloutStatus(
            revision=revision, phase=step.phase.value, updated=step.updated, total=step.total, message=message[:1024]
        )
        told = f"{step.updated} of {step.total} tenants have {revision}; {message}".removesuffix("; ")
        match step.phase:
            case Phase.COMPLETE:
                return Progress(status, GOOD, None)
            case Phase.PAUSED:
                return Progress(status, Outcome(False, Reason.ROLLOUT_PAUSED, told, terminal=True), None)
            case _:
                settle = self._world.settings.rollout.settle
                again = SOON if step.update else max(SOON, settle / LOOKS)
                return Progress(status, Outcome(None, Reason.ROLLING_OUT, told), again)
