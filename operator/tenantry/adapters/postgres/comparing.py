"""What is in a database, as figures that are equal for equal content: on another server and another version, too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from psycopg import sql

from tenantry.adapters.postgres.connections import Connection
from tenantry.ports.postgres import DatabaseError

SETTINGS: Final = {
    "search_path": "pg_catalog,pg_temp",
    "row_security": "off",
    "statement_timeout": "0",
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "lc_monetary": "C",
    "xmlbinary": "base64",
}
"""What a row's text depends on. With row_security off a policy that would hide rows is an error instead."""

_RELATIONS: Final = """
SELECT n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = %s AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                      AND d.deptype = 'e')
 ORDER BY 1, 2
"""

_ROWS: Final = """
SELECT count(*), coalesce(sum(hashtextextended(textin(record_out(ROW(x.*))) COLLATE "C", 0)::numeric), 0)::text
  FROM ONLY {} x
"""
"""`record_out` and not a cast to text: a tenant may define a cast from its own tables' row types, which would be run.
Hash partitioning is built on this hash, so no version may change it."""

_OBJECTS: Final = "SELECT oid FROM pg_largeobject_metadata ORDER BY oid"
_PIECE: Final = 1024 * 1024
_PIECE_OF_OBJECT: Final = """
SELECT length(piece), hashtextextended(encode(piece, 'hex') COLLATE "C", %(at)s)::text
  FROM lo_get(%(oid)s::oid, %(at)s, %(length)s) piece
"""
_MOST_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class Content:
    """Figures over a database's content.

    Attributes:
        tables: Rows and checksum by schema and name; without those that belong to an extension.
        sequences: Last value and whether it was used, by schema and name.
        large_objects: Pieces with their checksums, by number.
    """

    tables: dict[str, tuple[int, str]]
    sequences: dict[str, tuple[Any, ...]]
    large_objects: dict[int, tuple[tuple[int, str], ...]]


async def read_content(connection: Connection) -> Content:
    """Read all of it, by a session of a role that may; nobody should write meanwhile.

    Raises:
        psycopg.Error: what the server says, such as that a policy hides rows.
    """
    for name, value in SETTINGS.items():
        await connection.execute("SELECT set_config(%s, %s, false)", (name, value))
    tables: dict[str, tuple[int, str]] = {}
    for schema, table in await names_of(connection, "r"):
        row = await _one(connection, sql.SQL(_ROWS).format(sql.Identifier(schema, table)))
        tables[f"{schema}.{table}"] = (row[0], row[1])
    sequences: dict[str, tuple[Any, ...]] = {}
    for schema, sequence in await names_of(connection, "S"):
        query = sql.SQL("SELECT last_value, is_called FROM {}").format(sql.Identifier(schema, sequence))
        sequences[f"{schema}.{sequence}"] = await _one(connection, query)
    cursor = await connection.execute(_OBJECTS)
    objects = {oid: await _object(connection, oid) for (oid,) in await cursor.fetchall()}
    return Content(tables, sequences, objects)


def check_equal(old: Content, new: Content) -> None:
    """That nothing was lost, added or changed.

    Raises:
        DatabaseError: names what differs.
    """
    for what, before, after in (
        ("table", old.tables, new.tables),
        ("sequence", old.sequences, new.sequences),
        ("large object", old.large_objects, new.large_objects),
    ):
        differing = _differing(before, after)
        if differing:
            more = f" and {len(differing) - _MOST_NAMED} more" if len(differing) > _MOST_NAMED else ""
            named = ", ".join(differing[:_MOST_NAMED])
            raise DatabaseError(f"the copy is not equal to what was copied: {what} {named}{more}")


def _differing(before: dict[Any, Any], after: dict[Any, Any]) -> list[str]:
    keys = before.keys() | after.keys()
    return sorted(str(key)[:128] for key in keys if before.get(key) != after.get(key))


async def names_of(connection: Connection, kind: str) -> list[tuple[Any, ...]]:
    """Schema and name of all relations of a kind (as `pg_class.relkind`) that belong to no extension."""
    cursor = await connection.execute(_RELATIONS, (kind,))
    return await cursor.fetchall()


async def _one(connection: Connection, query: sql.Composed) -> tuple[Any, ...]:
    cursor = await connection.execute(query)
    row = await cursor.fetchone()
    assert row is not None  # noqa: S101 - an aggregate, or a sequence, has one row
    return row


async def _object(connection: Connection, oid: int) -> tuple[tuple[int, str], ...]:
    """In pieces: as a whole it may be larger than one value can be."""
    pieces: list[tuple[int, str]] = []
    while True:
        at = len(pieces) * _PIECE
        cursor = await connection.execute(_PIECE_OF_OBJECT, {"oid": oid, "at": at, "length": _PIECE})
        row = await cursor.fetchone()
        if row is None or row[0] is None:
            return tuple(pieces)
        pieces.append((row[0], row[1]))
        if row[0] < _PIECE:
            return tuple(pieces)
