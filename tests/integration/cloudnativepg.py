"""A CloudNativePG that is played, as the ServiceAccount and with the rights that its own manifest gives it.

What is real: the API server with CloudNativePG's own CRD, its ClusterRole, the volume claims, Secrets and pods as
objects, PostgreSQL with the parameters, rules, certificate and statements that the Cluster asks for. What is not: its
controller and its instance manager, the containers, and replication: a replica is a pod without a process, and one
that takes over gets the primary's files.
"""

from __future__ import annotations

import base64
import contextlib
import shutil
import subprocess
from pathlib import Path
from signal import Signals
from typing import Any, Final, Self

import psycopg
import yaml
from tests.controlplane.access import ClusterAccess
from tests.controlplane.cloudnativepg import clusters_crd
from tests.controlplane.processes import LOOPBACK, Server, ServerError
from tests.integration.acting import (
    CLUSTER_ROLE_BINDINGS,
    CLUSTER_ROLES,
    PODS,
    Api,
    eventually,
    made,
    manifest,
    pod_spec,
    token_of,
)
from tests.integration.node import TEST_SETTINGS, Node, Running
from tests.scene.installation import ROOT
from tests.scene.operator import free_port

from tenantry.api.names import ANNOTATION_HIBERNATION, LABEL_INSTANCE_ROLE, LABEL_POSTGRES_CLUSTER, POSTGRES
from tenantry.api.resources import NAMESPACES, POSTGRES_CLUSTERS, SECRETS, SERVICE_ACCOUNTS, VOLUME_CLAIMS

Json = dict[str, Any]

SYSTEM: Final = "cnpg-system"
MANAGER: Final = "cnpg-manager"
SUPERUSER: Final = f"{POSTGRES}-superuser"
PASSWORD: Final = "of-the-superuser"
INSTANCE: Final = "cnpg.io/instanceName"
ROLE: Final = "cnpg.io/pvcRole"
HEALTHY: Final = "Cluster in healthy state"
SETTING_UP: Final = "Setting up primary"
UNRECOVERABLE: Final = "Cluster is unrecoverable and needs manual intervention"
PASSING: Final = ("exceeded quota", "it is being terminated")
"""Refusals after which a controller tries again."""
FILLED_IN: Final = {"archive_mode": "on", "wal_level": "logical"}
"""Two of the parameters that it adds to every Cluster."""


def install(target: ClusterAccess, *, rights: bool = True) -> None:
    """CloudNativePG's kind and account on a target, and our rights to use it; safe to repeat."""
    crd = clusters_crd()
    target.kubectl("apply", "--server-side", "-f", str(crd))
    if rights:
        target.kubectl("apply", "--server-side", "-f", str(ROOT / "deploy" / "target-cloudnativepg.yaml"))
    with contextlib.closing(Api(target.kubeconfig)) as admin:
        eventually(lambda: admin.get(POSTGRES_CLUSTERS.path()).status == 200)
        role = yaml.safe_load((crd.parents[2] / "rbac" / "role.yaml").read_text())
        role["metadata"]["name"] = MANAGER
        subject = {"kind": "ServiceAccount", "name": MANAGER, "namespace": SYSTEM}
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": MANAGER}
        made(admin.apply(NAMESPACES, manifest(NAMESPACES, SYSTEM), dry=False))
        made(admin.apply(SERVICE_ACCOUNTS, manifest(SERVICE_ACCOUNTS, MANAGER, SYSTEM), dry=False))
        made(admin.apply(CLUSTER_ROLES, role, dry=False))
        binding = manifest(CLUSTER_ROLE_BINDINGS, MANAGER, roleRef=reference, subjects=[subject])
        made(admin.apply(CLUSTER_ROLE_BINDINGS, binding, dry=False))


