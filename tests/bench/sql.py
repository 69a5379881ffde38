"""The floor for databases: the operator's SQL again under fresh names, by bare psycopg with as many sessions as it."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeAlias

import psycopg
from psycopg.rows import TupleRow
from tests.bench.statements import Statement, Visit
from tests.controlplane.postgres import PostgresServer
from tests.controlplane.postgres_access import PostgresAccess

from tenantry.adapters.postgres.params import HOME, SEARCH_PATH, Limits

Connection: TypeAlias = psycopg.AsyncConnection[TupleRow]

_VERIFIER: Final = re.compile(r"SCRAM-SHA-256\$[^']+")
_STRING: Final = re.compile(r"'[^']*'")
_LOGGING: Final = {
    "logging_collector": "on",
    "log_destination": "jsonlog",
    "log_statement": "all",
    "log_connections": "on",
    "log_rotation_age": "0",
    "log_rotation_size": "0",
}


@contextmanager
def logging_postgres(server: PostgresServer) -> Iterator[Path]:
    """The server, restarted with all statements in a log as JSON, and the path of that log."""
    with psycopg.connect(server.access.superuser_dsn(), autocommit=True) as connection:
        for name, value in _LOGGING.items():
            connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
    server.stop_server()
    server.start_server()
    with psycopg.connect(server.access.superuser_dsn()) as connection:
        row = connection.execute("SELECT current_setting('data_directory'), pg_current_logfile('jsonlog')").fetchone()
    assert row is not None
    yield Path(row[0]) / row[1]


class SqlReplay:
    """Replays what the operator said to PostgreSQL; an async context manager.

    Half of the operator's sessions stay on its own database, the other half are for one use: as the operator has it.

    Args:
        access: The server.
        visits: By the name of the tenant that the operator made, under fresh names.
    """

    def __init__(self, access: PostgresAccess, visits: Mapping[str, Sequence[Visit]]) -> None:
        self._access = access
        self._visits = visits
        half = max(1, Limits().sessions // 2)
        self._home_slots = asyncio.Semaphore(half)
        self._other_slots = asyncio.Semaphore(half)
        self._idle: list[Connection] = []

    async def __aenter__(self) -> SqlReplay:
        return self

    async def __aexit__(self, *_: object) -> None:
        for connection in self._idle:
            await connection.close()

    async def replay(self, tenant: str) -> None:
        """All of one tenant's statements, in their order."""
        password = secrets.token_urlsafe(24)
        for visit in self._visits[tenant]:
            if visit.at_home:
                await self._at_home(visit, password)
            else:
                await self._elsewhere(visit, password)

    async def _at_home(self, visit: Visit, password: str) -> None:
        async with self._home_slots:
            connection = self._idle.pop() if self._idle else await self._admin(HOME)
            try:
                if len(visit.statements) == 1 or any(_is_several(said) for said in visit.statements):
                    await _say(connection, visit.statements, password)
                else:
                    async with connection.pipeline():  # as the operator does with a transaction
                        await _say(connection, visit.statements, password)
            finally:
                self._idle.append(connection)

    async def _elsewhere(self, visit: Visit, password: str) -> None:
        async with self._other_slots:
            if visit.user == self._access.admin_user:
                connection = await self._admin(visit.database)
            else:
                dsn = self._access.dsn(visit.user, password, visit.database)
                connection = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
            try:
                await _say(connection, visit.statements, password)
            finally:
                await connection.close()

    async def _admin(self, database: str) -> Connection:
        options = f"-c search_path={SEARCH_PATH}"
        dsn = self._access.dsn(self._access.admin_user, self._access.admin_password, database, options=options)
        return await psycopg.AsyncConnection.connect(dsn, autocommit=True)


def _is_several(statement: Statement) -> bool:
    """Whether several commands were sent as one text, which no pipeline takes: the operator did not use one either."""
    return ";" in _STRING.sub("", statement.text).rstrip("; \n")


async def _say(connection: Connection, statements: Sequence[Statement], password: str) -> None:
    for statement in statements:
        await _execute(connection, statement, password)


async def _execute(connection: Connection, statement: Statement, password: str) -> None:
    text = statement.text
    if match := _VERIFIER.search(text):
        # A verifier of a password that is known here, made with the same work as the operator does.
        verifier = connection.pgconn.encrypt_password(password.encode(), b"", b"scram-sha-256").decode()
        text = text.replace(match[0], verifier)
    cursor = psycopg.AsyncRawCursor(connection)
    await cursor.execute(text, statement.values or None)
    if cursor.pgresult is not None and cursor.description is not None:
        await cursor.fetchall()
