"""The workbench of tests about tenants: a workspace on the stage, what its admin does there, and what then is where."""

from __future__ import annotations

import base64
import contextlib
import json
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import psycopg
from psycopg import sql
from tests.controlplane.postgres_access import PostgresAccess
from tests.integration.acting import Api, manifest
from tests.scene.stage import PLAN, StageAccess, platform_manifest

from tenantry.api.identity import TenantIdentity, host_claim_name, namespace_name
from tenantry.api.names import ANNOTATION_REQUESTED_AT, LABEL_ENV_SECRET, LABEL_TENANT_HASH, SYSTEM_NAMESPACE
from tenantry.api.resources import (
    BACKUP_STORES,
    CLUSTERS,
    CONFIG_MAPS,
    DATABASE_SERVERS,
    EVENTS,
    NAMESPACES,
    SECRETS,
    TENANT_PLANS,
    TENANT_RECORDS,
    TENANTS,
    WATCHED_ON_TARGETS,
    Ref,
    Resource,
)

Json = dict[str, Any]
T = TypeVar("T")

PATIENCE = 60.0
"""Seconds; what is waited for takes about one on a quiet machine."""
POLL_SECONDS = 0.1
KINDS = {
    "BackupStore": BACKUP_STORES,
    "Cluster": CLUSTERS,
    "DatabaseServer": DATABASE_SERVERS,
    "TenantPlan": TENANT_PLANS,
}
NO_DATABASE: Json = {"mode": "None"}


def wait_for(probe: Callable[[], T | None], what: Callable[[], str] | str, seconds: float = PATIENCE) -> T:
    """The first answer of the probe that is true.

    Raises:
        AssertionError: there is none in time; with the last answer.
    """
    deadline = time.monotonic() + seconds
    while not (found := probe()):
        if time.monotonic() > deadline:
            raise AssertionError(f"still not after {seconds:g} s: {what() if callable(what) else what}")
        time.sleep(POLL_SECONDS)  # a server is polled; the deadline bounds it
    return found


def condition(body: Json, kind: str = "Ready") -> Json:
    """A condition of an object; empty where it has none of that type."""
    conditions: list[Json] = body.get("status", {}).get("conditions", [])
    return next((entry for entry in conditions if entry["type"] == kind), {})


