"""The chart's generated files and alerts: all that is said twice is said alike."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from tools.chart import CHART, SCHEMA, rights_template, values
from tools.generate import ROOT

from tenantry import __version__
from tenantry.cli.operator import operator

Json = dict[str, Any]

LEFT_TO_THE_CLUSTER = {"kubeconfig", "instance"}
ALERTS = ROOT / CHART / "files" / "alerts.yaml"
PAGES = ROOT / "docs" / "reference"


def schema() -> Json:
    body: Json = json.loads((ROOT / SCHEMA).read_text(encoding="utf-8"))
    return body


def alerts() -> list[Json]:
    return [rule for group in yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]]


def test_the_chart_is_of_the_operators_version() -> None:
    about = yaml.safe_load((ROOT / CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert (about["version"], about["appVersion"]) == (__version__, __version__)


def test_every_flag_of_the_operator_can_be_set_by_a_value() -> None:
    template = (ROOT / CHART / "templates" / "deployment.yaml").read_text(encoding="utf-8")
    flags = {option.opts[0] for option in operator.params if option.name not in LEFT_TO_THE_CLUSTER}
    assert [flag for flag in sorted(flags) if flag not in template] == []


def test_by_default_the_chart_runs_the_operator_as_it_runs_by_default() -> None:
    manifest = yaml.safe_load_all((ROOT / "deploy" / "operator.yaml").read_text(encoding="utf-8"))
    (deployment,) = (body for body in manifest if body["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    said = operator.make_context("operator", [*container["args"]]).params
    usual = operator.make_context("operator", []).params
    said.pop("log_format")  # for machines, as containers' logs are read by these
    assert said == {name: usual[name] for name in said}


def test_the_values_are_the_schemas_defaults() -> None:
    def defaults(field: Json) -> Json:
        return {
            name: inner["default"] if "default" in inner else defaults(inner)
            for name, inner in field["properties"].items()
            if "default" in inner or "properties" in inner
        }

    assert yaml.safe_load(values(schema())) == defaults(schema())


def test_no_object_of_the_values_takes_what_the_schema_does_not_know() -> None:
    def open_ones(field: Json, path: str) -> list[str]:
        found = [path] if "properties" in field and field.get("additionalProperties") is not False else []
        for name, inner in field.get("properties", {}).items():
            found += open_ones(inner, f"{path}.{name}")
        return found + (open_ones(field["items"], f"{path}[]") if "items" in field else [])

    assert open_ones(schema(), "") == []


def test_rights_become_a_template_with_the_releases_labels_and_without_the_namespace() -> None:
    labels = "  labels: {app.kubernetes.io/name: tenantry}\n"
    made = rights_template(
        "# About the file.\nkind: Namespace\nmetadata: {name: tenantry-system}\n---\n"
        f"# Why.\nkind: Role\nmetadata:\n  name: a\n  namespace: tenantry-system\n{labels}---\n"
        "kind: ClusterRole\nmetadata:\n  name: b\n  labels:\n    app.kubernetes.io/name: tenantry\n"
        '    rbac.authorization.k8s.io/aggregate-to-view: "true"\n'
    )
    assert "Namespace" not in made
    assert "# Why.\nkind: Role" in made
    assert '  namespace: {{ include "tenantry.namespace" . }}\n' in made
    assert made.count('{{- include "tenantry.labels" . | nindent 4 }}') == 2
    optional = (
        '    {{- if .Values.workspaceRoles.aggregate }}\n    rbac.authorization.k8s.io/aggregate-to-view: "true"\n'
    )
    assert optional in made


def test_a_manifest_that_would_be_taken_for_a_template_is_refused() -> None:
    with pytest.raises(ValueError, match="double braces"):
        rights_template("kind: Role\nmetadata: {name: '{{ x }}'}\n")


def test_alerts_ask_only_for_metrics_and_labels_that_there_are() -> None:
    page = (PAGES / "metrics.md").read_text(encoding="utf-8")
    known = {
        name: set(re.findall(r"`(\w+)`", labels)) | {"namespace", "job", "le"}
        for name, labels in re.findall(r"^\| `(\w+)` \| \w+ \| ([^|]*) \|", page, re.MULTILINE)
    }
    asked = [(name, labels) for rule in alerts() for name, labels in re.findall(r"\b(\w+)\{([^}]*)\}", rule["expr"])]
    assert len(asked) >= len(alerts())
    for name, labels in asked:
        metric = name.removesuffix("_bucket")
        assert metric in known
        assert set(re.findall(r"(\w+)=", labels)) <= known[metric]


def test_alerts_look_only_at_what_the_chart_collects() -> None:
    for rule in alerts():
        for labels in re.findall(r"\{([^}]*)\}", rule["expr"]):
            assert 'namespace="tenantry-system",job="tenantry-operator"' in labels


def test_every_alert_says_what_is_wrong_and_the_page_of_alerts_what_to_do() -> None:
    page = (PAGES / "alerts.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\w+)$", page, re.MULTILINE) == [rule["alert"] for rule in alerts()]
    for rule in alerts():
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["annotations"].keys() == {"summary", "description"}
