"""The protocols between the reconcilers and what backups are made of: object stores, dumps, encryption."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from tenantry.ports.postgres import WantedDatabase
from tenantry.ports.servers import Server


# --- errors ---------------------------------------------------------------------------------------------------
class StoreError(Exception):
    """An object store refused, or what is in it is not what was put there; `message` has no secret in it."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class StoreUnreachableError(StoreError):
    """No usable answer in time: trying again may help."""


class StoreCredentialsError(StoreError):
    """The credentials are not accepted, or lack a right."""


class ObjectMissingError(StoreError):
    """There is no such object, or no such bucket."""


class SealError(Exception):
    """Something can't be encrypted, or not be decrypted; `message` has no secret in it."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


# --- stores ---------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class StoreLocation:
    """Where a store is and how to get in.

    Attributes:
        url: As BackupStore's `spec.url`.
        endpoint: Empty for the provider's own.
        region: Empty for the provider's default.
        credentials: As the Secret has them; empty for the operator's own identity.
    """

    url: str
    endpoint: str = ""
    region: str = ""
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object in a store: its key below the store's prefix, and its size in bytes."""

    key: str
    size: int


class ObjectStore(Protocol):
    """One store. Keys are relative to its prefix. Every call raises only StoreError and its subclasses.

    An error that the given iterator of `put_stream` raises is passed on as it is.
    """

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        """Write an object of any size without holding it; nothing is there, and nothing is left, after an error."""

    async def put(self, key: str, body: bytes) -> None:
        """Write a small object, in place of any that is there."""

    def read(self, key: str) -> AsyncIterator[bytes]:
        """An object from its beginning to its end. Raises ObjectMissingError."""

    async def get(self, key: str, *, most: int) -> bytes:
        """A small object. Raises ObjectMissingError, or StoreError if it is larger than `most` bytes."""

    async def list(self, prefix: str, *, most: int) -> list[StoredObject]:
        """Objects below a prefix that ends with a slash (empty: all), the first `most` of them."""

    def walk(self, prefix: str) -> AsyncIterator[StoredObject]:
        """All objects below a prefix that ends with a slash, however many; some of them at a time are held."""

    async def delete(self, key: str) -> None:
        """Remove an object; no error if it is not there."""

    async def abort_uploads(self, prefix: str) -> int:
        """Abort what dead processes have begun to write below a prefix that ends with a slash; how many there were.

        Nothing is done where the store can't tell.
        """


class ObjectStores(Protocol):
    """Makes clients of stores."""

    def open(self, location: StoreLocation) -> ObjectStore:
        """A client; nothing is dialled yet. Raises StoreError if the location makes no sense."""


# --- encryption -----------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class AgeKey:
    """A pair of age keys.

    Attributes:
        recipient: The public one, `age1...`.
        identity: The private one, `AGE-SECRET-KEY-1...`.
    """

    recipient: str
    identity: str = field(repr=False)


class Sealer(Protocol):
    """Encrypts streams so that only those can read them who have a private key. Raises SealError."""

    def new_key(self) -> AgeKey:
        """A new pair."""

    def key_of(self, identity: str) -> AgeKey:
        """The pair of a private key. Raises SealError if it is none."""

    def check(self, recipients: Sequence[str]) -> None:
        """That these are public keys. Raises SealError."""

    def seal(self, chunks: AsyncIterator[bytes], recipients: Sequence[str]) -> AsyncIterator[bytes]:
        """Encrypt. An error of `chunks` is raised as it is."""

    def unseal(self, chunks: AsyncIterator[bytes], identities: Sequence[str]) -> AsyncIterator[bytes]:
        """Decrypt; what comes out is checked piece by piece. Raises SealError for what is cut, changed or foreign."""


# --- dumps ----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class DumpFacts:
    """What a dump is of.

    Attributes:
        server_version: `server_version_num`.
        tool_major: Major version of the program that makes the dump.
        rows: Number of rows by table, as `schema.table`, in the dump's own snapshot.
        database_size: In bytes, of the database on the server.
    """

    server_version: int
    tool_major: int
    rows: Mapping[str, int]
    database_size: int


class Dump(Protocol):
    """A dump under way: one snapshot of one database."""

    def chunks(self) -> AsyncIterator[bytes]:
        """The archive (pg_dump's custom format). Ends only if the program ended well; else raises DatabaseError."""

    async def facts(self) -> DumpFacts:
        """Of the same snapshot. Raises DatabaseError."""


class DumpImpossibleError(Exception):
    """The server can't give the rights that a whole dump takes; the message says what to grant."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Dumper(Protocol):
    """Dumps tenants' databases. Every call raises only DatabaseError and its subclasses, and what is said."""

    def open(self, server: Server, wanted: WantedDatabase) -> AbstractAsyncContextManager[Dump]:
        """Begin a dump; what was made for it on the server is removed at the end.

        Raises (on entering):
            DumpImpossibleError: some rows could be hidden from it.
            DatabaseError: the server refused, or no program will do.
        """

    async def forget(self, server: Server, wanted: WantedDatabase) -> None:
        """Remove what a dump that died may have left on the server."""

    async def check(self, chunks: AsyncIterator[bytes], tool_major: int) -> None:
        """Read an archive through to its end.

        Raises:
            DatabaseError: it is none, or not a whole one.
        """

    async def count(self, server: Server, wanted: WantedDatabase) -> Mapping[str, int]:
        """Rows by table, as `schema.table`, read as a dump would read them: no policy hides one.

        Raises:
            DumpImpossibleError: some rows could be hidden.
            DatabaseError: the server refused.
        """


# --- restores -------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class ServerUse:
    """How a database server is at a moment.

    Attributes:
        used: In bytes, by all its databases together.
        up_since: When it was started, or has crashed last, with its zone; or later.
    """

    used: int
    up_since: datetime


class Loader(Protocol):
    """Fills tenants' databases out of archives, as the tenant: what is in an archive is the tenant's code."""

    async def check(self, server: Server, tool_major: int) -> None:
        """That there is a program that can read archives of this major version into this server.

        Raises:
            DatabaseError: naming what is missing.
        """

    async def load(
        self, server: Server, wanted: WantedDatabase, password: str, chunks: AsyncIterator[bytes], tool_major: int
    ) -> None:
        """Fill an empty database; what is there after an error is of no use.

        Args:
            server: Where it is.
            wanted: The database, settled. Its first login must be open with `password`; all becomes its owner role's.
            password: Of that login.
            chunks: The archive. An error of it is raised as it is.
            tool_major: Major version of the program that made it.

        Raises:
            DatabaseError: what went wrong.
        """

    async def use_of(self, server: Server) -> ServerUse:
        """What the databases of a server take. Raises DatabaseError if it can't be told."""

    async def size(self, server: Server, wanted: WantedDatabase) -> int:
        """In bytes, what one database takes. Raises DatabaseError."""


# --- what is counted ------------------------------------------------------------------------------------------
class BackupObserver(Protocol):
    """Told of what has ended, once each."""

    def backup_ended(self, store: str, *, good: bool, seconds: float, size: int) -> None:
        """A backup; `size` in bytes, as it is in the store: 0 for one that failed."""

    def verification_ended(self, store: str, result: str, seconds: float) -> None:
        """A backup was restored on trial: `passed`, `failed`, or `not_possible`, which says nothing of the backup."""
