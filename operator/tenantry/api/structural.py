"""Rewrites the JSON schema of a pydantic model into a structural schema, the OpenAPI dialect of the API server."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tenantry.api.base import Model

Json = dict[str, Any]

VALIDATIONS: Final = "x-kubernetes-validations"
INT_OR_STRING: Final = "x-kubernetes-int-or-string"
PRESERVE_UNKNOWN: Final = "x-kubernetes-preserve-unknown-fields"
LIST_TYPE: Final = "x-kubernetes-list-type"

_KEPT: Final = (
    "pattern", "minLength", "maxLength", "minimum", "maximum", "multipleOf", "minItems", "maxItems", "minProperties",
    "maxProperties",
)  # fmt: skip
_REWRITTEN: Final = frozenset(
    {
        "type", "description", "default", "enum", "const", "anyOf", "properties", "required", "items", "format",
        "uniqueItems", "additionalProperties", "patternProperties", "propertyNames", "exclusiveMinimum",
        "exclusiveMaximum",
    }
)  # fmt: skip
_DROPPED: Final = frozenset({"title", "examples", "writeOnly", "readOnly", "deprecated"})
_FORMATS: Final = frozenset({"date-time", "date", "ipv4", "ipv6", "cidr", "byte", "uuid", "int32", "int64"})
"""Formats that mean the same to the API server. Not `duration`: pydantic means ISO 8601, Kubernetes means Go's."""
_BOUNDED_FORMATS: Final = frozenset({"date-time", "date", "ipv4", "ipv6", "cidr", "uuid"})
_SCALARS: Final = frozenset({"string", "integer", "number", "boolean"})

_ABSENT: Final = object()


