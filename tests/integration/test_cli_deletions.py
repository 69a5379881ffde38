"""`tenantry undelete` and `tenantry deletions` as people run them; the operator asks before it destroys much."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import pytest
import yaml
from click.testing import CliRunner
from tests.integration.acting import role_binding
from tests.scene.careful import PLAN, Shop, careful_lab, command
from tests.scene.installation import apply
from tests.scene.lab import Lab, wait_until

from tenantry.cli.main import main

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("fresh_control_plane"),  # has the binary built outside the time-out; none is started
]

Json = dict[str, Any]
HELD = "DeletionHeld"
THREE = ("acme", "brick", "cello")
SECONDS = 90.0


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with careful_lab(tmp_path_factory.mktemp("deletions")) as lab:
        yield lab


@pytest.fixture
def lab(opened: Lab) -> Iterator[Lab]:
    """With its operator running, before and after."""
    yield opened
    if not opened.operator.running:
        opened.operator.start()


@pytest.fixture
def shop(lab: Lab, name_prefix: str) -> Shop:
    return Shop(lab, f"{name_prefix}-shop")


class Terminal:
    """The command at a terminal, with somebody who reads and types."""

    def __init__(self, lab: Lab, *arguments: str) -> None:
        self._stack = ExitStack()
        self._ours, theirs = pty.openpty()
        self._stack.callback(os.close, self._ours)
        self.text = ""
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tenantry", *arguments],
                env={**os.environ, "KUBECONFIG": str(lab.management.access.kubeconfig_path)},
                stdin=theirs, stdout=theirs, stderr=theirs,
            )  # fmt: skip
        finally:
            os.close(theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._stack:
            self._process.kill()
            self._process.wait(10)

    def asked(self) -> Self:
        """Wait for the question."""
        self._read(until="[y/N]")
        assert "[y/N]" in self.text, self.text
        return self

    def answered(self, word: str) -> int:
        """Type the answer; the exit code."""
        os.write(self._ours, f"{word}\n".encode())
        self._read(until=None)
        return self._process.wait(SECONDS)

    def _read(self, until: str | None) -> None:
        deadline = time.monotonic() + SECONDS
        while (until is None or until not in self.text) and time.monotonic() < deadline:
            if not select.select([self._ours], [], [], 0.2)[0]:
                continue
            try:
                self.text += os.read(self._ours, 65536).decode()
            except OSError:  # the other side is closed: Linux says EIO
                return


def deleted(shop: Shop, *names: str) -> None:
    """Delete Tenants and wait until they are gone."""
    shop.kubectl("delete", "tenant", *names, "--wait=false")
    shop.wait_gone(*names)


def all_held(shop: Shop) -> None:
    shop.delete_all()
    shop.wait_told(HELD, "nothing is touched yet", *THREE)


def said_of(shop: Shop, name: str) -> Json:
    return dict(shop.get(name)["metadata"].get("annotations", {}))


# --- undelete -----------------------------------------------------------------------------------------------------
def test_a_deleted_tenant_is_listed_and_had_back_by_its_record_with_all_it_had(lab: Lab, shop: Shop) -> None:
    had = shop.open("acme", env={"LEVEL": "high"})
    spec = shop.get("acme")["spec"]
    deleted(shop, "acme")
    name, record = shop.record_name("acme"), shop.record("acme")
    lines = command(lab, "deletions", "list", "--workspace", shop.name).stdout.splitlines()
    assert [line.split() for line in lines] == [
        ["STATE", "TENANT", "WORKSPACE", "RECORD", "DELETED", "PURGE-AFTER", "MESSAGE"],
        ["Deleted", "acme", shop.name, name, record["deletedAt"], record["purgeAfter"], "-"],
    ]
    assert shop.name in command(lab, "deletions", "list").stdout
    for form, parse in (("json", json.loads), ("yaml", yaml.safe_load)):
        listed = parse(command(lab, "deletions", "list", "--workspace", shop.name, "-o", form).stdout)
        assert (listed["kind"], [item["metadata"]["name"] for item in listed["items"]]) == ("List", [name])
        assert listed["items"][0]["kind"] == "TenantRecord"
    done = command(lab, "undelete", name)
    assert done.stdout == f"Tenant {shop.name}/acme is Ready, with all that TenantRecord {name} kept\n"
    tenant = shop.get("acme")
    assert tenant["spec"] == spec
    assert "annotations" not in tenant["metadata"]
    fields = json.loads(shop.kubectl("get", "tenant", "acme", "-o", "json", "--show-managed-fields"))["metadata"]
    writers = {entry["manager"] for entry in fields["managedFields"] if "f:spec" in entry["fieldsV1"]}
    assert writers == {"tenantry-cli"}
    assert shop.stock("acme") == had
    assert shop.record("acme")["state"] == "Active"
    done = command(lab, "deletions", "list", "--workspace", shop.name)
    assert (done.stdout, done.stderr) == ("", f"nothing is deleted or held in {shop.name}\n")


def test_what_can_not_be_had_back_is_refused_with_one_line_and_nothing_is_made(lab: Lab, shop: Shop) -> None:
    shop.open("acme")
    name = shop.record_name("acme")

    def refused(*arguments: str) -> str:
        (line,) = command(lab, "undelete", *arguments, code=1).stderr.splitlines()
        return line.removeprefix("Error: ")

    why = f"TenantRecord '{name}' can't be undeleted: "
    assert refused(name) == f"{why}it is Active: there is nothing to undelete"
    none = f"{shop.name}/acme: there is no TenantRecord of it that can be undeleted"
    assert refused(f"{shop.name}/acme") == f"{none}: {name}: it is Active: there is nothing to undelete"
    assert refused(f"{shop.name}/other") == none.replace("/acme", "/other")
    assert refused("other-1").startswith("there is no TenantRecord 'other-1': ")
    deleted(shop, "acme")
    shop.apply("acme", plan="there-is-none")
    assert refused(name) == f"{why}there is a Tenant {shop.name}/acme"
    shop.apply("acme")
    shop.wait_ready("acme")


def test_of_two_incarnations_the_one_that_is_named_is_had_back(lab: Lab, shop: Shop) -> None:
    had = shop.open("acme")
    first = shop.record_name("acme")
    deleted(shop, "acme")
    body = {
        "apiVersion": "tenantry.io/v1alpha1",
        "kind": "Tenant",
        "metadata": {"name": "acme", "namespace": shop.name, "annotations": {"tenantry.io/start-fresh": first}},
        "spec": {"plan": PLAN, "database": {"mode": "None"}},
    }
    apply(lab.management.access, body)

    def second_record() -> str:
        named = str(shop.get("acme").get("status", {}).get("record", first))
        return "" if named == first else named

    wait_until(lambda: bool(second_record()), SECONDS, "it has a record of its own")
    second = second_record()
    deleted(shop, "acme")
    said = command(lab, "undelete", f"{shop.name}/acme", code=1).stderr
    assert f"{shop.name}/acme: there are 2 that can be undeleted, say which: " in said
    assert f"{first} (Deleted, deleted 20" in said
    assert f"{second} (Deleted, deleted 20" in said
    command(lab, "undelete", first)
    assert said_of(shop, "acme") == {"tenantry.io/adopt": first}
    shop_record = lab.management.access.get("tnrec", first)
    assert shop_record["spec"]["state"] == "Active"
    lab.management.access.kubectl("delete", "tnrec", second)  # `stock` looks for the one record of a name
    assert shop.stock("acme") == had


def test_who_does_not_wait_is_done_at_once_and_who_waits_in_vain_is_told(lab: Lab, shop: Shop) -> None:
    shop.open("acme", "brick")
    deleted(shop, "acme", "brick")
    lab.operator.kill()
    done = command(lab, "undelete", f"{shop.name}/acme", "--no-wait")
    assert done.stdout == f"Tenant {shop.name}/acme is made again\n"
    done = command(lab, "undelete", f"{shop.name}/brick", "--timeout", "1s", code=1)
    assert "no operator has looked at it yet" in done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"Error: Tenant {shop.name}/brick is made again but not Ready: ")
    assert done.stdout == ""
    lab.operator.start()
    shop.wait_ready("acme", "brick")


def test_a_record_that_is_over_its_window_or_orphaned_is_asked_for_by_name(lab: Lab, shop: Shop) -> None:
    shop.open("acme", "brick")
    deleted(shop, "acme", "brick")
    lab.operator.kill()
    for name, change in (("acme", {"state": "Orphaned"}), ("brick", {"purgeAfter": "2026-01-01T00:00:00Z"})):
        record = shop.record_name(name)
        patch = json.dumps({"spec": change})
        lab.management.access.kubectl("patch", "tnrec", record, "--type=merge", "-p", patch)
        command(lab, "undelete", record, "--no-wait")
        assert said_of(shop, name) == {"tenantry.io/adopt": record}
    lab.operator.start()
    shop.wait_ready("acme")


def test_a_purge_that_comes_first_is_told_and_not_taken_for_success(lab: Lab, shop: Shop) -> None:
    shop.open("acme")
    deleted(shop, "acme")
    lab.operator.kill()
    name = shop.record_name("acme")
    running = subprocess.Popen(
        [sys.executable, "-m", "tenantry", "undelete", name],
        env={**os.environ, "KUBECONFIG": str(lab.management.access.kubeconfig_path)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with running:
        wait_until(lambda: bool(shop.get("acme")), SECONDS, "the Tenant is made")
        lab.management.access.kubectl("delete", "tnrec", name)
        _, said = running.communicate(timeout=SECONDS)
    assert running.returncode == 1
    assert said.splitlines()[-1] == (
        f"Error: it was too late: TenantRecord '{name}' was purged meanwhile. Tenant {shop.name}/acme was made again "
        "and begins empty: delete it if it is not to"
    )


# --- confirm and abort --------------------------------------------------------------------------------------------
def test_at_a_terminal_confirm_shows_what_is_meant_and_asks(lab: Lab, shop: Shop) -> None:
    had = shop.open(*THREE)
    all_held(shop)
    with Terminal(lab, "deletions", "confirm", "--workspace", shop.name) as terminal:
        assert terminal.asked().answered("n") == 1
        assert all(f"{HELD}   {name}" in terminal.text for name in THREE)
        assert "Let these 3 deletions go on?" in terminal.text
        assert "nothing is confirmed" in terminal.text
    assert not any(said_of(shop, name) for name in THREE)
    with Terminal(lab, "deletions", "confirm", f"{shop.name}/acme", f"{shop.name}/brick") as terminal:
        terminal.asked()
        shop.kubectl("annotate", "tenant", "acme", "example.com/note=x")  # its resourceVersion is another one now
        protected = json.dumps({"spec": {"deletion": {"protected": True}}})
        shop.kubectl("patch", "tenant", "brick", "--type=merge", "-p", protected)
        shop.wait_told("Protected", "", "brick")
        assert terminal.answered("y") == 1
        assert f"{shop.name}/acme: confirmed: its deletion goes on as its window says" in terminal.text
        assert f"{shop.name}/brick: not confirmed: it was changed meanwhile, look at it again" in terminal.text
    shop.wait_gone("acme")
    assert shop.record("acme")["state"] == "Deleted"
    assert {name: shop.stock(name)[name] for name in ("brick", "cello")} == {n: had[n] for n in ("brick", "cello")}
    said = command(lab, "deletions", "confirm", "--all", "--yes").stdout
    assert {f"{shop.name}/brick", f"{shop.name}/cello"} <= {line.partition(":")[0] for line in said.splitlines()}
    shop.wait_gone("brick", "cello")


def test_the_last_word_counts_and_saying_it_twice_does_no_harm(lab: Lab, shop: Shop) -> None:
    had = shop.open(*THREE)
    all_held(shop)
    uid = shop.get("acme")["metadata"]["uid"]
    lab.operator.kill()
    name = f"{shop.name}/acme"
    said = command(lab, "deletions", "confirm", name, "--yes").stdout
    assert said == f"{name}: confirmed: its deletion goes on as its window says\n"
    assert command(lab, "deletions", "confirm", name, "--yes").stdout == f"{name}: confirmed already\n"
    assert said_of(shop, "acme") == {"tenantry.io/confirm-deletion": uid}
    said = command(lab, "deletions", "abort", "acme", "--workspace", shop.name).stdout
    assert said == f"{name}: aborted: the Tenant goes, what it has runs on unmanaged\n"
    assert said_of(shop, "acme") == {"tenantry.io/abort-deletion": uid}
    command(lab, "deletions", "abort", "--workspace", shop.name)
    lab.operator.start()
    shop.wait_gone(*THREE)
    assert {shop.record(each)["state"] for each in THREE} == {"Retained"}
    assert shop.stock(*THREE) == had
    assert command(lab, "deletions", "abort", "--workspace", shop.name).stderr == "no deletion is held\n"


def test_what_is_not_held_is_told_and_the_others_are_done(lab: Lab, shop: Shop) -> None:
    shop.open(*THREE)
    shop.delete_all(but="cello")
    shop.wait_told(HELD, f"2 of the 3 tenants of workspace '{shop.name}' were deleted", "acme", "brick")
    names = [f"{shop.name}/{name}" for name in ("acme", "cello", "none")]
    done = command(lab, "deletions", "abort", *names, code=1)
    assert done.stdout == f"{names[0]}: aborted: the Tenant goes, what it has runs on unmanaged\n"
    assert done.stderr.splitlines() == [
        f"{names[1]}: it is not being deleted",
        f"{names[2]}: there is no such Tenant",
    ]
    assert HELD in command(lab, "deletions", "list", "--workspace", shop.name).stdout
    command(lab, "deletions", "abort", "--workspace", shop.name)
    shop.wait_gone("acme", "brick")


def test_a_workspace_admin_speaks_for_the_own_workspace_and_rbac_says_no_to_the_rest(
    lab: Lab, shop: Shop, tmp_path: Path
) -> None:
    shop.open(*THREE)
    all_held(shop)
    managed = lab.management.access
    managed.kubectl("-n", shop.name, "create", "serviceaccount", "ann")
    subject = {"kind": "ServiceAccount", "name": "ann", "namespace": shop.name}
    apply(managed, role_binding("ann", shop.name, "tenantry-workspace-admin", subject))
    kubeconfig = tmp_path / "ann"
    kubeconfig.write_text(managed.service_account_kubeconfig(shop.name, "ann"))

    def as_admin(*arguments: str, code: int = 0) -> tuple[str, str]:
        done = CliRunner(env={"KUBECONFIG": "/nowhere"}).invoke(main, [*arguments, "--kubeconfig", str(kubeconfig)])
        assert done.exit_code == code, done.output
        return done.stdout, done.stderr

    listed, warned = as_admin("deletions", "list", "--workspace", shop.name)
    assert [line.split()[:3] for line in listed.splitlines()[1:]] == [[HELD, name, shop.name] for name in THREE]
    assert warned.startswith("warning: only held deletions are shown, you may not read records: ")
    for refused in (
        ("deletions", "list"),
        ("deletions", "abort", "--all"),
        ("deletions", "abort", "default/x"),
        ("undelete", f"{shop.name}/acme"),
    ):
        assert "does not let you: " in as_admin(*refused, code=1)[1], refused
    assert "confirmed" in as_admin("deletions", "confirm", f"{shop.name}/acme", "--yes")[0]
    as_admin("deletions", "abort", f"{shop.name}/brick", f"{shop.name}/cello")
    shop.wait_gone(*THREE)
