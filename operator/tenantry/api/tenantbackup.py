"""TenantBackup: one backup of a tenant's database. Its spec never changes; its life is in its status."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field

from tenantry.api.base import (
    AGE,
    MESSAGE,
    Column,
    Duration,
    Kind,
    Label,
    Model,
    ObjectMeta,
    ObjectName,
    Rule,
    Text,
    rules,
)
from tenantry.api.conditions import Condition
from tenantry.api.resources import TENANT_BACKUPS, TENANTS, Ref

RUN_PATTERN: Final = r"^[0-9]{8}t[0-9]{6}z-[0-9a-f]{8}$"


class BackupPhase(StrEnum):
    """The life of a backup. It only goes forward; Completed and Failed are its two ends."""

    PENDING = "Pending"
    RUNNING = "Running"
    VERIFYING = "Verifying"
    COMPLETED = "Completed"
    FAILED = "Failed"


RANKS: Final = {
    BackupPhase.PENDING: 0,
    BackupPhase.RUNNING: 1,
    BackupPhase.VERIFYING: 2,
    BackupPhase.COMPLETED: 3,
    BackupPhase.FAILED: 3,
}
"""A phase may be followed by itself and by those of a higher rank. The API server holds it, too."""

_RANKS_IN_CEL: Final = "{" + ", ".join(f"'{phase.value}': {rank}" for phase, rank in RANKS.items()) + "}"


class BackedUpTenant(Model):
    """A Tenant of the same workspace."""

    name: Label


class StoredBackup(Model):
    """A backup that is in the store already: with the tenant's name, all that its place there is worked out of."""

    run: Annotated[str, Field(max_length=25, pattern=RUN_PATTERN)] = Field(description="The run's id.")
    incarnation: Annotated[int, Field(ge=1, le=1_000_000)] = Field(1, description="Of the tenant that it is of.")
    workspace: Label | None = Field(
        None, description="What the workspace was called then; without it, as it is called now."
    )
    management_id: Label | None = Field(
        None, description="Of the installation that made it: one of the BackupStore's formerManagementIds."
    )


class BackupSource(Model):
    """What is backed up."""

    tenant: BackedUpTenant
    stored: StoredBackup | None = Field(
        None, description="No backup is made: this one, which is in the store already, gets an object again."
    )


class TenantBackupSpec(Model):
    """One backup as its workspace's admin, or a schedule, wants it."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule("self == oldSelf", "a backup can't be changed: make another TenantBackup"),
            Rule(
                "!has(self.source.stored) || self.deletionPolicy == 'Retain'",
                "what was found in a store stays there: with source.stored it must be Retain",
                ".deletionPolicy",
            ),
        )
    )

    source: BackupSource
    store: ObjectName = Field(description="The BackupStore that it is written to.")
    description: Text = ""
    ttl: Duration | None = Field(
        None, description="How long after its completion this object is deleted; without it, not by itself."
    )
    deletion_policy: Literal["Delete", "Retain"] = Field(
        "Retain", description="Whether deleting this object deletes what is in the store."
    )
    verify: Literal["Read", "Restore"] = Field(
        "Read",
        description="Read: size, sha256 and a full read of the archive, out of the store. Restore: after that it is "
        "also restored on trial, as the BackupStore's verification says, and rows are counted.",
    )


class BackupVerification(Model):
    """How it was made sure, most lately, that a backup can be used."""

    method: Literal["Read", "Restore"]
    time: str
    result: Literal["Passed", "Failed"]
    message: str | None = Field(None, description="What was found.")


class TenantBackupStatus(Model):
    """The life of a backup. Where it is in the store is never read from here, but worked out anew."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "!has(oldSelf.phase) || (has(self.phase) && (self.phase == oldSelf.phase || "
                f"{_RANKS_IN_CEL}[oldSelf.phase] < {_RANKS_IN_CEL}[self.phase]))",
                "a backup's phase only goes forward",
                ".phase",
            ),
            Rule(
                "!has(oldSelf.verification) || (has(self.verification) && "
                "(oldSelf.verification.method != 'Restore' || self.verification.method == 'Restore') && "
                "(oldSelf.verification.result != 'Failed' || self.verification.result == 'Failed'))",
                "what was found out by a restore is not taken back",
                ".verification",
            ),
        )
    )

    observed_generation: int = -1
    phase: BackupPhase | None = None
    conditions: list[Condition] = []
    run: str | None = Field(None, description="The run's id: the last part of objectKey.")
    worker: str | None = Field(None, description="Which process of the operator does it, or did.")
    started_at: str | None = None
    completed_at: str | None = Field(None, description="When it ended, well or not.")
    object_key: str | None = Field(None, description="The folder in the store, under the store's prefix.")
    size_bytes: int | None = Field(None, description="Of the database's part, as it is in the store.")
    sha256: str | None = Field(None, description="Of the database's part, as it is in the store.")
    encrypted: bool | None = None
    pg_version: str | None = None
    tables: int | None = None
    rows: int | None = None
    verification: BackupVerification | None = None
    expires_at: str | None = None


class TenantBackup(Model):
    """A TenantBackup as read from the API."""

    metadata: ObjectMeta
    spec: TenantBackupSpec
    status: TenantBackupStatus = TenantBackupStatus()

    @property
    def name(self) -> str:
        """Its name."""
        return self.metadata.name

    @property
    def tenant(self) -> Ref:
        """The Tenant that it is a backup of."""
        return Ref(TENANTS, self.metadata.namespace, self.spec.source.tenant.name)

    @classmethod
    def read(cls, body: dict[str, Any]) -> TenantBackup:
        """From the API's JSON."""
        return cls.model_validate(body)


KIND: Final = Kind(
    resource=TENANT_BACKUPS,
    spec=TenantBackupSpec,
    status=TenantBackupStatus,
    description="One backup of a tenant's database.",
    short_names=("tnb",),
    columns=(
        Column("Tenant", ".spec.source.tenant.name"),
        Column("Phase", ".status.phase"),
        Column("Size", ".status.sizeBytes", "integer"),
        Column("Completed", ".status.completedAt", "date"),
        Column("Verified-By", ".status.verification.method"),
        Column("Result", ".status.verification.result"),
        Column("Store", ".spec.store"),
        Column("Expires", ".status.expiresAt", priority=1),
        Column("Key", ".status.objectKey", priority=1),
        MESSAGE,
        AGE,
    ),
)
