"""Which hosts a tenant may have: its default one, and custom ones that are proven or allowed by the plan (rule 4)."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tenantry.api.cluster import DOMAIN_PATTERN, ClusterSpec
from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.identity import TenantIdentity, default_host
from tenantry.api.tenant import Domain
from tenantry.api.tenantplan import TenantPlanSpec
from tenantry.decide.halt import Terminal

PROOF_PREFIX = "_tenantry"
MAX_HOST = 253


@dataclass(frozen=True, slots=True)
class HostWish:
    """A host that a tenant asks for and may have once it is claimed.

    Attributes:
        needs_proof: A TXT record has to prove it first.
        tls_secret: The Secret that the tenant brings for it; empty for the cluster's way.
    """

    host: str
    needs_proof: bool = False
    tls_secret: str = ""


@dataclass(frozen=True, slots=True)
class HostRefusal:
    """A host that a tenant may not have, and why."""

    host: str
    reason: Reason
    message: str


def pinned_default_host(cluster: ClusterSpec, identity: TenantIdentity) -> str:
    """The default host at first placement; empty where the cluster gives none.

    Raises:
        Terminal: HostNotAllowed where its first label is reserved on the cluster, or the template gives no valid host.
    """
    if cluster.ingress is None or (cluster.domain is None and "{domain}" in cluster.host_template):
        return ""
    host = default_host(cluster.host_template, identity, cluster.domain or "")
    if len(host) > MAX_HOST or not re.fullmatch(DOMAIN_PATTERN, host):
        raise Terminal(
            ConditionType.INGRESS_READY,
            Reason.HOST_NOT_ALLOWED,
            f"the Cluster's hostTemplate gives {host!r}, which is no valid host; it or the domain has to be another",
        )
    label = host.partition(".")[0]
    if any(fnmatch.fnmatchcase(label, pattern) for pattern in cluster.reserved_hosts):
        raise Terminal(
            ConditionType.INGRESS_READY,
            Reason.HOST_NOT_ALLOWED,
            f"the default host {host!r} is reserved on this cluster; give the tenant another name",
        )
    return host


def wanted_hosts(
    default: str, domains: Sequence[Domain], cluster: ClusterSpec, plan: TenantPlanSpec
) -> tuple[list[HostWish], list[HostRefusal]]:
    """The hosts to claim, default first, and the ones that are refused whatever anybody else has."""
    wishes = [HostWish(default)] if default else []
    refusals: list[HostRefusal] = []
    for domain in domains:
        refusal = _refusal(domain.host, default, cluster, plan)
        if refusal is not None:
            refusals.append(refusal)
        elif domain.host != default:
            secret = domain.tls.secret_name if domain.tls else ""
            wishes.append(HostWish(domain.host, _needs_proof(domain.host, plan), secret))
    return wishes, refusals


def proof_name(host: str) -> str:
    """Where the TXT record of a custom host has to be; a wildcard is proven at its parent."""
    return f"{PROOF_PREFIX}.{host.removeprefix('*.')}"


def proof_value(tenant_hash: str) -> str:
    """What the TXT record has to say."""
    return f"tenantry={tenant_hash}"


def wildcards_over(host: str) -> list[str]:
    """The wildcard hosts that would also take this host's traffic: `a.b.c` -> `*.b.c`, `*.c`."""
    labels = host.removeprefix("*.").split(".")
    start = 0 if host.startswith("*.") else 1
    covering = [f"*.{'.'.join(labels[i:])}" for i in range(start, len(labels))]
    return [wildcard for wildcard in covering if wildcard != host]


def is_under(host: str, domain: str) -> bool:
    """Whether a host or wildcard is the domain itself or lies below it."""
    bare = host.removeprefix("*.")
    return bare == domain or bare.endswith(f".{domain}")


def covers(wildcard: str, host: str) -> bool:
    """Whether a wildcard is for another host, or for hosts of another wildcard, too; `*.b.c` is not for `b.c`."""
    return wildcard.startswith("*.") and wildcard != host and host.removeprefix("*.").endswith(wildcard[1:])


def _refusal(host: str, default: str, cluster: ClusterSpec, plan: TenantPlanSpec) -> HostRefusal | None:
    if host == default:
        return None
    if cluster.domain is not None and (is_under(host, cluster.domain) or covers(host, cluster.domain)):
        return HostRefusal(
            host,
            Reason.HOST_NOT_ALLOWED,
            f"spec.domains: {host} is under the cluster's own domain {cluster.domain}, where tenants have only their "
            "default host; use a host of your own",
        )
    if plan.custom_hosts == "None" and not _allowed_by_plan(host, plan):
        return HostRefusal(
            host, Reason.HOST_NOT_ALLOWED, f"spec.domains: the plan does not allow {host} (customHosts: None)"
        )
    return None


def _needs_proof(host: str, plan: TenantPlanSpec) -> bool:
    return plan.custom_hosts == "Verified" and not _allowed_by_plan(host, plan)


def _allowed_by_plan(host: str, plan: TenantPlanSpec) -> bool:
    return any(host == allowed or covers(allowed, host) for allowed in plan.allowed_hosts)
