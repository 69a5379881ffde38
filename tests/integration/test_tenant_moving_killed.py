"""Moving with a SIGKILL amid its writes: it always comes to the same end, and never are both sides open."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Final

import psycopg
import pytest
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.postgres import PostgresServer
from tests.controlplane.postgres_access import PostgresAccess
from tests.controlplane.postgres_binaries import wheel_binaries
from tests.crash.gate import Gate, Mode, Point
from tests.scene.faulty import CLUSTER, LATER, SERVER, WORKSPACE, FaultyLab, faulty_lab
from tests.scene.installation import admin_secret, install_target, kubeconfig_secret, operator_kubeconfig
from tests.scene.lab import cluster_body, plan_body, server_body, tenant_body, wait_until
from tests.scene.operator import LENIENT, OperatorProcess
from tests.scene.proxy import FaultProxy
from tests.scene.proxy_postgres import DatabaseProxy

from tenantry.api.identity import TenantIdentity, namespace_name
from tenantry.api.names import ANNOTATION_APPROVE_MOVE, SECRET_DATABASE

Json = dict[str, Any]

SECOND: Final = "eu-2"
SECOND_SERVER: Final = "shared-ams"
WORD: Final = f"{SECOND}/{SECOND_SERVER}"
KILLS: Final = 6
"""Of the writes of one move, evenly spread; before and after by turns."""
DONE: Final = 120.0


@dataclasses.dataclass(frozen=True, slots=True)
class Scene:
    """A lab with a second cluster and a second server, all behind the gate."""

    lab: FaultyLab
    target: ControlPlane
    postgres: PostgresServer
    gate: Gate
    operator: OperatorProcess

    def servers(self) -> tuple[PostgresAccess, PostgresAccess]:
        """The old one and the new one."""
        return self.lab.postgres.access, self.postgres.access

    def identity(self, name: str, epoch: int = 1) -> TenantIdentity:
        """Of a tenant."""
        uid = self.lab.management.get("namespaces", WORKSPACE)["metadata"]["uid"]
        management_id = self.lab.management.get("configmap", "tenantry-identity", "-n", "tenantry-system")
        return TenantIdentity(management_id["data"]["managementId"], WORKSPACE, uid, name, epoch=epoch)

    def secret(self, name: str, epoch: int) -> dict[str, str]:
        """What its application reads on one of the sides."""
        access = self.lab.target if epoch == 1 else self.target.access
        namespace = namespace_name("{workspace}-{tenant}", self.identity(name, epoch))
        data = access.get("secret", SECRET_DATABASE, "-n", namespace)["data"]
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    def connect(self, name: str, epoch: int) -> psycopg.Connection[tuple[Any, ...]]:
        """A session of the application, past the proxies."""
        found = self.secret(name, epoch)
        access = self.servers()[epoch - 1]
        dsn = access.dsn(found["username"], found["password"], found["dbname"])
        return psycopg.connect(dsn, autocommit=True, connect_timeout=30)

    def open_logins(self, name: str) -> tuple[set[str], set[str]]:
        """Those of the tenant's roles that may log in, on each of the servers."""
        query = "SELECT rolname FROM pg_roles WHERE rolcanlogin AND strpos(rolname, %s) > 0"
        found = []
        for access in self.servers():
            with psycopg.connect(access.superuser_dsn()) as session:
                found.append({row[0] for row in session.execute(query, (self.identity(name).tenant_hash,)).fetchall()})
        return found[0], found[1]

    def move(self, name: str) -> None:
        """What a person does."""
        body = tenant_body(
            name,
            WORKSPACE,
            plan="kept",
            placement={"cluster": SECOND},
            database={"mode": "Shared", "shared": {"server": SECOND_SERVER}},
        )
        body["metadata"]["annotations"] = {ANNOTATION_APPROVE_MOVE: WORD}
        self.lab.apply(body)

    def moved(self, name: str) -> bool:
        """It is over, and nothing waits any more but the purge."""
        status = self.lab.tenant(name).get("status", {})
        ready = {c["type"]: c["status"] for c in status.get("conditions", [])}.get("Ready")
        return (status.get("move") or {}).get("phase") == "Completed" and ready == "True"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with ExitStack() as stack:
        lab = stack.enter_context(faulty_lab(tmp_path_factory.mktemp("moving")))
        target = stack.enter_context(ControlPlane("second"))
        postgres = stack.enter_context(PostgresServer(wheel_binaries()))
        install_target(target.access)
        door = stack.enter_context(FaultProxy(target.access))
        database = DatabaseProxy(postgres.access.port).start()
        stack.callback(database.stop)
        lab.apply(
            kubeconfig_secret(f"{SECOND}-kubeconfig", door.kubeconfig(operator_kubeconfig(target.access))),
            admin_secret(f"{SECOND_SERVER}-admin", postgres.access),
            cluster_body(SECOND, default=False, databaseServer=SECOND_SERVER),
            server_body(SECOND_SERVER, database.port),
            plan_body("kept", deletion={"maxWindow": "24h"}),
        )
        operator = OperatorProcess(lab.kubeconfig, lab.folder / "killed.log", LENIENT)
        stack.callback(operator.stop)
        gate = Gate(operator.kill)
        gate.stand_before(lab.management_proxy, lab.target_proxy, lab.database_proxy)
        gate.stand_before(lab.management_proxy, door, database)
        operator.start()
        for cluster in (CLUSTER, SECOND):
            lab.wait_condition("clusters.tenantry.io", cluster, "Ready", "True")
        for server in (SERVER, SECOND_SERVER):
            lab.wait_condition("databaseservers.tenantry.io", server, "Ready", "True")
        yield Scene(lab, target, postgres, gate, operator)


