"""When a tenant's sync token is made and changed, and when the former one ends: one write of one Secret each."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from tenantry.decide.rotation import is_forced


class Change(StrEnum):
    """What is to be done next."""

    NOTHING = "Nothing"
    MAKE = "Make"
    ROTATE = "Rotate"
    REPLACE = "Replace"
    """As ROTATE, and the former one ends at once."""
    END_FORMER = "EndFormer"


@dataclass(frozen=True, slots=True)
class SyncToken:
    """The token as the Secret has it; times by the target's clock.

    Attributes:
        previous: The former one, which is still valid; empty where there is none.
        rotated_at: When it was last changed; None where that is not known.
        handled: The last request that was done.
    """

    value: str = field(repr=False)
    previous: str = field(default="", repr=False)
    rotated_at: datetime | None = None
    handled: str | None = None


@dataclass(frozen=True, slots=True)
class TokenStep:
    """The next change, and when to look again.

    Attributes:
        pending: Why a change that was asked for waits; empty where nothing is in the way.
        again: When there is something to do; None for not before something is asked for.
    """

    change: Change
    pending: str = ""
    again: datetime | None = None


def next_change(have: SyncToken | None, request: str | None, grace: timedelta, now: datetime) -> TokenStep:
    """What comes next.

    Args:
        have: None where there is no token, or none that makes sense.
        request: What is asked for and was not done yet; None for nothing.
        grace: How long a former token stays valid.
        now: The time, by the target's clock.
    """
    if have is None:
        return TokenStep(Change.MAKE if request is not None else Change.NOTHING)
    ends = have.rotated_at + grace if have.previous and have.rotated_at is not None else now
    if request is not None and is_forced(request):
        return TokenStep(Change.REPLACE)
    if have.previous and ends > now:
        told = f"the former sync token is still in its grace period, until {ends:%Y-%m-%dT%H:%M:%SZ}"
        return TokenStep(Change.NOTHING, told if request is not None else "", again=ends)
    if request is not None:
        return TokenStep(Change.ROTATE, again=now + grace)
    return TokenStep(Change.END_FORMER if have.previous else Change.NOTHING)


def changed(have: SyncToken | None, step: TokenStep, fresh: str, request: str | None, now: datetime) -> SyncToken:
    """The token after a change.

    Args:
        have: As it was.
        step: What is to be done; not NOTHING.
        fresh: A new value.
        request: What was asked for.
        now: The time, by the target's clock, in whole seconds.
    """
    if step.change == Change.END_FORMER and have is not None:
        return SyncToken(have.value, "", have.rotated_at, have.handled)
    former = have.value if have is not None and step.change == Change.ROTATE else ""
    return SyncToken(fresh, former, now, request)
