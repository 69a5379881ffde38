"""The running operator while its database server stops, hangs, breaks off, turns into another or loses its rights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from tests.controlplane.postgres import PostgresServer
from tests.controlplane.postgres_access import PostgresAccess
from tests.integration.conftest import FreshPostgres
from tests.scene.faulty import LATER, SERVER, SOON, TENANT, FaultyLab, condition, faulty_lab
from tests.scene.installation import secret
from tests.scene.lab import wait_until

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.usefixtures("fresh_control_plane"),  # has the binary built outside the time-out
]

SERVERS = "databaseservers.tenantry.io"
SHARED = {"mode": "Shared"}
ADMIN_SECRET = f"{SERVER}-admin"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyLab]:
    with faulty_lab(tmp_path_factory.mktemp("database-faults")) as opened:
        yield opened


@pytest.fixture
def name(name_prefix: str) -> str:
    """Of a test's tenant."""
    return name_prefix


def wait_server_ready(lab: FaultyLab) -> None:
    lab.wait_condition(SERVERS, SERVER, "Ready", "True")


def as_superuser(access: PostgresAccess, statement: str, *identifiers: str) -> None:
    """Run a statement with `{}` for each identifier."""
    with psycopg.connect(access.superuser_dsn(), autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(*map(sql.Identifier, identifiers)))


def databases(access: PostgresAccess) -> list[str]:
    with psycopg.connect(access.superuser_dsn()) as connection:
        rows = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'tenantry\\_%'").fetchall()
    return sorted(row[0] for row in rows)


def all_of_tenants(access: PostgresAccess) -> tuple[list[str], list[str], list[str]]:
    """Databases, roles and claims."""
    with psycopg.connect(access.superuser_dsn("tenantry")) as connection:
        roles = connection.execute("SELECT rolname FROM pg_roles WHERE rolname LIKE 'tenantry\\_%'").fetchall()
        claims = connection.execute("SELECT database FROM claims").fetchall()
    return databases(access), sorted(row[0] for row in roles), sorted(row[0] for row in claims)


def set_password(access: PostgresAccess, password: str) -> None:
    """Of the operator's admin role."""
    statement = sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(access.admin_user), sql.Literal(password))
    with psycopg.connect(access.superuser_dsn(), autocommit=True) as connection:
        connection.execute(statement)


def set_secret(lab: FaultyLab, username: str, password: str) -> None:
    lab.apply(secret(ADMIN_SECRET, {"username": username, "password": password}))


@contextlib.contextmanager
def a_tenant(lab: FaultyLab, name: str) -> Iterator[str]:
    """A Ready tenant with a database, and its database's name; it and `<name>-late` are deleted afterwards."""
    with lab.operator():
        wait_server_ready(lab)
        lab.apply_tenants(name, database=SHARED)
        lab.wait_ready(name)
        database = str(lab.record_of(name)["spec"]["database"]["name"])
        yield database
        lab.delete_tenants(name, f"{name}-late")
        assert database not in databases(lab.postgres.access)


# --- no answer ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("hangs", [False, True], ids=["stopped", "hanging"])
def test_tenants_say_that_their_server_is_away_and_come_back_by_themselves(
    lab: FaultyLab, name: str, hangs: bool
) -> None:
    server = lab.postgres
    with a_tenant(lab, name) as database:
        binding = lab.target.get("secret", "tenant-database", "-n", lab.namespace_of(name))["data"]
        (server.pause if hangs else server.stop_server)()
        if hangs:
            lab.database_proxy.lead_to(server.access.port)  # cuts the open sessions, which would go on
        try:
            lab.wait_condition(SERVERS, SERVER, "Reachable", "Unknown", "Unreachable")
            told = lab.wait_condition(TENANT, name, "Ready", "Unknown", "ServerNotReady")
            assert SERVER in told["message"]
            assert condition(lab.tenant(name), "NamespaceReady")["status"] == "True"
            lab.apply_tenants(f"{name}-late", database=SHARED)
            lab.wait_condition(TENANT, f"{name}-late", "Ready", "Unknown", "ServerNotReady")
            lab.apply_tenants(f"{name}-without")
            lab.wait_ready(f"{name}-without")
        finally:
            (server.resume if hangs else server.start_server)()
        lab.wait_ready(name, f"{name}-late", seconds=LATER)
        assert database in databases(server.access)
        assert lab.target.get("secret", "tenant-database", "-n", lab.namespace_of(name))["data"] == binding
        lab.delete_tenants(f"{name}-without")


