"""Clusters that somebody else runs: used instead of our own control planes where a kubeconfig is given."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from tests.controlplane.access import ClusterAccess
from tests.controlplane.cluster import START_SECONDS, ControlPlane
from tests.controlplane.processes import DataFolder, ServerError


class ExistingCluster:
    """A cluster given by a kubeconfig file; starting and stopping do nothing to it.

    Attributes:
        access: As `ControlPlane.access`, but without audit log, authority and pids.
    """

    def __init__(self, name: str, kubeconfig: Path) -> None:
        self.name = name
        self._kubeconfig = kubeconfig
        self._folder: DataFolder | None = None
        self._access: ClusterAccess | None = None

    @property
    def access(self) -> ClusterAccess:
        """Raises ServerError before the start and after the stop."""
        if self._access is None:
            raise ServerError(f"cluster {self.name} is not in use")
        return self._access

    def start(self, *, deadline: float = START_SECONDS) -> Self:
        """Read the kubeconfig's current context and wait until the cluster answers.

        Raises:
            KubectlError: if the kubeconfig can't be read, or the cluster does not answer within `deadline` seconds.
        """
        folder = self._folder = DataFolder(self.name)
        reader = ClusterAccess(self.name, "", "", "", self._kubeconfig, folder.path)
        text = reader.kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json")
        cluster: dict[str, Any] = json.loads(text)["clusters"][0]["cluster"]
        path = folder.path / "kubeconfig"
        path.write_text(text)
        path.chmod(0o600)
        ca_pem = base64.b64decode(cluster.get("certificate-authority-data", "")).decode()
        access = ClusterAccess(self.name, cluster["server"], ca_pem, text, path, folder.path)
        access.kubectl("get", "namespace", "kube-system", f"--request-timeout={deadline:.0f}s", timeout=deadline + 10)
        self._access = access
        return self

    def stop(self) -> None:
        """Forget it."""
        if self._folder:
            self._folder.remove()
        self._access = self._folder = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def given_or_own(
    name: str, *, audit: bool = False, environment: Mapping[str, str] = os.environ
) -> ControlPlane | ExistingCluster:
    """A cluster for tests, not started yet.

    Args:
        name: `management` or `target`.
        audit: Keep an audit log; only a control plane of our own can.
        environment: Where `TENANTRY_TEST_<NAME>_KUBECONFIG` is set, the cluster of that file's current context is used.
    """
    given = environment.get(f"TENANTRY_TEST_{name.upper()}_KUBECONFIG", "")
    return ExistingCluster(name, Path(given)) if given else ControlPlane(name, audit=audit)
