"""How a TenantBackup tells of its restore on trial: what was found, or what it waits for."""

from __future__ import annotations

from typing import Final

from tenantry.api.conditions import Reason
from tenantry.api.tenantbackup import BackupVerification, TenantBackup
from tenantry.decide.conditions import Outcome
from tenantry.decide.deletion import time_text
from tenantry.reconcile.trials import Finding, Verdict

TO_BE_TRIED: Final = "; it is to be restored on trial"


def told_complete(backup: TenantBackup, rows: int, tables: int, size: int) -> str:
    """What is said of a backup that has just been completed; `size` in bytes."""
    found = "found in the store again: " if backup.spec.source.stored is not None else ""
    return found + read_back(rows, tables, size) + (TO_BE_TRIED if backup.spec.verify == "Restore" else "")


def read_back(rows: int, tables: int, size: int) -> str:
    """What is said of a backup that is complete; `size` in bytes."""
    return f"{rows} rows of {tables} tables in {size} bytes, read back from the store"


def is_disproven(backup: TenantBackup) -> bool:
    """Whether it was restored on trial, and was not well: that is never taken back."""
    verification = backup.status.verification
    return verification is not None and verification.result == "Failed"


def of_trial(backup: TenantBackup, finding: Finding) -> tuple[Outcome, BackupVerification]:
    """What a trial has found out, as Ready and as the status have it.

    Args:
        backup: It must be Completed.
        finding: Passed, or failed.
    """
    good = finding.verdict == Verdict.PASSED
    time = time_text(finding.ended_at)
    verification = BackupVerification(
        method="Restore", time=time, result="Passed" if good else "Failed", message=finding.message
    )
    if good:
        told = f"{_read_back(backup)}, and restored on trial at {time}"
        return Outcome(True, Reason.BACKUP_COMPLETED, told), verification
    told = f"it was restored on trial, and is not well: {finding.message}"
    return Outcome(False, Reason.VERIFICATION_FAILED, told, terminal=True), verification


def waits_for_trial(backup: TenantBackup, obstacle: str) -> Outcome | None:
    """What is said of one that was to be restored on trial, and was not yet; None of all others."""
    verification = backup.status.verification
    if backup.spec.verify != "Restore" or (verification is not None and verification.method == "Restore"):
        return None
    why = f", which is not possible now: {obstacle}" if obstacle else ""
    return Outcome(True, Reason.BACKUP_COMPLETED, f"{_read_back(backup)}{TO_BE_TRIED}{why}")


def _read_back(backup: TenantBackup) -> str:
    status = backup.status
    return read_back(status.rows or 0, status.tables or 0, status.size_bytes or 0)
