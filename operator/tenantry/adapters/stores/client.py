"""`ObjectStore` on S3, GCS, Azure and folders: written by multipart uploads that are aborted, read in ranges."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import obstore
from obstore import exceptions
from obstore.store import AzureStore, GCSStore, LocalStore, S3Store

from tenantry.adapters.stores import uploads
from tenantry.ports.backup import (
    ObjectMissingError,
    StoreCredentialsError,
    StoredObject,
    StoreError,
    StoreLocation,
    StoreUnreachableError,
)

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig
    from obstore.store import ObjectStore as AnyStore

PART_BYTES: Final = 16 * 1024 * 1024
"""An upload has at most 10,000 parts: a backup at most 160 GB."""
PARTS_AT_ONCE: Final = 2
PAGE: Final = 1000
"""Objects that are listed by one request."""
READ_BYTES: Final = 1024 * 1024
REQUEST_SECONDS: Final = 60
"""One request with its body: a part takes that long at 2 Mbit/s."""
READ_SECONDS: Final = 24 * 3600
"""One object from its beginning to its end. Whoever reads it looks whether anything comes."""
RETRY_SECONDS: Final = 60
ABORT_SECONDS: Final = 10.0

_CODE: Final = re.compile(r"<Code>([A-Za-z0-9]{1,64})</Code>")
_STATUS: Final = re.compile(r"status code: ([0-9]{3}[A-Za-z ]{0,40})")
_CAUSE: Final = re.compile(r"(Connection refused|timed out|timeout|dns error|certificate|No space left|denied)")


class ObstoreStores:
    """Implements `tenantry.ports.backup.ObjectStores`."""

    def open(self, location: StoreLocation) -> ObstoreStore:
        """See `ObjectStores`."""
        with _translated():
            return ObstoreStore(location, _client(location, REQUEST_SECONDS), _client(location, READ_SECONDS))


class ObstoreStore:
    """Implements `tenantry.ports.backup.ObjectStore`."""

    def __init__(self, location: StoreLocation, store: AnyStore, reading: AnyStore) -> None:
        self._location = location
        self._store = store
        self._reading = reading

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        """See `ObjectStore`."""
        feed = _Feed(chunks)
        upload = asyncio.ensure_future(
            obstore.put_async(
                self._store,
                key,
                feed.pieces(),
                use_multipart=True,
                chunk_size=PART_BYTES,
                max_concurrency=PARTS_AT_ONCE,
            )
        )
        try:
            await asyncio.shield(upload)
        except asyncio.CancelledError:
            # Cancelled, the upload would be left open: it is aborted by an error of what it reads from.
            feed.stop()
            await asyncio.wait([upload], timeout=ABORT_SECONDS)
            _retrieve(upload)
            raise
        except Exception as error:  # noqa: BLE001 - the one that the upload was given goes first, whatever came of it
            raise feed.error or _error_of(error) from None

    async def put(self, key: str, body: bytes) -> None:
        """See `ObjectStore`."""
        with _translated():
            await obstore.put_async(self._store, key, body, use_multipart=False)

    async def read(self, key: str) -> AsyncIterator[bytes]:
        """See `ObjectStore`. In one request: not all stores that call themselves compatible know ranges."""
        with _translated():
            answer = await obstore.get_async(self._reading, key)
            pieces = aiter(answer.stream(min_chunk_size=READ_BYTES))
        while True:
            with _translated():
                try:
                    piece = bytes(await anext(pieces))
                except StopAsyncIteration:
                    return
            yield piece

    async def get(self, key: str, *, most: int) -> bytes:
        """See `ObjectStore`."""
        with _translated():
            answer = await obstore.get_async(self._store, key)
            if answer.meta["size"] > most:
                raise StoreError(f"an object that should be small has {answer.meta['size']} bytes")
            return bytes(await answer.bytes_async())

    async def list(self, prefix: str, *, most: int) -> list[StoredObject]:
        """See `ObjectStore`."""
        found: list[StoredObject] = []
        with _translated():
            async for page in obstore.list(self._store, prefix.rstrip("/") or None, chunk_size=min(most, PAGE)):
                found += [StoredObject(each["path"], each["size"]) for each in page]
                if len(found) >= most:
                    break
        return found[:most]

    async def walk(self, prefix: str) -> AsyncIterator[StoredObject]:
        """See `ObjectStore`."""
        with _translated():
            pages = aiter(obstore.list(self._store, prefix.rstrip("/") or None, chunk_size=PAGE))
        while True:
            with _translated():
                try:
                    page = await anext(pages)
                except StopAsyncIteration:
                    return
            for each in page:
                yield StoredObject(each["path"], each["size"])

    async def delete(self, key: str) -> None:
        """See `ObjectStore`."""
        with suppress(ObjectMissingError), _translated():
            await obstore.delete_async(self._store, key)

    async def abort_uploads(self, prefix: str) -> int:
        """See `ObjectStore`."""
        with _translated():
            return await uploads.abort_uploads(self._location, prefix)


class _Feed:
    """What an upload reads from: keeps the error that it ended in, and can be stopped from outside."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._next: asyncio.Future[bytes] | None = None
        self._stopped = False
        self.error: Exception | None = None

    async def pieces(self) -> AsyncIterator[bytes]:
        iterator = aiter(self._chunks)
        while not self._stopped:
            self._next = asyncio.ensure_future(_one(iterator))
            try:
                piece = await self._next
            except asyncio.CancelledError:
                break
            except StopAsyncIteration:
                return
            except Exception as error:  # kept and raised again: through the library its kind would be lost
                self.error = error
                raise
            if not piece:
                return
            yield piece
        raise StoreError("the upload was broken off")

    def stop(self) -> None:
        self._stopped = True
        if self._next is not None:
            self._next.cancel()


