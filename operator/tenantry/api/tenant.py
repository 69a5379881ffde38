"""Tenant: one isolated environment, as the admin of its workspace wants it."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field

from tenantry.api.backuppolicy import BackupReport, TenantBackups
from tenantry.api.base import (
    AGE,
    MESSAGE,
    READY,
    REASON,
    Column,
    Host,
    Kind,
    Label,
    LabelMap,
    Model,
    ObjectMeta,
    ObjectName,
    Port,
    Rule,
    ShortText,
    Text,
    immutable,
    rules,
)
from tenantry.api.conditions import Condition
from tenantry.api.database import Database
from tenantry.api.lifecycle import Deletion, Ephemeral, Rotation
from tenantry.api.move import MoveStatus
from tenantry.api.names import ANNOTATION_DRY_RUN, ANNOTATION_REQUESTED_AT, RESERVED_NAMESPACES, TENANT_FINALIZER
from tenantry.api.preview import Preview
from tenantry.api.proxy import Proxy, proxy_or_env
from tenantry.api.resources import TENANTS, Ref
from tenantry.api.tenantplan import EnvMap, LimitMap, Quota, env_or_limit, reserved_env

MAX_NAME: Final = 40
OWN_CLUSTER: Final = "Tier3"
"""The tier of tenants that have a cluster for themselves."""


class Placement(Model):
    """Where the tenant is to live: on a cluster by name, or on one that fits region and environment."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "has(self.cluster) != (has(self.region) || has(self.environment))",
                "name either a cluster, or a region and an environment (one of the two is enough)",
            )
        )
    )

    cluster: ObjectName | None = None
    region: Label | None = None
    environment: Label | None = None


class DomainTls(Model):
    """The certificate of one custom host."""

    secret_name: ObjectName = Field(description="A Secret of type kubernetes.io/tls in the tenant's own namespace.")


class Domain(Model):
    """A host of the tenant's own, beside the default one."""

    host: Host
    tls: DomainTls | None = Field(None, description="Without it: as the cluster's ingress.tls says.")


class Backend(Model):
    """The Service that answers for the tenant."""

    service: Label = "app"
    port: Port = 80


class TenantIngress(Model):
    """How traffic reaches the tenant."""

    enabled: bool = True
    backend: Backend = Backend()


class Tasks(Model):
    """Background work: CronJobs, Jobs, and workloads with the label tenantry.io/task: "true"."""

    enabled: bool = Field(True, description="false: CronJobs and Jobs are suspended, task workloads at zero.")


class Subject(Model):
    """Somebody on the target cluster."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "!self.name.startsWith('system:')",
                "subjects can't start with system: (Kubernetes' own users and groups); name the person or group",
                ".name",
            )
        )
    )

    kind: Literal["User", "Group", "ServiceAccount"] = Field(
        description="A ServiceAccount is one of the tenant's own namespace."
    )
    name: Annotated[str, Field(min_length=1, max_length=253)]


class Binding(Model):
    """Who has a role in the tenant's namespace."""

    role: Literal["Admin", "Edit", "View"]
    subjects: Annotated[list[Subject], Field(min_length=1, max_length=64)]


class Rbac(Model):
    """Access of people to the tenant's namespace on the target."""

    enabled: bool = True
    bindings: Annotated[list[Binding], Field(max_length=3)] = Field(
        default=[], json_schema_extra=rules(x_kubernetes_list_type="map", x_kubernetes_list_map_keys=["role"])
    )


class LocalSecretRef(Model):
    """A Secret in the Tenant's own workspace, with the label tenantry.io/env: "true"."""

    name: ObjectName


class EnvFromSource(Model):
    """Where more environment comes from."""

    secret_ref: LocalSecretRef


