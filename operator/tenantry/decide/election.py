"""Leader election by a Lease: whether it may be taken, whether it is still ours, and until when one may act on that.

As client-go does it: nobody reads another machine's clock. Who does not hold the Lease looks at it again and again, and
takes it once it has stayed the same, by the own clock, for as long as the holder said. Who holds it stops well before
others can come to that. Two things are stricter here: a Lease that somebody deleted or emptied by hand is not free
before that time either, for its holder learns of it only with the next renewal: where there is none, an empty one is
made, for the time to count from; and a term is known by more than its holder's name, so that a second process of the
same name is noticed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from math import ceil
from typing import Any, Final

RELEASED_SECONDS: Final = 1
"""`leaseDurationSeconds` of a Lease that its holder gave back, as client-go writes it."""
JITTER: Final = 0.2
"""A look at somebody else's Lease comes by up to this part later, so that those who wait do not ask in step."""


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds, with client-go's defaults.

    Attributes:
        duration: Nobody takes the Lease before it has stayed the same for so long. In whole seconds in the Lease.
        renew: The leader stops this long after it last asked for a renewal that was granted.
        retry: Between two tries of the leader to renew, and two looks of the others.
    """

    duration: float = 15.0
    renew: float = 10.0
    retry: float = 2.0

    @property
    def whole(self) -> int:
        """`duration` as a Lease takes it."""
        return max(1, ceil(self.duration))

    @property
    def last(self) -> float:
        """Seconds after the same moment as `renew` by which the process must be gone: half-way to the others' turn."""
        return (self.renew + self.duration) / 2

    def problem(self) -> str | None:
        """What is wrong with them, in words, if anything is."""
        if self.duration <= self.renew:
            return "the lease has to last longer than the renew deadline, or two would lead at a time"
        if self.renew <= self.retry * (1 + JITTER):
            return (
                f"the renew deadline has to be more than {1 + JITTER:g} times the retry period, for there to be a try"
            )
        return None


@dataclass(frozen=True, slots=True)
class Term:
    """What the spec of a Lease says. Times are text that is compared and handed on, never read.

    Attributes:
        holder: Empty if nobody holds it.
        seconds: After so many without a change others may take it.
        transitions: How often it changed hands.
    """

    holder: str
    seconds: float
    acquired: str
    renewed: str
    transitions: int

    def same_as(self, other: Term | None) -> bool:
        """Whether the other one is this term too, earlier or later."""
        return other is not None and (self.holder, self.acquired, self.transitions) == (
            other.holder,
            other.acquired,
            other.transitions,
        )


def term_of(lease: Mapping[str, Any], timings: Timings) -> Term:
    """What a Lease says; whatever a person took out of it counts as not held, for as long as our own would be."""
    spec = lease.get("spec") or {}
    return Term(
        holder=spec.get("holderIdentity") or "",
        seconds=spec.get("leaseDurationSeconds") or timings.whole,
        acquired=spec.get("acquireTime") or "",
        renewed=spec.get("renewTime") or "",
        transitions=spec.get("leaseTransitions") or 0,
    )


def spec_of(term: Term) -> dict[str, Any]:
    """The spec that says so."""
    return {
        "holderIdentity": term.holder,
        "leaseDurationSeconds": int(term.seconds),
        "acquireTime": term.acquired,
        "renewTime": term.renewed,
        "leaseTransitions": term.transitions,
    }


@dataclass(frozen=True, slots=True)
class Sighting:
    """How the Lease is, and since when it is so, by the own clock.

    Attributes:
        term: None while there is no Lease.
        since: When it was first seen like this, in seconds.
        patience: Seconds from then on after which it is free.
        first: Nothing else was seen before by this process.
    """

    term: Term | None
    since: float
    patience: float
    first: bool


def seen(before: Sighting | None, term: Term | None, now: float, timings: Timings) -> Sighting:
    """One more look at it.

    Args:
        before: What the looks before have come to; None if there were none.
        term: What the Lease says; None if it is not there.
        now: By the own clock, from after the answer.
        timings: Our own, for a Lease that does not say how long it lasts.
    """
    if before is not None and before.term == term:
        return before
    # Not sooner than by our own word: a person may have written fewer seconds, which its holder does not know yet.
    patience = max(term.seconds if term is not None else 0, timings.whole)
    return Sighting(term, now, patience, first=before is None)


def free_at(sighting: Sighting, instance: str) -> float:
    """The time by the own clock from which on a Lease that is there may be taken.

    Args:
        sighting: The Lease.
        instance: What we call ourselves in it.
    """
    term = sighting.term
    given_back = term is not None and not term.holder and term.seconds <= RELEASED_SECONDS
    # Our name before we ever wrote it: the same pod's process of before, which is dead, or we would not be.
    heir = term is not None and term.holder == instance and sighting.first
    return sighting.since if given_back or heir else sighting.since + sighting.patience


class Move(Enum):
    """What to do about the Lease now."""

    TAKE = auto()
    RENEW = auto()
    MARK = auto()
    """Make an empty one, and see how long it stays so."""
    WAIT = auto()
    LOST = auto()


def next_move(
    sighting: Sighting, claim: Term | None, instance: str, now: float, *, leading: bool, newcomer: bool
) -> Move:
    """What to do, with the Lease as it was seen just now.

    Args:
        sighting: The Lease.
        claim: The term that we wrote last, whether an answer came or not; None before the first.
        instance: What we call ourselves.
        now: By the own clock.
        leading: The deadline to renew has not passed since the last renewal.
        newcomer: No operator has ever run here, so nobody can think of itself as the leader.
    """
    if claim is not None and claim.same_as(sighting.term):
        return Move.RENEW
    term = sighting.term
    if leading:
        # Deleted or emptied by hand: the others have to watch it for longer than we lead, so it is still ours.
        return Move.LOST if term is not None and term.holder else Move.RENEW
    if term is None:
        return Move.TAKE if newcomer else Move.MARK
    return Move.TAKE if now >= free_at(sighting, instance) else Move.WAIT


def claimed(before: Term | None, instance: str, wall: str, timings: Timings) -> Term:
    """The term to write when taking the Lease.

    Args:
        before: What it says now; None if it is not there.
        instance: What we call ourselves.
        wall: The time, as a Lease has it; for people.
        timings: Ours.
    """
    return Term(instance, timings.whole, wall, wall, before.transitions + 1 if before is not None else 0)


def marked(wall: str, timings: Timings) -> Term:
    """The term to write where there is no Lease: held by nobody, and not given back by anybody."""
    return Term("", timings.whole, wall, wall, 0)


def released(term: Term, wall: str) -> Term:
    """The term to write when giving it back: whoever sees it takes it at once."""
    return Term("", RELEASED_SECONDS, wall, wall, term.transitions)
