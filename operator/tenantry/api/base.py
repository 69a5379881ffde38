"""What all kinds are made of: the model base, CEL rules, printer columns, bounded types, object metadata."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from tenantry.api.resources import Resource


class Model(BaseModel):
    """Base of everything read from a custom resource: frozen, camelCase outside, and lenient about unknown fields."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")


@dataclass(frozen=True, slots=True)
class Rule:
    """A validation rule in CEL, enforced by the API server.

    Attributes:
        rule: The expression; `self` is the value it stands at, `oldSelf` makes it a transition rule.
        message: What the user reads: names the field, the problem and the way out.
        field_path: Where the API server says the problem is, relative to the value, such as `.placement`.
    """

    rule: str
    message: str
    field_path: str = ""

    def schema(self) -> dict[str, str]:
        """The entry of `x-kubernetes-validations`."""
        entry = {"rule": self.rule, "message": self.message}
        if self.field_path:
            entry["fieldPath"] = self.field_path
        return entry


def rules(*entries: Rule, **extra: Any) -> dict[str, Any]:
    """`json_schema_extra` with validation rules (and more `x-kubernetes-*` keys, given with underscores)."""
    schema: dict[str, Any] = {key.replace("_", "-"): value for key, value in extra.items()}
    if entries:
        schema["x-kubernetes-validations"] = [entry.schema() for entry in entries]
    return schema


def immutable(name: str, why: str) -> Rule:
    """On the parent: a field that can't be changed, set or removed later.

    A rule on the field alone (`self == oldSelf`) is got round by removing it.
    """
    return Rule(
        f"has(self.{name}) == has(oldSelf.{name}) && (!has(self.{name}) || self.{name} == oldSelf.{name})",
        f"{name} can't be changed after creation: {why}",
        f".{name}",
    )


def not_yet(name: str, instead: str = "leave it out") -> Rule:
    """On the parent: a field whose feature is not built yet."""
    return Rule(f"!has(self.{name})", f"{name} is not supported yet: {instead}", f".{name}")


def window_bound(name: str) -> Rule:
    """On the parent: a deletion window is at most a year."""
    return Rule(
        f"!has(self.{name}) || duration(self.{name}) <= duration('8760h')",
        f"{name} can be at most 8760h (a year)",
        f".{name}",
    )


def exactly_one_of(*members: str) -> Rule:
    """On a union: one member is set, no more and no less."""
    count = " + ".join(f"(has(self.{member}) ? 1 : 0)" for member in members)
    return Rule(f"{count} == 1", f"exactly one of {', '.join(members)} must be set")


@dataclass(frozen=True, slots=True)
class Column:
    """One column of `kubectl get`. Priority 1 shows under `-o wide` only."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0
    description: str = ""


AGE = Column("Age", ".metadata.creationTimestamp", "date")
READY = Column("Ready", '.status.conditions[?(@.type=="Ready")].status')
REASON = Column("Reason", '.status.conditions[?(@.type=="Ready")].reason')
MESSAGE = Column("Message", '.status.conditions[?(@.type=="Ready")].message', priority=1)


@dataclass(frozen=True, slots=True)
class Kind:
    """One custom resource: what the CRD generator needs to know beside the models.

    Attributes:
        status: None for a kind without a status subresource.
        root_rules: CEL rules on the whole object, where `self.metadata.name` can be read.
    """

    resource: Resource
    spec: type[Model]
    status: type[Model] | None
    description: str
    short_names: tuple[str, ...]
    columns: tuple[Column, ...] = field(default=(READY, REASON, AGE))
    root_rules: tuple[Rule, ...] = ()


# --- bounded types --------------------------------------------------------------------------------------------
LABEL_PATTERN = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"
HOST_PATTERN = r"^(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
DURATION_PATTERN = r"^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$"
QUANTITY_PATTERN = r"^[+]?([0-9]+|[0-9]+\.[0-9]*|\.[0-9]+)(([KMGTPE]i)|[numkMGTPE]|([eE][+-]?[0-9]+))?$"

Label = Annotated[str, Field(min_length=1, max_length=63, pattern=LABEL_PATTERN)]
ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")]
Host = Annotated[str, Field(min_length=3, max_length=253, pattern=HOST_PATTERN)]
Text = Annotated[str, Field(max_length=1024)]
ShortText = Annotated[str, Field(max_length=128)]
Port = Annotated[int, Field(ge=1, le=65535)]
Duration = Annotated[str, Field(min_length=1, max_length=32, pattern=DURATION_PATTERN)]
"""A duration as Go writes it: `1h30m`, `0s` (pydantic's own `format: duration` would mean ISO 8601)."""
Quantity = int | Annotated[str, Field(max_length=32, pattern=QUANTITY_PATTERN)]
"""A resource quantity, as a number or text: `2`, `"500m"`, `4Gi`."""
Cidr = Annotated[str, Field(min_length=3, max_length=43, pattern=r"^[0-9a-fA-F.:]+/[0-9]{1,3}$")]
LabelMap = Annotated[
    dict[Annotated[str, Field(max_length=317)], Annotated[str, Field(max_length=63)]], Field(max_length=32)
]

_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ns|us|µs|ms|s|m|h)")
_LONGEST_DURATION = (2**63 - 1) / 1e9
_DURATION_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: str) -> timedelta:
    """A Go duration as a timedelta.

    Raises:
        ValueError: if it is none (Go's `time.ParseDuration`, without signs).
    """
    if not re.fullmatch(DURATION_PATTERN, text):
        raise ValueError(f"{text!r} is not a duration such as 90s, 15m or 1h30m")
    seconds = sum(float(number) * _DURATION_UNITS[unit] for number, unit in _DURATION_PART.findall(text))
    if seconds > _LONGEST_DURATION:
        raise ValueError(f"{text!r} is longer than Go's longest duration, about 292 years")
    return timedelta(seconds=seconds)


# --- shared pieces of specs -----------------------------------------------------------------------------------
class LabelSelectorRequirement(Model):
    """One requirement of a label selector."""

    key: Annotated[str, Field(max_length=317)]
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: Annotated[list[Annotated[str, Field(max_length=63)]], Field(max_length=32)] = []


class LabelSelector(Model):
    """A label selector over namespaces, with the meaning it has everywhere in Kubernetes; an empty one selects all."""

    match_labels: LabelMap = {}
    match_expressions: Annotated[list[LabelSelectorRequirement], Field(max_length=16)] = []


class AllowedWorkspaces(Model):
    """Which workspaces (namespaces of the management cluster) may use this object."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "(self.from == 'Selector') == has(self.selector)",
                "selector must be set with from: Selector, and with nothing else",
                ".selector",
            )
        )
    )

    from_: Annotated[Literal["All", "Selector", "None"], Field(alias="from")] = "None"
    selector: LabelSelector | None = None


class SecretRef(Model):
    """A Secret in the operator's namespace. Which keys are read is said where it is used."""

    name: ObjectName


class ObjectMeta(Model):
    """The part of an object's metadata that decisions look at."""

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    finalizers: list[str] = []
