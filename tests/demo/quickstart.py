"""examples/quickstart/ and the one thing in it that depends on the machine: the port of PostgreSQL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from tests.scene.installation import ROOT

FOLDER: Final = ROOT / "examples" / "quickstart"
WORKSPACES: Final = FOLDER / "2-workspaces.yaml"
PLATFORM: Final = FOLDER / "1-platform.yaml"
TENANTS: Final = FOLDER / "3-tenants.yaml"

PORT_LINE: Final = "port: 5432"
CLUSTER: Final = "eu-1"
CLUSTER_SECRET: Final = "eu-1-kubeconfig"
SERVER: Final = "shared-fra"
SERVER_SECRET: Final = "shared-fra-admin"
PLANS: Final = ("basic", "pro")
PLATFORM_OBJECTS: Final = (f"cluster/{CLUSTER}", f"databaseserver/{SERVER}", *(f"tenantplan/{plan}" for plan in PLANS))


@dataclass(frozen=True, slots=True, order=True)
class TenantName:
    """A Tenant by workspace and name."""

    workspace: str
    name: str

    @classmethod
    def of(cls, body: dict[str, Any]) -> TenantName:
        """The name of an object of the API."""
        return cls(body["metadata"]["namespace"], body["metadata"]["name"])

    def __str__(self) -> str:
        return f"{self.workspace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Expectation:
    """What one tenant of the quick start is to have beside what every tenant has."""

    host: str
    bindings: frozenset[str]
    env: frozenset[str]


EXPECTED: Final = {
    TenantName("shop", "acme"): Expectation(
        host="acme-shop.eu.example.com",
        bindings=frozenset({"tenantry-operator", "tenant-admin", "tenant-self-service"}),
        env=frozenset({"LOG_LEVEL", "API_KEY", "TIER", "MAX_USERS"}),
    ),
    TenantName("shop", "globex"): Expectation(
        host="globex-shop.eu.example.com",
        bindings=frozenset({"tenantry-operator"}),
        env=frozenset({"TIER", "MAX_USERS"}),
    ),
    TenantName("labs", "acme"): Expectation(
        host="acme-labs.eu.example.com",
        bindings=frozenset({"tenantry-operator"}),
        env=frozenset({"TIER", "MAX_USERS"}),
    ),
}


def platform_manifest(text: str, port: int) -> str:
    """1-platform.yaml for a PostgreSQL on another port: what `sed 's/port: 5432/port: N/'` makes of it.

    Raises:
        ValueError: if the line is not in it exactly once.
    """
    if text.count(PORT_LINE) != 1:
        raise ValueError(f"{PLATFORM.name} must have the line {PORT_LINE!r} exactly once")
    return text.replace(PORT_LINE, f"port: {port}")
