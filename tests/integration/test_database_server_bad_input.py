"""A DatabaseServer with bad input: what exactly it says, that it heals when corrected, and how it is let go of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql
from tests.controlplane.certificates import Authority
from tests.controlplane.postgres_access import PostgresAccess
from tests.controlplane.processes import HeldPort
from tests.integration.registering import Registrar
from tests.integration.tenants import condition
from tests.scene.stage import SERVER_15, SERVER_18

from tenantry.api.names import SERVER_FINALIZER

if TYPE_CHECKING:
    from tests.integration.conftest import FreshPostgres
    from tests.integration.tenants import Workbench

Json = dict[str, Any]

READY = "tenants can have databases here"
NO_TARGET = "which is no address of a target"

REFUSED: dict[str, str] = {
    "169.254.169.254": f"spec.host: 169.254.169.254 is a cloud's metadata service, {NO_TARGET}",
    "169.254.7.7": f"spec.host: 169.254.7.7 is a link-local address, {NO_TARGET}",
    "0.0.0.0": f"spec.host: 0.0.0.0 is the unspecified address, {NO_TARGET}",  # noqa: S104 - refused, not bound
    "224.0.0.251": f"spec.host: 224.0.0.251 is a multicast address, {NO_TARGET}",
    "2130706433": "spec.host: 2130706433 is an IP address in an odd spelling: write it plainly",
}


@pytest.fixture
def registrar(trial: Workbench) -> Iterator[Registrar]:
    with Registrar(trial) as opened:
        yield opened


def admin(access: PostgresAccess, **changes: str) -> dict[str, str]:
    """What is in the Secret of a server's admin."""
    return {"username": access.admin_user, "password": access.admin_password, **changes}


def register(registrar: Registrar, access: PostgresAccess, **spec: Any) -> str:
    registrar.secret("db", admin(access))
    return registrar.server(port=access.port, **spec)


def as_superuser(access: PostgresAccess, *statements: str) -> None:
    """Statements with `{}` for the admin role."""
    with psycopg.connect(access.superuser_dsn(), autocommit=True) as connection:
        for statement in statements:
            text = sql.SQL(statement).format(sql.Identifier(access.admin_user))
            connection.execute(text)


@pytest.mark.parametrize("host", REFUSED)
def test_an_address_that_no_server_has_is_refused(registrar: Registrar, host: str) -> None:
    registrar.secret("db", {"username": "admin", "password": "made-up"})
    name = registrar.server(host=host)
    body = registrar.told("DatabaseServer", name, "False", "AddressRefused", REFUSED[host])
    assert condition(body, "Stalled")["reason"] == condition(body, "Reachable")["reason"] == "AddressRefused"


def test_a_host_that_does_not_resolve_and_a_port_where_nobody_listens_are_waited_for(registrar: Registrar) -> None:
    registrar.secret("db", {"username": "admin", "password": "made-up"})
    name = registrar.server(host="nowhere.invalid")
    message = "the name nowhere.invalid does not resolve"
    body = registrar.told("DatabaseServer", name, "Unknown", "Unreachable", message)
    assert condition(body, "Reconciling")["status"] == "True"
    with HeldPort() as port:
        registrar.server(port=port.number)
        message = f'connection to server at "127.0.0.1", port {port.number} failed: Connection refused'
        registrar.told("DatabaseServer", name, "Unknown", "Unreachable", message)
    access = registrar.bench.stage.postgres_18
    registrar.secret("db", admin(access))
    registrar.server(port=access.port)
    twin = f"this is the server that {SERVER_18!r} stands for already; delete one of the two"
    body = registrar.told("DatabaseServer", name, "False", "DuplicateServer", twin)
    assert condition(body, "Stalled")["reason"] == "DuplicateServer"
    assert condition(registrar.get("DatabaseServer", SERVER_18))["status"] == "True"


