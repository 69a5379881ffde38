"""Claiming hosts on a target: an atomic create each, wildcards and their subdomains kept apart, proof by TXT record."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from tenantry.api.conditions import Reason
from tenantry.api.identity import TenantIdentity, host_claim_name
from tenantry.api.names import (
    ANNOTATION_HOST,
    CLAIM_HOST,
    LABEL_CLAIM,
    SYSTEM_NAMESPACE,
)
from tenantry.api.resources import CONFIG_MAPS, INGRESSES, Ref
from tenantry.decide.conditions import GOOD, Outcome
from tenantry.decide.hosts import HostRefusal, HostWish, covers, proof_name, proof_value, wildcards_over
from tenantry.desired.blueprint import ServedHost
from tenantry.desired.claims import host_claim
from tenantry.desired.stamp import bears_stamp
from tenantry.ports.kube import AlreadyExistsError, NotFoundError, Target
from tenantry.ports.world import Dns, Json

PROOF_RETRY = 60.0
"""Seconds until a TXT record that was not there is looked up again."""
LOOKUPS = 16
"""TXT records that are looked up at the same time for one tenant; each takes a socket."""
CONFLICT_RETRY = 60.0
"""Seconds until a host that another tenant has is tried again."""


@dataclass(frozen=True, slots=True)
class ClaimedHosts:
    """The hosts that the tenant holds, and what is to be said of the others."""

    served: tuple[ServedHost, ...]
    outcome: Outcome


class HostClaims:
    """The host claims of one tenant on its target, for one pass.

    Attributes:
        released: A host that the tenant was served under is free for others now.
    """

    def __init__(self, target: Target, identity: TenantIdentity, dns: Dns, *, default_host: str) -> None:
        self._target = target
        self._default_host = default_host
        self._identity = identity
        self._dns = dns
        self.released = False

    async def claim(self, wishes: Sequence[HostWish], refusals: Sequence[HostRefusal]) -> ClaimedHosts:
        """Claim what is wished for; what can't be had is told and does not stop the rest."""
        served: list[ServedHost] = []
        troubles = [Outcome(False, refusal.reason, refusal.message, terminal=True) for refusal in refusals]
        # Many at once: a DNS server that its owner made slow costs a time-out or two, and not one a host.
        few = asyncio.Semaphore(LOOKUPS)
        proofs = await asyncio.gather(*(self._unproven(wish, few) for wish in wishes))
        for wish, unproven in zip(wishes, proofs, strict=True):
            trouble = unproven or await self._claim_one(wish)
            if trouble is None:
                served.append(ServedHost(wish.host, wish.tls_secret))
            else:
                troubles.append(trouble)
        outcome = next((t for t in troubles if t.terminal), troubles[0] if troubles else GOOD)
        return ClaimedHosts(tuple(served), outcome)

    async def release(self, keep: Sequence[ServedHost], *, namespace: str) -> Outcome:
        """Give back every claim of this tenant but those it serves: after its Ingress no longer names them.

        The admission policies only see writes, so an Ingress that the tenant made itself keeps a withdrawn host; while
        there is one, the claim is kept, or the host would be served by two tenants.
        """
        kept = {host_claim_name(served.host) for served in keep}
        leaving = [live for live in self._own_claims() if live["metadata"]["name"] not in kept]
        if not leaving:
            return GOOD
        listing = await self._target.kube.list(INGRESSES, namespace=namespace)
        named = {host: ingress["metadata"]["name"] for ingress in listing.items for host in _hosts_in(ingress)}
        outcome = GOOD
        for live in leaving:
            host = _host_of(live)
            if host not in named:
                await self._give_back(live)
                self.released = True
                continue
            outcome = Outcome(
                None,
                Reason.HOST_STILL_NAMED,
                f"{host} is no longer this tenant's, but Ingress {named[host]!r} in its namespace still names it; "
                "take it out there",
                retry_after=CONFLICT_RETRY,
            )
        return outcome

    async def _claim_one(self, wish: HostWish) -> Outcome | None:
        ref = Ref(CONFIG_MAPS, SYSTEM_NAMESPACE, host_claim_name(wish.host))
        live = self._target.live.get(ref)
        if live is not None and bears_stamp(live, self._identity):
            if not self._seen_overlapped(wish, live):
                return None
            return _conflict(wish.host)  # the pass that made the claim did not get to look around; `release` ends it
        try:
            with self._target.writing(ref):
                live = await self._target.kube.create(host_claim(self._identity, wish.host))
                self._target.live.observe(live)
        except AlreadyExistsError:
            live = await self._target.kube.get(ref)
            self._target.live.observe(live)
        if not bears_stamp(live, self._identity):
            return _conflict(wish.host)
        if await self._overlapped(wish, live):
            await self._give_back(live)
            return _conflict(wish.host)
        return None

    async def _unproven(self, wish: HostWish, few: asyncio.Semaphore) -> Outcome | None:
        host = wish.host
        live = self._target.live.get(Ref(CONFIG_MAPS, SYSTEM_NAMESPACE, host_claim_name(host)))
        if not wish.needs_proof or (live is not None and bears_stamp(live, self._identity)):
            return None
        name, value = proof_name(host), proof_value(self._identity.tenant_hash)
        try:
            async with few:
                found = value in await self._dns.txt(name)
        except TimeoutError:
            found = False
        if found:
            return None
        return Outcome(
            None,
            Reason.HOST_NOT_VERIFIED,
            f'spec.domains: {host} waits for its proof: make a TXT record {name} with the value "{value}"',
            retry_after=PROOF_RETRY,
        )

    async def _overlapped(self, wish: HostWish, own: Json) -> bool:
        """Whether a wildcard and one of its subdomains are both claimed, and the other claim is the older one.

        Both sides write first and look afterwards, with reads that see every earlier write, so at least one sees the
        other; where both do, the older one keeps its claim.
        """
        if wish.host == self._default_host:
            return False  # it is under the cluster's domain, where no wildcard can be claimed
        others: list[Json] = []
        for wildcard in wildcards_over(wish.host):
            try:
                others.append(
                    await self._target.kube.get(Ref(CONFIG_MAPS, SYSTEM_NAMESPACE, host_claim_name(wildcard)))
                )
            except NotFoundError:
                continue
        if wish.host.startswith("*."):
            listing = await self._target.kube.list(
                CONFIG_MAPS, namespace=SYSTEM_NAMESPACE, labels=f"{LABEL_CLAIM}={CLAIM_HOST}"
            )
            others += [claim for claim in listing.items if covers(wish.host, _host_of(claim))]
        return self._outranked(others, own)

    def _seen_overlapped(self, wish: HostWish, own: Json) -> bool:
        """As `_overlapped`, by what the watches have seen: for a claim that is not new, and at no cost."""
        if wish.host == self._default_host:
            return False
        names = [host_claim_name(wildcard) for wildcard in wildcards_over(wish.host)]
        seen = [self._target.live.get(Ref(CONFIG_MAPS, SYSTEM_NAMESPACE, name)) for name in names]
        others = [claim for claim in seen if claim is not None]
        if wish.host.startswith("*."):
            others += [claim for claim in self._target.live.all(CONFIG_MAPS) if covers(wish.host, _host_of(claim))]
        return self._outranked(others, own)

    def _outranked(self, others: Sequence[Json], own: Json) -> bool:
        return any(_created(claim) < _created(own) for claim in others if not bears_stamp(claim, self._identity))

    async def _give_back(self, live: Json) -> None:
        metadata = live["metadata"]
        ref = Ref(CONFIG_MAPS, SYSTEM_NAMESPACE, metadata["name"])
        with self._target.writing(ref):
            await self._target.kube.delete(ref, uid=metadata["uid"])
            self._target.live.forget(ref, uid=metadata["uid"])

    def _own_claims(self) -> list[Json]:
        return [
            live
            for live in self._target.live.of_tenant(self._identity.tenant_hash)
            if live["metadata"].get("labels", {}).get(LABEL_CLAIM) == CLAIM_HOST and bears_stamp(live, self._identity)
        ]


def _conflict(host: str) -> Outcome:
    """Does not say whose it is: that is another customer's business."""
    return Outcome(
        False,
        Reason.HOSTNAME_CONFLICT,
        f"{host} is taken by another tenant of this cluster, or overlaps with a host of one; choose another",
        terminal=True,
        retry_after=CONFLICT_RETRY,
    )


def _hosts_in(ingress: Json) -> set[str]:
    spec = ingress.get("spec", {})
    hosts = {rule.get("host", "") for rule in spec.get("rules") or ()}
    return hosts | {host for tls in spec.get("tls") or () for host in tls.get("hosts") or ()}


def _host_of(claim: Json) -> str:
    return str(claim["metadata"].get("annotations", {}).get(ANNOTATION_HOST, ""))


def _created(claim: Json) -> tuple[str, int]:
    """When a claim came about: by the second, and within it in etcd's order."""
    metadata = claim["metadata"]
    return metadata["creationTimestamp"], int(metadata["resourceVersion"])
