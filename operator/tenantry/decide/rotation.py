"""When a tenant's credentials change, and when the former ones are locked: one step at a time between two logins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

FORCE: Final = "force"
"""What the value of the annotation rotate-credentials starts with to cut off whoever uses the former login."""
MAX_REQUEST: Final = 128
LOOK_AGAIN: Final = timedelta(minutes=1)
"""How often it is looked whether a former login is still in use, once its grace period is over."""


class Move(StrEnum):
    """What is to be done next."""

    NOTHING = "Nothing"
    ROTATE = "Rotate"
    LOCK = "Lock"


@dataclass(frozen=True, slots=True)
class Logins:
    """What is known of a tenant's two logins; times by one clock, the database server's.

    Attributes:
        created_at: When the credentials were first made.
        rotated_at: When they were last changed; None for never.
        former_open: The login that is not in use can log in.
        former_clients: Who has a session of it, in words.
        former_sessions: How many.
    """

    created_at: datetime
    rotated_at: datetime | None
    former_open: bool
    former_sessions: int = 0
    former_clients: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Schedule:
    """What the tenant asks for.

    Attributes:
        request: The annotation's value, if it was not yet done; None if nothing is asked for.
        interval: None for no rotation by itself.
        grace: How long the former login stays open.
        cut: The last rotation was a forced one: its former login is not waited for, whoever uses it.
    """

    request: str | None
    interval: timedelta | None
    grace: timedelta
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """The next move, and when to look again.

    Attributes:
        pending: Why a rotation that is due, or a lock, can't be made yet; empty where nothing is in the way.
        again: When there may be something to do; None for not before something is asked for.
    """

    move: Move
    pending: str = ""
    again: datetime | None = None


def request_of(annotation: str | None, handled: str | None) -> str | None:
    """The request that is not done yet; cut to 128 characters, for it is kept on the Secret when it is."""
    wanted = annotation[:MAX_REQUEST] if annotation else None
    return wanted if wanted != handled else None


def is_forced(request: str | None) -> bool:
    """Whether a request is one to cut off whoever uses the former login."""
    return request is not None and request.startswith(FORCE)


def concerns(schedule: Schedule, rotated_at: datetime | None) -> bool:
    """Whether anything has to be asked of the server: not of a tenant that never rotates."""
    return schedule.request is not None or schedule.interval is not None or rotated_at is not None


def next_step(logins: Logins, schedule: Schedule, now: datetime) -> Step:
    """What comes next.

    A login is never opened for a rotation while its former users may still need it, unless that is forced; and it is
    locked only after the grace period, when nobody has a session of it.
    """
    due_at = _due_at(logins, schedule)
    due = schedule.request is not None or (due_at is not None and due_at <= now)
    grace_over = logins.rotated_at is None or logins.rotated_at + schedule.grace <= now
    in_use = logins.former_open and (not grace_over or logins.former_sessions > 0)
    if due and (is_forced(schedule.request) or not in_use):
        return Step(Move.ROTATE)
    if not logins.former_open:
        return Step(Move.NOTHING, again=due_at)
    if schedule.cut:
        return Step(Move.LOCK, again=due_at)
    if not grace_over and logins.rotated_at is not None:
        until = logins.rotated_at + schedule.grace
        pending = f"the former login is still in its grace period, until {until:%Y-%m-%dT%H:%M:%SZ}" if due else ""
        return Step(Move.NOTHING, pending, again=until)
    if logins.former_sessions:
        who = ", ".join(logins.former_clients) or "unknown"
        return Step(
            Move.NOTHING,
            f"the former login is still in use by {logins.former_sessions} sessions ({who}): let these clients read "
            f"the Secret again, or cut them off with a value of the annotation that starts with {FORCE}",
            again=now + LOOK_AGAIN,
        )
    return Step(Move.LOCK, again=due_at)


def _due_at(logins: Logins, schedule: Schedule) -> datetime | None:
    if schedule.interval is None:
        return None
    return (logins.rotated_at or logins.created_at) + schedule.interval
