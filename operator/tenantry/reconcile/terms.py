"""Terms: which plan a tenant is on and which content of it it has; pinned in its record, so they hold what may come."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.identity import TenantIdentity
from tenantry.api.resources import TENANT_PLANS, Ref
from tenantry.api.tenant import Tenant
from tenantry.api.tenantplan import DEFAULT_PLAN, TenantPlan, TenantPlanSpec
from tenantry.api.tenantrecord import PinnedDeletion, PinnedPlan, TenantRecord
from tenantry.decide.halt import Waiting
from tenantry.decide.workspaces import allows
from tenantry.reconcile.records import swap
from tenantry.reconcile.revisions import Revisions
from tenantry.reconcile.slots import Slots
from tenantry.reconcile.workspace import Workspace
from tenantry.reconcile.world import World


@dataclass(frozen=True, slots=True)
class Terms:
    """What a tenant is given.

    Attributes:
        name: Of the plan; empty for the built-in one.
        spec: The content that it is rendered from.
        pin: What its record is to say.
        limit: How many tenants the workspace may have on the plan; None where it does not say, or is not there.
        note: What people should know of it although all is well; empty for nothing.
    """

    name: str
    spec: TenantPlanSpec
    pin: PinnedPlan
    limit: int | None = None
    note: str = ""


class TermsOfTenants:
    """Finds out the terms of tenants, and lets their records and slots say so."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._revisions = Revisions(world)
        self._slots = Slots(world)

    async def find(self, tenant: Tenant, workspace: Workspace, record: TenantRecord | None) -> Terms:
        """The tenant's terms: what its record pins, as long as the spec means that plan; else the plan as it is now.

        Raises:
            Waiting: PlanNotFound, for one that has nothing pinned.
        """
        name = tenant.spec.plan or DEFAULT_PLAN
        plan = self._usable(name, workspace)
        pinned = record.spec.plan if record is not None else None
        held = self._held(pinned) if pinned is not None and pinned.name == name else None
        if held is not None and plan is None:
            return replace(held, note=_holds_on(name) if held.name else "")
        if held is not None and plan is not None:
            return replace(held, limit=plan.spec.max_tenants)
        if plan is not None:
            pin = PinnedPlan(name=name, revision=await self._revisions.ensure(plan))
            return Terms(name, plan.spec, pin, plan.spec.max_tenants)
        lost = pinned is not None and pinned.name == name
        if not lost and self._means_built_in(tenant):
            return _built_in(PinnedPlan(name=DEFAULT_PLAN))
        # A workspace learns no more of a plan that it may not use than of one that is not there.
        raise Waiting(
            ConditionType.PLACED,
            Reason.PLAN_NOT_FOUND,
            f"spec.plan: there is no TenantPlan {name!r} that this workspace may use",
        )

    def at_deletion(self, tenant: Tenant, workspace: Workspace, record: TenantRecord) -> Terms | None:
        """The terms by which a tenant leaves: those that its record pins, whatever plan its spec names by now.

        None where they can't be told: the content is gone, or the record never said which it is and the plan is gone.
        """
        if record.spec.plan is not None:
            return self._held(record.spec.plan)
        name = tenant.spec.plan or DEFAULT_PLAN
        plan = self._usable(name, workspace)
        if plan is not None:
            return Terms(name, plan.spec, PinnedPlan(name=name))
        return _built_in(PinnedPlan(name=name)) if self._means_built_in(tenant) else None

    async def claim(self, terms: Terms, identity: TenantIdentity) -> None:
        """Let the tenant hold a slot of its plan, where that has a limit: before its record says that it is on it.

        Raises:
            Waiting: PlanFull.
        """
        if terms.limit is not None:
            await self._slots.hold(terms.pin.name, terms.limit, identity)

    async def pin(self, record: TenantRecord, terms: Terms, deletion: PinnedDeletion) -> TenantRecord:
        """Let the record say these terms, and what is to happen at the deletion; written only where it differs.

        Raises:
            Waiting: PlanFull: the former plan holds.
        """
        change: dict[str, Any] = {}
        former = record.spec.plan
        if former != terms.pin:
            # Without a pin it is of a version before this, or was lost and made anew: it has what it has, and counts.
            if former is not None and former.name != terms.pin.name:
                await self.claim(terms, record.identity)
            change["plan"] = terms.pin.model_dump(by_alias=True, mode="json")
        if record.spec.deletion != deletion:
            change["deletion"] = deletion.model_dump(by_alias=True, mode="json")
        if not change:
            return record
        changed = await swap(self._world, record, change)
        if "plan" in change and former is not None:
            self._world.wake.wake(Ref(TENANT_PLANS, "", former.name))  # which gives its slot back
        return changed

    def _held(self, pinned: PinnedPlan) -> Terms | None:
        if not pinned.revision:
            return _built_in(pinned)
        content = self._revisions.read(pinned.name, pinned.revision)
        return Terms(pinned.name, content, pinned) if content is not None else None

    def _means_built_in(self, tenant: Tenant) -> bool:
        return tenant.spec.plan is None and self._world.live.get(Ref(TENANT_PLANS, "", DEFAULT_PLAN)) is None

    def _usable(self, name: str, workspace: Workspace) -> TenantPlan | None:
        body = self._world.live.get(Ref(TENANT_PLANS, "", name))
        plan = TenantPlan.model_validate(body) if body is not None else None
        return plan if plan is not None and allows(plan.spec.allowed_workspaces, workspace.labels) else None


def _built_in(pin: PinnedPlan) -> Terms:
    """What a tenant has that names no plan, where there is none called `default`."""
    return Terms("", TenantPlanSpec(), pin)


def _holds_on(name: str) -> str:
    return (
        f"{Reason.PLAN_NOT_FOUND}: there is no TenantPlan {name!r} any more that this workspace may use; what it gave "
        "last holds"
    )
