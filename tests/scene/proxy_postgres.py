"""DatabaseProxy: a proxy before a PostgreSQL server that knows where a statement begins, and can break there."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Self, TypeVar

from tests.scene.postgres_wire import Conversation
from tests.scene.proxy import CutConnection

LOOPBACK: Final = "127.0.0.1"
CALL_SECONDS: Final = 60.0
LARGEST: Final = 65536
STATEMENTS: Final = frozenset({b"Q", b"E"})
"""Messages that run something: a simple query, and the Execute of an extended one."""
ENCRYPTION_REQUESTS: Final = frozenset({80877103, 80877104})
READY_FOR_QUERY: Final = b"Z\x00\x00\x00\x05"
PIPELINE_SECONDS: Final = 0.2
"""In a pipeline a server that is done does not say so before the client asks."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SqlWrite:
    """A query or pipeline that asks for a change, on its way through the proxy.

    Attributes:
        number: Counts them, from 1.
        text: The SQL of its first statement that does.
    """

    number: int
    text: str


OnSqlWrite = Callable[[SqlWrite], None]
"""Called in a thread of its own around a write, which waits for it; CutConnection ends the connection there."""


class DatabaseProxy:
    """A proxy with an address of its own; for servers without TLS.

    Attributes:
        statements: How many have come so far.
        before_write, after_write: Called before the first changing statement of a query or pipeline is passed on, and
            after all of it was answered, before the client gets the end of the answer.
    """

    def __init__(self, port: int) -> None:
        self.statements = 0
        self.port = 0
        self.before_write: OnSqlWrite | None = None
        self.after_write: OnSqlWrite | None = None
        self._writes = 0
        self._backend = port
        self._cut_at = 0
        self._cut_after = False
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="database-proxy")

    def start(self) -> Self:
        """Begin to listen."""
        self._thread.start()
        self._call(self._start())
        return self

    def stop(self) -> None:
        """Cut all connections and listen no more. Harmless when repeated."""
        if not self._thread.is_alive():
            return
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def lead_to(self, port: int) -> None:
        """From now on be the door to another server of this machine; all connections are cut."""
        self._backend = port
        self._call(self._cut())

    def cut_statement(self, number: int, *, after: bool = False) -> None:
        """End the connection at the so-and-so-manieth statement from now: before it is run, or unanswered after it."""
        self._cut_after = after
        self._cut_at = self.statements + number

    @property
    def has_cut(self) -> bool:
        """Whether the statement that was to be cut has come."""
        return bool(self._cut_at) and self.statements >= self._cut_at

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_SECONDS)

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._serve, LOOPBACK, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        if self._server is not None:
            self._server.close()
        await self._cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _cut(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            up_reader, up_writer = await asyncio.open_connection(LOOPBACK, self._backend)
        except OSError:
            self._end(writer, task)
            return
        self._writers.add(up_writer)
        session = _Session()
        down = asyncio.create_task(self._answers(up_reader, writer, session))
        try:
            await self._ask(reader, up_writer, session)
            if session.unanswered.is_set():
                await down
        except (OSError, asyncio.IncompleteReadError, CutConnection):
            pass  # one of the two has hung up, or is to
        finally:
            down.cancel()
            await asyncio.gather(down, return_exceptions=True)
            self._end(up_writer, task)
            self._end(writer, task)

    def _end(self, writer: asyncio.StreamWriter, task: asyncio.Task[None]) -> None:
        writer.transport.abort()
        self._writers.discard(writer)
        self._tasks.discard(task)

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, session: _Session) -> None:
        """Pass on message by message, until the client ends or a statement is to be cut before it is run."""
        begun = False
        while True:
            kind = await reader.readexactly(1) if begun else b""
            length = await reader.readexactly(4)
            body = await reader.readexactly(int.from_bytes(length) - 4)
            if not begun:
                begun = int.from_bytes(body[:4]) not in ENCRYPTION_REQUESTS
                if not begun:
                    session.conversation.asked_encryption()
            if kind in STATEMENTS:
                self.statements += 1
                if self.statements == self._cut_at:
                    if not self._cut_after:
                        return
                    session.unanswered.set()
            if (text := session.conversation.asks(kind, body)) is not None:
                self._writes += 1
                write = SqlWrite(self._writes, text)
                session.writes.append(write)
                await _told(self.before_write, write)
            session.conversation.sent(kind)
            writer.write(kind + length + body)
            await writer.drain()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, session: _Session) -> None:
        """Pass on what the server says; once `unanswered`, keep it back, and end when the server is done."""
        silence: float | None = None
        with contextlib.suppress(TimeoutError, OSError, CutConnection):
            while True:
                async with asyncio.timeout(silence):
                    data = await reader.read(LARGEST)
                for _ in session.conversation.answers(data):
                    await _told(self.after_write, session.writes.popleft())
                if not data or (session.unanswered.is_set() and READY_FOR_QUERY in data):
                    break
                if session.unanswered.is_set():
                    silence = PIPELINE_SECONDS
                else:
                    writer.write(data)
                    await writer.drain()
        writer.transport.abort()


class _Session:
    """One client's connection.

    Attributes:
        unanswered: Set when a statement is to be cut after it was run.
        writes: Those that the server is not done with.
    """

    def __init__(self) -> None:
        self.unanswered = asyncio.Event()
        self.conversation = Conversation()
        self.writes: deque[SqlWrite] = deque()


async def _told(callback: OnSqlWrite | None, write: SqlWrite) -> None:
    if callback is not None:
        await asyncio.to_thread(callback, write)
