"""A node that is played: it runs the very commands of Dedicated databases' pods, on volumes that are folders here.

What is real: the API server, the StatefulSet controller, the container's command, its probes, its settings and
passwords as they are in the cluster, PostgreSQL. What is not: the container around them, and the volume's disk.
"""

from __future__ import annotations

import base64
import contextlib
import os
import pwd
import shutil
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from signal import Signals
from typing import Any, Final, Self

from psycopg.conninfo import make_conninfo
from tests.controlplane.access import ClusterAccess
from tests.controlplane.postgres_binaries import server_user
from tests.controlplane.processes import LOOPBACK, DataFolder, Server, ServerError
from tests.integration.acting import PODS, Api, manifest
from tests.integration.port_forward import PortForwards
from tests.scene.operator import free_port

from tenantry.api.names import POSTGRES, POSTGRES_POD, POSTGRES_VOLUME
from tenantry.api.resources import CONFIG_MAPS, SECRETS, VOLUME_CLAIMS, Resource

Json = dict[str, Any]

NODES: Final = Resource("", "v1", "Node", "nodes", namespaced=False)
TURN_SECONDS: Final = 0.1
PROBE_SECONDS: Final = 5.0
STOP_GRACE: Final = 10.0
TEST_SETTINGS: Final = ("fsync=off", "shared_buffers=16MB", f"listen_addresses={LOOPBACK}")


@dataclass(slots=True)
class Running:
    """One pod's container.

    Attributes:
        message: The file that is /dev/termination-log in it.
        ready: What the pod's status says.
    """

    uid: str
    process: Server
    port: int
    message: Path
    ready: bool = False
    ended: bool = False
    probe: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    stopped: bool = False

    def stop(self) -> None:
        """End it, if it has not ended, and what guards it. Harmless when repeated."""
        if not self.stopped:
            self.stopped = True
            self.process.stop(Signals.SIGINT, grace=STOP_GRACE)


