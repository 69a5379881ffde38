"""TenantPlan: what a class of tenants gets and may at most have."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field

from tenantry.api.backuppolicy import PlanBackup
from tenantry.api.base import (
    AGE,
    MESSAGE,
    READY,
    AllowedWorkspaces,
    Column,
    Duration,
    Host,
    Kind,
    Label,
    Model,
    ObjectMeta,
    Quantity,
    Rule,
    ShortText,
    Text,
    rules,
    window_bound,
)
from tenantry.api.conditions import Condition
from tenantry.api.database import Provider
from tenantry.api.databaseserver import ExtensionName
from tenantry.api.resources import TENANT_PLANS

DEFAULT_PLAN: Final = "default"
"""The plan of tenants that name none; where no TenantPlan is called so, the defaults of this module hold."""

ENV_NAME_PATTERN: Final = r"^[A-Za-z_][A-Za-z0-9_]*$"
EnvName = Annotated[str, Field(min_length=1, max_length=128, pattern=ENV_NAME_PATTERN)]
EnvMap = Annotated[dict[EnvName, Annotated[str, Field(max_length=2048)]], Field(max_length=64)]
LimitMap = Annotated[dict[EnvName, Annotated[str, Field(min_length=1, max_length=64)]], Field(max_length=64)]
QuotaName = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[a-z0-9]([a-z0-9./-]*[a-z0-9])?$")]
QuotaMap = Annotated[dict[QuotaName, Quantity], Field(max_length=64)]

RESERVED_ENV: Final = ("KUBERNETES_", "PG", "LD_")
"""Prefixes of names that a process or its libraries take orders from; see rule `reserved_env`."""

DEFAULT_QUOTA: Final[dict[str, str | int]] = {
    "requests.cpu": "2",
    "requests.memory": "4Gi",
    "limits.memory": "8Gi",
    "requests.storage": "20Gi",
    "pods": "20",
    "services": "10",
    "services.nodeports": "0",
    "services.loadbalancers": "0",
    "count/configmaps": "50",
    "count/secrets": "50",
}


def reserved_env(field: str) -> Rule:
    """On the parent: no name in the map starts like one that libpq, the dynamic linker or Kubernetes reads."""
    starts = " || ".join(f"k.startsWith('{prefix}')" for prefix in RESERVED_ENV)
    return Rule(
        f"!has(self.{field}) || self.{field}.all(k, !({starts}))",
        f"{field} can't set names that start with KUBERNETES_, PG or LD_: programs take orders from them; rename it",
        f".{field}",
    )


def env_or_limit() -> Rule:
    """On the parent: no name is in both env and limits."""
    return Rule(
        "!has(self.env) || !has(self.limits) || self.env.all(k, !(k in self.limits))",
        "a name can't be in both env and limits: limits are delivered as env too; take it out of one",
        ".limits",
    )


class Quota(Model):
    """A ResourceQuota's hard limits, by its names."""

    hard: QuotaMap = {}


class ContainerResources(Model):
    """Compute resources of one container."""

    cpu: Quantity | None = None
    memory: Quantity | None = None


class ContainerLimits(Model):
    """What a container gets that asks for nothing, and may ask for at most."""

    default: ContainerResources = Field(default_factory=lambda: ContainerResources(cpu="500m", memory="256Mi"))
    default_request: ContainerResources = Field(default_factory=lambda: ContainerResources(cpu="50m", memory="64Mi"))
    max: ContainerResources | None = None


class LimitRange(Model):
    """The namespace's LimitRange."""

    container: ContainerLimits = Field(default_factory=ContainerLimits)


class Network(Model):
    """What the tenants' pods may reach, and who may write network policies."""

    egress: Literal["None", "Internet", "All"] = Field(
        "Internet",
        description="None; Internet: everything but private ranges and metadata addresses; All. DNS to kube-dns, the "
        "tenant's own namespace and its database are always reachable.",
    )
    self_service: bool = Field(
        False, description="Tenant admins may write NetworkPolicies, Roles and RoleBindings of their own."
    )


class Ceilings(Model):
    """The most a tenant may set for itself, as numbers; 0 is unlimited, but for a quota, where it is 0."""

    limits: LimitMap = {}
    quota: QuotaMap = {}


class PlanDeletion(Model):
    """The bounds within which a tenant may say how long it can be had back after its deletion."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            window_bound("minWindow"),
            window_bound("maxWindow"),
            Rule(
                "duration(has(self.minWindow) ? self.minWindow : '0s') <= "
                "duration(has(self.maxWindow) ? self.maxWindow : '720h')",
                "minWindow can't be longer than maxWindow (720h where it is not given)",
                ".minWindow",
            ),
        )
    )

    min_window: Duration = "0s"
    max_window: Duration = "720h"
    final_backup: bool | None = Field(
        None, description="true: every tenant is backed up before it is destroyed. Without it: those with a schedule."
    )


class Size(Model):
    """What a server of a tenant's own gets: as request and as limit."""

    cpu: Quantity
    memory: Quantity


