"""A database that is somebody else's: handed on as its Secret says, never dialled, never touched, never overstated."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from tests.integration.acting import manifest
from tests.integration.tenants import NO_DATABASE, condition, wait_for
from tests.scene.zone import SILENT, publish

from tenantry.api.names import (
    ANNOTATION_DATABASE_SECRET,
    ANNOTATION_ROTATE_CREDENTIALS,
    LABEL_DATABASE_SECRET,
    LABEL_ENV_SECRET,
)
from tenantry.api.resources import NAMESPACES, NETWORK_POLICIES, SECRETS

if TYPE_CHECKING:
    from tests.controlplane.postgres_access import PostgresAccess
    from tests.integration.tenants import Whereabouts, Workbench

Json = dict[str, Any]

NAME = "customer-db"
EXTERNAL = {"mode": "External", "external": {"secretRef": {"name": NAME}}}
MODES = ["Shared", "External", "None"]
NOT_THERE = (
    f"spec.database.external.secretRef: this workspace has no Secret {NAME!r} with the label "
    'tenantry.io/database: "true"'
)
UNTRIED = "; nobody has tried to log in to its External database"


@dataclass(frozen=True, slots=True)
class Foreign:
    """A database on a server that the operator knows nothing of, with a login to it."""

    server: PostgresAccess
    name: str
    password: str = field(repr=False)

    def values(self, **changes: str | None) -> dict[str, str]:
        """What its owner writes into the Secret."""
        tls = {"sslmode": "verify-full", "ca.crt": self.server.ca_pem} if self.server.ca_pem else {"sslmode": "disable"}
        usual: dict[str, str | None] = {
            "host": self.server.host,
            "port": str(self.server.port),
            "dbname": self.name,
            "username": self.name,
            "password": self.password,
            **tls,
        }
        return {key: value for key, value in (usual | changes).items() if value is not None}

    def new_password(self) -> Foreign:
        """The same with another password, on the server too."""
        changed = Foreign(self.server, self.name, secrets.token_hex(8))
        with psycopg.connect(self.server.superuser_dsn(), autocommit=True) as session:
            session.execute(
                sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(self.name), sql.Literal(changed.password))
            )
        return changed


@pytest.fixture
def foreign(postgres_tls: PostgresAccess, name_prefix: str) -> Iterator[Foreign]:
    made = Foreign(postgres_tls, f"{name_prefix}_own", secrets.token_hex(8))
    name = sql.Identifier(made.name)
    with psycopg.connect(postgres_tls.superuser_dsn(), autocommit=True) as session:
        session.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(name, sql.Literal(made.password)))
        session.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(name, name))
        try:
            yield made
        finally:
            session.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))
            session.execute(sql.SQL("DROP ROLE {}").format(name))


@pytest.fixture
def plan(workbench: Workbench) -> str:
    return workbench.platform("TenantPlan", "own", allowedModes=MODES, deletion={"maxWindow": "24h"})


def put(workbench: Workbench, values: dict[str, str], *, labelled: bool = True) -> None:
    """Write the workspace's Secret anew, as its admin would."""
    workbench.kubectl("delete", "secret", NAME, "--ignore-not-found")
    labels = {LABEL_DATABASE_SECRET: "true"} if labelled else {}
    workbench.apply(manifest(SECRETS, NAME, workbench.workspace, labels=labels, stringData=values))


def handed_on(workbench: Workbench, where: Whereabouts) -> dict[str, str]:
    return workbench.secret(where, "tenant-database")


def connect(secret: dict[str, str], foreign: Foreign) -> psycopg.Connection[tuple[Any, ...]]:
    """As the tenant's application does, with its Secret and the CA in it."""
    target = make_conninfo(secret["uri"], sslrootcert=str(foreign.server.ca_path))
    return psycopg.connect(target, autocommit=True, connect_timeout=5)


def egress(workbench: Workbench, where: Whereabouts) -> Json:
    """Where the tenant is let out to for its database: CIDRs and port; empty without the policy."""
    policy = workbench.on_target(NETWORK_POLICIES, where.namespace, "tenant-database")
    if not policy:
        return {}
    (rule,) = policy["spec"]["egress"]
    return {"to": [peer["ipBlock"]["cidr"] for peer in rule["to"]], "port": rule["ports"][0]["port"]}


def refused(workbench: Workbench, reason: str, part: str, status: str = "False") -> None:
    """Wait until DatabaseReady says this."""

    def says(body: Json) -> bool:
        told = condition(body, "DatabaseReady")
        return (told.get("status"), told.get("reason")) == (status, reason) and part in told["message"]

    workbench.when(says, f"it is told that {part}")


