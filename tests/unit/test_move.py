"""Moves: what is asked for, what goes on, what is rolled back; and that no order of events makes two sides of one."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.api.identity import namespace_name
from tenantry.api.move import MovePhase
from tenantry.api.tenantrecord import FormerSide, Move, RecordState, TenantRecord, TenantRecordSpec
from tenantry.decide.halt import Terminal
from tenantry.decide.move import (
    Destination,
    Step,
    arriving_spec,
    check_mode,
    check_versions,
    epoch_of_database,
    home_rank,
    next_epoch,
    next_step,
    not_approved,
    repinned,
    rolled_back,
    side_spec,
    still_on,
    switched,
)

NOW, LATER = "2026-05-01T12:00:00Z", "2026-05-02T12:00:00Z"
HERE = {"name": "eu-1", "id": "c1", "namespace": "shop-acme-aaaaaa", "host": "acme.eu-1.test"}
THERE = {"name": "eu-2", "id": "c2", "namespace": "shop-acme-e2-aaaaaa", "host": "acme.eu-2.test"}
OLD = {"mode": "Shared", "server": "pg15", "id": "15", "name": "tenantry_aaaaaaaa"}
NEW = {"mode": "Shared", "server": "pg18", "id": "18", "name": "tenantry_aaaaaaaa_e2"}


def spec(**more: Any) -> TenantRecordSpec:
    usual = {
        "managementId": "m", "workspace": "shop", "workspaceUid": "u", "tenant": "acme", "tenantUid": "t",
        "cluster": HERE, "database": OLD,
    }  # fmt: skip
    return TenantRecordSpec.model_validate({**usual, **more})


def move(phase: MovePhase, *, cluster: bool, server: bool) -> Move:
    """Under way."""
    wanted = Destination("eu-2" if cluster else None, "pg18" if server else None)
    return Move.model_validate(
        {
            "phase": phase, "epoch": 2, "origin": "x", "destination": wanted.word, "startedAt": NOW,
            "cluster": THERE if cluster else None, "database": NEW if server else None,
        }
    )  # fmt: skip


def merged(before: TenantRecordSpec, change: dict[str, Any]) -> TenantRecordSpec:
    """A record's spec after a JSON merge patch."""

    def merge(old: Any, new: Any) -> Any:
        if not isinstance(new, dict):
            return new
        base = dict(old) if isinstance(old, dict) else {}
        for key, value in new.items():
            base[key] = merge(base.get(key), value)
            if base[key] is None:
                del base[key]
        return base

    plain = before.model_dump(by_alias=True, mode="json", exclude_none=True)
    return TenantRecordSpec.model_validate(merge(plain, change))


DESTINATIONS = st.builds(Destination, st.sampled_from([None, "eu-2"]), st.sampled_from([None, "pg18"]))
WORDS = st.sampled_from([None, "", "eu-2", "pg18", "eu-2/pg18", "eu-3"])
SIDES = st.sampled_from([(True, False), (False, True), (True, True)])
MOVES = st.builds(
    lambda phase, sides: move(phase, cluster=sides[0], server=sides[1]), st.sampled_from(MovePhase), SIDES
)


@given(DESTINATIONS, WORDS, st.sampled_from(["", "it failed"]))
def test_nothing_begins_that_was_not_approved_by_its_exact_destination(
    wanted: Destination, word: str | None, failed: str
) -> None:
    step = next_step(wanted, word, None, failed)
    assert (step == Step.BEGIN) == (not wanted.nowhere and word == wanted.word and not failed)
    assert step not in (Step.GO_ON, Step.ROLL_BACK)


@given(DESTINATIONS, WORDS, MOVES)
def test_a_move_goes_on_only_as_it_was_approved_and_is_rolled_back_only_before_the_switch(
    wanted: Destination, word: str | None, under_way: Move
) -> None:
    step = next_step(wanted, word, under_way, "")
    if under_way.phase == MovePhase.SWITCHED:
        assert step == Step.GO_ON
    else:
        assert step == (Step.GO_ON if wanted.word == under_way.destination == word else Step.ROLL_BACK)


def test_a_failure_is_told_until_its_approval_was_taken_back() -> None:
    wanted = Destination("eu-2", None)
    assert next_step(wanted, "eu-2", None, "it failed") == Step.TELL_FAILURE
    assert next_step(wanted, None, None, "it failed") == Step.FORGET_FAILURE
    assert next_step(Destination(), "eu-2", None, "it failed") == Step.FORGET_FAILURE
    assert next_step(wanted, None, None, "") == Step.ASK