async def _one(iterator: AsyncIterator[bytes]) -> bytes:
    """The next piece; an empty one at the end, for a task can't end with StopAsyncIteration."""
    try:
        return await anext(iterator)
    except StopAsyncIteration:
        return b""


def _retrieve(upload: asyncio.Future[Any]) -> None:
    """Take an error that nobody waits for any more."""
    if upload.done() and not upload.cancelled():
        upload.exception()


def _client(location: StoreLocation, seconds: int) -> AnyStore:
    parts = urlsplit(location.url)
    prefix = parts.path.strip("/") or None
    options: ClientConfig = {
        "timeout": timedelta(seconds=seconds),
        "connect_timeout": timedelta(seconds=5),
        "allow_http": location.endpoint.startswith("http://"),
    }
    retry: RetryConfig = {"max_retries": 5, "retry_timeout": timedelta(seconds=RETRY_SECONDS)}
    given = location.credentials
    match parts.scheme:
        case "s3":
            names = {"accessKeyId": "access_key_id", "secretAccessKey": "secret_access_key", "sessionToken": "token"}
            config = {ours: given[theirs] for theirs, ours in names.items() if theirs in given}
            config |= {"region": location.region or "us-east-1"}
            if location.endpoint:
                config |= {"endpoint": location.endpoint}
            return S3Store(parts.netloc, prefix=prefix, config=config, client_options=options, retry_config=retry)  # type: ignore[arg-type]  # keys that S3Config has
        case "gs":
            config = {"service_account_key": given["serviceAccountKey"]} if "serviceAccountKey" in given else {}
            return GCSStore(parts.netloc, prefix=prefix, config=config, client_options=options, retry_config=retry)  # type: ignore[arg-type]  # a key that GCSConfig has
        case "az":
            names = {"accountName": "account_name", "accountKey": "account_key"}
            config = {ours: given[theirs] for theirs, ours in names.items() if theirs in given}
            if location.endpoint:
                config |= {"endpoint": location.endpoint}
            return AzureStore(parts.netloc, prefix=prefix, config=config, client_options=options, retry_config=retry)  # type: ignore[arg-type]  # keys that AzureConfig has
        case "file":
            return LocalStore(Path(parts.path), automatic_cleanup=True, mkdir=True)
    raise StoreError(f"there are no stores at {parts.scheme}://")


@contextmanager
def _translated() -> Iterator[None]:
    """Whatever obstore raises leaves as an error of the port, without its details, which hold requests and answers."""
    try:
        yield
    except StoreError:
        raise
    except Exception as error:  # noqa: BLE001 - what is none of a store's goes on as it is
        raise _error_of(error) from None


def _error_of(error: Exception) -> Exception:
    """The port's error; the same one where it is none of a store's."""
    match error:
        case FileNotFoundError():
            return ObjectMissingError(_told(error, "there is no such object or bucket"))
        case exceptions.PermissionDeniedError() | exceptions.UnauthenticatedError():
            return StoreCredentialsError(_told(error, "it lets nobody in"))
        case exceptions.GenericError():
            return _refused(error)
        case exceptions.BaseError() | OSError() | ValueError():
            return StoreError(_told(error, type(error).__name__))
        case _:
            return error


def _refused(error: Exception) -> StoreError:
    """By the status, for some requests' answers have no error of their own."""
    status = _STATUS.search(str(error))
    told = _told(error, "it did not answer")
    if status is None or not status[1].startswith("4"):
        return StoreUnreachableError(told)
    kinds = {"401": StoreCredentialsError, "403": StoreCredentialsError, "404": ObjectMissingError}
    return kinds.get(status[1][:3], StoreError)(told)


def _told(error: Exception, otherwise: str) -> str:
    """The store's status and code, or the cause in a word."""
    text = str(error)
    found = [match[1].strip() for pattern in (_STATUS, _CODE) if (match := pattern.search(text))]
    if found:
        return f"the store answered {', '.join(found)}"
    cause = _CAUSE.search(text)
    return f"the store: {cause[1]}" if cause else f"the store: {otherwise}"
