"""The generated files: as fresh as the models, and telling the same as the models do."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from tools.api_reference import api_reference
from tools.generate import HEADER, ROOT, generated_files, main, manifest, stale_files, write_files

from tenantry.api.base import Kind
from tenantry.api.crd import crd
from tenantry.api.kinds import ALL_KINDS

KINDS = [pytest.param(kind, id=kind.resource.kind) for kind in ALL_KINDS]
REFERENCE = Path("docs/reference/api.md")

REQUIRED: dict[str, dict[str, Any]] = {
    "DatabaseServer": {"host": "db.example.com", "adminSecretRef": {"name": "admin"}},
    "BackupStore": {"url": "s3://backups", "signingSecretRef": {"name": "signing"}},
    "TenantBackup": {"source": {"tenant": {"name": "acme"}}, "store": "s"},
    "TenantRestore": {"backupRef": {"name": "b"}, "tenantRef": {"name": "acme"}},
    "TenantRecord": {
        "managementId": "m", "workspace": "w", "workspaceUid": "u", "tenant": "t", "tenantUid": "u",
        "cluster": {"name": "c", "id": "i", "namespace": "n"}, "database": {"mode": "None"},
    },
}  # fmt: skip
"""The least that a spec must say, for the kinds that need anything."""


def filled_in(value: Any, schema: dict[str, Any]) -> Any:
    """What the API server stores: the value with the schema's defaults, from the outside in."""
    if isinstance(value, list):
        return [filled_in(item, schema["items"]) for item in value]
    if not isinstance(value, dict):
        return value
    value = dict(value)
    fields = schema.get("properties", {})
    for name, field in fields.items():
        if name not in value and "default" in field:
            value[name] = copy.deepcopy(field["default"])
    return {name: filled_in(inner, fields[name]) if name in fields else inner for name, inner in value.items()}


def spec_schema(kind: Kind) -> dict[str, Any]:
    schema: dict[str, Any] = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return schema


def test_the_files_in_the_repository_are_fresh() -> None:
    assert stale_files(ROOT) == [], "run `make generate`"


@pytest.mark.parametrize("kind", KINDS)
def test_the_api_server_fills_in_what_the_model_takes_an_absent_field_for(kind: Kind) -> None:
    spec = REQUIRED.get(kind.resource.kind, {})
    assert kind.spec.model_validate(filled_in(spec, spec_schema(kind))) == kind.spec.model_validate(spec)


@pytest.mark.parametrize("kind", KINDS)
def test_a_manifest_reads_back_as_it_was(kind: Kind) -> None:
    text = manifest(crd(kind))
    assert text.startswith(HEADER)
    assert yaml.safe_load(text) == crd(kind)


def test_generating_twice_gives_the_same_bytes() -> None:
    assert generated_files() == generated_files()


def test_a_changed_a_missing_and_a_left_over_file_are_named_and_put_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_files(tmp_path)
    assert main(["--check"], tmp_path) == 0
    (tmp_path / "crds/tenantry.io_tenants.yaml").write_text("edited")
    (tmp_path / REFERENCE).unlink()
    (tmp_path / "crds/tenantry.io_olds.yaml").write_text(HEADER)
    (tmp_path / "crds/kustomization.yaml").write_text("not ours")
    capsys.readouterr()

    assert main(["--check"], tmp_path) == 1
    said = capsys.readouterr()
    stale = ["crds/tenantry.io_olds.yaml", "crds/tenantry.io_tenants.yaml", "docs/reference/api.md"]
    assert said.out.splitlines() == [f"stale: {path}" for path in stale]
    assert "make generate" in said.err

    assert main([], tmp_path) == 0
    assert stale_files(tmp_path) == []
    assert not (tmp_path / "crds/tenantry.io_olds.yaml").exists()
    assert (tmp_path / "crds/kustomization.yaml").read_text() == "not ours"


@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_has_a_row_for_every_field_and_every_rule(kind: Kind) -> None:
    page = api_reference([crd(kind)])

    def walk(schema: dict[str, Any], path: str) -> None:
        for rule in schema.get("x-kubernetes-validations", ()):
            assert rule["message"].replace("|", "\\|") in page
        for name, field in schema.get("properties", {}).items():
            assert f"| `{path}.{name}` |" in page
            walk(field, f"{path}.{name}")
        if "items" in schema:
            walk(schema["items"], f"{path}[]")

    walk(spec_schema(kind), "spec")


def test_a_row_of_the_reference_has_type_default_and_limits() -> None:
    port = "| `spec.port` | integer | `5432` | ≥ 1; ≤ 65535 |"
    assert port in generated_files()[REFERENCE]


def test_a_pipe_in_a_pattern_does_not_end_the_cell_of_the_reference() -> None:
    rows = [line for line in generated_files()[REFERENCE].splitlines() if line.startswith("| `spec.")]
    assert {line.replace("\\|", "").count("|") for line in rows} <= {3, 6}, "rule tables have 2 columns, fields 5"
