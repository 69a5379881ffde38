"""Deletions that nobody meant, played through: nothing that a tenant has is touched, and the documented way leads back.

The guide is docs/guides/deletion-by-mistake.md. The operator runs as by default, but for the permission to dial this
machine.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.scene.careful import ENV_SECRET, PLAN, Shop, careful_lab, command, found, ready_of, touched
from tests.scene.installation import (
    NAMESPACE,
    ROOT,
    admin_secret,
    apply,
    install_management,
    kubeconfig_secret,
    operator_kubeconfig,
)
from tests.scene.lab import Lab, conditions_text, wait_until, workspace_body
from tests.scene.operator import OperatorProcess

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("fresh_control_plane"),  # has the binary built outside the time-out; none is started
]

FOUR = ("acme", "brick", "cello", "delta")
HELD = "DeletionHeld"
GONE_SECONDS = 150.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the lab: the operator's kubeconfig and log are in it."""
    return tmp_path_factory.mktemp("mistakes")


@pytest.fixture(scope="module")
def lab(folder: Path) -> Iterator[Lab]:
    with careful_lab(folder) as opened:
        yield opened


@pytest.fixture
def shop(lab: Lab, name_prefix: str) -> Shop:
    return Shop(lab, f"{name_prefix}-shop")


def is_gone(lab: Lab, *what: str) -> None:
    wait_until(lambda: not found(lab.management.access, *what), GONE_SECONDS, f"{what} is gone")


def found_uid(lab: Lab, *what: str) -> str:
    """Empty where it is not there."""
    return lab.management.access.kubectl("get", *what, "--ignore-not-found", "-o", "jsonpath={.metadata.uid}")


def install_kinds(lab: Lab) -> None:
    """Apply the kinds, one of which is still going."""
    lab.management.access.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
    for kind in ("tenantrecords", "clusters", "databaseservers", "tenantplans"):
        lab.management.access.kubectl("wait", "--for=condition=Established", f"crd/{kind}.tenantry.io")


def _as_in_git(body: dict[str, Any]) -> dict[str, Any]:
    return {
        **{key: body[key] for key in ("apiVersion", "kind", "spec")},
        "metadata": {"name": body["metadata"]["name"]},
    }


def restart(lab: Lab) -> None:
    lab.operator.kill()
    lab.operator.start()


def test_a_workspace_that_was_deleted_is_made_again_and_takes_over_its_tenants(lab: Lab, shop: Shop) -> None:
    had = shop.open(*FOUR)
    uid = shop.record("acme")["workspaceUid"]
    mark = lab.target.access.audit_mark()
    lab.management.access.kubectl("delete", "namespace", shop.name, "--wait=false")
    shop.wait_told(HELD, f"the workspace '{shop.name}' itself is being deleted", *FOUR)
    wait_until(
        lambda: not found(lab.management.access, "secret", ENV_SECRET, "-n", shop.name), 60, "its Secret is gone"
    )
    restart(lab)
    shop.wait_told(HELD, "nothing is touched yet", *FOUR)
    assert shop.stock(*FOUR) == had
    listed = command(lab, "deletions", "list", "--workspace", shop.name).stdout.splitlines()
    assert [line.split()[:3] for line in listed[1:]] == [[HELD, name, shop.name] for name in FOUR]

    said = command(lab, "deletions", "abort", "--workspace", shop.name).stdout.splitlines()
    assert [line.split(":")[:2] for line in said] == [[f"{shop.name}/{name}", " aborted"] for name in FOUR]
    is_gone(lab, "namespace", shop.name)
    assert {shop.record(name)["state"] for name in FOUR} == {"Retained"}
    assert shop.stock(*FOUR) == had
    assert touched(lab, mark) == []
    way = f"tenantry.io/adopt-workspace={uid}"
    told = command(lab, "undelete", shop.record_name("acme"), code=1).stderr
    assert f"its workspace '{shop.name}' is gone: make the namespace again, with the annotation {way}" in told
    apply(lab.management.access, workspace_body(shop.name))
    assert (
        f"kubectl annotate namespace {shop.name} {way}" in command(lab, "undelete", f"{shop.name}/acme", code=1).stderr
    )

    lab.management.access.kubectl("annotate", "namespace", shop.name, way)
    shop.apply("brick", "cello")  # from git; the Secret with them
    for name in ("acme", "delta"):
        command(lab, "undelete", f"{shop.name}/{name}")
    shop.wait_ready(*FOUR)
    assert shop.stock(*FOUR) == had


