"""What goes into a support bundle, file by file; Secrets are not asked for, the rest is scrubbed."""

from __future__ import annotations

import asyncio
import platform
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final, cast

from tenantry import __version__
from tenantry.api.kinds import ALL_KINDS
from tenantry.api.names import GROUP, VERSION
from tenantry.api.resources import (
    CUSTOM_RESOURCE_DEFINITIONS,
    DEPLOYMENTS,
    EVENTS,
    PODS,
    TENANT_RECORDS,
    Ref,
    Resource,
)
from tenantry.cli.archive import MEGABYTE, Archive
from tenantry.cli.findings import as_report, as_text
from tenantry.cli.inspecting import OPERATOR_LABELS, Inspection, Inspector, Scope
from tenantry.cli.installed import fields_of
from tenantry.cli.manifests import as_json
from tenantry.cli.scrubbing import scrubbed, scrubbed_log, scrubbed_text
from tenantry.cli.standing import version_of
from tenantry.ports.kube import KubeError, UnreachableError
from tenantry.ports.world import Json

LOG_SECONDS: Final = 60.0
METRICS_LIMIT: Final = 8 * MEGABYTE
METRICS_PORT: Final = "metrics"
OPERATOR_CONTAINER: Final = "operator"
OWN_EVENTS: Final = "default"
"""Where the Events of objects without a namespace are."""

README: Final = """\
Tenantry support bundle

Gathered with the rights of whoever ran `tenantry support-bundle`. No Secret was asked for.

Taken out, and shown as [left out]: values of environments (spec.env, env of containers), descriptions, details of
previews, limits that are no numbers, arguments that are no plain flags, annotations of others than Tenantry. In texts,
logs too, whatever looked like a password, a token, a key, or user info in a URL was masked (***).

Look through it yourself before you give it away: names of tenants, workspaces, hosts and servers are in it, and a
secret that has no mark of one is not recognised.

  manifest.json     every file with its size and digest; what was left out, and why
  versions.json     of this command, of the API server, of the operator's pods
  install-check.*   what `tenantry install-check` finds, for people and for programs
  kinds/            each kind: its versions, conditions, names of its fields
  objects/          each object of Tenantry's kinds, by kind, workspace and name
  events/           the Events about them, and about the operator
  operator/         its Deployments and pods
  logs/             of each of its containers, the last part; `previous` is that of the container before
  metrics/          of each of its pods
"""


@dataclass(frozen=True, slots=True)
class Order:
    """What the person asked for.

    Attributes:
        log_bytes: Of each log, the last so many.
    """

    scope: Scope
    log_bytes: int


