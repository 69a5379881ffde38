"""`python -m tests.image ROOT`: the operator out of its image makes a tenant, backs it up and restores it.

ROOT is what `buildah mount`, `podman mount` or `docker export` give of the image; root is needed for the mounts.
"""

from __future__ import annotations

import base64
import os
import secrets
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import click
import psycopg
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.postgres import PostgresServer
from tests.controlplane.postgres_binaries import debian_binaries
from tests.scene.installation import apply, secret
from tests.scene.lab import Lab, is_ready, make_lab, tenant_body, wait_until, workspace_body
from tests.scene.operator import LENIENT, OperatorProcess

SECONDS: Final = 180.0
USER_ID: Final = 65532
STORE: Final = "folder"
Json = dict[str, Any]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("root", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(root: Path) -> None:
    """Try the image whose root folder this is."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tenantry-image-")))
        folder.chmod(0o755)
        say("starting two control planes and PostgreSQL")
        management = stack.enter_context(ControlPlane("image"))
        target = stack.enter_context(ControlPlane("image-target"))
        postgres = stack.enter_context(PostgresServer(debian_binaries()))
        lab = make_lab(management, target, postgres, folder)
        operator = within(root.resolve(), lab, folder)
        stack.callback(operator.stop)
        try:
            operator.start()
            say("the operator is ready: read-only, as user 65532, without any privilege")
            try_out(lab)
        except (AssertionError, RuntimeError):
            say(operator.log_text[-6000:])
            raise
    say("the image works")


def within(root: Path, lab: Lab, folder: Path) -> OperatorProcess:
    """The operator of the image; what it needs of this machine is made readable for its user."""
    kubeconfig = folder / "operator.kubeconfig"
    os.chown(kubeconfig, USER_ID, USER_ID)
    (folder / STORE).mkdir()
    os.chown(folder / STORE, USER_ID, USER_ID)
    signing = secret(f"{STORE}-signing", {"key": secrets.token_urlsafe(32)})
    spec = {
        "url": f"file://{folder / STORE}",
        "signingSecretRef": {"name": f"{STORE}-signing"},
        "allowedWorkspaces": {"from": "All"},
    }
    store = {"apiVersion": "tenantry.io/v1alpha1", "kind": "BackupStore", "metadata": {"name": STORE}, "spec": spec}
    apply(lab.management.access, signing, store)
    program = ("-m", "tests.image.within", str(root), str(folder))
    return OperatorProcess(kubeconfig, folder / "image.log", LENIENT, program=program)


def try_out(lab: Lab) -> None:
    """A tenant with a database; rows in it; a backup; the rows away; a restore; the rows again."""
    managed = lab.management.access
    apply(managed, workspace_body("shop"))
    apply(managed, tenant_body("acme", "shop", database={"mode": "Shared"}))
    wait_until(lambda: is_ready(managed.get("tenants/acme", "-n", "shop")), SECONDS, "the tenant is Ready")
    say("the tenant is Ready")
    execute(
        lab, "CREATE TABLE notes (word text)", "INSERT INTO notes SELECT 'row ' || i FROM generate_series(1, 500) i"
    )
    backup = owned("TenantBackup", "first", {"source": {"tenant": {"name": "acme"}}, "store": STORE})
    apply(managed, backup)
    wait_phase(lab, "tenantbackups/first")
    execute(lab, "DELETE FROM notes")
    restore = {"backupRef": {"name": "first"}, "tenantRef": {"name": "acme"}}
    apply(managed, owned("TenantRestore", "back", restore))
    wait_phase(lab, "tenantrestores/back")
    assert execute(lab, "SELECT count(*) FROM notes") == 500
    say("its rows went into a backup, away, and came back by a restore")


def owned(kind: str, name: str, spec: Json) -> Json:
    """One of our kinds in the workspace."""
    metadata = {"name": name, "namespace": "shop"}
    return {"apiVersion": "tenantry.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


def wait_phase(lab: Lab, name: str) -> None:
    """Until it is Completed.

    Raises:
        AssertionError: it fails, or takes too long.
    """

    def phase() -> str:
        status = lab.management.access.get(name, "-n", "shop").get("status", {})
        assert status.get("phase") != "Failed", status
        return str(status.get("phase"))

    wait_until(lambda: phase() == "Completed", SECONDS, lambda: f"{name} is {phase()}")


def execute(lab: Lab, *statements: str) -> object:
    """In the tenant's database, as its own login; the last one's first value."""
    (record,) = lab.management.access.get("tenantrecords")["items"]
    namespace = record["spec"]["cluster"]["namespace"]
    data = lab.target.access.get("secret", "tenant-database", "-n", namespace)["data"]
    with psycopg.connect(base64.b64decode(data["uri"]).decode(), autocommit=True) as session:
        *first, last = statements
        for statement in first:
            session.execute(statement)
        cursor = session.execute(last)
        row = cursor.fetchone() if cursor.description else None
    return row[0] if row else None


def say(line: str) -> None:
    """A line of progress."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - a command line's progress


if __name__ == "__main__":
    main()