def prepared(scene: Scene, name: str) -> None:
    """A tenant with a row in its database."""
    database = {"mode": "Shared", "shared": {"server": SERVER}}
    scene.lab.apply(tenant_body(name, WORKSPACE, plan="kept", placement={"cluster": CLUSTER}, database=database))
    scene.lab.wait_ready(name, seconds=LATER)
    with scene.connect(name, 1) as session:
        session.execute("CREATE TABLE canary (id serial PRIMARY KEY, word text)")
        session.execute("INSERT INTO canary (word) VALUES ('alive')")


def points(scene: Scene, name: str) -> list[Point]:
    """The writes of a move that nobody breaks off."""
    scene.gate.arm(naming(scene, name))
    scene.move(name)
    wait_until(lambda: scene.moved(name), DONE, lambda: scene.lab.told(name))
    return scene.gate.rest()


def naming(scene: Scene, name: str) -> Any:
    """Puts placeholders for what is another for each tenant."""
    tenant_hash = scene.identity(name).tenant_hash

    def named(text: str) -> str:
        return text.replace(tenant_hash, "HASH").replace(tenant_hash[:6], "HASH").replace(name, "NAME")

    return named


def assert_moved(scene: Scene, name: str, told: str) -> None:
    """The end is the same as of every other."""
    with scene.connect(name, 2) as session:
        assert session.execute("SELECT word FROM canary").fetchall() == [("alive",)], told
    with pytest.raises(psycopg.OperationalError):
        scene.connect(name, 1)
    old, new = scene.open_logins(name)
    assert (old, len(new)) == (set(), 1), told
    spec = scene.lab.record_of(name)["spec"]
    assert [side["epoch"] for side in spec["former"]] == [1], told
    assert (spec["epoch"], "move" in spec, spec.get("moveFailed", "")) == (2, False, ""), told
    with psycopg.connect(scene.postgres.access.superuser_dsn("tenantry")) as session:
        query = "SELECT database, state FROM claims WHERE tenant_hash = %s"
        found = session.execute(query, (scene.identity(name).tenant_hash,)).fetchall()
    assert found == [(scene.identity(name, 2).database, "ready")], told


def killed_at(scene: Scene, name: str, point: Point, mode: Mode) -> bool:
    """One move with a kill; whether the write came at all."""
    told = f"{name}: SIGKILL {mode} {point}"
    prepared(scene, name)
    scene.gate.arm(naming(scene, name), point, mode)
    scene.move(name)
    wait_until(lambda: scene.gate.fired.is_set() or scene.moved(name), DONE, told)
    killed = scene.gate.fired.is_set()
    scene.gate.rest()
    if killed:
        old, new = scene.open_logins(name)
        assert not (old and new), f"{told}: both sides are open: {old} {new}"
    if not scene.operator.running:
        scene.operator.start()
    wait_until(
        lambda: scene.moved(name), DONE, lambda: f"{told}: {scene.lab.tenant(name)} {scene.operator.log_text[-3000:]}"
    )
    assert_moved(scene, name, told)
    return killed


@pytest.mark.timeout(1500)
def test_a_move_that_is_killed_at_any_of_its_writes_ends_as_one_that_is_not(scene: Scene) -> None:
    prepared(scene, "calm")
    all_points = points(scene, "calm")
    assert_moved(scene, "calm", "undisturbed")
    every = max(1, len(all_points) // KILLS)
    chosen = all_points[every // 2 :: every]
    reached = sum(
        killed_at(scene, f"killed-{number}", point, list(Mode)[number % 2]) for number, point in enumerate(chosen)
    )
    assert reached >= len(chosen) // 2, "some writes don't come in every run, but most do"
