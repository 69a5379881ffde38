"""Looks at an installation with the rights of whoever asks: what may not be seen is told, never guessed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, TypeVar
from urllib.parse import urlencode

import orjson

from tenantry.adapters.kube.shape import parsed, path_of
from tenantry.api.crd import crd
from tenantry.api.kinds import ALL_KINDS
from tenantry.api.names import IDENTITY_CONFIG_MAP, LABEL_COMPONENT
from tenantry.api.resources import (
    BACKUP_STORES,
    CLUSTERS,
    CONFIG_MAPS,
    CUSTOM_RESOURCE_DEFINITIONS,
    DATABASE_SERVERS,
    DEPLOYMENTS,
    PODS,
    ROLE_BINDINGS,
    SERVICE_ACCOUNTS,
    TENANT_PLANS,
    TENANT_RECORDS,
    TENANTS,
    Ref,
    Resource,
)
from tenantry.cli import installed, standing
from tenantry.cli.connecting import ManagementClient
from tenantry.cli.findings import Area, Finding, notice, unseen
from tenantry.cli.manifests import MANAGEMENT_RIGHTS, bundled
from tenantry.cli.scrubbing import scrubbed_text
from tenantry.ports.kube import Access, KubeError, NoSuchKindError, NotFoundError
from tenantry.ports.world import Json

T = TypeVar("T")

OPERATOR_LABELS: Final = f"app.kubernetes.io/name=tenantry,{LABEL_COMPONENT}=operator"
PLATFORM: Final = (CLUSTERS, DATABASE_SERVERS, BACKUP_STORES, TENANT_PLANS)
REVIEWS_AT_A_TIME: Final = 8
STREAM_SILENCE: Final = 20.0

_RBAC: Final = "rbac.authorization.k8s.io"
_ADMISSION: Final = "admissionregistration.k8s.io"
_OF_RIGHTS: Final = {
    "ServiceAccount": SERVICE_ACCOUNTS,
    "ClusterRole": Resource(_RBAC, "v1", "ClusterRole", "clusterroles", namespaced=False),
    "ClusterRoleBinding": Resource(_RBAC, "v1", "ClusterRoleBinding", "clusterrolebindings", namespaced=False),
    "Role": Resource(_RBAC, "v1", "Role", "roles"),
    "RoleBinding": ROLE_BINDINGS,
}
_OF_ADMISSION: Final = {
    kind: Resource(_ADMISSION, "v1", kind, plural, namespaced=False)
    for kind, plural in (
        ("ValidatingAdmissionPolicy", "validatingadmissionpolicies"),
        ("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings"),
    )
}
_REVIEWS: Final = "/apis/authorization.k8s.io/v1/subjectaccessreviews"


class Inspector(ManagementClient):
    """A person at the management cluster who looks, and writes nothing."""

    async def may(self, access: Access, namespace: str) -> bool:
        """Whether the operator has a right. Raises ForbiddenError where the person may not ask."""
        body = orjson.dumps(installed.review(access, namespace))
        answer = parsed(await self._transport.request("POST", _REVIEWS, body))
        return bool((answer.get("status") or {}).get("allowed"))

    def log(self, pod: Ref, container: str, *, previous: bool) -> AsyncIterator[bytes]:
        """The log of a container, from its beginning, piece by piece."""
        query = urlencode({"container": container, "previous": str(previous).lower()})
        return self._transport.stream(f"{path_of(pod, 'log')}?{query}", silence=STREAM_SILENCE)

    async def metrics(self, pod: Ref, port: int, *, limit: int) -> bytes:
        """What a pod answers to GET /metrics, by way of the API server; at most `limit` bytes."""
        proxy = pod.resource.path(pod.namespace, f"{pod.name}:{port}", "proxy")
        return await self._transport.request("GET", f"{proxy}/metrics", limit=limit)


@dataclass(frozen=True, slots=True)
class Scope:
    """What is to be looked at.

    Attributes:
        namespace: The operator's own.
        workspaces: Only tenants of these; empty for all.
        pods: Whether the operator runs in pods of this cluster.
    """

    namespace: str
    workspaces: tuple[str, ...] = ()
    pods: bool = True


@dataclass(slots=True)
class Inspection:
    """One look at an installation.

    Attributes:
        findings: What was found so far.
    """

    client: Inspector
    scope: Scope
    findings: list[Finding] = field(default_factory=list)

    async def carry_out(self) -> list[Finding]:
        """Look at everything.

        Raises:
            KubeError: the API server does not answer, or does not know who asks.
        """
        now = await self.client.now()
        await self.client.version()
        manifests = [installed.placed(each, self.scope.namespace) for each in bundled(MANAGEMENT_RIGHTS)]
        await self._kinds()
        await self._admission(manifests)
        await self._rights(manifests)
        await self._operator()
        for kind in PLATFORM:
            if (bodies := await self._all(Area.PLATFORM, kind)) is not None:
                self.findings += standing.of_platform(kind.kind, bodies)
        await self._tenants(now)
        return [
            replace(each, what=scrubbed_text(each.what), message=scrubbed_text(each.message)) for each in self.findings
        ]

    # --- what is installed ------------------------------------------------------------------------------------------
    async def _kinds(self) -> None:
        for packaged in (crd(kind) for kind in ALL_KINDS):
            name = packaged["metadata"]["name"]
            seen, live = await self._one(Area.KINDS, Ref(CUSTOM_RESOURCE_DEFINITIONS, "", name))
            if seen:
                self.findings.append(installed.of_kind(packaged, live))

    async def _admission(self, manifests: Iterable[Json]) -> None:
        for packaged in (each for each in manifests if each["kind"] in _OF_ADMISSION):
            ref = Ref(_OF_ADMISSION[packaged["kind"]], "", packaged["metadata"]["name"])
            seen, live = await self._one(Area.ADMISSION, ref)
            if seen:
                self.findings.append(installed.of_policy(packaged, live))

    async def _rights(self, manifests: Sequence[Json]) -> None:
        sufficient = await self._reviewed(installed.needed(manifests, self.scope.namespace))
        bindings = installed.bound(manifests)
        roles = {(each["roleRef"]["kind"], each["roleRef"]["name"]) for each in bindings}
        for packaged in manifests:
            metadata = packaged["metadata"]
            if (
                packaged["kind"] != "ServiceAccount"
                and packaged not in bindings
                and (packaged["kind"], metadata["name"]) not in roles
            ):
                continue
            ref = Ref(_OF_RIGHTS[packaged["kind"]], metadata.get("namespace", ""), metadata["name"])
            seen, live = await self._one(Area.RIGHTS, ref)
            if seen:
                self.findings.append(installed.of_right_object(packaged, live, sufficient=sufficient))

    async def _reviewed(self, needed: Sequence[Access]) -> bool | None:
        """Whether the operator has all rights; None where that could not be asked."""
        turns = asyncio.Semaphore(REVIEWS_AT_A_TIME)

        async def allowed(access: Access) -> bool:
            async with turns:
                return await self.client.may(access, self.scope.namespace)

        try:
            answers = [await allowed(needed[0]), *await asyncio.gather(*map(allowed, needed[1:]))]
        except KubeError as error:
            self.findings.append(unseen(Area.RIGHTS, "the operator's rights, one by one", error.message))
            return None
        missing = [access for access, yes in zip(needed, answers, strict=True) if not yes]
        self.findings.append(installed.of_rights(len(needed), missing, self.scope.namespace))
        return not missing

    async def _operator(self) -> None:
        namespace = self.scope.namespace
        seen, config_map = await self._one(Area.OPERATOR, Ref(CONFIG_MAPS, namespace, IDENTITY_CONFIG_MAP))
        if seen:
            self.findings.append(standing.of_identity(config_map))
        if not self.scope.pods:
            told = "not looked for (--no-pods): nothing here says whether the operator runs"
            self.findings.append(notice(Area.OPERATOR, "pods", told))
            return
        deployments = await self._all(Area.OPERATOR, DEPLOYMENTS, namespace, OPERATOR_LABELS)
        if deployments is not None:
            self.findings += standing.of_deployments(deployments, namespace)
        if (pods := await self._all(Area.OPERATOR, PODS, namespace, OPERATOR_LABELS)) is not None:
            self.findings += standing.of_pods(pods, namespace)

    # --- what is looked after ---------------------------------------------------------------------------------------
    async def _tenants(self, now: datetime) -> None:
        tenants: list[Json] = []
        complete = True
        for workspace in self.scope.workspaces or ("",):
            found = await self._all(Area.TENANTS, TENANTS, workspace)
            complete = complete and found is not None
            tenants += found or []
        if complete:
            self.findings += standing.of_tenants(tenants, now)
        records = await self._all(Area.RECORDS, TENANT_RECORDS)
        if records is not None and complete:
            chosen = self.scope.workspaces
            records = [each for each in records if not chosen or each["spec"]["workspace"] in chosen]
            self.findings += standing.of_records(records, tenants)

    # --- asking -----------------------------------------------------------------------------------------------------
    async def _one(self, area: Area, ref: Ref) -> tuple[bool, Json | None]:
        """Whether it could be seen, and the object; None where there is none."""
        try:
            return True, await self.client.get(ref)
        except NotFoundError:
            return True, None
        except KubeError as error:
            self.findings.append(unseen(area, str(ref), error.message))
            return False, None

    async def _all(self, area: Area, resource: Resource, namespace: str = "", labels: str = "") -> list[Json] | None:
        """All objects of a kind; None where they could not be seen, which is told."""
        return await self._told(area, f"all {resource.plural}", self._listed(resource, namespace, labels))

    async def _listed(self, resource: Resource, namespace: str, labels: str) -> list[Json]:
        return (await self.client.list(resource, namespace=namespace, labels=labels)).items

    async def _told(self, area: Area, what: str, question: Awaitable[T]) -> T | None:
        try:
            return await question
        except NoSuchKindError:
            self.findings.append(unseen(area, what, "the API server does not know the kind"))
        except KubeError as error:
            self.findings.append(unseen(area, what, error.message))
        return None
