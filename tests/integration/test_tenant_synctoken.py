"""The sync token on a real target: made on request, changed once a request, the former one valid for its grace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.integration.moves import Second, after, approve, moved
from tests.integration.tenants import Whereabouts, condition, wait_for

from tenantry.api.names import ANNOTATION_ROTATE_SYNC_TOKEN, ANNOTATION_ROTATED_AT, SECRET_SYNC
from tenantry.api.resources import RESOURCE_QUOTAS, SECRETS

if TYPE_CHECKING:
    from tests.integration.conftest import FreshControlPlane
    from tests.integration.tenants import Workbench

Json = dict[str, Any]


def ask(workbench: Workbench, value: str) -> None:
    workbench.kubectl("annotate", "tenant", "acme", "--overwrite", f"{ANNOTATION_ROTATE_SYNC_TOKEN}={value}")


def sync(workbench: Workbench, where: Whereabouts) -> Json:
    return workbench.on_target(SECRETS, where.namespace, SECRET_SYNC)


def values(workbench: Workbench, where: Whereabouts) -> dict[str, str]:
    return workbench.secret(where, SECRET_SYNC)


def handled(workbench: Workbench, where: Whereabouts, value: str) -> dict[str, str]:
    """The Secret once it echoes a request."""

    def echoed() -> bool:
        annotations = sync(workbench, where).get("metadata", {}).get("annotations", {})
        return bool(annotations.get(ANNOTATION_ROTATE_SYNC_TOKEN) == value)

    wait_for(echoed, f"{value} is done")
    return values(workbench, where)


def test_a_token_is_made_when_it_is_asked_for_and_changed_once_for_each_request(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.make(rotation={"gracePeriod": "1h"})
    assert sync(workbench, where) == {}, "nobody asked for one"
    ask(workbench, "one")
    first = handled(workbench, where, "one")
    assert first.keys() == {"token"}
    assert first["token"].startswith("tenantry_sync_")
    assert len(first["token"]) > 40
    ask(workbench, "two")
    second = handled(workbench, where, "two")
    assert second["previous"] == first["token"] != second["token"]
    before = sync(workbench, where)
    ask(workbench, "two")
    workbench.look_now()
    workbench.ready()
    assert sync(workbench, where) == before, "the same request does nothing more"
    ask(workbench, "three")
    tenant = workbench.when(
        lambda seen: condition(seen, "SecretsReady")["reason"] == "RotationPending", "it waits for the grace period"
    )
    assert condition(tenant)["status"] == "True"
    assert "the former sync token is still in its grace period, until" in condition(tenant, "SecretsReady")["message"]
    assert values(workbench, where) == second
    ask(workbench, "force-four")
    fourth = handled(workbench, where, "force-four")
    assert fourth.keys() == {"token"}, "who says force cuts off all who have a former one"
    assert fourth["token"] not in second.values()
    wait_for(lambda: "Secret tenant-sync has a new token" in str(workbench.events("acme", "Rotated")), "it is told")
    told = str([workbench.get()["status"], workbench.record(where), workbench.events("acme", "Rotated")])
    assert not [value for found in (first, second, fourth) for value in found.values() if value in told]


def test_a_former_token_ends_with_its_grace_period(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    body = workbench.tenant(rotation={"gracePeriod": "3s"})
    body["metadata"]["annotations"] = {ANNOTATION_ROTATE_SYNC_TOKEN: "one"}
    workbench.apply(body)
    workbench.ready()
    first = handled(workbench, where, "one")
    ask(workbench, "two")
    second = handled(workbench, where, "two")
    assert second.get("previous") in (first["token"], None)
    wait_for(lambda: values(workbench, where) == {"token": second["token"]}, "the former one has ended")
    assert sync(workbench, where)["metadata"]["annotations"][ANNOTATION_ROTATE_SYNC_TOKEN] == "two"


def test_a_token_that_somebody_deleted_is_another_one_and_one_that_lost_its_mark_is_changed_once(
    workbench: Workbench,
) -> None:
    where = workbench.whereabouts()
    workbench.make()
    ask(workbench, "one")
    first = handled(workbench, where, "one")
    workbench.stage.target.kubectl("-n", where.namespace, "delete", "secret", SECRET_SYNC)
    workbench.look_now()
    second = handled(workbench, where, "one")
    assert second.keys() == {"token"}
    assert second != first
    patch = {"metadata": {"annotations": {ANNOTATION_ROTATE_SYNC_TOKEN: None, ANNOTATION_ROTATED_AT: None}}}
    path = SECRETS.path(where.namespace, SECRET_SYNC)
    assert workbench.target.patch(path, patch, dry=False).status == 200
    workbench.look_now()
    third = handled(workbench, where, "one")
    assert third["previous"] == second["token"]
    workbench.kubectl("annotate", "tenant", "acme", f"{ANNOTATION_ROTATE_SYNC_TOKEN}-")
    workbench.look_now()
    workbench.ready()
    assert values(workbench, where) == third, "a request that is taken back takes nothing away"


def test_it_needs_none_of_the_secrets_that_the_tenant_may_have(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.make(quota={"hard": {"count/secrets": "0"}})
    ask(workbench, "one")
    handled(workbench, where, "one")
    workbench.ready()
    quota = workbench.on_target(RESOURCE_QUOTAS, where.namespace, "tenant")
    assert (quota["spec"]["hard"]["count/secrets"], quota["status"]["used"]["count/secrets"]) in {
        ("3", "2"),
        ("3", "1"),
    }


def test_a_disabled_and_a_deleted_tenant_keep_their_token(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    plan = workbench.platform("TenantPlan", "kept", deletion={"maxWindow": "24h"})
    workbench.make(plan=plan, deletion={"window": "1h"})
    ask(workbench, "one")
    first = handled(workbench, where, "one")
    workbench.apply(workbench.tenant(plan=plan, deletion={"window": "1h"}, enabled=False))
    workbench.told("True", "Disabled", None)
    ask(workbench, "two")
    second = handled(workbench, where, "two")
    assert second["previous"] == first["token"]
    workbench.delete()
    workbench.gone()
    assert values(workbench, where) == second
    workbench.make(plan=plan, deletion={"window": "0s"})
    assert values(workbench, where) == second


@pytest.mark.timeout(600)
def test_a_token_moves_with_its_tenant(trial: Workbench, fresh_control_plane: FreshControlPlane) -> None:
    from tests.scene.installation import install_target, kubeconfig_secret, operator_kubeconfig  # noqa: PLC0415 - slow
    from tests.scene.stage import cluster_manifest  # noqa: PLC0415 - as above

    access, name = fresh_control_plane("second").access, f"{trial.prefix}-cluster"
    install_target(access)
    trial.apply(kubeconfig_secret(f"{name}-kubeconfig", operator_kubeconfig(access)))
    trial.register(cluster_manifest(name))
    trial.stage.management.kubectl("wait", "--for=condition=Ready", f"tcl/{name}", "--timeout=60s")
    where, second = trial.whereabouts(), Second(name, access.kubeconfig)
    trial.make()
    for value in ("one", "two"):
        ask(trial, value)
        handled(trial, where, value)
    before = values(trial, where)
    trial.kubectl("annotate", "tenant", "acme", f"{ANNOTATION_ROTATE_SYNC_TOKEN}-")
    trial.apply(trial.tenant(placement={"cluster": second.name}))
    approve(trial, second.name)
    moved(trial, second.name)
    trial.elsewhere(second.kubeconfig)
    assert values(trial, after(where, 2)) == before
