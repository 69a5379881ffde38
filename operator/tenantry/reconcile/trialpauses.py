"""Who is not tried now: backups that could not be, and tenants whose trials held a server for long and for nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from tenantry.api.resources import Ref
from tenantry.decide.trial import LEAST_TIME, pause, tenants_pause
from tenantry.ports.world import Clock
from tenantry.reconcile.trials import Finding, Verdict


@dataclass(frozen=True, slots=True)
class Pause:
    """So many times in a row it came to nothing; until then, in monotonic seconds, it is left."""

    tenant: Ref
    count: int
    until: float


class TrialPauses:
    """In memory only: each start begins with none."""

    def __init__(self, clock: Clock, jitter: Callable[[float], float]) -> None:
        self._clock = clock
        self._jitter = jitter
        self._backups: dict[Ref, Pause] = {}
        self._tenants: dict[Ref, Pause] = {}
        self._begun: dict[Ref, float] = {}

    # --- of backups -----------------------------------------------------------------------------------------------
    def put_off(self, backup: Ref, tenant: Ref) -> None:
        """It could not be tried."""
        self._backups[backup] = self._next(self._backups.get(backup), tenant, lambda n: pause(n).total_seconds())

    def end(self, backup: Ref) -> None:
        """It was tried, or is gone."""
        self._backups.pop(backup, None)

    def clear(self) -> None:
        """What stood in the way of backups may not any more. Pauses of tenants stay: they had held up the others."""
        self._backups.clear()

    def backups(self) -> list[tuple[Ref, Ref]]:
        """Those that were put off, with their tenants."""
        return [(backup, each.tenant) for backup, each in self._backups.items()]

    # --- of tenants -----------------------------------------------------------------------------------------------
    def began(self, tenant: Ref) -> None:
        """One of its backups is being tried."""
        self._begun[tenant] = self._clock.monotonic()

    def last_begun(self, tenant: Ref) -> float:
        """When that was last, in monotonic seconds; long before all others where it never was."""
        return self._begun.get(tenant, -math.inf)

    def ended(self, tenant: Ref, finding: Finding) -> None:
        """A trial has ended: one that took long and has found nothing out is followed by none of its tenant for hours.

        Whatever broke it off: an error after hours may be the tenant's own doing as well.
        """
        if finding.verdict != Verdict.NOT_POSSIBLE:
            self._tenants.pop(tenant, None)
        elif finding.spent or finding.seconds >= LEAST_TIME.total_seconds():
            former = self._tenants.get(tenant)
            self._tenants[tenant] = self._next(former, tenant, lambda n: tenants_pause(n).total_seconds())

    def forget_tenants(self, has_backups: Callable[[Ref], bool]) -> None:
        """What is known of tenants that are gone; a pause is sat out first, or new backups would end it."""
        now = self._clock.monotonic()
        for tenant, each in list(self._tenants.items()):
            if each.until <= now and not has_backups(tenant):
                del self._tenants[tenant]
        for tenant in list(self._begun):
            if tenant not in self._tenants and not has_backups(tenant):
                del self._begun[tenant]

    # --- of both --------------------------------------------------------------------------------------------------
    def waits(self, backup: Ref, tenant: Ref) -> bool:
        """Whether a backup is not to be tried now."""
        now = self._clock.monotonic()
        return any(each.until > now for each in (self._backups.get(backup), self._tenants.get(tenant)) if each)

    def _next(self, former: Pause | None, tenant: Ref, seconds: Callable[[int], float]) -> Pause:
        count = former.count + 1 if former is not None else 1
        return Pause(tenant, count, self._clock.monotonic() + self._jitter(seconds(count)))
