"""`Sealer` by age: streams through its file interface, which runs in a thread of its own for each stream."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import CancelledError, Future
from typing import Any, Final

import pyrage

from tenantry.ports.backup import AgeKey, SealError

PIECE: Final = 1024 * 1024
WAITING: Final = 2
"""Pieces that are done and not taken yet: a slow taker slows down the thread."""

_Transform = Callable[["_Source", "_Sink"], None]


class AgeSealer:
    """Implements `tenantry.ports.backup.Sealer`."""

    def new_key(self) -> AgeKey:
        """See `Sealer`."""
        identity = pyrage.x25519.Identity.generate()
        return AgeKey(str(identity.to_public()), str(identity))

    def key_of(self, identity: str) -> AgeKey:
        """See `Sealer`."""
        return AgeKey(str(_identity(identity).to_public()), identity)

    def check(self, recipients: Sequence[str]) -> None:
        """See `Sealer`."""
        for each in recipients:
            _recipient(each)

    def seal(self, chunks: AsyncIterator[bytes], recipients: Sequence[str]) -> AsyncIterator[bytes]:
        """See `Sealer`."""
        public = [_recipient(each) for each in recipients]
        return _through(chunks, lambda source, sink: pyrage.encrypt_io(source, sink, public))

    def unseal(self, chunks: AsyncIterator[bytes], identities: Sequence[str]) -> AsyncIterator[bytes]:
        """See `Sealer`."""
        private = [_identity(each) for each in identities]
        return _through(chunks, lambda source, sink: pyrage.decrypt_io(source, sink, private))


def _identity(text: str) -> Any:
    try:
        return pyrage.x25519.Identity.from_str(text.strip())
    except pyrage.IdentityError:
        raise SealError("that is no age private key: it must begin with AGE-SECRET-KEY-1") from None


def _recipient(text: str) -> Any:
    try:
        return pyrage.x25519.Recipient.from_str(text)
    except pyrage.RecipientError:
        raise SealError(f"{text[:16]}... is no age public key") from None


class _Bridge:
    """Calls from the thread into the event loop. Stopped, each of them fails at once."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._pending: Future[Any] | None = None
        self._stopped = False

    def call(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run it there and wait for it."""
        with self._lock:
            if self._stopped:
                coroutine.close()
                raise SealError("it was broken off")
            self._pending = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return self._pending.result()
        except CancelledError:
            raise SealError("it was broken off") from None

    def stop(self) -> None:
        """In the event loop: whatever the thread waits for is over."""
        with self._lock:
            self._stopped = True
            if self._pending is not None:
                self._pending.cancel()


class _Source:
    """What the library reads from."""

    def __init__(self, chunks: AsyncIterator[bytes], bridge: _Bridge) -> None:
        self._chunks = chunks
        self._bridge = bridge
        self._piece = memoryview(b"")
        self.error: Exception | None = None

    def read(self, size: int) -> bytes:
        """At most so many bytes; none at the end."""
        if not self._piece:
            try:
                self._piece = memoryview(self._bridge.call(self._next()))
            except Exception as error:  # kept and raised again: through the library its kind would be lost
                self.error = error  # the library makes its own of it
                raise
        taken, self._piece = self._piece[:size], self._piece[size:]
        return bytes(taken)

    async def _next(self) -> bytes:
        async for chunk in self._chunks:
            if chunk:
                return chunk
        return b""


class _Sink:
    """What the library writes to; gathered, for its pieces are small."""

    def __init__(self, queue: asyncio.Queue[bytes | Exception | None], bridge: _Bridge) -> None:
        self._queue = queue
        self._bridge = bridge
        self._gathered: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> int:
        """All of it is taken."""
        self._gathered.append(bytes(data))
        self._size += len(data)
        if self._size >= PIECE:
            self.flush_out()
        return len(data)

    def flush(self) -> None:
        """Nothing: it is flushed at the end."""

    def flush_out(self) -> None:
        """Hand over what was gathered."""
        if self._size:
            piece, self._gathered, self._size = b"".join(self._gathered), [], 0
            self._bridge.call(self._queue.put(piece))


async def _through(chunks: AsyncIterator[bytes], transform: _Transform) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[bytes | Exception | None] = asyncio.Queue(WAITING)
    bridge = _Bridge(loop)
    source, sink = _Source(chunks, bridge), _Sink(queue, bridge)

    def work() -> None:
        end: Exception | None = None
        try:
            transform(source, sink)
            sink.flush_out()
        except Exception as error:  # noqa: BLE001 - whatever it is, the one who reads must hear of it
            end = source.error or SealError(_told(error))
        try:
            bridge.call(queue.put(end))
        except (SealError, RuntimeError):
            return  # broken off, or the loop is closed: nobody reads any more

    thread = threading.Thread(target=work, name="age", daemon=True)
    thread.start()
    try:
        while (piece := await queue.get()) is not None:
            if isinstance(piece, Exception):
                raise piece
            yield piece
    finally:
        bridge.stop()


def _told(error: Exception) -> str:
    if isinstance(error, SealError):
        return error.message
    if isinstance(error, pyrage.EncryptError):
        return "it can't be encrypted"
    return "it can't be decrypted: it was cut or changed, or none of the keys is the right one"
