"""Leader election: takes the Lease, keeps it, gives it back; the decisions are in `tenantry.decide.election`."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from tenantry.api.names import IDENTITY_CONFIG_MAP, LABEL_MANAGED_BY, MANAGED_BY
from tenantry.api.resources import CONFIG_MAPS, LEASES, Ref
from tenantry.decide.election import (
    JITTER,
    Move,
    Sighting,
    Term,
    Timings,
    claimed,
    free_at,
    marked,
    next_move,
    released,
    seen,
    spec_of,
    term_of,
)
from tenantry.ports.kube import AlreadyExistsError, ConflictError, Kube, KubeError, NotFoundError, UnreachableError
from tenantry.ports.world import Json
from tenantry.runtime.deadman import DeadMansSwitch

logger = logging.getLogger(__name__)

RELEASE_SECONDS: Final = 3.0
SHORTEST_PAUSE: Final = 0.02

_LOOK_AGAIN: Final = (AlreadyExistsError, ConflictError, NotFoundError)
"""Somebody was there between our look and our write."""


def boot_time() -> float:
    """Seconds that never go back and, where the system has such a clock, also pass while the machine is suspended."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def wall_time() -> str:
    """The time as a Lease has it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class LeadershipLostError(Exception):
    """This process is not the leader any more, or can't know; it must end at once, without another write."""


