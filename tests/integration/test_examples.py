"""Every file under examples/ is applied with the real kubectl, and does what its comments promise.

The quick start is the demo's business; its plans are here, for the other examples stand on them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest
import yaml
from tests.controlplane.access import KubectlError
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.postgres_binaries import debian_binaries
from tests.demo.quickstart import FOLDER as QUICKSTART
from tests.demo.quickstart import PLATFORM
from tests.integration.cloudnativepg import CloudNativePG, install
from tests.integration.node import Node
from tests.integration.tenants import Whereabouts, condition, wait_for
from tests.scene.installation import install_target, kubeconfig_secret, operator_kubeconfig
from tests.scene.stage import DOMAIN, cluster_manifest
from tests.scene.zone import publish

from tenantry.api.names import ANNOTATION_RESTARTED_AT, ANNOTATION_ROTATE_CREDENTIALS
from tenantry.api.resources import (
    CONFIG_MAPS,
    CRON_JOBS,
    DEPLOYMENTS,
    NAMESPACES,
    NETWORK_POLICIES,
    POSTGRES_CLUSTERS,
    RESOURCE_QUOTAS,
    ROLE_BINDINGS,
    TENANT_PLANS,
)

if TYPE_CHECKING:
    from tests.integration.tenants import Workbench

Json = dict[str, Any]

EXAMPLES: Final = QUICKSTART.parent
NAMES: Final = tuple(sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir() and path != QUICKSTART))
EPHEMERAL_SECONDS: Final = 60.0
LATENESS: Final = 25.0


def documents(path: Path) -> list[Json]:
    """The objects in a file."""
    return [body for body in yaml.safe_load_all(path.read_text(encoding="utf-8")) if body]


@dataclass(frozen=True, slots=True)
class Example:
    """An example's folder in a workspace of the test's own.

    Attributes:
        applied: The files that were; in the end it has to be all.
    """

    workbench: Workbench
    folder: Path
    applied: set[str] = field(default_factory=set)

    def files(self) -> set[str]:
        """All of its manifests, relative to the folder."""
        return {path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*.y*ml")}

    def apply(self, name: str) -> None:
        """Apply one of its files, as its own workspace's; one of the folder `target`, into a tenant's namespace."""
        self.applied.add(name)
        for body in documents(self.folder / name):
            self._apply(self._moved(body))

    def deploy(self, name: str, where: Whereabouts) -> None:
        """Apply one of the files for the target, into the tenant's namespace there, as they are."""
        self.applied.add(name)
        path = str(self.folder / name)
        self.workbench.stage.target.kubectl("-n", where.namespace, "apply", "--server-side", "-f", path)

    def plans(self) -> None:
        """Apply the quick start's plans."""
        for body in documents(PLATFORM):
            if body["kind"] == TENANT_PLANS.kind:
                self._apply(self._moved(body))

    def _apply(self, body: Json) -> None:
        if "namespace" in body["metadata"]:
            self.workbench.apply(body)
        else:
            self.workbench.register(body)

    def _moved(self, body: Json) -> Json:
        """The object with the test's names for what others have, too: workspaces, and what is in none."""
        if "namespace" in body["metadata"]:
            body["metadata"]["namespace"] = self.workbench.workspace
        else:
            body["metadata"]["name"] = self._own(body["metadata"]["name"])
        if "plan" in body.get("spec", {}):
            body["spec"]["plan"] = self._own(body["spec"]["plan"])
        return body

    def _own(self, name: str) -> str:
        return f"{self.workbench.prefix}-{name}"

    # --- what the expectations look at ----------------------------------------------------------------------------
    def connect(self, where: Whereabouts) -> psycopg.Connection[tuple[Any, ...]]:
        """A session with the credentials that the tenant's Secret has now."""
        uri = self.workbench.secret(where, "tenant-database")["uri"]
        return psycopg.connect(uri, autocommit=True, connect_timeout=5)

    def write_row(self, where: Whereabouts) -> None:
        """Leave something in the tenant's database."""
        with self.connect(where) as session:
            session.execute("CREATE TABLE kept (word text)")
            session.execute("INSERT INTO kept VALUES ('alive')")

    def has_row(self, where: Whereabouts) -> bool:
        """Whether it is there."""
        with self.connect(where) as session:
            return session.execute("SELECT word FROM kept").fetchall() == [("alive",)]

    def locked_out(self, where: Whereabouts) -> bool:
        """Whether the credentials of the Secret don't get in."""
        try:
            self.connect(where).close()
        except psycopg.OperationalError:
            return True
        return False

    def state(self, where: Whereabouts) -> str:
        """Of its record; empty where there is none."""
        record = self.workbench.record(where)
        return str(record["spec"]["state"]) if record else ""

    def change(self, name: str, spec: Json) -> None:
        """`kubectl patch` a Tenant's spec."""
        self.workbench.kubectl("patch", "tenant", name, "--type=merge", "-p", json.dumps({"spec": spec}))

    def delete(self, name: str) -> None:
        """`kubectl delete`, which comes back when the Tenant is gone."""
        self.workbench.kubectl("delete", "tenant", name, "--timeout=40s")

    def replicas(self, where: Whereabouts, name: str) -> int:
        """Of a Deployment of the tenant's."""
        return int(self.workbench.on_target(DEPLOYMENTS, where.namespace, name)["spec"]["replicas"])