@given(MOVES)
def test_the_switch_gives_up_exactly_what_it_takes_over(under_way: Move) -> None:
    before = spec(move=under_way.model_dump(by_alias=True, mode="json"))
    now = merged(before, switched(before, NOW, LATER))
    assert now.epoch == 2
    assert now.move is not None
    assert now.move.phase == MovePhase.SWITCHED
    (left,) = now.former
    assert (left.epoch, left.state, left.purge_after) == (1, RecordState.DELETED, LATER)
    for name in ("cluster", "database"):
        going = getattr(under_way, name)
        assert getattr(now, name) == (going or getattr(before, name))
        assert getattr(left, name) == (getattr(before, name) if going else None)


@given(MOVES)
def test_a_roll_back_leaves_the_tenant_what_it_had_and_gives_up_only_what_was_never_its(under_way: Move) -> None:
    before = spec(move=under_way.model_dump(by_alias=True, mode="json"))
    now = merged(before, rolled_back(before, NOW, "why"))
    assert (now.cluster, now.database, now.epoch, now.move) == (before.cluster, before.database, before.epoch, None)
    if under_way.phase == MovePhase.SWITCHED:
        assert (now.former, now.move_failed) == ([], "")
        return
    (made,) = now.former
    assert (made.epoch, made.state, made.cluster, made.database) == (
        2, RecordState.PURGING, under_way.cluster, under_way.database,
    )  # fmt: skip
    assert now.move_failed == "why"
    assert next_epoch(now) == 3, "never one whose remains may still be there"


def test_a_record_without_a_move_is_not_changed() -> None:
    assert switched(spec(), NOW, LATER) == rolled_back(spec(), NOW) == {}


def test_a_side_that_was_left_has_nothing_of_the_tenants_present_database() -> None:
    before = spec(move=move(MovePhase.STOPPING, cluster=True, server=False).model_dump(by_alias=True, mode="json"))
    now = merged(before, switched(before, NOW, LATER))
    part = side_spec(now, now.former[0])
    assert (part.cluster.name, part.database.mode, part.database.name) == ("eu-1", "None", "")
    assert (part.state, part.purge_after, part.former) == (RecordState.DELETED, LATER, [])


def test_the_new_side_is_the_old_one_with_what_changes() -> None:
    there = arriving_spec(spec(), move(MovePhase.PREPARING, cluster=False, server=True))
    assert (there.epoch, there.cluster.name, there.database.server) == (2, "eu-1", "pg18")


def test_names_of_later_epochs_never_meet_those_of_earlier_ones_and_end_in_the_hash() -> None:
    metadata = {"name": "acme-aaaaaaaa"}
    identities = [
        TenantRecord.model_validate({"metadata": metadata, "spec": spec(epoch=epoch, tenant="a" * 40)}).identity
        for epoch in (1, 2, 11)
    ]
    spaces = [namespace_name("{workspace}-{tenant}-and-much-more-than-there-is-room-for", each) for each in identities]
    assert len(set(spaces)) == len({each.database for each in identities}) == 3
    assert all(len(name) <= 63 and name.endswith(f"-{identities[0].tenant_hash[:6]}") for name in spaces)


@pytest.mark.parametrize(
    ("old", "new", "refused"), [(150018, 150002, False), (150018, 180001, False), (180001, 150018, True)]
)
def test_only_a_server_of_an_older_major_version_is_refused(old: int, new: int, *, refused: bool) -> None:
    if not refused:
        check_versions(old, new, "pg")
        return
    with pytest.raises(Terminal, match="can't be taken back to an older one"):
        check_versions(old, new, "pg")


def test_who_is_asked_is_told_everything() -> None:
    told = not_approved(Destination("eu-2", "pg18"), "eu-1", "pg15", "eu-2").message
    for word in ("'eu-1' to 'eu-2'", "'pg15' to 'pg18'", "approve-move=eu-2/pg18", "(it says 'eu-2')", "set the spec"):
        assert word in told
    assert len(told) < 1024


CLAIMS = st.lists(
    st.tuples(st.sampled_from(["ready", "parked", "creating", "dropping"]), st.booleans()), min_size=1, max_size=4
)


