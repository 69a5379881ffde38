"""`tenantry crds` gives the kinds that crds/ has, printed or as files."""

from __future__ import annotations

from pathlib import Path

import yaml
from click.testing import CliRunner

from tenantry.cli.main import main

CRDS = Path(__file__).parents[2] / "crds"


def test_what_is_printed_is_what_the_repository_has() -> None:
    result = CliRunner().invoke(main, ["crds"])
    assert result.exit_code == 0
    printed = {body["metadata"]["name"]: body for body in yaml.safe_load_all(result.stdout)}
    committed = [yaml.safe_load(path.read_text()) for path in CRDS.glob("*.yaml")]
    assert printed == {body["metadata"]["name"]: body for body in committed}
    assert "tenants.tenantry.io" in printed


def test_a_folder_gets_one_file_a_kind_under_the_repositorys_names(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "crds"
    result = CliRunner().invoke(main, ["crds", "--output", str(folder)])
    assert result.exit_code == 0
    assert {path.name for path in folder.iterdir()} == {path.name for path in CRDS.glob("*.yaml")}
    for path in folder.iterdir():
        assert yaml.safe_load(path.read_text()) == yaml.safe_load((CRDS / path.name).read_text())


def test_a_folder_that_can_not_be_made_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(main, ["crds", "--output", str(tmp_path / "file" / "crds")])
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