# --- one expectation an example -----------------------------------------------------------------------------------
def deleted_tenants_are_locked_for_their_windows_and_come_back_with_everything(example: Example) -> None:
    workbench, windows = example.workbench, {"keepsake": 72, "ordinary": 48}
    example.apply("tenants.yaml")
    for name in windows:
        workbench.ready(name)
        example.write_row(workbench.whereabouts(name))
    for name, hours in windows.items():
        where = workbench.whereabouts(name)
        example.delete(name)
        record = workbench.record(where)["spec"]
        assert (record["state"], record["deletion"]["window"]) == ("Deleted", f"{hours}h")
        kept = datetime.fromisoformat(record["purgeAfter"]) - datetime.fromisoformat(record["deletedAt"])
        assert kept == timedelta(hours=hours)
        assert example.locked_out(where)
    example.apply("tenants.yaml")
    for name in windows:
        workbench.ready(name)
        assert example.has_row(workbench.whereabouts(name))
    example.change("keepsake", {"deletion": {"window": "24h"}})
    workbench.told("False", "PlanExceeded", None, name="keepsake")


def a_retained_tenant_runs_on_until_it_is_deleted_with_another_policy(example: Example) -> None:
    workbench, where = example.workbench, example.workbench.whereabouts("heirloom")
    example.apply("tenant.yaml")
    workbench.ready("heirloom")
    example.write_row(where)
    before = workbench.inventory(where)
    example.delete("heirloom")
    assert example.state(where) == "Retained"
    assert "purgeAfter" not in workbench.record(where)["spec"]
    assert workbench.inventory(where) == before
    assert example.has_row(where)
    example.apply("tenant.yaml")
    workbench.ready("heirloom")
    assert (example.state(where), example.has_row(where)) == ("Active", True)
    example.change("heirloom", {"deletion": {"policy": "Delete"}})
    workbench.ready("heirloom")
    example.delete("heirloom")
    assert example.state(where) == "Deleted"


def a_tenant_that_is_off_serves_and_runs_nothing_and_comes_back_as_it_was(example: Example) -> None:
    workbench, where = example.workbench, example.workbench.whereabouts("resting")
    example.apply("1-tenant.yaml")
    workbench.ready("resting")
    example.write_row(where)
    example.deploy("target/app.yaml", where)
    before, secret = workbench.inventory(where), workbench.secret(where, "tenant-database")
    example.apply("2-off.yaml")
    workbench.told("True", "Disabled", None, name="resting")
    assert example.replicas(where, "app") == 0
    assert not [name for name in workbench.inventory(where) if name.startswith("Ingress/")]
    closed = workbench.on_target(NETWORK_POLICIES, where.namespace, "tenant-isolation")["spec"]
    assert closed == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert workbench.on_target(RESOURCE_QUOTAS, where.namespace, "tenant-off")["spec"] == {"hard": {"pods": "0"}}
    assert example.locked_out(where)
    assert f"Claim/resting-{workbench.workspace}.{DOMAIN}" in workbench.inventory(where)
    example.apply("1-tenant.yaml")
    workbench.ready("resting")
    assert example.replicas(where, "app") == 2
    assert workbench.inventory(where) == before
    assert workbench.secret(where, "tenant-database") == secret
    assert example.has_row(where)


