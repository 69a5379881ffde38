"""Whether a backup may be restored into a tenant's database, and what a restore does next: pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.tenantrecord import FormerSide, RecordState, TenantRecordSpec
from tenantry.decide.deletion import parse_time
from tenantry.decide.halt import Terminal
from tenantry.decide.move import MAJOR


@dataclass(frozen=True, slots=True)
class Origin:
    """What a backup is of, as its signed manifest says.

    Attributes:
        workspace_uid: Of the workspace that it belongs to.
        server_version: `server_version_num`.
        extensions: That its Tenant had asked for.
        readable: It is not encrypted, or the operator has a key that opens it.
    """

    workspace_uid: str
    tenant: str
    incarnation: int
    server_version: int
    extensions: frozenset[str]
    readable: bool = True


@dataclass(frozen=True, slots=True)
class Destination:
    """Which database is to be exchanged.

    Attributes:
        extensions: That it will have.
        former_tenant: The person says that the backup may be one of a former tenant of that name.
    """

    workspace_uid: str
    tenant: str
    incarnation: int
    server_version: int
    extensions: frozenset[str]
    former_tenant: bool


def check(origin: Origin, destination: Destination) -> None:
    """That the one may be restored into the other.

    Raises:
        Terminal: RestoreNotPossible, naming the field and the way out.
    """
    if origin.workspace_uid != destination.workspace_uid:
        raise _impossible("spec.backupRef: this backup belongs to another workspace")
    same = origin.tenant == destination.tenant
    if same and origin.incarnation != destination.incarnation and not destination.former_tenant:
        raise _impossible(
            f"spec.backupRef: this backup is of a former tenant {origin.tenant!r} (incarnation {origin.incarnation}), "
            f"not of the present one (incarnation {destination.incarnation}); with formerTenant: true it is restored"
        )
    if origin.server_version // MAJOR > destination.server_version // MAJOR:
        raise _impossible(
            f"spec.tenantRef: its server has PostgreSQL {destination.server_version // MAJOR}, and the backup comes "
            f"from {origin.server_version // MAJOR}, which can't be taken back to an older one; move the tenant to a "
            "server that is as new or newer first"
        )
    missing = sorted(origin.extensions - destination.extensions)
    if missing:
        raise _impossible(
            f"spec.tenantRef: the backup has extensions that the tenant has not: {', '.join(missing)}; add them to "
            "the Tenant's spec.database.extensions first"
        )
    if not origin.readable:
        raise _impossible(
            "spec.backupRef: it is encrypted, and the operator has no key that opens it: name a Secret with the age "
            "key in the BackupStore's spec.encryption.secretRef, or decrypt and restore it by hand"
        )


def side_to_return_to(spec: TenantRecordSpec, uid: str, now: datetime) -> FormerSide | str:
    """The side that a restore has left, if the tenant can go back to it; else why not.

    Args:
        spec: Of the tenant's record.
        uid: Of the TenantRestore that is to be undone.
        now: The time.
    """
    with_data = [side for side in spec.former if side.database is not None]
    side = next((side for side in with_data if side.restore == uid), None)
    if side is None or side.state != RecordState.DELETED:
        return "the former database is not kept any more"
    due = parse_time(side.purge_after)
    if due is None or due <= now:
        return f"the former database was kept until {side.purge_after}"
    if side.epoch != max(each.epoch for each in with_data):
        return "the database was exchanged again since: undo that first"
    return side


def _impossible(message: str) -> Terminal:
    return Terminal(ConditionType.READY, Reason.RESTORE_NOT_POSSIBLE, message)
