"""A Kubernetes control plane without nodes, for tests, demo and benchmarks: etcd, API server, controller manager."""

from __future__ import annotations

import dataclasses
import http.client
import secrets
import ssl
from pathlib import Path
from signal import Signals
from typing import Final, Self

from tests.controlplane.access import ClusterAccess, kubeconfig_text
from tests.controlplane.audit import POLICY
from tests.controlplane.binaries import Binaries
from tests.controlplane.certificates import Authority, new_key_pem
from tests.controlplane.flags import apiserver_flags, arguments, etcd_flags, manager_flags
from tests.controlplane.processes import (
    LOOPBACK,
    DataFolder,
    Deadline,
    HeldPort,
    PortTakenError,
    Server,
    ServerError,
)

START_SECONDS: Final = 90.0
"""Ready in 3 to 6 s on a quiet machine."""
STOP_GRACE: Final = 1.5
"""kube-apiserver waits for open watches after SIGTERM; its data is thrown away, so it is not given that time."""
START_ATTEMPTS: Final = 3
REQUEST_SECONDS: Final = 2.0

ADMIN: Final = "tenantry-test-admin"
MANAGER: Final = "system:kube-controller-manager"
SERVER_NAMES: Final = (LOOPBACK, "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "10.0.0.1")


class ControlPlane:
    """One control plane that this process owns. It is gone when this process is, even by SIGKILL.

    Blocking; use it as a context manager, or `start()` and `stop()`, from any thread.
    """

    def __init__(
        self,
        name: str = "cluster",
        *,
        audit: bool = False,
        audit_policy: str = POLICY,
        event_ttl: str = "30m",
        binaries: Binaries | None = None,
    ) -> None:
        """Nothing is started yet.

        Args:
            name: For folders, contexts and messages.
            audit: Keep an audit log of every request.
            audit_policy: What is in that log, as an audit.k8s.io/v1 Policy; one that names no bodies by default.
            event_ttl: How long Events live, as Go writes durations.
            binaries: None: KUBEBUILDER_ASSETS or the multi-call binary, which may have to be built first.
        """
        self.name = name
        self._audit = audit
        self._audit_policy = audit_policy
        self._event_ttl = event_ttl
        self._binaries = binaries
        self._folder: DataFolder | None = None
        self._etcd: Server | None = None
        self._apiserver: Server | None = None
        self._manager: Server | None = None
        self._port: HeldPort | None = None
        self._etcd_port = 0
        self._access: ClusterAccess | None = None
        self._admin_token = secrets.token_urlsafe(24)
        self._manager_token = secrets.token_urlsafe(24)

    @property
    def access(self) -> ClusterAccess:
        """All that users of the cluster need; address, authority and tokens outlast `stop_apiserver()`.

        Raises:
            ServerError: before the start and after the stop.
        """
        if self._access is None:
            raise ServerError(f"control plane {self.name} is not running")
        return self._access

    def start(self, *, deadline: float = START_SECONDS) -> Self:
        """Start all three and wait until the API is ready, `kube-system` is there and ServiceAccounts are made.

        Raises:
            ServerError: if that takes longer than `deadline` seconds (a build of the binary not counted), or a server
                ends; with the end of its log.
        """
        if self._folder is not None:
            raise ServerError(f"control plane {self.name} is running already")
        binaries = self._binaries = self._binaries or Binaries.find()
        limit = Deadline(deadline)
        for attempt in range(1, START_ATTEMPTS + 1):
            try:
                return self._start(binaries, limit)
            except PortTakenError:
                self.stop()
                if attempt == START_ATTEMPTS:
                    raise
            except BaseException:
                self.stop()
                raise
        raise AssertionError("the last attempt returns or raises")

    def stop(self) -> None:
        """End all, wait until they are gone, and remove the data. Harmless when repeated."""
        servers = [server for server in (self._manager, self._apiserver, self._etcd) if server]
        for server in servers[:2]:
            server.send(Signals.SIGCONT)
            server.send(Signals.SIGTERM)  # at once, so that their times of grace run side by side
        for server in servers:
            server.stop(grace=STOP_GRACE)
        self._manager = self._apiserver = self._etcd = None
        if self._port:
            self._port.release()
        if self._folder:
            self._folder.remove()
        self._access = self._folder = self._port = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def pause_apiserver(self) -> None:
        """Let it hang: connections are accepted by the kernel and never answered (SIGSTOP)."""
        self._running_apiserver().pause()

    def resume_apiserver(self) -> None:
        """The end of `pause_apiserver`."""
        self._running_apiserver().resume()

    def stop_apiserver(self) -> None:
        """Make it unreachable: connections are refused. Its port stays ours."""
        self._running_apiserver().stop(grace=STOP_GRACE)
        self._apiserver = None
        self._port = HeldPort(_port_of(self.access))

    def start_apiserver(self, *, deadline: float = START_SECONDS) -> None:
        """Start it again at the same address with the same data, and wait until it is ready.

        Raises:
            ServerError: as `start()`.
        """
        if self._apiserver:
            raise ServerError(f"kube-apiserver of {self.name} is running already")
        assert self._binaries is not None
        self._start_apiserver(self._binaries, Deadline(deadline))

    def _running_apiserver(self) -> Server:
        if self._apiserver is None:
            raise ServerError(f"kube-apiserver of {self.name} is not running")
        return self._apiserver

    def _start(self, binaries: Binaries, limit: Deadline) -> Self:
        self._folder = DataFolder(self.name)
        self._start_etcd(binaries, self._folder.path, limit)
        self._access = self._prepare(self._folder.path)
        self._start_apiserver(binaries, limit)
        self._start_manager(binaries, self._folder.path, limit)
        return self

    def _start_etcd(self, binaries: Binaries, folder: Path, limit: Deadline) -> None:
        with HeldPort() as client, HeldPort() as peer:
            flags = etcd_flags(folder, client_port=client.number, peer_port=peer.number)
        self._etcd_port = client.number
        self._etcd = self._server("etcd", [*binaries.etcd, *arguments(flags)], folder)
        self._etcd.wait_until(self._etcd_answers, limit, "not healthy")

    def _prepare(self, folder: Path) -> ClusterAccess:
        """Choose the address, and write keys, tokens and kubeconfigs."""
        self._port = HeldPort()
        server = f"https://{LOOPBACK}:{self._port.number}"
        authority = Authority.new(f"{self.name} test authority")
        serving = authority.server(*SERVER_NAMES)
        admin, manager = (
            kubeconfig_text(self.name, server, authority.certificate_pem, {"token": token})
            for token in (self._admin_token, self._manager_token)
        )
        contents = {
            "ca.crt": authority.certificate_pem,
            "apiserver.crt": serving.certificate_pem,
            "apiserver.key": serving.key_pem,
            "service-account.key": new_key_pem(),
            "tokens.csv": (
                f'{self._admin_token},{ADMIN},{ADMIN},"system:masters"\n{self._manager_token},{MANAGER},{MANAGER},""\n'
            ),
            "audit-policy.yaml": self._audit_policy,
            "kubeconfig": admin,
            "controller-manager.kubeconfig": manager,
        }
        for name, text in contents.items():
            (folder / name).touch(mode=0o600)
            (folder / name).write_text(text)
        return ClusterAccess(
            name=self.name,
            server=server,
            ca_pem=authority.certificate_pem,
            kubeconfig=admin,
            kubeconfig_path=folder / "kubeconfig",
            folder=folder,
            authority=authority,
            audit_log=folder / "audit.log" if self._audit else None,
        )

    def _start_apiserver(self, binaries: Binaries, limit: Deadline) -> None:
        folder, port = self.access.folder, _port_of(self.access)
        flags = apiserver_flags(
            folder, etcd_port=self._etcd_port, port=port, event_ttl=self._event_ttl, audit=self._audit
        )
        if self._port:
            self._port.release()
            self._port = None
        self._apiserver = self._server("kube-apiserver", [*binaries.apiserver, *arguments(flags)], folder)
        self._apiserver.wait_until(lambda: self._has("/readyz"), limit, "not ready")
        self._note_pids()

    def _start_manager(self, binaries: Binaries, folder: Path, limit: Deadline) -> None:
        command = [*binaries.controller_manager, *arguments(manager_flags(folder))]
        self._manager = self._server("kube-controller-manager", command, folder)
        made = ("/api/v1/namespaces/kube-system", "/api/v1/namespaces/default/serviceaccounts/default")
        self._manager.wait_until(lambda: all(map(self._has, made)), limit, "makes no ServiceAccounts")
        self._note_pids()

    def _server(self, program: str, command: list[str], folder: Path) -> Server:
        return Server(f"{program} of {self.name}", command, log=folder / f"{program}.log", remove=folder)

    def _note_pids(self) -> None:
        servers = {"etcd": self._etcd, "kube-apiserver": self._apiserver, "kube-controller-manager": self._manager}
        pids = {name: server.pid for name, server in servers.items() if server}
        self._access = dataclasses.replace(self.access, pids=pids)

    def _etcd_answers(self) -> bool:
        return _is_ok(http.client.HTTPConnection(LOOPBACK, self._etcd_port, timeout=REQUEST_SECONDS), "/health", {})

    def _has(self, path: str) -> bool:
        trust = ssl.create_default_context(cadata=self.access.ca_pem)
        port = _port_of(self.access)
        connection = http.client.HTTPSConnection(LOOPBACK, port, timeout=REQUEST_SECONDS, context=trust)
        return _is_ok(connection, path, {"Authorization": f"Bearer {self._admin_token}"})


def _port_of(access: ClusterAccess) -> int:
    return int(access.server.rpartition(":")[2])


def _is_ok(connection: http.client.HTTPConnection, path: str, headers: dict[str, str]) -> bool:
    try:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