def tasks_rest_while_the_application_serves(example: Example) -> None:
    workbench, where = example.workbench, example.workbench.whereabouts("quiet")
    example.apply("1-tenant.yaml")
    workbench.ready("quiet")
    example.deploy("target/app.yaml", where)

    def work() -> tuple[int, int, bool]:
        report = workbench.on_target(CRON_JOBS, where.namespace, "report")["spec"]["suspend"]
        return example.replicas(where, "app"), example.replicas(where, "worker"), report

    example.apply("2-tasks-off.yaml")
    workbench.ready("quiet")
    assert work() == (2, 0, True)
    assert "Ingress/tenant" in workbench.inventory(where)
    assert not example.locked_out(where)
    example.apply("1-tenant.yaml")
    workbench.ready("quiet")
    wait_for(lambda: work() == (2, 3, False), "the tasks go on")


def a_suspended_tenant_is_left_as_it_is_and_caught_up_with_afterwards(example: Example) -> None:
    workbench, where = example.workbench, example.workbench.whereabouts("frozen")
    example.apply("1-tenant.yaml")
    workbench.ready("frozen")

    def level() -> str:
        return workbench.secret(where, "tenant-env")["LOG_LEVEL"]

    assert level() == "info"
    example.apply("2-suspended.yaml")
    workbench.told("True", "Suspended", None, name="frozen")
    workbench.stage.target.kubectl("-n", where.namespace, "delete", "networkpolicy", "tenant-isolation")
    workbench.look_now("frozen")
    workbench.apply(workbench.tenant("busy"))
    workbench.ready("busy")  # the operator had time, and saw the deletion before this
    assert level() == "info"
    assert workbench.on_target(NETWORK_POLICIES, where.namespace, "tenant-isolation") == {}
    example.change("frozen", {"suspend": False})
    workbench.ready("frozen")
    assert level() == "debug"
    assert workbench.on_target(NETWORK_POLICIES, where.namespace, "tenant-isolation")


def a_throw_away_tenant_ends_by_itself_and_leaves_nothing(example: Example) -> None:
    workbench, where = example.workbench, example.workbench.whereabouts("preview-42")
    example.apply("tenant.yaml")
    workbench.ready("preview-42")
    with pytest.raises(KubectlError, match="ephemeral can't be changed after creation"):
        example.change("preview-42", {"ephemeral": None})
    workbench.gone("preview-42", seconds=EPHEMERAL_SECONDS + LATENESS)
    wait_for(lambda: not workbench.record(where), "the record is gone")
    assert workbench.on_target(NAMESPACES, "", where.namespace) == {}
    assert workbench.database_traces(where) == set()


def new_credentials_come_without_an_outage(example: Example) -> None:
    workbench, where = example.workbench, example.workbench.whereabouts("rotating")
    example.apply("tenant.yaml")
    workbench.ready("rotating")
    example.write_row(where)
    example.deploy("target/app.yaml", where)
    former = workbench.secret(where, "tenant-database")
    asked = f"{ANNOTATION_ROTATE_CREDENTIALS}=2026-01-01T00:00:00Z"
    workbench.kubectl("annotate", "--overwrite", "tenant", "rotating", asked)
    wait_for(lambda: workbench.secret(where, "tenant-database")["username"] != former["username"], "the other login")
    assert example.has_row(where)
    with psycopg.connect(former["uri"], connect_timeout=5) as session:
        assert session.execute("SELECT word FROM kept").fetchall() == [("alive",)]

    def restarted(name: str) -> bool:
        template = workbench.on_target(DEPLOYMENTS, where.namespace, name)["spec"]["template"]
        return ANNOTATION_RESTARTED_AT in template["metadata"].get("annotations", {})

    wait_for(lambda: restarted("app"), "what reads the login at its start has new pods")
    assert not restarted("reader")
    wait_for(lambda: workbench.events("rotating", "Rotated"), "it is told")
    workbench.ready("rotating")


