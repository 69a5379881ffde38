"""CloudNativePG's own CRDs, out of its Go module: downloaded once by Go, and checked by go.sum each time."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.controlplane.build import build_environment, build_lock, cache_folder
from tests.controlplane.toolchain import find_go

SOURCE: Final = Path(__file__).with_name("cnpg")
MODULE: Final = "github.com/cloudnative-pg/cloudnative-pg"
CLUSTERS_CRD: Final = Path("config/crd/bases/postgresql.cnpg.io_clusters.yaml")
SECONDS: Final = 300


class ModuleError(RuntimeError):
    """The module could not be had, or is not the one that go.sum pins."""


def clusters_crd(source: Path = SOURCE) -> Path:
    """The manifest of its kind Cluster.

    Args:
        source: A folder with the go.mod that names the version and the go.sum that pins it.

    Raises:
        ModuleError: with what Go said.
        ToolchainError: if there is no Go and none can be installed.
    """
    required = re.search(rf"^require {re.escape(MODULE)} (\S+)", (source / "go.mod").read_text(), re.MULTILINE)
    if required is None:
        raise ModuleError(f"{source / 'go.mod'} does not require {MODULE}")
    with build_lock(cache_folder(), sys.stderr):
        go = find_go(cache_folder() / "toolchain")
    done = subprocess.run(
        [str(go), "mod", "download", "-json", f"{MODULE}@{required[1]}"],
        cwd=source,
        env=build_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    answer = json.loads(done.stdout) if done.stdout.startswith("{") else {}
    if done.returncode or "Dir" not in answer:
        raise ModuleError(f"{MODULE} can't be had: {answer.get('Error') or done.stderr.strip()}")
    return Path(answer["Dir"]) / CLUSTERS_CRD
