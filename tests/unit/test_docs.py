"""The documentation: its links lead somewhere, and it names everything that people meet in a cluster."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from tools.check_tree import ROOT, tree_files

from tenantry.adapters.kube.addresses import AddressReason
from tenantry.adapters.kube.refusal import KubeconfigReason
from tenantry.api import names
from tenantry.api.conditions import ConditionType, Reason
from tenantry.cli.operator import operator
from tenantry.runtime.clock import SystemClock
from tenantry.runtime.metrics import Metrics

PAGES = [path for path in tree_files(ROOT) if path.suffix == ".md"]
REFERENCE = ROOT / "docs" / "reference"
LINK = re.compile(r"\[[^\]]*\]\(([^)\s[]+)\)")
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)


def prose(path: Path) -> str:
    """A page without its code."""
    return CODE.sub("", path.read_text(encoding="utf-8"))


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(path: Path) -> Iterator[str]:
    for link in LINK.findall(prose(path)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        if not target.exists():
            yield f"{link}: there is no such file"
        elif anchor and anchor not in anchors(target):
            yield f"{link}: {target.name} has no such heading"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_relative_link_of_a_page_leads_somewhere(path: Path) -> None:
    assert list(broken_links(path)) == []


def test_a_link_to_a_missing_file_or_heading_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One two\n[a](#one-two) [b](gone.md) [c](#gone) [d](https://example.com)\n```\n[e](code.md)\n```\n"
    )
    assert list(broken_links(page)) == ["gone.md: there is no such file", "#gone: page.md has no such heading"]


def test_every_guide_and_decision_and_reference_is_in_the_index() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in PAGES if path.is_relative_to(ROOT / "docs")]
    unlisted = [page for page in pages if page not in {"index.md", "decisions/0000-template.md"} and page not in index]
    assert unlisted == []


def test_the_page_on_conditions_names_every_condition_and_reason() -> None:
    page = (REFERENCE / "conditions.md").read_text(encoding="utf-8")
    wanted = [*ConditionType, *Reason, *KubeconfigReason, *AddressReason]
    assert [word.value for word in wanted if f"`{word.value}`" not in page] == []


def test_the_guide_on_troubleshooting_has_a_heading_for_every_reason_that_somebody_can_act_on() -> None:
    page = (ROOT / "docs" / "guides" / "troubleshooting.md").read_text(encoding="utf-8")
    headings = {word for line in page.splitlines() if line.startswith("### ") for word in re.findall(r"\w+", line)}
    nothing_to_do = {
        Reason.READY, Reason.PROGRESSING, Reason.PENDING, Reason.NOT_WANTED, Reason.RETRYING, Reason.EXPIRED,
    }  # fmt: skip
    assert [reason.value for reason in Reason if reason not in nothing_to_do and reason.value not in headings] == []


def test_the_page_on_labels_names_every_label_annotation_and_finalizer() -> None:
    page = (REFERENCE / "labels-and-annotations.md").read_text(encoding="utf-8")
    keys = [
        value
        for name, value in vars(names).items()
        if name.startswith(("LABEL_", "ANNOTATION_")) or name.endswith("_FINALIZER")
    ]
    assert len(keys) > 15
    assert [key for key in keys if f"`{key}`" not in page] == []


def test_the_page_on_metrics_names_every_metric_that_is_exposed() -> None:
    metrics = Metrics(clock=SystemClock(), version="0", workers=1)
    metrics.request_hook("host")("GET", 200, 0.1)
    metrics.set_cluster("c", reachable=True)
    metrics.set_database_server("s", reachable=True)
    text = metrics.expose()[0].decode()
    exposed = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")}
    own = {name for name in exposed if not name.startswith(("process_", "python_gc_"))}
    page = (REFERENCE / "metrics.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `(\w+)` \| (?:counter|gauge|histogram) ", page, re.MULTILINE))
    assert documented == own


def test_the_readme_has_every_flag_of_the_operator_with_its_default() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for option in operator.params:
        assert isinstance(option, click.Option)
        (row,) = re.findall(rf"^\| `{option.opts[0]}` \| (.*)$", readme, re.MULTILINE)
        if option.show_default is True:
            assert row.startswith(f"`{option.default}`"), option.name