def a_tenant_uses_a_database_that_is_its_customers_own(example: Example) -> None:
    workbench, where = example.workbench, example.workbench.whereabouts("own")
    publish(workbench.stage.zone, "acme.db.example.net", "192.0.2.40")
    for name in ("1-plan.yaml", "2-secret.yaml", "tenant.yaml"):
        example.apply(name)
    tenant = workbench.ready("own")
    assert condition(tenant, "DatabaseReady")["reason"] == "NotVerified"
    secret = workbench.secret(where, "tenant-database")
    assert secret["uri"] == "postgresql://acme_app:change-me@acme.db.example.net:5432/acme?sslmode=require"
    (rule,) = workbench.on_target(NETWORK_POLICIES, where.namespace, "tenant-database")["spec"]["egress"]
    assert rule["to"] == [{"ipBlock": {"cidr": "192.0.2.40/32"}}]
    assert rule["ports"] == [{"protocol": "TCP", "port": 5432}]
    workbench.kubectl("patch", "secret", "customer-db", "-p", '{"stringData": {"password": "changed"}}')
    wait_for(lambda: workbench.secret(where, "tenant-database")["password"] == "changed", "it is there", 5)


def a_plan_has_as_many_tenants_as_it_says_and_a_change_reaches_one_of_them_first(example: Example) -> None:
    workbench, names = example.workbench, ("first", "second", "third")

    def told() -> list[tuple[str, str]]:
        tenants = (workbench.get(name) for name in names)
        return sorted((condition(body).get("reason", ""), body["metadata"]["name"]) for body in tenants if body)

    example.apply("1-plan-and-tenants.yaml")
    wait_for(lambda: [reason for reason, _ in told()] == ["PlanFull", "Ready", "Ready"], "two of them are made")
    (_, waiting), (_, leaving), (_, staying) = told()
    workbench.delete(leaving)
    workbench.ready(waiting)
    example.apply("2-changed-plan.yaml")

    def supported() -> list[str]:
        having = (name for name in (waiting, staying) if level(name) == "mail")
        return sorted(having)

    def level(name: str) -> str | None:
        return workbench.secret(workbench.whereabouts(name), "tenant-env").get("SUPPORT")

    wait_for(supported, "the canary has it")
    assert len(supported()) == 1

    def told_of() -> bool:
        plan = workbench.management.get(TENANT_PLANS.path(name=f"{workbench.prefix}-starter")).body
        return (plan["status"]["rollout"]["phase"], plan["status"]["rollout"]["updated"]) == ("Canary", 1)

    wait_for(told_of, "it is told")
    assert len(supported()) == 1


def a_change_is_held_and_foretold_until_the_annotation_goes(example: Example) -> None:
    workbench, where = example.workbench, example.workbench.whereabouts("careful")
    example.apply("1-tenant.yaml")
    workbench.ready("careful")
    example.apply("2-held.yaml")

    def held() -> Json:
        return condition(workbench.get("careful"), "ChangeHeld")

    wait_for(lambda: held().get("observedGeneration") == 2, "the change is judged")
    preview = workbench.get("careful")["status"]["preview"]
    told = {(item["action"], item["what"].partition(" ")[2].partition("/")[2]) for item in preview["items"]}
    assert told == {("Delete", "tenant-view"), ("Change", "tenant-env")}
    assert preview["dataLossReasons"] == [
        "deletion.window: once deleted, the tenant can be had back for 1h instead of 24h"
    ]
    assert workbench.secret(where, "tenant-env")["LOG_LEVEL"] == "info"
    assert workbench.on_target(ROLE_BINDINGS, where.namespace, "tenant-view")
    example.apply("3-applied.yaml")
    workbench.ready("careful")
    assert workbench.secret(where, "tenant-env")["LOG_LEVEL"] == "debug"
    assert not workbench.on_target(ROLE_BINDINGS, where.namespace, "tenant-view")
    assert not held()


