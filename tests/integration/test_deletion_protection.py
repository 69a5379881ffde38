"""`spec.deletion.protected`: what the API server refuses, and what the operator keeps where that can be passed by."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from tests.controlplane.access import KubectlError
from tests.integration.tenants import wait_for
from tests.scene.careful import Shop, careful_lab, command, found, touched
from tests.scene.installation import install_management
from tests.scene.lab import Lab, wait_until

from tenantry.api.names import OPERATOR_SERVICE_ACCOUNT, SYSTEM_NAMESPACE
from tenantry.api.resources import NAMESPACES, SECRETS, TENANTS

if TYPE_CHECKING:
    from tests.integration.tenants import Workbench

Json = dict[str, Any]

PROTECTED: Json = {"protected": True}
UNPROTECTED: Json = {"protected": False}
OPERATOR = f"system:serviceaccount:{SYSTEM_NAMESPACE}:{OPERATOR_SERVICE_ACCOUNT}"


def protect(workbench: Workbench, name: str = "acme", *, on: bool = True, workspace: str = "") -> None:
    patch = {"spec": {"deletion": {"protected": on}}}
    answer = workbench.management.patch(TENANTS.path(workspace or workbench.workspace, name), patch, dry=False)
    assert answer.status == 200, answer.message


@pytest.fixture
def bench(workbench: Workbench) -> Iterator[Workbench]:
    """A workbench whose workspaces can go after the test, whatever became of it."""
    yield workbench
    for body in workbench.management.get(TENANTS.path()).body["items"]:
        if body["metadata"]["namespace"].startswith(workbench.prefix):
            protect(workbench, body["metadata"]["name"], on=False, workspace=body["metadata"]["namespace"])


def refusal(workbench: Workbench, *arguments: str) -> str:
    """What kubectl says when the policy refuses."""
    with pytest.raises(KubectlError) as refused:
        workbench.kubectl(*arguments)
    assert "ValidatingAdmissionPolicy 'tenantry-protected-tenants'" in refused.value.stderr
    return refused.value.stderr


def test_a_protected_tenant_is_not_deleted_until_it_is_protected_no_more(bench: Workbench) -> None:
    where = bench.whereabouts()
    bench.make(deletion=PROTECTED)
    said = refusal(bench, "delete", "tenant", "acme")
    assert (
        f"Tenant {bench.workspace}/acme is protected: set spec.deletion.protected to false, then delete it "
        "(until then its workspace can not be deleted either)"
    ) in said
    assert "deletionTimestamp" not in bench.get()["metadata"]
    protect(bench, on=False)
    bench.kubectl("delete", "tenant", "acme", "--timeout=90s")
    wait_for(lambda: bench.record(where) == {}, "it is gone")


def test_nobody_deletes_a_protected_tenant_not_even_the_operator(bench: Workbench) -> None:
    bench.make(deletion=PROTECTED)
    refusal(bench, "delete", "tenant", "acme", f"--as={OPERATOR}")
    refusal(bench, "delete", "tenant", "acme", "--force", "--grace-period=0")
    assert "deletionTimestamp" not in bench.get()["metadata"]


def test_deleting_all_tenants_of_a_workspace_leaves_the_protected_ones_alone(bench: Workbench) -> None:
    for name, deletion in (("acme", PROTECTED), ("brick", None)):
        bench.make(name, deletion=deletion)
    refusal(bench, "delete", "tenants", "--all", "--timeout=90s")
    bench.gone("brick")
    answer = bench.management.delete(TENANTS.path(bench.workspace), dry=False)
    assert answer.refused_by == "tenantry-protected-tenants", "as one request for the collection"
    assert "deletionTimestamp" not in bench.get()["metadata"]
    bench.look_now()
    bench.ready()


def test_what_is_not_protected_is_deleted_as_ever(bench: Workbench) -> None:
    for name, deletion in (("none", None), ("empty", {}), ("false", {"protected": False})):
        bench.make(name, deletion=deletion)
        bench.kubectl("delete", "tenant", name, "--timeout=90s")


def test_a_workspace_with_a_protected_tenant_can_not_be_deleted_and_the_tenant_runs_on(bench: Workbench) -> None:
    space = bench.make_workspace(f"{bench.prefix}-kept")
    where = bench.whereabouts(workspace=space)
    bench.make(workspace=space, deletion=PROTECTED)
    before = bench.inventory(where)
    uid = bench.on_target(NAMESPACES, "", where.namespace)["metadata"]["uid"]
    bench.stage.management.kubectl("-n", space, "create", "secret", "generic", "other", "--from-literal=a=b")
    bench.stage.management.kubectl("delete", "namespace", space, "--wait=false")

    def told_why() -> bool:
        body = bench.management.get(NAMESPACES.path(name=space)).body
        return "is protected" in json.dumps(body["status"].get("conditions", []))

    wait_for(told_why, "the namespace says what it waits for")
    other = SECRETS.path(space, "other")
    wait_for(lambda: bench.management.get(other).status == 404, "what is not protected goes")
    assert "deletionTimestamp" not in bench.get(workspace=space)["metadata"]
    assert bench.inventory(where) == before
    assert bench.on_target(NAMESPACES, "", where.namespace)["metadata"]["uid"] == uid
    protect(bench, on=False, workspace=space)
    wait_for(lambda: bench.management.get(NAMESPACES.path(name=space)).status == 404, "the workspace goes", seconds=90)
    wait_for(lambda: bench.record(where) == {}, "and all the tenant had, as nothing is held on this stage")


# --- what passes by admission -------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with careful_lab(tmp_path_factory.mktemp("protected")) as opened:
        yield opened


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("fresh_control_plane")  # has the binary built outside the time-out; none is started
def test_deleting_the_kind_passes_by_the_policy_and_the_operator_holds_what_is_protected(
    lab: Lab, name_prefix: str
) -> None:
    shop, managed = Shop(lab, f"{name_prefix}-shop"), lab.management.access
    had = shop.open("acme", "brick", deletion=PROTECTED)
    with pytest.raises(KubectlError, match="is protected"):
        shop.kubectl("delete", "tenant", "acme")
    mark = lab.target.access.audit_mark()
    managed.kubectl("delete", "crd", "tenants.tenantry.io", "--wait=false")
    shop.wait_told("Protected", "nothing is touched: spec.deletion.protected is true", "acme", "brick")
    listed = command(lab, "deletions", "list").stdout.splitlines()[1:]
    assert [line.split()[:3] for line in listed] == [["Protected", name, shop.name] for name in ("acme", "brick")]
    shop.kubectl("patch", "tenant", "brick", "--type=merge", "-p", json.dumps({"spec": {"deletion": UNPROTECTED}}))
    shop.wait_told("DeletionHeld", "the kind Tenant itself is being deleted", "brick")
    shop.wait_told("Protected", "", "acme")
    assert shop.stock("acme", "brick") == had
    command(lab, "deletions", "abort", "--all")
    wait_until(lambda: not found(managed, "crd", "tenants.tenantry.io"), 120, "the kind is gone")
    assert touched(lab, mark) == []
    install_management(managed)
    shop.apply("acme", "brick", deletion=PROTECTED)
    shop.wait_ready("acme", "brick")
    assert shop.stock("acme", "brick") == had


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("fresh_control_plane")
def test_without_the_policy_the_operator_holds_a_protected_tenant_until_it_is_protected_no_more(
    lab: Lab, name_prefix: str
) -> None:
    shop, managed = Shop(lab, f"{name_prefix}-shop"), lab.management.access
    had = shop.open("acme", "brick", deletion=PROTECTED)
    managed.kubectl("delete", "validatingadmissionpolicybinding", "tenantry-protected-tenants")
    mark = lab.target.access.audit_mark()

    def deleted() -> bool:
        """The API server takes a moment to forget a policy."""
        with contextlib.suppress(KubectlError):
            shop.kubectl("delete", "tenant", "acme", "brick", "--wait=false")
        return all("deletionTimestamp" in shop.get(name)["metadata"] for name in ("acme", "brick"))

    wait_until(deleted, 60, "nothing but the operator is in the way")
    shop.wait_told("Protected", "nothing is touched: spec.deletion.protected is true", "acme", "brick")
    assert shop.stock("acme", "brick") == had
    assert touched(lab, mark) == []
    shop.kubectl("patch", "tenant", "acme", "--type=merge", "-p", json.dumps({"spec": {"deletion": UNPROTECTED}}))
    command(lab, "deletions", "confirm", f"{shop.name}/brick", "--yes")
    shop.wait_gone("acme", "brick")
    assert {shop.record(name)["state"] for name in ("acme", "brick")} == {"Deleted"}
    install_management(managed)