class CloudNativePG(Node):
    """Makes servers of the Clusters in the namespaces that it looks after, and is the node that they run on."""

    def __init__(self, target: ClusterAccess, name: str, binaries: Path) -> None:
        super().__init__(target, name, binaries)
        self._manager = Api(target.kubeconfig, token_of(self._api, SYSTEM, MANAGER))
        self._moving: dict[str, str] = {}
        self._primaries: dict[str, str] = {}

    def __enter__(self) -> Self:
        eventually(lambda: self._manager.may("patch", VOLUME_CLAIMS, "default"))  # RBAC lags behind
        super().__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            super().__exit__(*exc)
        finally:
            self._manager.close()

    def fail_over(self, namespace: str, to: str) -> None:
        """The primary dies, and a replica takes over."""
        with self._lock:
            self._moving[namespace] = to

    def primary_files(self, namespace: str) -> Path:
        """The folder of the primary's volume."""
        return self._folder_of(namespace, self._primaries[namespace])

    # --- one turn -------------------------------------------------------------------------------------------------
    def _turn(self, namespace: str) -> None:
        cluster = self._get(POSTGRES_CLUSTERS.path(namespace, POSTGRES))
        self._bury(namespace)
        if not cluster or "deletionTimestamp" in cluster["metadata"]:
            self._halt(namespace)
            return
        if self._fill_in(namespace, cluster):
            return
        status = cluster.get("status") or {}
        if cluster["metadata"]["annotations"].get(ANNOTATION_HIBERNATION) == "on":
            self._halt(namespace)
            for pod in self._pods(namespace):
                self._manager.delete(PODS.path(namespace, pod), dry=False)
            self._say(namespace, status, readyInstances=0)
            return
        claims = self._adopt(namespace, cluster, self._claims(namespace))
        if not claims and status.get("latestGeneratedNode"):
            self._halt(namespace)
            self._say(namespace, status, phase=UNRECOVERABLE, phaseReason="no claims exist", readyInstances=0)
            return
        with contextlib.suppress(ServerError):
            self._run_instances(namespace, cluster, claims)

    def _run_instances(self, namespace: str, cluster: Json, claims: list[str]) -> None:
        spec, status = cluster["spec"], cluster.get("status") or {}
        self._secret(namespace, cluster)
        serial = max([int(status.get("latestGeneratedNode") or 0), *(int(name.rpartition("-")[2]) for name in claims)])
        for number in range(serial + 1, serial + 1 + spec["instances"] - len(claims)):
            claims.append(self._claim(namespace, cluster, number))
            serial = number
        for surplus in claims[spec["instances"] :]:
            self._manager.delete(PODS.path(namespace, surplus), dry=False)
            self._manager.delete(VOLUME_CLAIMS.path(namespace, surplus), dry=False)
        claims = claims[: spec["instances"]]
        primary = self._primary(namespace, str(status.get("currentPrimary") or ""), claims)
        running = self._running.get(namespace)
        if running is None or not running.process.running():
            if running is not None:
                running.stop()
                del self._running[namespace]
            self._say(namespace, status, phase=SETTING_UP, readyInstances=0, latestGeneratedNode=serial)
            if namespace not in self._held:
                self._serve(namespace, cluster, primary)
            return
        trouble = self._prepare(namespace, spec, primary) if passes(running) else "not yet"
        if trouble:
            self._say(namespace, status, phase=SETTING_UP, phaseReason=trouble)
            return
        there = [self._pod(namespace, cluster, name, primary) for name in claims]
        self._say(
            namespace,
            status,
            phase=HEALTHY if all(there) else "Creating a new replica",
            phaseReason="",
            currentPrimary=primary,
            instances=len(claims),
            readyInstances=sum(there),
            latestGeneratedNode=serial,
            instanceNames=claims,
        )

    def _fill_in(self, namespace: str, cluster: Json) -> bool:
        """What its webhook would add to the spec; without one the controller does."""
        parameters = cluster["spec"]["postgresql"]["parameters"]
        if FILLED_IN.items() <= parameters.items():
            return False
        patch = {"spec": {"postgresql": {"parameters": FILLED_IN}, "affinity": {"podAntiAffinityType": "preferred"}}}
        made(self._manager.patch(POSTGRES_CLUSTERS.path(namespace, POSTGRES), patch, dry=False))
        return True

    def _adopt(self, namespace: str, cluster: Json, claims: list[Json]) -> list[str]:
        """Claims that nobody owns are taken over; those of a Cluster that is gone are on their way out."""
        found = []
        for claim in claims:
            metadata = claim["metadata"]
            if "ownerReferences" not in metadata:
                owned = {"metadata": {"ownerReferences": [_owner(cluster)]}}
                made(self._manager.patch(VOLUME_CLAIMS.path(namespace, metadata["name"]), owned, dry=False))
            if "deletionTimestamp" not in metadata:
                found.append(metadata["name"])
        return sorted(found)

    def _primary(self, namespace: str, known: str, claims: list[str]) -> str:
        """Who it is; where another one is to be, that gets the files."""
        with self._lock:
            wanted = self._moving.pop(namespace, "")
        known = self._primaries.get(namespace) or known
        if known not in claims:
            wanted, known = claims[0], ""
        if wanted and known and wanted != known:
            self._halt(namespace)
            source, destination = (self._folder_of(namespace, each) for each in (known, wanted))
            shutil.rmtree(destination, ignore_errors=True)
            source.rename(destination)
            source.mkdir()
        self._primaries[namespace] = wanted or known
        return wanted or known

    # --- what it makes --------------------------------------------------------------------------------------------
    def _secret(self, namespace: str, cluster: Json) -> None:
        if cluster["spec"]["enableSuperuserAccess"] and not self._get(SECRETS.path(namespace, SUPERUSER)):
            values = {"username": "postgres", "password": PASSWORD}
            self._create(SECRETS, cluster, manifest(SECRETS, SUPERUSER, namespace, stringData=values))

    def _claim(self, namespace: str, cluster: Json, serial: int) -> str:
        name, storage = f"{POSTGRES}-{serial}", cluster["spec"]["storage"]
        spec: Json = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": storage["size"]}}}
        if "storageClass" in storage:
            spec["storageClassName"] = storage["storageClass"]
        labels = {INSTANCE: name, ROLE: "PG_DATA"}
        self._create(VOLUME_CLAIMS, cluster, manifest(VOLUME_CLAIMS, name, namespace, labels=labels, spec=spec))
        return name

    def _pod(self, namespace: str, cluster: Json, name: str, primary: str) -> bool:
        """Make the pod of an instance, or bring its role up to date; whether it is there and ready."""
        role = "primary" if name == primary else "replica"
        pod = self._get(PODS.path(namespace, name))
        if not pod:
            spec = pod_spec(nodeName=self.name)
            spec["containers"][0].update(image=cluster["spec"]["imageName"], resources=cluster["spec"]["resources"])
            labels = {INSTANCE: name, LABEL_INSTANCE_ROLE: role}
            self._create(PODS, cluster, manifest(PODS, name, namespace, labels=labels, spec=spec))
            now = "2026-01-01T00:00:00Z"
            conditions = [{"type": "Ready", "status": "True", "lastTransitionTime": now}]
            status = {"status": {"phase": "Running", "conditions": conditions}}
            self._patch(PODS.path(namespace, name, "status"), status)
        elif pod["metadata"]["labels"][LABEL_INSTANCE_ROLE] != role:
            patch = {"metadata": {"labels": {LABEL_INSTANCE_ROLE: role}}}
            made(self._manager.patch(PODS.path(namespace, name), patch, dry=False))
        return bool(self._get(PODS.path(namespace, name)))

    def _create(self, resource: Any, cluster: Json, body: Json) -> None:
        """As all that it makes: owned by the Cluster, with its label and what is to be inherited."""
        inherited = cluster["spec"]["inheritedMetadata"]
        metadata = body["metadata"]
        metadata["labels"] = {
            **inherited["labels"], LABEL_POSTGRES_CLUSTER: POSTGRES, **metadata.get("labels", {}),
        }  # fmt: skip
        metadata["annotations"] = dict(inherited["annotations"])
        metadata["ownerReferences"] = [_owner(cluster)]
        answer = self._manager.create(resource, body, dry=False)
        if answer.status == 403 and any(why in answer.message for why in PASSING):
            raise ServerError(answer.message)
        made(answer)

    def _say(self, namespace: str, status: Json, **changes: Any) -> None:
        if {**status, **changes} != status:
            self._manager.patch(POSTGRES_CLUSTERS.path(namespace, POSTGRES, "status"), {"status": changes}, dry=False)

    # --- PostgreSQL -----------------------------------------------------------------------------------------------
    def _serve(self, namespace: str, cluster: Json, primary: str) -> None:
        spec, folder = cluster["spec"], self._folder_of(namespace, primary)
        files = self._folder.path / f"{namespace}-files"
        secret = self._get(SECRETS.path(namespace, spec["certificates"]["serverTLSSecret"]))
        if not secret:
            return  # it says that it is missing, and tries again
        shutil.rmtree(files, ignore_errors=True)
        plain = {name: base64.b64decode(value).decode() for name, value in secret["data"].items()}
        rules = ["# local all all peer map=local", *spec["postgresql"]["pg_hba"], "host all all all scram-sha-256"]
        texts = {name: plain[name] for name in ("tls.crt", "tls.key")}
        self._fill(files, {**texts, "pg_hba.conf": "\n".join([*rules, ""]), "password": PASSWORD})
        folder.mkdir(exist_ok=True)
        self._hand_over(files, folder)
        port = free_port()
        settings = {**spec["postgresql"]["parameters"], "archive_mode": "off", "unix_socket_directories": ""}
        options = [f"{name}={value}" for name, value in settings.items()]
        options += [*TEST_SETTINGS, f"port={port}", "ssl=on", f"hba_file={files}/pg_hba.conf"]
        options += [f"ssl_cert_file={files}/tls.crt", f"ssl_key_file={files}/tls.key"]
        make = (
            f'[ -s "$1/PG_VERSION" ] || {self._binaries}/initdb -D "$1" -U postgres --auth=scram-sha-256 '
            f"--pwfile={files}/password --encoding=UTF8 --locale=C --data-checksums --no-sync; "
            f'shift; exec {self._binaries}/postgres "$@"'
        )
        started = [part for option in options for part in ("-c", option)]
        data = str(folder / "pgdata")
        log = self._folder.path / f"{namespace}.log"
        process = Server(
            "the instance", ["sh", "-c", make, "sh", data, "-D", data, *started], log=log, user=self._user,
            on_orphan=Signals.SIGQUIT,
        )  # fmt: skip
        probe = [f"{self._binaries}/pg_isready", "--quiet", f"--host={LOOPBACK}", f"--port={port}"]
        self._running[namespace] = Running("", process, port, files / "message", probe=probe)

    def _prepare(self, namespace: str, spec: Json, primary: str) -> str:
        """Once, what initdb's job does after initdb; why that failed, and then its files are thrown away."""
        done = self._folder_of(namespace, primary) / "done"
        if done.exists():
            return ""
        wanted = spec["bootstrap"]["initdb"]
        where = f"host={LOOPBACK} port={self.port(namespace)} user=postgres dbname=postgres password={PASSWORD}"
        try:
            with psycopg.connect(where, autocommit=True, connect_timeout=5) as session:
                session.execute(f"CREATE ROLE {wanted['owner']} LOGIN")
                for statement in wanted["postInitSQL"]:
                    session.execute(statement)
                session.execute(f"CREATE DATABASE {wanted['database']} OWNER {wanted['owner']}")
        except psycopg.Error as error:
            self._halt(namespace)
            shutil.rmtree(self._folder_of(namespace, primary) / "pgdata", ignore_errors=True)
            return str(error)
        done.touch()
        return ""

    # --- inside ---------------------------------------------------------------------------------------------------
    def _halt(self, namespace: str) -> None:
        running = self._running.pop(namespace, None)
        if running is not None:
            running.stop()

    def _bury(self, namespace: str) -> None:
        """A kubelet's part: pods that are deleted go at once, and a claim that nothing uses is free to."""
        for name in self._pods(namespace, gone=True):
            options = {"gracePeriodSeconds": 0, "kind": "DeleteOptions"}
            self._api.send("DELETE", PODS.path(namespace, name), options, dry=False)

    def _pods(self, namespace: str, *, gone: bool = False) -> list[str]:
        found = self._listed(PODS.path(namespace))
        return [pod["metadata"]["name"] for pod in found if ("deletionTimestamp" in pod["metadata"]) == gone]

    def _claims(self, namespace: str) -> list[Json]:
        return self._listed(VOLUME_CLAIMS.path(namespace))

    def _listed(self, path: str) -> list[Json]:
        answer = self._api.get(f"{path}?labelSelector={LABEL_POSTGRES_CLUSTER}%3D{POSTGRES}")
        return list(answer.body.get("items") or []) if answer.status == 200 else []

    def _folder_of(self, namespace: str, claim: str) -> Path:
        body = self._get(VOLUME_CLAIMS.path(namespace, claim))
        if not body:
            raise ServerError(f"claim {claim} is gone")
        return self._folder.path / str(body["metadata"]["uid"])

    def _port_of(self, namespace: str, pod: str) -> int | None:
        running = self._running.get(namespace)
        return running.port if running is not None and pod == self._primaries.get(namespace) else None


def _owner(cluster: Json) -> Json:
    return {
        "apiVersion": POSTGRES_CLUSTERS.api_version,
        "kind": POSTGRES_CLUSTERS.kind,
        "name": POSTGRES,
        "uid": cluster["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def passes(running: Running) -> bool:
    """Whether it takes sessions."""
    return subprocess.run(running.probe, check=False, timeout=5).returncode == 0
