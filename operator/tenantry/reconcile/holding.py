"""Holding: whether a deletion may begin or waits to be confirmed (rule 9), counted so that restarts forget none."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from tenantry.api.base import parse_duration
from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.names import (
    ANNOTATION_CONFIRM_DELETION,
    TENANT_FINALIZER,
)
from tenantry.api.resources import CUSTOM_RESOURCE_DEFINITIONS, NAMESPACES, TENANTS, Ref
from tenantry.api.tenant import Tenant
from tenantry.api.tenantrecord import RecordState, TenantRecord
from tenantry.decide.deletion import Departure, Gone, held_message, parse_time, stopped, time_text
from tenantry.decide.halt import Waiting
from tenantry.ports.kube import NotFoundError
from tenantry.ports.world import Json
from tenantry.reconcile.memory import Memory
from tenantry.reconcile.records import swap
from tenantry.reconcile.world import World

logger = logging.getLogger(__name__)

TENANT_KIND: Final = Ref(CUSTOM_RESOURCE_DEFINITIONS, "", "tenants.tenantry.io")
FRESH: Final = 1.0
"""Seconds for which a count of the deletions is good enough: each waits longer than that for others to come."""
HELD_RETRY: Final = 300.0


class SettlingError(Exception):
    """A deletion that has just been asked for waits a moment for others.

    Attributes:
        seconds: How long.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class Holding:
    """Says which deletions may begin. One for all reconciles, as it remembers its last count for a moment."""

    def __init__(self, world: World, memory: Memory) -> None:
        self._world = world
        self._memory = memory
        self._counted: tuple[float, list[Departure]] | None = None

    async def check(self, tenant: Tenant, record: TenantRecord) -> TenantRecord:
        """That the deletion of a tenant whose record is Active may begin; the record as it then is.

        A deletion that was held once waits until somebody confirms it, however few they have become.

        Raises:
            Waiting: Protected, DeletionHeld.
            SettlingError: it may be one of many that are still coming.
        """
        confirmed = tenant.metadata.annotations.get(ANNOTATION_CONFIRM_DELETION) == tenant.metadata.uid
        if tenant.spec.deletion.protected and not confirmed:
            raise _waiting(
                Reason.PROTECTED,
                "nothing is touched: spec.deletion.protected is true. Set it to false to let the deletion go on, or "
                "let the tenant run on with `tenantry deletions abort`",
            )
        if confirmed or ends_by_itself(tenant, self._world.clock.now()):
            return record
        if record.spec.held_since is not None:
            raise _waiting(Reason.DELETION_HELD, held_message(record.spec.message or "it was one of many at once"))
        self._wait_for_others(tenant)
        why = await self._reason(tenant)
        if why is None:
            return record
        await swap(self._world, record, {"heldSince": time_text(self._world.clock.now()), "message": why})
        raise _waiting(Reason.DELETION_HELD, held_message(why))

    def _wait_for_others(self, tenant: Tenant) -> None:
        rule, now = self._world.settings.stop, self._world.clock.now()
        asked = datetime.fromisoformat(tenant.metadata.deletion_timestamp or tenant.metadata.creation_timestamp)
        left = (asked + rule.settle - now).total_seconds()
        if (rule.count or rule.share < 1) and 0 < left <= rule.settle.total_seconds():
            raise SettlingError(left)

    async def _reason(self, tenant: Tenant) -> str | None:
        rule = self._world.settings.stop
        above = Gone()
        if rule.terminating:
            workspace = self._world.live.get(Ref(NAMESPACES, "", tenant.workspace))
            above = Gone(
                workspace=workspace is None or "deletionTimestamp" in workspace["metadata"],
                kind=await self._kind_is_going(),
            )
        departures: list[Departure] = []
        staying = 0
        if rule.count or rule.share < 1:
            departures = await self._departures()
            staying = sum(
                not body["metadata"].get("deletionTimestamp")
                for body in self._world.live.all(TENANTS)
                if body["metadata"]["namespace"] == tenant.workspace
            )
        return stopped(rule, tenant.workspace, departures, staying, above, self._world.clock.now())

    async def _kind_is_going(self) -> bool:
        try:
            body = await self._world.management.get(TENANT_KIND)
        except NotFoundError:
            return True
        return "deletionTimestamp" in body["metadata"]

    async def _departures(self) -> list[Departure]:
        now = self._world.clock.monotonic()
        if self._counted is not None and now - self._counted[0] < FRESH:
            return self._counted[1]
        found = [*self._waiting(), *self._removed(), *self._begun(), *await self._memory.departures()]
        self._counted = (now, found)
        return found

    def _waiting(self) -> Iterator[Departure]:
        """Deletions that were asked for and have not begun."""
        for body in self._world.live.all(TENANTS):
            if not body["metadata"].get("deletionTimestamp"):
                continue
            if TENANT_FINALIZER not in body["metadata"].get("finalizers", ()):
                continue
            entry = self._world.ledger.of_tenant(_ref(body))
            if entry is None or entry.state != RecordState.ACTIVE:
                continue
            if not ends_by_itself(Tenant.model_validate(body), self._world.clock.now()):
                # One that is held counts from then on as one that began: it does not hold up others for ever.
                held_since = parse_time(entry.held_since)
                yield Departure(body["metadata"]["namespace"], body["metadata"]["name"], held_since)

    def _removed(self) -> Iterator[Departure]:
        """Deletions that the API server did not let wait, and that have not begun."""
        for tenant in self._world.endings.tenants():
            entry = self._world.ledger.of_tenant(tenant.ref)
            if entry is None or (entry.tenant_uid, entry.state) != (tenant.metadata.uid, RecordState.ACTIVE):
                continue
            if not ends_by_itself(tenant, self._world.clock.now()):
                yield Departure(tenant.workspace, tenant.name, parse_time(entry.held_since))

    def _begun(self) -> Iterator[Departure]:
        """Deletions whose records say that they began."""
        for entry in self._world.ledger.leaving():
            if not entry.expired:
                yield Departure(entry.tenant.namespace, entry.tenant.name, parse_time(entry.deleted_at))


def expiry_of(tenant: Tenant) -> datetime | None:
    """When an ephemeral tenant ends by itself."""
    if tenant.spec.ephemeral is None:
        return None
    created = datetime.fromisoformat(tenant.metadata.creation_timestamp)
    return created + parse_duration(tenant.spec.ephemeral.ttl)


def ends_by_itself(tenant: Tenant, now: datetime) -> bool:
    """Whether a tenant was ephemeral and its time is over."""
    expiry = expiry_of(tenant)
    return expiry is not None and expiry <= now + timedelta(seconds=1)


def _ref(body: Json) -> Ref:
    return Ref(TENANTS, body["metadata"]["namespace"], body["metadata"]["name"])


def _waiting(reason: Reason, message: str, *, retry_after: float = HELD_RETRY) -> Waiting:
    return Waiting(ConditionType.PLACED, reason, message, retry_after=retry_after)
