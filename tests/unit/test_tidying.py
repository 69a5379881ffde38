"""Which TenantBackups of a schedule stay: the newest, what proves something, and what would count as good without."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

from tenantry.api.resources import TENANT_BACKUPS, TENANTS, Ref
from tenantry.api.tenantbackup import BackupPhase
from tenantry.reconcile.shelf import Shelved
from tenantry.reconcile.tidying import SHOWN, Tidying
from tenantry.reconcile.trials import Trials

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
DAY = timedelta(days=1)
ACME = Ref(TENANTS, "shop", "acme")


def backup(days: int, **more: Any) -> Shelved:
    moment = NOW - days * DAY
    ref = Ref(TENANT_BACKUPS, "shop", f"b{days}")
    return Shelved(ref, ref.name, ACME, "s", ref.name, BackupPhase.COMPLETED, moment, moment, **more)


class Management:
    """Takes deletions."""

    def __init__(self) -> None:
        self.deleted: list[str] = []

    async def delete(self, ref: Ref, *, uid: str) -> None:
        assert uid == ref.name
        self.deleted.append(ref.name)


async def test_the_object_of_a_backup_that_failed_its_trial_stays_or_retention_would_count_it_as_good() -> None:
    management = Management()
    shown = [backup(day, proven_at=NOW if day == 0 else None) for day in range(SHOWN)]
    own = [*shown, backup(20), backup(21, disproven_at=NOW - 7 * DAY), backup(22, disproven_at=NOW - 14 * DAY)]
    world = SimpleNamespace(management=management, trials=Trials(), live=SimpleNamespace(all=lambda _: []))
    kit = SimpleNamespace(shelf=SimpleNamespace(of=lambda _: own))
    scheduled = SimpleNamespace(tenant=ACME, since=NOW - 30 * DAY)
    await Tidying(cast("Any", world), cast("Any", kit))._trim(cast("Any", scheduled))
    assert management.deleted == ["b20"]
