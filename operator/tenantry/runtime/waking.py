"""Which keys a change wakes: the object itself, and whatever depends on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tenantry.api.names import ANNOTATION_DRY_RUN
from tenantry.api.resources import (
    BACKUP_STORES,
    CLUSTERS,
    CONTROLLER_REVISIONS,
    DATABASE_SERVERS,
    NAMESPACES,
    SECRETS,
    TENANT_PLANS,
    TENANT_RECORDS,
    TENANTS,
    Ref,
    Resource,
)
from tenantry.api.tenantplan import DEFAULT_PLAN
from tenantry.api.tenantrecord import RecordState
from tenantry.ports.kube import LiveObjects
from tenantry.ports.world import Json
from tenantry.reconcile.ledger import Entry, Ledger
from tenantry.runtime.management import Change
from tenantry.runtime.queue import WorkQueue

COUNTER_SECONDS: Final = 30.0


class Waker:
    """Implements `tenantry.ports.world.Wake`, and knows what hangs on what.

    Attributes:
        live: The cache of the management cluster; set once that is made.
    """

    live: LiveObjects

    def __init__(self, queue: WorkQueue, ledger: Ledger, namespace: str) -> None:
        self._queue = queue
        self._ledger = ledger
        self._namespace = namespace

    # --- Wake -----------------------------------------------------------------------------------------------------
    def wake(self, key: Ref) -> None:
        """See `Wake`."""
        self._queue.add(key)

    def every(self, resource: Resource) -> None:
        """See `Wake`."""
        for body in self.live.all(resource):
            self._queue.add(_ref(resource, body))

    def tenants_of_cluster(self, name: str) -> None:
        """See `Wake`."""
        for tenant in self._tenants():
            entry = self._ledger.of_tenant(tenant)
            if entry is None or name in entry.clusters:
                self._queue.add(tenant)
        self._wake_leaving(lambda entry: name in entry.clusters)

    def tenants_of_server(self, name: str) -> None:
        """See `Wake`."""
        for tenant in self._tenants():
            entry = self._ledger.of_tenant(tenant)
            if (
                entry is None or not entry.server or name in entry.servers
            ):  # one without a database may wait for its first
                self._queue.add(tenant)
        self._wake_leaving(lambda entry: name in entry.servers)

    def plans_of_revisions(self) -> None:
        """At the start: what plans have left that went while nobody looked is found by their revisions."""
        for body in self.live.all(CONTROLLER_REVISIONS):
            self._queue.add(_plan_of(body["metadata"]["name"]))

    # --- changes on the management cluster ------------------------------------------------------------------------
    def changed(self, change: Change) -> None:
        """Wake what a change concerns."""
        ref, body = change.ref, change.body
        match ref.resource:
            case resource if resource == TENANT_RECORDS:
                self._record_changed(ref, body)
            case resource if resource == SECRETS:
                self._secret_changed(ref)
            case resource if resource == CONTROLLER_REVISIONS:
                self._queue.add(_plan_of(ref.name))
            case resource if resource == NAMESPACES:
                self._wake_tenants(lambda tenant: tenant["metadata"]["namespace"] == ref.name)
            case _:
                self._queue.add(ref)
                self._dependants(change)

    def _dependants(self, change: Change) -> None:
        ref = change.ref
        if ref.resource == TENANTS:
            record = self._ledger.record_of(ref)
            if change.body is None and record is not None:
                self._queue.add(Ref(TENANT_RECORDS, "", record))
            if change.body is None or change.new_generation:
                self._count_tenants()
            return
        if not change.new_generation and change.body is not None:
            return  # only a new spec, or the object's end, reaches those that depend on it
        if ref.resource == CLUSTERS:
            self.tenants_of_cluster(ref.name)
        elif ref.resource == DATABASE_SERVERS:
            self.tenants_of_server(ref.name)
        elif ref.resource == TENANT_PLANS:
            self._wake_tenants(
                lambda tenant: any((spec.get("plan") or DEFAULT_PLAN) == ref.name for spec in self._specs_of(tenant))
            )

    def _count_tenants(self) -> None:
        """Plans say how many tenants they have; clusters and servers are looked at often enough anyway."""
        for body in self.live.all(TENANT_PLANS):
            self._queue.add_after(_ref(TENANT_PLANS, body), COUNTER_SECONDS)

    def _record_changed(self, ref: Ref, body: Json | None) -> None:
        former, entry = self._ledger.tenant_of(ref.name), self._ledger.entry(ref.name)
        self._ledger.note(ref.name, body)
        if body is None and entry is not None and entry.plan is not None:
            self._queue.add(Ref(TENANT_PLANS, "", entry.plan.name))  # its slot is free
        tenant = self._ledger.tenant_of(ref.name) or former
        self._queue.add(ref)
        if tenant is not None:
            self._queue.add(tenant)

    def _secret_changed(self, ref: Ref) -> None:
        if ref.namespace == self._namespace:
            self._platform_secret_changed(ref.name)
            return
        self._wake_tenants(
            lambda tenant: (
                tenant["metadata"]["namespace"] == ref.namespace
                and any(ref.name in _secrets_of(spec) for spec in self._specs_of(tenant))
            )
        )

    def _platform_secret_changed(self, name: str) -> None:
        for body in self.live.all(CLUSTERS):
            if (body["spec"].get("kubeconfigSecretRef") or {}).get("name") == name:
                self._queue.add(_ref(CLUSTERS, body))
        for body in self.live.all(DATABASE_SERVERS):
            references = (body["spec"].get(field) or {} for field in ("adminSecretRef", "caSecretRef"))
            if any(reference.get("name") == name for reference in references):
                self._queue.add(_ref(DATABASE_SERVERS, body))
        for body in self.live.all(BACKUP_STORES):
            spec = body["spec"]
            references = (spec.get(field) or {} for field in ("credentialsSecretRef", "signingSecretRef"))
            encryption = (spec.get("encryption") or {}).get("secretRef") or {}
            if encryption.get("name") == name or any(reference.get("name") == name for reference in references):
                self._queue.add(_ref(BACKUP_STORES, body))

    # --- changes on a target --------------------------------------------------------------------------------------
    def target_changed(self, _cluster: str, _ref: Ref, tenant_hash: str, _body: Json | None) -> None:
        """Somebody changed one of a tenant's objects on its target."""
        entry = self._ledger.by_hash(tenant_hash)
        if entry is None:
            return
        if entry.state == RecordState.ACTIVE:
            self._queue.add(entry.tenant)
        else:
            self._queue.add(Ref(TENANT_RECORDS, "", entry.record))
            self._queue.add(entry.tenant)  # its Tenant may still be there, and wait for this

    def _wake_leaving(self, concerned: Callable[[Entry], bool]) -> None:
        """Deleted tenants have no Tenant any more: their records are looked after by themselves."""
        for entry in self._ledger.leaving():
            if concerned(entry):
                self._queue.add(Ref(TENANT_RECORDS, "", entry.record))

    def _wake_tenants(self, concerned: Callable[[Json], bool]) -> None:
        for body in self.live.all(TENANTS):
            if concerned(body):
                self._queue.add(_ref(TENANTS, body))

    def _specs_of(self, tenant: Json) -> list[Json]:
        """Its spec; where that may be held, the one that was applied last, too."""
        specs: list[Json] = [tenant["spec"]]
        if ANNOTATION_DRY_RUN in (tenant["metadata"].get("annotations") or {}):
            record = self._ledger.record_of(_ref(TENANTS, tenant))
            body = self.live.get(Ref(TENANT_RECORDS, "", record)) if record is not None else None
            specs.append((body or {}).get("spec", {}).get("lastSpec") or {})
        return specs

    def _tenants(self) -> list[Ref]:
        return [_ref(TENANTS, body) for body in self.live.all(TENANTS)]


def _secrets_of(spec: Json) -> set[str]:
    """The Secrets of its workspace that a Tenant takes something from."""
    sources = [*(spec.get("envFrom") or ()), (spec.get("database") or {}).get("external") or {}]
    names = {source["secretRef"]["name"] for source in sources if "secretRef" in source}
    proxy = (spec.get("proxy") or {}).get("httpSecretRef") or {}
    return names | ({proxy["name"]} if "name" in proxy else set())


def _plan_of(revision: str) -> Ref:
    """The plan of a revision, by its name: `<plan>-<hash>`."""
    return Ref(TENANT_PLANS, "", revision.rpartition("-")[0])


def _ref(resource: Resource, body: Json) -> Ref:
    return Ref(resource, body["metadata"].get("namespace", ""), body["metadata"]["name"])
