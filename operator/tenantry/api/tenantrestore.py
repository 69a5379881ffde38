"""TenantRestore: one restore of a backup into a tenant's database; its spec never changes, its life is its status."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import ConfigDict, Field

from tenantry.api.base import (
    AGE,
    MESSAGE,
    Column,
    Kind,
    Label,
    Model,
    ObjectMeta,
    ObjectName,
    Rule,
    ShortText,
    rules,
)
from tenantry.api.conditions import Condition
from tenantry.api.resources import TENANT_BACKUPS, TENANT_RESTORES, TENANTS, Ref

TIME_PATTERN: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"


class RestorePhase(StrEnum):
    """The life of a restore. It only goes forward; Failed and Undone are ends, and Completed until it is undone."""

    PENDING = "Pending"
    SAVING = "Saving"
    RESTORING = "Restoring"
    COMPLETED = "Completed"
    FAILED = "Failed"
    UNDONE = "Undone"


RANKS: Final = {
    RestorePhase.PENDING: 0,
    RestorePhase.SAVING: 1,
    RestorePhase.RESTORING: 2,
    RestorePhase.COMPLETED: 3,
    RestorePhase.FAILED: 4,
    RestorePhase.UNDONE: 4,
}
"""A phase may be followed by itself and by those of a higher rank. The API server holds it, too."""

ENDS: Final = (RestorePhase.COMPLETED, RestorePhase.FAILED, RestorePhase.UNDONE)

_RANKS_IN_CEL: Final = "{" + ", ".join(f"'{phase.value}': {rank}" for phase, rank in RANKS.items()) + "}"


class RestoredBackup(Model):
    """A TenantBackup of the same workspace."""

    name: ObjectName


class RestoredTenant(Model):
    """A Tenant of the same workspace."""

    name: Label


class TenantRestoreSpec(Model):
    """One restore as its workspace's admin wants it."""

    model_config = ConfigDict(
        json_schema_extra=rules(Rule("self == oldSelf", "a restore can't be changed: make another TenantRestore"))
    )

    backup_ref: RestoredBackup = Field(description="A Completed TenantBackup of the same workspace.")
    tenant_ref: RestoredTenant = Field(
        description="The Tenant whose database is exchanged; another one than the backup's: a clone."
    )
    safety_backup: bool = Field(
        True, description="Back up the present database first; without a good one nothing is restored."
    )
    not_before: Annotated[str, Field(max_length=20, pattern=TIME_PATTERN)] | None = Field(
        None, description="Wait until then: a time in UTC such as 2026-12-24T03:00:00Z."
    )
    former_tenant: bool = Field(
        False, description="Also a backup of a former tenant of that name is taken, of which nothing else is left."
    )


class TenantRestoreStatus(Model):
    """The life of a restore: a report; what is under way is in the TenantRecord."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "!has(oldSelf.phase) || (has(self.phase) && (self.phase == oldSelf.phase || "
                f"{_RANKS_IN_CEL}[oldSelf.phase] < {_RANKS_IN_CEL}[self.phase]))",
                "a restore's phase only goes forward",
                ".phase",
            )
        )
    )

    observed_generation: int = -1
    phase: RestorePhase | None = None
    conditions: list[Condition] = []
    started_at: ShortText | None = None
    completed_at: ShortText | None = Field(None, description="When it ended, well or not.")
    safety_backup: ShortText | None = Field(None, description="The TenantBackup of what was there before.")
    database: ShortText | None = Field(None, description="The database that was filled.")
    tables: int | None = None
    rows: int | None = None
    write_stop_milliseconds: int | None = Field(None, description="How long neither database could be written.")
    undo_until: ShortText | None = Field(None, description="Until when the former database is kept.")
    undone_at: ShortText | None = None


class TenantRestore(Model):
    """A TenantRestore as read from the API."""

    metadata: ObjectMeta
    spec: TenantRestoreSpec
    status: TenantRestoreStatus = TenantRestoreStatus()

    @property
    def name(self) -> str:
        """Its name."""
        return self.metadata.name

    @property
    def tenant(self) -> Ref:
        """The Tenant whose database is exchanged."""
        return Ref(TENANTS, self.metadata.namespace, self.spec.tenant_ref.name)

    @property
    def backup(self) -> Ref:
        """The TenantBackup that is restored."""
        return Ref(TENANT_BACKUPS, self.metadata.namespace, self.spec.backup_ref.name)

    @classmethod
    def read(cls, body: dict[str, Any]) -> TenantRestore:
        """From the API's JSON."""
        return cls.model_validate(body)


KIND: Final = Kind(
    resource=TENANT_RESTORES,
    spec=TenantRestoreSpec,
    status=TenantRestoreStatus,
    description="One restore of a backup into a tenant's database.",
    short_names=("tnr",),
    columns=(
        Column("Tenant", ".spec.tenantRef.name"),
        Column("Backup", ".spec.backupRef.name"),
        Column("Phase", ".status.phase"),
        Column("Completed", ".status.completedAt", "date"),
        Column("Undo-Until", ".status.undoUntil"),
        Column("Safety-Backup", ".status.safetyBackup", priority=1),
        MESSAGE,
        AGE,
    ),
)
