"""The old side of a move: brought to rest before the new one opens, so that never two of them run or write."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.names import RESOURCE_QUOTA_OFF, STATE_MOVING
from tenantry.api.resources import RESOURCE_QUOTAS, Ref
from tenantry.api.tenantrecord import Move, TenantRecord
from tenantry.decide.halt import Waiting
from tenantry.decide.quantities import same_quantity
from tenantry.ports.kube import NotFoundError, Target
from tenantry.ports.postgres import DatabaseError, WantedDatabase
from tenantry.ports.servers import Server
from tenantry.reconcile.database import PARKED, refused
from tenantry.reconcile.parking import ready_server, wanted_of
from tenantry.reconcile.quiescence import bring_to_rest, mark_namespace, read_namespace
from tenantry.reconcile.world import World

PODS_RETRY: Final = 2.0
PODS: Final = "pods"


async def stop_old_side(world: World, target: Target, record: TenantRecord, move: Move) -> None:
    """No pod runs there any more, no login works, no session is open; all is kept. Safe to repeat and to lose.

    Raises:
        Waiting: pods are still ending, or the server is not ready.
        KubeError: of the target.
    """
    live = await read_namespace(target, record)
    if live is not None and "deletionTimestamp" not in live["metadata"]:
        await mark_namespace(target, record, live, STATE_MOVING)
        await bring_to_rest(world, target, record)
    if record.spec.database.mode == "Shared":
        await _lock(ready_server(world, record), wanted_of(record), parked=move.database is not None)
    if live is not None:
        await _check_no_pods(target, record.spec.cluster.namespace)


async def stop_database(world: World, record: TenantRecord) -> None:
    """No login of the database works, and no session of it is open; all is kept. Safe to repeat and to lose.

    Raises:
        Waiting: the server is not ready, or refused.
    """
    server, wanted = ready_server(world, record), wanted_of(record)
    try:
        if not (await server.admin.inspect(wanted)).exists:
            return  # it was lost: that is what is made good
    except DatabaseError as error:
        raise refused(error) from error
    await _lock(server, wanted, parked=True)


async def _lock(server: Server, wanted: WantedDatabase, *, parked: bool) -> None:
    """Logins locked and sessions ended; of a database that is left for good, also all privileges taken."""
    admin = server.admin
    try:
        claim = (await admin.inspect(wanted)).claim
        if claim is None or claim.state == PARKED:
            return
        await admin.lock_logins(wanted)
        if parked:
            # What a login made as itself would be read, but never be given to the owner on the other side.
            await admin.reassign(wanted)
            await admin.park(wanted, purge_after=None)
    except DatabaseError as error:
        raise refused(error) from error


async def _check_no_pods(target: Target, namespace: str) -> None:
    """By what the quota of no pods counts: the operator may not list pods, and needs not.

    Raises:
        Waiting: some are still there, or it was not counted yet.
    """
    ref = Ref(RESOURCE_QUOTAS, namespace, RESOURCE_QUOTA_OFF)
    try:
        status = (await target.kube.get(ref)).get("status") or {}
    except NotFoundError:
        status = {}
    hard, used = status.get("hard") or {}, status.get("used") or {}
    if PODS not in used or not same_quantity("0", hard.get(PODS, "")):
        raise _waiting("the pods of the old side were not counted yet")
    if not same_quantity("0", used[PODS]):
        raise _waiting(
            f"{used[PODS]} pods of the old side are still there. Those that no controller made are not ours to delete: "
            "whoever made them has to"
        )


def seconds_since(began: str | None, world: World) -> float:
    """Seconds since a time that a record has, whole or with a fraction; 0 for none."""
    try:
        then = datetime.fromisoformat(began or "")
        return max(0.0, (world.clock.now() - then).total_seconds())
    except (ValueError, TypeError):
        return 0.0


def _waiting(message: str) -> Waiting:
    return Waiting(ConditionType.NAMESPACE_READY, Reason.MOVE_STOPPING, message, retry_after=PODS_RETRY)
