"""The CRDs of Argo CD and of Flux, out of their Go modules."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.controlplane.modules import module_folder

SOURCE: Final = Path(__file__).with_name("gitops-tools")
ARGO_CD: Final = "github.com/argoproj/argo-cd/v3"
KUSTOMIZE_CONTROLLER: Final = "github.com/fluxcd/kustomize-controller"
SOURCE_CONTROLLER: Final = "github.com/fluxcd/source-controller"
FLUX_FOLDER: Final = Path("config/crd/bases")


def gitops_crds() -> tuple[Path, ...]:
    """The manifests of Application and AppProject, Kustomization and GitRepository.

    Raises:
        ModuleError: with what Go said.
        ToolchainError: if there is no Go and none can be installed.
    """
    argo_cd = module_folder(SOURCE, ARGO_CD) / "manifests" / "crds"
    kustomizations = module_folder(SOURCE, KUSTOMIZE_CONTROLLER) / FLUX_FOLDER
    sources = module_folder(SOURCE, SOURCE_CONTROLLER) / FLUX_FOLDER
    return (
        argo_cd / "application-crd.yaml",
        argo_cd / "appproject-crd.yaml",
        kustomizations / "kustomize.toolkit.fluxcd.io_kustomizations.yaml",
        sources / "source.toolkit.fluxcd.io_gitrepositories.yaml",
    )