class Bundling:
    """Fills an archive, in an order that is always the same. What can't be had is noted in it and passed over.

    Args:
        client: Of the person.
        order: What is wanted.
        archive: Where it goes.
    """

    def __init__(self, client: Inspector, order: Order, archive: Archive) -> None:
        self._client = client
        self._order = order
        self._archive = archive

    async def carry_out(self) -> None:
        """Gather everything.

        Raises:
            KubeError: the API server does not answer, or does not know who asks; later on that is only noted.
            ArchiveError: it can't be written.
        """
        self._archive.add("README.md", README)
        findings = await Inspection(self._client, self._order.scope).carry_out()
        self._archive.add("install-check.txt", as_text(findings))
        self._archive.add("install-check.json", as_json(as_report(findings)))
        deployments, pods = await self._operator()
        await self._versions(pods)
        await self._kinds()
        await self._events(deployments, pods)
        if self._order.scope.pods:
            for pod in pods:
                await self._of_pod(pod)
        for kind in ALL_KINDS:
            await self._objects(kind.resource)

    # --- the operator -----------------------------------------------------------------------------------------------
    async def _operator(self) -> tuple[list[Json], list[Json]]:
        if not self._order.scope.pods:
            self._archive.leave_out("operator/, logs/, metrics/", "not looked for (--no-pods)")
            return [], []
        namespace = self._order.scope.namespace
        found: list[list[Json]] = []
        for resource in (DEPLOYMENTS, PODS):
            bodies = await self._listed(resource, namespace, OPERATOR_LABELS, why=f"operator/{resource.plural}")
            for body in bodies:
                name = f"operator/{resource.plural}/{body['metadata']['name']}.json"
                self._archive.add(name, as_json(scrubbed(_typed(resource, body))))
            found.append(bodies)
        if not found[1]:
            self._archive.leave_out("logs/, metrics/", f"no pod of the operator is seen in {namespace}")
        return found[0], found[1]

    async def _versions(self, pods: Iterable[Json]) -> None:
        told: Json = {"tenantry": __version__, "python": platform.python_version(), "apiVersion": f"{GROUP}/{VERSION}"}
        try:
            told["apiServer"] = await self._client.version()
        except KubeError as error:
            self._archive.leave_out("the API server's version", scrubbed_text(error.message))
        told["operatorPods"] = {each["metadata"]["name"]: version_of(each) for each in pods}
        self._archive.add("versions.json", as_json(told))

    async def _of_pod(self, pod: Json) -> None:
        ref = Ref(PODS, pod["metadata"]["namespace"], pod["metadata"]["name"])
        for container in pod["spec"].get("containers") or ():
            name = container["name"]
            for previous in (False, True):
                await self._log(ref, name, previous=previous)
        ports = [port for each in pod["spec"].get("containers") or () for port in each.get("ports") or ()]
        port = next((each["containerPort"] for each in ports if each.get("name") == METRICS_PORT), None)
        name = f"metrics/{ref.name}.txt"
        if port is None:
            self._archive.leave_out(name, f"the pod has no port {METRICS_PORT!r}")
            return
        try:
            text = (await self._client.metrics(ref, port, limit=METRICS_LIMIT)).decode(errors="replace")
        except KubeError as error:
            self._archive.leave_out(name, scrubbed_text(error.message))
            return
        self._archive.add(name, scrubbed_text(text))

    async def _log(self, pod: Ref, container: str, *, previous: bool) -> None:
        name = f"logs/{pod.name}/{container}{'-previous' if previous else ''}.log"
        try:
            data, cut = await tail(self._client.log(pod, container, previous=previous), self._order.log_bytes)
        except KubeError as error:
            self._archive.leave_out(name, scrubbed_text(error.message))
            return
        if cut:
            self._archive.leave_out(
                f"{name}: its beginning", f"over {self._order.log_bytes // MEGABYTE} MB (--log-size)"
            )
        self._archive.add(name, scrubbed_log(data, cut=cut))

    # --- what it looks after ----------------------------------------------------------------------------------------
    async def _kinds(self) -> None:
        for kind in ALL_KINDS:
            name = f"{kind.resource.plural}.{kind.resource.group}"
            try:
                body = await self._client.get(Ref(CUSTOM_RESOURCE_DEFINITIONS, "", name))
            except KubeError as error:
                self._archive.leave_out(f"kinds/{name}.json", scrubbed_text(error.message))
                continue
            self._archive.add(f"kinds/{name}.json", as_json(_kind_in_short(body)))

    async def _events(self, deployments: Sequence[Json], pods: Sequence[Json]) -> None:
        own = {each["metadata"]["uid"] for each in (*deployments, *pods)}
        namespace, workspaces = self._order.scope.namespace, self._order.scope.workspaces
        for where in dict.fromkeys((*workspaces, OWN_EVENTS, namespace)) if workspaces else ("",):
            bodies = await self._listed(EVENTS, where, "", why=f"events/{where}")
            for body in sorted(bodies, key=_when):
                about = body.get("regarding") or {}
                if str(about.get("apiVersion", "")).startswith(f"{GROUP}/") or about.get("uid") in own:
                    metadata = body["metadata"]
                    name = f"events/{metadata['namespace']}/{metadata['name']}.json"
                    self._archive.add(name, as_json(scrubbed(_typed(EVENTS, body))))

    async def _objects(self, resource: Resource) -> None:
        workspaces = self._order.scope.workspaces
        for where in (workspaces or ("",)) if resource.namespaced else ("",):
            folder = f"objects/{resource.plural}{f'/{where}' if where else ''}"
            for body in await self._listed(resource, where, "", why=folder):
                if resource == TENANT_RECORDS and workspaces and body["spec"]["workspace"] not in workspaces:
                    continue
                metadata = body["metadata"]
                inner = f"{metadata['namespace']}/" if resource.namespaced else ""
                name = f"objects/{resource.plural}/{inner}{metadata['name']}.json"
                self._archive.add(name, as_json(scrubbed(_typed(resource, body))))

    async def _listed(self, resource: Resource, namespace: str, labels: str, *, why: str) -> list[Json]:
        """All objects of a kind, by name; none where they may not be seen, which is noted."""
        try:
            bodies = (await self._client.list(resource, namespace=namespace, labels=labels)).items
        except KubeError as error:
            self._archive.leave_out(why, scrubbed_text(error.message))
            return []
        return sorted(bodies, key=lambda each: (each["metadata"].get("namespace", ""), each["metadata"]["name"]))


async def tail(pieces: AsyncIterator[bytes], most: int) -> tuple[bytes, bool]:
    """The end of a stream, and whether something was before it. Never has more than that and a piece in memory.

    Raises:
        KubeError: it broke off before anything came; later on what came is kept.
    """
    kept: deque[bytes] = deque()
    size, cut = 0, False
    try:
        async with asyncio.timeout(LOG_SECONDS), aclosing(cast("Any", pieces)) as stream:
            async for piece in stream:
                kept.append(piece)
                size += len(piece)
                while size - len(kept[0]) >= most:
                    size -= len(kept.popleft())
                    cut = True
    except TimeoutError:
        if not kept:
            raise UnreachableError(f"nothing came within {LOG_SECONDS:g} s") from None
    except KubeError:
        if not kept:
            raise
    data = b"".join(kept)
    return data[-most:], cut or len(data) > most


def _typed(resource: Resource, body: Json) -> Json:
    """An object as it is when it stands alone."""
    return {"apiVersion": resource.api_version, "kind": resource.kind, **body}


def _when(event: Json) -> tuple[str, str]:
    return str(event["metadata"].get("namespace", "")), str(event["metadata"]["name"])


def _kind_in_short(body: Json) -> Json:
    """What tells one version of a kind from another, without its texts."""
    versions = [
        {
            "name": each["name"],
            "served": each.get("served"),
            "storage": each.get("storage"),
            "fields": sorted(fields_of((each.get("schema") or {}).get("openAPIV3Schema") or {})),
        }
        for each in body["spec"].get("versions", ())
    ]
    status = body.get("status") or {}
    metadata = {key: body["metadata"].get(key) for key in ("name", "uid", "generation", "creationTimestamp", "labels")}
    told = {"conditions": status.get("conditions"), "storedVersions": status.get("storedVersions")}
    return {"metadata": metadata, "versions": versions, "status": told}
