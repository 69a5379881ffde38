"""Building the test clusters' binary and helm, with a stand-in for Go: once, by one at a time, whole or not at all."""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.controlplane.build import BuildError, cached_binary, ensure_built
from tests.controlplane.helm import cached_helm, ensure_helm

GO = """#!/bin/sh
if [ "$1" = env ]; then echo go1.26.9; exit; fi
echo run >> "{runs}"
echo "go: downloading k8s.io/api v0.36.3" >&2
echo "k8s.io/api/core/v1" >&2
{body}
"""
WRITES_OUTPUT = 'for last; do [ "$previous" = -o ] && output=$last; previous=$last; done; echo binary > "$output"'

StandIn = Callable[[str], Path]


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """Puts a `go` on PATH that does what is said, with an empty cache; returns the file that counts its builds."""

    def install(body: str) -> Path:
        runs, program = tmp_path / "runs", tmp_path / "bin" / "go"
        program.parent.mkdir()
        program.write_text(GO.format(runs=runs, body=body))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        return runs

    return install


def test_the_binary_is_built_once_and_then_found(go: StandIn) -> None:
    runs = go(WRITES_OUTPUT)
    stream = io.StringIO()
    built = ensure_built(stream)
    assert built == cached_binary() == ensure_built(stream)
    assert built.read_text() == "binary\n"
    assert runs.read_text() == "run\n"
    assert stream.getvalue().endswith("1 modules downloaded, 1 packages compiled\n")


def test_of_parallel_builds_one_builds_and_the_others_take_its_result(go: StandIn) -> None:
    runs = go(WRITES_OUTPUT)
    with ThreadPoolExecutor(4) as pool:
        results = {future.result() for future in [pool.submit(ensure_built, io.StringIO()) for _ in range(4)]}
    assert results == {cached_binary()}
    assert runs.read_text() == "run\n"


def test_a_failed_build_says_why_and_leaves_nothing_behind(go: StandIn) -> None:
    go('echo "main.go:3:1: undefined: x" >&2; exit 1')
    with pytest.raises(BuildError, match=r"go build failed, its last lines were:\nmain\.go:3:1: undefined: x$"):
        ensure_built(io.StringIO())
    assert list(cached_binary().parent.iterdir()) == []


def test_a_full_disk_is_reported_as_one(go: StandIn) -> None:
    go('echo "link: write /tmp/x: no space left on device" >&2; exit 1')
    with pytest.raises(BuildError, match=r"^no space left to build"):
        ensure_built(io.StringIO())


def test_helm_is_built_once_and_by_one_at_a_time_and_then_found(go: StandIn) -> None:
    runs = go(WRITES_OUTPUT)
    stream = io.StringIO()
    with ThreadPoolExecutor(4) as pool:
        results = {future.result() for future in [pool.submit(ensure_helm, stream) for _ in range(4)]}
    assert results == {cached_helm()} == {ensure_helm(stream)}
    assert cached_helm().read_text() == "binary\n"
    assert runs.read_text() == "run\n"
    assert stream.getvalue().count("building helm v4.") == 1


def test_a_failed_build_of_helm_says_why_and_leaves_nothing_behind(go: StandIn) -> None:
    go('echo "no required module provides package" >&2; exit 1')
    with pytest.raises(BuildError, match="no required module"):
        ensure_helm(io.StringIO())
    assert list(cached_helm().parent.iterdir()) == []
