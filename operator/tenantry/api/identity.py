"""Who a tenant is: its hash, id, record and the names derived from them; pure functions over plain values."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, field

HASH_LENGTH = 8
SHORT_HASH_LENGTH = 6
MAX_NAMESPACE_STEM = 56
"""56 characters, a dash and 6 of the hash: a namespace name has at most 63 (RFC 1123 label)."""
MANAGEMENT_ID = re.compile(r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")


def base32_digest(*parts: str, length: int = HASH_LENGTH) -> str:
    """The first lower-case base32 characters of the SHA-256 over the parts, each ended by a NUL."""
    digest = hashlib.sha256(b"".join(part.encode() + b"\0" for part in parts)).digest()
    return base64.b32encode(digest).decode().lower()[:length]


@dataclass(frozen=True, slots=True)
class TenantIdentity:
    """All that names one tenant on every cluster and server.

    `tenant_hash` is derived from the management id, the workspace's UID, the tenant's name and its incarnation, so a
    namesake in a re-created workspace, or one made after a purge that left something behind, is somebody else.
    """

    management_id: str
    workspace: str
    workspace_uid: str
    name: str
    incarnation: int = 1
    epoch: int = 1
    tenant_hash: str = field(init=False, repr=False)
    """8 lower-case base32 characters; worked out once, for it is asked for over a hundred times in each reconcile."""

    def __post_init__(self) -> None:
        digest = base32_digest(self.management_id, self.workspace_uid, self.name, str(self.incarnation))
        object.__setattr__(self, "tenant_hash", digest)

    @property
    def tenant_id(self) -> str:
        """`<workspace>_<name>_<tenantHash>`."""
        return f"{self.workspace}_{self.name}_{self.tenant_hash}"

    @property
    def record(self) -> str:
        """The name of its TenantRecord: `<name>-<tenantHash>`."""
        return f"{self.name}-{self.tenant_hash}"

    @property
    def database(self) -> str:
        """The name of its database on a shared server: reveals neither customer nor workspace.

        After a move it has the epoch, so that it never meets what the tenant left behind there.
        """
        return f"tenantry_{self.tenant_hash}" + (f"_e{self.epoch}" if self.epoch > 1 else "")


def namespace_name(template: str, identity: TenantIdentity) -> str:
    """The target namespace: the template filled in, cut to 56 characters, ended by `-` and 6 hash characters.

    After a move the epoch is before those, so that it never meets what the tenant left behind there.
    """
    epoch = f"-e{identity.epoch}" if identity.epoch > 1 else ""
    stem = template.format(workspace=identity.workspace, tenant=identity.name)
    stem = stem.lstrip("-")[: MAX_NAMESPACE_STEM - len(epoch)].rstrip("-")
    return f"{stem}{epoch}-{identity.tenant_hash[:SHORT_HASH_LENGTH]}"


def default_host(template: str, identity: TenantIdentity, domain: str) -> str:
    """The tenant's default host; a label over 63 characters is cut and ends in 6 hash characters."""
    host = template.format(
        workspace=identity.workspace, tenant=identity.name, domain=domain, tenantHash=identity.tenant_hash
    )
    end = f"-{identity.tenant_hash[:SHORT_HASH_LENGTH]}"
    return ".".join(
        label if len(label) <= 63 else f"{label[: 63 - len(end)].rstrip('-')}{end}" for label in host.split(".")
    )


def host_claim_name(host: str) -> str:
    """The ConfigMap that claims a host on a cluster: `host-<sha256 of the host>`."""
    return f"host-{hashlib.sha256(host.lower().encode()).hexdigest()}"
