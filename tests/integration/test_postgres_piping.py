"""Two programs and the bytes between them: whichever ends, in whatever state its pipes are, so does the whole."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tenantry.adapters.postgres.piping import CHUNK, Command, pipe
from tenantry.ports.postgres import DatabaseError

SHELL = Path("/bin/sh")
ENDLESS = "exec cat /dev/zero 2>&-"
"""Without its standard error, of which the end tells that it was killed before its exit is known."""
FAILS = "echo 'pg_restore: error: there is one already' >&2; exit 1"


def command(script: str) -> Command:
    return Command(SHELL, ("-c", script), {"PATH": "/usr/bin:/bin"})


async def piped(dump: str, restore: str) -> int:
    async with asyncio.timeout(60):
        return await pipe(command(dump), command(restore))


@pytest.mark.parametrize("taken", [0, 1, CHUNK, 5 * CHUNK])
async def test_a_restore_that_fails_ends_a_dump_that_has_filled_its_pipe(taken: int) -> None:
    with pytest.raises(DatabaseError, match="pg_restore failed: there is one already"):
        await piped(ENDLESS, f"head -c {taken} >/dev/null; {FAILS}")


async def test_a_dump_that_fails_has_the_word_although_the_restore_fails_too() -> None:
    with pytest.raises(DatabaseError, match="pg_dump failed: no such role"):
        await piped("echo x; echo 'pg_dump: error: no such role' >&2; exit 1", f"cat >/dev/null; {FAILS}")


async def test_all_bytes_go_through() -> None:
    size = 8 * CHUNK + 1
    assert await piped(f"head -c {size} /dev/zero", f'[ "$(wc -c)" = {size} ]') == size
