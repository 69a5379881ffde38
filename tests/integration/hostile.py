"""Mallory: may create, edit, delete and patch the status of Tenants in one workspace, nothing else, and means harm."""

from __future__ import annotations

import contextlib
import json
import re
import time
from dataclasses import dataclass
from typing import Any, Final

from tests.integration.acting import ROLES, Answer, Api, eventually, made, manifest, token_of
from tests.integration.tenants import Whereabouts, Workbench, wait_for

from tenantry.api.names import ANNOTATION_REQUESTED_AT
from tenantry.api.resources import ROLE_BINDINGS, SERVICE_ACCOUNTS, TENANTS

Json = dict[str, Any]

NAME: Final = "mallory"
VERBS: Final = ["get", "list", "watch", "create", "update", "patch", "delete"]
DATABASE: Final = {"mode": "Shared", "shared": {"server": "pg18"}}
_FAILURE = re.compile(r"Traceback|reconcile failed|ERROR")


class Mallory(contextlib.ExitStack):
    """The hostile admin of a workbench's workspace. All she does, she does with her own rights.

    Attributes:
        bench: Looks on as the platform's administrator.
        api: The management cluster as her.
    """

    def __init__(self, bench: Workbench) -> None:
        super().__init__()
        self.bench = bench
        admin, workspace = bench.management, bench.workspace
        rule = {"apiGroups": ["tenantry.io"], "resources": ["tenants", "tenants/status"], "verbs": VERBS}
        binding = manifest(
            ROLE_BINDINGS,
            NAME,
            workspace,
            roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": NAME},
            subjects=[{"kind": "ServiceAccount", "name": NAME, "namespace": workspace}],
        )
        for resource, body in (
            (SERVICE_ACCOUNTS, manifest(SERVICE_ACCOUNTS, NAME, workspace)),
            (ROLES, manifest(ROLES, NAME, workspace, rules=[rule])),
            (ROLE_BINDINGS, binding),
        ):
            made(admin.create(resource, body, dry=False))
        token = token_of(admin, workspace, NAME)
        self.api = self.enter_context(contextlib.closing(Api(bench.stage.management.kubeconfig, token)))
        eventually(lambda: self.api.may("create", TENANTS, workspace))

    def path(self, name: str) -> str:
        """Of one of her Tenants."""
        return TENANTS.path(self.bench.workspace, name)

    def create(self, name: str = "acme", *, metadata: Json | None = None, **spec: Any) -> Answer:
        """POST a Tenant; `metadata` is added to its name."""
        body = self.bench.tenant(name, **spec)
        body["metadata"].update(metadata or {})
        return self.api.create(TENANTS, body, dry=False)

    def make(self, name: str = "acme", *, metadata: Json | None = None, **spec: Any) -> Json:
        """POST a Tenant and wait until it is Ready."""
        made(self.create(name, metadata=metadata, **spec))
        return self.bench.ready(name)

    def edit(self, name: str, patch: Json) -> Answer:
        """A merge patch."""
        return self.api.patch(self.path(name), patch, dry=False)

    def set_status(self, name: str, status: Any) -> Answer:
        """Make a Tenant's status exactly this, as far as the API server takes it."""
        body = self.api.get(self.path(name)).body
        return self.api.send("PUT", f"{self.path(name)}/status", {**body, "status": status}, dry=False)

    def handled(self, name: str = "acme") -> Json:
        """Ask for a reconcile and wait until it was handled; the Tenant then."""
        now = f"{time.monotonic_ns()}"
        made(self.edit(name, {"metadata": {"annotations": {ANNOTATION_REQUESTED_AT: now}}}))
        bench = self.bench
        echoed = lambda: bench.get(name).get("status", {}).get("lastHandledReconcileAt") == now  # noqa: E731 - one use
        wait_for(echoed, f"{name} was looked at")
        return bench.get(name)

    def failures(self) -> list[str]:
        """What the operator's log says of runs that failed in her workspace, each with what follows it."""
        lines = self.bench.stage.log.read_text(errors="replace").splitlines()
        failed = [number for number, line in enumerate(lines) if self.bench.workspace in line and _FAILURE.search(line)]
        return ["\n".join(lines[number : number + 60]) for number in failed]


@dataclass(frozen=True, slots=True)
class Victim:
    """A tenant of another workspace, with a database and a host of its own, and all that it has as it was.

    Attributes:
        tenant: As it was when it was Ready.
        before: See `look`.
    """

    bench: Workbench
    workspace: str
    where: Whereabouts
    tenant: Json
    before: Json

    @property
    def host(self) -> str:
        """Its default host."""
        return str(self.tenant["status"]["hosts"][0])

    def check(self) -> None:
        """That nothing of it has changed, on both clusters and on the database server.

        Raises:
            AssertionError: with what has.
        """
        now = look(self.bench, self.workspace, self.where)
        changed = {key: (self.before.get(key), now.get(key)) for key in self.before if self.before[key] != now.get(key)}
        assert not changed
        assert now.keys() == self.before.keys()


def make_victim(bench: Workbench, name: str = "acme", **spec: Any) -> Victim:
    """A workspace beside Mallory's, and a Ready tenant in it."""
    workspace = bench.make_workspace(f"{bench.prefix}-victim")
    tenant = bench.make(name, workspace, **{"database": DATABASE, **spec})
    where = bench.whereabouts(name, workspace)
    return Victim(bench, workspace, where, tenant, look(bench, workspace, where))


def look(bench: Workbench, workspace: str, where: Whereabouts) -> Json:
    """All that a tenant has, by name: what each object says, its version included; its database, its Secrets."""
    found: Json = {}
    for body in bench.objects(where):
        metadata = body["metadata"]
        if body["kind"] != "ResourceQuota":  # its status counts
            found[f"{body['kind']}/{metadata['name']}"] = metadata["resourceVersion"]
    name = where.identity.name
    tenant = bench.get(name, workspace)
    found["tenant"] = json.dumps({"status": tenant["status"], "generation": tenant["metadata"]["generation"]})
    found["record"] = bench.record(where)["metadata"]["resourceVersion"]
    found["database"] = sorted(bench.database_traces(where))
    return found