def test_a_tenant_that_a_move_has_stopped_serves_again_while_its_deletion_is_held(lab: Lab, shop: Shop) -> None:
    had = shop.open("acme")
    namespace = shop.record("acme")["cluster"]["namespace"]
    lab.management.access.kubectl("delete", "namespace", shop.name, "--wait=false")
    shop.wait_told(HELD, "itself is being deleted", "acme")
    wait_until(
        lambda: not found(lab.management.access, "secret", ENV_SECRET, "-n", shop.name), 30, "its Secret is gone"
    )
    # As a move leaves it that is Stopping: nothing answers, nobody gets in.
    lab.target.access.kubectl("delete", "networkpolicies,ingresses", "--all", "-n", namespace)
    move = {"phase": "Stopping", "epoch": 2, "destination": "pg-2", "startedAt": "2026-05-01T12:00:00Z"}
    patch = json.dumps({"spec": {"move": move}})
    record = shop.record_name("acme")
    lab.management.access.kubectl("patch", "tenantrecord", record, "--type=merge", "-p", patch)
    wait_until(lambda: "move" not in shop.record("acme"), 60, lambda: conditions_text(lab))
    policies = lab.target.access.get("networkpolicies", "-n", namespace)["items"]
    assert policies, "it was opened before the record said so"
    shop.wait_told(HELD, "itself is being deleted", "acme")
    assert shop.get("acme")["status"]["move"]["phase"] == "RolledBack"
    assert shop.stock("acme") == had, "its environment, too, although the Secrets of its workspace are gone"
    command(lab, "deletions", "abort", "--workspace", shop.name)
    is_gone(lab, "namespace", shop.name)
    assert shop.record("acme")["state"] == "Retained"
    assert shop.stock("acme") == had


def test_the_kind_that_was_deleted_is_installed_again_and_its_tenants_are_had_back(lab: Lab, shop: Shop) -> None:
    had = shop.open(*FOUR)
    mark, pid, seen = lab.target.access.audit_mark(), lab.operator.pid, len(lab.operator.log_text)
    lab.management.access.kubectl("delete", "crd", "tenants.tenantry.io", "--wait=false")
    shop.wait_told(HELD, "the kind Tenant itself is being deleted", *FOUR)
    assert shop.stock(*FOUR) == had
    command(lab, "deletions", "abort", "--all")
    is_gone(lab, "crd", "tenants.tenantry.io")
    assert shop.stock(*FOUR) == had
    assert touched(lab, mark) == []
    assert "crds | kubectl apply" in command(lab, "undelete", f"{shop.name}/acme", code=1).stderr
    wait_until(lambda: "Unresolved resources" in lab.operator.log_text[seen:], 120, "it is missed by the operator")

    install_management(lab.management.access)
    shop.apply("brick", "cello", "delta")
    command(lab, "undelete", f"{shop.name}/acme")
    shop.wait_ready(*FOUR)
    assert shop.stock(*FOUR) == had
    assert lab.operator.pid == pid, "the operator found its kind again by itself"


