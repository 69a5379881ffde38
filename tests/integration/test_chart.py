"""The Helm chart by the real helm: what it makes, what a real API server says of that, and what it refuses."""

from __future__ import annotations

import asyncio
import functools
import itertools
import os
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.controlplane.access import KubectlError
from tests.controlplane.helm import Helm, HelmError
from tests.controlplane.monitoring import monitoring_crds
from tests.scene.chart import (
    CHART,
    CI_VALUES,
    MINIMAL,
    OPERATOR_MANIFEST,
    objects,
    operator_manifest,
    rendered,
)
from tests.scene.installation import NAMESPACE, ROOT
from tests.scene.lab import wait_until

from tenantry.cli.operator import operator
from tenantry.runtime.http import HttpEndpoints

if TYPE_CHECKING:
    from tests.controlplane.access import ClusterAccess

Json = dict[str, Any]
Key = tuple[str, str, str]

GRANTS = {"ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "ServiceAccount"}
RELEASES_OWN = (
    "app.kubernetes.io/instance",
    "app.kubernetes.io/version",
    "app.kubernetes.io/managed-by",
    "helm.sh/chart",
)
EVERYTHING = CHART / "ci" / "everything-values.yaml"
WITHOUT_KINDS = CHART / "ci" / "without-kinds-values.yaml"
REPLICATED = CHART / "ci" / "replicated-values.yaml"
DIGEST = "sha256:" + "0" * 64

ci_values = pytest.mark.parametrize("values", CI_VALUES, ids=lambda path: path.stem)


def keyed(bodies: list[Json]) -> dict[Key, Json]:
    """Objects by kind, namespace and name."""
    found = {(b["kind"], b["metadata"].get("namespace", ""), b["metadata"]["name"]): b for b in bodies}
    assert len(found) == len(bodies), "an object is there twice"
    return found


def unlabelled(body: Json) -> Json:
    """An object without what only a release has on it."""
    metadata = {key: value for key, value in body["metadata"].items() if key not in {"labels", "annotations"}}
    labels = body["metadata"].get("labels", {})
    kept = {key: value for key, value in labels.items() if key not in RELEASES_OWN}
    return {**body, "metadata": {**metadata, "labels": kept}}


def one(bodies: list[Json], kind: str, name: str = "tenantry-operator") -> Json:
    (body,) = (b for b in bodies if (b["kind"], b["metadata"]["name"]) == (kind, name))
    return body


@pytest.fixture
def monitored(management: ClusterAccess) -> ClusterAccess:
    """The management cluster with the Prometheus Operator's kinds and the operator's namespace."""
    kinds = list(itertools.chain.from_iterable(("-f", str(path)) for path in monitoring_crds()))
    management.kubectl("apply", "--server-side", *kinds)
    management.kubectl("wait", "--for=condition=Established", "--timeout=60s", *kinds)
    wait_until(functools.partial(_knows_monitors, management), 60, "ServiceMonitors and PrometheusRules are served")
    namespace = next(iter(objects((ROOT / "deploy" / "management-rbac.yaml").read_text())))
    management.kubectl("apply", "--server-side", "-f", "-", input=yaml.safe_dump(namespace))
    management.kubectl("wait", "--for=create", "--timeout=60s", "serviceaccount/default", "--namespace", NAMESPACE)
    return management


def _knows_monitors(cluster: ClusterAccess) -> bool:
    """Whether it serves them; that comes a moment after it has said that they are established."""
    try:
        cluster.kubectl("get", "servicemonitors,prometheusrules", "--all-namespaces")
    except KubectlError:
        return False
    return True


@ci_values
def test_helm_finds_no_fault_and_the_api_server_accepts_all_of_it_without_a_warning(
    helm: Helm, monitored: ClusterAccess, values: Path
) -> None:
    helm("lint", "--strict", str(CHART), "--namespace", NAMESPACE, "--values", str(values))
    said = monitored.kubectl(
        "apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict",
        "--warnings-as-errors", "-f", "-", input=rendered(helm, values),
    )  # fmt: skip
    assert "deployment.apps/tenantry-operator serverside-applied (server dry run)" in said


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ((), "/image/repository"),
        (("image.repository=registry.example.com/a:1",), "/image/repository"),
        (("image.repository=a", f"image.digest={DIGEST[:-1]}"), "/image/digest"),
        (("image.repository=a", "replicas=6"), "/replicas"),
        (("image.repository=a", "replicas=2", "leaderElection.enabled=false"), "leaderElection.enabled"),
        (("image.repository=a", "leaderElection.leaseDuration=0"), "/leaderElection/leaseDuration"),
        (("image.repository=a", "operator.workers=0"), "/operator/workers"),
        (("image.repository=a", "operator.massDeletion.share=2"), "/operator/massDeletion/share"),
        (("image.repository=a", "operator.wrokers=3"), "wrokers"),
        (("image.repository=a", "crds.keep=maybe"), "/crds/keep"),
        (("image.repository=a", "runAsUser=0"), "/runAsUser"),
        (("image.repository=a", "podLabels.app\\.kubernetes\\.io/name=x"), "/podLabels/"),
        (("image.repository=a", "serviceMonitor.enabled=true"), "serviceMonitor"),
    ],
)
def test_a_wrong_value_is_refused_and_its_field_is_named(helm: Helm, said: tuple[str, ...], field: str) -> None:
    settings = itertools.chain.from_iterable(("--set", word) for word in said)
    with pytest.raises(HelmError) as refused:
        helm("template", "tenantry", str(CHART), "--namespace", NAMESPACE, *settings)
    assert field in refused.value.said


