"""A release's whole life, by the real helm on a real API server, while the operator serves tenants with its rights."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from tests.controlplane.access import ClusterAccess, KubectlError
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.helm import Helm
from tests.controlplane.postgres import PostgresServer
from tests.controlplane.postgres_access import PostgresAccess
from tests.controlplane.postgres_binaries import wheel_binaries
from tests.scene.chart import CHART, MINIMAL, RELEASE
from tests.scene.installation import (
    NAMESPACE,
    OPERATOR,
    ROOT,
    admin_secret,
    apply,
    install_target,
    kubeconfig_secret,
    operator_kubeconfig,
)
from tests.scene.lab import cluster_body, is_ready, plan_body, server_body, tenant_body, wait_until, workspace_body
from tests.scene.operator import OperatorProcess

Json = dict[str, Any]

PATIENCE = 120.0
"""Seconds; what is waited for takes one or two on a quiet machine."""
GUIDE = ROOT / "docs" / "guides" / "install-with-helm.md"
OWN_KINDS = (
    "tenants",
    "tenantrecords",
    "clusters.tenantry.io",
    "databaseservers",
    "tenantplans",
    "tenantbackups",
    "tenantrestores",
    "backupstores",
)
IN_NAMESPACES = "secrets,configmaps,services,networkpolicies,resourcequotas,limitranges,rolebindings,ingresses"


@dataclass(slots=True)
class Scene:
    """A management cluster on which nothing is yet, a target with its rights, a database server, helm."""

    management: ClusterAccess
    target: ClusterAccess
    postgres: PostgresAccess
    helm: Helm
    folder: Path
    operator: OperatorProcess | None = None
    database: str = ""

    def release(self, verb: str, *arguments: str) -> str:
        """A command of helm's about the release."""
        return self.helm(verb, RELEASE, *arguments, "--namespace", NAMESPACE)

    def deployment(self) -> Json:
        return self.management.get("deployment", "tenantry-operator", "-n", NAMESPACE)

    def rights_hold(self) -> bool:
        """Whether the API server already knows the rights that the release has just given."""
        user = f"--as=system:serviceaccount:{NAMESPACE}:{OPERATOR}"
        asked = (("list", "tenants", "--all-namespaces"), ("create", "configmaps", "--namespace", NAMESPACE))
        try:
            for words in asked:
                self.management.kubectl("auth", "can-i", *words, user)
        except KubectlError:
            return False
        return True

    def run_operator(self) -> None:
        """The operator of this source, as its ServiceAccount is on the cluster and with its Deployment's flags."""
        (container,) = self.deployment()["spec"]["template"]["spec"]["containers"]
        wait_until(self.rights_hold, PATIENCE, "the ServiceAccount's rights")
        flags = [flag for flag in container["args"] if not flag.startswith(("--metrics-address", "--health-address"))]
        kubeconfig = self.folder / "operator.kubeconfig"
        kubeconfig.touch(mode=0o600)
        kubeconfig.write_text(operator_kubeconfig(self.management))
        self.operator = OperatorProcess(kubeconfig, self.folder / "operator.log", flags)
        self.operator.start(ready=False)
        self.operator.wait_ready(PATIENCE)

    def stop_operator(self) -> None:
        operator, self.operator = self.operator, None
        if operator is not None:
            operator.stop()

    def change(self, name: str, level: str) -> None:
        """Change a Tenant, and wait until that has come to its namespace."""
        patch = json.dumps({"spec": {"env": {"LEVEL": level}}})
        self.management.kubectl("patch", "tenant", name, "-n", "shop", "--type=merge", "-p", patch)

        def arrived() -> bool:
            return is_ready(self.management.get("tenant", name, "-n", "shop"))

        wait_until(arrived, PATIENCE, self.log)

    def log(self) -> str:
        tenants = self.management.kubectl("get", "tenants", "-A", "-o", "yaml")
        return f"{tenants[-3000:]}\n{self.operator.log_text[-3000:] if self.operator else ''}"

    def identities(self) -> dict[str, str]:
        """The UIDs of all of Tenantry's objects on the management cluster, and its identity."""
        found = {}
        for kind in OWN_KINDS:
            for body in self.management.get(kind, "-A")["items"]:
                found[f"{kind}/{body['metadata']['name']}"] = body["metadata"]["uid"]
        identity = self.management.get("configmap", "tenantry-identity", "-n", NAMESPACE)
        return {**found, "identity": identity["data"]["managementId"]}

    def belongings(self) -> dict[str, str]:
        """The UIDs of all that is in tenants' namespaces on the target, and the row in acme's database."""
        stamped = self.target.get("namespaces", "-l", "app.kubernetes.io/managed-by=tenantry")["items"]
        found = {f"namespace/{body['metadata']['name']}": body["metadata"]["uid"] for body in stamped}
        for namespace in stamped:
            name = namespace["metadata"]["name"]
            for body in self.target.get(IN_NAMESPACES, "-n", name)["items"]:
                found[f"{name}/{body['kind']}/{body['metadata']['name']}"] = body["metadata"]["uid"]
        with psycopg.connect(self.postgres.superuser_dsn(self.database)) as connection:
            rows = connection.execute("SELECT name FROM customers").fetchall()
        return {**found, "row": str(rows)}

    def follow_the_guide(self, cluster: ClusterAccess, begins: str) -> None:
        """Run a block of the guide as it stands there, with kubectl on PATH."""
        (block,) = (text for text in GUIDE.read_text().split("```") if text.startswith(f"bash\n# {begins}"))
        bin_folder = self.folder / "bin"
        bin_folder.mkdir(exist_ok=True)
        script = bin_folder / "kubectl"
        script.write_text(f'#!/bin/sh\nexec {" ".join(cluster.kubectl_program)} "$@"\n')
        script.chmod(0o755)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.removeprefix("bash\n")],
            env={
                **os.environ,
                "KUBECONFIG": str(cluster.kubeconfig_path),
                "KUBECACHEDIR": str(cluster.folder / "kubectl-cache"),
                "PATH": f"{bin_folder}:{os.environ['PATH']}",
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def scene(helm: Helm, tmp_path: Path) -> Iterator[Scene]:
    with ExitStack() as stack:
        servers = (ControlPlane("chart"), ControlPlane("chart-target"), PostgresServer(wheel_binaries()))
        for server in servers:
            stack.callback(server.stop)
        with ThreadPoolExecutor(len(servers)) as pool:
            list(pool.map(lambda server: server.start(), servers))
        management, target, postgres = servers
        on_cluster = replace(helm, kubeconfig=management.access.kubeconfig_path)
        made = Scene(management.access, target.access, postgres.access, on_cluster, tmp_path)
        stack.callback(made.stop_operator)
        yield made


def next_version(folder: Path) -> Path:
    """The chart as a later version has it: another number, and one field more in a kind's description."""
    chart = folder / "next"
    shutil.copytree(CHART, chart)
    about = yaml.safe_load((chart / "Chart.yaml").read_text())
    (chart / "Chart.yaml").write_text(yaml.safe_dump({**about, "version": "0.2.0", "appVersion": "0.2.0"}))
    kind = chart / "templates" / "crds" / "tenantry.io_tenants.yaml"
    text = kind.read_text()
    kind.write_text(text.replace("    shortNames:\n    - tn\n", "    shortNames:\n    - tn\n    - tnt\n"))
    assert kind.read_text() != text
    return chart


@pytest.mark.timeout(600)
def test_a_release_is_installed_upgraded_rolled_back_and_uninstalled_and_no_tenant_loses_anything(scene: Scene) -> None:
    scene.management.kubectl("create", "namespace", NAMESPACE)
    scene.management.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    scene.release("install", str(CHART), "--values", str(MINIMAL), "--set", "operator.allowLoopbackTargets=true")
    scene.management.kubectl("wait", "--for=condition=Established", "--timeout=60s", "-f", str(ROOT / "crds"))
    _make_tenants(scene)
    identities, belongings = scene.identities(), scene.belongings()
    assert {f"tenants/{name}" for name in ("acme", "plain")} <= identities.keys()
    assert "Ingress" in str(belongings)

    scene.release("upgrade", str(next_version(scene.folder)), "--reuse-values", "--set", "operator.workers=16")
    assert _flag(scene, "workers") == "16"
    assert "tnt" in _short_names(scene)
    scene.change("acme", "upgraded")
    scene.release("rollback", "1")
    assert _flag(scene, "workers") == "32"
    assert "tnt" not in _short_names(scene)
    scene.change("plain", "rolled back")
    assert (scene.identities(), scene.belongings()) == (identities, belongings)

    scene.release("uninstall")  # while the operator is at work: its rights vanish under it
    assert not _there(scene, "deployment", "serviceaccount", "role")
    scene.stop_operator()
    assert (scene.identities(), scene.belongings()) == (identities, belongings)

    scene.release("install", str(CHART), "--values", str(MINIMAL), "--set", "operator.allowLoopbackTargets=true")
    scene.run_operator()
    scene.change("acme", "installed again")
    assert (scene.identities(), scene.belongings()) == (identities, belongings)

    scene.release("uninstall")
    scene.stop_operator()
    scene.follow_the_guide(scene.management, "forget")
    left = scene.management.kubectl("get", "customresourcedefinitions", "-o", "name")
    assert "tenantry.io" not in left
    scene.follow_the_guide(scene.target, "let go")
    assert scene.belongings() == belongings
    assert "tenantry" not in scene.target.kubectl(
        "get", "validatingadmissionpolicies,clusterrolebindings", "-o", "name"
    )


def _make_tenants(scene: Scene) -> None:
    install_target(scene.target)
    apply(
        scene.management,
        kubeconfig_secret("eu-1-kubeconfig", operator_kubeconfig(scene.target)),
        admin_secret("shared-fra-admin", scene.postgres),
        cluster_body("eu-1"),
        server_body("shared-fra", scene.postgres.port),
        plan_body("basic"),
        workspace_body("shop"),
        tenant_body("acme", "shop", database={"mode": "Shared"}, deletion={"protected": True}),
        tenant_body("plain", "shop", database={"mode": "None"}),
    )
    scene.run_operator()
    for name in ("acme", "plain"):
        scene.change(name, "first")
    namespace = scene.management.get("tenant", "acme", "-n", "shop")["status"]["namespace"]
    secret = scene.target.get("secret", "tenant-database", "-n", namespace)
    scene.database = base64.b64decode(secret["data"]["dbname"]).decode()
    with psycopg.connect(scene.postgres.superuser_dsn(scene.database)) as connection:
        connection.execute("CREATE TABLE customers (name text)")
        connection.execute("INSERT INTO customers VALUES ('Wile E.')")


def _flag(scene: Scene, name: str) -> str:
    (container,) = scene.deployment()["spec"]["template"]["spec"]["containers"]
    (flag,) = (word for word in container["args"] if word.startswith(f"--{name}="))
    return str(flag).partition("=")[2]


def _short_names(scene: Scene) -> list[str]:
    names: list[str] = scene.management.get("customresourcedefinition", "tenants.tenantry.io")["spec"]["names"][
        "shortNames"
    ]
    return names


def _there(scene: Scene, *kinds: str) -> list[str]:
    """Which of the release's objects are there."""
    selector = f"app.kubernetes.io/instance={RELEASE}"
    found = scene.management.get(",".join(kinds), "-n", NAMESPACE, "-l", selector)
    return [body["metadata"]["name"] for body in found["items"]]
