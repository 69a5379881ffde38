"""`tenantry install-check` and `tenantry support-bundle` as people run them, on real servers with a real operator."""

from __future__ import annotations

import base64
import hashlib
import json
import stat
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from tests.integration.acting import role_binding
from tests.integration.pod_logs import NODE, LoggingNode, PodMetrics
from tests.scene.careful import Shop, careful_lab, command
from tests.scene.installation import NAMESPACE, ROOT, apply
from tests.scene.lab import Lab, conditions_text, tenant_body, wait_until

from tenantry import __version__
from tenantry.cli.main import main

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("fresh_control_plane"),  # has the binary built outside the time-out; none is started
]

Json = dict[str, Any]
ENV_VALUE = "an-env-value-nobody-may-read-77"
DESCRIBED = "description-with-a-code-4711-xyz"
ANNOTATED = "annotation-of-somebody-5522-xyz"
LOGGED = "logged-by-mistake-9931-xyz"
FOLDER = "tenantry-support-bundle"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with careful_lab(tmp_path_factory.mktemp("support")) as opened:
        yield opened


@pytest.fixture(scope="module")
def shop(lab: Lab) -> Shop:
    """One tenant that is Ready, with all kinds of things that are nobody's business."""
    shop = Shop(lab, "support-shop")
    env = {"LOG_LEVEL": "info", "API_CODE": ENV_VALUE}
    shop.open("acme", env=env, description=DESCRIBED)
    shop.kubectl("annotate", "tenant", "acme", f"kubectl.kubernetes.io/last-applied-configuration={ANNOTATED}")
    return shop


def check(lab: Lab, *arguments: str, code: int) -> list[Json]:
    """The findings."""
    report = json.loads(command(lab, "install-check", "-o", "json", *arguments, code=code).stdout)
    assert sum(report["summary"].values()) == len(report["findings"])
    return list(report["findings"])


def of(findings: list[Json], level: str) -> dict[str, str]:
    return {each["what"]: each["message"] for each in findings if each["level"] == level}


@contextmanager
def mended(lab: Lab) -> Iterator[None]:
    """Installed anew afterwards, whatever was broken."""
    try:
        yield
    finally:
        lab.management.access.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds"))
        rights = str(ROOT / "deploy" / "management-rbac.yaml")
        lab.management.access.kubectl("apply", "--server-side", "--force-conflicts", "-f", rights)


# --- install-check --------------------------------------------------------------------------------------------------
def test_an_installation_that_is_well_is_said_to_be(lab: Lab, shop: Shop) -> None:
    findings = check(lab, "--no-pods", code=0)
    assert {each["level"] for each in findings} == {"Well", "Notice"}
    well = of(findings, "Well")
    assert well["tenants.tenantry.io"] == f"established, served, of {__version__}"
    assert well["Cluster"] == "1, all Ready"
    assert "has all" in well["ServiceAccount tenantry-system/tenantry-operator"]
    assert "1 Ready" in next(message for what, message in well.items() if what.endswith(" tenants"))
    text = command(lab, "install-check", "--no-pods").stdout
    assert text.splitlines()[0].split() == ["STATE", "AREA", "WHAT", "FOUND"]
    assert text.splitlines()[-1].endswith("Well")


def test_it_writes_nothing_and_asks_for_no_secret(lab: Lab, shop: Shop, tmp_path: Path) -> None:
    mark = lab.management.access.audit_mark()
    check(lab, "--no-pods", code=0)
    command(lab, "support-bundle", "--no-pods", "-o", str(tmp_path / "b.tar.gz"))
    entries = lab.management.access.audit_entries(after=mark)
    people = [each for each in entries if not each.user.startswith("system:")]
    assert len(people) > 100
    assert not [each for each in people if each.resource == "secrets"]
    assert {each.verb for each in people if each.resource != "subjectaccessreviews"} <= {"get", "list"}


def test_an_operator_that_is_not_there_is_wrong_unless_it_runs_elsewhere(lab: Lab, shop: Shop) -> None:
    findings = check(lab, code=1)
    assert of(findings, "Wrong") == {
        f"Deployment in {NAMESPACE}": "there is none of the operator",
        f"pods in {NAMESPACE}": "no pod of the operator is seen",
    }
    assert all("--no-pods" in each["remedy"] for each in findings if each["level"] == "Wrong")


