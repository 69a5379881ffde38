"""Registering clusters and database servers as a platform team does, rightly or wrongly, and reading what is said."""

from __future__ import annotations

import base64
import contextlib
import copy
import json
from collections.abc import Mapping
from typing import Any

from tests.integration.acting import manifest
from tests.integration.tenants import KINDS, PATIENCE, Workbench, condition, wait_for
from tests.scene.installation import NAMESPACE
from tests.scene.stage import platform_manifest

from tenantry.api.resources import SECRETS, Ref

Json = dict[str, Any]


class Registrar(contextlib.ExitStack):
    """Makes Clusters and DatabaseServers with their Secrets, all named after the test, and takes them away again.

    Attributes:
        bench: The workspace and the stage it is on.
    """

    def __init__(self, bench: Workbench) -> None:
        super().__init__()
        self.bench = bench
        self._made: set[tuple[str, str]] = set()

    def full(self, name: str) -> str:
        """The name as it is on the cluster."""
        return f"{self.bench.prefix}-{name}"

    def secret(self, name: str, values: Mapping[str, str | bytes]) -> str:
        """Make a Secret of the operator's namespace what is given; its name."""
        full = self.full(name)
        data = {key: _base64(value) for key, value in values.items()}
        self._put(SECRETS.path(NAMESPACE), manifest(SECRETS, full, NAMESPACE, data=data))
        return full

    def cluster(self, name: str = "eu", **spec: Any) -> str:
        """Register a Cluster with the kubeconfig in the Secret of the same name, unless the spec says otherwise."""
        return self._register("Cluster", name, {"kubeconfigSecretRef": {"name": self.full(name)}, **spec})

    def server(self, name: str = "db", **spec: Any) -> str:
        """Register a DatabaseServer with the admin in the Secret of the same name, unless the spec says otherwise."""
        usual = {"adminSecretRef": {"name": self.full(name)}, "sslMode": "disable", "host": "127.0.0.1"}
        return self._register("DatabaseServer", name, {**usual, **spec})

    def delete(self, kind: str, name: str) -> None:
        """Ask for the deletion of a registration; no error if it is gone."""
        answer = self.bench.management.delete(KINDS[kind].path(name=name), dry=False)
        assert answer.status in (200, 404), answer.message

    def get(self, kind: str, name: str) -> Json:
        """A registration; empty where there is none."""
        answer = self.bench.management.get(Ref(KINDS[kind], "", name).path)
        return answer.body if answer.status == 200 else {}

    def told(self, kind: str, name: str, status: str, reason: str, message: str, seconds: float = PATIENCE) -> Json:
        """The registration, once its Ready says this of its present generation.

        Raises:
            AssertionError: it does not in time; with what it says.
        """
        last: Json = {}

        def says() -> Json | None:
            nonlocal last
            last = self.get(kind, name)
            ready = condition(last)
            told = (ready.get("status"), ready.get("reason"), ready.get("message"))
            current = ready.get("observedGeneration") == last.get("metadata", {}).get("generation")
            return last if told == (status, reason, message) and current else None

        try:
            return wait_for(says, f"{kind} {name} is {reason}", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; it says {condition(last)}, wanted {message!r}") from None

    def gone(self, kind: str, name: str, seconds: float = PATIENCE) -> None:
        """Wait until the registration is gone."""
        wait_for(lambda: not self.get(kind, name), f"{kind} {name} is gone", seconds)

    def _register(self, kind: str, name: str, spec: Json) -> str:
        full = self.full(name)
        if (kind, full) not in self._made:
            self._made.add((kind, full))
            self.callback(self.delete, kind, full)
        self._put(KINDS[kind].path(), platform_manifest(kind, full, **spec))
        return full

    def _put(self, collection: str, body: Json) -> None:
        """Create, or replace by what is given."""
        api, path = self.bench.management, f"{collection}/{body['metadata']['name']}"
        answer = api.send("POST", collection, body, dry=False)
        if answer.status == 201 and body["kind"] == "Secret":
            self.callback(api.delete, path, dry=False)
        if answer.status == 409:
            present = api.get(path).body["metadata"]
            replaced = {**body, "metadata": {**present, **body["metadata"]}}
            answer = api.send("PUT", path, replaced, dry=False)
        assert answer.status in (200, 201), answer.message


def changed_kubeconfig(
    text: str, *, cluster: Json | None = None, user: Json | None = None, root: Json | None = None
) -> str:
    """A kubeconfig with fields of its cluster, its user or itself set anew; None takes one out. The user loses all."""
    body = copy.deepcopy(json.loads(text))
    entries = body["clusters"][0]["cluster"]
    entries.update(cluster or {})
    body["clusters"][0]["cluster"] = {key: value for key, value in entries.items() if value is not None}
    if user is not None:
        body["users"][0]["user"] = user
    body.update(root or {})
    return json.dumps(body)


def _base64(value: str | bytes) -> str:
    return base64.b64encode(value.encode() if isinstance(value, str) else value).decode()
