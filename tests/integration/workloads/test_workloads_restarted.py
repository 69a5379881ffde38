"""Restarts of what reads its login at its start only, after a rotation."""

from __future__ import annotations

from tests.integration.acting import eventually
from tests.integration.workloads.room import BY_LOGIN, LATER, NOON, OFF, ON, Room, scaled

from tenantry.api.names import SECRET_DATABASE
from tenantry.api.resources import REPLICA_SETS, STATEFUL_SETS


async def test_a_rotation_restarts_once_what_reads_the_login_at_its_start(room: Room) -> None:
    room.deployment("reader", container=BY_LOGIN)
    room.deployment("idle", container=BY_LOGIN, replicas=0)
    room.deployment("other")
    room.make(STATEFUL_SETS, "store", **scaled(
        "store", serviceName="store", container={"envFrom": [{"secretRef": {"name": SECRET_DATABASE}}]}
    ))  # fmt: skip
    eventually(lambda: len(room.admin.get(REPLICA_SETS.path(room.namespace)).body["items"]) == 3)
    assert await room.workloads.restart(NOON) == 2
    assert await room.workloads.restart(NOON) == 0
    assert (room.restarted_at("reader"), room.restarted_at("store", STATEFUL_SETS)) == (NOON, NOON)
    assert (room.restarted_at("idle"), room.restarted_at("other")) == (None, None)
    eventually(lambda: len(room.admin.get(REPLICA_SETS.path(room.namespace)).body["items"]) == 4)
    assert await room.workloads.restart(LATER) == 2
    assert room.restarted_at("reader") == LATER


async def test_what_is_off_is_not_restarted_and_keeps_its_number(room: Room) -> None:
    room.deployment("reader", container=BY_LOGIN)
    await room.workloads.settle(OFF)
    assert await room.workloads.restart(NOON) == 0
    await room.workloads.settle(ON)
    assert (room.replicas("reader"), room.restarted_at("reader")) == ((2, None), None)