def plain(secret: Json) -> dict[str, str]:
    """What is in a Secret."""
    return {name: base64.b64decode(value).decode() for name, value in (secret.get("data") or {}).items()}


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where a tenant is, or would be."""

    identity: TenantIdentity
    namespace: str

    @property
    def hash(self) -> str:
        """Its tenantHash."""
        return self.identity.tenant_hash

    @property
    def database(self) -> str:
        """The name of its database."""
        return self.identity.database


class Workbench:
    """A workspace and its hostile neighbours. Actions are the real kubectl's; looking is done over one connection.

    Attributes:
        management: The management cluster as its administrator.
        target: The target as its administrator; `elsewhere` makes it another one.
        prefix: For names of what is not in the workspace.
    """

    def __init__(self, stage: StageAccess, prefix: str) -> None:
        self.stage = stage
        self.prefix = prefix
        self.workspace = f"{prefix}-shop"
        self._stack = ExitStack()
        self._platform: list[Ref] = []
        self._workspaces: list[str] = []
        self.management = self._api(stage.management.kubeconfig)
        self.target = self._api(stage.target.kubeconfig)

    def __enter__(self) -> Self:
        self.make_workspace(self.workspace)
        return self

    def __exit__(self, *_: object) -> None:
        with self._stack:
            for name in self._workspaces:
                self.management.delete(NAMESPACES.path(name=name), dry=False)
            for ref in self._platform:
                self.management.delete(ref.path, dry=False)

    # --- doing ----------------------------------------------------------------------------------------------------
    def make_workspace(self, name: str, **labels: str) -> str:
        """One more workspace."""
        body = manifest(NAMESPACES, name, labels={"test": self.prefix, **labels})
        answer = self.management.create(NAMESPACES, body, dry=False)
        assert answer.status < 300, answer.message
        self._workspaces.append(name)
        return name

    def tenant(self, name: str = "acme", workspace: str = "", **spec: Any) -> Json:
        """A Tenant as its admin writes it: on plan `basic` and without a database, unless the spec says otherwise."""
        usual: Json = {"plan": PLAN, "database": NO_DATABASE}
        wanted = {key: value for key, value in {**usual, **spec}.items() if value is not None}
        return manifest(TENANTS, name, workspace or self.workspace, spec=wanted)

    def apply(self, *bodies: Json) -> None:
        """`kubectl apply` on the management cluster."""
        document = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(bodies)})
        self.stage.management.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=document)

    def make(self, name: str = "acme", workspace: str = "", **spec: Any) -> Json:
        """Apply a Tenant and wait until it is Ready."""
        self.apply(self.tenant(name, workspace, **spec))
        return self.ready(name, workspace)

    def platform(self, kind: str, name: str, **spec: Any) -> str:
        """Apply a Cluster, DatabaseServer or TenantPlan called after the test; its name."""
        full = f"{self.prefix}-{name}"
        self.register(platform_manifest(kind, full, **spec))
        return full

    def register(self, body: Json) -> None:
        """Apply a platform object that goes with the test."""
        ref = Ref(KINDS[body["kind"]], "", body["metadata"]["name"])
        if ref not in self._platform:
            self._platform.append(ref)
        self.apply(body)

    def env_secret(self, name: str, values: dict[str, str], *, labelled: bool = True) -> None:
        """Apply a Secret of the workspace for envFrom."""
        labels = {LABEL_ENV_SECRET: "true"} if labelled else {}
        self.apply(manifest(SECRETS, name, self.workspace, labels=labels, stringData=values))

    def kubectl(self, *arguments: str) -> str:
        """Kubectl in the workspace."""
        return self.stage.management.kubectl("-n", self.workspace, *arguments)

    def look_now(self, name: str = "acme", workspace: str = "") -> str:
        """Ask for a reconcile; the annotation's value."""
        now = f"at-{time.monotonic_ns()}"
        answer = self.management.patch(
            TENANTS.path(workspace or self.workspace, name),
            {"metadata": {"annotations": {ANNOTATION_REQUESTED_AT: now}}},
            dry=False,
        )
        assert answer.status < 300, answer.message
        return now

    def delete(self, name: str = "acme", workspace: str = "") -> None:
        """Ask for a Tenant's deletion."""
        self.stage.management.kubectl("-n", workspace or self.workspace, "delete", "tenant", name, "--wait=false")

    # --- looking at the management cluster ------------------------------------------------------------------------
    def get(self, name: str = "acme", workspace: str = "") -> Json:
        """The Tenant; empty where there is none."""
        return self._get(self.management, Ref(TENANTS, workspace or self.workspace, name))

    def record(self, where: Whereabouts) -> Json:
        """Its TenantRecord; empty where there is none."""
        return self._get(self.management, Ref(TENANT_RECORDS, "", where.identity.record))

    def ready(self, name: str = "acme", workspace: str = "", *, seconds: float = PATIENCE) -> Json:
        """The Tenant, once what it is now was seen and is Ready."""
        return self.told("True", "Ready", None, name=name, workspace=workspace, seconds=seconds)

    def told(
        self,
        status: str,
        reason: str,
        message: str | None,
        *,
        name: str = "acme",
        workspace: str = "",
        seconds: float = PATIENCE,
    ) -> Json:
        """The Tenant, once its Ready says this of its present generation.

        Raises:
            AssertionError: it does not in time; with what it says.
        """
        last: Json = {}

        def says() -> Json | None:
            nonlocal last
            last = self.get(name, workspace)
            ready = condition(last)
            fits = (ready.get("status"), ready.get("reason")) == (status, reason)
            current = ready.get("observedGeneration") == last.get("metadata", {}).get("generation")
            return last if fits and current and message in (None, ready["message"]) else None

        try:
            return wait_for(says, f"{name} is {reason}", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; it says {condition(last)}, wanted message {message!r}") from None

    def when(self, holds: Callable[[Json], bool], what: str, *, seconds: float = PATIENCE) -> Json:
        """Tenant `acme`, once something holds of it."""

        def body() -> Json | None:
            seen = self.get()
            return seen if holds(seen) else None

        return wait_for(body, what, seconds)

    def gone(self, name: str = "acme", workspace: str = "", *, seconds: float = PATIENCE) -> None:
        """Wait until the Tenant is gone."""
        wait_for(lambda: not self.get(name, workspace), f"{name} is gone", seconds)

    def forgotten(self, where: Whereabouts) -> None:
        """Wait until its record is gone, which outlives the Tenant by a moment."""
        wait_for(lambda: self.record(where) == {}, "the record is gone")

    def events(self, name: str, reason: str) -> list[Json]:
        """The Events about a Tenant for one reason."""
        answer = self.management.get(EVENTS.path(self.workspace))
        return [e for e in answer.body["items"] if e["regarding"]["name"] == name and e["reason"] == reason]

    def whereabouts(self, name: str = "acme", workspace: str = "", *, template: str = "") -> Whereabouts:
        """Where a Tenant is or will be: computed, not asked for."""
        space = workspace or self.workspace
        uid = self._get(self.management, Ref(NAMESPACES, "", space))["metadata"]["uid"]
        identity = TenantIdentity(self.stage.management_id, space, uid, name)
        return Whereabouts(identity, namespace_name(template or "{workspace}-{tenant}", identity))

    # --- looking at the target ------------------------------------------------------------------------------------
    def elsewhere(self, kubeconfig: str) -> None:
        """From now on the target is another cluster."""
        self.target = self._api(kubeconfig)

    def on_target(self, resource: Resource, namespace: str, name: str) -> Json:
        """An object on the target; empty where there is none."""
        return self._get(self.target, Ref(resource, namespace, name))

    def objects(self, where: Whereabouts, *, kinds: Iterable[Resource] = (*WATCHED_ON_TARGETS, SECRETS)) -> list[Json]:
        """All that bears a tenant's hash on the target."""
        found = []
        for resource in kinds:
            answer = self.target.get(f"{resource.path()}?labelSelector={LABEL_TENANT_HASH}%3D{where.hash}")
            assert answer.status == 200, answer.message
            common = {"apiVersion": resource.api_version, "kind": resource.kind}
            found += [{**common, **item} for item in answer.body["items"]]
        return found

    def inventory(self, where: Whereabouts) -> set[str]:
        """The names of all that bears a tenant's hash on the target: `Kind/name`; its claims as `Claim/host`."""
        names = set()
        for body in self.objects(where):
            metadata = body["metadata"]
            claimed = metadata.get("namespace") == SYSTEM_NAMESPACE
            host = metadata["annotations"].get("tenantry.io/host", "")
            names.add(f"Claim/{host}" if claimed else f"{body['kind']}/{metadata['name']}")
        return names

    def claim(self, host: str) -> Json:
        """The claim of a host; empty where it is free."""
        return self.on_target(CONFIG_MAPS, SYSTEM_NAMESPACE, host_claim_name(host))

    def secret(self, where: Whereabouts, name: str) -> dict[str, str]:
        """What is in a Secret of the tenant's namespace."""
        return plain(self.on_target(SECRETS, where.namespace, name))

    # --- looking at a database server -----------------------------------------------------------------------------
    def ask(self, query: str, *values: object, server: PostgresAccess | None = None) -> list[tuple[Any, ...]]:
        """Rows, as the superuser of a database server; by default the one of DatabaseServer `pg18`."""
        with psycopg.connect((server or self.stage.postgres_18).superuser_dsn(), autocommit=True) as connection:
            cursor = connection.execute(query, values)
            return cursor.fetchall() if cursor.description else []

    def in_database(self, where: Whereabouts, statement: str, *, server: PostgresAccess | None = None) -> None:
        """A statement with `{}` for the tenant's database, as the server's superuser."""
        with psycopg.connect((server or self.stage.postgres_18).superuser_dsn(), autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(sql.Identifier(where.database)))

    def pins(self, where: Whereabouts) -> Json:
        """What its record says of where the tenant is: all but the spec that was asked for last."""
        spec: Json = self.record(where)["spec"]
        return {key: value for key, value in spec.items() if key not in {"lastSpec", "lastGeneration"}}

    def database_traces(self, where: Whereabouts, server: PostgresAccess | None = None) -> set[str]:
        """The names of the tenant's database and roles that are there, and `claim`."""
        access = server or self.stage.postgres_18
        names = {row[0] for row in self.ask("SELECT datname FROM pg_database", server=access)}
        names |= {row[0] for row in self.ask("SELECT rolname FROM pg_roles", server=access)}
        found = {name for name in names if name.startswith(where.database)}
        with contextlib.closing(psycopg.connect(access.superuser_dsn("tenantry"))) as connection:
            claims = connection.execute("SELECT 1 FROM claims WHERE tenant_hash = %s", (where.hash,)).fetchall()
        return found | ({"claim"} if claims else set())

    # --- inside ---------------------------------------------------------------------------------------------------
    def _api(self, kubeconfig: str) -> Api:
        return self._stack.enter_context(contextlib.closing(Api(kubeconfig)))

    @staticmethod
    def _get(api: Api, ref: Ref) -> Json:
        answer = api.get(ref.path)
        assert answer.status in (200, 404), answer.message
        return answer.body if answer.status == 200 else {}
