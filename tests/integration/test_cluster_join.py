"""`tenantry cluster join` as people run it: two control planes of its own, the operator as a process."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.controlplane.access import ClusterAccess, KubectlError
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.processes import HeldPort
from tests.integration.acting import eventually
from tests.scene.installation import NAMESPACE, OPERATOR, apply, install_management, operator_kubeconfig
from tests.scene.operator import OperatorProcess

from tenantry.cli.main import main

JOIN_SECONDS = 150.0
PLAN = {
    "apiVersion": "tenantry.io/v1alpha1",
    "kind": "TenantPlan",
    "metadata": {"name": "basic"},
    "spec": {"allowedWorkspaces": {"from": "All"}, "allowedModes": ["None"], "deletion": {"maxWindow": "0s"}},
}


@dataclass(frozen=True, slots=True)
class Sides:
    """A management cluster with the kinds and the operator's rights, and a target on which there is nothing yet."""

    management: ClusterAccess
    target: ClusterAccess
    folder: Path

    def join(self, *arguments: str, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `tenantry cluster join`; what it says is part of the failure when it ends with another code."""
        done = subprocess.run(
            [sys.executable, "-m", "tenantry", "cluster", "join", *arguments],
            env={**os.environ, "KUBECONFIG": str(self.management.kubeconfig_path), **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=JOIN_SECONDS,
        )
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done

    def register(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Join the target without an operator to wait for."""
        return self.join(name, "--target-kubeconfig", str(self.target.kubeconfig_path), "--timeout", "0", *arguments)

    def refused(self, *arguments: str) -> str:
        """The one line with which a join is refused. In this process: starting one for each refusal takes longer."""
        done = CliRunner(env={"KUBECONFIG": str(self.management.kubeconfig_path)}).invoke(
            main, ["cluster", "join", *arguments]
        )
        assert done.exit_code == 1, done.output
        assert isinstance(done.exception, SystemExit), done.exc_info
        said = done.stderr.strip().splitlines()
        assert said[-1].startswith("Error: ")
        assert sum(line.startswith("Error: ") for line in said) == 1
        return said[-1]

    def kubeconfig(self, secret: str, key: str = "value") -> dict[str, Any]:
        """The kubeconfig in a Secret of the operator's namespace."""
        data = self.management.get("secret", secret, "--namespace", NAMESPACE)["data"]
        config: dict[str, Any] = json.loads(base64.b64decode(data[key]))
        return config

    def token(self, secret: str) -> str:
        return str(self.kubeconfig(secret)["users"][0]["user"]["token"])

    def tokens(self, cluster: str) -> list[str]:
        """The names of the token Secrets on the target that were made for a Cluster."""
        items = self.target.get("secrets", "--namespace", NAMESPACE)["items"]
        return [
            item["metadata"]["name"]
            for item in items
            if item["metadata"].get("annotations", {}).get("tenantry.io/cluster") == cluster
        ]

    def whoami(self, token: str) -> str:
        """Who the target takes the bearer of a token for."""
        path = self.folder / "whoami"
        path.write_text(self.target.kubeconfig_for(token))
        return self.target.kubectl(
            "--kubeconfig", str(path), "auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"
        )

    def file(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text)
        return str(path)


@pytest.fixture(scope="module")
def planes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sides]:
    with ControlPlane("hub") as hub, ControlPlane("spoke", audit=True) as spoke:
        install_management(hub.access)
        apply(hub.access, PLAN)
        yield Sides(hub.access, spoke.access, tmp_path_factory.mktemp("join"))


