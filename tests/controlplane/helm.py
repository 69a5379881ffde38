"""The real helm: built of its Go module, once, and cached for the user; and a way to run it against a test cluster."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO

from tests.controlplane.build import BuildError, build_environment, build_lock, cache_folder, cache_key
from tests.controlplane.toolchain import find_go

SOURCE: Final = Path(__file__).with_name("helm4")
SOURCE_FILES: Final = ("go.mod", "go.sum")
PACKAGE: Final = "helm.sh/helm/v4/cmd/helm"
FLAGS: Final = ("-trimpath", "-ldflags", "-s -w")
BINARY: Final = "helm"
HELM_SECONDS: Final = 120.0


class HelmError(RuntimeError):
    """helm ended with an error.

    Attributes:
        said: All that it wrote.
    """

    def __init__(self, arguments: Sequence[str], code: int, said: str) -> None:
        super().__init__(f"helm {' '.join(arguments)}: exit code {code}: {said.strip()}")
        self.said = said


@dataclass(frozen=True, slots=True)
class Helm:
    """helm, with nothing of the user's own around it.

    Attributes:
        program: The binary.
        folder: Of its caches and settings; it is made.
        kubeconfig: None: it reaches no cluster.
    """

    program: Path
    folder: Path
    kubeconfig: Path | None = None

    def __call__(self, *arguments: str, input: str | None = None) -> str:  # noqa: A002 - subprocess calls it so
        """Run it and return what it wrote to its standard output.

        Raises:
            HelmError: if it fails.
            subprocess.TimeoutExpired: if it takes longer than two minutes.
        """
        own = {f"HELM_{name}_HOME": str(self.folder / name.lower()) for name in ("CACHE", "CONFIG", "DATA")}
        done = subprocess.run(
            [str(self.program), *arguments],
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            env={**os.environ, **own, "KUBECONFIG": str(self.kubeconfig or os.devnull)},
            capture_output=True,
            text=True,
            check=False,
            timeout=HELM_SECONDS,
        )
        if done.returncode:
            raise HelmError(arguments, done.returncode, done.stdout + done.stderr)
        return done.stdout


def cached_helm() -> Path:
    """Where the binary is, or will be once it is built."""
    sources = {name: (SOURCE / name).read_bytes() for name in SOURCE_FILES}
    machine = f"{platform.system()}-{platform.machine()}"
    return cache_folder() / cache_key(sources, (*FLAGS, PACKAGE), machine) / BINARY


def ensure_helm(stream: TextIO | None = None) -> Path:
    """The binary of helm, built if it is not in the cache yet.

    Args:
        stream: Where it says what takes so long; standard error if None.

    Raises:
        BuildError: if it can't be built; with what Go said.
        ToolchainError: if there is no Go and none can be installed.
    """
    stream = stream or sys.stderr
    binary = cached_helm()
    if binary.exists():
        return binary
    with build_lock(cache_folder(), stream):
        if binary.exists():
            return binary
        version = re.findall(r"helm\.sh/helm/v4 (v\S+)", (SOURCE / "go.mod").read_text())[0]
        stream.write(f"building helm {version} for the tests (once, about 3 min from nothing)\n")
        stream.flush()
        go = find_go(cache_folder() / "toolchain")
        binary.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=binary.parent, prefix="building-") as folder:
            output = Path(folder) / BINARY
            done = subprocess.run(
                [str(go), "build", *FLAGS, "-o", str(output), PACKAGE],
                cwd=SOURCE,
                env=build_environment(),
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise BuildError(f"helm could not be built:\n{done.stderr[-2000:]}")
            output.replace(binary)
    return binary
