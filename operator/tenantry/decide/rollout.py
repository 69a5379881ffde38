"""How a change of a plan reaches its tenants: all at once, or in waves that stop at the first one that gets worse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

WAVES_FROM: Final = 20
"""With so many tenants, a plan that does not say how is rolled out in waves."""
CANARY_PERCENT: Final = 5
SECOND_PERCENT: Final = 25


class Health(StrEnum):
    """What the operator itself last found out about a tenant; never read from a status."""

    READY = "Ready"
    WAITING = "Waiting"
    STALLED = "Stalled"
    IDLE = "Idle"
    """Suspended: nothing can be learned from it, and it is neither waited for nor counted as a proof."""


class Phase(StrEnum):
    """How far a rollout is."""

    CANARY = "Canary"
    WAVES = "Waves"
    PAUSED = "Paused"
    COMPLETE = "Complete"


@dataclass(frozen=True, slots=True)
class Pace:
    """How patient a rollout is.

    Attributes:
        settle: Seconds for which a tenant has to have been Ready on the new revision to be proof of it.
        patience: Seconds after which a tenant that was Ready, and is not on the new revision, counts as failed.
    """

    settle: float = 60.0
    patience: float = 300.0


@dataclass(frozen=True, slots=True)
class Member:
    """One tenant of a plan.

    Attributes:
        record: The name of its record.
        updated: It has the plan's present revision.
        rolled_out: It got its revision by a rollout; else it began with it, or came from another plan.
        was_ready: It was Ready when it got it: only such a tenant proves something, or fails.
        health: On the revision that it has; None while that is not known.
        seconds: For how long it has been so; where it is not Ready and was never proof: since it got the revision.
    """

    record: str
    updated: bool
    rolled_out: bool = False
    was_ready: bool = False
    health: Health | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Step:
    """What a rollout does next.

    Attributes:
        update: The records that get the present revision now.
        updated: How many have it, before that.
        stop: Why it stops now, to be written down; empty where it does not, or has been stopped before.
        proves: Whether those that get it are watched; else it is not even written down how they were before.
    """

    phase: Phase
    update: tuple[str, ...]
    updated: int
    total: int
    message: str
    stop: str = ""
    proves: bool = True


def goes_at_once(rollout_type: str | None, members: Sequence[Member], *, paused: bool) -> bool:
    """Whether all tenants get the present revision at once.

    A rollout that has begun in waves goes on so where the plan does not say otherwise, however few tenants are left.
    """
    if rollout_type is not None:
        return rollout_type == "Immediate"
    underway = any(m.updated and m.rolled_out for m in members) and not all(m.updated for m in members)
    return len(members) < WAVES_FROM and not underway and not paused


def advance(members: Sequence[Member], pace: Pace, *, at_once: bool, paused: str = "", resumed: bool = False) -> Step:
    """The next step of a rollout: safe to be worked out again at any point of it.

    Args:
        members: All tenants of the plan that are to follow it.
        pace: How patient it is.
        at_once: See `goes_at_once`.
        paused: Why it was stopped; empty where it was not.
        resumed: Somebody said that it goes on in spite of tenants that fail on this revision.
    """
    pending = sorted((m for m in members if not m.updated), key=_order)
    # Who is suspended on it has left the wave: else a workspace could prove a canary of its own by suspending it.
    reached = [m for m in members if m.updated and m.rolled_out and m.health is not Health.IDLE]
    updated, total = len(members) - len(pending), len(members)
    if not pending:
        return Step(Phase.COMPLETE, (), updated, total, "every tenant has the plan's present content")
    if at_once:
        batch = tuple(m.record for m in pending)
        return Step(Phase.WAVES, batch, updated, total, "every tenant gets it at once", proves=False)
    failed = [m for m in reached if _failed(m, pace)]
    canary, second, last = shares(len(pending) + len(reached))
    if not resumed and (failed or paused):
        why = paused or f"{failed[0].record} was Ready and is {_described(failed[0])} on the new revision"
        return Step(Phase.PAUSED, (), updated, total, why, stop="" if paused else why)
    unproven = [m for m in reached if m.was_ready and m not in failed and not _proven(m, pace)]
    begun = len(reached) if unproven else len(reached) + 1  # what has begun is filled up, nothing more
    share = next(size for size in (canary, second, last) if size >= begun)
    batch = tuple(m.record for m in pending[: share - len(reached)])
    phase = Phase.CANARY if share <= canary else Phase.WAVES
    message = f"{len(unproven)} tenants have yet to be Ready on it for {pace.settle:g} s" if unproven else ""
    return Step(phase, batch, updated, total, message)


def shares(population: int) -> tuple[int, int, int]:
    """How many of so many tenants (one at least) may have the new revision at the end of each wave."""
    canary = max(1, population * CANARY_PERCENT // 100)
    return canary, max(canary, population * SECOND_PERCENT // 100), population


def _order(member: Member) -> tuple[bool, str]:
    """Those that can prove something first, and the same ones each time: records end with their tenant's hash."""
    return member.health is not Health.READY, member.record[::-1]


def _proven(member: Member, pace: Pace) -> bool:
    return member.health is Health.READY and member.seconds >= pace.settle


def _failed(member: Member, pace: Pace) -> bool:
    if not member.was_ready:
        return False
    unwell = member.health in (None, Health.WAITING) and member.seconds >= pace.patience
    return member.health is Health.STALLED or unwell


def _described(member: Member) -> str:
    return "Stalled" if member.health is Health.STALLED else "not Ready"
