"""No secret in what backups and restores leave to be read: logs, events, arguments, statuses, names, metrics."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from tests.bench.sql import logging_postgres
from tests.integration.backup_lab import LARGE, BackupLab, backup_lab
from tests.integration.tenants import plain
from tests.scene.faulty import WORKSPACE, FaultyLab
from tests.scene.lab import plan_body

from tenantry.api.names import ANNOTATION_UNDO_RESTORE, SECRET_DATABASE
from tenantry.api.resources import (
    BACKUP_STORES,
    CLUSTERS,
    DATABASE_SERVERS,
    EVENTS,
    SECRETS,
    TENANT_BACKUPS,
    TENANT_PLANS,
    TENANT_RECORDS,
    TENANT_RESTORES,
    TENANTS,
)

Json = dict[str, Any]

PLAN = "last"
KINDS = (
    *(TENANTS, TENANT_BACKUPS, TENANT_RESTORES, TENANT_RECORDS, EVENTS),
    *(TENANT_PLANS, CLUSTERS, DATABASE_SERVERS, BACKUP_STORES),
)

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("fresh_control_plane"),  # has the binary built outside the time-out; none is started
]


class Listener:
    """Notes the arguments of all programs that run below the operator, and the passwords in their environments."""

    def __init__(self, pid: int) -> None:
        self.arguments: set[str] = set()
        self.passwords: set[str] = set()
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Listener:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _listen(self) -> None:
        while not self._over.wait(0.02):
            with contextlib.suppress(psutil.NoSuchProcess):
                operator = psutil.Process(self._pid)
                for process in (operator, *operator.children(recursive=True)):
                    self._note(process)

    def _note(self, process: psutil.Process) -> None:
        with contextlib.suppress(psutil.Error):
            self.arguments.update(process.cmdline())
            if password := process.environ().get("PGPASSWORD"):
                self.passwords.add(password)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[BackupLab, Path]]:
    with contextlib.ExitStack() as stack:
        logs: list[Path] = []

        def prepare(lab: FaultyLab) -> None:
            lab.apply(plan_body(PLAN, deletion={"maxWindow": "0s", "finalBackup": True}))
            logs.append(stack.enter_context(logging_postgres(lab.postgres)))

        opened = stack.enter_context(backup_lab(tmp_path_factory.mktemp("secrets"), prepare))
        yield opened, logs[0]


def test_no_password_and_no_key_is_in_anything_that_a_life_with_backups_leaves_to_be_read(
    scene: tuple[BackupLab, Path],
) -> None:
    lab, statements = scene
    with Listener(lab.operator.pid) as listener:
        lab.tenant("acme", LARGE, plan=PLAN)
        known = login(lab)
        backup = lab.backed_up("acme")
        restore = lab.restore("acme", backup, safetyBackup=True)
        lab.ended(TENANT_RESTORES, restore, "Completed")
        lab.ready("acme")
        known |= login(lab)
        uid = lab.get(TENANT_RESTORES, restore)["metadata"]["uid"]
        patch = {"metadata": {"annotations": {ANNOTATION_UNDO_RESTORE: uid}}}
        lab.api.patch(TENANT_RESTORES.path(WORKSPACE, restore), patch, dry=False)
        failing = lab.back_up("acme")
        lab.caught("pg_dump").kill()
        lab.ended(TENANT_BACKUPS, failing, "Failed")
        read = everything(lab, statements)
        lab.delete(TENANTS, "acme")
        lab.wait_gone(TENANTS, "acme", seconds=240)
    read |= {f"{name}, in the end": text for name, text in everything(lab, statements).items()}
    read["arguments"] = "\n".join(listener.arguments)
    assert "--format=custom" in read["arguments"], "programs were seen at work"
    known |= listener.passwords | keys_of(lab)
    assert len(listener.passwords) >= 3, "of the roles that dump and of the login that is restored by"
    assert all(len(value) >= 8 for value in known)
    found = {name: value[:4] for value in known for name, text in read.items() if value in text}
    assert not found


def login(lab: BackupLab) -> set[str]:
    """The password of the tenant's database."""
    namespace = lab.lab.namespace_of("acme")
    body = json.loads(lab.lab.target.kubectl("get", "secret", SECRET_DATABASE, "-n", namespace, "-o", "json"))
    return {plain(body)["password"]}


def keys_of(lab: BackupLab) -> set[str]:
    """Of the store, of its signatures and of its encryption; and the server's admin's password."""
    assert lab.kept.key is not None
    admin = lab.lab.postgres.access.admin_password
    return {lab.kept.location.credentials["secretAccessKey"], lab.kept.signing_key, lab.kept.key.identity, admin}


def everything(lab: BackupLab, statements: Path) -> dict[str, str]:
    """All that people, or programs that are none of ours, may read; Secrets are what they are."""
    read = {kind.plural: json.dumps(lab.api.get(kind.path()).body) for kind in KINDS}
    target = lab.lab.target
    namespaces = target.kubectl("get", "namespaces", "-o", "json")
    kinds = "configmaps,ingresses,networkpolicies,events,rolebindings,resourcequotas"
    names = lab.api.get(SECRETS.path()).body["items"]
    return {
        **read,
        "namespaces": namespaces,
        "target": target.kubectl("get", kinds, "--all-namespaces", "-o", "json"),
        "names of Secrets": json.dumps([body["metadata"] for body in names]),
        "log": lab.operator.log_text,
        "metrics": lab.operator.get("/metrics") or "",
        "statements": statements.read_text(errors="replace"),
        "comments": comments(lab),
        "store": asyncio.run(kept_texts(lab)),
    }


async def kept_texts(lab: BackupLab) -> str:
    """The names of all objects, and the manifests."""
    keys = sorted(await lab.kept.keys())
    manifests = [await lab.kept.store.get(key, most=10**6) for key in keys if key.endswith(".json")]
    return "\n".join([*keys, *(text.decode() for text in manifests)])


def comments(lab: BackupLab) -> str:
    """What every tenant of the server may read: of roles, databases and settings."""
    query = (
        "SELECT string_agg(d::text, ' ') FROM (SELECT description FROM pg_shdescription UNION ALL"
        " SELECT setconfig::text FROM pg_db_role_setting UNION ALL SELECT rolname FROM pg_roles) d"
    )
    with psycopg.connect(lab.dsn()) as session:
        row = session.execute(query).fetchone()
        return str(row[0]) if row else ""
