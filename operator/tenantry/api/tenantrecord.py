"""TenantRecord: what exists for a tenant in the world, written by the operator before the first write to a target."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import Field

from tenantry.api.base import AGE, Column, Duration, Kind, Model, ObjectMeta, ObjectName, ShortText, Text
from tenantry.api.identity import TenantIdentity
from tenantry.api.move import MovePhase, MoveStatus
from tenantry.api.resources import TENANT_RECORDS

Uid = Annotated[str, Field(max_length=64)]


class RecordState(StrEnum):
    """The life of a record.

    Active goes to Deleted (in its window), Retained (runs on, unmanaged) or Orphaned (let go of while its cluster was
    not there); each of these goes back to Active when the Tenant is applied again. Purging is the end: what has begun
    to be destroyed is never given out again.
    """

    ACTIVE = "Active"
    DELETED = "Deleted"
    RETAINED = "Retained"
    ORPHANED = "Orphaned"
    PURGING = "Purging"


class PinnedDeletion(Model):
    """What is to happen at the tenant's deletion: as it was when spec and plan last made sense together."""

    policy: Annotated[str, Field(max_length=16)] = "Delete"
    window: Duration = "24h"
    final_backup: bool = Field(False, description="The database is backed up before it is destroyed.")


class PinnedCluster(Model):
    """Where the tenant was placed, and the defaults of that time."""

    name: ObjectName
    id: Uid = Field(description="The UID of kube-system of the cluster that the name stood for.")
    namespace: Annotated[str, Field(max_length=63)]
    host: Annotated[str, Field(max_length=253)] = Field("", description="The tenant's default host, if it has one.")
    exclusive: bool = Field(False, description="Tier3: the tenant has the whole cluster for itself.")
    adopted: bool = Field(False, description="The namespace was not made by us: it is let go of, never deleted.")


class PinnedDatabase(Model):
    """Which database the tenant was given."""

    mode: Annotated[str, Field(max_length=16)]
    server: Annotated[str, Field(max_length=253)] = ""
    id: Uid = Field("", description="The system_identifier of the server that the name stood for.")
    name: Annotated[str, Field(max_length=63)] = ""
    provider: Annotated[str, Field(max_length=16)] | None = Field(
        None, description="Who made the tenant's own server, where that is not Tenantry itself."
    )


class PinnedPlan(Model):
    """Which plan the tenant is on, and which content of it it has. Records of versions before this had none."""

    name: ObjectName
    revision: Annotated[str, Field(max_length=253)] = Field(
        "", description="The ControllerRevision in the operator's namespace that holds the content; empty: built-in."
    )
    rolled_out_at: ShortText | None = Field(
        None, description="When a rollout gave it this revision; absent where it began with it."
    )
    was_ready: bool = Field(False, description="It was Ready when a rollout gave it this revision.")


class PinnedRestore(Model):
    """What fills the new database of a move that is a restore; everything was checked before it was written here."""

    name: ObjectName = Field(description="The TenantRestore, in the tenant's workspace.")
    uid: Uid
    store: Annotated[str, Field(max_length=253)] = Field("", description="The BackupStore; empty: an undo.")
    path: Annotated[str, Field(max_length=512)] = Field("", description="Where the backup is there; empty: an undo.")
    tables: int | None = Field(None, description="What was restored, once it is all there.")
    rows: int | None = None
    returns_to: Annotated[int, Field(ge=1)] | None = Field(
        None, description="An undo: the epoch of the side that the tenant goes back to."
    )


class RestoreResult(Model):
    """How the last restore, or its undo, ended: kept until the TenantRestore itself says so."""

    uid: Uid
    outcome: Annotated[str, Field(max_length=16)] = Field(description="Completed, Failed, Undone or NotUndone.")
    message: Text = ""
    database: Annotated[str, Field(max_length=63)] = ""
    tables: int | None = None
    rows: int | None = None
    write_stop_milliseconds: int | None = None
    undo_until: ShortText | None = None
    ended_at: ShortText


class Move(Model):
    """A move under way: the new side. The old one is what the record pins, until the phase is Switched.

    Attributes:
        cluster: None where the tenant stays on its cluster.
        database: None where its database stays on its server, or it has none of ours.
    """

    phase: MovePhase
    epoch: Annotated[int, Field(ge=2)]
    origin: Annotated[str, Field(max_length=512)] = Field("", description="The names of what it leaves.")
    destination: Annotated[str, Field(max_length=512)] = Field(description="What was approved.")
    cluster: PinnedCluster | None = None
    database: PinnedDatabase | None = None
    started_at: ShortText
    write_stopped_at: ShortText | None = None
    restore: PinnedRestore | None = Field(None, description="It is no move, but a restore: nothing but data changes.")


