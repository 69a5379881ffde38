"""A server that is a tenant's own may answer what it likes: what one session is sent has an end."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tenantry.adapters.postgres import own


class Chatter:
    """A tunnel whose other side sends for ever, and the writer that takes it."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0

    async def read(self) -> bytes:
        assert self.taken < 2 * own.MOST_ANSWERED, "it is read without end"
        return b"x" * own.CHUNK if self.taken < self.most else b""

    def write(self, data: bytes) -> None:
        self.taken += len(data)

    async def drain(self) -> None:
        """Nothing is in the way."""


@pytest.mark.parametrize("most", [0, own.CHUNK, own.MOST_ANSWERED, 100 * own.MOST_ANSWERED])
async def test_a_session_is_sent_so_much_and_no_more(most: int) -> None:
    side = cast("Any", Chatter(most))
    await own._in(side, side)
    assert side.taken == min(most, own.MOST_ANSWERED)
