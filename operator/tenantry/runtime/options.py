"""What the operator is started with: the flags of `tenantry operator`, each also an environment variable."""

from __future__ import annotations

from dataclasses import dataclass, field

from tenantry.api.names import LEADER_LEASE, SYSTEM_NAMESPACE
from tenantry.decide.deletion import StopRule
from tenantry.decide.election import Timings
from tenantry.decide.rollout import Pace
from tenantry.runtime.logs import LogFormat


@dataclass(frozen=True, slots=True)
class Options:
    """The flags, as the person who runs the operator gave them.

    Attributes:
        kubeconfig: Of the management cluster; None for the pod's ServiceAccount, then KUBECONFIG.
        management_id: None for the one that is kept in the cluster, or a new one on the very first start.
        metrics_address: `host:port`, `:port`, or `0` for none; as health_address.
        workers: How many objects are reconciled at the same time.
        dns_servers: Asked for the proofs of custom hosts and where External databases are; empty for the system's.
        resync: Seconds after which every object is looked at again.
        stop: When deletions wait for somebody to confirm them.
        rollout: How patient the rollout of a plan is.
        instance: What this process is called beside others of its kind; None for the host's name with a random end.
        leader_elect: It works only while it holds the Lease.
        leader_elect_resource_name: Of the Lease, in the operator's namespace.
        leader_elect_timings: How long the Lease holds, and how it is renewed.
    """

    kubeconfig: str | None = None
    namespace: str = SYSTEM_NAMESPACE
    management_id: str | None = None
    metrics_address: str = ":8080"
    health_address: str = ":8081"
    workers: int = 32
    allow_loopback_targets: bool = False
    dns_servers: tuple[str, ...] = ()
    resync: float = 600.0
    stop: StopRule = field(default_factory=StopRule)
    rollout: Pace = field(default_factory=Pace)
    instance: str | None = None
    leader_elect: bool = True
    leader_elect_resource_name: str = LEADER_LEASE
    leader_elect_timings: Timings = field(default_factory=Timings)
    log_format: LogFormat = LogFormat.TEXT
    log_level: str = "INFO"
