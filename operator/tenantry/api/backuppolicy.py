"""When backups are made and which of them are kept: the part that Tenants and TenantPlans have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tenantry.api.base import Model, ShortText, Text

Count = Annotated[int, Field(ge=0, le=1000)]
CronText = Annotated[
    str, Field(min_length=1, max_length=100, pattern=r"^(@[a-z]+|[0-9A-Za-z*?/,-]+( +[0-9A-Za-z*?/,-]+){4})$")
]
ZoneName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z][A-Za-z0-9_+/-]*$")]


class KeptBackups(Model):
    """Which of the scheduled backups are kept; with nothing said all of them are, and always the newest."""

    keep_last: Count | None = None
    keep_hourly: Count | None = Field(None, description="The newest of each of so many hours that have one.")
    keep_daily: Count | None = None
    keep_weekly: Count | None = None
    keep_monthly: Count | None = None


class PlanBackup(Model):
    """Backups that a plan gives: into the store that the tenant's Cluster names."""

    schedule: CronText | None = Field(None, description="As of a CronJob; without it none is made by itself.")
    time_zone: ZoneName | None = Field(None, description="Of the schedule, such as Europe/Berlin; without it UTC.")
    retention: KeptBackups | None = None


class TenantBackups(PlanBackup):
    """Backups as a tenant wants them: what it sets must be the plan's, unless `backup.schedule` is overridable."""

    suspend: bool = Field(False, description="true: none is made by the schedule; one is made up for afterwards.")


class RequestedBackup(Model):
    """What came of `tenantry.io/backup-now`."""

    request: ShortText = Field(description="The annotation's value, cut to 128 characters.")
    backup: Annotated[str, Field(max_length=253)] | None = Field(None, description="The TenantBackup that was made.")
    message: Text = Field("", description="Why none was made yet.")


class BackupReport(Model):
    """What is known of a tenant's backups: a report, nothing is decided from it."""

    last_success: ShortText | None = Field(None, description="When the newest good one was completed.")
    last_verified: ShortText | None = Field(None, description="When one was last restored on trial, and was well.")
    next_run: ShortText | None = Field(None, description="When the next one is due, this tenant's jitter included.")
    requested: RequestedBackup | None = None
