"""Whose a database is and whether it is right, decided over snapshots without a server."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import sql

from tenantry.adapters.postgres import rules, statements
from tenantry.adapters.postgres.snapshot import DatabaseRow, Grant, Membership, RoleRow, Snapshot, parse_claim
from tenantry.ports.postgres import DatabaseClaim, DatabaseError, WantedDatabase

WANTED = WantedDatabase("tenantry_abcdefgh", "mgmt", "abcdefgh", "acme-abcdefgh", connection_limit=20)
STAMP = rules.Stamp.of(WANTED).comment()
FOREIGN = rules.Stamp("other", "abcdefgh").comment()


def right_role(name: str) -> RoleRow:
    login = name != WANTED.owner
    return RoleRow(
        name=name,
        powers=frozenset(),
        inherit=True,
        login=login,
        connection_limit=20 if login else -1,
        comment=STAMP,
        settings=frozenset({f"role={WANTED.owner}", "search_path=public"}) if login else frozenset(),
        usable=True,
        memberships=frozenset()
        if login
        else frozenset(Membership(member, admin=False, settable=True, inherited=True) for member in WANTED.logins),
    )


def right(state: str = "ready", version: int = 180006) -> Snapshot:
    return Snapshot(
        version=version,
        claim=DatabaseClaim(WANTED.database, "mgmt", "abcdefgh", "acme-abcdefgh", state),
        database=DatabaseRow(
            owner="admin",
            ours=True,
            allow_connections=True,
            connection_limit=20 + rules.OPERATOR_CONNECTIONS,
            comment=STAMP,
            grants=rules.wanted_grants(WANTED)
            | {Grant("admin", "CONNECT", grantable=False), Grant("monitoring", "CONNECT", grantable=False)},
            public_schema_handed_over=True,
        ),
        roles={name: right_role(name) for name in (WANTED.owner, *WANTED.logins)},
    )


def with_database(**changes: object) -> Snapshot:
    now = right()
    assert now.database is not None
    return replace(now, database=replace(now.database, **changes))  # type: ignore[arg-type]  # the fields differ in type


def with_role(name: str, **changes: object) -> Snapshot:
    now = right()
    role = replace(now.roles[name], **changes)  # type: ignore[arg-type]  # the fields differ in type
    return replace(now, roles={**now.roles, name: role})


def text(todo: list[sql.Composed]) -> list[str]:
    return [statement.as_string() for statement in todo]


WRONG = [
    with_database(ours=False),
    with_database(owner=WANTED.owner),
    with_database(allow_connections=False),
    with_database(connection_limit=-1),
    with_database(comment=None),
    with_database(grants=rules.wanted_grants(WANTED) | {Grant("", "CONNECT", grantable=False)}),
    with_database(grants=frozenset()),
    with_database(grants=rules.wanted_grants(WANTED) | {Grant(WANTED.owner, "CREATE", grantable=True)}),
    with_database(grants=rules.wanted_grants(WANTED) | {Grant(WANTED.logins[0], "CONNECT", grantable=False)}),
    with_role(WANTED.owner, login=True),
    with_role(WANTED.owner, usable=False),
    with_role(WANTED.owner, memberships=frozenset()),
    with_role(WANTED.owner, powers=frozenset({"CREATEDB"})),
    with_role(WANTED.logins[0], powers=frozenset({"BYPASSRLS"})),
    with_role(WANTED.logins[0], inherit=False),
    with_role(WANTED.logins[1], connection_limit=-1),
    with_role(WANTED.logins[1], settings=frozenset({"search_path=public"})),
    with_role(WANTED.logins[1], comment=None),
    with_role(
        WANTED.owner,
        memberships=frozenset(
            Membership(member, admin=True, settable=True, inherited=True) for member in WANTED.logins
        ),
    ),
    replace(right(), roles={}),
    replace(right(), database=None),
]


def test_what_is_right_needs_no_statement() -> None:
    now = right()
    assert rules.is_right(now, WANTED)
    assert now.database is not None
    assert statements.roles(now, WANTED) == []
    assert statements.database(now.database, now, WANTED) == []


@pytest.mark.parametrize("now", WRONG)
def test_anything_wrong_is_noticed(now: Snapshot) -> None:
    assert not rules.is_right(now, WANTED)


@pytest.mark.parametrize("now", [now for now in WRONG if len(now.roles) == 3 and now.database and now.database.ours])
def test_what_is_noticed_is_also_put_right(now: Snapshot) -> None:
    assert now.database is not None
    todo = text(statements.roles(now, WANTED) + statements.database(now.database, now, WANTED))
    stamp_is_missing = now.database.comment is None
    assert todo or stamp_is_missing


def test_whether_a_login_may_log_in_is_not_a_matter_of_being_right() -> None:
    assert rules.is_right(with_role(WANTED.logins[1], login=False), WANTED)


def test_privileges_that_the_owner_of_the_server_gave_to_others_are_left_alone() -> None:
    now = with_database(grants=rules.wanted_grants(WANTED) | {Grant("dba", "CONNECT", grantable=True)})
    assert now.database is not None
    assert statements.database(now.database, now, WANTED) == []


def test_public_loses_its_privileges_before_the_database_is_opened() -> None:
    public = frozenset(Grant("", privilege, grantable=False) for privilege in ("CONNECT", "TEMPORARY"))
    now = with_database(grants=public, allow_connections=False)
    assert now.database is not None
    todo = text(statements.database(now.database, now, WANTED))
    assert todo[0] == 'REVOKE ALL ON DATABASE "tenantry_abcdefgh" FROM PUBLIC'
    assert todo[-1] == 'ALTER DATABASE "tenantry_abcdefgh" ALLOW_CONNECTIONS true'


def test_a_new_role_is_born_with_its_stamp_and_without_a_way_in() -> None:
    todo = text(statements.roles(replace(right("creating"), roles={}), WANTED))
    for name in (WANTED.owner, *WANTED.logins):
        created = next(i for i, statement in enumerate(todo) if statement.startswith(f'CREATE ROLE "{name}" NOLOGIN '))
        assert todo[created + 1].startswith(f'COMMENT ON ROLE "{name}" IS ')
    assert not any("PASSWORD" in statement for statement in todo)


def test_a_role_that_is_there_keeps_what_nobody_asked_to_change() -> None:
    todo = text(statements.roles(with_role(WANTED.logins[0], powers=frozenset({"CREATEDB"})), WANTED))
    assert todo == [f'ALTER ROLE "{WANTED.logins[0]}" NOCREATEDB']


@pytest.mark.parametrize(("version", "options"), [(150018, ""), (160000, " WITH INHERIT TRUE, SET TRUE")])
def test_memberships_have_options_from_16_on(version: int, options: str) -> None:
    todo = text(statements.roles(replace(right(version=version), roles={}), WANTED))
    assert f'GRANT "{WANTED.owner}" TO CURRENT_USER{options}' in todo
    assert f'GRANT "{WANTED.owner}" TO "{WANTED.logins[0]}"{options}' in todo


def test_the_stamp_of_a_database_names_neither_customer_nor_record() -> None:
    assert "acme" not in STAMP


@given(st.text(), st.text())
def test_a_stamp_survives_its_comment(management_id: str, tenant_hash: str) -> None:
    stamp = rules.Stamp(management_id, tenant_hash)
    assert rules.Stamp.parse(stamp.comment()) == stamp


@given(st.none() | st.text() | st.sampled_from(['{"managedBy":"tenantry"}', '["managedBy"]', "{", "null", "7"]))
def test_no_other_comment_is_taken_for_a_stamp(comment: str | None) -> None:
    assert rules.Stamp.parse(comment) is None


@pytest.mark.parametrize("state", ["creating", "parked", "dropping"])
def test_an_unstamped_database_is_ours_under_a_claim_that_is_under_way(state: str) -> None:
    now = replace(with_database(comment=None), claim=right(state).claim)
    rules.require_own_database(now, WANTED)


@pytest.mark.parametrize(
    ("now", "message"),
    [
        (with_database(comment=None), "without a stamp"),
        (replace(with_database(comment=None), claim=None), "without a stamp"),
        (replace(with_database(comment=FOREIGN), claim=right("creating").claim), "stamp of another"),
        (replace(with_database(comment=None, ours=False), claim=right("dropping").claim), "belongs to another role"),
    ],
)
def test_any_other_database_is_not(now: Snapshot, message: str) -> None:
    with pytest.raises(DatabaseError, match=message):
        rules.require_own_database(now, WANTED)


@pytest.mark.parametrize(
    ("state", "changes", "message"),
    [
        ("ready", {"comment": None}, "without a stamp"),
        ("creating", {"comment": FOREIGN}, "stamp of another"),
        ("creating", {"comment": None, "login": True}, "LOGIN or more"),
        ("creating", {"comment": None, "login": False, "powers": frozenset({"SUPERUSER"})}, "LOGIN or more"),
    ],
)
def test_a_foreign_role_is_refused(state: str, changes: dict[str, object], message: str) -> None:
    now = with_role(WANTED.logins[0], **changes)
    now = replace(now, claim=right(state).claim)
    with pytest.raises(DatabaseError, match=message):
        rules.require_own_role(now, WANTED, now.roles[WANTED.logins[0]])


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        (None, "is not$"),
        (DatabaseClaim(WANTED.database, "mgmt", "abcdefgh", "r", "dropping"), "in state dropping"),
        (DatabaseClaim(WANTED.database, "other", "abcdefgh", "r", "ready"), "somebody else's"),
        (DatabaseClaim(WANTED.database, "mgmt", "zzzzzzzz", "r", "ready"), "somebody else's"),
    ],
)
def test_nothing_is_touched_without_the_claim(claim: DatabaseClaim | None, message: str) -> None:
    with pytest.raises(DatabaseError, match=message):
        rules.require_claim(replace(right(), claim=claim), WANTED, "creating", "ready")


def test_a_privilege_is_taken_back_with_what_was_passed_on() -> None:
    assert statements.revoke_all("d", "r").as_string() == 'REVOKE ALL ON DATABASE "d" FROM "r" CASCADE'
    assert statements.revoke_all("d", "").as_string() == 'REVOKE ALL ON DATABASE "d" FROM PUBLIC'


def test_only_roles_with_the_tenants_stamp_are_its_own() -> None:
    assert set(rules.own_roles(right(), WANTED)) == {WANTED.owner, *WANTED.logins}
    for comment in (None, FOREIGN):
        assert WANTED.logins[0] not in rules.own_roles(with_role(WANTED.logins[0], comment=comment), WANTED)


@given(st.none() | st.datetimes(timezones=st.just(UTC)))
def test_the_time_of_a_claim_is_read_as_utc(due: datetime | None) -> None:
    row = {"database": "d", "management_id": "m", "tenant_hash": "h", "record": "r", "state": "parked"}
    said = due.replace(tzinfo=None).isoformat() if due else None
    assert parse_claim(row | {"purge_after": said}) == DatabaseClaim("d", "m", "h", "r", "parked", due)


@given(st.text(min_size=1))
def test_a_name_that_the_server_would_cut_is_refused(name: str) -> None:
    wanted = replace(WANTED, database=name)
    if len(wanted.owner.encode()) <= 63 and "\0" not in name:
        rules.check_names(wanted)
    else:
        with pytest.raises(DatabaseError, match="can't be the name"):
            rules.check_names(wanted)


@given(st.integers(min_value=-1, max_value=10_000))
def test_a_tenant_that_uses_all_its_connections_leaves_some_to_the_operator(limit: int) -> None:
    wanted = replace(WANTED, connection_limit=limit)
    database, login = rules.limit_of_database(wanted), rules.limit_of_role(wanted, wanted.logins[0])
    assert (database, login) == ((-1, -1) if limit == -1 else (limit + rules.OPERATOR_CONNECTIONS, limit))


def test_text_is_ordered_by_code_points_on_every_version() -> None:
    for version in (150018, 160000, 170000, 180006):
        created = statements.create_database(version, "d", connection_limit=7).as_string()
        assert "LC_COLLATE 'C' LC_CTYPE 'C.UTF-8'" in created
        assert ("LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'" in created) is (version >= 170000)
        assert "ALLOW_CONNECTIONS false CONNECTION LIMIT 7" in created


def test_names_are_quoted_whatever_they_hold() -> None:
    nasty = 'a"; DROP DATABASE postgres; --'
    assert statements.drop_database(nasty).as_string() == ('DROP DATABASE IF EXISTS "a""; DROP DATABASE postgres; --"')