def test_another_namespace_is_refused_with_the_one_that_it_has_to_be(helm: Helm) -> None:
    with pytest.raises(HelmError) as refused:
        helm("template", "tenantry", str(CHART), "--namespace", "elsewhere", "--values", str(MINIMAL))
    assert 'the namespace is "elsewhere"' in refused.value.said
    assert "--namespace tenantry-system" in refused.value.said


def test_the_chart_gives_exactly_the_rights_and_policies_of_the_plain_files(helm: Helm) -> None:
    plain = keyed(objects((ROOT / "deploy" / "management-rbac.yaml").read_text()))
    made = keyed(objects(rendered(helm)))
    del plain["Namespace", "", NAMESPACE]
    assert {key for key in made if key[0] in GRANTS} == {key for key in plain if key[0] in GRANTS}
    for key, body in plain.items():
        assert unlabelled(made[key]) == unlabelled(body)


def test_without_aggregation_the_roles_for_workspaces_are_in_no_role_of_kubernetes(helm: Helm) -> None:
    def aggregated(*arguments: str) -> set[str]:
        bodies = objects(rendered(helm, MINIMAL, *arguments))
        labels = {label for body in bodies for label in body["metadata"].get("labels", {})}
        return {label.rpartition("-")[2] for label in labels if "aggregate-to-" in label}

    assert aggregated() == {"admin", "edit", "view"}
    assert aggregated("--set", "workspaceRoles.aggregate=false") == set()


