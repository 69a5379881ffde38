"""Ground: servers and an operator on which one random life of tenants follows another, and what is done to them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import psycopg
from tests.crash.case import TENANT, Names
from tests.crash.lane import open_case
from tests.crash.looking import Looking
from tests.crash.sweeping import sweep
from tests.integration.acting import manifest, pod_spec
from tests.model.calm import CalmLives
from tests.model.specs import Choice
from tests.scene.faulty import FaultyLab, condition, faulty_lab
from tests.scene.lab import is_ready, wait_until, workspace_body
from tests.scene.operator import LENIENT, OperatorProcess

from tenantry.api.names import ANNOTATION_ADOPT_WORKSPACE, SECRET_DATABASE
from tenantry.api.resources import DEPLOYMENTS, NAMESPACES, TENANTS

SECONDS: Final = 90.0
"""For anything to come about; it takes about one on a quiet machine."""
REPLICAS: Final = 2
Json = dict[str, Any]


class Ground:
    """Not for use by several threads.

    Attributes:
        looking: Sees and does all, past the operator.
    """

    def __init__(self, lab: FaultyLab, looking: Looking) -> None:
        self.looking = looking
        self._lab = lab
        self._clock = lab.folder / "clock"
        self._clock.write_text("0")
        program = ("-m", "tests.model.shifted", str(self._clock))
        self._operator = OperatorProcess(lab.kubeconfig, lab.folder / "operator.log", LENIENT, program=program)
        self._management_id = ""
        self._calm = CalmLives(looking, self.open_case, self.settle)

    # --- the operator ---------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Start the operator and wait until its cluster and its server are ready."""
        self._operator.start()
        self._lab.wait_condition("clusters.tenantry.io", "eu-1", "Ready", "True")
        self._lab.wait_condition("databaseservers.tenantry.io", "shared-fra", "Ready", "True")
        self._management_id = self.looking.management_id()

    def stop(self) -> None:
        """End the operator. Harmless when repeated."""
        self._operator.stop()

    def crash(self) -> None:
        """SIGKILL for the operator, and a new one."""
        self._operator.kill()
        self._operator.start()

    def while_dead(self, act: Callable[[], None]) -> None:
        """SIGKILL for the operator, do something that it is not to see half of, and start a new one."""
        self._operator.kill()
        act()
        self._operator.start()

    def set_clock(self, hours: int) -> None:
        """Let the operator's clock be off by so much from now on; those of the servers go right."""
        fresh = self._clock.with_suffix(".new")
        fresh.write_text(str(hours * 3600))
        fresh.rename(self._clock)

    def check_log(self) -> None:
        """That the operator met nothing that nobody thought of.

        Raises:
            AssertionError: it logged a traceback.
        """
        told = self._operator.log_text
        assert "Traceback" not in told, told[told.index("Traceback") - 2000 :][:6000]

    # --- cases ----------------------------------------------------------------------------------------------------
    def open_case(self) -> Names:
        """A workspace and a plan that are new."""
        return open_case(self.looking, self._management_id)

    def clear(self, cases: Sequence[Names]) -> None:
        """Take away what a life has left, behind the operator's back."""
        self._operator.kill()
        sweep(self.looking, cases)
        self._operator.start()

    def renew_workspace(self, names: Names) -> None:
        """Its workspace is deleted, and another of the same name is made: nobody knows whether it is the same one's."""
        path = NAMESPACES.path(name=names.case.workspace)
        self._done(self.looking.management.delete(path, dry=False).status)
        self.wait(lambda: self.looking.management.get(path).status == 404, "its workspace is gone", names)
        self._done(self.looking.management.create(NAMESPACES, workspace_body(names.case.workspace), dry=False).status)

    def consent(self, names: Names) -> None:
        """The platform team says that the workspace of this name is the former one's."""
        annotations = {ANNOTATION_ADOPT_WORKSPACE: names.identity.workspace_uid}
        path = NAMESPACES.path(name=names.case.workspace)
        answer = self.looking.management.patch(path, {"metadata": {"annotations": annotations}}, dry=False)
        self._done(answer.status)

    # --- what is there --------------------------------------------------------------------------------------------
    def wait(self, check: Callable[[], bool], what: str, names: Names) -> None:
        """Wait until something holds of a case.

        Raises:
            AssertionError: it does not come about; with what the Tenant says and the end of the operator's log.
        """
        wait_until(check, SECONDS, lambda: f"{what}: {self._told(names)}")

    def is_settled(self, names: Names) -> bool:
        """Whether the Tenant is Ready as it is written now."""
        tenant = self.looking.tenant(names)
        return tenant is not None and is_ready(tenant)

    def settle(self, names: Names) -> None:
        """Wait until the Tenant is Ready."""
        self.wait(lambda: self.is_settled(names), "the tenant is Ready", names)

    def reason(self, names: Names) -> str:
        """What the Tenant's Ready says in one word; empty while it says nothing."""
        return str(condition(self.looking.tenant(names) or {}, "Ready").get("reason", ""))

    def converge(self, names: Names, choice: Choice) -> list[str]:
        """How a tenant differs from one that was made with its last spec and left in peace; empty when it does not."""
        deadline = time.monotonic() + SECONDS
        while differing := self._calm.differences(names, choice):
            if time.monotonic() > deadline:
                return [*differing, self._told(names)]
            time.sleep(0.2)  # polls what another process does; the deadline bounds it
        return []

    def traces(self, names: Names) -> list[str]:
        """All that is anywhere of a case; its plan's content stays, for others could be on it."""
        return sorted(key for key in self.looking.state(names) if not key.startswith("ControllerRevision"))

    def gets_into(self, names: Names, other: Names) -> bool:
        """Whether a tenant's login is let into another one's database."""
        secret = self.looking.secret(names, SECRET_DATABASE)
        try:
            self.looking.session(secret["username"], secret["password"], other.identity.database).close()
        except psycopg.OperationalError:
            return False
        return True

    # --- what the tenant runs -------------------------------------------------------------------------------------
    def deploy(self, names: Names) -> None:
        """A workload of the tenant's own."""
        labels = {"app": "app"}
        template = {"metadata": {"labels": labels}, "spec": pod_spec()}
        spec = {"replicas": REPLICAS, "selector": {"matchLabels": labels}, "template": template}
        body = manifest(DEPLOYMENTS, "app", names.namespace, spec=spec)
        self._done(self.looking.target.create(DEPLOYMENTS, body, dry=False).status)

    def replicas(self, names: Names) -> int | None:
        """How many pods it is to have; None where it is not there."""
        answer = self.looking.target.get(DEPLOYMENTS.path(names.namespace, "app"))
        return None if answer.status == 404 else int(answer.body["spec"]["replicas"])

    @staticmethod
    def _done(status: int) -> None:
        assert status in (200, 201, 202, 409), status

    def _told(self, names: Names) -> str:
        body = self.looking.management.get(TENANTS.path(names.case.workspace, TENANT)).body
        return f"{names}\n{body}\n{self.looking.records(names)}\n{self._operator.log_text[-4000:]}"


@contextlib.contextmanager
def open_ground(folder: Path) -> Iterator[Ground]:
    """Ground whose servers and operator run."""
    with faulty_lab(folder) as lab, Looking(lab) as looking:
        ground = Ground(lab, looking)
        try:
            ground.start()
            yield ground
        finally:
            ground.stop()