def test_a_tenant_logs_in_with_what_its_workspace_supplied_and_no_more_is_claimed_than_is_known(
    workbench: Workbench, foreign: Foreign, plan: str
) -> None:
    where = workbench.whereabouts()
    put(workbench, foreign.values())
    tenant = workbench.make(plan=plan, database=EXTERNAL)
    with connect(handed_on(workbench, where), foreign) as session:
        session.execute("CREATE TABLE kept (word text)")
    told = condition(tenant, "DatabaseReady")
    assert (told["status"], told["reason"]) == ("True", "NotVerified")
    assert "nobody has tried to log in" in told["message"]
    assert condition(tenant)["message"].endswith(UNTRIED)
    assert tenant["status"]["binding"] == {"name": "tenant-database"}
    assert workbench.record(where)["spec"]["database"]["mode"] == "External"
    assert egress(workbench, where) == {"to": [f"{foreign.server.host}/32"], "port": foreign.server.port}
    given = handed_on(workbench, where)
    assert given["ca.crt"].split() == (foreign.server.ca_pem or "").split()
    assert (given["username"], given["dbname"], given["type"]) == (foreign.name, foreign.name, "postgresql")
    metadata = workbench.on_target(SECRETS, where.namespace, "tenant-database")["metadata"]
    assert metadata["annotations"][ANNOTATION_DATABASE_SECRET] == NAME
    assert foreign.password not in workbench.stage.log.read_text()


def test_nobody_connects_to_the_address_that_a_workspace_chose(workbench: Workbench, plan: str) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        listener.setblocking(False)
        port = str(listener.getsockname()[1])
        put(workbench, {"host": "127.0.0.1", "port": port, "user": "a", "password": "b", "database": "c"})
        workbench.make(plan=plan, database=EXTERNAL)
        seen = workbench.look_now()
        workbench.when(lambda body: body["status"].get("lastHandledReconcileAt") == seen, "it was looked at again")
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_a_changed_secret_reaches_the_tenant_at_once_and_nothing_is_written_without_a_change(
    workbench: Workbench, foreign: Foreign, plan: str
) -> None:
    where = workbench.whereabouts()
    put(workbench, foreign.values())
    workbench.make(plan=plan, database=EXTERNAL)
    before = workbench.on_target(SECRETS, where.namespace, "tenant-database")["metadata"]["resourceVersion"]
    seen = workbench.look_now()
    workbench.when(lambda body: body["status"].get("lastHandledReconcileAt") == seen, "it was looked at again")
    after = workbench.on_target(SECRETS, where.namespace, "tenant-database")["metadata"]["resourceVersion"]
    assert after == before
    changed = foreign.new_password()
    workbench.kubectl("patch", "secret", NAME, "-p", f'{{"stringData": {{"password": "{changed.password}"}}}}')
    wait_for(lambda: handed_on(workbench, where)["password"] == changed.password, "the new password is there", 5)
    connect(handed_on(workbench, where), foreign).close()


def test_a_secret_that_goes_or_is_not_labelled_is_missed_and_the_tenant_keeps_what_it_has(
    workbench: Workbench, foreign: Foreign, plan: str
) -> None:
    where = workbench.whereabouts()
    put(workbench, foreign.values(), labelled=False)
    workbench.apply(workbench.tenant(plan=plan, database=EXTERNAL))
    workbench.told("Unknown", "SecretNotFound", NOT_THERE)
    assert handed_on(workbench, where) == {}
    workbench.kubectl("label", "secret", NAME, f"{LABEL_DATABASE_SECRET}=true")
    workbench.ready()
    given, opened = handed_on(workbench, where), egress(workbench, where)
    workbench.kubectl("delete", "secret", NAME)
    workbench.told("Unknown", "SecretNotFound", NOT_THERE)
    assert (handed_on(workbench, where), egress(workbench, where)) == (given, opened)
    put(workbench, foreign.values(username=None, user=foreign.name))
    workbench.ready()
    assert handed_on(workbench, where) == given


def test_one_label_does_for_one_purpose_only(workbench: Workbench, plan: str) -> None:
    workbench.env_secret(NAME, {"host": "db.example.com"})
    workbench.apply(workbench.tenant(plan=plan, database=EXTERNAL))
    workbench.told("Unknown", "SecretNotFound", NOT_THERE)
    put(workbench, {"LOG_LEVEL": "debug"})
    workbench.apply(workbench.tenant("other", plan=plan, envFrom=[{"secretRef": {"name": NAME}}]))
    workbench.told("Unknown", "SecretNotFound", None, name="other")
    workbench.kubectl("label", "secret", NAME, f"{LABEL_ENV_SECRET}=true")
    workbench.ready("other")
    workbench.kubectl("label", "secret", NAME, f"{LABEL_DATABASE_SECRET}-")
    refused(workbench, "SecretNotFound", "this workspace has no Secret", "Unknown")


