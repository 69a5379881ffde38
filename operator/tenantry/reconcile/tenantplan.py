"""TenantPlan: whether a plan is sound, and how many tenants are on it."""

from __future__ import annotations

from tenantry.api.conditions import ConditionType
from tenantry.api.names import ANNOTATION_REQUESTED_AT
from tenantry.api.resources import TENANTS, Ref
from tenantry.api.tenantplan import DEFAULT_PLAN, TenantPlan, TenantPlanStatus
from tenantry.decide.conditions import GOOD
from tenantry.reconcile.platform import Counters, conditions_of
from tenantry.reconcile.result import Result
from tenantry.reconcile.status import write_status
from tenantry.reconcile.world import World


class TenantPlanReconciler:
    """Reconciles TenantPlans. What a plan says reaches its tenants by their own reconciles."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._counters = Counters()

    async def reconcile(self, key: Ref) -> Result:
        """One pass over one TenantPlan."""
        world = self._world
        body = world.live.get(key)
        if body is None:
            return Result()
        plan = TenantPlan.model_validate(body)
        used = sum((tenant["spec"].get("plan") or DEFAULT_PLAN) == plan.name for tenant in world.live.all(TENANTS))
        count, later = self._counters.report(key, plan.status.tenants, used, world.clock.now())
        conditions = conditions_of(
            world,
            key,
            {ConditionType.ACCEPTED: GOOD},
            ready_message="tenants can use this plan",
            previous=plan.status.conditions,
            generation=plan.metadata.generation,
        )
        status = TenantPlanStatus(
            observed_generation=plan.metadata.generation,
            conditions=conditions,
            tenants=count,
            last_handled_reconcile_at=plan.metadata.annotations.get(ANNOTATION_REQUESTED_AT),
        )
        await write_status(world.management, world.live, key, status)
        return Result(requeue_after=later or world.jitter(world.settings.resync))