@pytest.mark.parametrize("after", [False, True], ids=["before-it-is-run", "its-answer-lost"])
def test_a_connection_that_breaks_at_any_statement_loses_and_doubles_nothing(
    lab: FaultyLab, name: str, after: bool
) -> None:
    """Each tenant's making, and some tenants' end, is broken some statements later than that of the tenant before."""
    proxy = lab.database_proxy
    with lab.operator():
        wait_server_ready(lab)
        before = all_of_tenants(lab.postgres.access)
        tenants = [f"{name}-{number:02}" for number in range(1, 22, 2 if after else 3)]
        for number, tenant in enumerate(tenants):
            proxy.cut_statement(1 + number * (2 if after else 3), after=after)
            lab.apply_tenants(tenant, database=SHARED)
            lab.wait_ready(tenant, seconds=LATER)
            wait_until(lambda: proxy.has_cut, SOON, "the connection was cut")
        assert len(databases(lab.postgres.access)) == len(before[0]) + len(tenants)
        for number, tenant in enumerate(tenants[:4]):
            proxy.cut_statement(1 + 2 * number, after=after)
            lab.delete_tenants(tenant)
        lab.delete_tenants(*tenants[4:])
        assert all_of_tenants(lab.postgres.access) == before
        wait_server_ready(lab)


# --- another server -----------------------------------------------------------------------------------------------
def test_another_server_at_the_same_address_is_not_touched_until_somebody_accepts_it(
    lab: FaultyLab, name: str, fresh_postgres: FreshPostgres
) -> None:
    stranger: PostgresServer = fresh_postgres()
    set_password(stranger.access, lab.postgres.access.admin_password)
    identifier = system_identifier(stranger.access)
    annotate = ("annotate", "--overwrite", SERVERS, SERVER)
    with a_tenant(lab, name) as database:
        try:
            lab.database_proxy.lead_to(stranger.access.port)
            told = lab.wait_condition(SERVERS, SERVER, "Ready", "False", "IdentityChanged")
            assert f"tenantry.io/accept-identity={identifier}" in told["message"]
            lab.wait_condition(TENANT, name, "Ready", "Unknown", "ServerNotReady")
            lab.apply_tenants(f"{name}-late", database=SHARED)
            lab.wait_condition(TENANT, f"{name}-late", "Ready", "Unknown", "ServerNotReady")
            for wrong in ("yes", system_identifier(lab.postgres.access)):
                lab.management.kubectl(
                    *annotate, f"tenantry.io/accept-identity={wrong}", f"tenantry.io/requestedAt={wrong}"
                )
                wait_until(lambda: _handled(lab, wrong), SOON, "the annotation was seen")  # noqa: B023 - called here
                assert condition(lab.get(SERVERS, SERVER) or {}, "Ready")["reason"] == "IdentityChanged"
            assert databases(stranger.access) == []
            lab.management.kubectl(*annotate, f"tenantry.io/accept-identity={identifier}")
            wait_server_ready(lab)
            # Accepting another server is no consent to an empty database in the place of the tenant's data.
            lab.wait_condition(TENANT, name, "Ready", "False", "DatabaseMissing")
            lab.wait_ready(f"{name}-late", seconds=LATER)
            assert database not in databases(stranger.access)
        finally:
            lab.management.kubectl("annotate", SERVERS, SERVER, "tenantry.io/accept-identity-")
            lab.database_proxy.lead_to(lab.postgres.access.port)
        original = system_identifier(lab.postgres.access)
        lab.wait_condition(SERVERS, SERVER, "Ready", "False", "IdentityChanged")
        lab.management.kubectl(*annotate, f"tenantry.io/accept-identity={original}")
        wait_server_ready(lab)
        lab.wait_ready(name, seconds=LATER)
        assert database in databases(lab.postgres.access)


