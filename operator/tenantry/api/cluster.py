"""Cluster: a target cluster, reached by a supplied kubeconfig, and what its tenants get by default."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field

from tenantry.api.base import (
    AGE,
    MESSAGE,
    READY,
    REASON,
    AllowedWorkspaces,
    Cidr,
    Column,
    Kind,
    Label,
    Model,
    ObjectMeta,
    ObjectName,
    Rule,
    Text,
    not_yet,
    rules,
)
from tenantry.api.conditions import Condition
from tenantry.api.names import ANNOTATION_ACCEPT_IDENTITY
from tenantry.api.resources import CLUSTERS

DEFAULT_NAMESPACE_TEMPLATE: Final = "{workspace}-{tenant}"
DEFAULT_HOST_TEMPLATE: Final = "{tenant}-{workspace}.{domain}"

_IN_NAMESPACE = r"([a-z0-9-]|\{workspace\}|\{tenant\})*"
NAMESPACE_TEMPLATE_PATTERN: Final = rf"^{_IN_NAMESPACE}\{{tenant\}}{_IN_NAMESPACE}$"
_IN_HOST = r"([a-z0-9.-]|\{(workspace|tenant|tenantHash|domain)\})*"
HOST_TEMPLATE_PATTERN: Final = rf"^{_IN_HOST}\{{(tenant|tenantHash)\}}{_IN_HOST}$"
_DNS_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_IMAGE_CHARACTER = r"([A-Za-z0-9._/:@-]|\{version\})"
IMAGE_PATTERN: Final = rf"^[a-z0-9]{_IMAGE_CHARACTER}*\{{version\}}{_IMAGE_CHARACTER}*$"
DOMAIN_PATTERN: Final = rf"^({_DNS_LABEL}\.)*{_DNS_LABEL}$"


class KubeconfigSecretRef(Model):
    """The Secret, in the operator's namespace, that holds the kubeconfig."""

    name: ObjectName
    key: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")] | None = Field(
        None, description="Where it is not set: `value` (Cluster API), then `value.yaml` (Flux), then `kubeconfig`."
    )


class ClusterCapacity(Model):
    """How much the cluster takes."""

    max_tenants: Annotated[int, Field(ge=0, le=100000)] | None = Field(
        None,
        description="New tenants are refused with ClusterFull when this many are placed; those that are there stay.",
    )


class IngressTls(Model):
    """Where the certificates of the tenants' hosts come from; without it, tenants are served over plain HTTP."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "has(self.clusterIssuer) != (has(self.controllerDefault) && self.controllerDefault)",
                "set either clusterIssuer or controllerDefault: true",
            )
        )
    )

    cluster_issuer: ObjectName | None = Field(
        None, description="A cert-manager ClusterIssuer on the target: each host gets a certificate of its own."
    )
    controller_default: bool | None = Field(
        None,
        description="The ingress controller serves its own default certificate, such as a wildcard of the domain. "
        "Its key is never copied into a tenant's namespace.",
    )


class GatewayRef(Model):
    """A Gateway on the target."""

    namespace: Label
    name: ObjectName
    section_name: ObjectName | None = None


class ClusterIngress(Model):
    """How traffic reaches the tenants."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            not_yet("gatewayRef", "use className"),
            Rule("has(self.className)", "className must be set", ".className"),
        )
    )

    class_name: ObjectName | None = Field(None, description="The IngressClass on the target.")
    gateway_ref: GatewayRef | None = Field(None, description="A Gateway, for HTTPRoutes instead of Ingress objects.")
    controller_namespace: Label | None = Field(
        None, description="Where the ingress controller runs on the target: the tenants' network policies let it in."
    )
    tls: IngressTls | None = None
    readiness: Literal["Accepted", "Address"] = Field(
        "Accepted",
        description="What a tenant's Ready waits for: the Ingress is stored and its class exists (Accepted), or the "
        "controller has published an address for it (Address).",
    )


class CloudNativePG(Model):
    """CloudNativePG as it is installed on this cluster: nothing of it is installed by Tenantry."""

    image: Annotated[str, Field(min_length=1, max_length=512, pattern=IMAGE_PATTERN)] = Field(
        description="Where the target pulls PostgreSQL from; {version} becomes the tenant's major version. One of "
        "CloudNativePG's own images, or made like them."
    )
    operator_namespace: Label = Field(
        "cnpg-system", description="Where it runs: the tenants' network policies let it in to the instances."
    )
    api_server_cidrs: Annotated[list[Cidr], Field(min_length=1, max_length=16)] = Field(
        description="The API server's addresses as pods reach it, which are the endpoints of Service kubernetes in "
        "namespace default: the tenants' network policies let the instances out to these."
    )


