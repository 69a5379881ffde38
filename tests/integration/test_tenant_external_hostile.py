"""What a workspace may write of an External database is a stranger's data: judged by key, never dialled, never told."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from tests.integration.foreign import (
    EXTERNAL,
    NAME,
    NOT_THERE,
    Foreign,
    bring_your_own,
    egress,
    foreign_database,
    handed_on,
    put,
    refused,
)
from tests.integration.tenants import condition, wait_for
from tests.scene.zone import SILENT, publish

from tenantry.api.names import LABEL_DATABASE_SECRET, LABEL_ENV_SECRET

if TYPE_CHECKING:
    from tests.controlplane.postgres_access import PostgresAccess
    from tests.integration.tenants import Workbench


@pytest.fixture
def foreign(postgres_tls: PostgresAccess, name_prefix: str) -> Iterator[Foreign]:
    with foreign_database(postgres_tls, name_prefix) as made:
        yield made


@pytest.fixture
def plan(workbench: Workbench) -> str:
    return bring_your_own(workbench)


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
