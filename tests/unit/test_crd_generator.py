"""The CRD generator: what of a pydantic model a structural schema can say is said, and the rest is refused by name."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, create_model

from tenantry.api.base import Column, Kind, Model, Rule, rules
from tenantry.api.conditions import Condition
from tenantry.api.crd import crd
from tenantry.api.resources import Resource
from tenantry.api.structural import SchemaError, structural_schema

Name = Annotated[str, Field(max_length=8)]


class Colour(StrEnum):
    """What it looks like."""

    RED = "red"
    BLUE = "blue"


class Part(Model):
    """A part
    of a whole.

    What only developers need to know.
    """

    size: int = 3
    label: Name | None = None


class Ruled(Model):
    """Has a rule."""

    model_config = ConfigDict(json_schema_extra=rules(Rule("self.a != ''", "a must be set", ".a")))

    a: Name = "x"


def field_schema(annotation: Any, default: Any = ..., *, bounded: bool = True, defaults: bool = True) -> dict[str, Any]:
    """The schema of the only field of a model."""
    model = create_model("Sample", __base__=Model, value=(annotation, default))
    schema = structural_schema(model, "Sample.spec", bounded=bounded, defaults=defaults)
    field: dict[str, Any] = schema["properties"]["value"]
    return field


# --- what is rewritten ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (Name, {"type": "string", "maxLength": 8}),
        (bool, {"type": "boolean"}),
        (Annotated[int, Field(ge=1, le=9)], {"type": "integer", "minimum": 1, "maximum": 9}),
        (Annotated[int, Field(gt=0)], {"type": "integer", "minimum": 0, "exclusiveMinimum": True}),
        (Annotated[float, Field(lt=1)], {"type": "number", "maximum": 1, "exclusiveMaximum": True}),
        (Literal["a"], {"type": "string", "enum": ["a"]}),
        (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}),
        (Colour, {"description": "What it looks like.", "type": "string", "enum": ["red", "blue"]}),
        (datetime, {"type": "string", "format": "date-time"}),
        (dict[str, Any], {"type": "object", "x-kubernetes-preserve-unknown-fields": True}),
        (Any, {"x-kubernetes-preserve-unknown-fields": True}),
    ],
    ids=str,
)
def test_a_type_becomes_its_structural_schema(annotation: Any, expected: dict[str, Any]) -> None:
    assert field_schema(annotation) == expected


def test_an_optional_field_is_one_that_is_not_required() -> None:
    model = create_model("Sample", __base__=Model, may=(Name | None, None), must=(Name, ...))
    schema = structural_schema(model, "Sample.spec", bounded=True, defaults=True)
    assert schema["properties"]["may"] == schema["properties"]["must"] == {"type": "string", "maxLength": 8}
    assert schema["required"] == ["must"]


def test_a_list_is_atomic_unless_it_says_otherwise() -> None:
    assert field_schema(Annotated[list[Name], Field(max_length=2)])["x-kubernetes-list-type"] == "atomic"
    keyed = field_schema(
        Annotated[list[Part], Field(max_length=2)],
        Field(json_schema_extra=rules(x_kubernetes_list_type="map", x_kubernetes_list_map_keys=["label"])),
    )
    assert keyed["x-kubernetes-list-type"] == "map"
    assert keyed["x-kubernetes-list-map-keys"] == ["label"]


def test_a_set_is_a_list_without_repetition() -> None:
    schema = field_schema(Annotated[frozenset[Name], Field(max_length=2)])
    assert schema["x-kubernetes-list-type"] == "set"
    assert "uniqueItems" not in schema  # the API server refuses the word


@pytest.mark.parametrize(
    "annotation",
    [
        int | Annotated[str, Field(max_length=9, pattern="^[0-9]+$")],
        (int | Annotated[str, Field(max_length=9, pattern="^[0-9]+$")]) | None,
    ],
)
def test_a_number_or_text_keeps_what_is_said_about_the_text(annotation: Any) -> None:
    assert field_schema(annotation) == {
        "x-kubernetes-int-or-string": True,
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "pattern": "^[0-9]+$",
        "maxLength": 9,
    }


def test_a_nested_model_stands_where_it_is_used_with_the_first_paragraph_of_its_docstring() -> None:
    assert field_schema(Part | None, None) == {
        "description": "A part of a whole.",
        "type": "object",
        "properties": {"size": {"type": "integer", "default": 3}, "label": {"type": "string", "maxLength": 8}},
    }


def test_a_fields_own_description_wins_over_that_of_its_model() -> None:
    assert field_schema(Part | None, Field(None, description="Mine.\nFolded."))["description"] == "Mine. Folded."


def test_the_rules_of_a_model_and_of_the_field_that_uses_it_both_hold() -> None:
    field = Field(Ruled(), json_schema_extra=rules(Rule("self == oldSelf", "stays")))
    assert [rule["message"] for rule in field_schema(Ruled, field)["x-kubernetes-validations"]] == [
        "a must be set",
        "stays",
    ]


def test_a_duration_loses_the_format_that_means_another_notation_to_kubernetes() -> None:
    assert field_schema(timedelta, bounded=False) == {"type": "string"}


def test_titles_examples_and_forbidden_extras_are_left_out() -> None:
    class Strict(BaseModel):
        model_config = ConfigDict(extra="forbid", title="Strictly")

        a: Annotated[int, Field(examples=[1], title="A")]

    assert field_schema(Strict) == {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


# --- keys of maps ---------------------------------------------------------------------------------------------
def test_what_is_said_about_the_keys_of_a_map_becomes_a_rule() -> None:
    key = Annotated[str, Field(min_length=1, max_length=9, pattern="^[a-z]+$")]
    schema = field_schema(Annotated[dict[key, Name], Field(max_length=3)])
    assert schema["additionalProperties"] == {"type": "string", "maxLength": 8}
    assert schema["maxProperties"] == 3
    assert schema["x-kubernetes-validations"] == [
        {
            "rule": "self.all(k, size(k) >= 1 && size(k) <= 9 && k.matches(r'^[a-z]+$'))",
            "message": "each key must be 1 to 9 characters long and of the form ^[a-z]+$",
        }
    ]


@pytest.mark.parametrize("key", [Colour, Literal["red", "blue"]])
def test_keys_of_a_fixed_set_become_a_rule(key: Any) -> None:
    schema = field_schema(Annotated[dict[key, Name], Field(max_length=3)])
    (rule,) = schema["x-kubernetes-validations"]
    assert rule == {"rule": "self.all(k, k in [r'red', r'blue'])", "message": "each key must be one of red, blue"}


def test_a_key_pattern_with_a_quote_is_still_one_cel_string() -> None:
    key = Annotated[str, Field(max_length=9, pattern="^[a']+$")]
    (rule,) = field_schema(Annotated[dict[key, Name], Field(max_length=3)])["x-kubernetes-validations"]
    assert rule["rule"] == """self.all(k, size(k) <= 9 && k.matches(r"^[a']+$"))"""


# --- defaults -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("annotation", "default"),
    [
        (Name | None, None),
        (Name, ""),
        (Annotated[list[Name], Field(max_length=1)], []),
        (Annotated[dict[Name, Name], Field(max_length=1)], {}),
    ],
)
def test_a_default_that_means_the_same_as_an_absent_field_is_not_filled_in(annotation: Any, default: Any) -> None:
    assert "default" not in field_schema(annotation, default)


@pytest.mark.parametrize(
    ("annotation", "default", "expected"),
    [
        (bool, False, False),
        (int, 0, 0),
        (Name, "x", "x"),
        (Colour, Colour.BLUE, "blue"),
        (Literal["None"], "None", "None"),
    ],
)
def test_a_default_that_says_something_is_filled_in(annotation: Any, default: Any, expected: Any) -> None:
    assert field_schema(annotation, default)["default"] == expected


def test_the_default_of_an_object_is_said_in_full_because_rules_see_it_before_anything_below_is_filled_in() -> None:
    assert field_schema(Part, Part())["default"] == {"size": 3}
    assert field_schema(Part, Part(size=4, label="x"))["default"] == {"size": 4, "label": "x"}


def test_an_object_without_defaults_below_has_none_itself() -> None:
    empty = create_model("Empty", __base__=Model, label=(Name | None, None))
    assert "default" not in field_schema(empty, empty())


def test_a_default_that_takes_back_the_default_of_a_field_is_refused() -> None:
    inner = create_model("Inner", __base__=Model, label=(Name | None, "x"))
    with pytest.raises(SchemaError, match=r"^Sample\.spec\.value: its default unsets label"):
        field_schema(inner, inner(label=None))


def test_a_status_has_no_defaults_so_that_what_was_written_is_read_back_unchanged() -> None:
    assert field_schema(Part, Part(), defaults=False)["properties"]["size"] == {"type": "integer"}


@given(st.recursive(st.integers() | st.text(max_size=3) | st.none(), lambda inner: st.lists(inner, max_size=2)))
def test_a_default_in_a_free_form_object_is_kept_as_it_is(value: Any) -> None:
    assert field_schema(dict[str, Any], {"a": value})["default"] == {"a": value}


# --- what is refused ------------------------------------------------------------------------------------------
class Tree(Model):
    """Contains itself."""

    child: Tree | None = None


@pytest.mark.parametrize(
    ("annotation", "problem"),
    [
        (str, "value: a string must have an upper bound"),
        (str | None, "value: a string must have an upper bound"),
        (list[Name], "value: a list must have an upper bound"),
        (Annotated[list[str], Field(max_length=1)], r"value\[\]: a string must have an upper bound"),
        (dict[Name, Name], "value: a map must have an upper bound"),
        (Annotated[dict[Name, str], Field(max_length=1)], r"value\.\*: a string must have an upper bound"),
        (Annotated[dict[str, Name], Field(max_length=1)], "value: a map's key must have an upper bound"),
        (dict[Name, Any], "value: the keys of a map with values of any type"),
        (int | str, "value: the string of an int | str must have an upper bound"),
        (int | bool, "value: a union other than int | str"),
        (Part | Ruled, "value: a union other than int | str"),
        (Annotated[int, Field(ge=1)] | Name, "value: a union other than int | str"),
        (Literal["a", 1], "value: values of more than one type"),
        (tuple[int, int], "value: prefixItems has no structural schema"),
        (Tree, r"value\.child: Tree contains itself"),
        (Annotated[int, Field(ge=0, gt=0)], "value: minimum and exclusiveMinimum"),
    ],
    ids=str,
)
def test_what_no_structural_schema_can_say_is_refused_with_the_field(annotation: Any, problem: str) -> None:
    with pytest.raises(SchemaError, match=r"^Sample\.spec\." + problem.replace("|", r"\|")):
        field_schema(annotation)


def test_a_model_used_twice_side_by_side_is_no_recursion() -> None:
    model = create_model("Sample", __base__=Model, a=(Part, ...), b=(Part, ...))
    properties = structural_schema(model, "Sample.spec", bounded=True, defaults=True)["properties"]
    assert properties["a"] == properties["b"]


# --- the definition around it ---------------------------------------------------------------------------------
class SampleStatus(Model):
    """What was seen."""

    observed_generation: int = -1
    conditions: list[Condition] = Field(default=[])
    note: str = "unbounded, for only the operator writes it"


SAMPLE = Kind(
    resource=Resource("tenantry.io", "v1alpha1", "Sample", "samples"),
    spec=Part,
    status=SampleStatus,
    description="A sample.",
    short_names=("smp",),
    columns=(
        Column("Size", ".spec.size", "integer", description="How big."),
        Column("Note", ".status.note", priority=1),
    ),
    root_rules=(Rule("size(self.metadata.name) <= 40", "too long"),),
)


def test_a_kind_becomes_a_definition_that_kubectl_can_name_and_list() -> None:
    body = crd(SAMPLE)
    assert list(body) == ["apiVersion", "kind", "metadata", "spec"]
    assert body["metadata"] == {"name": "samples.tenantry.io"}
    assert body["spec"]["scope"] == "Namespaced"
    assert body["spec"]["names"] == {
        "kind": "Sample",
        "listKind": "SampleList",
        "plural": "samples",
        "singular": "sample",
        "shortNames": ["smp"],
        "categories": ["tenantry"],
    }
    (version,) = body["spec"]["versions"]
    assert (version["name"], version["served"], version["storage"]) == ("v1alpha1", True, True)
    assert version["subresources"] == {"status": {}}
    assert version["additionalPrinterColumns"] == [
        {"name": "Size", "type": "integer", "jsonPath": ".spec.size", "description": "How big."},
        {"name": "Note", "type": "string", "jsonPath": ".status.note", "priority": 1},
    ]


def test_the_root_has_the_rules_on_the_name_and_needs_a_spec() -> None:
    root = crd(SAMPLE)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert root["required"] == ["spec"]
    assert root["properties"]["metadata"] == {"type": "object", "properties": {"name": {"type": "string"}}}
    assert root["x-kubernetes-validations"] == [
        {"rule": "size(self.metadata.name) <= 40", "message": "too long", "fieldPath": ".metadata.name"}
    ]


def test_an_object_nobody_has_looked_at_says_so_in_its_status() -> None:
    status = crd(SAMPLE)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
    assert status["default"] == {"observedGeneration": -1}
    assert status["properties"]["conditions"]["x-kubernetes-list-map-keys"] == ["type"]
    assert status["properties"]["conditions"]["x-kubernetes-list-type"] == "map"


def test_a_kind_without_status_has_no_subresource() -> None:
    kind = Kind(resource=SAMPLE.resource, spec=Part, status=None, description="A sample.", short_names=())
    version = crd(kind)["spec"]["versions"][0]
    assert "subresources" not in version
    assert "status" not in version["schema"]["openAPIV3Schema"]["properties"]
