"""The tenant's NetworkPolicies: closed by default, then opened for exactly what it needs."""

from __future__ import annotations

from typing import Any

from tenantry.api.identity import TenantIdentity
from tenantry.api.resources import NETWORK_POLICIES
from tenantry.desired.blueprint import Blueprint
from tenantry.desired.dedicated import SELECTOR_OTHERS
from tenantry.desired.stamp import stamped

ISOLATION = "tenant-isolation"
INGRESS_CONTROLLER = "tenant-ingress-controller"
EGRESS = "tenant-egress"
DATABASE = "tenant-database"

PRIVATE_V4 = (
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "168.63.129.16/32",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.168.0.0/16",
)
"""Private, shared, loopback, link-local and protocol ranges (RFC 1918, 6598, 3927, 6890): pods, nodes and metadata
services; and the one metadata service at a public address, Azure's WireServer."""
PRIVATE_V6 = ("::1/128", "fc00::/7", "fe80::/10")
"""Loopback, unique local (with it fd00:ec2::254) and link-local (RFC 4193, 4291)."""


def network_policies(blueprint: Blueprint) -> list[dict[str, Any]]:
    """All of the tenant's NetworkPolicies; of one that is switched off, a closed one."""
    if not blueprint.spec.enabled:
        return [closed_network(blueprint.identity, blueprint.namespace)]
    policies = [_isolation(blueprint)]
    if blueprint.serves:
        policies.append(_ingress_controller(blueprint))
    if blueprint.effective.network.egress != "None":
        policies.append(_egress(blueprint))
    if blueprint.database_cidrs and blueprint.database_port is not None:
        policies.append(_database(blueprint, blueprint.database_port))
    return policies


def closed_network(identity: TenantIdentity, namespace: str) -> dict[str, Any]:
    """The isolation without what it usually allows: nothing in or out, also of a tenant that was deleted."""
    return stamped(
        NETWORK_POLICIES,
        identity,
        ISOLATION,
        namespace=namespace,
        # Said, though empty: what is not said is nobody's, and a rule that somebody puts there would stay.
        spec={"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [], "egress": []},
    )


def _isolation(blueprint: Blueprint) -> dict[str, Any]:
    """Nothing in or out but within the namespace, and DNS."""
    dns = {
        "to": [
            {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
                "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
            }
        ],
        "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
    }
    return _policy(
        blueprint,
        ISOLATION,
        policyTypes=["Ingress", "Egress"],
        ingress=[{"from": [{"podSelector": {}}]}],
        egress=[{"to": [{"podSelector": {}}]}, dns],
    )


def _ingress_controller(blueprint: Blueprint) -> dict[str, Any]:
    """The ingress controller's namespace may come in; without a known one, every namespace may."""
    controller = blueprint.cluster.ingress.controller_namespace if blueprint.cluster.ingress else None
    peer = {"matchLabels": {"kubernetes.io/metadata.name": controller}} if controller else {}
    return _policy(
        blueprint,
        INGRESS_CONTROLLER,
        podSelector=_all_but_its_server(blueprint),
        policyTypes=["Ingress"],
        ingress=[{"from": [{"namespaceSelector": peer}]}],
    )


def _egress(blueprint: Blueprint) -> dict[str, Any]:
    if blueprint.effective.network.egress == "All":
        rule: dict[str, Any] = {}
    else:
        rule = {
            "to": [
                {"ipBlock": {"cidr": "0.0.0.0/0", "except": list(PRIVATE_V4)}},
                {"ipBlock": {"cidr": "::/0", "except": list(PRIVATE_V6)}},
            ]
        }
    return _policy(blueprint, EGRESS, podSelector=_all_but_its_server(blueprint), policyTypes=["Egress"], egress=[rule])


def _all_but_its_server(blueprint: Blueprint) -> dict[str, Any]:
    """A Dedicated database is for the namespace alone, and needs nothing from outside."""
    return SELECTOR_OTHERS if blueprint.dedicated else {}


def _database(blueprint: Blueprint, port: int) -> dict[str, Any]:
    rule = {
        "to": [{"ipBlock": {"cidr": cidr}} for cidr in blueprint.database_cidrs],
        "ports": [{"protocol": "TCP", "port": port}],
    }
    return _policy(blueprint, DATABASE, policyTypes=["Egress"], egress=[rule])


def _policy(blueprint: Blueprint, name: str, **spec: Any) -> dict[str, Any]:
    return stamped(
        NETWORK_POLICIES,
        blueprint.identity,
        name,
        namespace=blueprint.namespace,
        spec={"podSelector": {}, **spec},
    )
