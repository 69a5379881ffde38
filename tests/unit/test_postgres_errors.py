"""What the driver and the server say, as the port's errors: the right class, and nothing that must stay inside."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from tenantry.adapters.postgres import Limits, ServerParams, errors, public_connect_fix
from tenantry.adapters.postgres.params import Dialling
from tenantry.ports.postgres import DatabaseCredentialsError, DatabaseError, DatabaseUnreachableError, ServerFacts

AT = 'connection failed: connection to server at "10.0.0.1", port 5432 failed: '


@pytest.mark.parametrize(
    ("said", "kind", "sqlstate"),
    [
        (AT + 'FATAL:  password authentication failed for user "a"', DatabaseCredentialsError, "28P01"),
        (AT + 'FATAL:  role "a" is not permitted to log in', DatabaseCredentialsError, "28000"),
        (AT + 'FATAL:  no pg_hba.conf entry for host "1.2.3.4"', DatabaseCredentialsError, "28000"),
        (AT + 'authentication method requirement "md5" failed: server requested SASL', DatabaseCredentialsError, ""),
        (AT + 'FATAL:  database "x" does not exist', DatabaseError, "3D000"),
        (AT + 'FATAL:  database "x" is not currently accepting connections', DatabaseError, "55000"),
        (AT + 'FATAL:  permission denied for database "x"\nDETAIL:  User ...', DatabaseError, "42501"),
        (AT + 'FATAL:  too many connections for role "a"', DatabaseError, "53300"),
        (AT + "FATAL:  sorry, too many clients already", DatabaseUnreachableError, "53300"),
        (AT + "FATAL:  the database system is starting up", DatabaseUnreachableError, "57P03"),
        (AT + "Connection refused\n\tIs the server running?", DatabaseUnreachableError, ""),
        (AT + "SSL error: certificate verify failed", DatabaseUnreachableError, ""),
        ("connection timeout expired", DatabaseUnreachableError, ""),
    ],
)
def test_a_refused_connection_is_told_apart_by_what_the_server_said(
    said: str, kind: type[DatabaseError], sqlstate: str
) -> None:
    error = errors.of_connect(psycopg.OperationalError(said))
    assert type(error) is kind
    assert error.sqlstate == sqlstate
    assert "\n" not in error.message


def test_a_failed_verification_is_called_one_of_tls() -> None:
    error = errors.of_connect(psycopg.OperationalError(AT + "SSL error: certificate verify failed"))
    assert error.message.startswith("no TLS connection as sslMode demands: ")


def test_the_path_of_the_ca_file_stays_inside() -> None:
    said = AT + 'could not read root certificate file "/var/tmp/secret-place.pem": no certificate or crl found'
    assert "secret-place" not in errors.of_connect(psycopg.OperationalError(said)).message


def test_a_time_out_inside_is_a_server_out_of_reach() -> None:
    with pytest.raises(DatabaseUnreachableError, match="in time"), errors.statements():
        raise TimeoutError


def test_what_the_driver_says_about_values_is_not_passed_on() -> None:
    with pytest.raises(DatabaseError) as caught, errors.statements():
        raise psycopg.DataError("can't dump 'hunter2'")
    assert "hunter2" not in caught.value.message
    assert caught.value.__cause__ is None


def test_the_parameters_show_no_password() -> None:
    assert "hunter2" not in repr(ServerParams("h", 5432, "admin", "hunter2"))


def test_the_ca_is_in_a_file_of_our_own_until_closed() -> None:
    dialling = Dialling(ServerParams("h", 5432, "admin", "p", ca_pem="PEM"), Limits())
    path = Path(str(conninfo_to_dict(dialling.as_admin("d"))["sslrootcert"]))
    assert path.read_text() == "PEM"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_uid == os.getuid()
    dialling.close()
    assert not path.exists()


def test_verification_without_a_ca_is_refused_at_once() -> None:
    with pytest.raises(DatabaseError, match="caSecretRef"):
        Dialling(ServerParams("h", 5432, "admin", "p", ssl_mode="verify-full"), Limits())


def test_the_address_once_resolved_is_the_one_dialled() -> None:
    dialling = Dialling(ServerParams("db.example", 5432, "admin", "p", "require", hostaddr="192.0.2.7"), Limits())
    options = conninfo_to_dict(dialling.as_admin("d"))
    assert (options["host"], options["hostaddr"]) == ("db.example", "192.0.2.7")


def test_hostile_values_stay_values_in_the_connection_string() -> None:
    dialling = Dialling(ServerParams("h", 5432, "a' host=evil", "p\\' sslmode=disable", "require"), Limits())
    options = conninfo_to_dict(dialling.as_admin("d b' options='-c x=y"))
    assert options["user"] == "a' host=evil"
    assert options["password"] == "p\\' sslmode=disable"
    assert options["dbname"] == "d b' options='-c x=y"
    assert (options["host"], options["sslmode"]) == ("h", "require")


def facts(*public_connect: str) -> ServerFacts:
    return ServerFacts("1", 180006, public_connect, (), 0, frozenset())


def test_the_fix_for_public_connect_is_sql_to_copy() -> None:
    assert public_connect_fix(facts("postgres", "template1"), 'ad"min') == (
        'REVOKE CONNECT ON DATABASE "postgres" FROM PUBLIC; REVOKE CONNECT ON DATABASE "template1" FROM PUBLIC; '
        'GRANT CONNECT ON DATABASE "postgres" TO "ad""min";'
    )


def test_there_is_nothing_to_fix_where_public_may_not_connect() -> None:
    assert public_connect_fix(facts(), "admin") == ""
