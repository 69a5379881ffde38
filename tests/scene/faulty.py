"""FaultyLab: a lab whose servers are reached through proxies that can fail, and what is asked of it in fault tests."""

from __future__ import annotations

import contextlib
import itertools
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.controlplane.access import ClusterAccess, KubectlError
from tests.controlplane.audit import AuditEntry
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.postgres import PostgresServer
from tests.controlplane.postgres_binaries import wheel_binaries
from tests.scene.installation import NAMESPACE, OPERATOR, apply, kubeconfig_secret, operator_kubeconfig
from tests.scene.lab import Lab, is_ready, make_lab, server_body, tenant_body, wait_until, workspace_body
from tests.scene.operator import LENIENT, OperatorProcess
from tests.scene.proxy import FaultProxy
from tests.scene.proxy_postgres import DatabaseProxy

IDENTITY = f"system:serviceaccount:{NAMESPACE}:{OPERATOR}"
WORKSPACE = "shop"
CLUSTER, SERVER = "eu-1", "shared-fra"
UNCOUNTED = frozenset({"leases", "events", "selfsubjectaccessreviews"})
TENANT = "tenants.tenantry.io"
SOON = 60.0
"""Seconds for what takes one or two on a quiet machine."""
LATER = 120.0
"""Seconds for what waits for a probe, a time-out, a breaker or a backoff."""


class FaultyLab:
    """Servers of one test module, each behind a proxy, and at most one operator; the tests look at them directly.

    Attributes:
        management_proxy, target_proxy, database_proxy: What the operator's kubeconfig, Cluster `eu-1` and
            DatabaseServer `shared-fra` lead through.
        kubeconfig: The operator's, through the proxy.
        others: More targets that a test module has registered, by their Clusters' names.
    """

    def __init__(
        self,
        lab: Lab,
        management_proxy: FaultProxy,
        target_proxy: FaultProxy,
        database_proxy: DatabaseProxy,
        folder: Path,
    ) -> None:
        self.lab = lab
        self.management_proxy = management_proxy
        self.target_proxy = target_proxy
        self.database_proxy = database_proxy
        self.kubeconfig = folder / "proxied.kubeconfig"
        self.folder = folder
        self.log = folder / "operator-0.log"
        self.others: dict[str, ControlPlane] = {}
        self._runs = itertools.count(1)
        self._flags: tuple[str, ...] = ()
        self._operator: OperatorProcess | None = None

    @property
    def management(self) -> ClusterAccess:
        """As its administrator, not through the proxy."""
        return self.lab.management.access

    @property
    def target(self) -> ClusterAccess:
        """As its administrator, not through the proxy."""
        return self.lab.target.access

    @property
    def postgres(self) -> PostgresServer:
        """The server behind DatabaseServer `shared-fra`."""
        return self.lab.postgres

    # --- the operator ---------------------------------------------------------------------------------------------
    @contextlib.contextmanager
    def operator(self, *flags: str, tracebacks: bool = False) -> Iterator[OperatorProcess]:
        """The operator with these flags, started unless it runs so already; it goes on when the block ends.

        Whatever happened to it in the block, it has not ended and, unless `tracebacks` are in order, wrote none.
        """
        operator = self._operator
        if operator is None or not operator.running or self._flags != flags:
            operator = self.start_operator(*flags)
        seen = len(operator.log_text)
        yield operator
        told = operator.log_text[seen:]
        assert operator.running or operator is not self._operator, f"the operator has ended:\n{told[-4000:]}"
        assert tracebacks or "Traceback" not in told, told[-6000:]

    def start_operator(self, *flags: str) -> OperatorProcess:
        """A new process in the place of the one that runs."""
        self.stop_operator()
        self.log = self.folder / f"operator-{next(self._runs)}.log"
        self._operator = OperatorProcess(self.kubeconfig, self.log, (*LENIENT, *flags))
        self._flags = flags
        return self._operator.start()

    def stop_operator(self) -> None:
        """End it gracefully. Harmless when repeated."""
        operator, self._operator = self._operator, None
        if operator is not None:
            operator.stop()

    # --- tenants and their conditions -----------------------------------------------------------------------------
    def apply(self, *bodies: dict[str, Any]) -> None:
        """Apply to the management cluster as its administrator."""
        apply(self.management, *bodies)

    def apply_tenants(self, *names: str, **spec: Any) -> None:
        """Tenants, without a database unless the spec says so."""
        self.apply(*(tenant_body(name, WORKSPACE, **{"database": {"mode": "None"}, **spec}) for name in names))

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        """An object of ours on the management cluster; None if it is not there."""
        where = ("-n", WORKSPACE) if kind == TENANT else ()
        try:
            return self.management.get(kind, name, *where)
        except KubectlError as error:
            if "NotFound" in error.stderr:
                return None
            raise

    def tenant(self, name: str) -> dict[str, Any]:
        """A Tenant that is there."""
        found = self.get(TENANT, name)
        assert found is not None, f"there is no Tenant {name}"
        return found

    def record_of(self, name: str) -> dict[str, Any]:
        """The TenantRecord of a Tenant."""
        found = [record for record in self.management.get("tenantrecords")["items"] if record["spec"]["tenant"] == name]
        assert len(found) == 1, found
        record: dict[str, Any] = found[0]
        return record

    def namespace_of(self, name: str) -> str:
        """The namespace of a tenant on its target."""
        return str(self.record_of(name)["spec"]["cluster"]["namespace"])

    def wait_ready(self, *names: str, seconds: float = SOON) -> None:
        """Wait until all these Tenants are Ready in their present generation."""
        wait_until(lambda: all(is_ready(self.tenant(name)) for name in names), seconds, lambda: self.told(*names))

    def wait_gone(self, *names: str, seconds: float = SOON) -> None:
        """Wait until these Tenants are not there any more."""
        wait_until(
            lambda: all(self.get(TENANT, name) is None for name in names), seconds, f"{', '.join(names)} still there"
        )

    def delete_tenants(self, *names: str) -> None:
        """Delete them and wait; the operator has to run."""
        self.management.kubectl("delete", TENANT, "-n", WORKSPACE, "--wait=false", "--ignore-not-found", *names)
        self.wait_gone(*names, seconds=LATER)

    def wait_condition(
        self, kind: str, name: str, type_: str, status: str, reason: str = "", *, seconds: float = LATER
    ) -> dict[str, Any]:
        """Wait until a condition says so; the condition."""

        found: dict[str, Any] = {}

        def holds() -> bool:
            nonlocal found
            found = condition(self.get(kind, name) or {}, type_)
            return found.get("status") == status and (not reason or found.get("reason") == reason)

        def why() -> str:
            return f"{kind} {name}: {type_}={status} {reason}: {self.get(kind, name)}"

        wait_until(holds, seconds, why)
        return found

    def told(self, *names: str) -> str:
        """What Tenants say, for the message of a failure."""
        statuses = {name: (self.get(TENANT, name) or {}).get("status") for name in names}
        return f"{json.dumps(statuses, indent=1)[-3000:]}\n{self.log.read_text()[-4000:]}"


