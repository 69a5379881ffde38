"""What a client and a PostgreSQL server say to each other, as far as it takes to tell writes from reads. No I/O."""

from __future__ import annotations

import re
from collections import deque
from typing import Final

QUERY: Final = b"Q"
PARSE: Final = b"P"
BIND: Final = b"B"
EXECUTE: Final = b"E"
SYNC: Final = b"S"
READY_FOR_QUERY: Final = b"Z"
HEAD: Final = 5
"""Bytes before the body of a server's message: its kind, and its length, which counts itself but not the kind."""

_READS: Final = re.compile(
    r"\s*(SELECT|WITH|VALUES|TABLE|SHOW|EXPLAIN|BEGIN|START|COMMIT|END|ROLLBACK(?!\s+PREPARED)|SAVEPOINT|RELEASE|SET|RESET"
    r"|DISCARD|DEALLOCATE|DECLARE|FETCH|CLOSE|LISTEN|UNLISTEN)\b|\s*$",
    re.IGNORECASE,
)
_CHANGES: Final = re.compile(
    r"\b(INSERT\s+INTO|DELETE\s+FROM|UPDATE\s+\S+\s+SET|MERGE\s+INTO|pg_terminate_backend\s*\(|setval\s*\()",
    re.IGNORECASE,
)
_BEGINS: Final = re.compile(r"\s*(BEGIN|START)\b", re.IGNORECASE)
_COMMITS: Final = re.compile(r"\s*(COMMIT|END)\b", re.IGNORECASE)


def is_write(text: str) -> bool:
    """Whether SQL asks for a change: what is not known to be a read is one. Ending a session is one too."""
    return any(not _READS.match(part) or _CHANGES.search(part) for part in text.split(";"))


class Conversation:
    """One connection, both ways.

    A *unit* is what the server answers with one ReadyForQuery: a simple query with all its statements, or all messages
    of a pipeline up to its Sync. It takes effect as a whole or not at all, so it is one write or none; the COMMIT of a
    transaction that has written is a write of its own, for it is what makes the changes last.
    """

    def __init__(self) -> None:
        self._statements: dict[bytes, str] = {}
        self._portals: dict[bytes, str] = {}
        self._unit: str | None = None
        self._in_transaction = False
        self._uncommitted = ""
        self._expected: deque[str | None] = deque([None])  # the first ReadyForQuery ends the log-in
        self._rest = b""
        self._bare = 0

    def asked_encryption(self) -> None:
        """The client asked for encryption: the answer is one bare byte."""
        self._bare += 1

    def asks(self, kind: bytes, body: bytes) -> str | None:
        """Take note of a client's message before it is passed on; its SQL if it is the first write of its unit."""
        if kind == PARSE:
            name, text = body.split(b"\0")[:2]
            self._statements[name] = text.decode(errors="replace")
        elif kind == BIND:
            portal, statement = body.split(b"\0")[:2]
            self._portals[portal] = self._statements.get(statement, "")
        elif kind in (QUERY, EXECUTE):
            first = body.split(b"\0")[0]
            return self._runs(first.decode(errors="replace") if kind == QUERY else self._portals.get(first, ""))
        return None

    def _runs(self, text: str) -> str | None:
        """The SQL if it is the first write of its unit; for a COMMIT also that of the first change it makes last."""
        writes = is_write(text)
        if _BEGINS.match(text):
            self._in_transaction, self._uncommitted = True, ""
        elif _COMMITS.match(text):
            if self._uncommitted:
                text, writes = f"{text} of {self._uncommitted}", True
            self._in_transaction, self._uncommitted = False, ""
        elif writes and self._in_transaction:
            self._uncommitted = self._uncommitted or text
        if not writes or self._unit is not None:
            return None
        self._unit = text
        return text

    def sent(self, kind: bytes) -> None:
        """Take note that a client's message was passed on."""
        if kind in (QUERY, SYNC):
            self._expected.append(self._unit)
            self._unit = None

    def answers(self, data: bytes) -> list[str]:
        """Take note of what the server says; the SQL of the writes that it is now done with, well or badly."""
        done = []
        data = self._rest + data
        bare = min(self._bare, len(data))
        self._bare -= bare
        data = data[bare:]
        while len(data) >= HEAD:
            end = 1 + int.from_bytes(data[1:HEAD])
            if len(data) < end:
                break
            if data[:1] == READY_FOR_QUERY and self._expected and (text := self._expected.popleft()) is not None:
                done.append(text)
            data = data[end:]
        self._rest = data
        return done
