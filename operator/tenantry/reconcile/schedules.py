"""The schedules of tenants: what the passes over them found that they are to be, for the one that acts by the clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from tenantry.api.backuppolicy import KeptBackups, TenantBackups
from tenantry.api.identity import TenantIdentity
from tenantry.api.resources import Ref
from tenantry.decide.backuppolicy import spread
from tenantry.decide.retention import Retention
from tenantry.decide.schedule import Schedule, ScheduleError, jitter, next_after, parse


@dataclass(frozen=True, slots=True)
class Scheduled:
    """One tenant's schedule, ready to be asked.

    Attributes:
        tenant: Whose.
        identity: Of the record that it has now.
        store: The BackupStore that its Cluster names.
        server: The DatabaseServer that its database is on.
        delay: How long after its slots its backups begin.
        since: The time of the first slot that counts, where nothing was backed up yet.
    """

    tenant: Ref
    identity: TenantIdentity
    store: str
    server: str
    schedule: Schedule
    zone: tzinfo
    delay: timedelta
    retention: Retention
    since: datetime
    suspended: bool

    def next_run(self, now: datetime) -> datetime | None:
        """When the next backup is due; None for never."""
        slot = next_after(self.schedule, now - self.delay, self.zone)
        return slot + self.delay if slot is not None else None


class Schedules:
    """By tenant. In memory only: each is found anew by the first pass after a start."""

    def __init__(self) -> None:
        self._by_tenant: dict[Ref, Scheduled] = {}
        self._look_at: dict[Ref, datetime] = {}

    def set(self, scheduled: Scheduled) -> None:
        """What a pass found."""
        if self._by_tenant.get(scheduled.tenant) != scheduled:
            self._look_at.pop(scheduled.tenant, None)
        self._by_tenant[scheduled.tenant] = scheduled

    def forget(self, tenant: Ref) -> None:
        """It has none any more."""
        self._by_tenant.pop(tenant, None)
        self._look_at.pop(tenant, None)

    def get(self, tenant: Ref) -> Scheduled | None:
        """One tenant's."""
        return self._by_tenant.get(tenant)

    def all(self) -> list[Scheduled]:
        """All tenants'."""
        return list(self._by_tenant.values())

    def to_be_looked_at(self, now: datetime) -> list[Scheduled]:
        """Those whose time has come, the longest ago first; not the suspended ones."""
        due = [
            (self._look_at.get(each.tenant, each.since), str(each.tenant), each)
            for each in self._by_tenant.values()
            if not each.suspended and self._look_at.get(each.tenant, now) <= now
        ]
        return [each for _, _, each in sorted(due, key=lambda found: found[:2])]

    def look_again(self, tenant: Ref, at: datetime | None) -> None:
        """Nothing is due before that; None: never."""
        self._look_at[tenant] = at if at is not None else datetime.max.replace(tzinfo=UTC)

    def look_soon(self) -> None:
        """The clock went back: all that was worked out may be wrong."""
        self._look_at.clear()


def schedule_of(
    policy: TenantBackups, tenant: Ref, identity: TenantIdentity, where: tuple[str, str], since: datetime, now: datetime
) -> Scheduled:
    """A schedule from its text.

    Args:
        policy: With a schedule.
        tenant: Whose.
        identity: Of its record.
        where: BackupStore and DatabaseServer.
        since: When the tenant was made.
        now: The time.

    Raises:
        ScheduleError: it is none, or there is no such zone; names the field.
    """
    try:
        schedule = parse(policy.schedule or "")
    except ScheduleError as error:
        raise ScheduleError(f"backup.schedule: {error}") from error
    zone = zone_named(policy.time_zone, "backup.timeZone")
    return Scheduled(
        tenant=tenant,
        identity=identity,
        store=where[0],
        server=where[1],
        schedule=schedule,
        zone=zone,
        delay=jitter(identity.tenant_hash, spread(schedule, since, zone)),
        retention=_retention(policy.retention),
        since=min(since, now),
        suspended=policy.suspend,
    )


def zone_named(name: str | None, field: str) -> tzinfo:
    """A time zone by its name; without one UTC.

    Raises:
        ScheduleError: there is none; names the field.
    """
    if name in (None, "UTC"):
        return UTC
    try:
        return ZoneInfo(str(name))
    except (OSError, ValueError, KeyError) as error:
        raise ScheduleError(f"{field}: there is no time zone {name!r}; use one such as Europe/Berlin") from error


def _retention(kept: KeptBackups | None) -> Retention:
    if kept is None:
        return Retention()
    return Retention(
        last=kept.keep_last,
        hourly=kept.keep_hourly,
        daily=kept.keep_daily,
        weekly=kept.keep_weekly,
        monthly=kept.keep_monthly,
    )
