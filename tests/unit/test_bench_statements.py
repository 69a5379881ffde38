"""The replay of SQL in the benchmark: PostgreSQL's log as JSON, taken apart by tenant and session."""

from __future__ import annotations

import orjson
from tests.bench.statements import Statement, Visit, renamed, visits_of
from tests.bench.writes import FLOOR_ID, MANAGEMENT_ID, fresh_hash, tenant_name

ADMIN = "tenantry_admin"
FIRST, SECOND = "abcdefgh", "bcdefghi"


def line(
    session: str,
    message: str,
    *,
    database: str = "tenantry",
    user: str = ADMIN,
    detail: str = "",
    severity: str = "LOG",
) -> bytes:
    return orjson.dumps(
        {
            "user": user,
            "dbname": database,
            "session_id": session,
            "error_severity": severity,
            "message": message,
            **({"detail": detail} if detail else {}),
        }
    )


def test_each_statement_in_the_operators_own_database_goes_to_the_tenant_that_it_names() -> None:
    found = visits_of(
        [
            line("1", f"statement: CREATE ROLE tenantry_{FIRST}_owner"),
            line("1", "execute <unnamed>: SELECT $1, $2", detail=f"Parameters: $1 = 'tenantry_{SECOND}', $2 = NULL"),
            line("1", "statement: SELECT 1"),
            line("2", f"statement: DROP DATABASE tenantry_{FIRST}", user="postgres"),
            line("1", f"database tenantry_{FIRST} is odd", severity="ERROR"),
        ],
        "postgres",
    )
    assert found[FIRST] == [Visit("tenantry", ADMIN, (Statement(f"CREATE ROLE tenantry_{FIRST}_owner"),))]
    assert found[SECOND] == [Visit("tenantry", ADMIN, (Statement("SELECT $1, $2", (f"tenantry_{SECOND}", None)),))]
    assert set(found) == {FIRST, SECOND}


def test_a_transaction_is_one_visit_though_other_sessions_speak_in_between() -> None:
    found = visits_of(
        [
            line("1", "statement: BEGIN"),
            line("2", f"statement: CREATE DATABASE tenantry_{SECOND}"),
            line("1", "statement: SELECT lock()"),
            line("1", "execute _pg3_1: INSERT $1", detail=f"Parameters: $1 = 'tenantry_{FIRST}''s'"),
            line("1", "statement: COMMIT"),
        ],
        "postgres",
    )
    (visit,) = found[FIRST]
    assert [said.text for said in visit.statements] == ["BEGIN", "SELECT lock()", "INSERT $1", "COMMIT"]
    assert visit.statements[2].values == (f"tenantry_{FIRST}'s",)
    assert len(found[SECOND]) == 1


def test_a_session_in_the_tenants_database_is_one_visit_even_if_it_only_logs_in() -> None:
    database, login = f"tenantry_{FIRST}", f"tenantry_{FIRST}_0"
    found = visits_of(
        [
            line("1", f"statement: CREATE DATABASE {database}"),
            line("3", "connection authorized: user=x", database=database),
            line("4", "connection authorized: user=x", database=database, user=login),
            line("3", "statement: ALTER SCHEMA public", database=database),
            line("3", "statement: SELECT 1", database=database),
        ],
        "postgres",
    )
    home, logged_in, inside = found[FIRST]
    assert [said.text for said in inside.statements] == ["ALTER SCHEMA public", "SELECT 1"]
    assert logged_in == Visit(database, login, ())
    assert not inside.at_home
    assert home.at_home


def test_a_renamed_visit_names_nothing_of_the_former_tenant() -> None:
    name = tenant_name(3)
    said = Statement(f"COMMENT '{MANAGEMENT_ID}' {name}-{FIRST}", (f"tenantry_{FIRST}", None))
    (fresh,) = renamed(name, FIRST, [Visit(f"tenantry_{FIRST}", f"tenantry_{FIRST}_0", (said,))])
    other = fresh_hash(FIRST)
    assert fresh == Visit(
        f"tenantry_{other}",
        f"tenantry_{other}_0",
        (Statement(f"COMMENT '{FLOOR_ID}' floor-000003-{other}", (f"tenantry_{other}", None)),),
    )
