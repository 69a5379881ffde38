"""The schema of the chart of Tenants: as strict as the CustomResourceDefinition it is made of."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import yaml
from tools.generate import ROOT
from tools.tenants_chart import CHART, strict

from tenantry import __version__
from tenantry.api.crd import crd
from tenantry.api.tenant import KIND

Json = dict[str, Any]


def schema() -> Json:
    body: Json = json.loads((ROOT / CHART / "values.schema.json").read_text(encoding="utf-8"))
    return body


def fields(field: Json, path: str = "spec") -> Iterator[tuple[str, Json]]:
    """Every field below a schema, and itself, with where it is."""
    yield path, field
    for name, inner in field.get("properties", {}).items():
        yield from fields(inner, f"{path}.{name}")
    if "items" in field:
        yield from fields(field["items"], f"{path}[]")
    if isinstance(field.get("additionalProperties"), dict):
        yield from fields(field["additionalProperties"], f"{path}.*")


def test_the_chart_is_of_the_operators_version() -> None:
    about = yaml.safe_load((ROOT / CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert (about["version"], about["appVersion"]) == (__version__, __version__)


def test_a_spec_in_the_values_has_the_fields_of_a_tenants_and_their_limits() -> None:
    served = crd(KIND)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    there, here = dict(fields(served)), dict(fields(schema()["definitions"]["spec"]))
    assert here.keys() == there.keys()
    for path, field in here.items():
        for limit in (
            "type",
            "enum",
            "pattern",
            "maxLength",
            "minLength",
            "minimum",
            "maximum",
            "required",
            "maxItems",
        ):
            assert field.get(limit) == there[path].get(limit), path


def test_no_object_of_the_values_takes_what_the_schema_does_not_know() -> None:
    root = schema()
    known = [*fields(root, "values"), *fields(root["definitions"]["spec"])]
    assert [path for path, field in known if "properties" in field and field["additionalProperties"] is not False] == []


def test_a_schema_becomes_strict_all_the_way_down_and_loses_its_defaults() -> None:
    made = strict(
        {
            "type": "object",
            "x-kubernetes-validations": [{"rule": "true"}],
            "required": ["a"],
            "properties": {
                "a": {
                    "type": "array",
                    "maxItems": 2,
                    "items": {"type": "object", "properties": {"b": {"type": "string"}}},
                },
                "c": {"type": "object", "default": {}, "additionalProperties": {"type": "string", "maxLength": 3}},
            },
        }
    )
    inner = {"type": "object", "additionalProperties": False, "properties": {"b": {"type": "string"}}}
    assert made == {
        "type": "object",
        "additionalProperties": False,
        "required": ["a"],
        "properties": {
            "a": {"type": "array", "maxItems": 2, "items": inner},
            "c": {"type": "object", "additionalProperties": {"type": "string", "maxLength": 3}},
        },
    }