def a_tenant_has_a_database_server_of_its_own(example: Example) -> None:
    bench, where = example.workbench, example.workbench.whereabouts("alone")
    example.apply("plan.yaml")
    with Node(bench.stage.target, bench.prefix, debian_binaries()) as node:
        node.look_after(where.namespace)
        example.apply("tenant.yaml")
        bench.ready("alone", seconds=EPHEMERAL_SECONDS)
        given = bench.secret(where, "tenant-database")
        assert given["host"] == f"tenant-postgres.{where.namespace}.svc"
        there = node.reach(where.namespace, given)
        with psycopg.connect(there, connect_timeout=5) as session:
            assert session.execute("SELECT current_user").fetchall() == [(f"{where.database}_owner",)]


def a_tenants_database_has_a_replica(example: Example) -> None:
    bench, where = example.workbench, example.workbench.whereabouts("replicated")
    install(bench.stage.target)
    example.apply("plan.yaml")
    with CloudNativePG(bench.stage.target, bench.prefix, debian_binaries()) as played:
        played.look_after(where.namespace)
        example.apply("tenant.yaml")
        bench.ready("replicated", seconds=EPHEMERAL_SECONDS)
        given = bench.secret(where, "tenant-database")
        assert given["host"] == f"tenant-postgres.{where.namespace}.svc"
        status = bench.on_target(POSTGRES_CLUSTERS, where.namespace, "tenant-postgres")["status"]
        assert status["readyInstances"] == 2
        with psycopg.connect(played.reach(where.namespace, given), connect_timeout=5) as session:
            assert session.execute("SELECT current_user").fetchall() == [(f"{where.database}_owner",)]


def a_tenant_moves_to_another_server_with_its_data(example: Example) -> None:
    workbench, where = example.workbench, example.workbench.whereabouts("mover")
    example.apply("1-tenant.yaml")
    workbench.ready("mover")
    with psycopg.connect(workbench.stage.postgres_15.superuser_dsn(where.database), autocommit=True) as session:
        session.execute(f"SET ROLE {where.database}_owner".encode())
        session.execute("CREATE TABLE kept AS SELECT 'alive' AS word")
    example.apply("2-moved.yaml")
    wait_for(lambda: (workbench.get("mover")["status"].get("move") or {}).get("phase") == "Completed", "moved", 60)
    workbench.ready("mover")
    assert example.has_row(where)
    (left,) = workbench.record(where)["spec"]["former"]
    assert left["database"]["server"] == "pg15"


def of_two_tenants_one_gets_the_cluster_and_the_other_follows(example: Example) -> None:
    workbench, names = example.workbench, ("bank", "insurer")

    def told() -> list[tuple[str, str]]:
        return sorted((condition(workbench.get(name)).get("reason", ""), name) for name in names)

    with ControlPlane("muc") as plane:
        cluster = f"{workbench.prefix}-muc"
        install_target(plane.access)
        workbench.apply(kubeconfig_secret(f"{cluster}-kubeconfig", operator_kubeconfig(plane.access)))
        workbench.register(cluster_manifest(cluster, region="muc"))
        workbench.stage.management.kubectl("wait", "--for=condition=Ready", f"tcl/{cluster}", "--timeout=60s")
        workbench.elsewhere(plane.access.kubeconfig)
        example.apply("1-plan.yaml")
        example.apply("2-tenants.yaml")
        wait_for(lambda: [reason for reason, _ in told()] == ["ClusterFull", "Ready"], lambda: str(told()))
        (_, waiting), (_, first) = told()
        example.delete(first)
        workbench.ready(waiting)
        example.delete(waiting)


def a_namespace_that_was_there_is_a_tenants_and_stays_when_that_is_gone(example: Example) -> None:
    workbench, where = example.workbench, replace(example.workbench.whereabouts("crm"), namespace="legacy-crm")
    example.applied.add("target/1-namespace.yaml")
    consent = f"{workbench.stage.management_id}/{workbench.workspace}/crm"
    text = (example.folder / "target" / "1-namespace.yaml").read_text(encoding="utf-8")
    workbench.stage.target.kubectl("apply", "-f", "-", input=text.replace("MANAGEMENT-ID/shop/crm", consent))
    try:
        example.apply("2-tenant.yaml")
        assert workbench.ready("crm")["status"]["namespace"] == "legacy-crm"
        example.write_row(where)
        example.change("crm", {"deletion": {"window": "1h"}})
        workbench.ready("crm")
        example.delete("crm")
        assert (example.state(where), workbench.record(where)["spec"]["cluster"]["adopted"]) == ("Deleted", True)
        assert workbench.on_target(CONFIG_MAPS, "legacy-crm", "settings")["data"] == {"theme": "dark"}
    finally:
        workbench.target.delete(NAMESPACES.path(name="legacy-crm"), dry=False)


