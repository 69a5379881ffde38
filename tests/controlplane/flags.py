"""The command-line flags of the control plane's components; pure."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.controlplane.processes import LOOPBACK

ISSUER: Final = "https://kubernetes.default.svc"


def arguments(flags: dict[str, str]) -> list[str]:
    """`--name=value` for each."""
    return [f"--{name}={value}" for name, value in flags.items()]


def etcd_flags(folder: Path, *, client_port: int, peer_port: int) -> dict[str, str]:
    """A single member on loopback that never syncs its disk."""
    client, peer = f"http://{LOOPBACK}:{client_port}", f"http://{LOOPBACK}:{peer_port}"
    return {
        "data-dir": str(folder / "etcd"),
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"default={peer}",
        "unsafe-no-fsync": "true",
        "log-level": "warn",
    }


def apiserver_flags(folder: Path, *, etcd_port: int, port: int, event_ttl: str, audit: bool) -> dict[str, str]:
    """All admission that is on by default stays on, ValidatingAdmissionPolicy and quotas among it."""
    flags = {
        "etcd-servers": f"http://{LOOPBACK}:{etcd_port}",
        "bind-address": LOOPBACK,
        "secure-port": str(port),
        "cert-dir": str(folder),
        "tls-cert-file": str(folder / "apiserver.crt"),
        "tls-private-key-file": str(folder / "apiserver.key"),
        "client-ca-file": str(folder / "ca.crt"),
        "token-auth-file": str(folder / "tokens.csv"),
        "authorization-mode": "Node,RBAC",
        "service-account-issuer": ISSUER,
        "service-account-key-file": str(folder / "service-account.key"),
        "service-account-signing-key-file": str(folder / "service-account.key"),
        "service-cluster-ip-range": "10.0.0.0/24",
        "external-hostname": LOOPBACK,
        "allow-privileged": "true",
        "event-ttl": event_ttl,
        "endpoint-reconciler-type": "none",  # a loopback address is refused as an endpoint
        "profiling": "false",
    }
    if audit:
        flags |= {
            "audit-policy-file": str(folder / "audit-policy.yaml"),
            "audit-log-path": str(folder / "audit.log"),
            "audit-log-maxsize": "0",  # never rotated: the reader's offsets stay valid
        }
    return flags


def manager_flags(folder: Path) -> dict[str, str]:
    """Namespace deletion, ServiceAccounts, quota status, garbage collection, workloads."""
    kubeconfig = str(folder / "controller-manager.kubeconfig")
    return {
        "kubeconfig": kubeconfig,
        "authentication-kubeconfig": kubeconfig,
        "authorization-kubeconfig": kubeconfig,
        "use-service-account-credentials": "true",
        "service-account-private-key-file": str(folder / "service-account.key"),
        "root-ca-file": str(folder / "ca.crt"),
        "leader-elect": "false",
        "secure-port": "0",
        "kube-api-qps": "500",  # with the defaults, deleting namespaces crawls
        "kube-api-burst": "1000",
        "profiling": "false",
    }
