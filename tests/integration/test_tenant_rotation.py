"""New credentials without an outage: what clients see, what the former login may, and who is told."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from tests.integration.acting import manifest
from tests.integration.tenants import condition, wait_for

from tenantry.api.names import ANNOTATION_RESTARTED_AT, ANNOTATION_ROTATE_CREDENTIALS, ANNOTATION_ROTATED_AT
from tenantry.api.resources import DEPLOYMENTS, SECRETS

if TYPE_CHECKING:
    from tests.integration.tenants import Whereabouts, Workbench

Json = dict[str, Any]

SHARED = {"mode": "Shared"}
ROTATIONS = 20


def secret(workbench: Workbench, where: Whereabouts) -> dict[str, str]:
    return workbench.secret(where, "tenant-database")


def rotated_at(workbench: Workbench, where: Whereabouts) -> str | None:
    metadata = workbench.on_target(SECRETS, where.namespace, "tenant-database")["metadata"]
    value: str | None = metadata["annotations"].get(ANNOTATION_ROTATED_AT)
    return value


def ask(workbench: Workbench, value: str) -> None:
    """As a person would, with kubectl annotate."""
    workbench.kubectl("annotate", "tenant", "acme", "--overwrite", f"{ANNOTATION_ROTATE_CREDENTIALS}={value}")


def changed(workbench: Workbench, where: Whereabouts, before: dict[str, str]) -> dict[str, str]:
    """The Secret once it has another login."""

    def seen() -> dict[str, str] | None:
        now = secret(workbench, where)
        return now if now["username"] != before["username"] else None

    return wait_for(seen, "the Secret has another login")


def rotate(workbench: Workbench, where: Whereabouts, value: str) -> dict[str, str]:
    """Ask for it and wait for the new Secret."""
    before = secret(workbench, where)
    ask(workbench, value)
    return changed(workbench, where, before)


def works(uri: str) -> bool:
    try:
        with psycopg.connect(uri, connect_timeout=5) as session:
            session.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


class Client(threading.Thread):
    """An application that reads its Secret, connects, asks, and hangs up, in a loop."""

    def __init__(self, workbench: Workbench, where: Whereabouts) -> None:
        super().__init__(daemon=True)
        self._workbench = workbench
        self._where = where
        self._ended = threading.Event()
        self.queries = 0
        self.failures: list[str] = []

    def run(self) -> None:
        while not self._ended.is_set():
            uri = secret(self._workbench, self._where)["uri"]
            try:
                with psycopg.connect(uri, connect_timeout=5, autocommit=True) as session:
                    session.execute("INSERT INTO seen DEFAULT VALUES")
                self.queries += 1
            except psycopg.Error as error:
                self.failures.append(str(error))

    def stop(self) -> None:
        self._ended.set()
        self.join(20)


def test_over_twenty_rotations_a_client_that_reads_its_secret_sees_no_failure(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.make(database=SHARED, rotation={"gracePeriod": "1s"})
    with psycopg.connect(secret(workbench, where)["uri"], autocommit=True) as session:
        session.execute("CREATE TABLE seen (at timestamptz DEFAULT now())")
    with ExitStack() as stack:
        # With a connection of its own, for the workbench's is this thread's.
        reader = type(workbench)(workbench.stage, workbench.prefix)
        stack.push(reader)
        client = Client(reader, where)
        client.start()
        stack.callback(client.stop)
        uris = [secret(workbench, where)["uri"]]
        uris.extend(rotate(workbench, where, f"r{number}")["uri"] for number in range(ROTATIONS))
    assert client.failures == []
    assert client.queries > ROTATIONS
    assert len(set(uris)) == ROTATIONS + 1
    wait_for(lambda: not works(uris[-2]), "the former login is locked after its grace period")
    assert not any(works(uri) for uri in uris[:-1])
    assert works(uris[-1])
    owners = workbench.ask(
        "SELECT count(*) FROM pg_shdepend s JOIN pg_roles r ON r.oid = s.refobjid WHERE s.deptype = 'o'"
        " AND r.rolname = ANY (%s)",
        [f"{where.database}_0", f"{where.database}_1"],
    )
    assert owners == [(0,)]


def test_the_former_login_works_through_its_grace_period(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.make(database=SHARED)
    before = secret(workbench, where)["uri"]
    after = rotate(workbench, where, "once")["uri"]
    assert works(before)
    assert works(after)
    ask(workbench, "twice")
    tenant = workbench.when(
        lambda body: condition(body, "SecretsReady").get("reason") == "RotationPending", "the next one waits"
    )
    assert "grace period" in condition(tenant, "SecretsReady")["message"]
    assert condition(tenant)["status"] == "True"
    assert secret(workbench, where)["uri"] == after
    assert works(before)


def test_a_former_login_in_use_is_not_locked_and_the_client_is_named(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.make(database=SHARED, rotation={"gracePeriod": "1s"})
    before = secret(workbench, where)["uri"]
    with psycopg.connect(before, application_name="nightly") as session:
        session.execute("SELECT 1")
        rotate(workbench, where, "once")
        tenant = workbench.when(
            lambda body: "nightly" in condition(body, "SecretsReady").get("message", ""), "it is told who uses it"
        )
        assert condition(tenant, "SecretsReady")["reason"] == "RotationPending"
        assert condition(tenant)["status"] == "True"
        assert session.execute("SELECT 1").fetchone() == (1,)
        rotate(workbench, where, "force-2")
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")
    assert not works(before)
    cut = wait_for(lambda: workbench.events("acme", "LoginLocked"), "it is told who was cut off")
    assert any("nightly" in event["note"] for event in cut)


def test_a_forced_rotation_leaves_only_the_new_login(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.make(database=SHARED)
    before = secret(workbench, where)["uri"]
    after = rotate(workbench, where, "force-leaked")["uri"]
    wait_for(lambda: not works(before), "the leaked password is worth nothing")
    assert works(after)


def test_what_was_asked_for_before_the_tenant_was_made_is_no_rotation(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    body = workbench.tenant(database=SHARED)
    body["metadata"]["annotations"] = {ANNOTATION_ROTATE_CREDENTIALS: "2026-01-01"}
    workbench.apply(body)
    workbench.ready()
    before = secret(workbench, where)
    workbench.look_now()
    workbench.ready()
    assert secret(workbench, where) == before
    assert rotated_at(workbench, where) is None


def test_a_deleted_secret_gives_new_credentials_and_the_old_ones_their_grace(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.make(database=SHARED)
    before = secret(workbench, where)
    assert workbench.target.delete(SECRETS.path(where.namespace, "tenant-database"), dry=False).status == 200
    workbench.look_now()
    wait_for(lambda: workbench.on_target(SECRETS, where.namespace, "tenant-database"), "the Secret is there again")
    after = secret(workbench, where)
    assert after["username"] != before["username"]
    wait_for(lambda: works(after["uri"]), "its password is the login's: the Secret is written first", 5)
    assert works(before["uri"])
    assert rotated_at(workbench, where) is not None


def test_workloads_that_read_the_login_at_their_start_are_restarted_once(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.make(database=SHARED, rotation={"restartWorkloads": True})
    labels = {"app": "app"}
    container = {"name": "app", "image": "example.com/app", "envFrom": [{"secretRef": {"name": "tenant-database"}}]}
    body = manifest(
        DEPLOYMENTS,
        "app",
        where.namespace,
        spec={
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    )
    assert workbench.target.create(DEPLOYMENTS, body, dry=False).status == 201
    rotate(workbench, where, "once")

    def restarted() -> str | None:
        template = workbench.on_target(DEPLOYMENTS, where.namespace, "app")["spec"]["template"]
        value: str | None = template["metadata"].get("annotations", {}).get(ANNOTATION_RESTARTED_AT)
        return value

    assert wait_for(restarted, "it is restarted") == rotated_at(workbench, where)
    generation = workbench.on_target(DEPLOYMENTS, where.namespace, "app")["metadata"]["generation"]
    workbench.look_now()
    workbench.ready()
    assert workbench.on_target(DEPLOYMENTS, where.namespace, "app")["metadata"]["generation"] == generation


def test_rotations_come_by_themselves_at_their_interval(workbench: Workbench) -> None:
    """An hour is the shortest interval, so the last rotation is put back in time."""
    where = workbench.whereabouts()
    workbench.make(database=SHARED, rotation={"interval": "1h", "gracePeriod": "1m"})
    before = secret(workbench, where)
    path = SECRETS.path(where.namespace, "tenant-database")
    patch = {"metadata": {"annotations": {ANNOTATION_ROTATED_AT: "2026-01-01T00:00:00Z"}}}
    assert workbench.target.patch(path, patch, dry=False).status == 200
    workbench.look_now()
    after = changed(workbench, where, before)
    assert works(after["uri"])
    assert time.strftime("%Y-%m-%d", time.gmtime()) == str(rotated_at(workbench, where))[:10]
