"""Restores: what may be restored into what, and that an undo takes back just what the restore had changed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.strategies import calmly
from tests.unit.test_move import LATER, NEW, NOW, merged, spec

from tenantry.api.move import MovePhase
from tenantry.api.tenantrecord import FormerSide, Move, RecordState, TenantRecordSpec
from tenantry.api.tenantrestore import ENDS, RANKS, RestorePhase
from tenantry.decide.halt import Terminal
from tenantry.decide.move import next_epoch, rolled_back, switched
from tenantry.decide.restore import Destination, Origin, check, side_to_return_to

EARLIER = datetime(2026, 5, 1, 13, tzinfo=UTC)
MINE, OTHER = "uid-of-mine", "uid-of-another"
ORIGIN = Origin("ws", "acme", 1, 150018, frozenset({"citext"}))
DESTINATION = Destination("ws", "acme", 1, 180001, frozenset({"citext", "pgcrypto"}), former_tenant=False)


def test_a_backup_goes_back_where_it_came_from_and_to_newer_servers_and_other_tenants() -> None:
    check(ORIGIN, DESTINATION)
    check(ORIGIN, replace(DESTINATION, server_version=150002))
    check(ORIGIN, replace(DESTINATION, tenant="beta", incarnation=7))
    check(ORIGIN, replace(DESTINATION, incarnation=2, former_tenant=True))


@pytest.mark.parametrize(
    ("origin", "destination", "word"),
    [
        ({"workspace_uid": "theirs"}, {}, "another workspace"),
        ({}, {"incarnation": 2}, "formerTenant: true"),
        ({"server_version": 180001}, {"server_version": 170009}, "older one"),
        ({"extensions": frozenset({"citext", "hstore"})}, {}, "hstore"),
        ({"readable": False}, {}, "spec.encryption.secretRef"),
    ],
)
def test_what_can_not_be_restored_is_refused_with_the_way_out(
    origin: dict[str, Any], destination: dict[str, Any], word: str
) -> None:
    with pytest.raises(Terminal, match=word):
        check(replace(ORIGIN, **origin), replace(DESTINATION, **destination))


def restoring(before: TenantRecordSpec, uid: str) -> TenantRecordSpec:
    """A record with a restore that is about to switch."""
    epoch = next_epoch(before)
    move = Move.model_validate(
        {
            "phase": MovePhase.STOPPING, "epoch": epoch, "destination": "x", "startedAt": NOW,
            "database": {**NEW, "name": f"tenantry_aaaaaaaa_e{epoch}"},
            "restore": {"name": "r", "uid": uid, "store": "s", "path": "p"},
        }
    )  # fmt: skip
    return before.model_copy(update={"move": move})


def undoing(before: TenantRecordSpec, side: FormerSide, uid: str) -> TenantRecordSpec:
    """A record with an undo that is about to switch."""
    move = Move.model_validate(
        {
            "phase": MovePhase.STOPPING, "epoch": next_epoch(before), "destination": "x", "startedAt": NOW,
            "database": side.database.model_dump(by_alias=True, exclude_none=True) if side.database else None,
            "restore": {"name": "r", "uid": uid, "returnsTo": side.epoch},
        }
    )  # fmt: skip
    return before.model_copy(update={"move": move})


def after_switch(before: TenantRecordSpec) -> TenantRecordSpec:
    """The record once the switch is over."""
    done = merged(before, switched(before, NOW, LATER))
    return merged(done, {"move": None})


def test_what_a_restore_has_left_is_what_its_undo_goes_back_to() -> None:
    before = spec()
    restored = after_switch(restoring(before, MINE))
    assert restored.database.name == "tenantry_aaaaaaaa_e2"
    side = side_to_return_to(restored, MINE, EARLIER)
    assert isinstance(side, FormerSide)
    assert side.database == before.database
    undone = after_switch(undoing(restored, side, MINE))
    assert undone.database == before.database
    assert [left.database for left in undone.former] == [restored.database]
    assert undone.epoch == 3


def test_nothing_is_gone_back_to_that_is_not_kept_or_is_not_the_last_one() -> None:
    restored = after_switch(restoring(spec(), MINE))
    assert "not kept any more" in str(side_to_return_to(restored, OTHER, EARLIER))
    assert "was kept until" in str(side_to_return_to(restored, MINE, datetime(2026, 5, 3, tzinfo=UTC)))
    twice = after_switch(restoring(restored, OTHER))
    assert "exchanged again" in str(side_to_return_to(twice, MINE, EARLIER))
    assert isinstance(side_to_return_to(twice, OTHER, EARLIER), FormerSide)
    purging = [side.model_copy(update={"state": RecordState.PURGING}) for side in restored.former]
    gone = restored.model_copy(update={"former": purging})
    assert "not kept any more" in str(side_to_return_to(gone, MINE, EARLIER))


@calmly
@given(st.lists(st.booleans(), min_size=1, max_size=8))
def test_restores_never_lose_the_live_database_and_never_use_an_epoch_twice(
    succeeds: list[bool],
) -> None:
    now = spec()
    seen = {now.epoch}
    for number, well in enumerate(succeeds):
        under_way = restoring(now, f"uid-{number}")
        move = under_way.move
        assert move is not None
        assert move.epoch not in seen
        seen.add(move.epoch)
        if well:
            following = after_switch(under_way)
            assert now.database in [side.database for side in following.former]
        else:
            following = merged(under_way, rolled_back(under_way, NOW))
            assert following.database == now.database
            assert [side.epoch for side in following.former if side.state == RecordState.PURGING][-1] == move.epoch
        now = following
    databases = [now.database.name, *(side.database.name for side in now.former if side.database is not None)]
    assert len(databases) == len(set(databases))


def test_an_undo_that_fails_leaves_what_it_was_to_go_back_to_as_it_is() -> None:
    restored = after_switch(restoring(spec(), MINE))
    side = side_to_return_to(restored, MINE, EARLIER)
    assert isinstance(side, FormerSide)
    under_way = undoing(restored, side, MINE)
    assert merged(under_way, rolled_back(under_way, NOW)) == restored


@calmly
@given(st.sampled_from(list(RestorePhase)), st.sampled_from(list(RestorePhase)))
def test_no_phase_of_a_restore_is_come_back_to_and_only_undone_follows_completed(
    one: RestorePhase, two: RestorePhase
) -> None:
    if RANKS[one] < RANKS[two]:
        assert not RANKS[two] < RANKS[one]
        assert one not in (RestorePhase.FAILED, RestorePhase.UNDONE)
    assert RANKS[RestorePhase.COMPLETED] < RANKS[RestorePhase.UNDONE]
    assert {RestorePhase.COMPLETED, RestorePhase.FAILED, RestorePhase.UNDONE} == set(ENDS)