def test_a_secret_that_makes_no_sense_is_refused_by_key_and_never_by_value(
    workbench: Workbench, foreign: Foreign, plan: str
) -> None:
    where = workbench.whereabouts()
    put(workbench, foreign.values())
    workbench.make(plan=plan, database=EXTERNAL)
    before = handed_on(workbench, where)
    marker = f"marker{secrets.token_hex(4)}"
    bad: dict[str, dict[str, str | None]] = {
        "'uri' of Secret": {"uri": f"postgresql://u:{marker}@evil.example/db"},
        "'host' of Secret": {"host": f"{marker}.example.com,evil.example"},
        "'port' of Secret": {"port": f"5432,{marker}"},
        "'dbname' of Secret": {"dbname": f"host={marker}"},
        "'username' of Secret": {"username": f"a b {marker}"},
        "'password' of Secret": {"password": f"{marker}\n"},
        "'sslmode' of Secret": {"sslmode": "prefer"},
        "'ca.crt' of Secret": {"ca.crt": f"/etc/{marker}"},
    }
    for key, changes in bad.items():
        put(workbench, foreign.values(**changes))
        refused(workbench, "DatabaseSecretInvalid", f"key {key} '{NAME}'")
        assert handed_on(workbench, where) == before
    assert condition(workbench.get(), "Stalled")["reason"] == "DatabaseSecretInvalid"
    assert marker not in str(workbench.get())
    assert marker not in str(workbench.events("acme", "DatabaseSecretInvalid"))
    assert marker not in workbench.stage.log.read_text()
    put(workbench, foreign.values())
    workbench.ready()


@pytest.mark.parametrize("host", ["169.254.169.254", "fd00:ec2::254", "0.0.0.1", "fe80::1", "224.0.0.1"])
def test_an_address_of_the_machines_own_or_a_clouds_is_not_opened(workbench: Workbench, plan: str, host: str) -> None:
    where = workbench.whereabouts()
    put(workbench, {"host": host, "user": "a", "password": "b", "database": "c"})
    workbench.apply(workbench.tenant(plan=plan, database=EXTERNAL))
    refused(workbench, "AddressRefused", "leads to an address that no tenant is let out to (Address")
    assert host not in condition(workbench.get())["message"]
    assert (egress(workbench, where), handed_on(workbench, where)) == ({}, {})


def test_a_name_is_followed_to_where_it_leads_but_not_into_the_dark(workbench: Workbench, plan: str) -> None:
    where, zone = workbench.whereabouts(), workbench.stage.zone
    name = f"{workbench.prefix}.db.example"
    publish(zone, name, "192.0.2.9", "192.0.2.8", "2001:db8::8", "no address")
    put(workbench, {"host": name, "user": "a", "password": "b", "database": "c"})
    workbench.make(plan=plan, database=EXTERNAL)
    first = {"to": ["192.0.2.8/32", "192.0.2.9/32", "2001:db8::8/128"], "port": 5432}
    assert egress(workbench, where) == first
    assert handed_on(workbench, where)["host"] == name
    publish(zone, name, "192.0.2.10")
    workbench.look_now()
    wait_for(lambda: egress(workbench, where).get("to") == ["192.0.2.10/32"], "the policy follows the name")
    second = egress(workbench, where)
    for answers, reason, status in (
        (["192.0.2.10", "169.254.169.254"], "AddressRefused", "False"),
        ([], "HostNotResolved", "Unknown"),
        ([f"192.0.2.{last}" for last in range(17)], "AddressRefused", "False"),
    ):
        publish(zone, name, *answers)
        workbench.look_now()
        refused(workbench, reason, "key 'host' of Secret", status)
        assert egress(workbench, where) == second
        assert name not in condition(workbench.get())["message"]
    publish(zone, name, "192.0.2.10")
    workbench.look_now()
    workbench.ready()


def test_a_name_whose_dns_never_answers_is_given_up_on(workbench: Workbench, plan: str) -> None:
    name = f"{workbench.prefix}.{SILENT}"
    put(workbench, {"host": name, "user": "a", "password": "b", "database": "c"})
    workbench.apply(workbench.tenant(plan=plan, database=EXTERNAL))
    refused(workbench, "HostNotResolved", "key 'host' of Secret", "Unknown")


