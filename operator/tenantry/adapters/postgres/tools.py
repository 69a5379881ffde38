"""PostgreSQL's own programs to dump and restore: found on PATH, chosen by version, run without a secret in argv."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from psycopg.conninfo import make_conninfo

from tenantry.adapters.postgres.params import ADMIN_AUTH, ServerParams
from tenantry.ports.postgres import DatabaseError

DUMP: Final = "pg_dump"
RESTORE: Final = "pg_restore"
MAJOR: Final = 10000
SETS_TRANSACTION_TIMEOUT: Final = 17
"""From this major version on the programs set a parameter that older servers don't know, and fail for it."""

_VERSION: Final = re.compile(r"\(PostgreSQL\) (\d+)")
_ANSWER_SECONDS: Final = 10.0
_KEEPALIVES: Final[Mapping[str, int]] = MappingProxyType(
    {"keepalives": 1, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
)


@dataclass(frozen=True, slots=True)
class Tools:
    """A pair of programs of one major version."""

    major: int
    dump: Path
    restore: Path


def fits(major: int, source: int, destination: int) -> bool:
    """Whether programs of a major version can copy between servers of these (as 15, 18).

    A dump can't be made by a program that is older than the server.
    """
    return major >= source and (major < SETS_TRANSACTION_TIMEOUT or destination >= SETS_TRANSACTION_TIMEOUT)


async def find_tools(source_version: int, destination_version: int, path: str | None = None) -> Tools:
    """The oldest pair on PATH that can copy between two servers.

    Args:
        source_version: `server_version_num` of the one that is read.
        destination_version: Of the one that is written.
        path: Instead of the environment's.

    Raises:
        DatabaseError: there is none; says which versions would do.
    """
    source, destination = source_version // MAJOR, destination_version // MAJOR
    found = await _installed(os.environ.get("PATH", "") if path is None else path)
    fitting = [tools for tools in found if fits(tools.major, source, destination)]
    if fitting:
        return min(fitting, key=lambda tools: tools.major)
    least = f"{source} or newer" if destination >= SETS_TRANSACTION_TIMEOUT else f"{source} to 16"
    have = ", ".join(str(tools.major) for tools in found) or "none"
    raise DatabaseError(
        f"{DUMP} and {RESTORE} of version {least} are needed on the operator's PATH (there: {have}); install "
        "PostgreSQL's client programs beside the operator"
    )


def surroundings(params: ServerParams, database: str, user: str, password: str, ca_file: Path | None) -> dict[str, str]:
    """The environment of a program: all of libpq's settings that matter, and nothing of ours but PATH."""
    chosen = {
        "PATH": os.environ.get("PATH", ""),
        "LC_ALL": "C",
        "PGHOST": params.host,
        "PGPORT": str(params.port),
        "PGDATABASE": database,
        "PGUSER": user,
        "PGPASSWORD": password,
        "PGREQUIREAUTH": ADMIN_AUTH,
        "PGSSLMODE": params.ssl_mode,
        "PGSSLCERTMODE": "disable",
        "PGGSSENCMODE": "disable",
        "PGCONNECT_TIMEOUT": "10",
        "PGAPPNAME": "tenantry",
        "PGPASSFILE": os.devnull,
        "PGSERVICEFILE": os.devnull,
    }
    if params.hostaddr:
        chosen["PGHOSTADDR"] = params.hostaddr
    if ca_file is not None:
        chosen["PGSSLROOTCERT"] = str(ca_file)
    return chosen


def dialling_to(database: str) -> str:
    """The argument for pg_dump and pg_restore that names a database: with what libpq takes from no environment.

    A host that is gone without a word is noticed within half a minute, as in sessions of the operator's own. There is
    no `tcp_user_timeout`: it also counts while a server is there and does not read, as one does that is at slow code.
    """
    return f"--dbname={make_conninfo('', dbname=database, **_KEEPALIVES)}"


async def _installed(path: str) -> list[Tools]:
    found: dict[int, Tools] = {}
    for folder in dict.fromkeys(path.split(os.pathsep)):
        dump, restore = Path(folder) / DUMP, Path(folder) / RESTORE
        if not folder or not (os.access(dump, os.X_OK) and os.access(restore, os.X_OK)):
            continue
        major = await _major(dump)
        if major is not None and await _major(restore) == major:
            found.setdefault(major, Tools(major, dump, restore))
    return [found[major] for major in sorted(found)]


async def _major(program: Path) -> int | None:
    """What it says that it is; None where it says nothing sensible."""
    environment: Mapping[str, str] = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"}
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            "--version",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=environment,
        )
    except OSError:
        return None
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            said, _ = await process.communicate()
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    match = _VERSION.search(said.decode(errors="replace"))
    return int(match[1]) if match else None
