"""The Prometheus Operator's own CRDs, out of its Go module."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.controlplane.modules import module_folder

SOURCE: Final = Path(__file__).with_name("prometheus-operator")
MODULE: Final = "github.com/prometheus-operator/prometheus-operator"
FOLDER: Final = Path("example/prometheus-operator-crd")


def monitoring_crds() -> tuple[Path, ...]:
    """The manifests of its kinds ServiceMonitor and PrometheusRule.

    Raises:
        ModuleError: with what Go said.
        ToolchainError: if there is no Go and none can be installed.
    """
    folder = module_folder(SOURCE, MODULE) / FOLDER
    return tuple(folder / f"monitoring.coreos.com_{plural}.yaml" for plural in ("servicemonitors", "prometheusrules"))
