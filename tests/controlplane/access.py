"""Access to a test cluster as a plain value, for processes that did not start the cluster, such as xdist workers."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Self

from tests.controlplane.audit import AuditEntry, end_of, read_entries
from tests.controlplane.binaries import kubectl_command
from tests.controlplane.certificates import LIFETIME, Authority

KUBECTL_SECONDS: Final = 150.0
TOKEN_LIFETIME: Final = timedelta(hours=12)


class KubectlError(RuntimeError):
    """kubectl ended with an error.

    Attributes:
        stderr: What it said: the API server's message is in it.
        stdout: What it had written until then; `kubectl diff` ends with 1 where there is a difference.
        code: Its exit code.
    """

    def __init__(self, arguments: Sequence[str], code: int, stdout: str, stderr: str) -> None:
        super().__init__(f"kubectl {' '.join(arguments)}: exit code {code}: {stderr.strip()}")
        self.code = code
        self.stdout = stdout
        self.stderr = stderr


def kubeconfig_text(name: str, server: str, ca_pem: str, user: Mapping[str, str]) -> str:
    """A kubeconfig with one context and all data in line; JSON, which is YAML too."""
    cluster = {"server": server, "certificate-authority-data": _base64(ca_pem)}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": cluster}],
            "users": [{"name": name, "user": dict(user)}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
            "current-context": name,
        },
        indent=2,
    )


@dataclass(frozen=True, slots=True)
class ClusterAccess:
    """One running cluster as its administrator.

    Attributes:
        name: `management`, `target` or what it was started as.
        server: `https://HOST:PORT`.
        ca_pem: What to trust the server by.
        kubeconfig: The administrator's, as text with everything in line.
        kubeconfig_path: The same as a file.
        folder: Where files may be put; kubectl keeps what it discovered here, since ports are used again.
        kubectl_program: The command line of the real kubectl.
        authority: Signs client certificates; None on a cluster that was only given.
        audit_log: None where no audit log was asked for or can be had.
        pids: Of etcd, kube-apiserver and kube-controller-manager at the start; empty on a given cluster.
    """

    name: str
    server: str
    ca_pem: str
    kubeconfig: str
    kubeconfig_path: Path
    folder: Path
    kubectl_program: tuple[str, ...] = dataclasses.field(default_factory=kubectl_command)
    authority: Authority | None = None
    audit_log: Path | None = None
    pids: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def kubectl(self, *arguments: str, input: str | None = None, timeout: float = KUBECTL_SECONDS) -> str:  # noqa: A002 - subprocess calls it so
        """Run the real kubectl against this cluster and return what it wrote.

        Args:
            arguments: Without `--kubeconfig`; giving another one overrides the administrator's.
            input: Its standard input, such as a manifest for `apply -f -`.
            timeout: Seconds.

        Raises:
            KubectlError: if it fails; with its standard error.
            subprocess.TimeoutExpired: if it takes longer.
        """
        kubeconfig = () if "--kubeconfig" in arguments else ("--kubeconfig", str(self.kubeconfig_path))
        done = subprocess.run(
            [*self.kubectl_program, *kubeconfig, *arguments],
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            env={**os.environ, "KUBECACHEDIR": str(self.folder / "kubectl-cache")},
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
        if done.returncode:
            raise KubectlError(arguments, done.returncode, done.stdout, done.stderr)
        return done.stdout

    def get(self, *arguments: str) -> dict[str, Any]:
        """`kubectl get ... -o json`, parsed."""
        body: dict[str, Any] = json.loads(self.kubectl("get", *arguments, "-o", "json"))
        return body

    def kubeconfig_for(self, token: str) -> str:
        """A kubeconfig with a bearer token, right or wrong."""
        return kubeconfig_text(self.name, self.server, self.ca_pem, {"token": token})

    def service_account_kubeconfig(self, namespace: str, name: str, *, lifetime: timedelta = TOKEN_LIFETIME) -> str:
        """A kubeconfig of an existing ServiceAccount, by a TokenRequest. The server's least lifetime is 10 minutes."""
        seconds = f"{int(lifetime.total_seconds())}s"
        token = self.kubectl("create", "token", name, "--namespace", namespace, "--duration", seconds)
        return self.kubeconfig_for(token.strip())

    def certificate_kubeconfig(self, user: str, *groups: str, lifetime: timedelta = LIFETIME) -> str:
        """A kubeconfig with a client certificate: any user in any groups; a negative lifetime is long expired.

        Raises:
            LookupError: on a given cluster, whose authority is not ours.
        """
        if self.authority is None:
            raise LookupError(f"{self.name} is a given cluster: its client certificates can't be signed here")
        pair = self.authority.client(user, groups, lifetime=lifetime)
        data = {
            "client-certificate-data": _base64(pair.certificate_pem),
            "client-key-data": _base64(pair.key_pem),
        }
        return kubeconfig_text(self.name, self.server, self.ca_pem, data)

    def audit_mark(self) -> int:
        """The present end of the audit log, for `audit_entries(after=...)`."""
        return end_of(self._audit_log())

    def audit_entries(self, *, after: int = 0) -> list[AuditEntry]:
        """What the API server answered since a mark; a request is in it as soon as its answer was received.

        Raises:
            LookupError: where there is no audit log.
        """
        return read_entries(self._audit_log(), after=after)

    def _audit_log(self) -> Path:
        if self.audit_log is None:
            raise LookupError(f"cluster {self.name} has no audit log")
        return self.audit_log

    def to_json(self) -> str:
        """For another process."""
        return json.dumps(dataclasses.asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What `to_json` wrote."""
        data: dict[str, Any] = json.loads(text)
        for path in ("kubeconfig_path", "folder", "audit_log"):
            data[path] = Path(data[path]) if data[path] is not None else None
        data["kubectl_program"] = tuple(data["kubectl_program"])
        data["authority"] = Authority(**data["authority"]) if data["authority"] else None
        return cls(**data)


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
