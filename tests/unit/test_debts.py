"""What a dead dump may have left is looked for ever more seldom, and not for ever."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.strategies import calmly

from tenantry.api.resources import TENANT_BACKUPS, Ref
from tenantry.reconcile.debts import FIRST_SECONDS, LIFE_SECONDS, LONGEST_SECONDS, Debts

KEY = Ref(TENANT_BACKUPS, "shop", "first")


@calmly
@given(late=st.integers(0, 3000))
def test_a_debt_is_tried_at_once_then_ever_more_seldom_and_given_up_after_a_day(late: int) -> None:
    debts, now, pauses = Debts(), 7.0, list[float]()
    debts.owe(KEY, now)
    assert debts.seconds_left(KEY, now) == 0
    while (pause := debts.put_off(KEY, now)) is not None:
        assert now - 7.0 < LIFE_SECONDS
        assert debts.seconds_left(KEY, now) == pause
        pauses.append(pause)
        now += pause + late
        assert debts.seconds_left(KEY, now) == 0
    assert now - 7.0 >= LIFE_SECONDS
    assert pauses[0] == FIRST_SECONDS
    assert pauses == sorted(pauses)
    assert max(pauses) <= LONGEST_SECONDS


def test_what_is_forgotten_is_owed_no_more() -> None:
    debts = Debts()
    debts.owe(KEY, 0)
    assert debts.owes(KEY)
    debts.forget(KEY)
    assert not debts.owes(KEY)
    assert debts.put_off(KEY, 0) is None