def system_identifier(access: PostgresAccess) -> str:
    with psycopg.connect(access.superuser_dsn()) as connection:
        row = connection.execute("SELECT system_identifier::text FROM pg_control_system()").fetchone()
    assert row is not None
    return str(row[0])


def _handled(lab: FaultyLab, value: str) -> bool:
    return ((lab.get(SERVERS, SERVER) or {}).get("status") or {}).get("lastHandledReconcileAt") == value


# --- credentials and rights ---------------------------------------------------------------------------------------
def test_an_admin_password_rotated_through_the_secret_is_used_at_once(lab: FaultyLab, name: str) -> None:
    access = lab.postgres.access
    with a_tenant(lab, name):
        try:
            set_password(access, "rotated-and-long-enough")
            set_secret(lab, access.admin_user, "rotated-and-long-enough")
            lab.database_proxy.lead_to(access.port)  # no session of the old password is left
            lab.apply_tenants(f"{name}-late", database=SHARED)
            lab.wait_ready(name, f"{name}-late", seconds=LATER)
            wait_server_ready(lab)
        finally:
            set_password(access, access.admin_password)
            set_secret(lab, access.admin_user, access.admin_password)
        wait_server_ready(lab)


def test_a_wrong_password_is_told_without_it_and_heals_with_the_right_one(lab: FaultyLab, name: str) -> None:
    access = lab.postgres.access
    with a_tenant(lab, name):
        set_secret(lab, access.admin_user, "wr0ng-and-never-shown")
        try:
            told = lab.wait_condition(SERVERS, SERVER, "CredentialsValid", "False", "Unauthorized")
            assert "password authentication failed" in told["message"]
            lab.wait_condition(TENANT, name, "Ready", "Unknown", "ServerNotReady")
            assert "wr0ng-and-never-shown" not in lab.management.kubectl("get", SERVERS, SERVER, "-o", "yaml")
            assert "wr0ng-and-never-shown" not in lab.log.read_text()
        finally:
            set_secret(lab, access.admin_user, access.admin_password)
        wait_server_ready(lab)
        lab.wait_ready(name, seconds=LATER)


def test_a_server_that_lets_everybody_connect_takes_no_tenants_and_says_what_to_run(lab: FaultyLab, name: str) -> None:
    access = lab.postgres.access
    with a_tenant(lab, name):
        as_superuser(access, "GRANT CONNECT ON DATABASE {} TO PUBLIC", "template1")
        try:
            told = lab.wait_condition(SERVERS, SERVER, "Isolated", "False", "PublicCanConnect")
            assert "REVOKE CONNECT ON DATABASE template1 FROM PUBLIC;" in told["message"]
            lab.apply_tenants(f"{name}-late", database=SHARED)
            lab.wait_condition(TENANT, f"{name}-late", "Ready", "Unknown", "ServerNotReady")
        finally:
            as_superuser(access, "REVOKE CONNECT ON DATABASE {} FROM PUBLIC", "template1")
        wait_server_ready(lab)
        lab.wait_ready(name, f"{name}-late", seconds=LATER)


def test_an_admin_without_createdb_is_told_what_it_lacks(lab: FaultyLab, name: str) -> None:
    access = lab.postgres.access
    with a_tenant(lab, name):
        as_superuser(access, "ALTER ROLE {} NOCREATEDB", access.admin_user)
        try:
            told = lab.wait_condition(SERVERS, SERVER, "CredentialsValid", "False", "PermissionsMissing")
            assert "ALTER ROLE" in told["message"]
            assert "CREATEDB" in told["message"]
            assert "CREATEROLE" not in told["message"]
        finally:
            as_superuser(access, "ALTER ROLE {} CREATEDB", access.admin_user)
        wait_server_ready(lab)
        lab.wait_ready(name, seconds=LATER)