def condition(body: dict[str, Any], type_: str) -> dict[str, Any]:
    """One condition of an object; empty if it has none such."""
    found = [entry for entry in body.get("status", {}).get("conditions", []) if entry["type"] == type_]
    return found[0] if found else {}


def operators_writes(access: ClusterAccess, *, after: int) -> list[AuditEntry]:
    """What the operator's identity asked to change since a mark of the audit log, as the issue counts writes."""
    return [
        entry
        for entry in access.audit_entries(after=after)
        if entry.user == IDENTITY and entry.is_write and entry.resource not in UNCOUNTED
    ]


def written(entries: list[AuditEntry]) -> list[str]:
    """Writes in words, for the message of a failure."""
    return [f"{entry.verb} {entry.resource}/{entry.subresource} {entry.name} -> {entry.code}" for entry in entries]


def settled(count: Callable[[], float], quiet: float, seconds: float) -> None:
    """Wait until a number has not changed for so long.

    Raises:
        AssertionError: it never rests for that long within `seconds`.
    """
    last, since = count(), time.monotonic()

    def rests() -> bool:
        nonlocal last, since
        now = count()
        if now != last:
            last, since = now, time.monotonic()
        return time.monotonic() - since >= quiet

    wait_until(rests, seconds, f"it does not rest for {quiet:g} s")


@contextlib.contextmanager
def faulty_lab(folder: Path) -> Iterator[FaultyLab]:
    """Start all but the operator; workspace `shop`, Cluster `eu-1`, DatabaseServer `shared-fra`, plan `basic`."""
    with ExitStack() as stack:
        management, target = ControlPlane("faulty", audit=True), ControlPlane("faulty-target", audit=True)
        postgres = PostgresServer(wheel_binaries())
        servers: tuple[ControlPlane | PostgresServer, ...] = (management, target, postgres)
        for server in servers:
            stack.callback(server.stop)
        with ThreadPoolExecutor(len(servers)) as pool:
            list(pool.map(lambda server: server.start(), servers))
        lab = make_lab(management, target, postgres, folder)
        proxies = stack.enter_context(FaultProxy(management.access)), stack.enter_context(FaultProxy(target.access))
        database = DatabaseProxy(postgres.access.port).start()
        stack.callback(database.stop)
        apply(
            management.access,
            workspace_body(WORKSPACE),
            kubeconfig_secret(f"{CLUSTER}-kubeconfig", proxies[1].kubeconfig(operator_kubeconfig(target.access))),
            server_body(SERVER, database.port),
        )
        faulty = FaultyLab(lab, *proxies, database, folder)
        faulty.kubeconfig.write_text(proxies[0].kubeconfig(operator_kubeconfig(management.access)))
        stack.callback(faulty.stop_operator)
        yield faulty