class SchemaError(ValueError):
    """A model says what a structural schema can't say, or leaves open what must be bounded. Names the field."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")


def structural_schema(model: type[Model], path: str, *, bounded: bool, defaults: bool) -> Json:
    """The structural schema of a model, as validation of input sees it, with the names that users write.

    Args:
        model: Its docstring, `Field` constraints and `json_schema_extra` all end up in the schema.
        path: What errors call the model, such as `Tenant.spec`.
        bounded: Refuse strings, lists and maps without an upper bound: the API server estimates the cost of CEL rules
            by these bounds and refuses the whole CRD when a rule could cost too much.
        defaults: Keep the models' defaults. Not for a status: what the operator wrote must be read back unchanged.

    Raises:
        SchemaError: for what the API server would refuse or would silently take for something else.
    """
    raw = model.model_json_schema(by_alias=True, mode="validation")
    definitions = raw.pop("$defs", {})
    return _Rewriter(definitions, bounded, defaults).node(raw, path, ())


@dataclass(frozen=True, slots=True)
class _Rewriter:
    """One run over one model. `refs` are the definitions around a node: they tell recursion from repetition."""

    definitions: Mapping[str, Json]
    bounded: bool
    defaults: bool

    def node(self, source: Json, path: str, refs: tuple[str, ...]) -> Json:
        raw, refs = self._inlined(source, path, refs)
        _refuse_unknown_keywords(raw, path)
        out: Json = {}
        if description := _first_paragraph(str(raw.get("description", ""))):
            out["description"] = description
        out |= self._shape(raw, path, refs)
        default = _default(raw["default"], out, path) if self.defaults and "default" in raw else _ABSENT
        if default is not _ABSENT:
            out["default"] = default
        out |= {key: value for key, value in raw.items() if key.startswith("x-kubernetes-") and key != VALIDATIONS}
        validations = [*raw.get(VALIDATIONS, ()), *self._key_rules(raw, path, refs)]
        if validations:
            out[VALIDATIONS] = validations
        return out

    def _inlined(self, raw: Json, path: str, refs: tuple[str, ...]) -> tuple[Json, tuple[str, ...]]:
        """The node without `$ref` and without `or null`: an optional field is simply one that is not required."""
        while True:
            if "$ref" in raw:
                name = raw["$ref"].removeprefix("#/$defs/")
                if name in refs:
                    raise SchemaError(path, f"{name} contains itself; a structural schema can't be recursive")
                refs = (*refs, name)
                raw = _merged(self.definitions[name], _without(raw, "$ref"))
            elif any(option == {"type": "null"} for option in raw.get("anyOf", ())):
                options = [option for option in raw["anyOf"] if option != {"type": "null"}]
                raw = _merged(options[0] if len(options) == 1 else {"anyOf": options}, _without(raw, "anyOf"))
            elif len(raw.get("anyOf", ())) == 1:
                raw = _merged(raw["anyOf"][0], _without(raw, "anyOf"))
            else:
                return raw, refs

    def _shape(self, raw: Json, path: str, refs: tuple[str, ...]) -> Json:
        """Type and constraints."""
        if "anyOf" in raw:
            return self._int_or_string(raw, path)
        match raw.get("type"):
            case "object" if "properties" in raw:
                return self._object(raw, path, refs)
            case "object":
                return self._map(raw, path, refs)
            case "array":
                return self._list(raw, path, refs)
            case str(name) if name in _SCALARS:
                return self._scalar(raw, path)
            case None if not {"enum", "const"} & raw.keys():
                return {PRESERVE_UNKNOWN: True}
        raise SchemaError(path, "values of more than one type have no structural schema")

    def _object(self, raw: Json, path: str, refs: tuple[str, ...]) -> Json:
        properties = {name: self.node(value, f"{path}.{name}", refs) for name, value in raw["properties"].items()}
        out: Json = {"type": "object", "properties": properties}
        if raw.get("required"):
            out["required"] = list(raw["required"])
        if raw.get("additionalProperties"):
            out[PRESERVE_UNKNOWN] = True
        return out

    def _map(self, raw: Json, path: str, refs: tuple[str, ...]) -> Json:
        patterns = list(raw.get("patternProperties", {}).values())
        values = patterns[0] if patterns else raw.get("additionalProperties", {})
        if values is True or not values:  # without properties, an object of which nothing is known
            return {"type": "object", PRESERVE_UNKNOWN: True}
        if len(patterns) > 1:
            raise SchemaError(path, "patternProperties have no structural schema")
        self._require_bound("maxProperties" in raw, path, "a map", "Field(max_length=...)")
        return {
            "type": "object",
            "additionalProperties": self.node(values, f"{path}.*", refs),
            **{key: raw[key] for key in _KEPT if key in raw},
        }

    def _list(self, raw: Json, path: str, refs: tuple[str, ...]) -> Json:
        if "items" not in raw:
            raise SchemaError(path, "a list needs one schema for all its items")
        self._require_bound("maxItems" in raw, path, "a list", "Field(max_length=...)")
        return {
            "type": "array",
            "items": self.node(raw["items"], f"{path}[]", refs),
            **{key: raw[key] for key in _KEPT if key in raw},
            LIST_TYPE: "set" if raw.get("uniqueItems") else "atomic",
        }

    def _scalar(self, raw: Json, path: str) -> Json:
        out: Json = {"type": raw["type"]}
        if raw.get("format") in _FORMATS:
            out["format"] = raw["format"]
        if "const" in raw:
            out["enum"] = [raw["const"]]
        elif "enum" in raw:
            out["enum"] = list(raw["enum"])
        for exclusive, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
            if exclusive in raw:
                if bound in raw:
                    raise SchemaError(path, f"{bound} and {exclusive} can't stand together in OpenAPI 3.0")
                out |= {bound: raw[exclusive], exclusive: True}
        out |= {key: raw[key] for key in _KEPT if key in raw}
        if raw["type"] == "string":
            ends = "maxLength" in raw or "enum" in out or out.get("format") in _BOUNDED_FORMATS
            self._require_bound(ends, path, "a string", "Field(max_length=...)")
        return out

    def _int_or_string(self, raw: Json, path: str) -> Json:
        options = {option.get("type"): option for option in raw["anyOf"]}
        if len(raw["anyOf"]) != 2 or options.keys() != {"integer", "string"} or options["integer"].keys() != {"type"}:
            raise SchemaError(path, "a union other than int | str has no structural schema")
        text = _merged(options["string"], raw)
        self._require_bound("maxLength" in text, path, "the string of an int | str", "Field(max_length=...)")
        # The API server applies what is said about strings to strings only.
        return {
            INT_OR_STRING: True,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            **{key: text[key] for key in _KEPT if key in text},
        }

    def _key_rules(self, raw: Json, path: str, refs: tuple[str, ...]) -> Iterable[dict[str, str]]:
        """What is said about the keys of a map, as a rule in CEL: a structural schema has no words for it."""
        if raw.get("type") != "object" or "properties" in raw:
            return
        keys, _ = self._inlined(raw.get("propertyNames", {}), path, refs)
        patterns = [*raw.get("patternProperties", {}), *([keys["pattern"]] if "pattern" in keys else [])]
        if unknown := keys.keys() - {"type", "title", "description", "enum", "pattern", "minLength", "maxLength"}:
            raise SchemaError(path, f"{', '.join(sorted(unknown))} can't be said of the keys of a map")
        if raw.get("additionalProperties") is True:
            if keys.keys() - {"type", "title"}:
                raise SchemaError(path, "the keys of a map with values of any type are out of reach of rules")
            return
        self._require_bound(bool({"maxLength", "enum"} & keys.keys()), path, "a map's key", "max_length on the key")
        checks, words = [], []
        if "enum" in keys:
            checks.append(f"k in [{', '.join(_cel_string(key) for key in keys['enum'])}]")
            words.append(f"one of {', '.join(keys['enum'])}")
        if "maxLength" in keys:
            at_least = keys.get("minLength", 0)
            checks += [f"size(k) >= {at_least}"] * bool(at_least) + [f"size(k) <= {keys['maxLength']}"]
            words.append(f"{at_least or 'at most'}{' to' * bool(at_least)} {keys['maxLength']} characters long")
        for pattern in patterns:
            checks.append(f"k.matches({_cel_string(pattern)})")
            words.append(f"of the form {pattern}")
        if checks:
            yield {"rule": f"self.all(k, {' && '.join(checks)})", "message": f"each key must be {' and '.join(words)}"}

    def _require_bound(self, there: bool, path: str, what: str, how: str) -> None:
        if self.bounded and not there:
            raise SchemaError(path, f"{what} must have an upper bound: {how}")


def _refuse_unknown_keywords(raw: Json, path: str) -> None:
    for keyword in raw:
        if not (
            keyword in _REWRITTEN or keyword in _DROPPED or keyword in _KEPT or keyword.startswith("x-kubernetes-")
        ):
            raise SchemaError(path, f"{keyword} has no structural schema")


def _merged(base: Json, over: Json) -> Json:
    """A definition with what the field that uses it says on top; the rules of both hold."""
    out = base | over
    if VALIDATIONS in base and VALIDATIONS in over:
        out[VALIDATIONS] = [*base[VALIDATIONS], *over[VALIDATIONS]]
    return out


def _without(raw: Json, key: str) -> Json:
    return {name: value for name, value in raw.items() if name != key}


def _first_paragraph(text: str) -> str:
    return " ".join(inspect.cleandoc(text).partition("\n\n")[0].split())


def _cel_string(text: str) -> str:
    return f"r'{text}'" if "'" not in text else f'r"{text}"'


def _default(value: Any, schema: Json, path: str) -> Any:
    """The default as the CRD states it, or _ABSENT where an absent field already means the same.

    None, empty text and empty lists and maps are left out. An object is said in full, also what its own fields would
    default to: the API server holds a default against the rules before it fills in anything below it.
    """
    if value is None or value in ("", [], {}):
        return _ABSENT
    if not isinstance(value, dict) or "properties" not in schema:
        return value
    said: Json = {}
    for name, inner in value.items():
        field = schema["properties"].get(name)
        if field is None:
            raise SchemaError(path, f"its default sets {name}, which is no field")
        default = _default(inner, field, f"{path}.{name}")
        if default is not _ABSENT:
            said[name] = default
        elif "default" in field:
            raise SchemaError(path, f"its default unsets {name}, which has a default of its own")
    return said or _ABSENT
