"""The first half of `tenantry cluster join`: look at both clusters and refuse what can't work, before any write."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from tenantry.adapters.kube.addresses import AddressReason, AddressRefused, resolve_all
from tenantry.adapters.kube.kubeconfig import SECRET_KEYS, TargetCredentials, parse_kubeconfig
from tenantry.adapters.kube.refusal import KubeconfigRefused
from tenantry.api.names import ANNOTATION_ACCEPT_IDENTITY
from tenantry.api.resources import CLUSTERS, CONFIG_MAPS, NAMESPACES, SECRETS, Ref
from tenantry.cli.contexts import Context
from tenantry.cli.person import PersonClient
from tenantry.desired import joining
from tenantry.ports.kube import ForbiddenError, Kube, KubeError, NotFoundError, UnauthorizedError, UnreachableError
from tenantry.ports.world import Json

HIDDEN: Final = "a-token-that-the-target-makes"
"""Stands for the token where there is none yet, or none is to be seen."""


class JoinError(Exception):
    """The join can't go on; the message is one line for the person."""


@dataclass(frozen=True, slots=True)
class Order:
    """What the person asked for.

    Attributes:
        name: Of the Cluster.
        namespace: The operator's, on the management cluster.
        server: The API server as the operator reaches it; None: as the person does.
        token_seconds: How long the token holds; None: until it is deleted.
        patience: Seconds to wait for Ready; 0 for not at all.
    """

    name: str
    namespace: str
    server: str | None
    wishes: joining.Wishes
    token_seconds: int | None
    patience: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What was found out before anything is written.

    Attributes:
        order: What it is for.
        joined_by: The UID of the management cluster.
        target_id: The UID of the target.
        existing: The Cluster, if it is registered already.
        place: The name of the kubeconfig's Secret, and the key in it.
        server: The API server as the operator reaches it.
        ca_pem: What the target's API server is proven by.
    """

    order: Order
    joined_by: str
    target_id: str
    existing: Json | None
    place: tuple[str, str]
    server: str
    ca_pem: bytes
    tls_server_name: str | None

    def kubeconfig(self, token: str) -> str:
        """The kubeconfig with this token."""
        return joining.kubeconfig(
            self.order.name,
            server=self.server,
            ca_pem=self.ca_pem,
            token=token,
            tls_server_name=self.tls_server_name,
        )

    def secret(self, kubeconfig: str) -> Json:
        """The Secret with the kubeconfig."""
        name, key = self.place
        return joining.kubeconfig_secret(name, self.order.namespace, key, kubeconfig)

    async def register(self, management: PersonClient, requested_at: str, *, dry: bool = False) -> Json:
        """Make the Cluster, or change what the flags say of the one that is there."""
        order = self.order
        if self.existing is None:
            return await management.put(CLUSTERS, joining.cluster_manifest(order.name, order.wishes), dry=dry)
        patch = joining.cluster_patch(order.wishes, requested_at)
        return await management.amend(Ref(CLUSTERS, "", order.name), patch, dry=dry)


@contextlib.contextmanager
def asking(what: str, *, missing: str = "") -> Iterator[None]:
    """Whatever an API server refuses inside leaves as a JoinError that says which one it was; `missing` for a 404."""
    try:
        yield
    except NotFoundError as error:
        raise JoinError(missing or f"{what}: {error.message}") from None
    except UnauthorizedError as error:
        raise JoinError(f"{what} does not accept your credentials: {error.message}") from None
    except ForbiddenError as error:
        raise JoinError(f"{what} does not let you: {error.message}") from None
    except UnreachableError as error:
        raise JoinError(f"{what} can't be used: {error.message}") from None
    except KubeError as error:
        raise JoinError(f"{what} refused: {error.message}") from None


class Survey:
    """What is there on both sides.

    Args:
        context: The target's context, as the person has it.
        say: Told of progress, in one line.
    """

    def __init__(
        self, order: Order, context: Context, target: PersonClient, management: PersonClient, say: Callable[[str], None]
    ) -> None:
        self._order = order
        self._context = context
        self._target = target
        self._management = management
        self._say = say
        self._here = f"the target (context {context.name!r}, {target.server})"
        self._there = f"the management cluster ({management.server})"

    async def plan(self) -> Plan:
        """Look at both clusters; everything that can be refused is refused now, before anything is written.

        Raises:
            JoinError: with what is wrong.
        """
        with asking(self._here):
            target_id = await cluster_id(self._target)
            version = await self._target.version()
        with asking(self._there):
            joined_by = await cluster_id(self._management)
        if target_id == joined_by:
            message = (
                f"context {self._context.name!r} is the management cluster itself: apply deploy/target-rbac.yaml there "
                "and register it by a Cluster without kubeconfigSecretRef"
            )
            raise JoinError(message)
        if joining.too_old(version):
            raise JoinError(f"{self._here} is Kubernetes {version}: 1.30 is the oldest that has admission policies")
        existing = await self._registered(target_id)
        plan = Plan(
            order=self._order,
            joined_by=joined_by,
            target_id=target_id,
            existing=existing,
            place=await self._place(existing),
            server=self._order.server or self._context.server,
            ca_pem=await self._authority(),
            tls_server_name=self._context.tls_server_name,
        )
        await self._check_address(credentials_of(plan.kubeconfig(HIDDEN)))
        await self._rehearse(plan)
        return plan

    async def _registered(self, target_id: str) -> Json | None:
        """The Cluster of this name, after a look at who else stands for this target."""
        missing = f"{self._there} does not know Clusters: tenantry crds | kubectl apply --server-side -f -"
        with asking(self._there, missing=missing):
            listing = await self._management.list(CLUSTERS)
        by_name = {body["metadata"]["name"]: body for body in listing.items}
        for name, body in by_name.items():
            if name != self._order.name and (body.get("status") or {}).get("clusterId") == target_id:
                raise JoinError(f"{self._here} is registered already, as Cluster {name!r}: join it by that name")
        existing = by_name.get(self._order.name)
        if existing is not None:
            self._check_identity(existing, target_id)
        return existing

    def _check_identity(self, existing: Json, target_id: str) -> None:
        """A name goes on standing for the cluster it stood for, unless somebody said otherwise."""
        name, known = self._order.name, (existing.get("status") or {}).get("clusterId")
        accepted = (existing["metadata"].get("annotations") or {}).get(ANNOTATION_ACCEPT_IDENTITY)
        if known and target_id not in {known, accepted}:
            message = (
                f"Cluster {name!r} stands for another cluster (id {known}), {self._here} has id {target_id}: choose "
                f"another name, or if it is that one made anew: kubectl annotate tcl {name} "
                f"{ANNOTATION_ACCEPT_IDENTITY}={target_id}"
            )
            raise JoinError(message)

    async def _place(self, existing: Json | None) -> tuple[str, str]:
        """The Secret and the key where the kubeconfig belongs."""
        if existing is None:
            return joining.secret_name(self._order.name), joining.KUBECONFIG_KEY
        reference = existing["spec"].get("kubeconfigSecretRef")
        if reference is None:
            message = f"Cluster {self._order.name!r} stands for the management cluster itself: choose another name"
            raise JoinError(message)
        with asking(self._there), contextlib.suppress(NotFoundError):
            secret = await self._management.get(Ref(SECRETS, self._order.namespace, reference["name"]))
            return joining.kubeconfig_place(reference, secret.get("data") or {}, SECRET_KEYS)
        return joining.kubeconfig_place(reference, {}, SECRET_KEYS)

    async def _authority(self) -> bytes:
        """The target's CA: what the person trusts, or else what the target tells its own pods."""
        encoded = self._context.authority()
        if encoded is not None:
            try:
                return base64.b64decode("".join(encoded.split()), validate=True)
            except ValueError:
                message = f"context {self._context.name!r}: certificate-authority-data is not base64"
                raise JoinError(message) from None
        with asking(f"{self._here}: its ConfigMap kube-root-ca.crt"):
            config_map = await self._target.get(Ref(CONFIG_MAPS, "kube-system", "kube-root-ca.crt"))
        return str((config_map.get("data") or {}).get("ca.crt") or "").encode()

    async def _check_address(self, credentials: TargetCredentials) -> None:
        try:
            await resolve_all(credentials.host, credentials.port, allow_loopback=False)
        except AddressRefused as refused:
            if refused.reason != AddressReason.LOOPBACK:
                raise JoinError(f"the operator would not dial it: {refused.message}") from None
            self._say(
                f"warning: {credentials.server} is on this machine: the operator needs --allow-loopback-targets, or "
                "give --server with an address that it can reach"
            )
        except UnreachableError:
            return  # dialling it will tell, and what that means depends on who chose the address

    async def _rehearse(self, plan: Plan) -> None:
        """Have the management cluster check what it will be given, without storing it."""
        missing = (
            f"{self._there} has no namespace {self._order.namespace!r}: apply deploy/management-rbac.yaml, or say by "
            "--namespace where the operator is"
        )
        with asking(self._there, missing=missing):
            await self._management.put(SECRETS, plan.secret(HIDDEN), dry=True)
            await plan.register(self._management, "", dry=True)


def credentials_of(kubeconfig: str) -> TargetCredentials:
    """What the operator will make of a kubeconfig.

    Raises:
        JoinError: if it would refuse it.
    """
    try:
        return parse_kubeconfig(kubeconfig, now=datetime.now(UTC))
    except KubeconfigRefused as refused:
        raise JoinError(f"the operator would not take the target's kubeconfig: {refused.message}") from None


async def cluster_id(kube: Kube) -> str:
    """Who a cluster is."""
    return str((await kube.get(Ref(NAMESPACES, "", "kube-system")))["metadata"]["uid"])
