"""Dry runs for tests: a spec is held, its preview read, and what then really happens looked at."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.integration.tenants import condition, wait_for

from tenantry.api.names import ANNOTATION_DRY_RUN, ANNOTATION_HOST, LABEL_CLAIM
from tenantry.api.resources import TENANTS

if TYPE_CHECKING:
    from tests.integration.tenants import Whereabouts, Workbench

Json = dict[str, Any]


def annotate(workbench: Workbench, value: str | None, name: str = "acme", **more: str | None) -> None:
    """Set or take off the annotation."""
    annotations = {ANNOTATION_DRY_RUN: value, **more}
    answer = workbench.management.patch(
        TENANTS.path(workbench.workspace, name), {"metadata": {"annotations": annotations}}, dry=False
    )
    assert answer.status == 200, answer.message


def held_body(workbench: Workbench, name: str = "acme", **spec: Any) -> Json:
    body = workbench.tenant(name, **spec)
    body["metadata"]["annotations"] = {ANNOTATION_DRY_RUN: "true"}
    return body


def foretold(workbench: Workbench, name: str = "acme") -> Json:
    """The Tenant, once its present generation is judged under the annotation."""

    def judged() -> Json | None:
        body = workbench.get(name)
        held = condition(body, "ChangeHeld")
        return body if held.get("observedGeneration") == body["metadata"]["generation"] else None

    return wait_for(judged, "the change is judged")


def hold(workbench: Workbench, name: str = "acme", **spec: Any) -> Json:
    """Apply a changed spec together with the annotation; its preview."""
    workbench.apply(held_body(workbench, name, **spec))
    preview: Json = foretold(workbench, name)["status"]["preview"]
    return preview


def applied(workbench: Workbench, name: str = "acme") -> Json:
    """The Tenant, once nothing is held, and its Ready is about what it is now."""

    def all_of_it() -> Json | None:
        body = workbench.get(name)
        ready = condition(body)
        done = ready.get("status") == "True" and ready["observedGeneration"] == body["metadata"]["generation"]
        return body if done and not body["status"].get("preview") and not condition(body, "ChangeHeld") else None

    return wait_for(all_of_it, "the change is applied")


def told(preview: Json) -> set[tuple[str, str]]:
    return {(each["action"], each["what"]) for each in preview.get("items", [])}


def named(body: Json) -> str:
    metadata = body["metadata"]
    if LABEL_CLAIM in metadata["labels"]:
        return f"Host {metadata['annotations'][ANNOTATION_HOST]}"
    where = f"{metadata['namespace']}/" if metadata.get("namespace") else ""
    return f"{body['kind']} {where}{metadata['name']}"


def contents(workbench: Workbench, where: Whereabouts) -> dict[str, str]:
    """All that bears the tenant's stamp on the target, by name; without what the API server counts."""
    found = {}
    for body in workbench.objects(where):
        metadata = {
            key: value
            for key, value in body["metadata"].items()
            if key not in {"resourceVersion", "managedFields", "generation"}
        }
        found[named(body)] = json.dumps({**body, "metadata": metadata, "status": None}, sort_keys=True)
    return found


def happened(before: dict[str, str], after: dict[str, str]) -> set[tuple[str, str]]:
    """What became of each object."""
    made = {("Create", name) for name in after.keys() - before.keys()}
    gone = {("Delete", name) for name in before.keys() - after.keys()}
    return made | gone | {("Change", name) for name in before.keys() & after.keys() if before[name] != after[name]}


def spec_of(workbench: Workbench, text: Json, plan: str) -> Json:
    return {**json.loads(json.dumps(text).replace("{prefix}", workbench.prefix)), "plan": plan}
