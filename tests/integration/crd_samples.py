"""Specs for the tests of the kinds, the least and the largest that each schema allows, and a plain client."""

from __future__ import annotations

import base64
import copy
import http.client
import json
import re
import ssl
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self

import yaml

from tenantry.api.base import Kind
from tenantry.api.crd import crd
from tenantry.api.kinds import ALL_KINDS
from tenantry.api.resources import Ref

Json = dict[str, Any]

KINDS: Final = {kind.resource.kind: kind for kind in ALL_KINDS}

MINIMAL: Final[dict[str, Json]] = {
    "Tenant": {},
    "TenantPlan": {},
    "Cluster": {"domain": "example.com"},
    "DatabaseServer": {"host": "db.example.com", "adminSecretRef": {"name": "admin"}, "sslMode": "disable"},
    "BackupStore": {"url": "s3://backups", "signingSecretRef": {"name": "signing"}},
    "TenantBackup": {"source": {"tenant": {"name": "acme"}}, "store": "s"},
    "TenantRestore": {"backupRef": {"name": "b"}, "tenantRef": {"name": "acme"}},
    "TenantRecord": {
        "managementId": "m", "workspace": "w", "workspaceUid": "u", "tenant": "t", "tenantUid": "u",
        "cluster": {"name": "c", "id": "i", "namespace": "n"}, "database": {"mode": "None"},
    },
}  # fmt: skip
"""The least that a spec of each kind must say."""


class Access(Protocol):
    """What these tests need of a fixture for a cluster."""

    @property
    def kubeconfig(self) -> str:
        """The text of a kubeconfig with a token and the CA's data in it."""


def namespace_of(kind: str, namespace: str = "default") -> str:
    """The namespace that an object of a kind goes into: none for one of the cluster."""
    return namespace if KINDS[kind].resource.namespaced else ""


def root_schema(kind: Kind) -> Json:
    """The schema of the whole object, as the CRD states it."""
    schema: Json = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def merged(base: Json, patch: Json) -> Json:
    """The base with a JSON merge patch on it: null takes a field away."""
    out = copy.deepcopy(base)
    for key, value in patch.items():
        if value is None:
            out.pop(key, None)
        elif isinstance(value, dict) and isinstance(out.get(key), dict):
            out[key] = merged(out[key], value)
        else:
            out[key] = copy.deepcopy(value)
    return out


# --- the largest spec -----------------------------------------------------------------------------------------
_OMITTED: Final = object()
CHOICES: Final[dict[str, Any]] = {
    "Tenant.spec.placement.cluster": _OMITTED,
    "Tenant.spec.database.mode": "Shared",
    "Tenant.spec.database.external": _OMITTED,
    "Tenant.spec.database.dedicated": _OMITTED,
    "Tenant.spec.database.externalAccess": _OMITTED,
    "Tenant.spec.deletion.window": "0s",
    "Tenant.spec.ephemeral.ttl": f"{'0' * 30}1h",
    "Tenant.spec.rotation.interval": f"{'0' * 30}2h",
    "Tenant.spec.rotation.gracePeriod": f"{'0' * 30}1h",
    "TenantPlan.spec.rollout.type": "Immediate",
    "TenantRecord.spec.lastSpec": {"plan": "basic"},
    "Cluster.spec.ingress.tls.controllerDefault": _OMITTED,
    "DatabaseServer.spec.sslMode": "verify-full",
    "BackupStore.spec.url": f"s3://backups/{'p' * 499}",
    "BackupStore.spec.endpoint": "https://s3.example.com",
    "BackupStore.spec.encryption.recipients[]": f"age1{'q' * 58}",
    "BackupStore.spec.verification.interval": f"{'0' * 30}1h",
    "BackupStore.spec.verification.window.schedule": f"{'1,' * 45}11 2 * * *",
    "BackupStore.spec.verification.window.duration": f"{'0' * 30}1h",
    "TenantBackup.spec.verify": "Restore",
    "TenantBackup.spec.deletionPolicy": "Retain",
    "TenantBackup.spec.source.stored.run": "20260101t030000z-01234567",
    "Tenant.spec.backup.schedule": f"{'1,' * 45}11 2 * * *",
    "TenantPlan.spec.backup.schedule": f"{'1,' * 45}11 2 * * *",
    "TenantRestore.spec.notBefore": "2026-12-24T03:00:00Z",
    "TenantBackup.spec.ttl": f"{'0' * 30}1h",
    "*.spec.allowedWorkspaces.from": "Selector",
}
"""What the largest spec says where the rules leave no choice; a path may start with `*` for any kind."""