def test_a_secret_that_is_missing_or_lacks_keys_is_told_and_found_when_it_is_right(registrar: Registrar) -> None:
    access = registrar.bench.stage.postgres_18
    name = registrar.server(port=access.port)
    missing = f"spec.adminSecretRef: there is no Secret {name!r} in the operator's namespace 'tenantry-system'"
    body = registrar.told("DatabaseServer", name, "Unknown", "SecretNotFound", missing)
    assert not condition(body, "Stalled"), "it heals by itself"
    for values, keys in (
        ({"user": "a"}, "username, password"),
        ({"username": "a", "password": ""}, "password"),
    ):
        registrar.secret("db", values)
        message = f"spec.adminSecretRef: Secret {name!r} has no key {keys}"
        body = registrar.told("DatabaseServer", name, "False", "SecretNotFound", message)
        assert condition(body, "CredentialsValid")["status"] == "False"
    registrar.secret("db", {"username": "a", "password": b"\xff\xfe"})
    message = f"spec.adminSecretRef: Secret {name!r} has a value that is no UTF-8 text"
    registrar.told("DatabaseServer", name, "False", "SecretNotFound", message)
    registrar.secret("db", admin(access))
    twin = f"this is the server that {SERVER_18!r} stands for already; delete one of the two"
    registrar.told("DatabaseServer", name, "False", "DuplicateServer", twin)


def test_a_wrong_password_is_told_without_the_password(registrar: Registrar) -> None:
    access = registrar.bench.stage.postgres_18
    registrar.secret("db", admin(access, password="not-the-password"))
    name = registrar.server(port=access.port)
    message = f'password authentication failed for user "{access.admin_user}"'
    body = registrar.told("DatabaseServer", name, "False", "Unauthorized", message)
    assert condition(body, "CredentialsValid")["status"] == "False"
    assert condition(body, "Reachable")["status"] == "True"
    assert "not-the-password" not in str(body["status"]) + registrar.bench.stage.log.read_text()


def test_a_server_that_lets_everybody_into_its_databases_is_not_ready_until_it_is_shut(
    registrar: Registrar, fresh_postgres: FreshPostgres
) -> None:
    access = fresh_postgres(public_connect=True).access
    name = register(registrar, access)
    message = (
        "every tenant could connect to postgres and template1; run as the owner of these databases: REVOKE CONNECT ON "
        "DATABASE postgres FROM PUBLIC; REVOKE CONNECT ON DATABASE template1 FROM PUBLIC; GRANT CONNECT ON DATABASE "
        f"postgres TO the role of Secret {name!r};"
    )
    body = registrar.told("DatabaseServer", name, "False", "PublicCanConnect", message)
    assert condition(body, "Isolated")["status"] == "False"
    bench = registrar.bench
    bench.apply(bench.tenant(database={"mode": "Shared", "shared": {"server": name}}))
    bench.told("Unknown", "ServerNotReady", f"DatabaseServer {name!r} is not ready: {message}")
    as_superuser(
        access,
        "REVOKE CONNECT ON DATABASE postgres FROM PUBLIC",
        "REVOKE CONNECT ON DATABASE template1 FROM PUBLIC",
        "GRANT CONNECT ON DATABASE postgres TO {}",
    )
    registrar.secret("db", {**admin(access), "changed": "so that it is looked at now"})
    registrar.told("DatabaseServer", name, "True", "Ready", READY)
    bench.ready()
    _deletion_waits_for_the_last_database(registrar, name)


def _deletion_waits_for_the_last_database(registrar: Registrar, name: str) -> None:
    """The server has one database, of Tenant acme."""
    bench = registrar.bench
    registrar.delete("DatabaseServer", name)
    message = "it is let go when the tenants with databases on it (1) are deleted or moved"
    body = registrar.told("DatabaseServer", name, "Unknown", "InUse", message)
    assert body["metadata"]["finalizers"] == [SERVER_FINALIZER]
    where = bench.whereabouts()
    bench.apply(bench.tenant("late", database={"mode": "Shared", "shared": {"server": name}}))
    unknown = f"there is no DatabaseServer {name!r} that this workspace may use"
    bench.told("Unknown", "ServerNotFound", unknown, name="late")
    bench.look_now()
    bench.ready()
    bench.delete()
    bench.gone()
    assert bench.inventory(where) == set()
    registrar.gone("DatabaseServer", name)
    bench.delete("late")
    bench.gone("late")


@pytest.mark.parametrize("right", ["CREATEDB", "CREATEROLE"])
def test_a_right_that_the_admin_role_lacks_is_named_with_the_statement_that_gives_it(
    registrar: Registrar, fresh_postgres: FreshPostgres, right: str
) -> None:
    access = fresh_postgres().access
    name = register(registrar, access)
    registrar.told("DatabaseServer", name, "True", "Ready", READY)
    as_superuser(access, f"ALTER ROLE {{}} NO{right}")
    message = f"the admin role lacks {right}; run as the server's superuser: ALTER ROLE <admin> {right}"
    registrar.secret("db", {**admin(access), "changed": "once"})
    body = registrar.told("DatabaseServer", name, "False", "PermissionsMissing", message)
    assert condition(body, "CredentialsValid")["status"] == "False"
    as_superuser(access, f"ALTER ROLE {{}} {right}")
    registrar.secret("db", {**admin(access), "changed": "twice"})
    registrar.told("DatabaseServer", name, "True", "Ready", READY)


