"""What `tenantry cluster join` writes, reads out of a status and refuses before it asks any cluster."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from tests.controlplane.certificates import Authority

from tenantry.adapters.kube.kubeconfig import SECRET_KEYS, kubeconfig_from_secret, parse_kubeconfig
from tenantry.cli.main import main
from tenantry.cli.manifests import TARGET_RIGHTS, bundled
from tenantry.desired import joining

CA = Authority.new("target").certificate_pem.encode()


def cluster(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "east", "generation": 2}, "spec": {}, "status": status}


def ready(status: str, reason: str, **more: str) -> dict[str, str]:
    return {"type": "Ready", "status": status, "reason": reason, **more}


def test_the_kubeconfig_is_one_that_the_operator_takes() -> None:
    text = joining.kubeconfig(
        "east", server="https://East.example.com/k8s/", ca_pem=CA, token="abc", tls_server_name="k"
    )
    secret = joining.kubeconfig_secret("east-kubeconfig", "tenantry-system", "value", text)
    taken = parse_kubeconfig(kubeconfig_from_secret(secret["data"], None), now=datetime.now(UTC))
    assert (taken.server, taken.token, taken.tls_server_name) == ("https://east.example.com:443/k8s", "abc", "k")
    assert taken.ca_pem.strip() == CA.strip()


def test_only_what_flags_say_is_in_the_spec() -> None:
    assert joining.Wishes().spec() == {}
    wishes = joining.Wishes(region="fra", default=False, ingress_class="nginx", allowed_workspaces="All")
    said = {"region": "fra", "default": False, "ingress": {"className": "nginx"}, "allowedWorkspaces": {"from": "All"}}
    assert wishes.spec() == said
    made = joining.cluster_manifest("east", wishes)["spec"]
    assert made == {"kubeconfigSecretRef": {"name": "east-kubeconfig"}, **said}
    assert "spec" not in joining.cluster_patch(joining.Wishes(), "now")


@pytest.mark.parametrize(
    ("reference", "there", "place"),
    [
        ({"name": "s", "key": "mine"}, {"value": "x"}, ("s", "mine")),
        ({"name": "s"}, {"kubeconfig": "x"}, ("s", "kubeconfig")),
        ({"name": "s"}, {"value.yaml": "x", "value": "y"}, ("s", "value")),
        ({"name": "s"}, {}, ("s", "value")),
    ],
)
def test_the_key_that_the_operator_reads_is_the_one_that_is_written(
    reference: dict[str, str], there: dict[str, str], place: tuple[str, str]
) -> None:
    assert joining.kubeconfig_place(reference, there, SECRET_KEYS) == place


def test_only_tokens_of_the_same_cluster_are_former_ones() -> None:
    token = joining.token_secret("new", cluster="east", joined_by="uid")
    assert joining.is_former_token(token, cluster="east", keep="newer")
    assert not joining.is_former_token(token, cluster="east", keep="new")
    assert not joining.is_former_token(token, cluster="west", keep="newer")
    assert not joining.is_former_token({**token, "type": "Opaque"}, cluster="east", keep="newer")


@pytest.mark.parametrize(
    ("body", "is_ready", "says"),
    [
        (cluster(), False, "no operator has looked"),
        (cluster(observedGeneration=-1), False, "no operator has looked"),
        (cluster(observedGeneration=1, conditions=[ready("True", "Ready")]), False, "has not looked at the change"),
        (
            cluster(observedGeneration=2, lastHandledReconcileAt="before", conditions=[ready("True", "Ready")]),
            False,
            "has not looked at the change",
        ),
        (cluster(observedGeneration=2, lastHandledReconcileAt="now"), False, "has not judged it yet"),
        (
            cluster(
                observedGeneration=2, lastHandledReconcileAt="now", conditions=[ready("False", "Bad", message="m")]
            ),
            False,
            "Bad: m",
        ),
        (
            cluster(observedGeneration=2, lastHandledReconcileAt="now", conditions=[ready("True", "Ready")]),
            True,
            "Ready",
        ),
    ],
)
def test_ready_counts_only_when_the_operator_said_it_about_what_was_asked(
    body: dict[str, Any], is_ready: bool, says: str
) -> None:
    state = joining.readiness(body, requested_at="now")
    assert state.ready is is_ready
    assert says in state.message


@pytest.mark.parametrize(
    ("version", "old"), [("v1.29.4-eks-1", True), ("v1.30.0", False), ("v1.36.3", False), ("v2.0.0", False)]
)
def test_an_api_server_without_admission_policies_is_too_old(version: str, old: bool) -> None:
    assert joining.too_old(version) is old


def test_every_kind_in_the_rights_for_targets_can_be_applied() -> None:
    bodies = bundled(TARGET_RIGHTS)
    assert {"Namespace", "ServiceAccount", "ValidatingAdmissionPolicy", "ClusterRole"} <= {
        body["kind"] for body in bodies
    }
    for body in bodies:
        resource = joining.RIGHTS_KINDS[body["apiVersion"], body["kind"]]
        assert resource.namespaced == ("namespace" in body["metadata"])


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["east"], 2, "name the target"),
        (["east", "--context", "x", "--token-secret", "--token-duration", "1h"], 2, "not both"),
        (["east", "--context", "x", "--token-duration", "1 year"], 2, "is not a duration"),
        (["east", "--context", "x", "--token-duration", "5m"], 2, "less than 10m"),
        (["east", "--context", "x", "--allowed-workspaces", "Some"], 2, "Some"),
        (["east", "--context", "x", "--kubeconfig", "/absent"], 1, "there is no kubeconfig at /absent"),
    ],
)
def test_a_command_that_can_not_mean_anything_is_refused(arguments: list[str], code: int, message: str) -> None:
    result = CliRunner().invoke(main, ["cluster", "join", *arguments])
    assert result.exit_code == code
    assert message in result.output


def test_a_ca_that_is_no_pem_is_named_by_its_context_before_anything_is_dialled(tmp_path: Path) -> None:
    path = tmp_path / "config"
    authority = base64.b64encode(b"nothing").decode()
    content = {
        "clusters": [{"name": "c", "cluster": {"server": "https://c", "certificate-authority-data": authority}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
    }
    path.write_text(yaml.safe_dump(content))
    result = CliRunner().invoke(main, ["cluster", "join", "east", "--context", "x", "--target-kubeconfig", str(path)])
    assert result.exit_code == 1
    assert "context 'x': certificate-authority-data holds no PEM certificate" in result.output
