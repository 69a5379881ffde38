"""Applying a tenant's objects to its target: only what differs, only onto what is ours, patient with fresh rights."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeVar

from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.identity import TenantIdentity
from tenantry.api.resources import ROLE_BINDINGS, SECRETS, Ref, resource_of
from tenantry.decide.drift import in_sync, with_desired_hash
from tenantry.decide.halt import Terminal
from tenantry.desired.stamp import bears_stamp
from tenantry.ports.kube import ConflictError, ForbiddenError, InvalidError, Target
from tenantry.ports.world import Clock, Json

T = TypeVar("T")

FRESH_RIGHTS: Final = 10.0
"""Seconds for which a 403 in a namespace we just bound ourselves into is taken for RBAC that has not caught up."""
FIRST_PAUSE: Final = 0.02
QUOTA_CLASH_TRIES: Final = 8


def ref_of(body: Json) -> Ref:
    """The name of the object that a manifest is for."""
    metadata = body["metadata"]
    return Ref(resource_of(body), metadata.get("namespace", ""), metadata["name"])


class Applier:
    """Writes objects of one tenant to its target in one reconcile.

    Attributes:
        wrote: How many objects had to be written.
    """

    def __init__(self, target: Target, identity: TenantIdentity, clock: Clock) -> None:
        self._target = target
        self._identity = identity
        self._clock = clock
        self._bound_at: float | None = None
        self.wrote = 0

    def bound(self) -> None:
        """The operator's RoleBinding was only just made: rights may lag behind it."""
        self._bound_at = self._clock.monotonic()

    async def apply_all(self, bodies: Iterable[Json]) -> None:
        """Apply several objects at the same time; the first error is raised when all have ended."""
        answers = await asyncio.gather(*(self.apply(body) for body in bodies), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer

    async def apply(self, body: Json) -> Json:
        """Make one object as wanted; its live state.

        Raises:
            Terminal: ApplyRefused: the API server will not have it, or it belongs to somebody else.
            KubeError: what may pass.
        """
        wanted = with_desired_hash(body)
        ref = ref_of(wanted)
        live = self._target.live.get(ref)
        if live is not None:
            self._check_ours(ref, live)
            if in_sync(wanted, live):
                return live
        return await self._write(ref, wanted)

    async def apply_secret(self, body: Json, live: Json | None) -> None:
        """Make a Secret as wanted; `live` is what a read has just seen, for no watch sees Secrets.

        Raises:
            Terminal: ApplyRefused, as `apply`.
        """
        wanted = with_desired_hash(body)
        ref = ref_of(wanted)
        if live is not None:
            self._check_ours(ref, live)
            if in_sync(wanted, live):
                return
        await self._write(ref, wanted)

    async def prune(self, keep: Iterable[Json], *, namespace: str) -> None:
        """Delete what bears this tenant's stamp in its namespace and is wanted no more."""
        wanted = {ref_of(body) for body in keep}
        for live in self._target.live.of_tenant(self._identity.tenant_hash):
            ref = ref_of(live)
            if ref.namespace != namespace or ref in wanted:
                continue
            if bears_stamp(live, self._identity):
                await self.delete(ref, live)

    async def delete(self, ref: Ref, live: Json) -> None:
        """Delete exactly the object that was seen."""
        metadata = live["metadata"]
        with self._target.writing(ref):
            await self._patiently(
                lambda: self._target.kube.delete(ref, uid=metadata["uid"], resource_version=metadata["resourceVersion"])
            )
            self._target.live.forget(ref, uid=metadata["uid"])
        self.wrote += 1

    def _check_ours(self, ref: Ref, live: Json) -> None:
        if not bears_stamp(live, self._identity):
            raise Terminal(
                ConditionType.NAMESPACE_READY,
                Reason.APPLY_REFUSED,
                f"{ref} is on the target but is not this tenant's; rename or delete it there",
            )

    async def _write(self, ref: Ref, wanted: Json) -> Json:
        try:
            with self._target.writing(ref):
                answer = await self._patiently(lambda: self._target.kube.apply(wanted))
                if ref.resource != SECRETS:  # no value of a Secret is kept in memory
                    self._target.live.observe(answer)
        except InvalidError as error:
            if ref.resource == ROLE_BINDINGS and (live := self._target.live.get(ref)) is not None:
                # roleRef can't be changed: somebody made the binding anew with another role.
                await self.delete(ref, live)
                return await self._write(ref, wanted)
            raise Terminal(
                ConditionType.NAMESPACE_READY, Reason.APPLY_REFUSED, f"the target refused {ref}: {error.message}"
            ) from error
        self.wrote += 1
        return answer

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call again while RBAC has not caught up with a fresh binding, or quota admission clashed with itself."""
        pause, clashes = FIRST_PAUSE, 0
        while True:
            try:
                return await call()
            except ForbiddenError:
                if self._bound_at is None or self._clock.monotonic() - self._bound_at > FRESH_RIGHTS:
                    raise
            except ConflictError as error:
                clashes += 1
                if "resourcequotas" not in error.message or clashes == QUOTA_CLASH_TRIES:
                    raise
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)
