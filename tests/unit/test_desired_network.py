"""Network policies: closed by default for every pod, opened for exactly what the blueprint says."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from tests.unit.strategies import blueprints, calmly

from tenantry.desired.blueprint import Blueprint
from tenantry.desired.network import DATABASE, EGRESS, INGRESS_CONTROLLER, ISOLATION, network_policies

Json = dict[str, Any]

OWN_NAMESPACE: Json = {"podSelector": {}}
DNS = {
    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
    "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
}
METADATA_ADDRESSES = (
    "169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254",
    "fd20:ce::254",
)  # fmt: skip
PRIVATE_ADDRESSES = (
    "10.0.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "127.0.0.1",
    "::1",
    "fe80::1",
    "fc00::1",
)


def specs(blueprint: Blueprint) -> dict[str, Json]:
    return {body["metadata"]["name"]: body["spec"] for body in network_policies(blueprint)}


def reaches(rules: list[Json], address: str) -> bool:
    """Whether an egress rule lets traffic to this address out, on any port."""
    ip = ipaddress.ip_address(address)
    for rule in rules:
        if "to" not in rule:
            return True
        for block in (peer["ipBlock"] for peer in rule["to"] if "ipBlock" in peer):
            networks = [ipaddress.ip_network(each) for each in block.get("except", [])]
            if ip in ipaddress.ip_network(block["cidr"]) and not any(ip in network for network in networks):
                return True
    return False


@calmly
@given(blueprints())
def test_every_pod_is_closed_both_ways_but_for_its_namespace_and_dns(blueprint: Blueprint) -> None:
    isolation = specs(blueprint)[ISOLATION]
    assert isolation["podSelector"] == {}
    assert isolation["policyTypes"] == ["Ingress", "Egress"]
    assert isolation["ingress"] == [{"from": [OWN_NAMESPACE]}]
    own, dns = isolation["egress"]
    assert own == {"to": [OWN_NAMESPACE]}
    assert dns["to"] == [DNS]
    assert {port["port"] for port in dns["ports"]} == {53}


@calmly
@given(blueprints())
def test_each_opening_is_there_exactly_where_it_is_needed(blueprint: Blueprint) -> None:
    found = specs(blueprint)
    assert (INGRESS_CONTROLLER in found) == blueprint.serves
    assert (EGRESS in found) == (blueprint.effective.network.egress != "None")
    assert (DATABASE in found) == bool(blueprint.database_cidrs)
    assert found.keys() <= {ISOLATION, INGRESS_CONTROLLER, EGRESS, DATABASE}


@calmly
@given(blueprints())
def test_nothing_comes_in_but_from_the_own_namespace_and_the_ingress_controller(blueprint: Blueprint) -> None:
    settings = blueprint.cluster.ingress
    for name, spec in specs(blueprint).items():
        if name == ISOLATION:
            continue
        rules = spec.get("ingress", [])
        assert bool(rules) == ("Ingress" in spec["policyTypes"]) == (name == INGRESS_CONTROLLER)
        if rules and settings is not None and settings.controller_namespace is not None:
            namespaces = {"matchLabels": {"kubernetes.io/metadata.name": settings.controller_namespace}}
            assert rules == [{"from": [{"namespaceSelector": namespaces}]}]


@calmly
@given(blueprints())
def test_nothing_goes_out_to_private_or_metadata_addresses_unless_the_plan_says_all(blueprint: Blueprint) -> None:
    egress = specs(blueprint).get(EGRESS, {}).get("egress", [])
    everything = blueprint.effective.network.egress == "All"
    for address in (*METADATA_ADDRESSES, *PRIVATE_ADDRESSES):
        assert reaches(egress, address) == everything, address
    for address in ("1.1.1.1", "168.63.129.15", "2606:4700::1111"):
        assert reaches(egress, address) == (blueprint.effective.network.egress != "None")


@calmly
@given(blueprints())
def test_the_database_is_reached_at_its_addresses_and_its_port_only(blueprint: Blueprint) -> None:
    spec = specs(blueprint).get(DATABASE)
    if spec is None:
        return
    (rule,) = spec["egress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": blueprint.database_port}]
    assert [peer["ipBlock"]["cidr"] for peer in rule["to"]] == list(blueprint.database_cidrs)


@calmly
@given(blueprints())
def test_no_peer_is_empty_and_no_exception_lies_outside_of_its_block(blueprint: Blueprint) -> None:
    for spec in specs(blueprint).values():
        rules = [*spec.get("ingress", []), *spec.get("egress", [])]
        for peer in (peer for rule in rules for peer in (*rule.get("from", ()), *rule.get("to", ()))):
            assert peer
            if "ipBlock" in peer:
                whole = ipaddress.ip_network(peer["ipBlock"]["cidr"])
                for part in map(ipaddress.ip_network, peer["ipBlock"].get("except", [])):
                    assert part.network_address in whole
                    assert part.prefixlen > whole.prefixlen


@pytest.mark.parametrize("address", METADATA_ADDRESSES)
def test_a_rule_without_exceptions_would_reach_metadata(address: str) -> None:
    cidr = "::/0" if ":" in address else "0.0.0.0/0"
    assert reaches([{"to": [{"ipBlock": {"cidr": cidr}}]}], address)
