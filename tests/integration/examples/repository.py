"""What the example of a repository promises: kustomize builds it, the API server takes it, its tenants get Ready."""

from __future__ import annotations

import functools
import json
from typing import Any, Final

import pytest
import yaml
from tests.controlplane.access import KubectlError
from tests.controlplane.gitops import gitops_crds
from tests.integration.examples.example import Example, documents
from tests.integration.tenants import wait_for

Json = dict[str, Any]

KUSTOMIZED: Final = ("platform", "workspaces/shop")
ARGO_CD: Final = ("argocd/root.yaml", "argocd/apps/platform.yaml", "argocd/apps/shop.yaml")
FLUX: Final = ("flux/source.yaml", "flux/platform.yaml", "flux/shop.yaml")
NAMESPACES: Final = ("argocd", "flux-system", "shop")


def a_repository_brings_plans_and_tenants_and_what_is_protected_stays(example: Example) -> None:
    workbench = example.workbench
    _tools_are_as_their_own_kinds_want_them(example)
    for folder in KUSTOMIZED:
        _build_has_every_file(example, folder)
    example.apply("platform/plans.yaml")
    _apply_workspace(example)
    example.apply("workspaces/shop/rose.yaml")
    example.apply("workspaces/shop/tulip.yaml")
    workbench.ready("rose")
    assert workbench.secret(workbench.whereabouts("rose"), "tenant-env")["MAX_USERS"] == "5"
    workbench.ready("tulip")
    with pytest.raises(KubectlError, match="is protected"):
        workbench.kubectl("delete", "tenant", "tulip")
    example.change("tulip", {"deletion": {"protected": False}})  # so that the workspace can go after the test


def _build_has_every_file(example: Example, folder: str) -> None:
    """What Argo CD and Flux make of a folder: all that its files have, and no more."""
    built = example.workbench.stage.management.kubectl("kustomize", str(example.folder / folder))
    files = [path for path in (example.folder / folder).glob("*.yaml") if path.name != "kustomization.yaml"]
    wanted = [body for path in files for body in documents(path)]
    found = [body for body in yaml.safe_load_all(built) if body]
    assert sorted(map(json.dumps, map(_sorted, found))) == sorted(map(json.dumps, map(_sorted, wanted)))
    example.applied.add(f"{folder}/kustomization.yaml")


def _sorted(body: Json) -> Json:
    ordered: Json = json.loads(json.dumps(body, sort_keys=True))
    return ordered


def _apply_workspace(example: Example) -> None:
    """The workspace as the test's own."""
    (body,) = documents(example.folder / "platform/workspaces.yaml")
    body["metadata"]["name"] = example.workbench.workspace
    example.workbench.apply(body)
    example.applied.add("platform/workspaces.yaml")


def _tools_are_as_their_own_kinds_want_them(example: Example) -> None:
    """By the API server, with the CRDs of Argo CD and Flux: no field that they don't know, none that is wrong."""
    management = example.workbench.stage.management
    for crd in gitops_crds():
        management.kubectl("apply", "--server-side", "-f", str(crd))
    for name in NAMESPACES:
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        management.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(body))
    for name in (*ARGO_CD, *FLUX):
        wait_for(functools.partial(_accepted, example, name), f"{name} is accepted", 30)
        example.applied.add(name)


def _accepted(example: Example, name: str) -> bool:
    """Kinds are served a moment after they are established; any other refusal is one."""
    try:
        example.workbench.stage.management.kubectl(
            "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", str(example.folder / name)
        )
    except KubectlError as error:
        if "no matches for kind" in error.stderr or "could not find the requested resource" in error.stderr:
            return False
        raise
    return True