class Node:
    """Runs pods `tenant-postgres-0` of the namespaces that it is told to look after.

    Args:
        target: The cluster that it is a node of.
        name: Begins its own.
        binaries: PostgreSQL's programs.
        door: The port of a proxy for the port of a pod; port-forwards lead through it.

    Attributes:
        too_large: A container's limit of memory for which there is no room.
    """

    def __init__(
        self, target: ClusterAccess, name: str, binaries: Path, *, door: Callable[[int], int] | None = None
    ) -> None:
        self.name = f"{name}-node"
        self._api = Api(target.kubeconfig)
        self._looking = Api(target.kubeconfig)  # for the test's thread
        self._binaries = binaries
        self._folder = DataFolder("node")
        self._user = server_user()
        self._running: dict[str, Running] = {}
        self._namespaces: set[str] = set()
        self._held: set[str] = set()
        self._door = door or (lambda port: port)
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="node")
        self.forwards = PortForwards(self._port_of)
        self.trouble: list[str] = []
        self.too_large = ""

    def __enter__(self) -> Self:
        self.forwards.start()
        self._folder.path.chmod(0o711)
        body = manifest(NODES, self.name)
        assert self._api.create(NODES, body, dry=False).status == 201
        status = {
            "addresses": [{"type": "InternalIP", "address": LOOPBACK}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self.forwards.port}},
        }
        self._patch(NODES.path(name=self.name, subresource="status"), {"status": status})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        for namespace, running in self._running.items():
            running.stop()
            self._forget(namespace)
        self._api.delete(NODES.path(name=self.name), dry=False)
        self.forwards.stop()
        self._api.close()
        self._looking.close()
        self._folder.remove()
        assert not self.trouble, self.trouble

    def look_after(self, namespace: str) -> None:
        """From now on run what is wanted there."""
        with self._lock:
            self._namespaces.add(namespace)

    def let_go(self, namespace: str) -> None:
        """The end of `look_after`, for a namespace that is gone."""
        with self._lock:
            self._namespaces.discard(namespace)

    def kill(self, namespace: str) -> None:
        """The container dies, and is not started anew before `revive`."""
        with self._lock:
            self._held.add(namespace)
        self._running[namespace].process.send(Signals.SIGKILL)

    def revive(self, namespace: str) -> None:
        """The end of `kill`."""
        with self._lock:
            self._held.discard(namespace)

    def logs(self, namespace: str) -> str:
        """What its servers wrote."""
        return (self._folder.path / f"{namespace}.log").read_text(errors="replace")

    def port(self, namespace: str) -> int:
        """Where its server listens on this machine."""
        return self._running[namespace].port

    def port_or_none(self, namespace: str) -> int | None:
        """As `port`; None where none runs."""
        running = self._running.get(namespace)
        return running.port if running is not None else None

    def reach(self, namespace: str, given: dict[str, str], **changes: Any) -> str:
        """As one of the tenant's pods: what its Secret says, at the address that the host name in it leads to here."""
        authority = self._folder.path / f"{namespace}-ca.crt"
        authority.write_text(given["ca.crt"])
        here = {"hostaddr": LOOPBACK, "port": self.port(namespace), "sslrootcert": str(authority)}
        return make_conninfo(given["uri"], **{**here, **changes})

    def volume(self, namespace: str) -> Path:
        """The folder that is the namespace's volume."""
        answer = self._looking.get(VOLUME_CLAIMS.path(namespace, POSTGRES_VOLUME))
        return self._folder.path / str(answer.body["metadata"]["uid"])

    # --- one turn after another -----------------------------------------------------------------------------------
    def _run(self) -> None:
        while not self._stopping.wait(TURN_SECONDS):
            with self._lock:
                namespaces = tuple(self._namespaces)
            for namespace in namespaces:
                try:
                    self._turn(namespace)
                except Exception as error:  # noqa: BLE001 - told when the test ends
                    self.trouble.append(f"{namespace}: {error!r}")
                    return

    def _turn(self, namespace: str) -> None:
        pod, running = self._get(PODS.path(namespace, POSTGRES_POD)), self._running.get(namespace)
        if running is not None and (not pod or pod["metadata"]["uid"] != running.uid):
            running.stop()
            del self._running[namespace]
            running = None
        if not pod:
            return
        if "deletionTimestamp" in pod["metadata"]:
            if running is not None:
                running.stop()
                del self._running[namespace]
            self._forget(namespace)
        elif not pod["spec"].get("nodeName"):
            self._place(namespace, pod)
        elif running is None or running.ended:
            if namespace in self._held:
                return
            if running is not None:
                running.stop()
            with contextlib.suppress(ServerError):  # it ended before anybody has seen it: once more, as a kubelet does
                self._start(namespace, pod)
        else:
            self._probe(namespace, running)

    def _place(self, namespace: str, pod: Json) -> None:
        (container,) = pod["spec"]["containers"]
        if container["resources"]["limits"]["memory"] != self.too_large:
            self._bind(namespace)
        elif not pod["status"].get("conditions"):
            told = {"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available"}
            self._patch(PODS.path(namespace, POSTGRES_POD, "status"), {"status": {"conditions": [told]}})

    def _bind(self, namespace: str) -> None:
        if not self._get(VOLUME_CLAIMS.path(namespace, POSTGRES_VOLUME)):
            return
        target = {"apiVersion": "v1", "kind": "Node", "name": self.name}
        body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": POSTGRES_POD}, "target": target}
        self._api.send("POST", PODS.path(namespace, POSTGRES_POD, "binding"), body, dry=False)

    def _start(self, namespace: str, pod: Json) -> None:
        folder = self._folder.path / f"{namespace}-pod"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        settings = self._get(CONFIG_MAPS.path(namespace, POSTGRES))
        secret = self._get(SECRETS.path(namespace, POSTGRES))
        claim = self._get(VOLUME_CLAIMS.path(namespace, POSTGRES_VOLUME))
        if not (settings and secret and claim):
            return  # a kubelet waits for what a pod mounts
        volume = self._folder.path / claim["metadata"]["uid"]
        (container,) = pod["spec"]["containers"]
        mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        self._fill(folder / "config", settings["data"])
        (asked,) = (each["secret"] for each in pod["spec"]["volumes"] if each["name"] == "passwords")
        plain = {item["path"]: base64.b64decode(secret["data"][item["key"]]).decode() for item in asked["items"]}
        self._fill(folder / "passwords", plain)
        message = folder / "message"
        message.touch()
        volume.mkdir(exist_ok=True)
        paths = {
            mounted["config"]: str(folder / "config"),
            mounted["passwords"]: str(folder / "passwords"),
            mounted["data"]: str(volume),
            "/dev/termination-log": str(message),
        }
        self._hand_over(folder, volume)
        port = free_port()
        environment = {each["name"]: _translated(each["value"], paths) for each in container["env"]}
        environment["PATH"] = f"{self._binaries}:/usr/bin:/bin"
        options = [part for setting in (*TEST_SETTINGS, f"port={port}") for part in ("-c", setting)]
        command = [_translated(part, paths) for part in container["command"]]
        log = self._folder.path / f"{namespace}.log"
        process = Server(
            "the pod", [*command, *options], log=log, user=self._user, environment=environment,
            on_orphan=Signals.SIGQUIT,
        )  # fmt: skip
        probe = [part.replace("5432", str(port)) for part in container["readinessProbe"]["exec"]["command"]]
        self._running[namespace] = Running(
            pod["metadata"]["uid"], process, port, message, probe=probe, environment=environment
        )

    def _probe(self, namespace: str, running: Running) -> None:
        if not running.process.running():
            running.ended = True
            self._tell(namespace, ready=False, message=running.message.read_text())
            return
        if (ready := _passes(running)) != running.ready:
            running.ready = ready
            self._tell(namespace, ready=ready)

    # --- what a kubelet writes ------------------------------------------------------------------------------------
    def _tell(self, namespace: str, *, ready: bool, message: str = "") -> None:
        now = "2026-01-01T00:00:00Z"
        kinds = ("PodScheduled", "Initialized", "ContainersReady", "Ready")
        truth = {"PodScheduled": True, "Initialized": True, "ContainersReady": ready, "Ready": ready}
        conditions = [{"type": kind, "status": str(truth[kind]), "lastTransitionTime": now} for kind in kinds]
        state: Json = {"running": {"startedAt": now}}
        if message:
            state = {"terminated": {"exitCode": 1, "reason": "Error", "message": message, "finishedAt": now}}
        container = {"name": "postgres", "image": "", "imageID": "", "ready": ready, "restartCount": 0, "state": state}
        status = {"phase": "Running", "conditions": conditions, "containerStatuses": [container]}
        self._patch(PODS.path(namespace, POSTGRES_POD, "status"), {"status": status})

    def _forget(self, namespace: str) -> None:
        self._api.send(
            "DELETE", PODS.path(namespace, POSTGRES_POD), {"gracePeriodSeconds": 0, "kind": "DeleteOptions"}, dry=False
        )

    # --- inside ---------------------------------------------------------------------------------------------------
    def _port_of(self, namespace: str, pod: str) -> int | None:
        running = self._running.get(namespace)
        return self._door(running.port) if running is not None and pod == POSTGRES_POD else None

    def _get(self, path: str) -> Json:
        answer = self._api.get(path)
        return answer.body if answer.status == 200 else {}

    def _patch(self, path: str, body: Json) -> None:
        self._api.patch(path, body, dry=False)

    def _fill(self, folder: Path, files: Json) -> None:
        folder.mkdir()
        for name, text in files.items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o600)  # PostgreSQL wants that of its key

    def _hand_over(self, *folders: Path) -> None:
        if not self._user:
            return
        owner = pwd.getpwnam(self._user)
        for folder in folders:
            for path in (folder, *folder.rglob("*")):
                with contextlib.suppress(FileNotFoundError):
                    os.chown(path, owner.pw_uid, owner.pw_gid, follow_symlinks=False)


def _passes(running: Running) -> bool:
    """The readiness probe; one that takes too long has failed."""
    try:
        done = subprocess.run(running.probe, env=running.environment, check=False, timeout=PROBE_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _translated(text: str, paths: dict[str, str]) -> str:
    """Paths of the container to those of this machine."""
    for inside, here in paths.items():
        text = text.replace(inside, here)
    return text
