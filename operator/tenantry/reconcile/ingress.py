"""Whether a tenant's Ingress is ready: stored, of a class that exists, with an address where that is asked for."""

from __future__ import annotations

from tenantry.api.conditions import Reason
from tenantry.api.names import INGRESS, INGRESS_OWN_CERTIFICATES
from tenantry.api.resources import INGRESS_CLASSES, INGRESSES, Ref
from tenantry.decide.conditions import Outcome
from tenantry.desired.blueprint import Blueprint
from tenantry.ports.kube import NotFoundError, Target
from tenantry.ports.world import Clock

CLASS_SEEN = 60.0
"""Seconds for which an IngressClass that was seen is taken to be there still."""
CLASS_RETRY = 30.0


class IngressReadiness:
    """Looks at Ingresses; remembers for a minute which classes exist."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: dict[tuple[str, str], float] = {}

    async def outcome(self, target: Target, blueprint: Blueprint, hosts: Outcome) -> Outcome:
        """How it stands; trouble with a host goes before everything else."""
        settings = blueprint.cluster.ingress
        if hosts.status is not True:
            return hosts
        if settings is None or not blueprint.spec.ingress.enabled:
            return Outcome(True, Reason.NOT_WANTED, "no ingress is asked for")
        if not blueprint.hosts:
            return Outcome(True, Reason.NO_DOMAIN, "the cluster has no domain, and spec.domains is empty")
        class_name = settings.class_name or ""
        if not await self._class_exists(target, class_name):
            return Outcome(
                None,
                Reason.INGRESS_CLASS_NOT_FOUND,
                f"there is no IngressClass {class_name!r} on the target; install the ingress controller",
                retry_after=CLASS_RETRY,
            )
        if settings.readiness == "Address" and not _address(target, blueprint.namespace):
            return Outcome(None, Reason.ADDRESS_PENDING, "the ingress controller has not published an address yet")
        return Outcome(True, Reason.READY, blueprint.url)

    async def _class_exists(self, target: Target, name: str) -> bool:
        key = target.name, name
        if self._seen.get(key, 0.0) > self._clock.monotonic():
            return True
        try:
            await target.kube.get(Ref(INGRESS_CLASSES, "", name))
        except NotFoundError:
            self._seen.pop(key, None)
            return False
        self._seen[key] = self._clock.monotonic() + CLASS_SEEN
        return True


def _address(target: Target, namespace: str) -> bool:
    """Whether every Ingress of the tenant has one."""
    made = (target.live.get(Ref(INGRESSES, namespace, name)) for name in (INGRESS, INGRESS_OWN_CERTIFICATES))
    statuses = [live.get("status", {}).get("loadBalancer", {}).get("ingress") or [] for live in made if live]
    return bool(statuses) and all(
        any(entry.get("ip") or entry.get("hostname") for entry in addresses) for addresses in statuses
    )
