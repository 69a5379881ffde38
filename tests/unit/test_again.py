"""A second try for few failed tests: never for many, never for a run that broke, never silently."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from tools.again import failed_tests, try_again

MOST = 3


def never(tests: Sequence[str]) -> int:
    raise AssertionError(f"nothing is to be run again, not {tests}")


@pytest.mark.parametrize(
    ("status", "failed"),
    [(1, ["a", "b", "c", "d"]), (1, []), (2, ["a"]), (3, ["a"]), (4, ["a"]), (5, ["a"]), (-9, ["a"])],
    ids=["too many", "none known", "interrupted", "broken", "misused", "no tests", "killed"],
)
def test_nothing_but_a_few_failures_is_tried_again(status: int, failed: list[str]) -> None:
    assert try_again(status, failed, MOST, never) == (status, "")


def test_a_test_that_fails_again_fails_the_run() -> None:
    assert try_again(1, ["a"], MOST, lambda _: 1) == (1, "")


def test_a_test_that_holds_alone_is_named() -> None:
    tried: list[Sequence[str]] = []

    def hold(tests: Sequence[str]) -> int:
        tried.append(tests)
        return 0

    status, told = try_again(1, ["a", "b"], MOST, hold)
    assert (status, tried) == (0, [["a", "b"]])
    assert "  a\n  b" in told
    assert "defect" in told


def test_the_failed_tests_are_those_that_pytest_wrote_down(tmp_path: Path) -> None:
    cache = tmp_path / "lastfailed"
    assert failed_tests(cache) == []
    cache.write_text(json.dumps({"tests/b.py::two": True, "tests/a.py::one[x]": True}))
    assert failed_tests(cache) == ["tests/a.py::one[x]", "tests/b.py::two"]
