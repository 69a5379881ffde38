"""The operator's own writes, read back from the audit log with their bodies, and put under fresh names; pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from tenantry.api.identity import SHORT_HASH_LENGTH, base32_digest, host_claim_name
from tenantry.api.names import ANNOTATION_HOST, LABEL_TENANT_HASH

MANAGEMENT_ID: Final = "tenantry-bench"
FLOOR_ID: Final = "tenantry-floor"
"""The management id of what is replayed: the operator's watches do not see it."""
TENANT: Final = re.compile(r"bench-\d{6}")
"""What all tenants of a run are called."""

POLICY: Final = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Request
  users: ["{user}"]
  verbs: [create, update, patch, delete]
- level: Metadata
"""
"""Audit policy: the bodies of one user's writes, and that everything else was asked for."""

_METHODS: Final = {"create": "POST", "update": "PUT", "patch": "PATCH", "delete": "DELETE"}


@dataclass(frozen=True, slots=True)
class Write:
    """One write that an API server granted.

    Attributes:
        cluster: The name of the API server.
        received: When it came, as the server wrote it.
        uri: Path and query.
        body: JSON.
        guarded: The body names a resourceVersion, which is another one under another name.
    """

    cluster: str
    received: str
    method: str
    uri: str
    content_type: str
    body: bytes
    guarded: bool

    @property
    def path(self) -> str:
        """Of the object itself, or for a POST of its collection."""
        return self.uri.partition("?")[0].removesuffix("/status")


def tenant_name(number: int) -> str:
    """The name of the tenant of that number."""
    return f"bench-{number:06}"


def fresh_name(tenant: str) -> str:
    """What a tenant is called in the replay: as long as before, so that the bytes are as many."""
    return tenant.replace("bench-", "floor-")


def fresh_hash(tenant_hash: str) -> str:
    """The tenant hash in the replay. Its end stays, so that renaming its short form renames all of it."""
    return base32_digest("floor", tenant_hash, length=SHORT_HASH_LENGTH) + tenant_hash[SHORT_HASH_LENGTH:]


def writes_of(log: Iterable[bytes], cluster: str, user: str) -> dict[str, list[Write]]:
    """By tenant, the writes that were granted to a user, in the order in which they came.

    Writes that belong to no tenant, such as the status of a Cluster, are left out.
    """
    found: dict[str, list[Write]] = defaultdict(list)
    for line in log:
        event: dict[str, Any] = orjson.loads(line)
        if event["user"].get("username") != user or event["verb"] not in _METHODS:
            continue
        code = (event.get("responseStatus") or {}).get("code", 0)
        if not 200 <= code < 300 or (event.get("objectRef") or {}).get("resource") == "selfsubjectaccessreviews":
            continue
        write = _write(event, cluster)
        if match := TENANT.search(write.uri) or TENANT.search(write.body.decode()):
            found[match[0]].append(write)
    return {tenant: sorted(writes, key=lambda write: write.received) for tenant, writes in found.items()}


def merged(*parts: dict[str, list[Write]]) -> dict[str, list[Write]]:
    """The writes of several API servers of one machine, in the order in which they came."""
    found: dict[str, list[Write]] = defaultdict(list)
    for part in parts:
        for tenant, writes in part.items():
            found[tenant] += writes
    return {tenant: sorted(found[tenant], key=lambda write: write.received) for tenant in sorted(found)}


def hash_of(writes: Iterable[Write]) -> str:
    """The tenant hash that the stamps of these writes carry.

    Raises:
        LookupError: if none does.
    """
    for write in writes:
        body = orjson.loads(write.body)
        if tenant_hash := ((body.get("metadata") or {}).get("labels") or {}).get(LABEL_TENANT_HASH):
            return str(tenant_hash)
    raise LookupError("no write carries the stamp of a tenant")


def renamed(tenant: str, writes: Iterable[Write]) -> list[Write]:
    """The same writes for another tenant of another operator: name, hash, management id and what follows from them."""
    writes = list(writes)
    old, new = hash_of(writes), fresh_hash(hash_of(writes))
    words = (
        (tenant, fresh_name(tenant)),
        (old[:SHORT_HASH_LENGTH], new[:SHORT_HASH_LENGTH]),
        (MANAGEMENT_ID, FLOOR_ID),
    )

    def rename(text: str) -> str:
        for former, present in words:
            text = text.replace(former, present)
        return text

    return [
        replace(write, uri=rename(write.uri), body=_claim_renamed(rename(write.body.decode()).encode()))
        for write in writes
    ]


def _claim_renamed(body: bytes) -> bytes:
    """The name of a host's claim is a digest of the host."""
    if ANNOTATION_HOST.encode() not in body:
        return body
    claim = orjson.loads(body)
    host = claim["metadata"].get("annotations", {}).get(ANNOTATION_HOST)
    if host:
        claim["metadata"]["name"] = host_claim_name(host)
    return orjson.dumps(claim)


def _write(event: dict[str, Any], cluster: str) -> Write:
    method, uri = _METHODS[event["verb"]], event["requestURI"]
    content_type = "application/json"
    if method == "PATCH":
        # The log does not say which kind of patch it was; only server-side apply can be forced.
        content_type = "application/apply-patch+yaml" if "force=true" in uri else "application/merge-patch+json"
    body = event.get("requestObject") or {}
    metadata = body.get("metadata") or {}
    if method == "POST":
        metadata.pop("creationTimestamp", None)  # the log writes it as null where it was not sent
    return Write(
        cluster=cluster,
        received=event["requestReceivedTimestamp"],
        method=method,
        uri=uri,
        content_type=content_type,
        body=orjson.dumps(body),
        guarded="resourceVersion" in metadata,
    )
