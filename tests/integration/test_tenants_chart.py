"""The chart of Tenants by the real helm: what it makes and refuses, and a life of a release, waited for by kstatus."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.controlplane.helm import Helm, HelmError
from tests.integration.examples.example import EXAMPLES, documents
from tests.integration.tenants import condition
from tests.scene.chart import objects
from tests.scene.installation import ROOT
from tools.tenants_chart import CHART

if TYPE_CHECKING:
    from tests.controlplane.access import ClusterAccess
    from tests.integration.tenants import Workbench

Json = dict[str, Any]

FOLDER = ROOT / CHART
CI_VALUES = tuple(sorted((FOLDER / "ci").glob("*-values.yaml")))
EVERYTHING = FOLDER / "ci" / "everything-values.yaml"
RELEASE = "blue"
NO_DATABASE = {"plan": "basic", "database": {"mode": "None"}}
TOO_MANY = {"spec": {"limits": {"MAX_USERS": "1000000"}}}


def rendered(helm: Helm, values: Json | Path, namespace: str = "shop") -> dict[str, Json]:
    """The Tenants by name that the chart makes of values."""
    text = values.read_text(encoding="utf-8") if isinstance(values, Path) else yaml.safe_dump(values)
    made = helm("template", RELEASE, str(FOLDER), "--namespace", namespace, "--values", "-", input=text)
    found = {body["metadata"]["name"]: body for body in objects(made)}
    assert all(body["kind"] == "Tenant" for body in found.values())
    return found


@pytest.mark.parametrize("values", CI_VALUES, ids=lambda path: path.stem)
def test_helm_finds_no_fault_and_the_api_server_accepts_all_of_it(
    helm: Helm, management: ClusterAccess, namespace: str, values: Path
) -> None:
    helm("lint", "--strict", str(FOLDER), "--namespace", namespace, "--values", str(values))
    for body in rendered(helm, values, namespace).values():
        management.kubectl(
            "apply", "--server-side", "--dry-run=server", "--validate=strict", "--warnings-as-errors", "-f", "-",
            input=yaml.safe_dump(body),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({}, "/tenants"),
        ({"tenants": {}}, "/tenants"),
        ({"tenants": {"acme": None}}, "/tenants/acme"),
        ({"tenants": {"Acme": {}}}, "Acme"),
        ({"tenants": {"a" * 41: {}}}, "a" * 41),
        ({"tenants": {"acme": {"plan": "basic"}}}, "plan"),
        ({"tenants": {"acme": {"spec": {"plna": "basic"}}}}, "plna"),
        ({"tenants": {"acme": {"spec": {"limits": {"MAX_USERS": 5}}}}}, "/tenants/acme/spec/limits/MAX_USERS"),
        ({"tenants": {"acme": {"spec": {"domains": [{}]}}}}, "/tenants/acme/spec/domains/0"),
        ({"tenants": {"acme": {"spec": {"deletion": {"policy": "Keep"}}}}}, "/tenants/acme/spec/deletion/policy"),
        ({"tenants": {"acme": {"labels": {"team": "so so"}}}}, "/tenants/acme/labels/team"),
        ({"tenants": {"acme": {}}, "defaults": {"spec": {"enabeld": True}}}, "enabeld"),
        ({"tenants": {"acme": {}}, "keep": "yes"}, "/keep"),
    ],
    ids=str,
)
def test_a_wrong_value_is_refused_and_its_field_is_named(helm: Helm, said: Json, field: str) -> None:
    with pytest.raises(HelmError) as refused:
        rendered(helm, said)
    assert field in refused.value.said


def test_what_a_tenant_says_goes_over_the_defaults_and_unions_are_taken_as_a_whole(helm: Helm) -> None:
    made = rendered(helm, EVERYTHING)
    defaults = yaml.safe_load(EVERYTHING.read_text(encoding="utf-8"))["defaults"]
    assert made["globex"]["spec"] == defaults["spec"]
    spec, metadata = made["acme"]["spec"], made["acme"]["metadata"]
    assert spec["env"] == {"LOG_LEVEL": "debug", "REGION": "eu"}
    assert spec["placement"] == {"cluster": "eu-1"}
    assert spec["database"] == {"mode": "None"}
    assert spec["deletion"] == {"policy": "Delete", "protected": False}
    assert spec["displayName"] == "{{ Acme }} & Sons"
    assert (metadata["labels"]["team"], made["globex"]["metadata"]["labels"]["team"]) == ("red", "blue")
    assert metadata["annotations"] == {
        "example.com/owner": "anna", "helm.sh/resource-policy": "keep", "tenantry.io/requestedAt": "2026-01-01",
    }  # fmt: skip


def test_a_tenants_values_leave_no_trace_in_the_next_one(helm: Helm) -> None:
    first = {"env": {"A": "1"}, "placement": {"cluster": "eu-1"}, "database": {"mode": "None"}}
    defaults = {"spec": {"env": {"B": "2"}, "placement": {"region": "fra"}}}
    made = rendered(helm, {"defaults": defaults, "tenants": {"a": {"spec": first}, "b": {}}})
    assert made["b"]["spec"] == defaults["spec"]
    assert "annotations" not in made["b"]["metadata"]


def test_every_tenant_of_the_examples_can_be_said_in_values_and_comes_out_as_it_was(helm: Helm) -> None:
    bodies = itertools.chain.from_iterable(documents(path) for path in sorted(EXAMPLES.rglob("*.yaml")))
    tenants = [body for body in bodies if body["kind"] == "Tenant"]
    assert len(tenants) > 15
    values = {f"t{number}": {"spec": body["spec"]} for number, body in enumerate(tenants)}
    made = rendered(helm, {"tenants": values})
    assert {name: body["spec"] for name, body in made.items()} == {name: each["spec"] for name, each in values.items()}


def test_a_release_is_waited_for_until_its_tenants_are_ready_and_fails_for_one_that_stalls(
    helm: Helm, workbench: Workbench, tmp_path: Path
) -> None:
    def release(verb: str, tenants: Json, seconds: int = 60) -> str:
        values = tmp_path / "values.yaml"
        values.write_text(yaml.safe_dump({"tenants": tenants, "defaults": {"spec": NO_DATABASE}}))
        return cluster(
            verb, RELEASE, str(FOLDER), "--namespace", workbench.workspace, "--values", str(values), "--wait",
            "--timeout", f"{seconds}s",
        )  # fmt: skip

    cluster = dataclasses.replace(helm, kubeconfig=workbench.stage.management.kubeconfig_path)
    release("install", {"acme": {}, "globex": {}})
    assert condition(workbench.get("acme"))["status"] == "True"
    assert condition(workbench.get("globex"))["status"] == "True"
    with pytest.raises(HelmError):
        release("upgrade", {"acme": TOO_MANY, "globex": {}}, seconds=20)
    assert condition(workbench.get("acme"), "Stalled")["reason"] == "PlanExceeded"
    release("upgrade", {"acme": {}})
    assert condition(workbench.get("acme"))["status"] == "True"
    workbench.gone("globex")
    cluster("uninstall", RELEASE, "--namespace", workbench.workspace)
    workbench.gone("acme")


def test_kept_tenants_outlive_the_release(helm: Helm, workbench: Workbench, tmp_path: Path) -> None:
    cluster = dataclasses.replace(helm, kubeconfig=workbench.stage.management.kubeconfig_path)
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump({"tenants": {"acme": {"spec": NO_DATABASE}}, "keep": True}))
    where = ("--namespace", workbench.workspace)
    cluster("install", RELEASE, str(FOLDER), *where, "--values", str(values), "--wait", "--timeout", "60s")
    cluster("uninstall", RELEASE, *where)
    assert "deletionTimestamp" not in workbench.ready()["metadata"]
