"""A Lab whose operator asks before many deletions, as it does by default, and tenants that have something to lose."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
from click.testing import CliRunner, Result
from tests.controlplane.access import ClusterAccess, KubectlError
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.postgres import PostgresServer
from tests.controlplane.postgres_binaries import wheel_binaries
from tests.scene.faulty import operators_writes, written
from tests.scene.installation import apply, secret
from tests.scene.lab import Lab, conditions_text, is_ready, make_lab, plan_body, tenant_body, wait_until, workspace_body
from tests.scene.operator import OperatorProcess

from tenantry.api.names import ANNOTATION_REQUESTED_AT, LABEL_ENV_SECRET
from tenantry.api.resources import TENANTS
from tenantry.cli.main import main

PLAN = "kept"
ENV_SECRET = "shop-env"
SECONDS = 120.0
Json = dict[str, Any]


@contextmanager
def careful_lab(folder: Path) -> Iterator[Lab]:
    """A running one, with plan `kept`: whose deleted tenants can be had back for a day."""
    with ExitStack() as stack:
        management = stack.enter_context(ControlPlane("careful", audit=True))
        target = stack.enter_context(ControlPlane("careful-target", audit=True))
        postgres = stack.enter_context(PostgresServer(wheel_binaries()))
        lab = make_lab(management, target, postgres, folder)
        operator = OperatorProcess(folder / "operator.kubeconfig", folder / "operator.log")
        apply(management.access, plan_body(PLAN, deletion={"minWindow": "0s", "maxWindow": "24h"}))
        stack.callback(operator.stop)
        operator.start()
        yield replace(lab, operator=operator)


@dataclass(frozen=True, slots=True)
class Stock:
    """What a tenant has on its target and server; two that are equal are the same things, not such as them.

    Attributes:
        canary: The rows of its table, read by its own login.
    """

    namespace: str
    uid: str
    secrets: str
    canary: tuple[str, ...]


class Shop:
    """A workspace on a Lab, with tenants that each have a database with a row in it, and an environment."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.lab = lab
        self.name = name

    # --- doing ----------------------------------------------------------------------------------------------------
    def open(self, *tenants: str, **spec: Any) -> dict[str, Stock]:
        """Make the workspace and the tenants, wait until they are Ready, write the rows; what they have."""
        apply(self.lab.management.access, workspace_body(self.name))
        self.apply(*tenants, **spec)
        self.wait_ready(*tenants)
        for tenant in tenants:
            with self._session(self._record(tenant)) as session:
                session.execute("CREATE TABLE canary (word text)")
                session.execute("INSERT INTO canary VALUES (%s)", (f"{self.name}-{tenant}",))
        return self.stock(*tenants)

    def apply(self, *tenants: str, **spec: Any) -> None:
        """What git has: the Secret for the environment and the Tenants."""
        usual: Json = {"plan": PLAN, "database": {"mode": "Shared"}, "envFrom": [{"secretRef": {"name": ENV_SECRET}}]}
        env = secret(ENV_SECRET, {"COLOR": "red"}, self.name)
        env["metadata"]["labels"] = {LABEL_ENV_SECRET: "true"}
        apply(self.lab.management.access, env, *(tenant_body(each, self.name, **{**usual, **spec}) for each in tenants))

    def kubectl(self, *arguments: str) -> str:
        """On the management cluster, in the workspace."""
        return self.lab.management.access.kubectl("-n", self.name, *arguments)

    def delete_all(self, *, but: str = "") -> None:
        """Delete its tenants as `kubectl delete --all` does, but by one request: so it is at once, whoever is slow."""
        query = f"?fieldSelector=metadata.name!%3D{but}" if but else ""
        self.kubectl("delete", "--raw", TENANTS.path(self.name) + query)

    # --- looking --------------------------------------------------------------------------------------------------
    def get(self, tenant: str) -> Json:
        """The Tenant; empty where there is none."""
        return found(self.lab.management.access, "tenants.tenantry.io", tenant, "-n", self.name)

    def record(self, tenant: str) -> Json:
        """The spec of its record."""
        spec: Json = self._record(tenant)["spec"]
        return spec

    def record_name(self, tenant: str) -> str:
        """The name of its record."""
        return str(self._record(tenant)["metadata"]["name"])

    def stock(self, *tenants: str) -> dict[str, Stock]:
        """What they have, by their own logins."""
        return {tenant: self._stock(self._record(tenant)) for tenant in tenants}

    def wait_ready(self, *tenants: str, seconds: float = SECONDS) -> None:
        """Until all are Ready."""
        wait_until(
            lambda: all((body := self.get(each)) and is_ready(body) for each in tenants),
            seconds,
            lambda: conditions_text(self.lab),
        )

    def wait_looked_at(self, *tenants: str) -> None:
        """Ask for a look at all of them, and wait until each was looked at and is Ready."""
        now = f"at-{time.monotonic_ns()}"
        self.kubectl("annotate", "tenants", *tenants, "--overwrite", f"{ANNOTATION_REQUESTED_AT}={now}")

        def looked_at() -> bool:
            bodies = [self.get(tenant) for tenant in tenants]
            return all(body["status"].get("lastHandledReconcileAt") == now and is_ready(body) for body in bodies)

        wait_until(looked_at, SECONDS, lambda: conditions_text(self.lab))

    def wait_told(self, reason: str, message: str, *tenants: str) -> None:
        """Until the Ready of all of them has this reason, and a message with this in it."""

        def told() -> bool:
            return all(
                ready["reason"] == reason and message in ready["message"]
                for ready in (ready_of(self.get(each)) for each in tenants)
            )

        wait_until(told, SECONDS, lambda: conditions_text(self.lab))

    def wait_gone(self, *tenants: str) -> None:
        """Until the Tenants are gone."""
        wait_until(lambda: not any(self.get(each) for each in tenants), SECONDS, lambda: conditions_text(self.lab))

    # --- inside ---------------------------------------------------------------------------------------------------
    def _record(self, tenant: str) -> Json:
        records = self.lab.management.access.get("tnrec")["items"]
        (record,) = (r for r in records if (r["spec"]["workspace"], r["spec"]["tenant"]) == (self.name, tenant))
        return dict(record)

    def _stock(self, record: Json) -> Stock:
        target, namespace = self.lab.target.access, record["spec"]["cluster"]["namespace"]
        secrets = target.get("secrets", "-n", namespace)["items"]
        data = {body["metadata"]["name"]: (body["metadata"]["uid"], body["data"]) for body in secrets}
        with self._session(record) as session:
            rows = tuple(row[0] for row in session.execute("SELECT word FROM canary").fetchall())
        uid = target.get("namespace", namespace)["metadata"]["uid"]
        return Stock(namespace, uid, json.dumps(data, sort_keys=True), rows)

    def _session(self, record: Json) -> psycopg.Connection[tuple[Any, ...]]:
        namespace = record["spec"]["cluster"]["namespace"]
        data = self.lab.target.access.get("secret", "tenant-database", "-n", namespace)["data"]
        return psycopg.connect(base64.b64decode(data["uri"]).decode(), autocommit=True, connect_timeout=30)


def found(access: ClusterAccess, *what: str) -> Json:
    """An object; empty where it, or its kind, is not there."""
    try:
        text = access.kubectl("get", *what, "--ignore-not-found", "-o", "json")
    except KubectlError as error:
        if "doesn't have a resource type" in error.stderr or "could not find the requested" in error.stderr:
            return {}
        raise
    return dict(json.loads(text)) if text.strip() else {}


def ready_of(tenant: Json) -> Json:
    """The condition Ready of a Tenant, empty words where there is none."""
    conditions = tenant.get("status", {}).get("conditions", [])
    return next((c for c in conditions if c["type"] == "Ready"), {"reason": "", "message": ""})


def command(lab: Lab, *arguments: str, code: int = 0) -> Result:
    """Run `tenantry` as the administrator of the management cluster, in this process."""
    done = CliRunner(env={"KUBECONFIG": str(lab.management.access.kubeconfig_path)}).invoke(main, [*arguments])
    assert done.exit_code == code, done.output
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
    return done


def touched(lab: Lab, after: int) -> Iterable[str]:
    """What the operator wrote on the target since a mark of its audit log."""
    return written(operators_writes(lab.target.access, after=after))
