"""The servers of the demo, and Tenantry installed on them the way the README says."""

from __future__ import annotations

import base64
import json
import shlex
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.controlplane.access import ClusterAccess
from tests.controlplane.binaries import Binaries
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.postgres import PostgresServer
from tests.controlplane.postgres_access import PostgresAccess
from tests.controlplane.postgres_binaries import wheel_binaries
from tests.controlplane.processes import DataFolder
from tests.demo.quickstart import CLUSTER, CLUSTER_SECRET, SERVER_SECRET
from tests.demo.screen import Screen
from tests.demo.servers import ServerGroup
from tests.scene.installation import (
    NAMESPACE,
    admin_secret,
    apply,
    install_management,
    install_target,
    operator_kubeconfig,
)
from tests.scene.operator import OperatorProcess

OPERATOR_STOP_SECONDS: Final = 8.0
JOIN_SECONDS: Final = 120.0
MANAGEMENT: Final = "management cluster"
TARGET: Final = "target cluster"
POSTGRES: Final = "PostgreSQL"


@dataclass(frozen=True, slots=True)
class Stage:
    """All that runs, for those who look at it.

    Attributes:
        folder: The demo's own: kubeconfig, programs, the operator's log. Gone in the end.
        target_kubeconfig: What the operator was given for the target.
        operator_kubeconfig: What it was given for the management cluster.
    """

    folder: Path
    management: ClusterAccess
    target: ClusterAccess
    postgres: PostgresAccess
    operator: OperatorProcess
    target_kubeconfig: str
    operator_kubeconfig: str

    @property
    def log(self) -> Path:
        """The operator's log."""
        return self.folder / "operator.log"

    @property
    def kubeconfig(self) -> Path:
        """For people: one file with the contexts `management` (the current one) and `target`."""
        return self.folder / "kubeconfig"

    @property
    def bin(self) -> Path:
        """kubectl, psql and tenantry, for people who have none on their PATH."""
        return self.folder / "bin"


def raise_stage(screen: Screen, stack: ExitStack) -> Stage:
    """Start everything and install Tenantry; what has been started is stopped by the stack.

    Raises:
        BuildError, ToolchainError, ServerError, KubectlError, RuntimeError, OSError: something does not start; with
            the end of its log.
    """
    binaries = Binaries.find()  # may build for minutes, and then tells its progress itself
    folder = DataFolder("demo")
    stack.callback(folder.remove)
    management, target = (ControlPlane(name, binaries=binaries) for name in ("management", "target"))
    postgres = PostgresServer(wheel_binaries())
    servers = ServerGroup({MANAGEMENT: management, TARGET: target, POSTGRES: postgres})
    stack.callback(servers.stop)
    with screen.waiting("starting two control planes (etcd, kube-apiserver, kube-controller-manager) and PostgreSQL"):
        servers.start(screen.done)
    with screen.step("CRDs, rights and admission policies installed with kubectl"):
        install_management(management.access)
        install_target(target.access)
    with screen.step(
        f"`tenantry cluster join {CLUSTER}`: a kubeconfig with exactly the operator's rights, in a Secret"
    ):
        for_target = _join(management.access, target.access)
    with screen.step(f"Secret {SERVER_SECRET} with the admin role of PostgreSQL"):
        apply(management.access, admin_secret(SERVER_SECRET, postgres.access))
    for_management = operator_kubeconfig(management.access)
    operator = _start_operator(screen, stack, folder.path, for_management)
    stage = Stage(folder.path, management.access, target.access, postgres.access, operator, for_target, for_management)
    _write_for_people(stage)
    return stage


def _join(management: ClusterAccess, target: ClusterAccess) -> str:
    """Register the target as its administrator does; what the operator gets for it."""
    files = ("--target-kubeconfig", str(target.kubeconfig_path), "--kubeconfig", str(management.kubeconfig_path))
    done = subprocess.run(
        [sys.executable, "-m", "tenantry", "cluster", "join", CLUSTER, *files, "--timeout", "0"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=JOIN_SECONDS,
    )
    if done.returncode:
        raise RuntimeError(f"tenantry cluster join ended with {done.returncode}: {done.stderr.strip()}")
    secret = management.get("secret", CLUSTER_SECRET, "-n", NAMESPACE)
    return base64.b64decode(secret["data"]["value"]).decode()


def _start_operator(screen: Screen, stack: ExitStack, folder: Path, kubeconfig: str) -> OperatorProcess:
    path = folder / "operator.kubeconfig"
    path.touch(mode=0o600)
    path.write_text(kubeconfig)
    operator = OperatorProcess(
        path, folder / "operator.log", stop_seconds=OPERATOR_STOP_SECONDS, elect=True, remove=folder
    )
    group = ServerGroup({"operator, as the ServiceAccount tenantry-operator": operator})
    stack.callback(group.stop)
    with screen.waiting("starting the operator"):
        group.start(screen.done)
    return operator


def merged_kubeconfig(clusters: Mapping[str, str]) -> str:
    """One kubeconfig out of several with one context each; each context gets its name here, the first is current."""
    merged: dict[str, Any] = {"apiVersion": "v1", "kind": "Config", "clusters": [], "users": [], "contexts": []}
    for name, text in clusters.items():
        body = json.loads(text)
        merged["clusters"].append({"name": name, "cluster": body["clusters"][0]["cluster"]})
        merged["users"].append({"name": name, "user": body["users"][0]["user"]})
        merged["contexts"].append({"name": name, "context": {"cluster": name, "user": name}})
    merged["current-context"] = next(iter(clusters))
    return json.dumps(merged, indent=2)


def wrapper(program: tuple[str, ...], environment: Mapping[str, str]) -> str:
    """A shell script that runs a program with its first arguments fixed."""
    settings = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    return "\n".join(["#!/bin/sh", *settings, f'exec {" ".join(map(shlex.quote, program))} "$@"', ""])


def _write_for_people(stage: Stage) -> None:
    stage.kubeconfig.touch(mode=0o600)
    stage.kubeconfig.write_text(
        merged_kubeconfig({"management": stage.management.kubeconfig, "target": stage.target.kubeconfig})
    )
    stage.bin.mkdir()
    kubectl_cache = {"KUBECACHEDIR": str(stage.folder / "kubectl-cache")}
    programs = {
        "kubectl": wrapper(stage.management.kubectl_program, kubectl_cache),
        "psql": wrapper((str(stage.postgres.bin / "psql"),), {}),
        "tenantry": wrapper((sys.executable, "-m", "tenantry"), {}),
    }
    for name, script in programs.items():
        path = stage.bin / name
        path.write_text(script)
        path.chmod(0o755)
