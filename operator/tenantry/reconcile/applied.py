"""The spec that was applied last, kept in the TenantRecord, where no workspace's admin writes; what a dry run holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from tenantry.api.names import ANNOTATION_DRY_RUN
from tenantry.api.resources import TENANT_RECORDS, Ref
from tenantry.api.tenant import Tenant, TenantSpec
from tenantry.api.tenantrecord import RecordState, TenantRecord
from tenantry.decide.halt import Halt
from tenantry.reconcile.records import find_named, spec_change, swap
from tenantry.reconcile.workspace import find_workspace
from tenantry.reconcile.world import World

NEW: Final = f"{ANNOTATION_DRY_RUN}: nothing is made for this Tenant, and nothing given back to it"
UNKNOWN: Final = (
    f"{ANNOTATION_DRY_RUN}: the tenant is left as it is, for no TenantRecord says which spec was applied last "
    "(it was lost, was made anew, or is from an older version); take the annotation off until it is Ready"
)


@dataclass(frozen=True, slots=True)
class Hold:
    """What the annotation comes to for a Tenant that has it.

    Attributes:
        applied: The Tenant as it is to be treated: with the spec that was applied last. None where there is none that
            is known: then nothing is done, and `why` says so.
        generation: The one that `applied` was; 0 where that is not known.
        last: The spec that was applied last, as JSON.
        held: The Tenant's spec is another one.
    """

    applied: Tenant | None
    generation: int
    last: dict[str, Any]
    held: bool
    why: str = ""


def hold_of(world: World, tenant: Tenant) -> Hold | None:
    """What the annotation comes to; None for a Tenant without it."""
    if not tenant.dry_run:
        return None
    record = own_record(world, tenant)
    if record is None or record.spec.state != RecordState.ACTIVE:
        was_made = record is None and tenant.has_finalizer  # which no Tenant gets that is new under the annotation
        return Hold(None, 0, {}, held=True, why=UNKNOWN if was_made else NEW)
    last = record.spec.last_spec
    try:
        spec = TenantSpec.model_validate(last) if last is not None else None
    except ValidationError:  # of a version that had other fields
        spec = None
    if last is None or spec is None:
        return Hold(None, 0, {}, held=True, why=UNKNOWN)
    held = spec != tenant.spec
    if not held:
        return Hold(tenant, tenant.metadata.generation, last, held=False)
    if tenant.spec.deletion.protected:  # whoever asks for protection has it at once
        spec = spec.model_copy(update={"deletion": spec.deletion.model_copy(update={"protected": True})})
    return Hold(tenant.model_copy(update={"spec": spec}), record.spec.last_generation or 0, last, held=True)


def own_record(world: World, tenant: Tenant) -> TenantRecord | None:
    """The record of this very Tenant, and of no predecessor.

    One that was made anew from stamps does not say whose it is; as long as no other is this Tenant's, it may be.
    """
    namesakes = world.ledger.namesakes(tenant.ref)
    found = next((entry for entry in namesakes if entry.tenant_uid == tenant.metadata.uid), None)
    if found is None and (anew := [entry for entry in namesakes if not entry.tenant_uid]):
        uid = _workspace_uid(world, tenant)
        of_workspace = (entry for entry in anew if entry.workspace_uid == uid and entry.state == RecordState.ACTIVE)
        found = max(of_workspace, key=lambda entry: entry.incarnation, default=None)
    return find_named(world, Ref(TENANT_RECORDS, "", found.record)) if found is not None else None


def _workspace_uid(world: World, tenant: Tenant) -> str | None:
    try:
        return find_workspace(world, tenant.workspace).uid
    except Halt:  # the pass over the Tenant tells
        return None


async def note_applied(world: World, tenant: Tenant, record: TenantRecord) -> TenantRecord:
    """Write down the spec before anything of it is written to the target; the record as it then is.

    Before and not after: a spec that was applied in part is gone on with, also when the next one is held. To go back
    from it could destroy something that nobody asked to destroy.

    Raises:
        ConflictError: somebody changed the record.
    """
    change = spec_change(tenant, record)
    return await swap(world, record, change) if change else record


async def note_suspended(world: World, tenant: Tenant) -> None:
    """A tenant that is suspended stays so during a dry run: of such a spec that much is applied.

    Raises:
        ConflictError: somebody changed the record.
    """
    record = own_record(world, tenant)
    if record is None or record.spec.last_spec is None or record.spec.last_spec.get("suspend"):
        return
    await swap(world, record, {"lastSpec": {"suspend": True}})
