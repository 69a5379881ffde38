"""Slots: how many tenants a workspace may have of a plan, held from before the record is made until it is gone."""

from __future__ import annotations

import logging
from typing import Final

from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.identity import TenantIdentity
from tenantry.api.names import ANNOTATION_TENANT_ID, CLAIM_SLOT, LABEL_CLAIM, LABEL_PLAN
from tenantry.api.resources import LEASES, NAMESPACES, TENANT_RECORDS, TENANTS, Ref
from tenantry.api.tenantplan import DEFAULT_PLAN
from tenantry.api.tenantrecord import TenantRecord
from tenantry.decide.halt import Waiting
from tenantry.decide.slots import any_slot, free_slot
from tenantry.desired.slots import plan_label, slot, slot_prefix
from tenantry.ports.kube import AlreadyExistsError, NotFoundError
from tenantry.ports.world import Json
from tenantry.reconcile.ledger import Entry
from tenantry.reconcile.world import World

logger = logging.getLogger(__name__)

TRIES: Final = 20
"""How often a slot is looked for that somebody else then was quicker to claim."""
FULL_RETRY: Final = 30.0


class Slots:
    """The slots of plans. Read from the API server each time: a cache would say what was, and claims decide what is."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def hold(self, plan: str, limit: int, identity: TenantIdentity) -> None:
        """Let a tenant have a slot of the plan, if it has none: right before its record says that it is on it.

        Tenants that were on the plan before it had a limit get theirs first, for they count.

        Raises:
            Waiting: PlanFull.
        """
        for _ in range(TRIES):
            held = await self._held(plan, identity.workspace_uid)
            if identity.record in held.values():
                return
            try:
                for older in self._on_plan(plan, identity.workspace_uid):
                    if older.name != identity.record and older.name not in held.values():
                        missing = any_slot(held)
                        await self._claim(plan, missing, older.identity)
                        held[missing] = older.name
                number = free_slot(held, limit)
                if number is None:
                    raise _full(plan, limit, len(held))
                await self._claim(plan, number, identity)
            except AlreadyExistsError:
                continue  # another operator was quicker: look again at what is left
            return
        raise _full(plan, limit, limit)

    async def sweep(self, plan: str) -> bool:
        """Give back the slots that nobody can claim any more by right; whether others are held.

        A slot without a record is kept while its Tenant is there and wants the plan: the record may be about to come.
        """
        swept = held = False
        for lease in await self._all(plan):
            if await self._is_needed(plan, lease):
                held = True
                continue
            metadata = lease["metadata"]
            ref = Ref(LEASES, self._world.settings.namespace, metadata["name"])
            await self._world.management.delete(ref, uid=metadata["uid"])
            logger.info("slot of plan %s given back by %s", plan, lease["spec"].get("holderIdentity"))
            swept = True
        if swept:
            self._wake_waiting(plan)
        return held

    async def _held(self, plan: str, workspace_uid: str) -> dict[int, str]:
        """The records that hold a slot, by its number."""
        prefix, held = slot_prefix(plan, workspace_uid), {}
        for lease in await self._all(plan):
            name = lease["metadata"]["name"]
            if name.startswith(prefix) and name[len(prefix) :].isdecimal():
                held[int(name[len(prefix) :])] = str(lease["spec"].get("holderIdentity") or "")
        return held

    async def _all(self, plan: str) -> list[Json]:
        labels = f"{LABEL_CLAIM}={CLAIM_SLOT},{LABEL_PLAN}={plan_label(plan)}"
        listing = await self._world.management.list(LEASES, namespace=self._world.settings.namespace, labels=labels)
        return listing.items

    async def _claim(self, plan: str, number: int, identity: TenantIdentity) -> None:
        await self._world.management.create(slot(self._world.settings.namespace, plan, number, identity))

    def _on_plan(self, plan: str, workspace_uid: str) -> list[TenantRecord]:
        entries = self._world.ledger.entries()
        names = [entry.record for entry in entries if entry.workspace_uid == workspace_uid and is_on(entry, plan)]
        bodies = (self._world.live.get(Ref(TENANT_RECORDS, "", name)) for name in names)
        return [TenantRecord.model_validate(body) for body in bodies if body is not None]

    async def _is_needed(self, plan: str, lease: Json) -> bool:
        """By the record or, while none is on the plan, by the Tenant; as the API server says, not only a watch.

        A record that does not say its plan was lost and made anew. Where there is a namespace without its record, that
        is about to happen, and its tenant may be one that can still be had back.
        """
        holder = str(lease["spec"].get("holderIdentity") or "-")
        record = Ref(TENANT_RECORDS, "", holder)
        body = self._world.live.get(record) or await self._read(record)
        if body is not None and (body["spec"].get("plan") or {"name": plan})["name"] == plan:
            return True
        annotations = lease["metadata"].get("annotations") or {}
        workspace, _, rest = annotations.get(ANNOTATION_TENANT_ID, "").partition("_")
        name, _, tenant_hash = rest.partition("_")
        if not workspace or not name:
            return False
        if body is None and self._has_namespace(tenant_hash):
            return True
        ref = Ref(TENANTS, workspace, name)
        entry = self._world.ledger.of_tenant(ref)
        if entry is not None and entry.record != holder:
            return False  # it has begun afresh
        tenant = await self._read(ref)
        if tenant is None or tenant["metadata"].get("deletionTimestamp"):
            return False
        return bool((tenant["spec"].get("plan") or DEFAULT_PLAN) == plan)

    def _has_namespace(self, tenant_hash: str) -> bool:
        targets = self._world.targets.all()
        return any(live["kind"] == NAMESPACES.kind for target in targets for live in target.live.of_tenant(tenant_hash))

    async def _read(self, ref: Ref) -> Json | None:
        try:
            return await self._world.management.get(ref)
        except NotFoundError:
            return None

    def _wake_waiting(self, plan: str) -> None:
        """Those that want the plan and are not on it."""
        for body in self._world.live.all(TENANTS):
            metadata = body["metadata"]
            ref = Ref(TENANTS, metadata["namespace"], metadata["name"])
            entry = self._world.ledger.of_tenant(ref)
            if (body["spec"].get("plan") or DEFAULT_PLAN) == plan and (entry is None or not is_on(entry, plan)):
                self._world.wake.wake(ref)


def is_on(entry: Entry, plan: str) -> bool:
    """Whether a record, in whatever state, is on a plan."""
    return entry.plan is not None and entry.plan.name == plan


def _full(plan: str, limit: int, held: int) -> Waiting:
    return Waiting(
        ConditionType.PLACED,
        Reason.PLAN_FULL,
        f"spec.plan: plan {plan!r} has maxTenants: {limit} for a workspace, and this one's tenants hold {held}; "
        "deleted ones count until they are purged. Delete one, choose another plan, or have the platform team raise it",
        retry_after=FULL_RETRY,
    )
