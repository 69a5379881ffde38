"""What psycopg raises, as the errors of the port: by SQLSTATE where there is one, without details that name others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg

from tenantry.ports.postgres import DatabaseCredentialsError, DatabaseError, DatabaseUnreachableError

BAD_PASSWORD: Final = "28P01"  # noqa: S105 - an SQLSTATE
NOT_AUTHORIZED: Final = "28000"
NO_SUCH_DATABASE: Final = "3D000"
NOT_ACCEPTING: Final = "55000"
NO_PRIVILEGE: Final = "42501"
TOO_MANY_CONNECTIONS: Final = "53300"
DUPLICATE_DATABASE: Final = "42P04"
IN_USE: Final = "55006"
READ_ONLY: Final = "25006"

LOGIN_REFUSED: Final = frozenset({BAD_PASSWORD, NOT_AUTHORIZED, NO_SUCH_DATABASE, NOT_ACCEPTING, NO_PRIVILEGE})
"""A session was refused for what the login is or may do, not for the state that the server is in."""

_CONNECT_TEXTS: Final = (
    (re.compile(r"password authentication failed"), BAD_PASSWORD),
    (re.compile(r"is not permitted to log in|no pg_hba.conf entry|pg_hba.conf rejects"), NOT_AUTHORIZED),
    (re.compile(r'role ".*" does not exist|authentication failed for user'), NOT_AUTHORIZED),
    (re.compile(r'database ".*" does not exist'), NO_SUCH_DATABASE),
    (re.compile(r"not currently accepting connections|connect to invalid database"), NOT_ACCEPTING),
    (re.compile(r"permission denied for database"), NO_PRIVILEGE),
    (re.compile(r"too many connections for|too many clients|connection slots are reserved"), TOO_MANY_CONNECTIONS),
    (re.compile(r"database system is|database system has|server is in hot standby"), "57P03"),
)
"""libpq tells no SQLSTATE of a connection that was refused. A server that speaks another language than English is
understood as far as `used_password` goes; see `of_connect`."""

_OWN_LIMIT: Final = re.compile(r"too many connections for (role|database)")
_AUTH_METHOD: Final = re.compile(r"authentication method requirement|channel binding")
_SEVERITY: Final = re.compile(r"(?:FATAL|ERROR|PANIC):\s+(.*)")
_CERTIFICATE: Final = re.compile(r"SSL|certificate|TLS", re.IGNORECASE)
_CA_PATH: Final = re.compile(r'root certificate file "[^"]*"')

_UNREACHABLE_CLASSES: Final = ("08", "57P", "58", "53")
"""Connection exceptions, operator intervention, system errors, insufficient resources: not the statement's fault."""


def of_connect(error: psycopg.Error) -> DatabaseError:
    """The port's error for a connection that did not come about; its SQLSTATE is concluded from the server's words."""
    text = _CA_PATH.sub("the CA certificate", _last_message(str(error)))
    sqlstate = next((state for pattern, state in _CONNECT_TEXTS if pattern.search(text)), "")
    if _AUTH_METHOD.search(text):
        return DatabaseCredentialsError(f"the server's authentication method is refused: {text}")
    if sqlstate in (BAD_PASSWORD, NOT_AUTHORIZED):
        return DatabaseCredentialsError(text, sqlstate=sqlstate)
    if _OWN_LIMIT.search(text) or sqlstate in (NO_SUCH_DATABASE, NOT_ACCEPTING, NO_PRIVILEGE):
        return DatabaseError(text, sqlstate=sqlstate)
    if not sqlstate and error.pgconn is not None and error.pgconn.used_password:
        # The server took the password and then refused, in words we don't know.
        return DatabaseCredentialsError(text)
    if not sqlstate and _CERTIFICATE.search(text):
        return DatabaseUnreachableError(f"no TLS connection as sslMode demands: {text}")
    return DatabaseUnreachableError(text, sqlstate=sqlstate)


def of_statement(error: psycopg.Error) -> DatabaseError:
    """The port's error for a failed statement: the primary message only, for details may name others' objects."""
    sqlstate = error.sqlstate or ""
    message = error.diag.message_primary or "the connection to the server was lost"
    lost = not sqlstate and isinstance(error, psycopg.OperationalError)
    if lost or (sqlstate.startswith(_UNREACHABLE_CLASSES) and sqlstate != "57014"):
        return DatabaseUnreachableError(message, sqlstate=sqlstate)
    if not sqlstate:
        message = f"{type(error).__name__} from the database driver"
    return DatabaseError(message, sqlstate=sqlstate)


@contextmanager
def statements() -> Iterator[None]:
    """Whatever is raised inside leaves as an error of the port, without the original, which may hold the statement."""
    try:
        yield
    except psycopg.Error as error:
        raise of_statement(error) from None
    except TimeoutError:
        raise DatabaseUnreachableError("the server did not answer in time") from None


def _last_message(text: str) -> str:
    """The server's own words out of libpq's report, which may hold one line an address tried, details and hints."""
    if found := _SEVERITY.findall(text):
        return str(found[-1]).strip()
    first = text.strip().splitlines()[0] if text.strip() else "no answer"
    return first.removeprefix("connection failed: ").removeprefix("connection is bad: ")
