"""One of PostgreSQL's programs as a stream: what it writes is yielded, or what is yielded is what it reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from tenantry.adapters.postgres.piping import CHUNK, Command, end, first_error, start, words_of
from tenantry.ports.postgres import DatabaseError, ProgramFailedError


@asynccontextmanager
async def output_of(command: Command) -> AsyncIterator[AsyncIterator[bytes]]:
    """What a program writes; it is killed at the end of the block, if it still runs.

    The iterator ends only if the program ended well, so that nobody takes the beginning of its output for all of it.

    Raises (on entering, and from the iterator):
        DatabaseError: it can't be started, or it failed: with its first error.
    """
    process = await start(command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE)
    telling = asyncio.create_task(words_of(process))
    try:
        yield _output(command, process, telling)
    finally:
        await _stop(process, telling)


async def _output(
    command: Command, process: asyncio.subprocess.Process, telling: asyncio.Task[str]
) -> AsyncIterator[bytes]:
    assert process.stdout is not None  # noqa: S101 - it was started with a pipe there
    while chunk := await process.stdout.read(CHUNK):
        yield chunk
    await _check(command, process, telling)


async def feed(command: Command, chunks: AsyncIterator[bytes]) -> None:
    """Give a program something to read; all of it is taken, also where the program has read enough before the end.

    Raises:
        DatabaseError: it can't be started, or it failed: with its first error.
    """
    process = await start(command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL)
    telling = asyncio.create_task(words_of(process))
    try:
        await _write(process, chunks)
        await _check(command, process, telling)
    finally:
        await _stop(process, telling)


async def _write(process: asyncio.subprocess.Process, chunks: AsyncIterator[bytes]) -> None:
    assert process.stdin is not None  # noqa: S101 - it was started with a pipe there
    wants_more = True
    async for chunk in chunks:
        if not wants_more:
            continue
        try:
            process.stdin.write(chunk)
            await process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            wants_more = False
    process.stdin.close()
    with suppress(BrokenPipeError, ConnectionResetError):
        await process.stdin.wait_closed()


async def _check(command: Command, process: asyncio.subprocess.Process, telling: asyncio.Task[str]) -> None:
    told = await telling
    code = await process.wait()
    if code != 0:
        kind = ProgramFailedError if code > 0 else DatabaseError  # it was killed: that says nothing of what it read
        raise kind(f"{command.program.name} failed: {first_error(told) or f'exit code {code}'}")


async def _stop(process: asyncio.subprocess.Process, telling: asyncio.Task[str]) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()
    await asyncio.wait([telling])  # it ends with the pipe, which nobody else may read meanwhile
    await end(process)
