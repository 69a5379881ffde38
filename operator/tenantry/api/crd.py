"""Makes a kind's CustomResourceDefinition out of its models: all that the API server checks, fills in and prints."""

from __future__ import annotations

from typing import Final

from tenantry.api.base import Column, Kind, Model
from tenantry.api.names import CATEGORY
from tenantry.api.structural import LIST_TYPE, VALIDATIONS, Json, structural_schema

UNOBSERVED: Final = {"observedGeneration": -1}
"""The status of an object no reconcile has seen: without it, kstatus (Flux, Argo CD, Helm) takes it for ready."""

NAME_PATH: Final = ".metadata.name"


def crd(kind: Kind) -> Json:
    """The `apiextensions.k8s.io/v1` manifest of a kind, its keys in the order in which they are best read.

    Raises:
        SchemaError: where the models can't be said in a CRD; see `structural_schema`.
    """
    resource = kind.resource
    names: Json = {
        "kind": resource.kind,
        "listKind": f"{resource.kind}List",
        "plural": resource.plural,
        "singular": resource.kind.lower(),
        "shortNames": list(kind.short_names),
        "categories": [CATEGORY],
    }
    version: Json = {
        "name": resource.version,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": [_column(column) for column in kind.columns],
        "schema": {"openAPIV3Schema": _root_schema(kind)},
    }
    if kind.status is not None:
        version["subresources"] = {"status": {}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{resource.plural}.{resource.group}"},
        "spec": {
            "group": resource.group,
            "names": names,
            "scope": "Namespaced" if resource.namespaced else "Cluster",
            "versions": [version],
        },
    }


def _root_schema(kind: Kind) -> Json:
    properties: Json = {
        "apiVersion": {"type": "string", "description": f"{kind.resource.group}/{kind.resource.version}"},
        "kind": {"type": "string", "description": kind.resource.kind},
        "metadata": {"type": "object"},
        "spec": structural_schema(kind.spec, f"{kind.resource.kind}.spec", bounded=True, defaults=True),
    }
    if kind.status is not None:
        properties["status"] = _status_schema(kind.status, f"{kind.resource.kind}.status")
    root: Json = {
        "type": "object",
        "description": kind.description,
        "properties": properties,
        "required": ["spec"],  # also where all its fields are optional: defaults reach only into a spec that is there
    }
    if kind.root_rules:
        # Rules stand at the root to read the name; declared, it can also be where the API server says the problem is.
        properties["metadata"]["properties"] = {"name": {"type": "string"}}
        root[VALIDATIONS] = [rule.schema() | {"fieldPath": rule.field_path or NAME_PATH} for rule in kind.root_rules]
    return root


def _status_schema(model: type[Model], path: str) -> Json:
    schema = structural_schema(model, path, bounded=False, defaults=False)
    fields = schema["properties"]
    if "observedGeneration" in fields:
        schema["default"] = dict(UNOBSERVED)
    if "conditions" in fields:  # as the API conventions lay down: several writers, one condition a type
        fields["conditions"] |= {LIST_TYPE: "map", "x-kubernetes-list-map-keys": ["type"]}
    return schema


def _column(column: Column) -> Json:
    out: Json = {"name": column.name, "type": column.type, "jsonPath": column.path}
    if column.description:
        out["description"] = column.description
    if column.priority:
        out["priority"] = column.priority
    return out
