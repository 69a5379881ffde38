"""The Kubernetes resources that Tenantry reads and writes: where each lives in the API, how one object is named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tenantry.api.names import GROUP, VERSION


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of object as the API serves it.

    Attributes:
        group: The API group; empty for the core group.
        plural: The lower-case plural of the URL.
    """

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """`apiVersion` as manifests write it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The URL path of the collection, or with a name, of one object (or of its subresource)."""
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name:
            parts.append(name)
        if subresource:
            parts.append(subresource)
        return "/".join(parts)


@dataclass(frozen=True, slots=True)
class Ref:
    """The name of one object: resource, namespace (empty for cluster-scoped ones), name."""

    resource: Resource
    namespace: str
    name: str

    @property
    def path(self) -> str:
        """The URL path of the object."""
        return self.resource.path(self.namespace, self.name)

    def __str__(self) -> str:
        where = f"{self.namespace}/" if self.namespace else ""
        return f"{self.resource.kind} {where}{self.name}"


NAMESPACES: Final = Resource("", "v1", "Namespace", "namespaces", namespaced=False)
SECRETS: Final = Resource("", "v1", "Secret", "secrets")
CONFIG_MAPS: Final = Resource("", "v1", "ConfigMap", "configmaps")
SERVICE_ACCOUNTS: Final = Resource("", "v1", "ServiceAccount", "serviceaccounts")
RESOURCE_QUOTAS: Final = Resource("", "v1", "ResourceQuota", "resourcequotas")
LIMIT_RANGES: Final = Resource("", "v1", "LimitRange", "limitranges")
EVENTS: Final = Resource("events.k8s.io", "v1", "Event", "events")
NETWORK_POLICIES: Final = Resource("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies")
INGRESSES: Final = Resource("networking.k8s.io", "v1", "Ingress", "ingresses")
INGRESS_CLASSES: Final = Resource("networking.k8s.io", "v1", "IngressClass", "ingressclasses", namespaced=False)
ROLE_BINDINGS: Final = Resource("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings")
DEPLOYMENTS: Final = Resource("apps", "v1", "Deployment", "deployments")
STATEFUL_SETS: Final = Resource("apps", "v1", "StatefulSet", "statefulsets")
REPLICA_SETS: Final = Resource("apps", "v1", "ReplicaSet", "replicasets")
REPLICATION_CONTROLLERS: Final = Resource("", "v1", "ReplicationController", "replicationcontrollers")
CONTROLLER_REVISIONS: Final = Resource("apps", "v1", "ControllerRevision", "controllerrevisions")
LEASES: Final = Resource("coordination.k8s.io", "v1", "Lease", "leases")
JOBS: Final = Resource("batch", "v1", "Job", "jobs")
CRON_JOBS: Final = Resource("batch", "v1", "CronJob", "cronjobs")
ACCESS_REVIEWS: Final = Resource(
    "authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", namespaced=False
)

CUSTOM_RESOURCE_DEFINITIONS: Final = Resource(
    "apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False
)

TENANTS: Final = Resource(GROUP, VERSION, "Tenant", "tenants")
TENANT_RECORDS: Final = Resource(GROUP, VERSION, "TenantRecord", "tenantrecords", namespaced=False)
TENANT_PLANS: Final = Resource(GROUP, VERSION, "TenantPlan", "tenantplans", namespaced=False)
CLUSTERS: Final = Resource(GROUP, VERSION, "Cluster", "clusters", namespaced=False)
DATABASE_SERVERS: Final = Resource(GROUP, VERSION, "DatabaseServer", "databaseservers", namespaced=False)
BACKUP_STORES: Final = Resource(GROUP, VERSION, "BackupStore", "backupstores", namespaced=False)
TENANT_BACKUPS: Final = Resource(GROUP, VERSION, "TenantBackup", "tenantbackups")
TENANT_RESTORES: Final = Resource(GROUP, VERSION, "TenantRestore", "tenantrestores")

SERVICES: Final = Resource("", "v1", "Service", "services")
PODS: Final = Resource("", "v1", "Pod", "pods")
VOLUME_CLAIMS: Final = Resource("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims")

POSTGRES_CLUSTERS: Final = Resource("postgresql.cnpg.io", "v1", "Cluster", "clusters")
"""CloudNativePG's, where it is installed."""

WATCHED_ON_TARGETS: Final = (
    NAMESPACES,
    RESOURCE_QUOTAS,
    LIMIT_RANGES,
    NETWORK_POLICIES,
    SERVICE_ACCOUNTS,
    ROLE_BINDINGS,
    CONFIG_MAPS,
    INGRESSES,
    SERVICES,
    STATEFUL_SETS,
)
"""The non-secret kinds that are listed and watched by stamp on each target. What of them is wanted no more is deleted:
so volume claims are not among them."""

WATCHED_WHERE_SERVED: Final = (POSTGRES_CLUSTERS,)
"""The same, of kinds that a target need not have."""

WORKLOADS: Final = (CRON_JOBS, JOBS, DEPLOYMENTS, STATEFUL_SETS, REPLICA_SETS, REPLICATION_CONTROLLERS)
"""What a tenant runs, made by the tenant; but for the StatefulSet of a Dedicated database, which is ours."""

RESOURCES_BY_KIND: Final = {
    (resource.api_version, resource.kind): resource
    for resource in (
        *WATCHED_ON_TARGETS,
        *WATCHED_WHERE_SERVED,
        SECRETS,
        EVENTS,
        INGRESS_CLASSES,
        ACCESS_REVIEWS,
        CONTROLLER_REVISIONS,
        LEASES,
        TENANTS,
        TENANT_RECORDS,
        TENANT_PLANS,
        CLUSTERS,
        DATABASE_SERVERS,
        BACKUP_STORES,
        TENANT_BACKUPS,
        TENANT_RESTORES,
    )
}


def resource_of(body: dict[str, object]) -> Resource:
    """The resource of a manifest by its apiVersion and kind.

    Raises:
        KeyError: if it is none that Tenantry knows.
    """
    return RESOURCES_BY_KIND[str(body["apiVersion"]), str(body["kind"])]
