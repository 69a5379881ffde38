"""CloudNativePG's own CRDs, out of its Go module: downloaded once by Go, and checked by go.sum each time."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.controlplane.modules import module_folder

SOURCE: Final = Path(__file__).with_name("cnpg")
MODULE: Final = "github.com/cloudnative-pg/cloudnative-pg"
CLUSTERS_CRD: Final = Path("config/crd/bases/postgresql.cnpg.io_clusters.yaml")


def clusters_crd(source: Path = SOURCE) -> Path:
    """The manifest of its kind Cluster.

    Args:
        source: A folder with the go.mod that names the version and the go.sum that pins it.

    Raises:
        ModuleError: with what Go said.
        ToolchainError: if there is no Go and none can be installed.
    """
    return module_folder(source, MODULE) / CLUSTERS_CRD