def test_the_chart_has_the_kinds_of_crds_and_they_outlive_the_release_unless_told_otherwise(helm: Helm) -> None:
    plain = keyed([body for path in (ROOT / "crds").glob("*.yaml") for body in objects(path.read_text())])
    made = keyed([body for body in objects(rendered(helm)) if body["kind"] == "CustomResourceDefinition"])
    assert made.keys() == plain.keys()
    for key, body in plain.items():
        assert made[key]["spec"] == body["spec"]
        assert made[key]["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    given_up = objects(rendered(helm, MINIMAL, "--set", "crds.keep=false"))
    assert not any("helm.sh/resource-policy" in body["metadata"].get("annotations", {}) for body in given_up)
    without = objects(rendered(helm, WITHOUT_KINDS))
    assert not any(body["kind"] == "CustomResourceDefinition" for body in without)


def test_plain_yaml_is_what_the_chart_makes_by_default(helm: Helm) -> None:
    stale = "run `make operator-manifest` and commit the result"
    assert operator_manifest(helm) == OPERATOR_MANIFEST.read_text(), stale
    plain = keyed(objects((ROOT / "deploy" / "install.yaml").read_text()))
    made = keyed([body for body in objects(rendered(helm)) if body["kind"] != "Pod"])
    assert made.keys() == plain.keys() - {("Namespace", "", NAMESPACE)}
    for key, body in made.items():
        if key[0] not in {"CustomResourceDefinition", "Deployment"}:  # compared above, and each has labels more
            assert unlabelled(plain[key]) == unlabelled(body)


@ci_values
def test_the_operator_takes_every_flag_that_its_deployment_gives(helm: Helm, values: Path) -> None:
    (container,) = one(objects(rendered(helm, values)), "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["tenantry", "operator"]
    operator.make_context("operator", [*container["args"]])


def test_every_value_for_the_operator_reaches_its_flag(helm: Helm) -> None:
    (container,) = one(objects(rendered(helm, EVERYTHING)), "Deployment")["spec"]["template"]["spec"]["containers"]
    flags = operator.make_context("operator", [*container["args"]]).params
    assert flags == {
        "kubeconfig": None, "namespace": NAMESPACE, "management_id": "production-eu",
        "metrics_address": ":9080", "health_address": ":9081", "workers": 64, "resync": 1200,
        "mass_deletion_count": 20, "mass_deletion_span": 300, "mass_deletion_share": 0.25, "hold_terminating": False,
        "rollout_settle": 30, "rollout_patience": 120.5, "allow_loopback_targets": True,
        "instance": None, "leader_elect": True, "leader_elect_resource_name": "operators",
        "leader_elect_lease_duration": 60, "leader_elect_renew_deadline": 40.5, "leader_elect_retry_period": 5,
        "dns_servers": ("192.0.2.53", "192.0.2.54:5353"), "log_format": "text", "log_level": "DEBUG",
    }  # fmt: skip


@ci_values
def test_the_operators_pod_may_nothing_that_it_need_not(helm: Helm, values: Path) -> None:
    bodies = objects(rendered(helm, values))
    for pod in (
        one(bodies, "Deployment")["spec"]["template"]["spec"],
        one(bodies, "Pod", "tenantry-operator-test")["spec"],
    ):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"].get("runAsUser", 65532) == 65532
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True,
        }  # fmt: skip
        assert container["resources"]["limits"]["memory"]
        assert all("emptyDir" in volume for volume in pod.get("volumes", []))


def test_a_digest_stands_in_place_of_the_tag(helm: Helm) -> None:
    def image(*arguments: str) -> str:
        pod = one(objects(rendered(helm, MINIMAL, *arguments)), "Deployment")["spec"]["template"]["spec"]
        return str(pod["containers"][0]["image"])

    name = "registry.example.com/tenantry/operator"
    assert image() == f"{name}:0.1.0"
    assert image("--set", "image.tag=edge") == f"{name}:edge"
    assert image("--set", f"image.tag=edge,image.digest={DIGEST}") == f"{name}@{DIGEST}"


def test_extra_objects_are_templates_given_as_objects_or_as_texts(helm: Helm) -> None:
    bodies = objects(rendered(helm, EVERYTHING))
    assert one(bodies, "ConfigMap", "extra-object")["data"] == {"release": "tenantry"}
    assert one(bodies, "ConfigMap", "extra-text")["data"] == {"version": "0.1.0"}


def test_common_labels_are_on_every_object_of_the_chart_and_on_its_pods(helm: Helm) -> None:
    bodies = [body for body in objects(rendered(helm, EVERYTHING)) if body["kind"] != "ConfigMap"]
    pods = one(bodies, "Deployment")["spec"]["template"]
    unlike = [body["metadata"] for body in [*bodies, pods] if body["metadata"]["labels"].get("team") != "platform"]
    assert unlike == []
    assert pods["metadata"]["labels"]["sidecar"] == "none"


def test_monitor_policy_and_budget_choose_the_operators_pods_and_the_ports_that_they_have(helm: Helm) -> None:
    bodies = objects(rendered(helm, EVERYTHING))
    pod = one(bodies, "Deployment")["spec"]["template"]
    labels, ports = (
        pod["metadata"]["labels"],
        {p["name"]: p["containerPort"] for p in pod["spec"]["containers"][0]["ports"]},
    )
    service, policy = one(bodies, "Service"), one(bodies, "NetworkPolicy")["spec"]
    monitor = one(bodies, "ServiceMonitor")["spec"]
    selectors = (
        one(bodies, "Deployment")["spec"]["selector"]["matchLabels"],
        service["spec"]["selector"],
        policy["podSelector"]["matchLabels"],
        one(bodies, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
    )
    assert all(selector.items() <= labels.items() for selector in selectors)
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert {p["name"]: p["targetPort"] for p in service["spec"]["ports"]} == ports
    assert {rule["ports"][0]["port"] for rule in policy["ingress"]} == set(ports.values())
    tester = one(bodies, "Pod", "tenantry-operator-test")["metadata"]["labels"]
    assert policy["ingress"][1]["from"][0]["podSelector"]["matchLabels"].items() <= tester.items()


def test_several_replicas_prefer_different_nodes_and_each_knows_its_own_name(helm: Helm) -> None:
    spec = one(objects(rendered(helm, REPLICATED)), "Deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]["rollingUpdate"]) == (2, {"maxSurge": 1, "maxUnavailable": 0})
    pod = spec["template"]
    (term,) = pod["spec"]["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert term["podAffinityTerm"]["labelSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    environment = {entry["name"]: entry for entry in pod["spec"]["containers"][0]["env"]}
    assert environment["TENANTRY_INSTANCE"]["value"] == "$(POD_NAME)_$(POD_UID)"
    assert environment["POD_UID"]["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.uid"


def test_without_election_the_old_one_ends_before_the_new_one_begins(helm: Helm) -> None:
    spec = one(objects(rendered(helm, MINIMAL, "--set", "leaderElection.enabled=false")), "Deployment")["spec"]
    assert spec["strategy"] == {"type": "Recreate"}
    assert "affinity" not in spec["template"]["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    assert operator.make_context("operator", [*container["args"]]).params["leader_elect"] is False


@pytest.mark.parametrize("ready", [True, False])
async def test_the_releases_test_passes_when_the_operator_is_ready_and_else_says_why(helm: Helm, ready: bool) -> None:
    (container,) = one(objects(rendered(helm)), "Pod", "tenantry-operator-test")["spec"]["containers"]
    assert container["command"] == ["python3", "-c"]
    script = container["args"][0]
    if not ready:
        script = script.replace("time.monotonic() + 60", "time.monotonic() + 0.5")
        assert script != container["args"][0]
    endpoints = HttpEndpoints(
        metrics_address="0", health_address="127.0.0.1:0", metrics=lambda _: (b"", ""), live={},
        ready={"caches": lambda: None if ready else "not everything has been listed yet"},
    )  # fmt: skip
    await endpoints.start()
    try:
        test = await asyncio.create_subprocess_exec(
            sys.executable, "-c", script,
            env={**os.environ, "READY_URL": f"http://{endpoints.health_at}/readyz"}, stdout=PIPE, stderr=STDOUT,
        )  # fmt: skip
        said, _ = await asyncio.wait_for(test.communicate(), 120)
    finally:
        await endpoints.stop()
    assert (test.returncode == 0) is ready, said
    assert ready or b"caches failed: not everything has been listed yet" in said


def test_kustomize_takes_the_plain_install_as_a_base_and_puts_in_the_image(
    management: ClusterAccess, tmp_path: Path
) -> None:
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    guide = (ROOT / "docs" / "guides" / "install-with-helm.md").read_text()
    (block,) = (text for text in guide.split("```") if text.startswith("yaml\n# kustomization.yaml"))
    base = os.path.relpath(ROOT / "deploy", overlay.resolve())
    (overlay / "kustomization.yaml").write_text(block.removeprefix("yaml\n").replace("../../deploy", base))
    bodies = objects(management.kubectl("kustomize", str(overlay)))
    plain = objects((ROOT / "deploy" / "install.yaml").read_text())
    assert len(bodies) == len(plain)
    pod = one(bodies, "Deployment")["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == f"registry.internal.example.com/tenantry@{DIGEST}"
