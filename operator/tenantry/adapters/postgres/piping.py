"""A dump into a restore, all bytes through this process and none to a disk: when it dies, so do both programs."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tenantry.ports.postgres import DatabaseError

CHUNK: Final = 256 * 1024
_KEPT: Final = 64 * 1024
"""Of what a program says on standard error: the beginning of it."""
_LONGEST: Final = 400
_ERROR: Final = re.compile(r"^pg_(?:dump|restore): error: (.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Command:
    """A program with its arguments, in which there is no secret, and its environment, in which there is."""

    program: Path
    arguments: Sequence[str]
    environment: Mapping[str, str]


async def pipe(dump: Command, restore: Command) -> int:
    """Run both; the number of bytes that went through.

    Raises:
        DatabaseError: one of them failed; with its first error and nothing of the tenant's data.
    """
    processes: list[asyncio.subprocess.Process] = []
    try:
        writer = await start(restore, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL)
        processes.append(writer)
        reader = await start(dump, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE)
        processes.append(reader)
        said_by_reader, said_by_writer, moved = await asyncio.gather(
            words_of(reader), words_of(writer), _move(reader, writer)
        )
        read, written = await reader.wait(), await writer.wait()
        # The one that failed by itself has a word to say of it; the other one only misses its pipe.
        if read != 0 and (said := first_error(said_by_reader)):
            raise DatabaseError(f"pg_dump failed: {said}")
        if written != 0:
            raise DatabaseError(f"pg_restore failed: {first_error(said_by_writer) or f'exit code {written}'}")
        if read != 0:
            raise DatabaseError(f"pg_dump failed: exit code {read}")
        return moved
    finally:
        for process in processes:
            await end(process)


async def end(process: asyncio.subprocess.Process) -> None:
    """Kill it if it runs; what is still in its pipes is read away, or they would stay open."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            await _read_away(stream)
    await process.wait()


async def _read_away(stream: asyncio.StreamReader) -> None:
    """To its end: asyncio takes a process for ended only when all its pipes are, which a full one never is."""
    while await stream.read(CHUNK):
        pass


def first_error(said: str) -> str:
    """The first error without its details, which may hold rows of the tenant's."""
    match = _ERROR.search(said)
    return match[1][:_LONGEST] if match else ""


async def start(command: Command, *, stdin: int, stdout: int) -> asyncio.subprocess.Process:
    """Start a program, with a pipe for what it says on standard error.

    Raises:
        DatabaseError: it can't be started.
    """
    try:
        return await asyncio.create_subprocess_exec(
            command.program,
            *command.arguments,
            stdin=stdin,
            stdout=stdout,
            stderr=asyncio.subprocess.PIPE,
            env=command.environment,
        )
    except OSError as error:
        raise DatabaseError(f"{command.program.name} can't be started: {error.strerror}") from error


async def words_of(process: asyncio.subprocess.Process) -> str:
    """What a program says on standard error until its end: the beginning of it."""
    kept = b""
    assert process.stderr is not None  # noqa: S101 - it was started with a pipe there
    while chunk := await process.stderr.read(_KEPT):
        kept = kept + chunk if len(kept) < _KEPT else kept  # the first error is what is told
    return kept.decode(errors="replace")


async def _move(reader: asyncio.subprocess.Process, writer: asyncio.subprocess.Process) -> int:
    assert reader.stdout is not None  # noqa: S101 - started with pipes
    assert writer.stdin is not None  # noqa: S101 - started with pipes
    moved = 0
    try:
        while chunk := await reader.stdout.read(CHUNK):
            writer.stdin.write(chunk)
            await writer.stdin.drain()
            moved += len(chunk)
    except (BrokenPipeError, ConnectionResetError):
        with suppress(ProcessLookupError):
            reader.kill()  # nobody needs what it writes: the restore has ended, and says why
        await _read_away(reader.stdout)
    finally:
        writer.stdin.close()
        with suppress(BrokenPipeError, ConnectionResetError):
            await writer.stdin.wait_closed()
    return moved
