"""What the commands about deletions know by heart: what can be had back, what is held, and how it is listed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.names import ANNOTATION_ADOPT, ANNOTATION_ADOPT_WORKSPACE, TENANT_FINALIZER
from tenantry.api.resources import TENANTS
from tenantry.api.tenantrecord import RecordState, TenantRecord
from tenantry.decide.deletion import parse_time
from tenantry.ports.world import Json

HEADINGS: Final = ("STATE", "TENANT", "WORKSPACE", "RECORD", "DELETED", "PURGE-AFTER", "MESSAGE")
NOTHING: Final = "-"
CLOCKS_DIFFER: Final = timedelta(minutes=2)
"""How much earlier the operator may find that a window is over than the API server does."""


def obstacle(record: TenantRecord, workspace: Json | None, tenant: Json | None) -> str | None:
    """Why a record can't be undeleted now, with the way out; None if it can.

    Args:
        record: The record.
        workspace: The namespace that has the name of its workspace; None where there is none.
        tenant: The Tenant that has the name of its Tenant; None where there is none.
    """
    spec = record.spec
    if spec.state == RecordState.ACTIVE:
        missing = ", but its Tenant is gone: apply it again to take it over" if tenant is None else ""
        return f"it is Active{missing or ': there is nothing to undelete'}"
    if spec.state == RecordState.PURGING:
        return "it is too late: its window is over, and what it had is being destroyed"
    if spec.state == RecordState.ORPHANED and spec.purge_after is None:
        return "it is too late: it was let go of while what it had was being destroyed"
    if spec.last_spec is None:
        return (
            "it does not know the Tenant's spec (it was made anew from what it found on a target): apply the Tenant "
            f"yourself, with the annotation {ANNOTATION_ADOPT}={record.name}"
        )
    if tenant is not None:
        going = ", and its own deletion is under way" if "deletionTimestamp" in tenant["metadata"] else ""
        return f"there is a Tenant {spec.workspace}/{spec.tenant}{going}"
    return _homeless(record, workspace)


def _homeless(record: TenantRecord, workspace: Json | None) -> str | None:
    """Why its workspace is not there for it any more."""
    name, uid = record.spec.workspace, record.spec.workspace_uid
    annotation = f"{ANNOTATION_ADOPT_WORKSPACE}={uid}"
    if workspace is None:
        return f"its workspace {name!r} is gone: make the namespace again, with the annotation {annotation}"
    metadata = workspace["metadata"]
    if "deletionTimestamp" in metadata:
        return (
            f"its workspace {name!r} is being deleted: when that is over, make the namespace again, with the "
            f"annotation {annotation}"
        )
    if uid in (metadata["uid"], (metadata.get("annotations") or {}).get(ANNOTATION_ADOPT_WORKSPACE)):
        return None
    return (
        f"its workspace was another namespace {name!r} than the one that is there. If it is the same customer's: "
        f"kubectl annotate namespace {name} {annotation}"
    )


def undeleted(record: TenantRecord, namesakes: Iterable[TenantRecord], now: datetime) -> Json:
    """The Tenant that gives a record's tenant everything back.

    Args:
        record: One that `obstacle` finds nothing about.
        namesakes: The records of Tenants of this workspace's and Tenant's name, it among them.
        now: The API server's time.
    """
    spec = record.spec
    due = parse_time(spec.purge_after)
    over = due is not None and due <= now + CLOCKS_DIFFER
    last = max((each.spec.incarnation for each in namesakes if _same(each, record)), default=spec.incarnation)
    metadata: Json = {"name": spec.tenant, "namespace": spec.workspace}
    if over or spec.state == RecordState.ORPHANED or spec.incarnation < last:
        metadata["annotations"] = {ANNOTATION_ADOPT: record.name}
    return {
        "apiVersion": TENANTS.api_version,
        "kind": TENANTS.kind,
        "metadata": metadata,
        "spec": spec.last_spec or {},
    }


def of_tenant(records: Iterable[TenantRecord], workspace: str, tenant: str) -> list[TenantRecord]:
    """The records of all Tenants that had or have this workspace's and Tenant's name."""
    return [each for each in records if (each.spec.workspace, each.spec.tenant) == (workspace, tenant)]


def _same(one: TenantRecord, other: TenantRecord) -> bool:
    return (one.spec.workspace_uid, one.spec.tenant) == (other.spec.workspace_uid, other.spec.tenant)


def ready_of(tenant: Json) -> Json:
    """A Tenant's condition Ready; empty where nobody has written one."""
    conditions: list[Json] = (tenant.get("status") or {}).get("conditions") or []
    return next((each for each in conditions if each["type"] == ConditionType.READY), {})


def is_held(tenant: Json) -> bool:
    """Whether a Tenant's deletion waits for somebody to confirm or to abort it."""
    return _waits_for(tenant, Reason.DELETION_HELD, Reason.PROTECTED)


def is_undecided(tenant: Json) -> bool:
    """Whether it can't be said yet if a Tenant's deletion is held, for its record was lost and is searched for."""
    return _waits_for(tenant, Reason.RECORD_MISSING)


def _waits_for(tenant: Json, *reasons: Reason) -> bool:
    metadata = tenant["metadata"]
    return (
        "deletionTimestamp" in metadata
        and TENANT_FINALIZER in metadata.get("finalizers", ())
        and ready_of(tenant).get("reason") in reasons
    )


def why_not_held(tenant: Json) -> str:
    """What a Tenant whose deletion is not held does instead."""
    if "deletionTimestamp" not in tenant["metadata"]:
        return "it is not being deleted"
    if TENANT_FINALIZER not in tenant["metadata"].get("finalizers", ()):
        return "its deletion is over for Tenantry; it waits for somebody else's finalizer"
    ready = ready_of(tenant)
    told = f": {ready['reason']}: {ready.get('message', '')}".rstrip(": ") if ready else ""
    return f"its deletion is not held{told}"


def row_of_record(record: TenantRecord) -> tuple[str, ...]:
    """A record under `HEADINGS`."""
    spec = record.spec
    told = (spec.state.value, spec.tenant, spec.workspace, record.name, spec.deleted_at, spec.purge_after, spec.message)
    return tuple(text or NOTHING for text in told)


def row_of_tenant(tenant: Json) -> tuple[str, ...]:
    """A Tenant whose deletion is held, under `HEADINGS`."""
    metadata, ready = tenant["metadata"], ready_of(tenant)
    told = (
        ready.get("reason"),
        metadata["name"],
        metadata["namespace"],
        (tenant.get("status") or {}).get("record"),
        metadata.get("deletionTimestamp"),
        None,
        ready.get("message"),
    )
    return tuple(text or NOTHING for text in told)


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as kubectl shows them; each row is one line, whatever is in it."""
    shown = ([" ".join("".join(c if c.isprintable() else " " for c in cell).split()) for cell in row] for row in rows)
    lines = [list(headings), *shown]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    padded = ("   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    return "".join(f"{line.rstrip()}\n" for line in padded)
