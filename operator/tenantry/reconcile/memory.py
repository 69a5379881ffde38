"""Memory: what of past deletions no record tells any more, in a ConfigMap of the operator's namespace."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from tenantry.api.names import DELETIONS_CONFIG_MAP, LABEL_MANAGED_BY, MANAGED_BY
from tenantry.api.resources import CONFIG_MAPS, TENANTS, Ref
from tenantry.api.tenant import Tenant
from tenantry.api.tenantrecord import TenantRecord
from tenantry.decide.deletion import Departure, parse_time, time_text
from tenantry.ports.kube import AlreadyExistsError, NotFoundError
from tenantry.ports.world import Json
from tenantry.reconcile.world import World

EXPIRED: Final = "expired."
MOST: Final = 2000
"""Of both together: an object has room for about 4,000, and the oldest say least."""
COMES_BACK: Final = timedelta(minutes=10)
"""Who re-creates an ephemeral tenant this soon after its end is a machine that makes what git says."""


class Memory:
    """Deletions without a window, and ends of ephemeral tenants; read once, written as they come.

    The key of a deletion is its record's name, of an end `expired.<workspace>.<tenant>`; the value of both is
    `<time> <workspace> <tenant>`. One object for all reconciles.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._ref = Ref(CONFIG_MAPS, world.settings.namespace, DELETIONS_CONFIG_MAP)
        self._known: dict[str, str] | None = None

    async def departures(self) -> list[Departure]:
        """The deletions that were noted."""
        known = await self._load()
        found = (_parsed(value) for key, value in known.items() if not key.startswith(EXPIRED))
        return [Departure(workspace, tenant, moment) for moment, workspace, tenant in found if moment is not None]

    async def note_deletion(self, record: TenantRecord) -> None:
        """This one is about to be destroyed, soon after its deletion began; safe to repeat."""
        await self._note(record.name, record.spec.workspace, record.spec.tenant)

    async def note_end(self, tenant: Tenant) -> None:
        """The time of this ephemeral tenant is over; safe to repeat."""
        await self._note(_end_of(tenant), tenant.workspace, tenant.name)

    async def is_echo(self, tenant: Tenant) -> bool:
        """Whether an ephemeral Tenant was made again by a machine right after its end: it would be so for ever."""
        if tenant.spec.ephemeral is None:
            return False
        value = (await self._load()).get(_end_of(tenant))
        ended = _parsed(value)[0] if value is not None else None
        created = datetime.fromisoformat(tenant.metadata.creation_timestamp)
        # Both times have whole seconds, and the end was noted before the former object was deleted.
        return ended is not None and ended <= created < ended + COMES_BACK

    async def _note(self, key: str, workspace: str, tenant: str) -> None:
        known = await self._load()
        if key in known and not key.startswith(EXPIRED):
            return
        old = [name for name, value in known.items() if self._is_old(name, value)]
        if len(known) >= MOST:
            old += sorted(known, key=lambda name: known[name])[: len(known) - MOST + 1]
        value = f"{time_text(self._world.clock.now())} {workspace} {tenant}"
        await self._write({**dict.fromkeys(old), key: value})
        for name in old:
            known.pop(name, None)
        known[key] = value

    def _is_old(self, key: str, value: str) -> bool:
        """An end is remembered as long as a Tenant of that name is there: it may be the one that came back."""
        moment, workspace, name = _parsed(value)
        now = self._world.clock.now()
        if key.startswith(EXPIRED):
            tenant = Ref(TENANTS, workspace, name)
            return (moment is None or moment + COMES_BACK < now) and self._world.live.get(tenant) is None
        return moment is None or moment + self._world.settings.stop.span < now

    async def _write(self, data: dict[str, str | None]) -> None:
        management = self._world.management
        try:
            await management.merge_patch(self._ref, {"data": data})
        except NotFoundError:
            metadata = {
                "name": self._ref.name,
                "namespace": self._ref.namespace,
                "labels": {LABEL_MANAGED_BY: MANAGED_BY},
            }
            kept = {name: value for name, value in data.items() if value is not None}
            body: Json = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": kept}
            try:
                await management.create(body)
            except AlreadyExistsError:
                await management.merge_patch(self._ref, {"data": data})

    async def _load(self) -> dict[str, str]:
        if self._known is None:
            try:
                body = await self._world.management.get(self._ref)
            except NotFoundError:
                body = {}
            self._known = dict(body.get("data") or {})
        return self._known


def _end_of(tenant: Tenant) -> str:
    return f"{EXPIRED}{tenant.workspace}.{tenant.name}"


def _parsed(value: str) -> tuple[datetime | None, str, str]:
    """Time, workspace and tenant; None and nothing for what was not written by us."""
    moment, workspace, tenant = [*value.split(" "), "", "", ""][:3]
    return parse_time(moment), workspace, tenant
