"""The TenantBackups that there are, by tenant: what the watch has seen of them, as little as schedules need of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from tenantry.api.conditions import ConditionType
from tenantry.api.identity import TenantIdentity
from tenantry.api.names import ANNOTATION_SLOT, LABEL_SCHEDULED
from tenantry.api.resources import TENANT_BACKUPS, Ref
from tenantry.api.tenantbackup import BackupPhase, TenantBackup
from tenantry.decide.deletion import parse_time
from tenantry.desired.manifest import tenant_path
from tenantry.reconcile.backupobject import run_of

_NEVER: Final = datetime.min.replace(tzinfo=UTC)
_ENDS = (BackupPhase.COMPLETED, BackupPhase.FAILED)


@dataclass(frozen=True, slots=True)
class Shelved:
    """One TenantBackup.

    Attributes:
        slot: For which a schedule has made it; None for one that a person or a restore has made.
        run: The id of its run: the last part of its path.
        failure: Why it failed; empty where it has not.
        path: Where it says that it is in its store.
        asked: It is to be restored on trial whatever the schedule says.
        proven_at: When it was last restored on trial, and was well.
        disproven_at: When it was restored on trial and was not.
        finding: What that trial found.
    """

    ref: Ref
    uid: str
    tenant: Ref
    store: str
    run: str
    phase: BackupPhase | None
    slot: datetime | None
    completed_at: datetime | None
    failure: str = ""
    path: str = ""
    asked: bool = False
    proven_at: datetime | None = None
    disproven_at: datetime | None = None
    finding: str = ""

    @property
    def good(self) -> bool:
        """It is complete, and nothing else was found out since."""
        return self.phase == BackupPhase.COMPLETED and self.disproven_at is None

    @property
    def ended(self) -> bool:
        """Well or not."""
        return self.phase in _ENDS

    @classmethod
    def of(cls, backup: TenantBackup) -> Shelved:
        """Of an object as it was read."""
        metadata, status = backup.metadata, backup.status
        scheduled = metadata.labels.get(LABEL_SCHEDULED) == "true"
        trial = status.verification if status.verification and status.verification.method == "Restore" else None
        tried_at = parse_time(trial.time) if trial is not None else None
        passed = trial is not None and trial.result == "Passed"
        ready = next((each.message for each in status.conditions if each.type == ConditionType.READY), "")
        return cls(
            ref=Ref(TENANT_BACKUPS, metadata.namespace, metadata.name),
            uid=metadata.uid,
            tenant=backup.tenant,
            store=backup.spec.store,
            run=run_of(backup),
            phase=status.phase,
            slot=parse_time(metadata.annotations.get(ANNOTATION_SLOT)) if scheduled else None,
            completed_at=parse_time(status.completed_at),
            failure=ready if status.phase == BackupPhase.FAILED else "",
            path=status.object_key or "",
            asked=backup.spec.verify == "Restore",
            proven_at=tried_at if passed else None,
            disproven_at=tried_at if not passed else None,
            finding=(trial.message or "") if trial is not None else "",
        )


class Shelf:
    """All of them. In memory only: filled from the watch at the start, and by each change after that."""

    def __init__(self) -> None:
        self._by_ref: dict[Ref, Shelved] = {}
        self._by_tenant: dict[Ref, dict[Ref, Shelved]] = {}

    def fill(self, bodies: list[dict[str, Any]]) -> None:
        """What there is at the start."""
        for body in bodies:
            self.note(TenantBackup.read(body))

    def note(self, backup: TenantBackup) -> bool:
        """One as it is now; whether it has come to a good end since it was seen last, being seen before."""
        shelved = Shelved.of(backup)
        former = self._by_ref.get(shelved.ref)
        self._by_ref[shelved.ref] = shelved
        self._by_tenant.setdefault(shelved.tenant, {})[shelved.ref] = shelved
        good = shelved.phase == BackupPhase.COMPLETED
        return good and former is not None and former.phase != BackupPhase.COMPLETED

    def forget(self, ref: Ref) -> None:
        """It is gone."""
        former = self._by_ref.pop(ref, None)
        if former is not None:
            own = self._by_tenant[former.tenant]
            own.pop(ref, None)
            if not own:
                del self._by_tenant[former.tenant]

    def all(self) -> list[Shelved]:
        """All there are."""
        return list(self._by_ref.values())

    def of(self, tenant: Ref) -> list[Shelved]:
        """All of one tenant."""
        return list(self._by_tenant.get(tenant, {}).values())

    def asked(self) -> list[Shelved]:
        """Those that were asked to be restored on trial, and were not yet."""
        return [each for each in self._by_ref.values() if each.asked and each.good and each.proven_at is None]

    def waiting(self) -> list[Shelved]:
        """Those that schedules have made and that have not ended."""
        return [each for each in self._by_ref.values() if each.slot is not None and not each.ended]


def of_incarnation(
    shelved: Iterable[Shelved], identity: TenantIdentity, since: datetime, now: datetime
) -> list[Shelved]:
    """Those of a tenant as it is now, not of a former one of its name; nor what a clock that had jumped has written.

    Args:
        shelved: All of its name.
        identity: The tenant's.
        since: When it was made: what failed before it had a path in the store goes by that.
        now: What was completed after that is not looked at before its time comes.
    """
    own = f"{tenant_path(identity)}/"
    return [
        each
        for each in shelved
        if (each.completed_at is None or each.completed_at <= now)
        and (each.path.startswith(own) or (not each.path and (each.completed_at or now) >= since))
    ]


def last_proven(shelved: Iterable[Shelved], now: datetime) -> datetime | None:
    """When one was last restored on trial, and was well; what a clock that had jumped has written does not count."""
    times = (each.proven_at for each in shelved if each.phase == BackupPhase.COMPLETED)
    return max((time for time in times if time is not None and time <= now), default=None)


def disproven(shelved: Iterable[Shelved]) -> Shelved | None:
    """The newest backup that was restored on trial and was not well, unless a newer one was, and was well."""
    tried = [each for each in shelved if each.completed_at is not None and (each.proven_at or each.disproven_at)]
    newest = max(tried, key=lambda each: (each.completed_at or _NEVER, str(each.ref)), default=None)
    return newest if newest is not None and newest.disproven_at is not None else None


def is_newer(one: Shelved, other: Shelved) -> bool:
    """Whether one backup was completed after another."""
    return (one.completed_at or _NEVER) > (other.completed_at or _NEVER)