class Rollout(Model):
    """How a change of the plan reaches its tenants."""

    type: Literal["Waves", "Immediate"] = Field(
        description="Waves: 5% of the tenants (one at least), then 25%, then the rest, each when those before were "
        "well for a while; Immediate: all at once. Without it: Waves from 20 tenants on."
    )


def _builtin() -> list[Provider]:
    return ["Builtin"]


class TenantPlanSpec(Model):
    """A plan as the platform team sells it."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            reserved_env("env"),
            reserved_env("limits"),
            env_or_limit(),
        )
    )

    display_name: ShortText = ""
    description: Text = ""
    allowed_workspaces: AllowedWorkspaces = AllowedWorkspaces()
    max_tenants: Annotated[int, Field(ge=0, le=100000)] | None = Field(
        None, description="For each workspace. A deleted tenant counts until it is purged; those over a new limit stay."
    )
    limits: LimitMap = Field(default={}, description="Delivered to the application as env; 0 means unlimited.")
    ceilings: Ceilings = Ceilings()
    overridable: Annotated[
        list[Literal["limits", "quota", "backup.schedule", "rotation", "database.maxConnections"]], Field(max_length=16)
    ] = Field(default=[], description="What a tenant may set without a ceiling, beside env, tags, domains and rbac.")
    env: EnvMap = {}
    # Not stored as defaults: what a later partial map left out would stay, merged by the API server.
    quota: Quota = Field(
        default_factory=lambda: Quota(hard=DEFAULT_QUOTA),
        description="Without it a modest one: 2 CPUs, 4Gi of memory, 20Gi of storage, 20 pods, no NodePorts.",
    )
    limit_range: LimitRange = Field(
        default_factory=LimitRange,
        description="Without it a container that asks for nothing gets 50m CPU and 64Mi, and at most 500m and 256Mi.",
    )
    network: Network = Network()
    pod_security: Literal["restricted", "baseline"] = "restricted"
    image_pull_policy: Literal["Any", "Always"] = Field(
        "Any", description="Always: pods that would run a cached image without asking its registry are refused."
    )
    allowed_tiers: Annotated[list[Literal["Tier1", "Tier2", "Tier3"]], Field(max_length=3)] = ["Tier1"]
    allowed_modes: Annotated[list[Literal["None", "Shared", "Dedicated", "External"]], Field(max_length=4)] = Field(
        default=["Shared", "None"], description="The first one is the default of tenants that name no database mode."
    )
    max_connections: Annotated[int, Field(ge=1, le=10000)] = Field(
        20, description="Connections to the tenant's database; the tenant may ask for fewer."
    )
    extensions: Annotated[list[ExtensionName], Field(max_length=64)] = []
    custom_hosts: Literal["Verified", "Any", "None"] = Field(
        "Verified", description="Verified: a TXT record at _tenantry.<host> proves that the host is the tenant's."
    )
    allowed_hosts: Annotated[list[Host], Field(max_length=64)] = Field(
        default=[],
        description="Custom hosts that need no proof; *.example.com stands for every host under example.com.",
    )
    sizes: Annotated[dict[Label, Size], Field(max_length=16)] = Field(
        default={}, description="Of the servers of tenants with database.mode: Dedicated, by name."
    )
    dedicated_providers: Annotated[list[Provider], Field(max_length=2)] = Field(
        default_factory=_builtin,  # as of quota: not stored, or every plan would get a new revision
        description="Who may make those servers; a tenant that names none means Builtin. Without it: Builtin.",
    )
    backup: PlanBackup | None = Field(None, description="Without it: no backup is made by itself.")
    deletion: PlanDeletion = PlanDeletion()
    rollout: Rollout | None = None


class RolloutStatus(Model):
    """How far the plan's present content has come."""

    revision: str = ""
    phase: Literal["Canary", "Waves", "Paused", "Complete"] = "Complete"
    updated: int = Field(0, description="How many tenants have it.")
    total: int = Field(0, description="How many tenants are to have it.")
    message: Text = ""


class TenantPlanStatus(Model):
    """A report: nothing is decided from it."""

    observed_generation: int = -1
    conditions: list[Condition] = []
    rollout: RolloutStatus | None = None
    tenants: int | None = Field(None, description="How many tenants are on it; at most 30 s old.")
    last_handled_reconcile_at: str | None = None


class TenantPlan(Model):
    """A TenantPlan as read from the API."""

    metadata: ObjectMeta
    spec: TenantPlanSpec
    status: TenantPlanStatus = TenantPlanStatus()

    @property
    def name(self) -> str:
        """Its name."""
        return self.metadata.name


KIND: Final = Kind(
    resource=TENANT_PLANS,
    spec=TenantPlanSpec,
    status=TenantPlanStatus,
    description="What a class of tenants gets and may at most have.",
    short_names=("tnp",),
    columns=(
        READY,
        Column("Display-Name", ".spec.displayName"),
        Column("Tenants", ".status.tenants", "integer"),
        Column("Rollout", ".status.rollout.phase"),
        Column("Updated", ".status.rollout.updated", "integer", priority=1),
        Column("Pod-Security", ".spec.podSecurity", priority=1),
        Column("Egress", ".spec.network.egress", priority=1),
        MESSAGE,
        AGE,
    ),
)