def test_from_none_to_external_and_back_nothing_is_left_and_a_database_of_ours_can_follow(
    workbench: Workbench, foreign: Foreign, plan: str
) -> None:
    where = workbench.whereabouts()
    put(workbench, foreign.values())
    workbench.make(plan=plan, database=NO_DATABASE)
    workbench.make(plan=plan, database=EXTERNAL)
    connect(handed_on(workbench, where), foreign).close()
    workbench.apply(workbench.tenant(plan=plan, database={"mode": "Shared"}))
    workbench.told(
        "False",
        "MoveNotSupported",
        "spec.database.mode: Shared is not External, in which this tenant's data is, and moving a database is not "
        "supported yet; set it back; to begin with an empty database of ours, set mode: None first, which lets go of "
        "the External one",
    )
    connect(handed_on(workbench, where), foreign).close()
    tenant = workbench.make(plan=plan, database=NO_DATABASE)
    assert "binding" not in tenant["status"]
    assert (handed_on(workbench, where), egress(workbench, where)) == ({}, {})
    with psycopg.connect(foreign.server.dsn(foreign.name, foreign.password, foreign.name)) as session:
        session.execute("SELECT 1")
    workbench.make(plan=plan, database={"mode": "Shared"})
    given = handed_on(workbench, where)
    assert given["dbname"] == where.database
    psycopg.connect(given["uri"], connect_timeout=5).close()
    workbench.apply(workbench.tenant(plan=plan, database=EXTERNAL))
    workbench.told(
        "False",
        "MoveNotSupported",
        "spec.database.mode: External is not Shared, in which this tenant's data is, and moving a database is not "
        "supported yet; set it back; to have the data elsewhere, make another Tenant with mode: External, copy the "
        "data, and delete this one",
    )
    assert handed_on(workbench, where) == given


def test_a_copy_that_outlived_its_mode_is_no_trace_of_a_database_of_ours(
    workbench: Workbench, foreign: Foreign, plan: str
) -> None:
    """As if the operator had died right after it wrote the record."""
    where = workbench.whereabouts()
    put(workbench, foreign.values())
    workbench.make(plan=plan, database=EXTERNAL)
    workbench.apply(workbench.tenant(plan=plan, database=EXTERNAL, suspend=True))
    workbench.told("True", "Suspended", None)
    record = where.identity.record
    patch = '{"spec": {"database": {"mode": "None"}}}'
    workbench.stage.management.kubectl("patch", "tnrec", record, "--type=merge", "-p", patch)
    workbench.make(plan=plan, database={"mode": "Shared"})
    assert handed_on(workbench, where)["dbname"] == where.database
    metadata = workbench.on_target(SECRETS, where.namespace, "tenant-database")["metadata"]
    assert ANNOTATION_DATABASE_SECRET not in metadata["annotations"]


def test_a_spec_that_names_the_secret_no_more_changes_nothing(
    workbench: Workbench, foreign: Foreign, plan: str
) -> None:
    where = workbench.whereabouts()
    put(workbench, foreign.values())
    workbench.make(plan=plan, database=EXTERNAL)
    given = handed_on(workbench, where)
    workbench.apply(workbench.tenant(plan=plan, database=None))
    tenant = workbench.told("False", "SecretNotFound", None)
    assert "mode: None to do without it" in condition(tenant)["message"]
    assert handed_on(workbench, where) == given


def test_a_plan_decides_whether_a_tenant_may_bring_its_own(workbench: Workbench) -> None:
    workbench.apply(workbench.tenant(database=EXTERNAL))
    tenant = workbench.told("False", "PlanExceeded", None)
    assert "does not have External; it has Shared, None" in condition(tenant)["message"]
    first = workbench.platform("TenantPlan", "first", allowedModes=["External", "None"])
    workbench.apply(workbench.tenant("other", plan=first, database={}))
    tenant = workbench.told("False", "SecretNotFound", None, name="other")
    assert "set mode: External and external.secretRef" in condition(tenant)["message"]
    assert not workbench.record(workbench.whereabouts("other"))


def test_a_tenant_that_is_off_is_let_out_nowhere_and_keeps_its_secret(
    workbench: Workbench, foreign: Foreign, plan: str
) -> None:
    where = workbench.whereabouts()
    put(workbench, foreign.values())
    workbench.make(plan=plan, database=EXTERNAL)
    given = handed_on(workbench, where)
    workbench.apply(workbench.tenant(plan=plan, database=EXTERNAL, enabled=False))
    tenant = workbench.told("True", "Disabled", None)
    assert "not the operator's to lock" in condition(tenant, "DatabaseReady")["message"]
    assert egress(workbench, where) == {}
    assert handed_on(workbench, where) == given
    put(workbench, foreign.values(sslmode="prefer"))
    refused(workbench, "DatabaseSecretInvalid", "key 'sslmode'")
    workbench.kubectl("delete", "secret", NAME)
    refused(workbench, "SecretNotFound", "this workspace has no Secret", "Unknown")
    names = [body["metadata"]["name"] for body in workbench.objects(where, kinds=[NETWORK_POLICIES])]
    assert names == ["tenant-isolation"], "also of a tenant whose database makes no sense"


