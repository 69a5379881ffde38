"""Patience with servers of tenants' own: slow ones are asked less and less often, in a room of their own."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.fake_time import FakeTime
from tests.unit.strategies import calmly

from tenantry.adapters.postgres.patience import BUSY, LONGEST_PAUSE, MOST, SECONDS, SLOW, STANDS_STILL, Patience
from tenantry.ports.postgres import DatabaseUnreachableError


async def refused(patience: Patience, server: str = "a") -> DatabaseUnreachableError | None:
    try:
        async with patience.opening(server):
            return None
    except DatabaseUnreachableError as error:
        return error


@calmly
@given(st.lists(st.tuples(st.floats(0, 60), st.booleans()), max_size=12))
async def test_the_more_often_it_fails_slowly_the_longer_it_is_left_alone_and_once_quick_it_is_forgiven(
    uses: list[tuple[float, bool]],
) -> None:
    time = FakeTime()
    patience, pauses = Patience(time), [0.0]
    for seconds, good in uses:
        patience.note("a", seconds, good=good)
        error = await refused(patience)
        pause = (error.retry_after or 0.0) if error is not None else 0.0
        if seconds < SECONDS or good:
            assert error is None
            pauses = [0.0]
        else:
            assert str(error) == SLOW
            assert LONGEST_PAUSE >= pause >= pauses[-1] > -1
            pauses.append(pause)
        time.advance(pause)
        assert await refused(patience, "another") is None


async def test_of_slow_ones_one_is_opened_at_a_time_and_none_holds_up_the_others() -> None:
    time = FakeTime()
    patience = Patience(time)
    for server in ("a", "b"):
        patience.note(server, SECONDS, good=False)
    time.advance(LONGEST_PAUSE)
    async with patience.opening("a"):
        error = await refused(patience, "b")
        assert error is not None
        assert (error.message, error.retry_after) == (BUSY, 5.0)
        assert await refused(patience, "c") is None
    assert await refused(patience, "b") is None


async def test_whoever_is_healthy_waits_for_those_before_it_and_for_none_that_stands_still() -> None:
    time = FakeTime()
    patience = Patience(time)
    async with AsyncExitStack() as stack:
        for number in range(MOST - 1):
            await stack.enter_async_context(patience.opening(f"s{number}"))
        async with patience.opening("quick"):
            waiting = asyncio.create_task(refused(patience))
            await asyncio.sleep(0)
            assert not waiting.done()
        assert await waiting is None, "its turn came"
        await stack.enter_async_context(patience.opening("last"))
        time.advance(STANDS_STILL)
        error = await refused(patience)
        assert error is not None
        assert error.message == BUSY
    assert await refused(patience) is None


@pytest.mark.parametrize("known", [False, True], ids=["at first", "known to be slow"])
async def test_one_that_is_not_known_to_be_slow_is_not_waited_for_as_long(
    monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    monkeypatch.setattr("tenantry.adapters.postgres.patience.SECONDS", 0.02)
    patience = Patience(FakeTime())
    if known:
        patience.note("a", SECONDS, good=True)
    ended = False

    async def use() -> None:
        nonlocal ended
        async with patience.opening("a"):
            await asyncio.sleep(0.1)
            ended = True

    if known:
        await use()
    else:
        with pytest.raises(DatabaseUnreachableError):
            await use()
    assert ended is known
