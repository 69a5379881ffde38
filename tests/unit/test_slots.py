"""Slots of plans: never more than there are, whoever looks at the same time, also while the number is lowered."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.strategies import calmly

from tenantry.api.identity import TenantIdentity
from tenantry.decide.slots import any_slot, free_slot
from tenantry.desired.slots import plan_label, slot, slot_prefix

numbers = st.sets(st.integers(0, 12))


def test_a_full_plan_has_no_slot_and_a_lower_limit_lets_nobody_in_until_there_is_room() -> None:
    assert free_slot({0, 1, 2}, 3) is None
    assert free_slot({0, 2}, 3) == 1
    assert free_slot((), 0) is None
    assert free_slot({3, 4}, 2) is None, "two are held, above the limit"
    assert free_slot({4}, 2) == 0
    assert free_slot({0, 4}, 2) is None
    assert any_slot({0, 1, 3}) == 2


@calmly
@given(numbers, st.integers(0, 8))
def test_a_slot_is_free_exactly_while_fewer_are_held_than_the_limit(held: set[int], limit: int) -> None:
    found = free_slot(held, limit)
    assert (found is not None) == (len(held) < limit)
    assert found not in held
    assert any_slot(held) not in held


@calmly
@given(
    numbers, st.integers(0, 8), st.lists(st.tuples(st.integers(0, 2), st.booleans(), st.integers(0, 12)), max_size=40)
)
def test_operators_that_look_and_then_create_never_hold_more_than_the_limit(
    before: set[int], limit: int, history: list[tuple[int, bool, int]]
) -> None:
    """Three operators whose looks are as old as can be: each creates by what it saw before the others went on."""
    held, seen = set(before), [set(before)] * 3
    for who, looks, freed in history:
        if looks:
            seen[who] = set(held)
            held.discard(freed)
            continue
        number = free_slot(seen[who], limit)
        if number is not None and number not in held:  # the API server refuses a name that is taken
            held.add(number)
            assert len(held) <= limit


def test_a_slot_is_named_by_plan_workspace_and_number_only() -> None:
    acme, other = (TenantIdentity("m", "shop", "w1", name) for name in ("acme", "other"))
    first, second = (slot("tenantry-system", "pro", 0, identity) for identity in (acme, other))
    assert first["metadata"]["name"] == second["metadata"]["name"] == f"{slot_prefix('pro', 'w1')}0"
    assert (first["spec"], second["spec"]) == ({"holderIdentity": acme.record}, {"holderIdentity": other.record})
    assert slot_prefix("pro", "w1") != slot_prefix("pro", "w2") != slot_prefix("basic", "w2")


@calmly
@given(st.from_regex(r"\A[a-z0-9]([a-z0-9.-]{0,250}[a-z0-9])?\Z"))
def test_the_label_of_a_plan_fits_and_tells_plans_apart(name: str) -> None:
    label = plan_label(name)
    assert len(label) <= 63
    assert label[-1].isalnum()
    assert (label == name) == (len(name) <= 63)
