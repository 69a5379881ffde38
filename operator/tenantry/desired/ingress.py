"""The tenant's Ingress: its hosts, to its Service, with certificates as the cluster says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tenantry.api.identity import base32_digest
from tenantry.api.names import INGRESS, INGRESS_OWN_CERTIFICATES
from tenantry.api.resources import INGRESSES
from tenantry.desired.blueprint import Blueprint, ServedHost
from tenantry.desired.stamp import stamped

ANNOTATION_CLUSTER_ISSUER = "cert-manager.io/cluster-issuer"


def ingresses(blueprint: Blueprint) -> list[dict[str, Any]]:
    """The Ingresses, or nothing where the tenant serves nothing.

    Hosts with a certificate of the tenant's own are in a second one without the issuer's annotation: cert-manager would
    take their Secrets for its own and overwrite them.
    """
    settings = blueprint.cluster.ingress
    if not blueprint.serves or settings is None:
        return []
    issuer = settings.tls.cluster_issuer if settings.tls else None
    annotations = {ANNOTATION_CLUSTER_ISSUER: issuer} if issuer else {}
    issued = [host for host in blueprint.hosts if not host.tls_secret]
    brought = [host for host in blueprint.hosts if host.tls_secret]
    made = []
    if issued:
        made.append(_ingress(blueprint, INGRESS, issued, annotations))
    if brought:
        made.append(_ingress(blueprint, INGRESS_OWN_CERTIFICATES, brought, {}))
    return made


def _ingress(
    blueprint: Blueprint, name: str, hosts: Sequence[ServedHost], annotations: dict[str, str]
) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "ingressClassName": blueprint.cluster.ingress.class_name if blueprint.cluster.ingress else None,
        "rules": [_rule(blueprint, host.host) for host in hosts],
    }
    tls = [entry for host in hosts if (entry := _tls(blueprint, host))]
    if tls:
        spec["tls"] = tls
    return stamped(
        INGRESSES, blueprint.identity, name, namespace=blueprint.namespace, annotations=annotations, spec=spec
    )


def tls_secret_name(host: str) -> str:
    """The Secret that cert-manager puts a host's certificate into."""
    return f"tenant-tls-{base32_digest(host)}"


def _rule(blueprint: Blueprint, host: str) -> dict[str, Any]:
    backend = blueprint.spec.ingress.backend
    service = {"service": {"name": backend.service, "port": {"number": backend.port}}}
    return {"host": host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": service}]}}


def _tls(blueprint: Blueprint, host: ServedHost) -> dict[str, Any] | None:
    """One entry a host: certificates of one host must not wait for the proof of another."""
    settings = blueprint.cluster.ingress.tls if blueprint.cluster.ingress else None
    if host.tls_secret:
        return {"hosts": [host.host], "secretName": host.tls_secret}
    if settings is None:
        return None
    if settings.cluster_issuer:
        return {"hosts": [host.host], "secretName": tls_secret_name(host.host)}
    return {"hosts": [host.host]}
