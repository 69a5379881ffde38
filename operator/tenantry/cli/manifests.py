"""The manifests that come with Tenantry, and manifests as text: in the wheel as in the repository."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Final

import yaml

Json = dict[str, Any]

TARGET_RIGHTS: Final = "target-rbac.yaml"
MANAGEMENT_RIGHTS: Final = "management-rbac.yaml"


class _Dumper(yaml.SafeDumper):
    """Block style, and what occurs twice is written twice: anchors are not for people who read."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML calls it with the value
        return True


def bundled(name: str) -> list[Json]:
    """The objects in one of Tenantry's own manifests, in their order.

    Raises:
        FileNotFoundError: if this installation lacks it.
    """
    text = _source(name).read_text(encoding="utf-8")
    return [document for document in yaml.safe_load_all(text) if document]


def _source(name: str) -> Traversable:
    """The file: packed beside the code; in a checkout, which is installed without packing, in its folder deploy/."""
    package = files("tenantry")
    packed = package / "manifests" / name
    if packed.is_file():
        return packed
    return Path(str(package)).parents[1] / "deploy" / name


def as_yaml(documents: Iterable[Mapping[str, Any]]) -> str:
    """Documents one after the other, their keys in their own order."""
    return "".join(
        "---\n" + yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
        for document in documents
    )


def as_json(body: Any) -> str:
    """One JSON value, for people and programs."""
    return json.dumps(body, indent=2, ensure_ascii=False) + "\n"


def as_list(documents: Iterable[Json]) -> Json:
    """A `List`, which kubectl takes as it is."""
    return {"apiVersion": "v1", "kind": "List", "items": list(documents)}
