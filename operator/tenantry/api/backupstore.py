"""BackupStore: an object store, or a folder, that tenants' backups are written to."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import ConfigDict, Field

from tenantry.api.backuppolicy import CronText, ZoneName
from tenantry.api.base import (
    AGE,
    MESSAGE,
    READY,
    REASON,
    AllowedWorkspaces,
    Column,
    Duration,
    Kind,
    Label,
    Model,
    ObjectMeta,
    ObjectName,
    Rule,
    SecretRef,
    ShortText,
    Text,
    rules,
)
from tenantry.api.conditions import Condition
from tenantry.api.resources import BACKUP_STORES

URL_PATTERN: Final = r"^((s3|gs|az)://[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9._/-]*)?|file:///[A-Za-z0-9._/-]+)$"
RECIPIENT_PATTERN: Final = r"^age1[ac-hj-np-z02-9]{58}$"

Recipient = Annotated[str, Field(min_length=62, max_length=62, pattern=RECIPIENT_PATTERN)]


class StoreEncryption(Model):
    """How the backups in a store are encrypted (age, X25519), before they leave the operator."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "has(self.secretRef) || (has(self.recipients) && self.recipients.size() > 0)",
                "set recipients, or secretRef, or both",
            )
        )
    )

    recipients: Annotated[list[Recipient], Field(max_length=8)] | None = Field(
        None,
        description="age public keys (age1...). Whoever has one of their private keys can read the backups: it need "
        "not be in any cluster.",
    )
    secret_ref: SecretRef | None = Field(
        None,
        description="Secret in the operator's namespace with key identity: an age private key (AGE-SECRET-KEY-1...). "
        "The operator encrypts for it too, and needs it to restore.",
    )


class VerificationWindow(Model):
    """When backups may begin to be restored on trial."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "duration(self.duration) >= duration('1m') && duration(self.duration) <= duration('168h')",
                "duration must be from 1m to 168h (a week)",
                ".duration",
            )
        )
    )

    schedule: CronText = Field(description="When it opens, as of a CronJob.")
    duration: Duration = Field(description="How long it is open. What has begun by then is brought to its end.")
    time_zone: ZoneName | None = Field(None, description="Of the schedule, such as Europe/Berlin; without it UTC.")


class StoreVerification(Model):
    """How it is made sure that what is in the store can be restored: a backup of each tenant is, on trial."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "duration(self.interval) == duration('0s') || (duration(self.interval) >= duration('1m') && "
                "duration(self.interval) <= duration('8760h'))",
                "interval must be from 1m to 8760h (a year), or 0s for never",
                ".interval",
            )
        )
    )

    interval: Duration = Field(
        "168h", description="How often the newest backup of each tenant with a schedule is restored; 0s: never."
    )
    server: ObjectName | None = Field(
        None,
        description="The DatabaseServer that it is restored on, whoever may use that otherwise; without it the one "
        "that the tenant's database is on.",
    )
    window: VerificationWindow | None = Field(None, description="Without it at any time.")


class BackupStoreSpec(Model):
    """Where backups go, as the platform team wants it."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "!has(self.endpoint) || self.url.startsWith('s3://') || self.url.startsWith('az://')",
                "endpoint goes with s3:// and az:// only; leave it out",
                ".endpoint",
            ),
            Rule(
                "!has(self.region) || self.url.startsWith('s3://')",
                "region goes with s3:// only; leave it out",
                ".region",
            ),
            Rule(
                "!has(self.credentialsSecretRef) || !self.url.startsWith('file:')",
                "a folder has no credentials; leave credentialsSecretRef out",
                ".credentialsSecretRef",
            ),
            Rule("self.url == oldSelf.url", "url can't be changed: make another BackupStore", ".url"),
        )
    )

    description: Text = ""
    url: Annotated[str, Field(min_length=6, max_length=512, pattern=URL_PATTERN)] = Field(
        description="s3://bucket/prefix, gs://bucket/prefix, az://container/prefix, or file:///folder: a folder of "
        "the operator's, which must be on a volume that outlives its pod."
    )
    endpoint: (
        Annotated[str, Field(max_length=512, pattern=r"^https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._/-]*)?$")] | None
    ) = Field(None, description="Of a store that is compatible with S3 or Azure; without it the provider's own.")
    region: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-z0-9-]+$")] | None = None
    credentials_secret_ref: SecretRef | None = Field(
        None,
        description="Secret in the operator's namespace. S3: keys accessKeyId, secretAccessKey, and sessionToken if "
        "need be; GCS: serviceAccountKey; Azure: accountName, accountKey. Without it: the operator's own identity.",
    )
    signing_secret_ref: SecretRef = Field(
        description="Secret in the operator's namespace with key key, at least 32 characters: backups are signed with "
        "it. Keep a copy elsewhere: without it no backup is trusted."
    )
    encryption: StoreEncryption | None = Field(None, description="Without it, whoever may read the store may read all.")
    verification: StoreVerification = Field(
        StoreVerification(), description="Backups are restored on trial, row counts compared, and dropped again."
    )
    former_management_ids: Annotated[list[Label], Field(max_length=8)] | None = Field(
        None,
        description="Of installations that wrote to this store with the same signing key, and are gone: their backups "
        "are taken up, too, by the workspaces that they are of.",
    )
    allowed_workspaces: AllowedWorkspaces = AllowedWorkspaces()


class Quarantined(Model):
    """What is in the store and is not believed, or could not be given an object."""

    path: Annotated[str, Field(max_length=512)]
    reason: Text


class UnmappedWorkspace(Model):
    """A workspace of which there are backups, and that no namespace is, or takes over."""

    uid: ShortText
    name: ShortText = Field("", description="What it was called.")
    backups: int
    reason: Text


class StoreSync(Model):
    """What the last look through the store, for backups that have no TenantBackups, came to."""

    request: ShortText = Field(description="The annotation's value, cut to 128 characters.")
    started_at: ShortText
    completed_at: ShortText | None = Field(None, description="Absent while it is under way, or has to be begun again.")
    message: Text = ""
    found: int | None = Field(None, description="Manifests.")
    present: int | None = Field(None, description="Backups that had TenantBackups.")
    made: int | None = Field(None, description="TenantBackups.")
    left: int | None = Field(None, description="Good backups that are in the store only, for others are newer.")
    unmapped: int | None = Field(None, description="Good backups of workspaces that no namespace is, or takes over.")
    quarantined: int | None = Field(None, description="Manifests that are not believed.")
    quarantine: Annotated[list[Quarantined], Field(max_length=20)] = Field(
        default=[], description="The first of them. Nothing is moved or deleted."
    )
    unmapped_workspaces: Annotated[list[UnmappedWorkspace], Field(max_length=20)] = []


class BackupStoreStatus(Model):
    """What was last found out about the store: a report; no more than whether a request was done is read from it."""

    observed_generation: int = -1
    conditions: list[Condition] = []
    sync: StoreSync | None = None
    last_handled_reconcile_at: str | None = None


class BackupStore(Model):
    """A BackupStore as read from the API."""

    metadata: ObjectMeta
    spec: BackupStoreSpec
    status: BackupStoreStatus = BackupStoreStatus()

    @property
    def name(self) -> str:
        """Its name."""
        return self.metadata.name


KIND: Final = Kind(
    resource=BACKUP_STORES,
    spec=BackupStoreSpec,
    status=BackupStoreStatus,
    description="An object store (S3, GCS, Azure) or a folder that tenants' backups are written to.",
    short_names=("bks",),
    columns=(READY, REASON, Column("Url", ".spec.url"), MESSAGE, AGE),
)
