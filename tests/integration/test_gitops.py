"""GitOps tools on a real API server: the health they tell, and that they find no difference where there is none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.integration.tenants import condition, wait_for
from tests.scene.argocd import Health, health_of
from tests.scene.installation import ROOT
from tools.argocd import HEALTH, SNIPPET

from tenantry.api.kinds import ALL_KINDS
from tenantry.api.names import FIELD_MANAGER
from tenantry.api.resources import CLUSTERS, DATABASE_SERVERS, TENANT_PLANS

if TYPE_CHECKING:
    from tests.controlplane.access import ClusterAccess
    from tests.integration.tenants import Workbench

Json = dict[str, Any]

SCRIPT = (ROOT / HEALTH).read_text(encoding="utf-8")
ARGO_CD = "argocd-controller"
TRACKING = {
    "labels": {"app.kubernetes.io/instance": "workspace-shop"},
    "annotations": {"argocd.argoproj.io/tracking-id": "workspace-shop:tenantry.io/Tenant:shop/acme"},
}
TOO_MANY = {"MAX_USERS": "1000000"}


def merged(live: Any, wanted: Any) -> Any:
    """A JSON merge patch applied, as Argo CD does to custom resources without server-side apply: lists as a whole."""
    if not isinstance(wanted, Mapping):
        return wanted
    base = live if isinstance(live, Mapping) else {}
    return {**base, **{key: merged(base.get(key), value) for key, value in wanted.items()}}


def without_bookkeeping(body: Json) -> Json:
    metadata = {key: value for key, value in body["metadata"].items() if key != "managedFields"}
    return {**body, "metadata": metadata}


def synced(workbench: Workbench, body: Json, *arguments: str) -> Json:
    """A server-side apply by Argo CD, which forces nothing: the object as the API server then has it."""
    answer: Json = json.loads(
        workbench.stage.management.kubectl(
            "apply", "--server-side", f"--field-manager={ARGO_CD}", *arguments, "-f", "-", "-o", "json",
            input=json.dumps(body),
        )
    )  # fmt: skip
    return without_bookkeeping(answer)


def rich_tenant(workbench: Workbench) -> Json:
    body = workbench.tenant(
        rbac={"bindings": [{"role": "View", "subjects": [{"kind": "User", "name": "ben"}]}]},
        env={"LOG_LEVEL": "info"},
        quota={"hard": {"pods": 10}},
        deletion={"policy": "Delete"},
    )
    body["metadata"] |= TRACKING
    return body


def test_a_sync_of_a_tenant_that_is_as_git_says_finds_no_difference_and_no_conflict(workbench: Workbench) -> None:
    wanted = rich_tenant(workbench)
    synced(workbench, wanted)
    live = without_bookkeeping(workbench.ready())
    assert synced(workbench, wanted, "--dry-run=server") == live, "Argo CD's server-side diff"
    assert merged(live, wanted) == live, "Argo CD's own diff"


@pytest.mark.parametrize("resource", [CLUSTERS, DATABASE_SERVERS, TENANT_PLANS], ids=lambda each: each.kind)
def test_the_operator_owns_nothing_of_what_is_in_git(workbench: Workbench, resource: Any) -> None:
    workbench.make()
    (body, *_) = workbench.management.get(resource.path()).body["items"]
    for each in (body, workbench.get()):
        managed = [entry for entry in each["metadata"]["managedFields"] if entry["manager"] == FIELD_MANAGER]
        owned = {name for entry in managed for name in entry["fieldsV1"]}
        inside = {name for entry in managed for name in entry["fieldsV1"].get("f:metadata", {})}
        assert "f:status" in owned
        assert owned <= {"f:status", "f:metadata"}
        assert inside <= {"f:finalizers"}


def test_what_a_tool_tracks_a_tenant_by_is_not_passed_on_to_what_the_tenant_has(workbench: Workbench) -> None:
    synced(workbench, rich_tenant(workbench))
    workbench.ready()
    made = workbench.objects(workbench.whereabouts())
    assert len(made) > 10
    for body in made:
        assert not TRACKING["labels"].keys() & body["metadata"].get("labels", {}).keys()
        assert not TRACKING["annotations"].keys() & body["metadata"].get("annotations", {}).keys()


def test_argo_cd_tells_a_tenants_health_through_its_life(workbench: Workbench) -> None:
    def health() -> Health:
        return health_of(SCRIPT, workbench.get())

    workbench.apply(workbench.tenant(suspend=True))
    wait_for(lambda: health().status == "Suspended", lambda: f"suspended: {health()}")
    workbench.apply(workbench.tenant())
    ready = workbench.ready()
    assert health_of(SCRIPT, ready) == Health("Healthy", condition(ready)["message"])
    workbench.apply(workbench.tenant(limits=TOO_MANY))
    wait_for(lambda: health().status == "Degraded", lambda: f"degraded: {health()}")
    assert "MAX_USERS" in health().message
    before = workbench.get()
    before["metadata"]["generation"] += 1
    assert health_of(SCRIPT, before).status == "Progressing"


@pytest.mark.parametrize("resource", [CLUSTERS, DATABASE_SERVERS, TENANT_PLANS], ids=lambda each: each.kind)
def test_argo_cd_tells_the_health_of_the_platforms_kinds(workbench: Workbench, resource: Any) -> None:
    bodies = workbench.management.get(resource.path()).body["items"]
    assert "Healthy" in {health_of(SCRIPT, body).status for body in bodies}


def test_the_snippet_leaves_what_else_is_in_argo_cds_settings(
    management: ClusterAccess, namespace: str, tmp_path: Path
) -> None:
    own = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "argocd-cm"}, "data": {"url": "https://cd"}}
    management.kubectl("-n", namespace, "apply", "-f", "-", input=json.dumps(own))
    patch = tmp_path / "argocd-cm.yaml"
    text = (ROOT / SNIPPET).read_text(encoding="utf-8")
    patch.write_text(text.replace("namespace: argocd", f"namespace: {namespace}"), encoding="utf-8")
    management.kubectl("-n", namespace, "patch", "configmap", "argocd-cm", "--type=merge", "--patch-file", str(patch))
    data = management.get("-n", namespace, "configmap", "argocd-cm")["data"]
    told = {kind.resource.kind for kind in ALL_KINDS if kind.status is not None}
    assert data.pop("url") == "https://cd"
    assert data == {f"resource.customizations.health.tenantry.io_{kind}": SCRIPT for kind in told}