def test_kinds_of_another_version_are_told_by_their_fields(lab: Lab, shop: Shop) -> None:
    schema = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties"
    older = [{"op": "remove", "path": f"{schema}/displayName"}]
    newer = [{"op": "add", "path": f"{schema}/brandNew", "value": {"type": "string"}}]
    patch = ("patch", "crd", "tenantplans.tenantry.io", "--type=json", "-p")
    with mended(lab):
        lab.management.access.kubectl(*patch, json.dumps(older))
        found = of(check(lab, "--no-pods", code=1), "Wrong")
        assert found == {"tenantplans.tenantry.io": f"older than {__version__}: lacks spec.displayName"}
        lab.management.access.kubectl(*patch, json.dumps(newer))
        told = of(check(lab, "--no-pods", code=1), "Wrong")["tenantplans.tenantry.io"]
        assert "lacks spec.displayName; has spec.brandNew beside" in told
    assert not of(check(lab, "--no-pods", code=0), "Wrong")


def test_a_policy_and_rights_that_are_missing_are_told_with_the_way_out(lab: Lab, shop: Shop) -> None:
    with mended(lab):
        policy = "validatingadmissionpolicybinding/tenantry-protected-tenants"
        lab.management.access.kubectl("delete", policy, "rolebinding/tenantry-management", "-n", NAMESPACE)
        findings = [each for each in check(lab, "--no-pods", code=1) if each["level"] == "Wrong"]
    found = {each["what"]: each["message"] for each in findings}
    assert found.pop("ValidatingAdmissionPolicyBinding tenantry-protected-tenants").startswith("is not there")
    assert found.pop("RoleBinding tenantry-management") == "is not there"
    rights = found.pop("ServiceAccount tenantry-system/tenantry-operator")
    assert "get configmaps in tenantry-system" in rights
    assert not found
    assert all("deploy/management-rbac.yaml" in each["remedy"] for each in findings)


def test_what_is_not_ready_is_named_with_its_own_words(lab: Lab, shop: Shop) -> None:
    apply(lab.management.access, tenant_body("broken", shop.name, plan="none-such"))
    server = {"adminSecretRef": {"name": "none-such"}, "host": "127.0.0.1", "sslMode": "disable"}
    body = {"apiVersion": "tenantry.io/v1alpha1", "kind": "DatabaseServer", "metadata": {"name": "bad"}, "spec": server}
    apply(lab.management.access, body)
    try:
        shop.wait_told("PlanNotFound", "none-such", "broken")
        wait_until(
            lambda: "Secret" in of(check(lab, "--no-pods", code=1), "Wrong").get("DatabaseServer bad", ""),
            60,
            lambda: conditions_text(lab),
        )
        findings = check(lab, "--no-pods", code=1)
        told = {each["what"]: each["message"] for each in findings if each["level"] != "Well"}
        assert told[f"Tenant {shop.name}/broken"].startswith("PlanNotFound: ")
        assert "none-such" in told["DatabaseServer bad"]
    finally:
        lab.management.access.kubectl("delete", "dbs", "bad", "--wait=false")
        shop.kubectl("delete", "tenant", "broken")


def test_who_may_not_see_all_is_told_what_was_not_seen(lab: Lab, shop: Shop, tmp_path: Path) -> None:
    access = lab.management.access
    access.kubectl("create", "serviceaccount", "admin", "-n", shop.name)
    subject = {"kind": "ServiceAccount", "name": "admin", "namespace": shop.name}
    apply(access, role_binding("admins", shop.name, "tenantry-workspace-admin", subject))
    kubeconfig = tmp_path / "admin.kubeconfig"
    kubeconfig.write_text(access.service_account_kubeconfig(shop.name, "admin"))
    flags = ("--kubeconfig", str(kubeconfig), "--workspace", shop.name, "--no-pods")
    findings = check(lab, *flags, code=2)
    assert not of(findings, "Wrong")
    assert {"the operator's rights, one by one", "all clusters", "all tenantrecords"} <= of(findings, "Unseen").keys()
    assert of(findings, "Well")["1 tenants"] == "1 Ready"
    command(lab, "support-bundle", *flags, "-o", str(tmp_path / "b.tar.gz"))
    files = unpacked(tmp_path / "b.tar.gz")
    assert f"objects/tenants/{shop.name}/acme.json" in files
    left_out = {each["what"]: each["why"] for each in json.loads(files["manifest.json"])["leftOut"]}
    assert "forbidden" in left_out["objects/clusters"]


