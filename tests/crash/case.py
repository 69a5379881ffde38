"""Case: the names of one run, all made from one random token, and how they are put out of what is compared."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from typing import Final

from tests.scene.faulty import CLUSTER

from tenantry.api.identity import TenantIdentity, host_claim_name, namespace_name
from tenantry.desired.slots import slot_prefix

TENANT: Final = "acme"
DOMAIN: Final = f"{CLUSTER}.example.com"
SECOND_DOMAIN: Final = "eu-2.example.com"
_CHANGING: Final = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "UID"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|\+00(:00)?)?"), "TIME"),
    (re.compile(r"\b\d{18,20}\b"), "IDENTIFIER"),
    (re.compile(r"SCRAM-SHA-256\$[^'\"]*"), "VERIFIER"),
)


@dataclass(frozen=True, slots=True)
class Case:
    """One tenant of a workspace of its own, on a plan of its own."""

    token: str = field(default_factory=lambda: secrets.token_hex(4))

    @property
    def workspace(self) -> str:
        """Its namespace on the management cluster."""
        return f"shop-{self.token}"

    @property
    def plan(self) -> str:
        """Its TenantPlan."""
        return f"plan-{self.token}"

    @property
    def domains(self) -> tuple[str, str]:
        """Custom hosts: of the first spec, and of a changed one."""
        return f"first.{self.token}.test", f"second.{self.token}.test"

    @property
    def hosts(self) -> tuple[str, ...]:
        """All that it may ever claim."""
        return (*(f"{TENANT}-{self.workspace}.{domain}" for domain in (DOMAIN, SECOND_DOMAIN)), *self.domains)


@dataclass(frozen=True, slots=True)
class Names:
    """A case whose workspace is there, so that all names are known."""

    case: Case
    identity: TenantIdentity

    @property
    def hash(self) -> str:
        """The tenantHash."""
        return self.identity.tenant_hash

    @property
    def namespace(self) -> str:
        """On the target."""
        return namespace_name("{workspace}-{tenant}", self.identity)

    def placeholders(self, text: str) -> str:
        """The text as it would be in any other run."""
        for number, host in enumerate(self.case.hosts):
            text = text.replace(host_claim_name(host), f"host-claim-{number}")
        text = text.replace(slot_prefix(self.case.plan, self.identity.workspace_uid), "slot-PLAN-")
        text = text.replace(self.identity.management_id, "MANAGEMENT").replace(self.case.token, "RUN")
        text = text.replace(self.hash, "HASH").replace(f"-{self.hash[:6]}", "-HASH")
        for pattern, placeholder in _CHANGING:
            text = pattern.sub(placeholder, text)
        return text
