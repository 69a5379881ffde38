"""A backup that is asked for by an annotation of the Tenant: what it is called, and what is said of it. Pure."""

from __future__ import annotations

from typing import Final

from tenantry.api.backuppolicy import BackupReport, RequestedBackup
from tenantry.api.identity import TenantIdentity, base32_digest
from tenantry.api.names import ANNOTATION_BACKUP_NOW
from tenantry.api.tenant import Tenant

MOST_CHARACTERS: Final = 128
"""Of the annotation's value: what comes after them makes no other request."""


def request_of(tenant: Tenant) -> str:
    """The annotation's value; empty for none."""
    return tenant.metadata.annotations.get(ANNOTATION_BACKUP_NOW, "")[:MOST_CHARACTERS]


def backup_name(identity: TenantIdentity, request: str) -> str:
    """Of the TenantBackup for one request: always the same one, so that it is made once."""
    return f"{identity.name}-now-{base32_digest(identity.tenant_hash, request)}"


def told(report: BackupReport | None, requested: RequestedBackup | None) -> BackupReport | None:
    """The report with what came of a request; None says nothing of any."""
    if report is None and requested is None:
        return None
    return (report or BackupReport()).model_copy(update={"requested": requested})


def left_alone(tenant: Tenant) -> BackupReport | None:
    """What the status says of backups while nothing is done for a tenant: why a new request is not done, either."""
    former, request = tenant.status.backup, request_of(tenant)
    requested = former.requested if former is not None else None
    done = requested is not None and requested.request == request and requested.backup is not None
    if not request or done:
        return former
    if tenant.deleting:
        why = "the tenant is being deleted: its final backup is made where its deletion says so"
    elif tenant.spec.suspend:
        why = "the tenant is left as it is: spec.suspend is true"
    else:
        return former
    return told(former, RequestedBackup(request=request, message=why))