class FormerSide(Model):
    """What a move has left: of the side it came from, or of one that it never got to (Purging)."""

    epoch: Annotated[int, Field(ge=1)]
    state: RecordState = RecordState.DELETED
    cluster: PinnedCluster | None = None
    database: PinnedDatabase | None = None
    left_at: ShortText
    purge_after: ShortText
    message: Text = Field("", description="What its purge waits for.")
    restore: Uid | None = Field(None, description="The UID of the TenantRestore that left it: an undo goes back to it.")


class TenantRecordSpec(Model):
    """All that must be known to find, keep or remove what a tenant has, also without the Tenant."""

    management_id: Annotated[str, Field(max_length=63)]
    workspace: Annotated[str, Field(max_length=63)]
    workspace_uid: Uid
    tenant: Annotated[str, Field(max_length=63)]
    tenant_uid: Uid
    incarnation: Annotated[int, Field(ge=1)] = 1
    epoch: Annotated[int, Field(ge=1)] = 1
    state: RecordState = RecordState.ACTIVE
    cluster: PinnedCluster
    database: PinnedDatabase
    plan: PinnedPlan | None = None
    deletion: PinnedDeletion = PinnedDeletion()
    move: Move | None = Field(None, description="Where the tenant is moving to.")
    former: Annotated[list[FormerSide], Field(max_length=32)] = Field(
        default=[], description="What moves have left and is still to be destroyed."
    )
    last_move: MoveStatus | None = Field(None, description="How the last move ended.")
    move_failed: Text = Field("", description="Why the last move was rolled back; a new one needs a new approval.")
    last_restore: RestoreResult | None = Field(None, description="How the last restore ended.")
    backed_up_for: ShortText | None = Field(
        None, description="The last value of `tenantry.io/backup-now` that was done."
    )
    final_backup: Annotated[str, Field(max_length=768)] = Field(
        "", description="The last backup, made before the purge: `<BackupStore>/<path>`."
    )
    held_since: ShortText | None = Field(
        None, description="Since when the deletion waits for somebody to confirm or abort it."
    )
    deleted_at: ShortText | None = Field(None, description="When the deletion of the Tenant began.")
    expired: bool = Field(False, description="The deletion was the end of an ephemeral tenant's time.")
    purge_after: ShortText | None = Field(None, description="When a deleted tenant is destroyed, at the earliest.")
    last_spec: dict[str, Any] | None = Field(
        None,
        description="The Tenant's spec that was applied last: what a dry run goes on with, and an undelete applies.",
    )
    last_generation: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="The generation that lastSpec was; without it that is not known, or was of a former Tenant.",
    )
    message: Text = Field("", description="What a purge waits for, or what was left where.")


class TenantRecord(Model):
    """A TenantRecord as read from the API."""

    metadata: ObjectMeta
    spec: TenantRecordSpec

    @property
    def name(self) -> str:
        """Its name: `<tenant>-<tenantHash>`."""
        return self.metadata.name

    @property
    def identity(self) -> TenantIdentity:
        """Whose record it is."""
        return TenantIdentity(
            management_id=self.spec.management_id,
            workspace=self.spec.workspace,
            workspace_uid=self.spec.workspace_uid,
            name=self.spec.tenant,
            incarnation=self.spec.incarnation,
            epoch=self.spec.epoch,
        )


KIND: Final = Kind(
    resource=TENANT_RECORDS,
    spec=TenantRecordSpec,
    status=None,
    description="What exists for a tenant in the world. Written by the operator only; a Tenant is to its record what a "
    "PersistentVolumeClaim is to its PersistentVolume.",
    short_names=("tnrec",),
    columns=(
        Column("State", ".spec.state"),
        Column("Workspace", ".spec.workspace"),
        Column("Tenant", ".spec.tenant"),
        Column("Cluster", ".spec.cluster.name"),
        Column("Namespace", ".spec.cluster.namespace"),
        Column("Plan", ".spec.plan.name", priority=1),
        Column("Revision", ".spec.plan.revision", priority=1),
        Column("Database", ".spec.database.name", priority=1),
        Column("Server", ".spec.database.server", priority=1),
        Column("Purge-After", ".spec.purgeAfter"),
        Column("Move", ".spec.move.phase"),
        Column("Left-Until", ".spec.former[*].purgeAfter", priority=1),
        Column("Message", ".spec.message", priority=1),
        AGE,
    ),
)
