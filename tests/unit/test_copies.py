"""Copies under way: how many there may be, and that the result of one is never taken for that of another."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.unit.test_move import move, spec

from tenantry.api.move import MovePhase
from tenantry.api.tenantrecord import PinnedRestore, TenantRecord
from tenantry.ports.servers import Copied
from tenantry.reconcile.copies import Copies, copies_of_others
from tenantry.reconcile.moving import Moving
from tenantry.reconcile.world import World

Json = dict[str, Any]


def record(name: str, phase: MovePhase | None, *, server: bool = True) -> TenantRecord:
    moving = move(phase, cluster=not server, server=server) if phase is not None else None
    return TenantRecord.model_validate(
        {"metadata": {"name": name}, "spec": spec(move=moving).model_dump(by_alias=True)}
    )


def world(*records: TenantRecord) -> World:
    bodies = [each.model_dump(by_alias=True, mode="json") for each in records]
    return cast("World", SimpleNamespace(live=SimpleNamespace(all=lambda _: bodies)))


@pytest.mark.parametrize(
    ("phase", "server", "count"),
    [
        (None, True, 0),
        (MovePhase.PREPARING, True, 0),
        (MovePhase.STOPPING, True, 1),
        (MovePhase.STOPPING, False, 0),
        (MovePhase.COPYING, True, 1),
        (MovePhase.SWITCHED, True, 0),
    ],
)
def test_only_tenants_that_are_stopped_for_a_copy_keep_others_waiting(
    phase: MovePhase | None, server: bool, count: int
) -> None:
    mine = record("mine", MovePhase.COPYING)
    assert copies_of_others(world(mine, record("other", phase, server=server)), mine) == count


def test_a_restore_that_locks_its_tenant_for_a_moment_keeps_no_move_waiting() -> None:
    mine, other = record("mine", MovePhase.PREPARING), record("other", MovePhase.STOPPING)
    assert other.spec.move is not None
    part = PinnedRestore(name="back", uid="1", store="s", path="p")
    restored = other.spec.model_copy(update={"move": other.spec.move.model_copy(update={"restore": part})})
    assert copies_of_others(world(mine, TenantRecord(metadata=other.metadata, spec=restored)), mine) == 0


async def test_once_a_tenant_is_switched_the_result_of_its_copy_is_forgotten() -> None:
    """Else it would be taken for the result of the next move, and the tenant switched to an empty database."""
    moving, mine = Moving(world()), record("mine", MovePhase.SWITCHED)
    copies = Copies(world())
    copies._tasks["mine"] = asyncio.create_task(asyncio.sleep(0, Copied(1, 1, 0, 0)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert isinstance(copies.result("mine"), Copied)
    moving._copies = copies
    placed, report = SimpleNamespace(record=mine, effective=None), SimpleNamespace(outcomes={})
    go_on: Any = moving._go_on
    assert await go_on(None, SimpleNamespace(labels={}), placed, report) is placed
    assert not copies.under_way("mine")
    assert copies.result("mine") is None
