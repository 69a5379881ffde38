"""What a held spec would do: its reconcile is rehearsed, and what that would have written is told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from tenantry.api.conditions import ConditionType
from tenantry.api.effective import Effective
from tenantry.api.names import ANNOTATION_DRY_RUN
from tenantry.api.preview import Preview
from tenantry.api.tenant import Tenant
from tenantry.decide.conditions import Outcome
from tenantry.decide.preview import Intent, preview_of
from tenantry.ports.kube import ConflictError
from tenantry.reconcile.applied import Hold, own_record
from tenantry.reconcile.records import spec_document
from tenantry.reconcile.rehearsal import Rehearsal
from tenantry.reconcile.report import Report
from tenantry.reconcile.world import World

TRIES: Final = 3
"""A pass that takes over a record begins anew after its finalizer, as in the real world."""

Attempt = Callable[[World, Tenant, Report], Awaitable[None]]
"""One pass over a Tenant in a world; how it ended is in the report."""


async def preview(
    world: World,
    tenant: Tenant,
    hold: Hold,
    former: Effective | None,
    outcomes: Mapping[ConditionType, Outcome],
    attempt: Attempt,
) -> Preview:
    """What would come of a Tenant's own spec if the annotation were not there.

    Args:
        world: The real one; only read.
        tenant: With the spec that is held.
        hold: What the annotation comes to.
        former: What the tenant has now; None where that is not known.
        outcomes: What a pass begins with.
        attempt: The pass.
    """
    generation, document = tenant.metadata.generation, spec_document(tenant)
    if tenant.spec.suspend:
        nothing = preview_of(Intent(), generation=generation, before=hold.last, after=document)
        return nothing.model_copy(update={"message": "would leave the tenant as it is: spec.suspend is true"})
    intent, answered = await _rehearsed(world, tenant, former, outcomes, attempt)
    told = tenant.status.preview
    if not answered and told is not None and told.generation == generation:
        return told  # one request without an answer says nothing of the spec
    return preview_of(intent, generation=generation, before=hold.last, after=document)


async def _rehearsed(
    world: World,
    tenant: Tenant,
    former: Effective | None,
    outcomes: Mapping[ConditionType, Outcome],
    attempt: Attempt,
) -> tuple[Intent, bool]:
    """What it would do, and whether everything that was asked for it was answered."""
    rehearsal = Rehearsal(world, former)
    report = Report(rehearsal.world, tenant, dict(outcomes))
    for tries_left in reversed(range(TRIES)):
        body = rehearsal.world.live.get(tenant.ref)
        current = Tenant.model_validate(body) if body is not None else tenant
        # Its spec is that of the pass: the cache may have seen a newer one by now.
        current = _applying(current.model_copy(update={"spec": tenant.spec}))
        report = Report(rehearsal.world, current, dict(outcomes))
        try:
            await attempt(rehearsal.world, current, report)
        except ConflictError:
            if not tries_left:
                raise
        else:
            break
    before, after = rehearsal.records()
    if before is None and (record := own_record(world, tenant)) is not None:
        before = record.spec
    gets: Mapping[str, str] = report.effective.limits if report.effective else {}
    had = former.limits if former is not None else {}
    if report.effective is None or (former is None and before is not None):
        had = gets  # none would change, or it is not known which do
    return Intent(rehearsal.writes(), rehearsal.steps(), before, after, report.outcomes, (had, gets)), report.answered


def _applying(tenant: Tenant) -> Tenant:
    annotations = {key: value for key, value in tenant.metadata.annotations.items() if key != ANNOTATION_DRY_RUN}
    return tenant.model_copy(update={"metadata": tenant.metadata.model_copy(update={"annotations": annotations})})