def largest(kind: Kind) -> Json:
    """A spec with every field that is supported, each at its upper bound."""
    spec: Json = _largest(root_schema(kind)["properties"]["spec"], f"{kind.resource.kind}.spec", 0)
    return spec


def _largest(schema: Json, path: str, index: int) -> Any:
    """A value at all bounds; different for each index below the bound of the list or map that it stands in."""
    choice = CHOICES.get(path, CHOICES.get("*." + path.partition(".")[2]))
    if choice is not None:
        return choice
    if "properties" in schema:
        return _largest_object(schema, path, index)
    if "additionalProperties" in schema:
        return {key: _largest(schema["additionalProperties"], f"{path}.*", 0) for key in _keys(schema, path)}
    if "items" in schema:
        one_each = "x-kubernetes-list-map-keys" in schema or schema["x-kubernetes-list-type"] == "set"
        items = [_largest(schema["items"], f"{path}[]", i) for i in range(schema["maxItems"])]
        return items if one_each or "enum" in schema["items"] else items[:1] * schema["maxItems"]
    if "enum" in schema:
        return schema["enum"][index % len(schema["enum"])]
    if "maxLength" in schema:
        return text(schema["maxLength"], schema.get("pattern", ""), path, index)
    least = False if schema.get("type") == "boolean" else schema.get("minimum", 1)
    return schema.get("default", schema.get("maximum", least))


def _largest_object(schema: Json, path: str, index: int) -> Json:
    rules = [rule["rule"] for rule in schema.get("x-kubernetes-validations", ())]
    unsupported = {match[1] for rule in rules if (match := re.fullmatch(r"!has\(self\.(\w+)\)", rule))}
    values = {
        name: _largest(field, f"{path}.{name}", index)
        for name, field in schema["properties"].items()
        if name not in unsupported
    }
    return {name: value for name, value in values.items() if value is not _OMITTED}


def _keys(schema: Json, path: str, more: int = 0) -> list[str]:
    rule = schema["x-kubernetes-validations"][-1]["rule"]
    length = re.search(r"size\(k\) <= (\d+)", rule)
    pattern = re.search(r"matches\(r'(.*)'\)", rule)
    assert length is not None, f"{path}: the keys have no bound"
    form = pattern[1] if pattern else ""
    return [text(int(length[1]), form, path, index) for index in range(schema["maxProperties"] + more)]


def text(length: int, pattern: str, path: str, index: int) -> str:
    """A text of a length and form. It starts as the field does, so that env and limits have no name in common."""
    initial = path.rsplit(".", 1)[-1][0].lower()
    plain = f"{initial}{index:0>{max(length - 1, 0)}}"[:length]
    labels = "".join("." if (position + 1) % 64 == 0 else char for position, char in enumerate(plain))
    candidates = (
        plain,
        labels if not labels.endswith(".") else f"{labels[:-2]}.a",
        plain[1:] + "h",
        plain[1:] + "1",
        "f" * (length - 4) + "/128",
        "{tenant}" + "a" * (length - 8),
        "a" * (length - 9) + "{version}",
    )
    for candidate in candidates:
        if len(candidate) == length and re.search(pattern, candidate):
            return candidate
    raise AssertionError(f"{path}: no text of {length} characters is known that has the form {pattern}")


# --- one over -------------------------------------------------------------------------------------------------
def one_over(kind: Kind) -> Iterator[tuple[str, Json]]:
    """The largest spec over and over, each time with one single bound exceeded by one, and the path of that bound."""
    name = f"{kind.resource.kind}.spec"
    for path, value in _one_over(root_schema(kind)["properties"]["spec"], largest(kind), name):
        yield path.removeprefix(f"{kind.resource.kind}."), value


