"""The Helm chart for tests; `python -m tests.scene.chart` writes deploy/operator.yaml, which is made of it."""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import yaml
from tests.controlplane.helm import Helm, ensure_helm
from tests.scene.installation import NAMESPACE, ROOT

CHART: Final = ROOT / "deploy" / "helm" / "tenantry"
CI_VALUES: Final = tuple(sorted((CHART / "ci").glob("*-values.yaml")))
MINIMAL: Final = CHART / "ci" / "minimal-values.yaml"
RELEASE: Final = "tenantry"
OPERATOR_MANIFEST: Final = ROOT / "deploy" / "operator.yaml"
OPERATOR_TEMPLATES: Final = ("networkpolicy", "service", "deployment")
INTRODUCTION: Final = """\
# The operator itself: kubectl apply --server-side -f operator.yaml, after crds/ and management-rbac.yaml.
#
# Made of the Helm chart with its default values by `make operator-manifest`; do not edit. There is no public image:
# build one, and name it here in place of the example.
"""


def rendered(helm: Helm, values: Path = MINIMAL, *arguments: str, chart: Path = CHART) -> str:
    """What `helm template` makes of the chart.

    Raises:
        HelmError: it is refused.
    """
    return helm("template", RELEASE, str(chart), "--namespace", NAMESPACE, "--values", str(values), *arguments)


def objects(text: str) -> list[dict[str, Any]]:
    """The objects of a manifest."""
    return [body for body in yaml.safe_load_all(text) if body]


def operator_manifest(helm: Helm) -> str:
    """The text of deploy/operator.yaml: what of the chart is in no other file, without what only a release has."""
    only = [word for name in OPERATOR_TEMPLATES for word in ("--show-only", f"templates/{name}.yaml")]
    text = rendered(helm, MINIMAL, *only)
    text = re.sub(r"^ +(app\.kubernetes\.io/managed-by: Helm|helm\.sh/chart: .*)\n", "", text, flags=re.MULTILINE)
    documents = re.split(r"^---\n# Source: .*\n", text, flags=re.MULTILINE)
    return INTRODUCTION + "---\n".join(f"{document.strip()}\n" for document in documents if document.strip())


def main() -> None:
    """The command."""
    with tempfile.TemporaryDirectory() as folder:
        OPERATOR_MANIFEST.write_text(operator_manifest(Helm(ensure_helm(), Path(folder))), encoding="utf-8")
    sys.stdout.write(f"written: {OPERATOR_MANIFEST.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
