"""Which of a plan's numbered slots a tenant may claim, so that no more are held than the plan has for a workspace."""

from __future__ import annotations

from collections.abc import Collection, Container
from itertools import count


def free_slot(held: Collection[int], limit: int) -> int | None:
    """The number that a new tenant may claim; None where the plan is full.

    Always the lowest one that is free: then any number of operators that look and claim at the same time, each by what
    it saw, never go over the limit together, also where some hold numbers above it from when it was higher. Whoever has
    seen less than there is takes a number that is taken, and is refused.
    """
    return any_slot(held) if len(set(held)) < limit else None


def any_slot(held: Container[int]) -> int:
    """The lowest number that nobody holds: for a tenant that was there before the plan had a limit, or a lower one."""
    return next(number for number in count() if number not in held)