class Election:
    """One candidate for one Lease.

    Args:
        kube: The management cluster, by connections that nothing else can keep busy, with a short deadline.
        ref: The Lease.
        instance: What this process is called in it; no other one may be called the same.
        timings: How long everything takes.
        switch: Ends the process where nothing else does.
        roll: Random numbers from 0 to less than 1.
        clock: Seconds, as `boot_time`.
        on_change: Told whether this process is the leader now.
    """

    def __init__(
        self,
        kube: Kube,
        ref: Ref,
        instance: str,
        *,
        timings: Timings,
        switch: DeadMansSwitch,
        roll: Callable[[], float],
        clock: Callable[[], float] = boot_time,
        on_change: Callable[[bool], None],
    ) -> None:
        self._kube = kube
        self._ref = ref
        self._instance = instance
        self._timings = timings
        self._switch = switch
        self._roll = roll
        self._clock = clock
        self._on_change = on_change
        self._body: Json | None = None
        self._looked = False
        self._sighting: Sighting | None = None
        self._newcomer = False
        self._claim: Term | None = None
        self._until = float("-inf")
        self.waiting = False
        """Somebody else was seen to hold the Lease, and this process stands by."""

    def held(self) -> bool:
        """Whether this process may write now: the answer is good for this moment only."""
        return self._clock() < self._until

    async def win(self) -> None:
        """Wait until this process is the leader.

        Raises:
            KubeError: the API server does not let us have the Lease, whoever holds it.
        """
        self._on_change(False)
        told = ""
        while True:
            pause = self._timings.retry * (1 + JITTER * self._roll())
            try:
                move = await self._step()
            except UnreachableError as error:
                logger.warning("the Lease %s can't be read or written: %s", self._name, error.message)
            else:
                if self.held():
                    break
                pause = self._pause(move, pause)
                told = self._tell(told)
            await asyncio.sleep(pause)
        self.waiting = False
        logger.info("%s is the leader now, by Lease %s", self._instance, self._name)
        self._on_change(True)

    async def keep(self) -> None:
        """Renew the Lease, for as long as it can be.

        Raises:
            LeadershipLostError: somebody else has it, or it could not be renewed in time.
        """
        while True:
            await asyncio.sleep(max(0.0, min(self._timings.retry, self._until - self._clock())))
            left = self._until - self._clock()
            if left <= 0:
                raise LeadershipLostError(f"Lease {self._name} was not renewed for {self._timings.renew:g} s")
            try:
                async with asyncio.timeout(left):
                    move = await self._step()
            except TimeoutError:
                continue
            except KubeError as error:
                logger.warning("the Lease %s was not renewed: %s", self._name, error.message)
                continue
            if move is Move.LOST:
                holder = self._sighting.term.holder if self._sighting and self._sighting.term else ""
                raise LeadershipLostError(f"Lease {self._name} is held by {holder or 'nobody'} now")

    async def release(self) -> None:
        """Give the Lease back, if it is ours or may be; whoever waits for it takes it at once. Writes nothing after."""
        self._until = float("-inf")
        try:
            if self._claim is not None:
                async with asyncio.timeout(RELEASE_SECONDS):
                    await self._give_back(self._claim)
        except (KubeError, TimeoutError) as error:
            logger.warning("the Lease %s was not given back, others wait for its end: %r", self._name, error)
        finally:
            self._switch.disarm()
            self._on_change(False)

    @property
    def _name(self) -> str:
        return f"{self._ref.namespace}/{self._ref.name}"

    async def _step(self) -> Move:
        """Look, unless what is there is known from our last write, and do what is to be done."""
        for _ in range(3):
            if not self._looked:
                await self._look()
            sighting = self._sighting
            assert sighting is not None  # noqa: S101 - there was a look
            move = next_move(
                sighting,
                self._claim,
                self._instance,
                self._clock(),
                leading=self.held(),
                newcomer=self._newcomer,
            )
            self._looked = False
            if move in {Move.WAIT, Move.LOST}:
                return move
            try:
                if move is Move.MARK:
                    await self._put(marked(wall_time(), self._timings))
                    continue
                await self._write(self._term_to_write(move))
            except _LOOK_AGAIN as error:
                if isinstance(error, NotFoundError) and self._body is None:
                    raise  # there is no such namespace
                continue
            return move
        raise UnreachableError("somebody else writes it all the time")

    async def _look(self) -> None:
        term = None
        try:
            self._body = await self._kube.get(self._ref)
            term = term_of(self._body, self._timings)
        except NotFoundError:
            self._body = None
            self._newcomer = await self._nobody_was_here()
        self._sighting = seen(self._sighting, term, self._clock(), self._timings)
        self._looked = True

    async def _nobody_was_here(self) -> bool:
        """Whether no operator ever ran in this namespace: each makes a ConfigMap first of all."""
        try:
            await self._kube.get(Ref(CONFIG_MAPS, self._ref.namespace, IDENTITY_CONFIG_MAP))
        except NotFoundError:
            return True
        return False

    def _term_to_write(self, move: Move) -> Term:
        before = self._sighting.term if self._sighting else None
        if move is Move.RENEW and self._claim is not None:
            return replace(self._claim, renewed=wall_time())
        return claimed(before, self._instance, wall_time(), self._timings)

    async def _write(self, term: Term) -> None:
        """Write it, where nothing has changed since the look, and lead from the moment of asking for that."""
        self._claim = term  # before the answer: it may be lost
        asked = self._clock()
        self._body = await self._put(term)
        self._sighting = seen(self._sighting, term, self._clock(), self._timings)
        self._looked = True
        self._until = asked + self._timings.renew
        self._switch.arm(asked + self._timings.last - self._clock())

    async def _put(self, term: Term) -> Json:
        if self._body is not None:
            spec = {**(self._body.get("spec") or {}), **spec_of(term)}
            return await self._kube.replace({**self._body, "spec": spec})
        metadata = {
            "name": self._ref.name,
            "namespace": self._ref.namespace,
            "labels": {LABEL_MANAGED_BY: MANAGED_BY},
        }
        body = {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata, "spec": spec_of(term)}
        return await self._kube.create(body)

    async def _give_back(self, claim: Term) -> None:
        await self._look()
        if self._sighting is not None and self._sighting.term is not None and claim.same_as(self._sighting.term):
            await self._put(released(claim, wall_time()))
            logger.info("the Lease %s is given back", self._name)

    def _pause(self, move: Move, pause: float) -> float:
        """Seconds until the next look: not later than the moment in which the Lease is free."""
        if self._sighting is None or move is not Move.WAIT:
            return SHORTEST_PAUSE
        left = free_at(self._sighting, self._instance) - self._clock()
        return max(SHORTEST_PAUSE, min(pause, left))

    def _tell(self, told: str) -> str:
        """Who is waited for, once for each; and that this process stands by."""
        self.waiting = True
        holder = self._sighting.term.holder if self._sighting and self._sighting.term else ""
        if (now := holder or "nobody") != told:
            logger.info("standing by: Lease %s is held by %s", self._name, now)
        return now