def test_a_role_without_any_right_is_told_what_to_grant(registrar: Registrar, fresh_postgres: FreshPostgres) -> None:
    access = fresh_postgres().access
    as_superuser(access, "CREATE ROLE nobody LOGIN PASSWORD 'made-up'")
    registrar.secret("db", {"username": "nobody", "password": "made-up"})
    name = registrar.server(port=access.port)
    message = (
        'database "tenantry" does not exist; and role "nobody" can\'t make it: permission denied for database '
        '"postgres". As a superuser: ALTER ROLE "nobody" CREATEDB CREATEROLE; GRANT CONNECT ON DATABASE postgres TO '
        '"nobody";'
    )
    registrar.told("DatabaseServer", name, "False", "Unauthorized", message)


def other_ca(access: PostgresAccess) -> str:
    return Authority.new("somebody else's").certificate_pem


def no_ca(access: PostgresAccess) -> str:
    return "not a certificate"


NO_TLS = 'no TLS connection as sslMode demands: connection to server at "127.0.0.1", port {} failed'
TLS: dict[str, tuple[Callable[[PostgresAccess], str], str]] = {
    "of another authority": (other_ca, f"{NO_TLS}: SSL error: certificate verify failed"),
    "that is none": (no_ca, f"{NO_TLS}: could not read the CA certificate: no certificate or crl found"),
}


@pytest.mark.parametrize("case", TLS)
def test_a_ca_that_does_not_vouch_for_the_server_is_told_and_the_right_one_is_taken_at_once(
    registrar: Registrar, case: str
) -> None:
    make, message = TLS[case]
    access = registrar.bench.stage.postgres_15
    registrar.secret("ca", {"ca.crt": make(access)})
    name = register(registrar, access, sslMode="verify-full", caSecretRef={"name": registrar.full("ca")})
    body = registrar.told("DatabaseServer", name, "Unknown", "Unreachable", message.format(access.port))
    assert condition(body, "CredentialsValid")["status"] == "True"
    registrar.secret("ca", {"ca.crt": access.ca_pem or ""})
    twin = f"this is the server that {SERVER_15!r} stands for already; delete one of the two"
    registrar.told("DatabaseServer", name, "False", "DuplicateServer", twin)


def test_a_ca_secret_that_is_missing_or_has_no_ca_is_told(registrar: Registrar) -> None:
    access = registrar.bench.stage.postgres_15
    ca = registrar.full("ca")
    name = register(registrar, access, sslMode="verify-full", caSecretRef={"name": ca})
    missing = f"spec.caSecretRef: there is no Secret {ca!r} in the operator's namespace 'tenantry-system'"
    registrar.told("DatabaseServer", name, "Unknown", "SecretNotFound", missing)
    registrar.secret("ca", {"tls.crt": access.ca_pem or ""})
    empty = f"spec.caSecretRef: Secret {ca!r} has no key ca.crt"
    registrar.told("DatabaseServer", name, "False", "SecretNotFound", empty)


def test_tls_that_only_one_of_the_two_sides_insists_on_is_told_by_both(registrar: Registrar) -> None:
    plain, tls = registrar.bench.stage.postgres_18, registrar.bench.stage.postgres_15
    registrar.secret("ca", {"ca.crt": tls.ca_pem or ""})
    verified: Json = {"sslMode": "verify-full", "caSecretRef": {"name": registrar.full("ca")}}
    name = register(registrar, plain, **verified)
    message = f"{NO_TLS.format(plain.port)}: server does not support SSL, but SSL was required"
    registrar.told("DatabaseServer", name, "Unknown", "Unreachable", message)
    registrar.secret("db", admin(tls))
    registrar.server(port=tls.port, sslMode="disable")
    refused = f'no pg_hba.conf entry for host "127.0.0.1", user "{tls.admin_user}", database "tenantry", no encryption'
    body = registrar.told("DatabaseServer", name, "False", "Unauthorized", refused)
    assert condition(body, "CredentialsValid")["status"] == "False"
