"""The kinds on a real API server, as kubectl and clients see them: bounds, defaults, columns, explanations."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from tests.integration.crd_samples import (
    KINDS,
    MINIMAL,
    Access,
    Api,
    Json,
    largest,
    manifest,
    namespace_of,
    one_over,
    root_schema,
)

from tenantry.api.kinds import ALL_KINDS

ROOT = Path(__file__).resolve().parents[2]
CRDS = str(ROOT / "crds")
BOUNDS = {"TenantBackup": 3, "TenantRestore": 2}
"""How many bounds there are at least, where there are few."""
ANN = {"kind": "User", "name": "ann"}

Kubectl = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def kubectl(management: Access, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    """The real kubectl with a discovery cache of its own: what it knows, it learned from this server."""
    home = tmp_path_factory.mktemp("kubectl")
    (home / "kubeconfig").write_text(management.kubeconfig)
    program = str(Path(sys.executable).with_name("kubectl"))
    options = [program, f"--kubeconfig={home / 'kubeconfig'}", f"--cache-dir={home / 'cache'}"]

    def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*options, *arguments], input=stdin, text=True, capture_output=True, check=False, timeout=150
        )

    return run


@pytest.fixture(scope="module")
def api(management: Access) -> Iterator[Api]:
    with Api(management.kubeconfig) as api:
        yield api


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def full_name(kind: str) -> str:
    """`tenants.tenantry.io`: names that other groups have too, such as clusters, need theirs."""
    return f"{KINDS[kind].resource.plural}.{KINDS[kind].resource.group}"


# --- bounds ---------------------------------------------------------------------------------------------------
def test_the_least_spec_is_accepted(api: Api, kind: str) -> None:
    answer = api.create(kind, "least", MINIMAL[kind], namespace=namespace_of(kind))
    assert answer.status == 201, answer.body


def test_a_spec_at_every_size_bound_is_stored_and_read_back(
    api: Api, kind: str, namespace: str, name_prefix: str
) -> None:
    spec = largest(KINDS[kind])
    name = f"{name_prefix}-largest"
    answer = api.create(kind, name, spec, namespace=namespace_of(kind, namespace), dry_run=False)
    assert answer.status == 201, answer.body.get("message")
    try:
        stored = api.get(answer.body).body["spec"]
        assert {field: stored[field] for field in spec} == spec
        KINDS[kind].spec.model_validate(stored)
    finally:
        api.delete(answer.body)


def test_a_spec_one_over_any_bound_is_refused_at_that_field(api: Api, kind: str) -> None:
    tried = 0
    for path, spec in one_over(KINDS[kind]):
        answer = api.create(kind, "over", spec, namespace=namespace_of(kind))
        assert answer.status == 422, f"{path} has no bound that holds"
        assert path in {field for field, _ in answer.causes}
        tried += 1
    assert tried >= BOUNDS.get(kind, 10)


def test_an_object_without_a_spec_is_refused(api: Api, kubectl: Kubectl, kind: str) -> None:
    body = manifest(kind, "bare", {})
    del body["spec"]
    answer = kubectl("create", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(body))
    assert answer.returncode == 1
    assert "spec: Required value" in answer.stderr


def test_a_misspelt_field_is_refused_by_kubectl(kubectl: Kubectl, kind: str) -> None:
    body = manifest(kind, "misspelt", MINIMAL[kind] | {"descripton": "x"})
    answer = kubectl("create", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(body))
    assert answer.returncode == 1
    assert 'unknown field "spec.descripton"' in answer.stderr


@pytest.mark.parametrize(
    ("field", "spec"),
    [
        ("spec.domains[1]", {"domains": [{"host": "acme.com"}, {"host": "acme.com"}]}),
        ("spec.rbac.bindings[1]", {"rbac": {"bindings": [{"role": "View", "subjects": [ANN]}] * 2}}),
        ("spec.database.extensions[1]", {"database": {"extensions": ["citext", "citext"]}}),
    ],
)
def test_what_can_be_there_once_is_refused_twice(api: Api, field: str, spec: Json) -> None:
    answer = api.create("Tenant", "twice", spec, namespace="default")
    assert (answer.status, {cause["reason"] for cause in answer.body["details"]["causes"]}) == (
        422,
        {"FieldValueDuplicate"},
    )
    assert {where for where, _ in answer.causes} == {field}


@pytest.mark.parametrize("quantity", [2, "2", "500m", "1.5Gi", "1e3"])
def test_a_quantity_is_a_number_or_text_that_server_and_model_read_alike(api: Api, quantity: int | str) -> None:
    spec = {"quota": {"hard": {"requests.cpu": quantity}}}
    answer = api.create("Tenant", "quantity", spec, namespace="default")
    assert answer.status == 201, answer.body
    assert KINDS["Tenant"].spec.model_validate(answer.body["spec"]) == KINDS["Tenant"].spec.model_validate(spec)


@pytest.mark.parametrize("quantity", ["", "many", "2 Gi", "1.2.3", "0x1"])
def test_a_text_that_is_no_quantity_is_refused_at_its_field(api: Api, quantity: str) -> None:
    answer = api.create("Tenant", "quantity", {"quota": {"hard": {"pods": quantity}}}, namespace="default")
    assert (answer.status, {field for field, _ in answer.causes}) == (422, {"spec.quota.hard.pods"})


# --- what the API server fills in -----------------------------------------------------------------------------
def test_a_new_object_says_in_its_status_that_nobody_has_looked_at_it(
    api: Api, kind: str, namespace: str, name_prefix: str
) -> None:
    answer = api.create(kind, name_prefix, MINIMAL[kind], namespace=namespace_of(kind, namespace), dry_run=False)
    try:
        expected = {"observedGeneration": -1} if KINDS[kind].status else None
        assert api.get(answer.body).body.get("status") == expected
    finally:
        api.delete(answer.body)


def test_the_stored_object_reads_as_the_model_reads_what_was_sent(api: Api, kind: str) -> None:
    stored = api.create(kind, "defaults", MINIMAL[kind], namespace=namespace_of(kind)).body["spec"]
    model = KINDS[kind].spec
    assert model.model_validate(stored) == model.model_validate(MINIMAL[kind])


# --- kubectl --------------------------------------------------------------------------------------------------
def columns(output: str) -> list[str]:
    return re.split(r"\s{2,}", output.splitlines()[0].strip())


def test_get_by_any_name_shows_the_columns_of_the_kind(
    api: Api, kubectl: Kubectl, kind: str, namespace: str, name_prefix: str
) -> None:
    stored = api.create(kind, name_prefix, MINIMAL[kind], namespace=namespace_of(kind, namespace), dry_run=False)
    shown = ["NAME", *(column.name.upper() for column in KINDS[kind].columns if column.priority == 0)]
    wide = ["NAME", *(column.name.upper() for column in KINDS[kind].columns)]
    try:
        for name in (*KINDS[kind].short_names, kind.lower(), full_name(kind)):
            listed = kubectl("get", name, "-n", namespace)
            assert columns(listed.stdout) == shown, listed.stderr
        assert columns(kubectl("get", full_name(kind), "-n", namespace, "-o", "wide").stdout) == wide
        in_category = kubectl("get", "tenantry", "-n", namespace, "-o", "name").stdout
        assert f"{kind.lower()}.tenantry.io/{name_prefix}" in in_category.split()
    finally:
        api.delete(stored.body)


def test_get_answers_whether_a_tenant_is_ready_and_where_it_is(
    kubectl: Kubectl, api: Api, namespace: str, name_prefix: str
) -> None:
    created = api.create("Tenant", name_prefix, {}, namespace=namespace, dry_run=False)
    assert created.status == 201
    status = {
        "cluster": "eu-1",
        "hosts": ["acme.eu.example.com", "acme.com"],
        "conditions": [condition("Reconciling", "True", "Progressing"), condition("Ready", "True", "Ready")],
    }
    patched = kubectl(
        "patch", "tn", name_prefix, "-n", namespace, "--subresource=status", "--type=merge", "-p",
        yaml.safe_dump({"status": status}),
    )  # fmt: skip
    assert patched.returncode == 0, patched.stderr
    row = kubectl("get", "tn", "-n", namespace, "--no-headers").stdout.split()
    assert row[:5] == [name_prefix, "True", "Ready", "eu-1", "acme.eu.example.com"]


def condition(type_: str, status: str, reason: str) -> Json:
    return {
        "type": type_, "status": status, "reason": reason, "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1,
    }  # fmt: skip


def test_status_is_written_by_its_own_door_only(kubectl: Kubectl, api: Api, namespace: str, name_prefix: str) -> None:
    api.create("Tenant", name_prefix, {}, namespace=namespace, dry_run=False)
    body = manifest("Tenant", name_prefix, {"displayName": "new"}) | {"status": {"cluster": "forged"}}
    assert kubectl("apply", "-n", namespace, "--server-side", "-f", "-", stdin=yaml.safe_dump(body)).returncode == 0
    stored = yaml.safe_load(kubectl("get", "tn", name_prefix, "-n", namespace, "-o", "yaml").stdout)
    assert stored["spec"]["displayName"] == "new"
    assert stored["metadata"]["generation"] == 2
    assert stored["status"] == {"observedGeneration": -1}


def test_explain_describes_the_kind_its_spec_and_its_fields(kubectl: Kubectl, kind: str) -> None:
    schema = root_schema(KINDS[kind])
    spec = schema["properties"]["spec"]
    told = eventually(
        lambda: folded(kubectl("explain", f"{full_name(kind)}.spec").stdout),
        lambda text: folded(spec["description"]) in text,
    )
    assert folded(schema["description"]) in folded(kubectl("explain", full_name(kind)).stdout)
    for name, field in spec["properties"].items():
        assert f" {name}\t<" in told.replace(f" {name} <", f" {name}\t<")
        assert folded(field.get("description", "")) in told


def folded(text: str) -> str:
    return " ".join(text.split())


def eventually(read: Callable[[], str], enough: Callable[[str], bool], seconds: float = 60) -> str:
    """What is read, once it is enough: the server publishes the explanations of a new kind a moment after the kind."""
    deadline = time.monotonic() + seconds
    while not enough(text := read()):
        assert time.monotonic() < deadline, f"not in {seconds} s: {text}"
    return text


def test_applying_the_definitions_twice_changes_nothing(kubectl: Kubectl) -> None:
    versions = "jsonpath={.items[*].metadata.resourceVersion}"
    apply = ("apply", "--server-side", "--force-conflicts", "-f", CRDS, "-o", versions)
    first = kubectl(*apply)
    assert first.returncode == 0, first.stderr
    assert len(first.stdout.split()) == len(ALL_KINDS)
    assert kubectl(*apply).stdout == first.stdout
    difference = kubectl("diff", "--server-side", "--force-conflicts", "-f", CRDS)
    assert (difference.returncode, difference.stdout) == (0, "")


def test_the_api_server_has_nothing_to_say_against_the_schemas(kubectl: Kubectl, kind: str) -> None:
    found = yaml.safe_load(kubectl("get", "crd", full_name(kind), "-o", "yaml").stdout)
    conditions = {condition["type"]: condition["status"] for condition in found["status"]["conditions"]}
    assert conditions.get("NonStructuralSchema", "False") == "False"
    assert (conditions["NamesAccepted"], conditions["Established"]) == ("True", "True")