def test_a_cluster_that_can_not_be_asked_is_exit_code_2(lab: Lab, tmp_path: Path) -> None:
    config = yaml.safe_load(lab.management.access.kubeconfig)
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    path = tmp_path / "nowhere.kubeconfig"
    path.write_text(yaml.safe_dump(config))
    for arguments in (("install-check",), ("support-bundle", "-o", str(tmp_path / "b.tar.gz"))):
        done = CliRunner().invoke(main, [*arguments, "--kubeconfig", str(path)])
        assert (done.exit_code, done.output.count("\n")) == (2, 1), done.output
        assert "refused the connection" in done.output
    assert not [each for each in tmp_path.iterdir() if each != path]


# --- support-bundle -------------------------------------------------------------------------------------------------
@pytest.fixture
def pod(lab: Lab) -> Iterator[str]:
    """A pod of the operator's on a node that gives the real operator's log; it isn't run."""
    slip = f"\npassword={LOGGED}\nAuthorization: Bearer {LOGGED}\nhttp://u:{LOGGED}@proxy.example.com\n"

    def log_of(container: str, previous: bool) -> str | None:
        return None if previous else lab.operator.log_text + slip

    deployment = next(
        each
        for each in yaml.safe_load_all((ROOT / "deploy" / "operator.yaml").read_text())
        if each["kind"] == "Deployment"
    )
    template = deployment["spec"]["template"]
    template["spec"]["containers"][0]["env"].append({"name": "CODE", "value": ENV_VALUE})
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "tenantry-operator-0", "namespace": NAMESPACE, "labels": template["metadata"]["labels"]},
        "spec": template["spec"] | {"nodeName": NODE},
    }
    access = lab.management.access
    with LoggingNode(access, log_of), PodMetrics(lambda: lab.operator.get("/metrics") or "") as metrics:
        ports = [{"name": "metrics", "containerPort": metrics.port}]
        container = template["spec"]["containers"][0]
        body["spec"]["containers"] = [
            {**container, "ports": ports, "startupProbe": None, "livenessProbe": None, "readinessProbe": None}
        ]
        apply(access, deployment | {"spec": deployment["spec"] | {"replicas": 0}}, body)
        status = {"podIP": metrics.address, "podIPs": [{"ip": metrics.address}], "phase": "Running"}
        ready = [{"type": "Ready", "status": "True"}]
        patch = json.dumps({"status": {**status, "conditions": ready}})
        access.kubectl("patch", "pod", "tenantry-operator-0", "-n", NAMESPACE, "--subresource=status", "-p", patch)
        try:
            yield body["metadata"]["name"]
        finally:
            access.kubectl("delete", "deployment", "tenantry-operator", "-n", NAMESPACE)
            access.kubectl("delete", "pod", "tenantry-operator-0", "-n", NAMESPACE, "--force", "--grace-period=0")