def test_all_kinds_that_were_deleted_are_installed_again_and_nothing_had_to_be_known(lab: Lab, shop: Shop) -> None:
    """As `kubectl delete -f crds/`: Clusters, servers, plans and records go as well, the Tenants wait."""
    had = shop.open(*FOUR)
    mark, managed = lab.target.access.audit_mark(), lab.management.access
    platform = ("clusters.tenantry.io/eu-1", "databaseservers/shared-fra", f"tenantplans/{PLAN}")
    kept = [_as_in_git(managed.get(*name.split("/"))) for name in platform]
    former = managed.get("crd", "tenants.tenantry.io")["metadata"]["uid"]
    managed.kubectl("delete", "-f", str(ROOT / "crds"), "--wait=false")
    for kind in ("tenantrecords", "clusters", "databaseservers", "tenantplans"):
        is_gone(lab, "crd", f"{kind}.tenantry.io")
    assert touched(lab, mark) == []
    install_kinds(lab)
    apply(managed, *kept)
    wait_until(
        lambda: all(not (body := shop.get(each)) or ready_of(body)["reason"] == HELD for each in FOUR),
        GONE_SECONDS,
        lambda: conditions_text(lab),
    )
    if any(shop.get(each) for each in FOUR):  # else all went by themselves, and their kind with them
        command(lab, "deletions", "abort", "--all")
    wait_until(
        lambda: found_uid(lab, "crd", "tenants.tenantry.io") != former, GONE_SECONDS, lambda: conditions_text(lab)
    )
    assert touched(lab, mark) == []
    install_management(managed)
    shop.apply(*FOUR)
    shop.wait_ready(*FOUR)
    assert shop.stock(*FOUR) == had


def test_all_tenants_that_were_deleted_at_once_are_had_back_by_aborting_or_by_undeleting(lab: Lab, shop: Shop) -> None:
    had = shop.open(*FOUR)
    mark = lab.target.access.audit_mark()
    shop.delete_all()
    shop.wait_told(HELD, f"4 of the 4 tenants of workspace '{shop.name}' were deleted", *FOUR)
    assert shop.stock(*FOUR) == had
    command(lab, "deletions", "abort", f"{shop.name}/acme", f"{shop.name}/brick")
    shop.wait_gone("acme", "brick")
    assert shop.stock(*FOUR) == had
    assert touched(lab, mark) == []
    shop.apply("acme", "brick")
    shop.wait_ready("acme", "brick")

    command(lab, "deletions", "confirm", "--workspace", shop.name, "--yes")
    shop.wait_gone("cello", "delta")
    assert {shop.record(name)["state"] for name in ("cello", "delta")} == {"Deleted"}
    for name in ("cello", "delta"):
        command(lab, "undelete", shop.record_name(name))
    assert shop.stock(*FOUR) == had


def test_the_operators_namespace_that_was_deleted_is_applied_again_and_named_who_it_was(
    lab: Lab, shop: Shop, folder: Path
) -> None:
    had = shop.open(*FOUR)
    mark, managed = lab.target.access.audit_mark(), lab.management.access
    managed.kubectl("delete", "namespace", NAMESPACE, "--timeout=140s")
    wait_until(lambda: "401" in lab.operator.log_text or "Unauthorized" in lab.operator.log_text, 120, "it is shut out")
    assert shop.stock(*FOUR) == had
    lab.operator.kill()  # as its pod goes with the namespace

    install_management(managed)
    apply(
        managed,
        kubeconfig_secret("eu-1-kubeconfig", operator_kubeconfig(lab.target.access)),
        admin_secret("shared-fra-admin", lab.postgres.access),
    )
    kubeconfig = folder / "operator.kubeconfig"
    kubeconfig.write_text(operator_kubeconfig(managed))
    identity = shop.record("acme")["managementId"]
    with pytest.raises(RuntimeError, match=f"start with --management-id {identity}"):
        lab.operator.start()
    lab.operator.stop()
    with OperatorProcess(kubeconfig, folder / "again.log", ("--management-id", identity)).start():
        shop.wait_looked_at(*FOUR)
        assert shop.stock(*FOUR) == had
    assert touched(lab, mark) == [], "neither by the operator that was shut out nor by its successor"
    lab.operator.start()  # the flag is needed once
    shop.wait_looked_at(*FOUR)
    assert shop.stock(*FOUR) == had
