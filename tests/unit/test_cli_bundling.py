"""The end of a log is kept, whatever pieces it comes in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.cli.bundling import tail
from tenantry.ports.kube import NotFoundError, UnreachableError


async def stream(pieces: list[bytes], error: Exception | None = None) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
    if error is not None:
        raise error


@given(pieces=st.lists(st.binary(min_size=1, max_size=9), max_size=20), most=st.integers(1, 50))
def test_the_last_so_many_bytes_are_kept_and_it_is_known_whether_there_were_more(
    pieces: list[bytes], most: int
) -> None:
    whole = b"".join(pieces)
    assert asyncio.run(tail(stream(pieces), most)) == (whole[-most:], len(whole) > most)


async def test_of_a_log_that_breaks_off_what_came_is_kept() -> None:
    assert await tail(stream([b"a", b"b"], UnreachableError("gone")), 9) == (b"ab", False)
    with pytest.raises(NotFoundError):
        await tail(stream([], NotFoundError("there is none")), 9)