class TenantSpec(Model):
    """One isolated environment as its admin wants it."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "!has(self.tier) || self.tier == 'Tier1' || has(self.placement)",
                "Tier2 and Tier3 need a placement",
                ".placement",
            ),
            Rule(
                "!has(self.tier) || self.tier != 'Tier2' || "
                "(has(self.database) && has(self.database.mode) && self.database.mode == 'Dedicated')",
                "Tier2 needs database.mode: Dedicated, a server of its own",
                ".database",
            ),
            Rule(
                "!has(self.database) || !has(self.database.mode) || self.database.mode != 'External' || "
                "(!has(self.rotation.interval) && !self.rotation.restartWorkloads && "
                "self.rotation.gracePeriod == '24h')",
                "rotation can't be set with database.mode: External: its password is changed by whoever owns that "
                "database; put the new one into the Secret",
                ".rotation",
            ),
            immutable("ephemeral", "say it when you create the tenant"),
            reserved_env("env"),
            reserved_env("limits"),
            env_or_limit(),
            proxy_or_env(),
        )
    )

    display_name: ShortText = ""
    description: Text = ""
    environment: Label | None = None
    tags: LabelMap = {}
    enabled: bool = Field(True, description="false: no traffic, workloads at zero, logins locked; everything is kept.")
    suspend: bool = Field(False, description="true: the operator leaves the tenant as it is.")
    ephemeral: Ephemeral | None = None
    tier: Literal["Tier1", "Tier2", "Tier3"] = Field(
        "Tier1",
        description="Tier1: its data is isolated; Tier2: a database server of its own; Tier3: a cluster of its own.",
    )
    plan: ObjectName | None = Field(
        None, description="A TenantPlan; without it the one called default, if there is one."
    )
    placement: Placement | None = Field(None, description="Without it: the cluster that is the default.")
    domains: Annotated[list[Domain], Field(max_length=32)] = Field(
        default=[], json_schema_extra=rules(x_kubernetes_list_type="map", x_kubernetes_list_map_keys=["host"])
    )
    ingress: TenantIngress = TenantIngress()
    tasks: Tasks = Tasks()
    rbac: Rbac = Rbac()
    proxy: Proxy | None = None
    env: EnvMap = {}
    env_from: Annotated[list[EnvFromSource], Field(max_length=16)] = Field(
        default=[], description="Later ones win over earlier ones, env wins over all of them."
    )
    limits: LimitMap = Field(default={}, description="Over the plan's, within its ceilings; delivered as env.")
    quota: Quota | None = None
    database: Database = Database()
    backup: TenantBackups | None = Field(None, description="Without it: as the plan has it.")
    rotation: Rotation = Rotation()
    deletion: Deletion = Deletion()


class BindingStatus(Model):
    """Where the application finds its database: the Service Binding specification's way of saying it."""

    name: str


class EffectiveStatus(Model):
    """What the tenant has after plan and own wishes were put together: all names of both, 64 each, and two of ours."""

    plan: str = ""
    plan_revision: str = ""
    limits: Annotated[dict[str, str], Field(max_length=130)] = {}
    quota: Annotated[dict[str, str], Field(max_length=130)] = {}


class TenantStatus(Model):
    """What was last found out about the tenant: a report, nothing is decided from it."""

    observed_generation: int = -1
    conditions: list[Condition] = []
    tenant_id: str | None = None
    record: str | None = None
    cluster: str | None = None
    namespace: str | None = None
    url: str | None = None
    hosts: list[str] | None = None
    binding: BindingStatus | None = None
    effective: EffectiveStatus | None = None
    backup: BackupReport | None = None
    preview: Preview | None = Field(None, description="While the annotation tenantry.io/dry-run holds a changed spec.")
    move: MoveStatus | None = None
    last_handled_reconcile_at: str | None = None


class Tenant(Model):
    """A Tenant as read from the API."""

    metadata: ObjectMeta
    spec: TenantSpec
    status: TenantStatus = TenantStatus()

    @property
    def name(self) -> str:
        """Its name."""
        return self.metadata.name

    @property
    def ref(self) -> Ref:
        """Its name in full."""
        return Ref(TENANTS, self.metadata.namespace, self.metadata.name)

    @property
    def workspace(self) -> str:
        """The namespace of the management cluster that it belongs to."""
        return self.metadata.namespace

    @property
    def deleting(self) -> bool:
        """Whether its deletion was asked for."""
        return self.metadata.deletion_timestamp is not None

    @property
    def has_finalizer(self) -> bool:
        """Whether we hold it."""
        return TENANT_FINALIZER in self.metadata.finalizers

    @property
    def dry_run(self) -> bool:
        """Whether changed specs are held. Whatever the annotation says but false holds: a slip must apply nothing."""
        return self.metadata.annotations.get(ANNOTATION_DRY_RUN, "false").strip().lower() != "false"

    @property
    def requested_at(self) -> str | None:
        """The value of the reconcile-now annotation."""
        return self.metadata.annotations.get(ANNOTATION_REQUESTED_AT)


_RESERVED = ", ".join(f"'{name}'" for name in RESERVED_NAMESPACES)

KIND: Final = Kind(
    resource=TENANTS,
    spec=TenantSpec,
    status=TenantStatus,
    description="One isolated environment: a namespace with guard rails, a database, an ingress, secrets.",
    short_names=("tn",),
    root_rules=(
        Rule(
            f"size(self.metadata.name) <= {MAX_NAME}",
            f"the name can have at most {MAX_NAME} characters: hosts, namespaces and records are derived from it",
        ),
        Rule(
            "!self.metadata.name.contains('.')",
            "the name can't have dots: it becomes one label of a host name; use dashes",
        ),
        Rule(
            f"!(self.metadata.name in [{_RESERVED}]) && !self.metadata.name.startsWith('kube-')",
            "the name is reserved: choose one that is not a namespace of Kubernetes or of the operator",
        ),
    ),
    columns=(
        READY,
        REASON,
        Column("Cluster", ".status.cluster"),
        Column("Host", ".status.hosts[0]"),
        Column("Plan", ".spec.plan", priority=1),
        Column("Namespace", ".status.namespace", priority=1),
        Column("Tenant-Id", ".status.tenantId", priority=1),
        Column("Change-Held", '.status.conditions[?(@.type=="ChangeHeld")].status', priority=1),
        MESSAGE,
        AGE,
    ),
)
