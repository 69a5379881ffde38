"""What a tenant's application is given: its environment, and a database that works with what the Secret says."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.integration.acting import manifest
from tests.integration.tenants import wait_for
from tests.scene.stage import SERVER_15, SERVER_18

from tenantry.api.resources import SECRETS, SERVICE_ACCOUNTS

if TYPE_CHECKING:
    from tests.controlplane.postgres_access import PostgresAccess
    from tests.integration.tenants import Whereabouts, Workbench

QUESTION = "SELECT current_user, current_database()"
BINDING_KEYS = {"type", "provider", "host", "port", "database", "username", "password", "uri"}
OTHER_KEYS = {"dbname", "user", "jdbc-uri", "pgpass", "sslmode"}


def on(server: str) -> dict[str, object]:
    return {"mode": "Shared", "shared": {"server": server}}


def psql(server: PostgresAccess, *arguments: str, query: str = QUESTION, **environment: str) -> str:
    """What psql prints, or its error; it knows nothing but its arguments and what the environment says."""
    done = subprocess.run(
        [server.bin / "psql", "-XAtw", *arguments, "-c", query],
        env={"PATH": os.defpath, "HOME": "/nonexistent", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    return (done.stdout or done.stderr).strip()


def private_file(path: Path, text: str) -> str:
    path.touch(mode=0o600)
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", [SERVER_18, SERVER_15])
def test_psql_gets_in_with_the_uri_as_it_is_and_with_the_pgpass_line(
    workbench: Workbench, name: str, tmp_path: Path
) -> None:
    server = workbench.stage.postgres_18 if name == SERVER_18 else workbench.stage.postgres_15
    where = workbench.whereabouts()
    workbench.make(database=on(name))
    secret = workbench.secret(where, "tenant-database")
    authority = {}
    if server.ca_pem:
        assert secret["ca.crt"] == server.ca_pem
        authority = {"PGSSLROOTCERT": private_file(tmp_path / "ca.crt", secret["ca.crt"])}
    expected = f"{where.database}_owner|{where.database}"
    assert psql(server, secret["uri"], **authority) == expected
    parts = {"host": secret["host"], "port": secret["port"], "dbname": secret["dbname"], "user": secret["user"]}
    dsn = " ".join(f"{key}={value}" for key, value in {**parts, "sslmode": secret["sslmode"]}.items())
    passwords = private_file(tmp_path / "pgpass", secret["pgpass"])
    assert psql(server, dsn, PGPASSFILE=passwords, **authority) == expected
    made = psql(server, secret["uri"], query="CREATE TABLE t (a citext); SELECT 1", **authority)
    assert 'type "citext" does not exist' in made, "only extensions that were asked for are there"


def test_the_server_on_15_is_not_trusted_without_its_authority(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.make(database=on(SERVER_15))
    secret = workbench.secret(where, "tenant-database")
    assert secret["sslmode"] == "verify-full"
    assert "root certificate" in psql(workbench.stage.postgres_15, secret["uri"])


def test_the_database_secret_is_a_service_binding(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    tenant = workbench.make(database=on(SERVER_18))
    body = workbench.on_target(SECRETS, where.namespace, tenant["status"]["binding"]["name"])
    assert body["type"] == "servicebinding.io/postgresql"
    secret = workbench.secret(where, "tenant-database")
    assert secret.keys() == BINDING_KEYS | OTHER_KEYS
    server = workbench.stage.postgres_18
    assert (secret["type"], secret["provider"]) == ("postgresql", "tenantry")
    assert (secret["host"], secret["port"], secret["sslmode"]) == (server.host, str(server.port), "disable")
    assert secret["database"] == secret["dbname"] == where.database
    assert secret["username"] == secret["user"] == f"{where.database}_0"


def test_extensions_that_were_asked_for_are_there_also_when_asked_for_later(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.make(database=on(SERVER_18))
    workbench.make(database={**on(SERVER_18), "extensions": ["citext"], "maxConnections": 3})
    uri = workbench.secret(where, "tenant-database")["uri"]
    assert psql(workbench.stage.postgres_18, uri, query="SELECT 'A'::citext = 'a'") == "t"
    limit = workbench.ask("SELECT rolconnlimit FROM pg_roles WHERE rolname = %s", f"{where.database}_0")
    assert limit == [(3,)]


def test_no_password_is_in_the_log_in_the_status_or_in_an_event(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.env_secret("more", {"API_KEY": f"key-of-{workbench.prefix}"})
    tenant = workbench.make(database=on(SERVER_18), envFrom=[{"secretRef": {"name": "more"}}])
    password = workbench.secret(where, "tenant-database")["password"]
    assert len(password) >= 24
    said = workbench.stage.log.read_text() + str(tenant["status"]) + str(workbench.record(where))
    said += workbench.kubectl("get", "events", "-o", "json") + str(workbench.secret(where, "tenant-env").keys())
    assert where.identity.record in said, "the right things were looked at"
    assert password not in said
    assert f"key-of-{workbench.prefix}" not in said


def test_env_is_the_plans_then_the_secrets_in_order_then_the_specs_and_limits_above_all(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.env_secret("first", {"LOG_LEVEL": "debug", "COLOR": "red", "SIZE": "1", "UMLAUT": "ä=b\nc"})
    workbench.env_secret("second", {"COLOR": "green", "SIZE": "2"})
    workbench.make(
        env={"SIZE": "3", "EMPTY": ""},
        envFrom=[{"secretRef": {"name": "first"}}, {"secretRef": {"name": "second"}}],
        limits={"MAX_USERS": "7"},
    )
    assert workbench.secret(where, "tenant-env") == {
        "TIER": "basic",  # of the plan alone
        "LOG_LEVEL": "debug",  # the plan's, from the first Secret
        "COLOR": "green",  # the plan's and the first Secret's, from the second
        "SIZE": "3",  # both Secrets', from the spec
        "EMPTY": "",
        "UMLAUT": "ä=b\nc",
        "MAX_USERS": "7",  # the plan's limit, from the spec
        "MAX_PROJECTS": "5",
    }


def test_a_secret_that_somebody_deleted_is_made_again_when_it_is_looked_at(workbench: Workbench) -> None:
    """No watch sees Secrets on a target: a change is found at resync, or when somebody asks."""
    where = workbench.whereabouts()
    workbench.make(database=on(SERVER_18), env={"A": "1"})
    before = workbench.secret(where, "tenant-database")
    for name in ("tenant-database", "tenant-env"):
        workbench.stage.target.kubectl("-n", where.namespace, "delete", "secret", name)
    workbench.look_now()
    after = wait_for(lambda: workbench.secret(where, "tenant-database"), "the Secret is there again")
    workbench.ready()
    assert after["password"] != before["password"], "the former one is nowhere to be had"
    for uri in (after["uri"], before["uri"]):  # who read the former one has its grace period, as after a rotation
        wait_for(
            lambda uri=uri: psql(workbench.stage.postgres_18, uri).startswith(f"{where.database}_owner|"),  # type: ignore[misc]  # mypy can't type a default of a lambda
            "its password is the login's: the Secret is written first",
            5,
        )
    assert workbench.secret(where, "tenant-env")["A"] == "1"


def test_a_password_that_somebody_set_on_the_server_is_put_back_to_the_secrets(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.make(database=on(SERVER_18))
    uri = workbench.secret(where, "tenant-database")["uri"]
    workbench.ask(f"ALTER ROLE {where.database}_0 PASSWORD 'another'")
    assert "password authentication failed" in psql(workbench.stage.postgres_18, uri)
    workbench.look_now()
    wait_for(lambda: "|" in psql(workbench.stage.postgres_18, uri), "the login works again")


def test_what_the_tenant_itself_put_into_its_namespace_is_left_alone(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.make()
    for body in (
        manifest(SECRETS, "own", where.namespace, stringData={"a": "b"}),
        manifest(SERVICE_ACCOUNTS, "own", where.namespace),
        manifest(SECRETS, "copy", where.namespace, labels={"app.kubernetes.io/managed-by": "tenantry"}),
    ):
        resource = SECRETS if body["kind"] == "Secret" else SERVICE_ACCOUNTS
        assert workbench.target.create(resource, body, dry=False).status == 201
    workbench.make(rbac={"enabled": False}, ingress={"enabled": False}, env={"A": "2"})
    assert workbench.on_target(SECRETS, where.namespace, "own")
    assert workbench.on_target(SECRETS, where.namespace, "copy")
    assert workbench.on_target(SERVICE_ACCOUNTS, where.namespace, "own")


def owner_of(workbench: Workbench, where: Whereabouts) -> str:
    rows = workbench.ask("SELECT pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = %s", where.database)
    return str(rows[0][0])


def test_the_tenant_does_not_own_its_database_and_the_name_reveals_nobody(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.make(database=on(SERVER_18))
    assert owner_of(workbench, where) == workbench.stage.postgres_18.admin_user
    assert where.database == f"tenantry_{where.hash}"
    uri = workbench.secret(where, "tenant-database")["uri"]
    answer = psql(workbench.stage.postgres_18, uri, query=f"DROP DATABASE {where.database}")
    assert f"must be owner of database {where.database}" in answer or "cannot drop the currently open" in answer
