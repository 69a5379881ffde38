"""Switches: enabled, suspend, tasks, ingress, rbac and proxy, each by itself and in every combination."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from tests.integration.acting import manifest
from tests.integration.tenants import condition, wait_for

from tenantry.api.names import ANNOTATION_ACTIVITY, LABEL_TASK
from tenantry.api.resources import CRON_JOBS, DEPLOYMENTS, INGRESSES, NAMESPACES, RESOURCE_QUOTAS

if TYPE_CHECKING:
    from tests.integration.tenants import Whereabouts, Workbench

Json = dict[str, Any]

SHARED = {"mode": "Shared"}
ADMIN = [{"role": "View", "subjects": [{"kind": "User", "name": "ann"}]}]


def pod(name: str) -> Json:
    return {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "example.com/c"}]}}


def deployment(name: str, replicas: int, **labels: str) -> Json:
    return manifest(
        DEPLOYMENTS,
        name,
        "",
        labels=labels,
        spec={"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": pod(name)},
    )


def deploy(workbench: Workbench, where: Whereabouts) -> None:
    """An app of 3, a worker of 2 that is a task, and a CronJob."""
    cron = manifest(
        CRON_JOBS,
        "nightly",
        "",
        spec={
            "schedule": "0 3 * * *",
            "jobTemplate": {
                "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": pod("c")["spec"]["containers"]}}}
            },
        },
    )
    for resource, body in (
        (DEPLOYMENTS, deployment("app", 3)),
        (DEPLOYMENTS, deployment("worker", 2, **{LABEL_TASK: "true"})),
        (CRON_JOBS, cron),
    ):
        body["metadata"]["namespace"] = where.namespace
        answer = workbench.target.create(resource, body, dry=False)
        assert answer.status == 201, answer.message


def running(workbench: Workbench, where: Whereabouts) -> tuple[int, int, bool]:
    """Replicas of the app and of the worker, and whether the CronJob fires."""
    return (
        workbench.on_target(DEPLOYMENTS, where.namespace, "app")["spec"]["replicas"],
        workbench.on_target(DEPLOYMENTS, where.namespace, "worker")["spec"]["replicas"],
        not workbench.on_target(CRON_JOBS, where.namespace, "nightly")["spec"].get("suspend", False),
    )


def logs_in(workbench: Workbench, where: Whereabouts) -> bool:
    try:
        with psycopg.connect(workbench.secret(where, "tenant-database")["uri"], connect_timeout=5) as session:
            session.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


def test_a_disabled_tenant_does_nothing_keeps_everything_and_comes_back_as_it_was(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.make(database=SHARED)
    deploy(workbench, where)
    inventory, before = workbench.inventory(where), workbench.secret(where, "tenant-database")
    with psycopg.connect(before["uri"], autocommit=True) as session:
        session.execute("CREATE TABLE kept (a int)")
        workbench.apply(workbench.tenant(database=SHARED, enabled=False))
        tenant = workbench.told("True", "Disabled", None)
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")
    assert condition(tenant, "DatabaseReady")["reason"] == "Disabled"
    assert running(workbench, where) == (0, 0, False)
    assert not logs_in(workbench, where)
    assert workbench.on_target(INGRESSES, where.namespace, "tenant") == {}
    assert workbench.on_target(RESOURCE_QUOTAS, where.namespace, "tenant-off")["spec"] == {"hard": {"pods": "0"}}
    workbench.make(database=SHARED)
    assert running(workbench, where) == (3, 2, True)
    assert workbench.inventory(where) == inventory
    assert workbench.secret(where, "tenant-database") == before
    annotations = workbench.on_target(NAMESPACES, "", where.namespace)["metadata"]["annotations"]
    assert ANNOTATION_ACTIVITY not in annotations
    with psycopg.connect(before["uri"]) as session:
        assert session.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_a_tenant_that_is_made_disabled_can_be_enabled(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.apply(workbench.tenant(database=SHARED, enabled=False))
    workbench.told("True", "Disabled", None)
    workbench.make(database=SHARED)
    assert logs_in(workbench, where)


def test_what_somebody_scales_up_while_the_tenant_is_off_goes_down_at_the_next_look(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.make(database=SHARED)
    deploy(workbench, where)
    workbench.apply(workbench.tenant(database=SHARED, enabled=False))
    workbench.told("True", "Disabled", None)
    path = DEPLOYMENTS.path(where.namespace, "app")
    assert workbench.target.patch(path, {"spec": {"replicas": 5}}, dry=False).status == 200
    workbench.look_now()
    wait_for(lambda: running(workbench, where)[0] == 0, "it is down again")
    workbench.make(database=SHARED)
    assert running(workbench, where)[0] == 5


def test_a_suspended_tenant_is_left_as_it_is_and_its_status_goes_on(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.make(env={"COLOR": "red"})
    workbench.apply(workbench.tenant(env={"COLOR": "blue"}, suspend=True))
    tenant = workbench.told("True", "Suspended", "left as it is: spec.suspend is true")
    assert tenant["status"]["observedGeneration"] == tenant["metadata"]["generation"]
    assert workbench.secret(where, "tenant-env")["COLOR"] == "red"
    path = RESOURCE_QUOTAS.path(where.namespace, "tenant")
    assert workbench.target.delete(path, dry=False).status == 200
    workbench.look_now()
    assert workbench.on_target(RESOURCE_QUOTAS, where.namespace, "tenant") == {}
    workbench.make(env={"COLOR": "blue"})
    assert workbench.secret(where, "tenant-env")["COLOR"] == "blue"
    assert workbench.on_target(RESOURCE_QUOTAS, where.namespace, "tenant") != {}


@pytest.mark.timeout(240)
def test_the_switches_are_independent_of_each_other_in_every_combination(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.make(database=SHARED)
    deploy(workbench, where)
    workbench.env_secret("proxy", {"url": "http://proxy.example.com:3128"})
    for enabled, tasks, ingress, rbac, proxy in itertools.product((False, True), repeat=5):
        workbench.apply(
            workbench.tenant(
                database=SHARED,
                enabled=enabled,
                tasks={"enabled": tasks},
                ingress={"enabled": ingress},
                rbac={"enabled": rbac, "bindings": ADMIN},
                proxy={"httpSecretRef": {"name": "proxy"}} if proxy else None,
            )
        )
        workbench.told("True", "Ready" if enabled else "Disabled", None)
        what = f"enabled={enabled} tasks={tasks} ingress={ingress} rbac={rbac} proxy={proxy}"
        work = enabled and tasks
        assert running(workbench, where) == (3 if enabled else 0, 2 if work else 0, work), what
        names = workbench.inventory(where)
        assert ("Ingress/tenant" in names) == (enabled and ingress), what
        assert ("RoleBinding/tenant-view" in names) == rbac, what
        assert ("ResourceQuota/tenant-off" in names) != enabled, what
        assert logs_in(workbench, where) == enabled, what
        assert ("HTTP_PROXY" in workbench.secret(where, "tenant-env")) == proxy, what


def test_a_tenant_that_began_as_switched_off_is_on_afterwards_and_at_rest(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.apply(workbench.tenant(enabled=False))
    workbench.told("True", "Disabled", None)
    assert ANNOTATION_ACTIVITY in workbench.on_target(NAMESPACES, "", where.namespace)["metadata"]["annotations"]
    workbench.make()
    metadata = workbench.on_target(NAMESPACES, "", where.namespace)["metadata"]
    assert ANNOTATION_ACTIVITY not in metadata["annotations"]
    now = workbench.look_now()
    workbench.when(lambda body: body["status"].get("lastHandledReconcileAt") == now, "it is looked at again")
    assert workbench.on_target(NAMESPACES, "", where.namespace)["metadata"] == metadata, "nothing is written any more"
