"""Who sees to the final backups of tenants, for the steps that destroy them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.tenantrecord import TenantRecord
from tenantry.decide.halt import Waiting


class Farewells:
    """Set once the operator has what backups take. Without it, nothing is destroyed that is to be backed up first.

    Attributes:
        see_to_it: Makes sure of a record's final backup, and gives the record as it then is; raises Waiting until then.
    """

    def __init__(self) -> None:
        self.see_to_it: Callable[[TenantRecord], Awaitable[TenantRecord]] = _nobody


async def _nobody(record: TenantRecord) -> TenantRecord:
    if not record.spec.deletion.final_backup or record.spec.final_backup:
        return record
    raise Waiting(ConditionType.DATABASE_READY, Reason.FINAL_BACKUP, "nobody here can make its final backup")