def test_a_deleted_tenant_leaves_the_foreign_database_alone_and_comes_back_with_it(
    workbench: Workbench, foreign: Foreign, plan: str
) -> None:
    where = workbench.whereabouts()
    put(workbench, foreign.values())
    deletion = {"window": "1h"}
    workbench.make(plan=plan, database=EXTERNAL, deletion=deletion)
    given = handed_on(workbench, where)
    with connect(given, foreign) as session:
        session.execute("CREATE TABLE kept (word text)")
        session.execute("INSERT INTO kept VALUES ('alive')")
    workbench.delete()
    workbench.gone()
    assert workbench.record(where)["spec"]["state"] == "Deleted"
    wait_for(lambda: egress(workbench, where) == {}, "the network is closed")
    assert handed_on(workbench, where) == given
    workbench.make(plan=plan, database=EXTERNAL, deletion={"window": "0s"})
    assert handed_on(workbench, where) == given
    workbench.delete()
    workbench.gone()
    wait_for(lambda: not workbench.record(where), "the record is gone")
    assert workbench.on_target(NAMESPACES, "", where.namespace) == {}
    with connect(given, foreign) as session:
        assert session.execute("SELECT word FROM kept").fetchall() == [("alive",)]


def test_a_rotation_that_was_asked_for_is_told_never_to_come(workbench: Workbench, foreign: Foreign, plan: str) -> None:
    where = workbench.whereabouts()
    put(workbench, foreign.values())
    workbench.make(plan=plan, database=EXTERNAL)
    given = handed_on(workbench, where)
    workbench.kubectl("annotate", "tenant", "acme", f"{ANNOTATION_ROTATE_CREDENTIALS}=2026-01-01T00:00:00Z")

    def told(body: Json) -> bool:
        says = condition(body, "SecretsReady")
        return (says["status"], says["reason"]) == ("True", "RotationNotApplicable")

    tenant = workbench.when(told, "it is told")
    assert f"put the new one into Secret {NAME!r}" in condition(tenant, "SecretsReady")["message"]
    assert condition(tenant)["status"] == "True"
    assert handed_on(workbench, where) == given
    workbench.kubectl("annotate", "tenant", "acme", f"{ANNOTATION_ROTATE_CREDENTIALS}-")
    workbench.when(lambda body: condition(body, "SecretsReady")["reason"] == "Ready", "it is told no more")


def test_a_record_that_was_lost_comes_back_with_the_mode_and_the_tenant_keeps_its_secret(
    workbench: Workbench, foreign: Foreign, plan: str
) -> None:
    where = workbench.whereabouts()
    put(workbench, foreign.values())
    workbench.make(plan=plan, database=EXTERNAL)
    before = workbench.on_target(SECRETS, where.namespace, "tenant-database")["metadata"]
    workbench.stage.management.kubectl("delete", "tnrec", where.identity.record)
    record = wait_for(lambda: workbench.record(where), "the record is made anew")
    wait_for(lambda: workbench.record(where)["spec"]["database"]["mode"] == "External", "it says whose database it is")
    workbench.ready()
    after = workbench.on_target(SECRETS, where.namespace, "tenant-database")["metadata"]
    assert (after["uid"], after["resourceVersion"]) == (before["uid"], before["resourceVersion"])
    assert record["spec"]["state"] == "Active"


def test_a_secret_that_somebody_deletes_on_the_target_is_handed_on_again(
    workbench: Workbench, foreign: Foreign, plan: str
) -> None:
    where = workbench.whereabouts()
    put(workbench, foreign.values())
    workbench.make(plan=plan, database=EXTERNAL)
    given = handed_on(workbench, where)
    workbench.stage.target.kubectl("-n", where.namespace, "delete", "secret", "tenant-database")
    workbench.look_now()
    wait_for(lambda: handed_on(workbench, where) == given, "it is there again")
    workbench.stage.target.kubectl("-n", where.namespace, "delete", "networkpolicy", "tenant-database")
    wait_for(lambda: egress(workbench, where), "the policy is there again", 5)
