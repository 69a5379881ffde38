"""The client of a person at a cluster: with that person's rights, and for any kind that a manifest is of."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

import orjson

from tenantry.adapters.kube.client import KubeClient
from tenantry.adapters.kube.management import management_client
from tenantry.adapters.kube.shape import checked, parsed, path_of
from tenantry.api.names import OPERATOR_SERVICE_ACCOUNT, SYSTEM_NAMESPACE
from tenantry.api.resources import SERVICE_ACCOUNTS, Ref, Resource
from tenantry.cli.contexts import Context
from tenantry.ports.kube import UnreachableError
from tenantry.ports.world import Json

FIELD_MANAGER: Final = "tenantry-cli"
"""Not the operator's: what it applies is its own, and what a person applies stays."""


class PersonClient(KubeClient):
    """A KubeClient that also writes kinds which the operator has no business with, and can ask first."""

    @classmethod
    def of(cls, client: KubeClient) -> Self:
        """The same connections, with more ways to use them."""
        return cls(client._transport)

    async def put(self, resource: Resource, body: Json, *, dry: bool = False) -> Json:
        """Server-side apply, forced; with `dry` everything is checked and nothing stored."""
        metadata = body["metadata"]
        target = path_of(Ref(resource, metadata.get("namespace", ""), metadata["name"]))
        query = f"?fieldManager={FIELD_MANAGER}&force=true{_dry(dry)}"
        return await self._write(target + query, body, "application/apply-patch+yaml", dry=dry)

    async def amend(self, ref: Ref, patch: Json, *, dry: bool = False) -> Json:
        """JSON merge patch; with `dry` everything is checked and nothing stored."""
        query = f"?fieldManager={FIELD_MANAGER}&fieldValidation=Strict{_dry(dry)}"
        return await self._write(path_of(ref) + query, patch, "application/merge-patch+json", dry=dry)

    async def operator_token(self, seconds: int) -> tuple[str, str]:
        """A token of the operator's ServiceAccount that expires, and when; the server may cut the time short."""
        account = Ref(SERVICE_ACCOUNTS, SYSTEM_NAMESPACE, OPERATOR_SERVICE_ACCOUNT)
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": seconds},
        }
        answer = parsed(await self._transport.request("POST", path_of(account, "token"), orjson.dumps(request)))
        status = answer.get("status") or {}
        if not status.get("token"):
            raise UnreachableError("the server answered a TokenRequest without a token")
        return str(status["token"]), str(status.get("expirationTimestamp") or "")

    async def _write(self, target: str, body: Json, content_type: str, *, dry: bool) -> Json:
        answer = await self._transport.request("PATCH", target, orjson.dumps(body), content_type=content_type)
        return parsed(answer) if dry else checked(parsed(answer))  # what is not stored has no resourceVersion


def _dry(dry: bool) -> str:
    return "&dryRun=All" if dry else ""


async def person_client(context: Context | None) -> PersonClient:
    """A client as the user of a context, whatever gives it credentials (files and programs too); None: as this pod.

    Raises:
        ManagementConfigError: if the context can't be used.
    """
    if context is None:
        return PersonClient.of(await management_client())
    with _kept_for_a_moment(context) as path:
        return PersonClient.of(await management_client(path))


@contextlib.contextmanager
def _kept_for_a_moment(context: Context) -> Iterator[str]:
    """A path to the context's kubeconfig, which only this user can read, for as long as it takes to load it."""
    with tempfile.TemporaryDirectory(prefix="tenantry-") as folder:  # 0700
        path = Path(folder, "kubeconfig")
        path.write_text(json.dumps(context.config, default=str), encoding="utf-8")
        yield str(path)
