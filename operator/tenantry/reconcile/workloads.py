"""Switching a tenant's own workloads on its target off and on, and restarting those that read its login at start."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeAlias

from tenantry.api.resources import CRON_JOBS, DEPLOYMENTS, STATEFUL_SETS, WORKLOADS, Ref, Resource
from tenantry.decide.activity import Activity, change, restart
from tenantry.ports.kube import ConflictError, ForbiddenError, InvalidError, KubeError, NotFoundError, Target
from tenantry.ports.world import Json

Wanted: TypeAlias = Callable[[Json], Json | None]
Failure: TypeAlias = tuple[str, KubeError]

AT_ONCE: Final = 8
"""Requests under way for one tenant."""
TRIES: Final = 5
"""Of one object that others change at the same time."""
MOST_NAMED: Final = 3
LONGEST_MESSAGE: Final = 300


class WorkloadsRefusedError(KubeError):
    """Some workloads could not be changed, for the target does not allow it; all others were.

    A quota or an admission policy of the tenant's or the platform's does that, or a target-rbac.yaml that is older than
    the operator. The message names at most three of the workloads, with what the API server said.
    """


class Workloads:
    """The workloads in one tenant's namespace: the tenant's own, which carry no stamp and are not watched.

    Each call lists them anew, so it is made only when there is something to do (`must_settle`), and for a tenant that
    is off on each resync. Every step may be repeated and lost: what one workload needs is told by that workload alone.

    A workload that another controller decides over, and a pod that no controller decides over, are left as they are.
    """

    def __init__(self, target: Target, namespace: str) -> None:
        self._kube = target.kube
        self._namespace = namespace

    async def settle(self, activity: Activity) -> int:
        """Switch all workloads as wanted; how many had to be changed.

        Raises:
            WorkloadsRefusedError: for some of them; all others were changed.
            KubeError: what may pass; the others were tried all the same.
        """
        # CronJobs first: one that still runs could make a Job after the Jobs were listed.
        rest = [resource for resource in WORKLOADS if resource != CRON_JOBS]
        return await self._change([[CRON_JOBS], rest], lambda live: change(live, activity))

    async def restart(self, at: str) -> int:
        """Give new pods to Deployments and StatefulSets that read the login from their environment; how many were.

        Idempotent for the same `at`: the time of the rotation, RFC 3339.

        Raises:
            WorkloadsRefusedError: for some of them; all others were restarted.
            KubeError: what may pass; the others were tried all the same.
        """
        return await self._change([[DEPLOYMENTS, STATEFUL_SETS]], lambda live: restart(live, at))

    async def _change(self, stages: Iterable[Sequence[Resource]], wanted: Wanted) -> int:
        """Stage by stage: list the kinds, change what needs it; the errors are raised in the end."""
        slots = asyncio.Semaphore(AT_ONCE)
        failures: list[Failure] = []
        changed = 0
        for resources in stages:
            counts = await asyncio.gather(*(self._change_kind(each, wanted, slots, failures) for each in resources))
            changed += sum(counts)
        if failures:
            raise _verdict(failures)
        return changed

    async def _change_kind(
        self, resource: Resource, wanted: Wanted, slots: asyncio.Semaphore, failures: list[Failure]
    ) -> int:
        try:
            async with slots:
                listing = await self._kube.list(resource, namespace=self._namespace)
        except KubeError as error:
            failures.append((resource.plural, error))
            return 0
        due = [live for live in listing.items if wanted(live) is not None]
        return sum(await asyncio.gather(*(self._change_one(resource, live, wanted, slots, failures) for live in due)))

    async def _change_one(
        self, resource: Resource, live: Json, wanted: Wanted, slots: asyncio.Semaphore, failures: list[Failure]
    ) -> bool:
        ref = Ref(resource, self._namespace, live["metadata"]["name"])
        try:
            async with slots:
                return await self._swap(ref, live, wanted)
        except NotFoundError:
            return False
        except KubeError as error:
            failures.append((f"{resource.kind} {ref.name}", error))
            return False

    async def _swap(self, ref: Ref, live: Json, wanted: Wanted) -> bool:
        """Compare-and-swap: what is remembered must be of the very state that it replaces."""
        for tries_left in reversed(range(TRIES)):
            patch = wanted(live)
            if patch is None:
                return False
            version = {"resourceVersion": live["metadata"]["resourceVersion"]}
            try:
                await self._kube.merge_patch(ref, {**patch, "metadata": {**patch.get("metadata", {}), **version}})
            except ConflictError:
                if not tries_left:
                    raise
            else:
                return True
            live = await self._kube.get(ref)
        return False


def _verdict(failures: Sequence[Failure]) -> KubeError:
    """One error for all: what may pass comes first, since the next try can tell the rest."""
    for _, error in failures:
        if not isinstance(error, ForbiddenError | InvalidError):
            return error
    told = [f"{what}: {error.message[:LONGEST_MESSAGE]}" for what, error in failures[:MOST_NAMED]]
    more = [f"and {len(failures) - MOST_NAMED} more"] if len(failures) > MOST_NAMED else []
    first = failures[0][1]
    return WorkloadsRefusedError("; ".join([*told, *more]), status=first.status, reason=first.reason)