def test_a_bundle_has_what_helps_and_no_secret_in_it(lab: Lab, shop: Shop, pod: str, tmp_path: Path) -> None:
    path = tmp_path / "bundle.tar.gz"
    done = command(lab, "support-bundle", "-o", str(path))
    assert done.stdout == f"written: {path}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == [path.name], "nothing half done is left beside it"
    files = unpacked(path)
    assert {
        "README.md", "manifest.json", "versions.json", "install-check.txt", "install-check.json",
        f"objects/tenants/{shop.name}/acme.json", "objects/clusters/eu-1.json", "kinds/tenants.tenantry.io.json",
        "objects/databaseservers/shared-fra.json", "operator/deployments/tenantry-operator.json",
        f"operator/pods/{pod}.json", f"logs/{pod}/operator.log", f"metrics/{pod}.txt",
    } <= files.keys()  # fmt: skip
    assert any(name.startswith("objects/tenantrecords/acme-") for name in files)
    assert any(name.startswith(f"events/{shop.name}/") for name in files)
    tenant = json.loads(files[f"objects/tenants/{shop.name}/acme.json"])
    assert tenant["kind"] == "Tenant"
    assert tenant["spec"]["env"] == {"LOG_LEVEL": "[left out]", "API_CODE": "[left out]"}
    assert tenant["status"]["conditions"][0]["type"] == "Ready"
    assert "tenants can be placed here" in files[f"logs/{pod}/operator.log"]
    assert "tenantry_build_info" in files[f"metrics/{pod}.txt"]
    assert json.loads(files["versions.json"])["operatorPods"] == {pod: __version__}
    assert f"Pod tenantry-system/{pod}" in of(json.loads(files["install-check.json"])["findings"], "Well")
    assert "http://***@proxy.example.com" in files[f"logs/{pod}/operator.log"]
    _assert_manifest(files, pod)
    known = secrets_of(lab) | {ENV_VALUE, DESCRIBED, ANNOTATED, LOGGED}
    assert len(known) > 8
    for value in known:
        for form in (value, base64.b64encode(value.encode()).decode()):
            assert not [name for name, text in files.items() if form in text], value[:4]


def _assert_manifest(files: dict[str, str], pod: str) -> None:
    manifest = json.loads(files["manifest.json"])
    told = {each["name"]: each["sha256"] for each in manifest["files"]}
    assert told == {
        name: hashlib.sha256(text.encode()).hexdigest() for name, text in files.items() if name != "manifest.json"
    }
    left_out = {each["what"] for each in manifest["leftOut"]}
    assert left_out == {f"logs/{pod}/operator-previous.log"}, manifest["leftOut"]


def test_a_bundle_is_the_same_files_each_time_and_replaces_none(lab: Lab, shop: Shop, tmp_path: Path) -> None:
    one, other = tmp_path / "one.tar.gz", tmp_path / "other.tar.gz"
    for path in (one, other):
        command(lab, "support-bundle", "--no-pods", "-o", str(path))
    with tarfile.open(one) as first, tarfile.open(other) as second:
        assert [each.name for each in first] == [each.name for each in second]
    before = one.read_bytes()
    done = CliRunner(env={"KUBECONFIG": str(lab.management.access.kubeconfig_path)}).invoke(
        main, ["support-bundle", "-o", str(one)]
    )
    assert done.exit_code == 1
    assert "is there already" in done.output
    assert one.read_bytes() == before


def unpacked(path: Path) -> dict[str, str]:
    """All files by name, without the folder."""
    with tarfile.open(path) as archive:
        members = archive.getmembers()
        assert all(each.isfile() and each.name.startswith(f"{FOLDER}/") for each in members)
        return {
            each.name.removeprefix(f"{FOLDER}/"): (archive.extractfile(each) or path.open("rb")).read().decode()
            for each in members
        }


def secrets_of(lab: Lab) -> set[str]:
    """Every value of every Secret that is one, the tokens and keys in kubeconfigs, and the administrators' own."""
    found = {lab.postgres.access.admin_password, *_tokens(lab.management.access.kubeconfig)}
    for cluster in (lab.management, lab.target):
        for body in cluster.access.get("secrets", "-A")["items"]:
            for key, value in body.get("data", {}).items():
                text = base64.b64decode(value).decode(errors="replace")
                if key in ("password", "uri", "value", "token", "jdbcUri") or "password" in key.lower():
                    found.add(text)
                if "apiVersion" in text:
                    found |= _tokens(text)
    return {each for each in found if len(each) >= 8}


def _tokens(kubeconfig: str) -> set[str]:
    user = yaml.safe_load(kubeconfig)["users"][0]["user"]
    return {str(value) for key, value in user.items() if key in ("token", "client-key-data")}
