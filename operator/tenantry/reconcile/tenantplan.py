"""TenantPlan: its content kept as a revision and brought to its tenants, its slots given back, its tenants counted."""

from __future__ import annotations

from tenantry.api.conditions import ConditionType
from tenantry.api.names import ANNOTATION_REQUESTED_AT, LABEL_MANAGEMENT_ID
from tenantry.api.resources import CLUSTERS, NAMESPACES, TENANTS, Ref
from tenantry.api.tenantplan import DEFAULT_PLAN, RolloutStatus, TenantPlan, TenantPlanStatus
from tenantry.decide.conditions import GOOD
from tenantry.desired.namespace import plan_of
from tenantry.reconcile.platform import Counters, conditions_of
from tenantry.reconcile.result import Result
from tenantry.reconcile.revisions import Revisions
from tenantry.reconcile.rollout import Rollouts
from tenantry.reconcile.slots import Slots, is_on
from tenantry.reconcile.status import write_status
from tenantry.reconcile.world import World


class TenantPlanReconciler:
    """Reconciles TenantPlans. What a plan says reaches its tenants by the revisions that their records pin."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._counters = Counters()
        self._revisions = Revisions(world)
        self._rollouts = Rollouts(world, self._revisions)
        self._slots = Slots(world)
        self._may_have_slots: dict[str, bool] = {}

    async def reconcile(self, key: Ref) -> Result:
        """One pass over one TenantPlan."""
        world = self._world
        body = world.live.get(key)
        if body is None:
            await self._wind_up(key.name)
            return Result()
        plan = TenantPlan.model_validate(body)
        revision = await self._revisions.make_newest(plan)
        progress = await self._rollouts.go_on(plan, revision)
        await self._give_back_slots(plan)
        await self._revisions.prune(plan.name, {revision, *self._pinned(plan.name)})
        used = sum((tenant["spec"].get("plan") or DEFAULT_PLAN) == plan.name for tenant in world.live.all(TENANTS))
        count, later = self._counters.report(key, plan.status.tenants, used, world.clock.now())
        conditions = conditions_of(
            world,
            key,
            {ConditionType.ACCEPTED: GOOD, ConditionType.ROLLED_OUT: progress.outcome},
            ready_message="tenants can use this plan",
            previous=plan.status.conditions,
            generation=plan.metadata.generation,
        )
        status = TenantPlanStatus(
            observed_generation=plan.metadata.generation,
            conditions=conditions,
            rollout=_told(plan, progress.status, counted=count != plan.status.tenants),
            tenants=count,
            last_handled_reconcile_at=plan.metadata.annotations.get(ANNOTATION_REQUESTED_AT),
        )
        await write_status(world.management, world.live, key, status)
        times = [world.jitter(world.settings.resync), later, progress.again]
        return Result(requeue_after=min(time for time in times if time is not None))

    async def _wind_up(self, name: str) -> None:
        """The plan is gone: what its tenants have stays, the rest of it goes."""
        self._may_have_slots.pop(name, None)
        await self._slots.sweep(name)
        if self._all_answer():
            await self._revisions.prune(name, self._pinned(name), last=0)

    async def _give_back_slots(self, plan: TenantPlan) -> None:
        """Looked for where there may be some: while the plan has a limit, or had one; and once after a start."""
        limited = plan.spec.max_tenants is not None
        if limited or self._may_have_slots.get(plan.name, True):
            self._may_have_slots[plan.name] = await self._slots.sweep(plan.name) or limited

    def _pinned(self, name: str) -> set[str]:
        """The revisions that records have, in whatever state, and those that stamps name: a record may be lost."""
        entries = self._world.ledger.entries()
        stamped = (
            plan_of(live)
            for target in self._world.targets.all()
            for live in target.live.all(NAMESPACES)
            if (live["metadata"].get("labels") or {}).get(LABEL_MANAGEMENT_ID) == self._world.settings.management_id
        )
        return {
            *(entry.plan.revision for entry in entries if entry.plan is not None and is_on(entry, name)),
            *(plan.revision for plan in stamped if plan is not None and plan.name == name),
        }

    def _all_answer(self) -> bool:
        """Whether the stamps on all clusters are known: there are some, and each answers."""
        names = [body["metadata"]["name"] for body in self._world.live.all(CLUSTERS)]
        targets = [self._world.targets.get(name) for name in names]
        return bool(names) and all(target is not None and target.availability.ok for target in targets)


def _told(plan: TenantPlan, status: RolloutStatus, *, counted: bool) -> RolloutStatus:
    """As long as nothing is under way, the numbers are written no more often than the other counter."""
    former = plan.status.rollout
    if former is None or counted or status.phase != "Complete":
        return status
    return former if (former.phase, former.revision) == (status.phase, status.revision) else status