def the_application_is_told_of_a_proxy(example: Example) -> None:
    workbench, where = example.workbench, example.workbench.whereabouts("proxied")
    example.apply("1-secret.yaml")
    example.apply("2-tenant.yaml")
    workbench.ready("proxied")
    env = workbench.secret(where, "tenant-env")
    assert env["HTTPS_PROXY"] == env["http_proxy"] == "http://tenants:change-me@proxy.example.net:3128"
    assert {".svc", ".example.net", "10.96.0.0/12"} <= set(env["NO_PROXY"].split(","))
    workbench.kubectl("patch", "secret", "company-proxy", "-p", '{"stringData": {"url": "http://other.example.net"}}')
    wait_for(lambda: workbench.secret(where, "tenant-env")["HTTP_PROXY"] == "http://other.example.net", "it follows", 5)


def a_sync_token_is_made_and_changed_and_the_former_one_stays_for_a_while(example: Example) -> None:
    workbench, where = example.workbench, example.workbench.whereabouts("synced")
    example.apply("1-tenant.yaml")
    workbench.ready("synced")
    first = workbench.secret(where, "tenant-sync")
    assert first.keys() == {"token"}
    example.apply("2-rotated.yaml")
    wait_for(lambda: workbench.secret(where, "tenant-sync")["token"] != first["token"], "it is changed", 5)
    assert workbench.secret(where, "tenant-sync")["previous"] == first["token"]


EXPECTED: Final[Mapping[str, Callable[[Example], None]]] = MappingProxyType(
    {
        "cloudnativepg": a_tenants_database_has_a_replica,
        "dedicated-database": a_tenant_has_a_database_server_of_its_own,
        "deletion": deleted_tenants_are_locked_for_their_windows_and_come_back_with_everything,
        "external-database": a_tenant_uses_a_database_that_is_its_customers_own,
        "ephemeral": a_throw_away_tenant_ends_by_itself_and_leaves_nothing,
        "plans": a_plan_has_as_many_tenants_as_it_says_and_a_change_reaches_one_of_them_first,
        "preview": a_change_is_held_and_foretold_until_the_annotation_goes,
        "moving": a_tenant_moves_to_another_server_with_its_data,
        "retain": a_retained_tenant_runs_on_until_it_is_deleted_with_another_policy,
        "adoption": a_namespace_that_was_there_is_a_tenants_and_stays_when_that_is_gone,
        "proxy": the_application_is_told_of_a_proxy,
        "own-cluster": of_two_tenants_one_gets_the_cluster_and_the_other_follows,
        "rotation": new_credentials_come_without_an_outage,
        "sync-token": a_sync_token_is_made_and_changed_and_the_former_one_stays_for_a_while,
        "suspended": a_suspended_tenant_is_left_as_it_is_and_caught_up_with_afterwards,
        "switched-off": a_tenant_that_is_off_serves_and_runs_nothing_and_comes_back_as_it_was,
        "tasks-off": tasks_rest_while_the_application_serves,
    }
)


@pytest.fixture
def example(request: pytest.FixtureRequest, workbench: Workbench) -> Example:
    """The example that the test is about, after the quick start's plans."""
    opened = Example(workbench, EXAMPLES / request.param)
    opened.plans()
    return opened


@pytest.mark.parametrize("example", NAMES, indirect=True)
def test_an_example_does_what_it_says(example: Example) -> None:
    EXPECTED[example.folder.name](example)
    assert example.applied == example.files()


def test_every_example_has_an_expectation_and_a_line_in_the_list_of_examples() -> None:
    assert set(EXPECTED) == set(NAMES)
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert [name for name in NAMES if f"[`{name}/`]({name})" not in listed] == []
