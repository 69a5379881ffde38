"""Effective: a tenant's plan and spec put together, as a plain value that decisions make and builders read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tenantry.api.backuppolicy import TenantBackups
from tenantry.api.tenantplan import ContainerLimits, Network
from tenantry.api.tenantrecord import PinnedDeletion


@dataclass(frozen=True, slots=True)
class Effective:
    """A tenant's plan and spec in one.

    Attributes:
        env: What the plan and the spec say, without limits and without what comes from Secrets.
        quota: ResourceQuota's hard limits by name.
        service_types: Service types its namespace may use, ClusterIP first.
        mode: The database mode: the spec's, or else the first one that the plan allows.
        deletion: Its policy and window, within the plan's bounds.
        backup: With a schedule; None where none is made by itself.
    """

    plan: str
    env: Mapping[str, str]
    limits: Mapping[str, str]
    quota: Mapping[str, str]
    container: ContainerLimits
    network: Network
    pod_security: str
    image_pull_policy: str
    service_types: tuple[str, ...]
    mode: str
    extensions: tuple[str, ...]
    max_connections: int
    deletion: PinnedDeletion
    backup: TenantBackups | None = None
