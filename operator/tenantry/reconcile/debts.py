"""What dead dumps may have left on servers that were away: when it is looked for again, and when no more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tenantry.api.resources import Ref

FIRST_SECONDS: Final = 10.0
LONGEST_SECONDS: Final = 600.0
LIFE_SECONDS: Final = 24 * 3600.0
"""What is left opens nothing for long, and goes with the tenant's database or its next dump at the latest."""


@dataclass(frozen=True, slots=True)
class Debt:
    """One TenantBackup's; times in monotonic seconds.

    Attributes:
        since: When it came to be.
        pause: In seconds, before the next attempt but one.
        due: When it is to be tried.
    """

    since: float
    pause: float
    due: float


class Debts:
    """By TenantBackup. In memory only: what a process that died has owed is left to the next dump of the tenant."""

    def __init__(self) -> None:
        self._debts: dict[Ref, Debt] = {}

    def owe(self, key: Ref, now: float) -> None:
        """Something may have been left, and is due at once."""
        self._debts[key] = Debt(now, FIRST_SECONDS, now)

    def owes(self, key: Ref) -> bool:
        """Whether something may have been left."""
        return key in self._debts

    def seconds_left(self, key: Ref, now: float) -> float:
        """Until it is due; 0 if it is, or if nothing is owed."""
        debt = self._debts.get(key)
        return max(debt.due - now, 0.0) if debt is not None else 0.0

    def put_off(self, key: Ref, now: float) -> float | None:
        """It could not be cleared away: the seconds until it is tried again; None where it was tried long enough."""
        debt = self._debts.get(key)
        if debt is None or now - debt.since >= LIFE_SECONDS:
            return None
        self._debts[key] = Debt(debt.since, min(2 * debt.pause, LONGEST_SECONDS), now + debt.pause)
        return debt.pause

    def forget(self, key: Ref) -> None:
        """It was cleared away, or its TenantBackup is gone."""
        self._debts.pop(key, None)