@pytest.fixture
def sides(planes: Sides) -> Iterator[Sides]:
    """No Cluster is left behind: one target is registered once."""
    yield planes
    for body in planes.management.get("tcl")["items"]:  # which no operator is there to let go of
        name = body["metadata"]["name"]
        planes.management.kubectl("patch", "tcl", name, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
        planes.management.kubectl("delete", "tcl", name, "--timeout=90s")


@pytest.fixture
def operator(planes: Sides, tmp_path: Path) -> Iterator[OperatorProcess]:
    path = tmp_path / "operator"
    path.write_text(operator_kubeconfig(planes.management))
    with OperatorProcess(path, tmp_path / "log").start() as running:
        yield running


def tenant(name: str, workspace: str) -> dict[str, Any]:
    return {
        "apiVersion": "tenantry.io/v1alpha1",
        "kind": "Tenant",
        "metadata": {"name": name, "namespace": workspace},
        "spec": {"plan": "basic", "database": {"mode": "None"}},
    }


def wait_ready(management: ClusterAccess, workspace: str, name: str) -> None:
    management.kubectl("wait", "--for=condition=Ready", f"tn/{name}", "--namespace", workspace, "--timeout=90s")


def test_a_joined_cluster_is_ready_and_joining_again_renews_its_token_under_a_running_operator(
    sides: Sides, operator: OperatorProcess
) -> None:
    there = ("east", "--target-kubeconfig", str(sides.target.kubeconfig_path))
    done = sides.join(*there, "--allowed-workspaces", "All", "--default", "--region", "fra")
    assert done.stdout == "Cluster east is Ready\n"
    assert "--allow-loopback-targets" in done.stderr
    first = sides.token("east-kubeconfig")
    assert sides.whoami(first) == f"system:serviceaccount:{NAMESPACE}:{OPERATOR}"
    sides.management.kubectl("create", "namespace", "shop")
    apply(sides.management, tenant("acme", "shop"))
    wait_ready(sides.management, "shop", "acme")
    (former,) = sides.tokens("east")
    started, pid = operator.log_text.count("\n"), operator.pid

    again = sides.join(*there)

    second = sides.token("east-kubeconfig")
    assert f"Secret {former}, is deleted" in again.stderr
    assert second != first
    assert former not in sides.tokens("east")
    with pytest.raises(KubectlError, match=r"Unauthorized|logged in"):
        eventually(lambda: sides.whoami(first) == "")  # raises as soon as no API server remembers it
    apply(sides.management, tenant("globex", "shop"))
    wait_ready(sides.management, "shop", "globex")
    assert operator.pid == pid, operator.log_text[started:]
    spec = sides.management.get("tcl", "east")["spec"]
    assert (spec["region"], spec["default"], spec["allowedWorkspaces"]["from"]) == ("fra", True, "All")
    for name in ("acme", "globex"):
        sides.management.kubectl("delete", "tn", name, "--namespace", "shop", "--timeout=90s")
    sides.management.kubectl("delete", "tcl", "east", "--timeout=90s")  # while there is an operator to let go of it


def test_a_cluster_that_does_not_get_ready_is_told_with_its_condition_and_keeps_the_former_token(
    sides: Sides, tmp_path: Path
) -> None:
    sides.register("slow")
    (former,) = sides.tokens("slow")
    there = ("slow", "--target-kubeconfig", str(sides.target.kubeconfig_path))
    silent = sides.refused(*there, "--timeout", "1")
    assert "registered but not Ready: no operator has looked at it yet" in silent
    path = tmp_path / "operator"
    path.write_text(operator_kubeconfig(sides.management))
    sides.target.kubectl("delete", "clusterrolebinding", OPERATOR)
    with OperatorProcess(path, tmp_path / "log").start():
        sides.management.kubectl("wait", "--for=condition=Stalled", "tcl/slow", "--timeout=90s")
        with HeldPort() as port:
            nobody = f"https://127.0.0.1:{port.number}"
            unreachable = sides.refused(*there, "--server", nobody, "--timeout", "30")
        assert "not Ready: Unreachable" in unreachable
        assert "refused the connection" in unreachable
        assert former in sides.tokens("slow")
        assert sides.join(*there).stdout == "Cluster slow is Ready\n"  # which gives the right back, and tidies up
        assert len(sides.tokens("slow")) == 1
        sides.management.kubectl("delete", "tcl", "slow", "--timeout=90s")


def test_a_dry_run_prints_both_sides_without_a_token_and_writes_nothing(sides: Sides) -> None:
    mark = sides.target.audit_mark()
    done = sides.register("dry", "--dry-run", "-o", "json", "--domain", "d.example.com", "--ingress-class", "nginx")
    printed = json.loads(done.stdout)
    kinds = [item["kind"] for item in printed["target"]["items"]]
    assert kinds[0] == "Namespace"
    assert kinds[-1] == "Secret"
    secret, cluster = printed["management"]["items"]
    assert "a-token-that-the-target-makes" in base64.b64decode(secret["data"]["value"]).decode()
    assert cluster["spec"]["domain"] == "d.example.com"
    assert cluster["spec"]["ingress"] == {"className": "nginx"}
    writes = [entry for entry in sides.target.audit_entries(after=mark) if entry.user == "tenantry-test-admin"]
    assert {entry.verb for entry in writes} <= {"get", "list"}
    assert not sides.management.get("tcl")["items"]
    with pytest.raises(KubectlError, match="not found"):
        sides.management.get("secret", "dry-kubeconfig", "--namespace", NAMESPACE)
    apply(sides.management, cluster)  # what it prints is accepted


def test_flags_change_what_they_say_and_nothing_else_of_a_cluster_that_is_there(sides: Sides) -> None:
    sides.register("flags", "--region", "fra", "--default")
    sides.management.kubectl("patch", "tcl", "flags", "--type=merge", "-p", '{"spec":{"unschedulable":true}}')
    done = sides.register("flags", "--environment", "prod", "--no-default", "-o", "json")
    spec = json.loads(done.stdout)["spec"]
    assert (spec["region"], spec["environment"], spec["default"], spec["unschedulable"]) == ("fra", "prod", False, True)


def test_the_secret_and_the_key_that_a_cluster_names_are_renewed(sides: Sides) -> None:
    cluster = {
        "apiVersion": "tenantry.io/v1alpha1",
        "kind": "Cluster",
        "metadata": {"name": "named"},
        "spec": {"kubeconfigSecretRef": {"name": "of-my-own", "key": "admin.conf"}},
    }
    apply(sides.management, cluster)
    sides.register("named")
    assert sides.kubeconfig("of-my-own", "admin.conf")["current-context"] == "named"


def test_a_token_with_a_duration_needs_no_secret_on_the_target(sides: Sides) -> None:
    said = sides.register("brief", "--token-duration", "1h").stderr
    assert "the token holds until" in said
    assert sides.tokens("brief") == []
    assert sides.whoami(sides.token("brief-kubeconfig")).endswith(f":{OPERATOR}")


def test_a_context_that_needs_files_and_names_no_ca_gives_a_kubeconfig_with_everything_in_line(sides: Sides) -> None:
    config = json.loads(sides.target.certificate_kubeconfig("anna", "system:masters"))
    user, cluster = config["users"][0]["user"], config["clusters"][0]["cluster"]
    for kind in ("certificate", "key"):
        sides.file(f"anna.{kind}", base64.b64decode(user.pop(f"client-{kind}-data")).decode())
        user[f"client-{kind}"] = f"anna.{kind}"
    del cluster["certificate-authority-data"]
    cluster["insecure-skip-tls-verify"] = True
    path = sides.file("files", json.dumps(config))
    merged = f"{sides.management.kubeconfig_path}:{path}"
    sides.join("files", "--context", "spoke", "--timeout", "0", KUBECONFIG=merged)
    made = sides.kubeconfig("files-kubeconfig")
    authority = base64.b64decode(made["clusters"][0]["cluster"]["certificate-authority-data"]).decode()
    assert authority.strip() == sides.target.ca_pem.strip()
    assert set(made["users"][0]["user"]) == {"token"}


# --- refusals ------------------------------------------------------------------------------------------------------
def test_the_management_cluster_itself_is_not_joined(sides: Sides) -> None:
    said = sides.refused("self", "--context", "hub")
    assert "register it by a Cluster without kubeconfigSecretRef" in said


def test_a_target_is_registered_once_and_a_name_stands_for_one_target(sides: Sides) -> None:
    sides.register("one")
    identity = sides.target.get("namespace", "kube-system")["metadata"]["uid"]

    def report(cluster_id: str) -> None:
        status = json.dumps({"status": {"clusterId": cluster_id}})
        sides.management.kubectl("patch", "tcl", "one", "--subresource=status", "--type=merge", "-p", status)

    there = ("--target-kubeconfig", str(sides.target.kubeconfig_path), "--timeout", "0")
    report(identity)
    assert "registered already, as Cluster 'one'" in sides.refused("two", *there)
    report("another")
    said = sides.refused("one", *there)
    assert f"tenantry.io/accept-identity={identity}" in said
    sides.management.kubectl("annotate", "tcl", "one", f"tenantry.io/accept-identity={identity}")
    sides.register("one")


def test_a_person_without_rights_is_told_which_one_is_missing_and_on_which_side(sides: Sides) -> None:
    nobody = sides.file("nobody", sides.target.certificate_kubeconfig("nobody"))
    said = sides.refused("weak", "--target-kubeconfig", nobody)
    assert "the target" in said
    assert 'User "nobody" cannot get resource "namespaces"' in said
    stranger = sides.file("stranger", sides.target.kubeconfig_for("no-token"))
    assert "does not accept your credentials" in sides.refused("weak", "--target-kubeconfig", stranger)
    guest = sides.file("guest", sides.management.certificate_kubeconfig("guest"))
    there = ("--target-kubeconfig", str(sides.target.kubeconfig_path))
    said = sides.refused("weak", *there, "--kubeconfig", guest)
    assert "the management cluster" in said
    assert 'User "guest" cannot' in said
    assert sides.tokens("weak") == []


def test_a_target_that_can_not_be_used_is_refused_in_one_line(sides: Sides) -> None:
    config = json.loads(sides.target.kubeconfig)
    cluster = config["clusters"][0]["cluster"]
    authority, server = cluster["certificate-authority-data"], cluster["server"]

    def said(**fields: str) -> str:
        cluster.update({"certificate-authority-data": authority, "server": server, **fields})
        return sides.refused("bad", "--target-kubeconfig", sides.file("bad", json.dumps(config)))

    with HeldPort() as port:
        assert "refused the connection" in said(server=f"https://127.0.0.1:{port.number}")
    nothing = base64.b64encode(b"nothing").decode()
    assert "certificate-authority-data holds no PEM certificate" in said(**{"certificate-authority-data": nothing})
    there = ("--target-kubeconfig", str(sides.target.kubeconfig_path))
    assert "server uses http" in sides.refused("bad", *there, "--server", "http://spoke.example.com")
    assert "metadata" in sides.refused("bad", *there, "--server", "https://169.254.169.254")
    assert "certificate is not signed" in sides.refused("bad", *there, "--server", sides.management.server)
    assert "there is no kubeconfig at" in sides.refused("bad", "--target-kubeconfig", "absent")
    assert "has no context 'west'; it has: spoke" in sides.refused("bad", *there, "--context", "west")
    assert sides.tokens("bad") == []


def test_what_the_management_cluster_would_refuse_is_told_before_the_target_is_touched(sides: Sides) -> None:
    mark = sides.target.audit_mark()
    there = ("--target-kubeconfig", str(sides.target.kubeconfig_path))
    assert "no namespace 'nowhere'" in sides.refused("early", *there, "--namespace", "nowhere")
    assert "domain must be set" in sides.refused("early", *there, "--ingress-class", "nginx")
    assert "early_" in sides.refused("early_", *there)
    swapped = ("--context", "hub", "--target-kubeconfig", str(sides.management.kubeconfig_path))
    kinds = sides.refused("early", *swapped, "--kubeconfig", str(sides.target.kubeconfig_path))
    assert "does not know Clusters: tenantry crds" in kinds
    mine = [entry for entry in sides.target.audit_entries(after=mark) if entry.user == "tenantry-test-admin"]
    assert {entry.verb for entry in mine} <= {"get", "list"}
