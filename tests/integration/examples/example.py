"""An example's folder, applied by the real kubectl in a workspace of the test's own."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg
import yaml
from tests.demo.quickstart import FOLDER as QUICKSTART
from tests.demo.quickstart import PLATFORM
from tests.integration.tenants import Whereabouts

from tenantry.api.resources import (
    DEPLOYMENTS,
    TENANT_PLANS,
)

if TYPE_CHECKING:
    from tests.integration.tenants import Workbench

Json = dict[str, Any]

EXAMPLES: Final = QUICKSTART.parent
NAMES: Final = tuple(sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir() and path != QUICKSTART))


def documents(path: Path) -> list[Json]:
    """The objects in a file."""
    return [body for body in yaml.safe_load_all(path.read_text(encoding="utf-8")) if body]


@dataclass(frozen=True, slots=True)
class Example:
    """An example's folder in a workspace of the test's own.

    Attributes:
        applied: The files that were; in the end it has to be all.
    """

    workbench: Workbench
    folder: Path
    applied: set[str] = field(default_factory=set)

    def files(self) -> set[str]:
        """All of its manifests, relative to the folder."""
        return {path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*.y*ml")}

    def apply(self, name: str) -> None:
        """Apply one of its files, as its own workspace's; one of the folder `target`, into a tenant's namespace."""
        self.applied.add(name)
        for body in documents(self.folder / name):
            self._apply(self._moved(body))

    def deploy(self, name: str, where: Whereabouts) -> None:
        """Apply one of the files for the target, into the tenant's namespace there, as they are."""
        self.applied.add(name)
        path = str(self.folder / name)
        self.workbench.stage.target.kubectl("-n", where.namespace, "apply", "--server-side", "-f", path)

    def plans(self) -> None:
        """Apply the quick start's plans."""
        for body in documents(PLATFORM):
            if body["kind"] == TENANT_PLANS.kind:
                self._apply(self._moved(body))

    def _apply(self, body: Json) -> None:
        if "namespace" in body["metadata"]:
            self.workbench.apply(body)
        else:
            self.workbench.register(body)

    def _moved(self, body: Json) -> Json:
        """The object with the test's names for what others have, too: workspaces, and what is in none."""
        if "namespace" in body["metadata"]:
            body["metadata"]["namespace"] = self.workbench.workspace
        else:
            body["metadata"]["name"] = self._own(body["metadata"]["name"])
        for name in ("plan", "store"):
            if name in body.get("spec", {}):
                body["spec"][name] = self._own(body["spec"][name])
        return body

    def _own(self, name: str) -> str:
        return f"{self.workbench.prefix}-{name}"

    # --- what the expectations look at ----------------------------------------------------------------------------
    def connect(self, where: Whereabouts) -> psycopg.Connection[tuple[Any, ...]]:
        """A session with the credentials that the tenant's Secret has now."""
        uri = self.workbench.secret(where, "tenant-database")["uri"]
        return psycopg.connect(uri, autocommit=True, connect_timeout=30)

    def write_row(self, where: Whereabouts) -> None:
        """Leave something in the tenant's database."""
        with self.connect(where) as session:
            session.execute("CREATE TABLE kept (word text)")
            session.execute("INSERT INTO kept VALUES ('alive')")

    def has_row(self, where: Whereabouts) -> bool:
        """Whether it is there."""
        with self.connect(where) as session:
            return session.execute("SELECT word FROM kept").fetchall() == [("alive",)]

    def locked_out(self, where: Whereabouts) -> bool:
        """Whether the credentials of the Secret don't get in."""
        try:
            self.connect(where).close()
        except psycopg.OperationalError:
            return True
        return False

    def state(self, where: Whereabouts) -> str:
        """Of its record; empty where there is none."""
        record = self.workbench.record(where)
        return str(record["spec"]["state"]) if record else ""

    def change(self, name: str, spec: Json) -> None:
        """`kubectl patch` a Tenant's spec."""
        self.workbench.kubectl("patch", "tenant", name, "--type=merge", "-p", json.dumps({"spec": spec}))

    def delete(self, name: str) -> None:
        """`kubectl delete`, which comes back when the Tenant is gone."""
        self.workbench.kubectl("delete", "tenant", name, "--timeout=90s")

    def replicas(self, where: Whereabouts, name: str) -> int:
        """Of a Deployment of the tenant's."""
        return int(self.workbench.on_target(DEPLOYMENTS, where.namespace, name)["spec"]["replicas"])
