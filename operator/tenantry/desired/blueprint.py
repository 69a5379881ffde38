"""Blueprint: all that the manifests of one tenant are made from, as a plain value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tenantry.api.cluster import ClusterSpec
from tenantry.api.effective import Effective
from tenantry.api.identity import TenantIdentity
from tenantry.api.tenant import TenantSpec
from tenantry.api.tenantrecord import PinnedPlan


@dataclass(frozen=True, slots=True)
class ServedHost:
    """A host whose claim the tenant holds.

    Attributes:
        tls_secret: A Secret that the tenant brings; empty for the cluster's way.
    """

    host: str
    tls_secret: str = ""


@dataclass(frozen=True, slots=True)
class DatabaseConnection:
    """How the tenant reaches its database.

    Attributes:
        username: The login role that is in use.
        cidrs: Where the server is, for the egress policy.
        ca_pem: The CA of the server's certificate; empty where there is none to check.
    """

    host: str
    port: int
    database: str
    username: str
    password: str = field(repr=False)
    ssl_mode: str
    ca_pem: str = ""
    cidrs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Blueprint:
    """One tenant as it is to be on its target.

    Attributes:
        hosts: The default host first, where there is one.
        env: All of `tenant-env`, values of Secrets included.
        database_cidrs: Where the tenant's database is; empty for a tenant without one.
        plan: Which content of which plan `effective` was made from, as its record says.
        dedicated: The database has a server of its own in the namespace.
        operated: CloudNativePG makes that.
        sync_token: It has a sync token, or is about to.
        arriving: It is being moved there and does not live there yet.
    """

    identity: TenantIdentity
    namespace: str
    cluster_name: str
    cluster: ClusterSpec
    spec: TenantSpec
    effective: Effective
    hosts: tuple[ServedHost, ...]
    env: Mapping[str, str] = field(repr=False)
    database_port: int | None = None
    database_cidrs: tuple[str, ...] = ()
    plan: PinnedPlan | None = None
    dedicated: bool = False
    operated: bool = False
    sync_token: bool = False
    arriving: bool = False

    @property
    def serves(self) -> bool:
        """Whether the tenant gets an Ingress."""
        return bool(self.hosts) and self.spec.enabled and self.spec.ingress.enabled and self.cluster.ingress is not None

    @property
    def url(self) -> str:
        """Where the tenant answers; empty without an Ingress, or with wildcards only."""
        named = next((served for served in self.hosts if not served.host.startswith("*.")), None)
        if not self.serves or self.cluster.ingress is None or named is None:
            return ""
        scheme = "https" if self.cluster.ingress.tls or named.tls_secret else "http"
        return f"{scheme}://{named.host}"