def _one_over(schema: Json, value: Any, path: str) -> Iterator[tuple[str, Any]]:
    for name, inner in value.items() if "properties" in schema else ():
        for where, over in _one_over(schema["properties"][name], inner, f"{path}.{name}"):
            yield where, value | {name: over}
    if "maxProperties" in schema:
        keys = _keys(schema, path, more=1)
        yield path, value | {keys[-1]: value[keys[0]]}
        for where, over in _one_over(schema["additionalProperties"], value[keys[0]], f"{path}.*"):
            yield where.replace(f"{path}.*", f"{path}.{keys[0]}", 1), value | {keys[0]: over}
        yield path, {f"{key}0" if key == keys[0] else key: inner for key, inner in value.items()}
    if "maxItems" in schema:
        if not _of_a_fixed_set(schema):
            yield path, [*value, _largest(schema["items"], f"{path}[]", len(value))]
        for where, over in _one_over(schema["items"], value[0], f"{path}[]"):
            yield where.replace("[]", "[0]", 1), [over, *value[1:]]
    if "maxLength" in schema and path not in CHOICES:
        yield path, text(schema["maxLength"] + 1, schema.get("pattern", ""), path, 0)
    if "maximum" in schema:
        yield path, schema["maximum"] + 1


def _of_a_fixed_set(schema: Json) -> bool:
    """Whether the items, or their keys, are drawn from so few values that one more could only be a repetition."""
    items: Json = schema["items"]
    keys = [items["properties"][key] for key in schema.get("x-kubernetes-list-map-keys", ())]
    return any("enum" in one for one in keys or [items])


# --- a client -------------------------------------------------------------------------------------------------
_VALUE: Final = re.compile(r'^Invalid value: ("[^"]*": |null: )?')
"""What the API server puts before a rule's message; the value or its type in some versions only."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API server said: the HTTP status and the parsed body."""

    status: int
    body: Json

    @property
    def causes(self) -> set[tuple[str, str]]:
        """Why an object was refused: (field, what is wrong with it), without the value."""
        found = self.body.get("details", {}).get("causes", [])
        return {(cause["field"], _VALUE.sub("", cause["message"])) for cause in found}


class Api:
    """An API server over one kept-alive connection: as bare as can be, for it is the server that is tested."""

    def __init__(self, kubeconfig: str) -> None:
        config = yaml.safe_load(kubeconfig)
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        server = urllib.parse.urlsplit(cluster["server"])
        ca = base64.b64decode(cluster["certificate-authority-data"]).decode()
        context = ssl.create_default_context(cadata=ca)
        self._headers = {"Authorization": f"Bearer {user['token']}", "Content-Type": "application/json"}
        self._connection = http.client.HTTPSConnection(server.netloc, timeout=30, context=context)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._connection.close()

    def create(self, kind: str, name: str, spec: Json, *, namespace: str = "", dry_run: bool = True) -> Answer:
        """POST one object. A dry run checks and fills in all and stores nothing."""
        resource = KINDS[kind].resource
        query = "?dryRun=All" if dry_run else ""
        return self._send("POST", resource.path(namespace) + query, manifest(kind, name, spec))

    def replace(self, stored: Json, spec: Json) -> Answer:
        """PUT a stored object with another spec, as a dry run."""
        return self._send("PUT", _path(stored) + "?dryRun=All", {**stored, "spec": spec})

    def get(self, stored: Json) -> Answer:
        """GET the object again."""
        return self._send("GET", _path(stored))

    def delete(self, stored: Json) -> Answer:
        """DELETE the object."""
        return self._send("DELETE", _path(stored))

    def _send(self, verb: str, path: str, body: Json | None = None) -> Answer:
        self._connection.request(verb, path, json.dumps(body) if body else None, self._headers)
        response = self._connection.getresponse()
        return Answer(response.status, json.loads(response.read()))


def manifest(kind: str, name: str, spec: Json) -> Json:
    """An object to send."""
    return {
        "apiVersion": KINDS[kind].resource.api_version,
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    }


def _path(stored: Json) -> str:
    metadata = stored["metadata"]
    return Ref(KINDS[stored["kind"]].resource, metadata.get("namespace", ""), metadata["name"]).path
