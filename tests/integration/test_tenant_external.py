"""A database of somebody else's: handed on as its Secret says, never touched, never overstated."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from tests.integration.foreign import (
    EXTERNAL,
    NAME,
    NOT_THERE,
    Foreign,
    bring_your_own,
    connect,
    egress,
    foreign_database,
    handed_on,
    put,
    refused,
)
from tests.integration.tenants import NO_DATABASE, condition, wait_for

from tenantry.api.names import ANNOTATION_DATABASE_SECRET, ANNOTATION_ROTATE_CREDENTIALS, LABEL_DATABASE_SECRET
from tenantry.api.resources import NAMESPACES, NETWORK_POLICIES, SECRETS

if TYPE_CHECKING:
    from tests.controlplane.postgres_access import PostgresAccess
    from tests.integration.tenants import Workbench

Json = dict[str, Any]

UNTRIED = "; nobody has tried to log in to its External database"


@pytest.fixture
def foreign(postgres_tls: PostgresAccess, name_prefix: str) -> Iterator[Foreign]:
    with foreign_database(postgres_tls, name_prefix) as made:
        yield made


@pytest.fixture
def plan(workbench: Workbench) -> str:
    return bring_your_own(workbench)


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
    wait_for(lambda: handed_on(workbench, where)["password"] == changed.password, "the new password is there")
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
        "spec.database.mode: Shared is not External, in which this tenant's data is, and one mode can't become "
        "another; set it back; to begin with an empty database of ours, set mode: None first, which lets go of "
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
    psycopg.connect(given["uri"], connect_timeout=30).close()
    workbench.apply(workbench.tenant(plan=plan, database=EXTERNAL))
    workbench.told(
        "False",
        "MoveNotSupported",
        "spec.database.mode: External is not Shared, in which this tenant's data is, and one mode can't become "
        "another; set it back; to have the data elsewhere, make another Tenant with mode: External, copy the "
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
    # Tests beside this one may have clusters that can't be searched: then it is looked for again every 30 s.
    record = wait_for(lambda: workbench.record(where), "the record is made anew", seconds=120)
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
    wait_for(lambda: egress(workbench, where), "the policy is there again")