@given(CLAIMS)
def test_of_several_databases_an_open_one_is_home_then_one_that_is_only_stopped_then_the_latest(
    claims: list[tuple[str, bool]],
) -> None:
    ranked = sorted(enumerate(claims, 1), key=lambda each: home_rank(each[1][0], each[0], due=each[1][1]))
    epoch, (state, due) = ranked[-1]
    states = [state for state, _ in claims]
    if "ready" in states:
        assert state == "ready"
    elif any(each == ("parked", False) for each in claims):
        assert (state, due) == ("parked", False)
    elif state != "dropping":
        assert epoch == max(number for number, each in enumerate(claims, 1) if each[0] != "dropping")
    else:
        assert set(states) == {"dropping"}


@pytest.mark.parametrize(
    ("name", "epoch"), [("tenantry_aaaaaaaa", 1), ("tenantry_aaaaaaaa_e2", 2), ("tenantry_aaaaaaaa_e10", 10)]
)
def test_the_name_of_a_database_tells_its_epoch(name: str, epoch: int) -> None:
    assert epoch_of_database(name) == epoch


def test_a_tenant_whose_data_is_in_its_namespace_is_not_moved_away_from_it() -> None:
    for mode in ("Shared", "None", "External"):
        check_mode(mode)
    with pytest.raises(Terminal, match="its data would stay behind"):
        check_mode("Dedicated")


PLACES = st.fixed_dictionaries({"cluster": st.sampled_from(["eu-1", "eu-2"]), "database": st.sampled_from(["a", "b"])})


@given(PLACES, st.lists(PLACES, max_size=3), st.none() | PLACES, st.sampled_from(["cluster", "database"]))
def test_an_identity_that_is_accepted_is_pinned_wherever_a_record_names_it_and_nowhere_else(
    home: dict[str, str], left: list[dict[str, str]], to: dict[str, str] | None, kind: Literal["cluster", "database"]
) -> None:
    def pins(place: dict[str, str], accepted: str = "") -> dict[str, Any]:
        cluster, database = (
            "accepted" if name == accepted else "old" for name in (place["cluster"], place["database"])
        )
        return {
            "cluster": {**THERE, "name": place["cluster"], "id": cluster},
            "database": {**NEW, "server": place["database"], "id": database},
        }

    def record(accepted: str = "") -> TenantRecordSpec:
        ends = {"leftAt": NOW, "purgeAfter": LATER}
        sides = [{"epoch": epoch, **pins(place, accepted), **ends} for epoch, place in enumerate(left, start=1)]
        under_way = {"phase": "Preparing", "epoch": 9, "destination": "x", "startedAt": NOW}
        going = {**under_way, **pins(to, accepted)} if to is not None else None
        return spec(**pins(home, accepted), former=sides, move=going)

    name = home[kind]
    change = repinned(record(), kind, name, "accepted")
    assert merged(record(), change).model_dump() == record(name).model_dump()
    assert repinned(record(name), kind, name, "accepted") == {}, "what is pinned already is not written again"
    assert repinned(record(), kind, "another", "accepted") == {}


def left_on(cluster: str, epoch: int) -> FormerSide:
    place = {**THERE, "name": cluster}
    return FormerSide.model_validate({"epoch": epoch, "cluster": place, "leftAt": NOW, "purgeAfter": NOW})


@pytest.mark.parametrize("phase", MovePhase)
def test_what_a_move_under_way_claims_on_a_cluster_outlives_a_side_that_was_left_there(phase: MovePhase) -> None:
    left, server_only = [left_on("eu-2", 2)], move(phase, cluster=False, server=True)
    assert not still_on(spec(former=left), "eu-2", {2})
    assert still_on(spec(former=left, move=move(phase, cluster=True, server=False)), "eu-2", {2})
    assert not still_on(spec(former=left, move=server_only), "eu-2", {2})


@given(st.lists(st.sampled_from(["eu-1", "eu-2", "eu-3"]), max_size=6), st.sets(st.integers(2, 8)))
def test_a_cluster_is_left_with_the_last_side_on_it_and_never_while_the_tenant_lives_there(
    clusters: list[str], gone: set[int]
) -> None:
    record = spec(former=[left_on(name, epoch) for epoch, name in enumerate(clusters, start=2)])
    assert still_on(record, "eu-1", gone)
    for name in ("eu-2", "eu-3"):
        kept = {epoch for epoch, each in enumerate(clusters, start=2) if each == name} - gone
        assert still_on(record, name, gone) == bool(kept)
