"""What every reconciler is given: the ports it may use and the settings it obeys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tenantry.decide.deletion import StopRule
from tenantry.decide.rollout import Pace
from tenantry.ports.kube import Kube, LiveObjects, Targets
from tenantry.ports.servers import DatabaseCopier, OwnServers, ServerCertificate, Servers
from tenantry.ports.world import Clock, Dns, Events, Wake
from tenantry.reconcile.contention import Contention
from tenantry.reconcile.endings import Endings
from tenantry.reconcile.farewells import Farewells
from tenantry.reconcile.ledger import Ledger
from tenantry.reconcile.trials import Trials
from tenantry.reconcile.verdicts import Verdicts


@dataclass(frozen=True, slots=True)
class Settings:
    """What the person who runs the operator decided.

    Attributes:
        management_id: Stamped on all that is ours.
        namespace: The operator's own on the management cluster: where platform Secrets are.
        resync: Seconds after which an object is looked at again although nothing happened.
        probe: Seconds between two probes of a cluster or server.
        full_probe: Seconds between two probes that also review every permission.
        stop: When deletions wait for somebody to confirm them.
        rollout: How patient the rollout of a plan is.
    """

    management_id: str
    namespace: str
    resync: float = 600.0
    probe: float = 10.0
    full_probe: float = 300.0
    stop: StopRule = field(default_factory=StopRule)
    rollout: Pace = field(default_factory=Pace)


@dataclass(frozen=True, slots=True)
class World:
    """The management cluster, the targets, the servers, and the rest of the world.

    Attributes:
        live: What the watches on the management cluster have seen.
        token: Makes a password: random, from the `secrets` module.
        certificate: Makes a certificate for a server of these DNS names.
        jitter: Spreads a time in seconds so that many objects do not come due together.
        contention: Who waits for what another tenant has.
        endings: Tenants that were removed although they had our finalizer.
        farewells: Who backs up what is about to be destroyed.
        trials: Which backups are just being restored on trial.
        verdicts: What the last passes over the tenants found out.
        rehearsal: Nothing of what is done here is really done, and must not be told as done.
    """

    settings: Settings
    management: Kube
    live: LiveObjects
    ledger: Ledger
    targets: Targets
    servers: Servers
    own_servers: OwnServers
    clock: Clock
    dns: Dns
    events: Events
    wake: Wake
    token: Callable[[], str]
    certificate: Callable[[Sequence[str]], ServerCertificate]
    jitter: Callable[[float], float]
    copier: DatabaseCopier
    contention: Contention = field(default_factory=Contention)
    endings: Endings = field(default_factory=Endings)
    farewells: Farewells = field(default_factory=Farewells)
    trials: Trials = field(default_factory=Trials)
    verdicts: Verdicts = field(default_factory=Verdicts)
    rehearsal: bool = False