class DedicatedDatabases(Model):
    """Database servers of the tenants' own on this cluster."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "has(self.image) || has(self.cloudNativePG)",
                "image or cloudNativePG must be set: one for servers with provider Builtin, one for those with "
                "provider CloudNativePG",
            ),
        )
    )

    image: Annotated[str, Field(min_length=1, max_length=512, pattern=IMAGE_PATTERN)] | None = Field(
        None,
        description="Without it none by provider Builtin. Where the target pulls PostgreSQL from; {version} becomes "
        "the tenant's major version. It has sh, initdb, postgres, pg_ctl, pg_controldata and pg_isready in its PATH, "
        "as the official image has.",
    )
    user: Annotated[int, Field(ge=1, le=2147483647)] = Field(
        999, description="The user and group that the server runs as: 999 in the official image on Debian."
    )
    cloud_native_pg: Annotated[CloudNativePG | None, Field(alias="cloudNativePG")] = Field(
        None, description="Without it none by provider CloudNativePG."
    )


class ClusterSpec(Model):
    """A target cluster as the platform team wants it used."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule("!has(self.type) || self.type == 'standard'", "type: run is not supported yet: use standard", ".type"),
            not_yet("endpoints"),
            Rule(
                "!has(self.ingress) || !self.hostTemplate.contains('{domain}') || has(self.domain)",
                "domain must be set with ingress where hostTemplate uses {domain}",
                ".domain",
            ),
            Rule(
                "has(self.kubeconfigSecretRef) == has(oldSelf.kubeconfigSecretRef)",
                "kubeconfigSecretRef can't be added or removed later: a Cluster is either the management cluster "
                "itself or another one; register the other cluster under another name",
                ".kubeconfigSecretRef",
            ),
        )
    )

    description: Text = ""
    type: Literal["standard", "run"] = "standard"
    region: Label | None = None
    environment: Label | None = None
    default: bool = Field(False, description="Takes tenants without a placement. Two that fit are AmbiguousDefault.")
    kubeconfig_secret_ref: KubeconfigSecretRef | None = Field(
        None, description="Without it: the management cluster itself."
    )
    allowed_workspaces: AllowedWorkspaces = AllowedWorkspaces()
    unschedulable: bool = Field(False, description="No new tenants; those that are there stay.")
    capacity: ClusterCapacity | None = None
    namespace_template: Annotated[
        str,
        Field(max_length=128, pattern=NAMESPACE_TEMPLATE_PATTERN),
    ] = Field(
        DEFAULT_NAMESPACE_TEMPLATE,
        description="The name of a tenant's namespace; cut to 56 characters, ended by - and 6 of its hash. "
        "Pinned in the tenant's record when it is placed.",
    )
    domain: Annotated[str, Field(min_length=1, max_length=200, pattern=DOMAIN_PATTERN)] | None = Field(
        None, description="Hosts under it are given to tenants by hostTemplate only."
    )
    host_template: Annotated[str, Field(max_length=253, pattern=HOST_TEMPLATE_PATTERN)] = DEFAULT_HOST_TEMPLATE
    reserved_hosts: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9*-]+$")]], Field(max_length=100)
    ] = Field(default=[], description="First labels under the domain that no tenant gets; * matches any characters.")
    ingress: ClusterIngress | None = Field(None, description="Without it tenants get no Ingress.")
    endpoints: (
        Annotated[
            dict[Annotated[str, Field(max_length=63)], Annotated[str, Field(max_length=253)]], Field(max_length=16)
        ]
        | None
    ) = None
    database_server: ObjectName | None = Field(None, description="The DatabaseServer of its tenants by default.")
    backup_store: ObjectName | None = Field(
        None, description="The BackupStore that scheduled and final backups of its tenants are written to."
    )
    dedicated_databases: DedicatedDatabases | None = Field(
        None, description="Without it no tenant here gets database.mode: Dedicated."
    )


class ClusterStatus(Model):
    """What was last found out about the cluster: a report, nothing is decided from it."""

    observed_generation: int = -1
    conditions: list[Condition] = []
    cluster_id: str | None = Field(None, description="The UID of the cluster's kube-system namespace.")
    version: str | None = None
    tenants: int | None = Field(None, description="How many tenants are placed on it; at most 30 s old.")
    last_handled_reconcile_at: str | None = None


class Cluster(Model):
    """A Cluster as read from the API."""

    metadata: ObjectMeta
    spec: ClusterSpec
    status: ClusterStatus = ClusterStatus()

    @property
    def name(self) -> str:
        """Its name."""
        return self.metadata.name

    @property
    def accepted_identity(self) -> str | None:
        """The cluster id that the platform accepted by annotation after it changed."""
        return self.metadata.annotations.get(ANNOTATION_ACCEPT_IDENTITY)

    @property
    def is_management(self) -> bool:
        """Whether it stands for the management cluster itself."""
        return self.spec.kubeconfig_secret_ref is None


KIND: Final = Kind(
    resource=CLUSTERS,
    spec=ClusterSpec,
    status=ClusterStatus,
    description="A target cluster on which tenants get their environments, reached by a supplied kubeconfig.",
    short_names=("tcl",),
    columns=(
        READY,
        REASON,
        Column("Version", ".status.version"),
        Column("Tenants", ".status.tenants", "integer"),
        Column("Region", ".spec.region"),
        Column("Environment", ".spec.environment", priority=1),
        Column("Domain", ".spec.domain", priority=1),
        Column("Cluster-Id", ".status.clusterId", priority=1),
        MESSAGE,
        AGE,
    ),
)
