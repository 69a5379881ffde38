"""What a TenantRestore tells: also what could not be told at its time."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tenantry.api.conditions import Reason
from tenantry.api.resources import TENANT_RESTORES, Ref
from tenantry.api.tenantrestore import RestorePhase, TenantRestore
from tenantry.decide.conditions import Outcome
from tenantry.reconcile.tenantrestore import TenantRestoreReconciler, safety_name

KEY = Ref(TENANT_RESTORES, "shop", "back")
TOLD = Outcome(None, Reason.RESTORE_RUNNING, "it is being restored")


def restore(*, saved: bool) -> dict[str, Any]:
    metadata = {"name": "back", "namespace": "shop", "uid": "0123456789", "generation": 1, "resourceVersion": "1"}
    spec = {"backupRef": {"name": "b"}, "tenantRef": {"name": "acme"}, "safetyBackup": saved}
    return {"apiVersion": "tenantry.io/v1alpha1", "kind": "TenantRestore", "metadata": metadata, "spec": spec}


@pytest.mark.parametrize(
    ("phase", "saved", "named"),
    [
        (RestorePhase.RESTORING, True, True),
        (RestorePhase.COMPLETED, True, True),
        (RestorePhase.COMPLETED, False, False),
        (RestorePhase.PENDING, True, False),
        (RestorePhase.FAILED, True, False),
    ],
)
async def test_the_safety_backup_is_named_by_all_that_comes_after_it_and_by_nothing_before(
    phase: RestorePhase, saved: bool, named: bool
) -> None:
    """The status that named it while it was made may not have been written."""
    body, written = restore(saved=saved), list[dict[str, Any]]()

    async def merge_patch(_ref: Ref, patch: dict[str, Any], *, subresource: str) -> dict[str, Any]:
        assert subresource == "status"
        written.append(patch["status"])
        return body

    nothing = SimpleNamespace(emit=lambda *_, **__: None, wake=lambda _: None)
    world = SimpleNamespace(
        live=SimpleNamespace(get=lambda _: body, observe=lambda _: None),
        management=SimpleNamespace(merge_patch=merge_patch),
        clock=SimpleNamespace(now=lambda: datetime(2026, 11, 22, tzinfo=UTC)),
        events=nothing,
        wake=nothing,
    )
    found = TenantRestore.read(body)
    await TenantRestoreReconciler(cast("Any", world), cast("Any", None))._tell(KEY, found, phase, TOLD)
    assert [status.get("safetyBackup") for status in written] == [safety_name(found) if named else None]
