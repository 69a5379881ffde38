"""Cluster: from a kubeconfig to a target that tenants can be placed on: probed, identified, kept apart."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from tenantry.api.cluster import Cluster, ClusterStatus
from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.names import (
    ANNOTATION_ACCEPT_IDENTITY,
    ANNOTATION_REQUESTED_AT,
    CLUSTER_FINALIZER,
    OPERATOR_ROLE_BINDING,
)
from tenantry.api.resources import CLUSTERS, NAMESPACES, ROLE_BINDINGS, SECRETS, TENANT_RECORDS, Ref
from tenantry.api.tenantrecord import TenantRecord
from tenantry.decide.conditions import GOOD, PENDING, Outcome
from tenantry.decide.move import repinned
from tenantry.decide.permissions import needed_rights, needed_rights_in
from tenantry.ports.kube import (
    Access,
    ClusterFacts,
    CredentialsRefusedError,
    ForbiddenError,
    KubeError,
    Target,
    UnauthorizedError,
)
from tenantry.ports.world import Availability
from tenantry.reconcile.exclusive import sweep
from tenantry.reconcile.platform import Counters, availability_of, conditions_of, set_finalizer
from tenantry.reconcile.records import swap
from tenantry.reconcile.recovery import recover_records
from tenantry.reconcile.result import Result
from tenantry.reconcile.status import write_status
from tenantry.reconcile.world import World

logger = logging.getLogger(__name__)

SYNC_PATIENCE = 20.0
IN_USE_RETRY = 30.0
BINDING_SETTLED = timedelta(minutes=1)
"""How old a RoleBinding has to be before what a review says of it is believed: RBAC lags behind."""


@dataclass(frozen=True, slots=True)
class _Connected:
    target: Target | None
    facts: ClusterFacts | None


class ClusterReconciler:
    """Reconciles Clusters: one connection each, judged anew on every pass."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._counters = Counters()
        self._needed = tuple(Access(*right) for right in needed_rights())
        self._fully_probed: dict[str, float] = {}
        self._told: dict[str, Availability] = {}
        self._recovered: dict[str, float] = {}

    async def reconcile(self, key: Ref) -> Result:
        """One pass over one Cluster."""
        body = self._world.live.get(key)
        if body is None:
            await self._world.targets.disconnect(key.name)
            self._world.ledger.await_records(key.name, {})
            return Result()
        cluster = Cluster.model_validate(body)
        if cluster.metadata.deletion_timestamp:
            return await self._delete(key, cluster)
        await set_finalizer(self._world, key, cluster.metadata, CLUSTER_FINALIZER, present=True)
        outcomes: dict[ConditionType, Outcome] = {
            ConditionType.CREDENTIALS_VALID: PENDING,
            ConditionType.REACHABLE: PENDING,
            ConditionType.PERMISSIONS_SUFFICIENT: PENDING,
        }
        known = self._world.targets.get(cluster.name)
        outage = known is not None and not known.availability.ok
        connected = await self._examine(cluster, outcomes)
        if connected.target is not None and connected.facts is not None and availability_of(outcomes).ok:
            await self._recover(connected.target)
            await self._sweep(connected.target)
        self._judge(cluster, connected.target, outcomes, outage=outage)
        return await self._report(key, cluster, connected, outcomes)

    async def _examine(self, cluster: Cluster, outcomes: dict[ConditionType, Outcome]) -> _Connected:
        target = await self._connect(cluster, outcomes)
        if target is None:
            return _Connected(None, None)
        try:
            facts = await self._probe(target, cluster)
        except UnauthorizedError as error:
            outcomes[ConditionType.REACHABLE] = GOOD
            outcomes[ConditionType.CREDENTIALS_VALID] = Outcome(
                False, Reason.UNAUTHORIZED, error.message, terminal=True
            )
            return _Connected(target, None)
        except ForbiddenError as error:
            outcomes[ConditionType.REACHABLE] = GOOD
            outcomes[ConditionType.PERMISSIONS_SUFFICIENT] = _permissions_missing(error.message)
            return _Connected(target, None)
        except KubeError as error:
            outcomes[ConditionType.REACHABLE] = Outcome(None, Reason.UNREACHABLE, error.message)
            return _Connected(target, target.facts)
        outcomes[ConditionType.REACHABLE] = GOOD
        if facts.missing:
            listed = "; ".join(str(access) for access in facts.missing)
            outcomes[ConditionType.PERMISSIONS_SUFFICIENT] = _permissions_missing(f"missing: {listed}")
            return _Connected(target, facts)
        outcomes[ConditionType.PERMISSIONS_SUFFICIENT] = GOOD
        await self._identify(cluster, facts, outcomes)
        if outcomes[ConditionType.REACHABLE].status and not await target.sync(SYNC_PATIENCE):
            outcomes[ConditionType.REACHABLE] = Outcome(
                None, Reason.PROBING, "what is on the cluster has not been listed yet", retry_after=1.0
            )
        return _Connected(target, facts)

    async def _connect(self, cluster: Cluster, outcomes: dict[ConditionType, Outcome]) -> Target | None:
        reference = cluster.spec.kubeconfig_secret_ref
        data = None
        if reference is not None:
            secret = self._world.live.get(Ref(SECRETS, self._world.settings.namespace, reference.name))
            if secret is None:
                outcomes[ConditionType.CREDENTIALS_VALID] = Outcome(
                    None,
                    Reason.SECRET_NOT_FOUND,
                    f"spec.kubeconfigSecretRef: there is no Secret {reference.name!r} in the operator's namespace "
                    f"{self._world.settings.namespace!r}",
                )
                await self._world.targets.disconnect(cluster.name)
                return None
            data = secret.get("data") or {}
        try:
            target = await self._world.targets.connect(cluster.name, data, reference.key if reference else None)
        except CredentialsRefusedError as error:
            outcomes[ConditionType.CREDENTIALS_VALID] = Outcome(
                False, Reason.KUBECONFIG_INVALID, f"{error.reason}: {error.message}", terminal=True
            )
            await self._world.targets.disconnect(cluster.name)
            return None
        except KubeError as error:
            outcomes[ConditionType.CREDENTIALS_VALID] = GOOD
            outcomes[ConditionType.REACHABLE] = Outcome(None, Reason.UNREACHABLE, error.message)
            return None
        outcomes[ConditionType.CREDENTIALS_VALID] = GOOD
        return target

    async def _probe(self, target: Target, cluster: Cluster) -> ClusterFacts:
        """Ask for all rights now and then and on request, otherwise only whether it answers and who it is."""
        now = self._world.clock.monotonic()
        asked = cluster.metadata.annotations.get(ANNOTATION_REQUESTED_AT) != cluster.status.last_handled_reconcile_at
        due = asked or self._fully_probed.get(target.name, 0.0) <= now
        due = due or target.facts is None or bool(target.facts.missing)
        facts = await target.probe((*self._needed, *self._needed_inside(target)) if due else ())
        if due and not facts.missing:
            self._fully_probed[target.name] = now + self._world.settings.full_probe
        return facts

    def _needed_inside(self, target: Target) -> tuple[Access, ...]:
        """The rights in one tenant's namespace, in which the operator's binding has been long enough for RBAC."""
        horizon = self._world.clock.now() - BINDING_SETTLED
        for binding in target.live.all(ROLE_BINDINGS):
            metadata = binding["metadata"]
            if metadata["name"] != OPERATOR_ROLE_BINDING or metadata.get("deletionTimestamp"):
                continue
            namespace = target.live.get(Ref(NAMESPACES, "", metadata["namespace"]))
            if namespace is None or namespace["metadata"].get("deletionTimestamp"):
                continue
            if datetime.fromisoformat(metadata["creationTimestamp"]) < horizon:
                return tuple(Access(*right) for right in needed_rights_in(metadata["namespace"]))
        return ()

    async def _recover(self, target: Target) -> None:
        """Before tenants may use it, and now and then: records for what is there without one."""
        now = self._world.clock.monotonic()
        if self._recovered.get(target.name, 0.0) > now:
            return
        try:
            if await recover_records(self._world, target):
                self._recovered[target.name] = now + self._world.settings.full_probe
        except KubeError as error:
            logger.warning("Cluster %s: lost records could not be made anew: %s", target.name, error.message)

    async def _sweep(self, target: Target) -> None:
        try:
            await sweep(self._world, target)
        except KubeError as error:
            logger.warning("Cluster %s: a claim of all of it could not be given back: %s", target.name, error.message)

    async def _identify(self, cluster: Cluster, facts: ClusterFacts, outcomes: dict[ConditionType, Outcome]) -> None:
        """The same cluster is registered once, and a name goes on standing for the cluster it stood for."""
        twin = self._older_twin(cluster, facts)
        if twin is not None:
            outcomes[ConditionType.REACHABLE] = Outcome(
                False,
                Reason.DUPLICATE_CLUSTER,
                f"this is the cluster that {twin!r} stands for already (id {facts.cluster_id}); delete one of the two",
                terminal=True,
            )
            return
        foreign = self._world.ledger.cluster_ids(cluster.name) - {facts.cluster_id}
        if foreign and cluster.accepted_identity != facts.cluster_id:
            outcomes[ConditionType.REACHABLE] = Outcome(
                False,
                Reason.IDENTITY_CHANGED,
                f"the kubeconfig now leads to cluster {facts.cluster_id}, but tenants are on "
                f"{', '.join(sorted(foreign))}; set the kubeconfig back, or accept it by the annotation "
                f"{ANNOTATION_ACCEPT_IDENTITY}={facts.cluster_id}",
                terminal=True,
            )
        elif foreign:
            await self._repin(cluster.name, facts.cluster_id)

    async def _repin(self, name: str, cluster_id: str) -> None:
        swapped = False
        for body in self._world.live.all(TENANT_RECORDS):
            record = TenantRecord.model_validate(body)
            if change := repinned(record.spec, "cluster", name, cluster_id):
                await swap(self._world, record, change)
                swapped = True
        if swapped:
            self._world.wake.tenants_of_cluster(name)

    def _older_twin(self, cluster: Cluster, facts: ClusterFacts) -> str | None:
        """The name of another Cluster for the same cluster, that has tenants or was registered before."""
        for target in self._world.targets.all():
            if target.name == cluster.name or target.facts is None or target.facts.cluster_id != facts.cluster_id:
                continue
            body = self._world.live.get(Ref(CLUSTERS, "", target.name))
            if body is not None and _seniority(body["metadata"]) < _seniority(
                {"creationTimestamp": cluster.metadata.creation_timestamp, "name": cluster.name}
            ):
                return target.name
        return None

    def _judge(
        self, cluster: Cluster, target: Target | None, outcomes: dict[ConditionType, Outcome], *, outage: bool
    ) -> None:
        """Tell the connection, and wake the tenants when that changes what they can do.

        An outage may have begun and ended between two probes: the breaker is opened by the tenants' own requests.
        """
        told = self._told.get(cluster.name)
        now = availability_of(outcomes)
        if target is not None:
            if now.reason != Reason.UNREACHABLE or not target.availability.ok:
                target.judge(now)
            # else: one probe that failed is no outage; the breaker counts them
            now = target.availability
        self._told[cluster.name] = now
        if told != now or (outage and now.ok):
            self._world.wake.tenants_of_cluster(cluster.name)

    async def _report(
        self, key: Ref, cluster: Cluster, connected: _Connected, outcomes: dict[ConditionType, Outcome]
    ) -> Result:
        world, facts = self._world, connected.facts
        count, later = self._counters.report(
            key, cluster.status.tenants, world.ledger.tenants_on_cluster(cluster.name), world.clock.now()
        )
        status = ClusterStatus(
            observed_generation=cluster.metadata.generation,
            conditions=conditions_of(
                world,
                key,
                outcomes,
                ready_message="tenants can be placed here" if not cluster.spec.unschedulable else "unschedulable",
                previous=cluster.status.conditions,
                generation=cluster.metadata.generation,
            ),
            cluster_id=facts.cluster_id if facts else cluster.status.cluster_id,
            version=facts.version if facts else cluster.status.version,
            tenants=count,
            last_handled_reconcile_at=cluster.metadata.annotations.get(ANNOTATION_REQUESTED_AT),
        )
        await write_status(world.management, world.live, key, status)
        times = [world.settings.probe, *([later] if later else [])]
        times += [outcome.retry_after for outcome in outcomes.values() if outcome.retry_after is not None]
        return Result(requeue_after=min(times))

    async def _delete(self, key: Ref, cluster: Cluster) -> Result:
        """Let go of the cluster, once no tenant is on it."""
        count = self._world.ledger.tenants_on_cluster(cluster.name)
        if count:
            outcome = Outcome(
                None,
                Reason.IN_USE,
                f"it is let go when the tenants on it ({count}) are deleted or moved",
            )
            status = cluster.status.model_copy(
                update={
                    "observed_generation": cluster.metadata.generation,
                    "tenants": count,
                    "conditions": conditions_of(
                        self._world,
                        key,
                        {ConditionType.REACHABLE: outcome},
                        ready_message="",
                        previous=cluster.status.conditions,
                        generation=cluster.metadata.generation,
                    ),
                }
            )
            await write_status(self._world.management, self._world.live, key, status)
            return Result(requeue_after=IN_USE_RETRY)
        await self._world.targets.disconnect(cluster.name)
        await set_finalizer(self._world, key, cluster.metadata, CLUSTER_FINALIZER, present=False)
        return Result()


def _permissions_missing(what: str) -> Outcome:
    return Outcome(
        False,
        Reason.PERMISSIONS_MISSING,
        f"the kubeconfig's user has too few rights: {what}. Apply deploy/target-rbac.yaml on the target",
        terminal=True,
    )


def _seniority(metadata: dict[str, str]) -> tuple[str, str]:
    return metadata["creationTimestamp"], metadata["name"]
