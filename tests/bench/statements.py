"""The operator's own SQL, read back from PostgreSQL's log as JSON, by tenant and session; pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from tests.bench.writes import FLOOR_ID, MANAGEMENT_ID, fresh_hash, fresh_name

from tenantry.adapters.postgres.params import HOME
from tenantry.api.identity import SHORT_HASH_LENGTH

_DATABASE: Final = re.compile(r"tenantry_([a-z2-7]{8})")
_STATEMENT: Final = re.compile(r"(?:statement|execute [^:]*): (.*)", re.DOTALL)
_VALUE: Final = re.compile(r"\$\d+ = (NULL|'(?:[^']|'')*')")
_LOGGED_IN: Final = "connection authorized:"


@dataclass(frozen=True, slots=True)
class Statement:
    """One message to the server: SQL, with `$1` and on where there are values."""

    text: str
    values: tuple[str | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Visit:
    """What one session did at one go for one tenant.

    Attributes:
        database: Where the session was; the operator's own database, or the tenant's.
        user: Who it was.
        statements: In order; several in the operator's database are one transaction.
    """

    database: str
    user: str
    statements: tuple[Statement, ...]

    @property
    def at_home(self) -> bool:
        """Whether it was one of the sessions that are kept open."""
        return self.database == HOME


@dataclass(slots=True)
class _Session:
    database: str
    user: str
    began: int
    statements: list[Statement] = field(default_factory=list)
    in_transaction: bool = False


class _Reader:
    """Takes in the log line by line, and knows which visit each session is on."""

    def __init__(self) -> None:
        self._sessions: dict[str, _Session] = {}
        self._found: dict[str, list[tuple[int, Visit]]] = defaultdict(list)

    def take(self, number: int, event: dict[str, Any]) -> None:
        message = event.get("message", "")
        session = self._sessions.get(event["session_id"])
        if session is None or message.startswith(_LOGGED_IN):
            session = self._sessions[event["session_id"]] = _Session(event["dbname"], event["user"], number)
        match = _STATEMENT.match(message)
        if match is None or event["error_severity"] != "LOG":
            return
        if not session.statements:
            session.began = number
        session.statements.append(Statement(match[1], _values(event.get("detail", ""))))
        session.in_transaction = _in_transaction(match[1], session.in_transaction)
        if session.database == HOME and not session.in_transaction:
            self._end(session)

    def result(self) -> dict[str, list[Visit]]:
        for session in self._sessions.values():
            if session.database != HOME:
                self._end(session)
        return {tenant: [visit for _, visit in sorted(visits, key=_first)] for tenant, visits in self._found.items()}

    def _end(self, session: _Session) -> None:
        visit = Visit(session.database, session.user, tuple(session.statements))
        words = [visit.database, visit.user]
        words += [word or "" for said in visit.statements for word in (said.text, *said.values)]
        if match := _DATABASE.search(" ".join(words)):
            self._found[match[1]].append((session.began, visit))
        session.statements = []


def visits_of(log: Iterable[bytes], superuser: str) -> dict[str, list[Visit]]:
    """By tenant hash, what was done for it, in the order in which it began. The superuser's own doings are left out."""
    reader = _Reader()
    for number, line in enumerate(log):
        event: dict[str, Any] = orjson.loads(line)
        if event.get("user", "") not in ("", superuser):
            reader.take(number, event)
    return reader.result()


def renamed(tenant: str, tenant_hash: str, visits: Iterable[Visit]) -> list[Visit]:
    """The same for another tenant of another operator."""
    words = (
        (tenant, fresh_name(tenant)),
        (tenant_hash[:SHORT_HASH_LENGTH], fresh_hash(tenant_hash)[:SHORT_HASH_LENGTH]),
        (MANAGEMENT_ID, FLOOR_ID),
    )

    def rename(text: str) -> str:
        for former, present in words:
            text = text.replace(former, present)
        return text

    return [
        Visit(
            rename(visit.database),
            rename(visit.user),
            tuple(
                Statement(rename(said.text), tuple(None if value is None else rename(value) for value in said.values))
                for said in visit.statements
            ),
        )
        for visit in visits
    ]


def _first(pair: tuple[int, Visit]) -> int:
    return pair[0]


def _in_transaction(text: str, before: bool) -> bool:
    word = text.split(maxsplit=1)[0].rstrip(";").upper() if text.strip() else ""
    return word == "BEGIN" or (before and word not in ("COMMIT", "ROLLBACK"))


def _values(detail: str | None) -> tuple[str | None, ...]:
    if not detail or not detail.lower().startswith("parameters:"):
        return ()
    return tuple(None if value == "NULL" else value[1:-1].replace("''", "'") for value in _VALUE.findall(detail))
