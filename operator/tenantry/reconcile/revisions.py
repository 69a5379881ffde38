"""Revisions: the contents that plans have and had, kept as ControllerRevisions in the operator's namespace."""

from __future__ import annotations

import logging
from collections.abc import Set as AbstractSet
from typing import Final

from pydantic import ValidationError

from tenantry.api.names import ANNOTATION_ROLLOUT_PAUSED, LABEL_PLAN
from tenantry.api.resources import CONTROLLER_REVISIONS, Ref
from tenantry.api.tenantplan import TenantPlan, TenantPlanSpec
from tenantry.desired.revisions import content_of, revision, revision_name
from tenantry.desired.slots import plan_label
from tenantry.ports.kube import AlreadyExistsError, NotFoundError
from tenantry.ports.world import Json
from tenantry.reconcile.world import World

logger = logging.getLogger(__name__)

KEPT: Final = 10
"""How many of a plan's revisions stay although no tenant has them."""


class Revisions:
    """Reads them from the watch's cache. Written before any tenant uses a content, by whoever needs it first."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def ensure(self, plan: TenantPlan) -> str:
        """The name of the revision with the plan's present content; made if it is not there.

        A collision of hashes (32 bits) would give tenants another content: it is refused.

        Raises:
            RuntimeError: something else is kept under that name.
        """
        content = content_of(plan.spec)
        ref = self._ref(revision_name(plan.name, content))
        body = self._world.live.get(ref)
        if body is None:
            numbers = [int(known["revision"]) for known in self._of(plan.name)]
            body = await self._create(
                ref, revision(self._world.settings.namespace, plan.name, content, max(numbers, default=0) + 1)
            )
        if body.get("data") != {"spec": content}:
            raise RuntimeError(f"{ref} holds another content than that of TenantPlan {plan.name!r}; delete it")
        return ref.name

    async def make_newest(self, plan: TenantPlan) -> str:
        """As `ensure`; a content that the plan had before and has again gets the highest number anew.

        So it is a new rollout: why a former one of it was stopped is forgotten in the same write.
        """
        name = await self.ensure(plan)
        numbers = {known["metadata"]["name"]: int(known["revision"]) for known in self._of(plan.name)}
        highest = max(numbers.values(), default=0)
        newest = [known for known, number in numbers.items() if number == highest]
        if name in numbers and newest != [name]:
            forgotten = {"annotations": {ANNOTATION_ROLLOUT_PAUSED: None}}
            await self._patch(name, {"revision": highest + 1, "metadata": forgotten})
        return name

    def read(self, plan: str, name: str) -> TenantPlanSpec | None:
        """The content of a plan's revision; None where it is gone, not that plan's, or no sense to this version."""
        body = self._world.live.get(self._ref(name))
        if body is None or (body["metadata"].get("labels") or {}).get(LABEL_PLAN) != plan_label(plan):
            return None
        try:
            return TenantPlanSpec.model_validate((body.get("data") or {}).get("spec"))
        except ValidationError as error:
            logger.warning("the content of ControllerRevision %s can't be used: %s", name, error)
            return None

    def paused(self, name: str) -> str:
        """Why the rollout of a revision was stopped; empty where it was not."""
        body = self._world.live.get(self._ref(name)) or {}
        annotations: dict[str, str] = body.get("metadata", {}).get("annotations") or {}
        return annotations.get(ANNOTATION_ROLLOUT_PAUSED, "")

    async def pause(self, name: str, why: str | None) -> None:
        """Write down that a rollout stops, or with None that it goes on."""
        if self.paused(name) != (why or ""):
            await self._patch(name, {"metadata": {"annotations": {ANNOTATION_ROLLOUT_PAUSED: why}}})

    async def prune(self, plan: str, keep: AbstractSet[str], *, last: int = KEPT) -> None:
        """Delete a plan's revisions but the last ones and those to keep: the present one, and what tenants have."""
        known = sorted(self._of(plan), key=lambda body: int(body["revision"]), reverse=True)
        for body in known[last:]:
            metadata = body["metadata"]
            if metadata["name"] in keep:
                continue
            ref = self._ref(metadata["name"])
            with self._world.live.writing(ref):
                await self._world.management.delete(ref, uid=metadata["uid"])
                self._world.live.forget(ref, uid=metadata["uid"])

    async def _create(self, ref: Ref, wanted: Json) -> Json:
        with self._world.live.writing(ref):
            try:
                body = await self._world.management.create(wanted)
            except AlreadyExistsError:
                body = await self._world.management.get(ref)
            self._world.live.observe(body)
        return body

    async def _patch(self, name: str, patch: Json) -> None:
        ref = self._ref(name)
        with self._world.live.writing(ref):
            try:
                self._world.live.observe(await self._world.management.merge_patch(ref, patch))
            except NotFoundError:
                self._world.live.forget(ref)

    def _of(self, plan: str) -> list[Json]:
        label = plan_label(plan)
        return [
            body
            for body in self._world.live.all(CONTROLLER_REVISIONS)
            if (body["metadata"].get("labels") or {}).get(LABEL_PLAN) == label
        ]

    def _ref(self, name: str) -> Ref:
        return Ref(CONTROLLER_REVISIONS, self._world.settings.namespace, name)
