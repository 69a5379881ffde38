"""The check of the tree: it finds what must not be in it, and lets pass what may."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools.check_tree import MOST_LINES, check, faults, tree_files


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("from https://" + "py" + "pi.org/simple", "registry"),
        ("--index" + "-url https://example.com", "where to get packages from"),
        ("cd /" + "root/project", "somebody's machine"),
        ("<<<<" + "<<< HEAD", "a merge"),
        ("text ", "blanks"),
        ("text\r", "carriage return"),
    ],
)
def test_a_line_that_must_not_be_there_is_named_with_its_number(line: str, what: str) -> None:
    (found,) = faults("docs/page.md", f"first\n{line}\n")
    assert found.startswith("docs/page.md:2: ")
    assert what in found


@pytest.mark.parametrize(
    "line", ["$HOME/root/x", f"~/{'work'}/x", "https://example.com/home/page", "a/root/b", "kubectl -f x"]
)
def test_a_path_that_is_nobodys_machine_passes(line: str) -> None:
    assert list(faults("docs/page.md", f"{line}\n")) == []


def test_a_file_without_a_last_newline_is_named() -> None:
    assert list(faults("a.yaml", "a: 1")) == ["a.yaml:1: no newline at the end"]


def test_a_module_that_is_too_long_is_named_and_a_long_test_or_manifest_is_not() -> None:
    text = "x\n" * (MOST_LINES + 1)
    assert len(list(faults("operator/tenantry/x.py", text))) == 1
    assert list(faults("operator/tenantry/x.py", "x\n" * MOST_LINES)) == []
    assert list(faults("tests/unit/test_x.py", text)) == []
    assert list(faults("crds/x.yaml", text)) == []


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(b"\xff\xfe")
    assert check(tmp_path, [tmp_path / "x.txt"]) == ["x.txt: not UTF-8"]


def test_without_git_the_tree_is_all_but_hidden_and_built_files(tmp_path: Path) -> None:
    for name in ("docs/page.md", ".venv/x.py", "a/__pycache__/x.pyc"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x\n")
    assert tree_files(tmp_path) == [tmp_path / "docs/page.md"]
