"""The running operator while target clusters hang, vanish, lose answers, turn into others, or take rights away."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.controlplane.cluster import ControlPlane
from tests.integration.conftest import FreshControlPlane
from tests.scene.faulty import (
    CLUSTER,
    IDENTITY,
    LATER,
    SOON,
    TENANT,
    FaultyLab,
    condition,
    faulty_lab,
    operators_writes,
    written,
)
from tests.scene.installation import NAMESPACE, OPERATOR, install_target, kubeconfig_secret, operator_kubeconfig
from tests.scene.lab import cluster_body, is_ready, wait_until
from tests.scene.proxy import Backend
from tests.scene.proxy_faults import Answer, Cut, Hang, Slow

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("fresh_control_plane"),  # has the binary built outside the time-out
]

CLUSTERS = "clusters.tenantry.io"
OTHER = "eu-2"
HERE, THERE = {"cluster": CLUSTER}, {"cluster": OTHER}
QUICK = 40.0
"""Seconds in which a tenant of a healthy cluster is Ready, whatever hangs elsewhere; one is normal."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyLab]:
    """With a second, healthy target: Cluster `eu-2`, behind no proxy."""
    with faulty_lab(tmp_path_factory.mktemp("target-faults")) as opened, ControlPlane("faulty-other") as other:
        install_target(other.access)
        opened.apply(
            kubeconfig_secret(f"{OTHER}-kubeconfig", operator_kubeconfig(other.access)),
            cluster_body(OTHER, default=False),
        )
        opened.others[OTHER] = other
        yield opened


@pytest.fixture
def name(name_prefix: str) -> str:
    """Of a test's tenant."""
    return name_prefix


def wait_cluster_ready(lab: FaultyLab, name: str = CLUSTER) -> None:
    lab.wait_condition(CLUSTERS, name, "Ready", "True")


def wait_words(lab: FaultyLab, name: str, type_: str, words: str) -> None:
    """Wait until a condition says so: what is told first may be that a request under way was cut off."""

    def message() -> str:
        return str(condition(lab.get(CLUSTERS, name) or {}, type_).get("message"))

    wait_until(lambda: words in message(), LATER, message)


def token_of(kubeconfig: str) -> str:
    return str(json.loads(kubeconfig)["users"][0]["user"]["token"])


# --- no answer ----------------------------------------------------------------------------------------------------
def test_a_target_that_hangs_delays_nobody_elses_tenants_and_comes_back_by_itself(lab: FaultyLab, name: str) -> None:
    hung, late, healthy = f"{name}-hung", f"{name}-late", [f"{name}-well{number}" for number in range(5)]
    with lab.operator():
        for cluster in (CLUSTER, OTHER):
            wait_cluster_ready(lab, cluster)
        lab.apply_tenants(hung, placement=HERE)
        lab.wait_ready(hung)
        lab.lab.target.pause_apiserver()
        try:
            for tenant in healthy:
                lab.apply_tenants(f"{tenant}-hung", placement=HERE)
                lab.apply_tenants(tenant, placement=THERE)
                begun = time.monotonic()
                lab.wait_ready(tenant, seconds=QUICK)
                assert time.monotonic() - begun < QUICK
            told = lab.wait_condition(TENANT, hung, "Ready", "Unknown", "ClusterUnreachable")
            assert CLUSTER in told["message"]
            lab.wait_condition(CLUSTERS, CLUSTER, "Reachable", "Unknown", "Unreachable")
            lab.apply_tenants(late, placement=HERE)
            lab.wait_condition(TENANT, late, "Ready", "Unknown", "ClusterUnreachable")
            assert all(is_ready(lab.tenant(tenant)) for tenant in healthy)
        finally:
            lab.lab.target.resume_apiserver()
        waiting = [f"{tenant}-hung" for tenant in healthy]
        lab.wait_ready(hung, late, *waiting, seconds=LATER)
        lab.delete_tenants(hung, late, *healthy, *waiting)


def test_a_target_that_refuses_connections_is_told_and_found_again(lab: FaultyLab, name: str) -> None:
    late = f"{name}-late"
    with lab.operator():
        wait_cluster_ready(lab, OTHER)
        lab.apply_tenants(name, placement=THERE)
        lab.wait_ready(name)
        lab.others[OTHER].stop_apiserver()
        try:
            lab.wait_condition(CLUSTERS, OTHER, "Reachable", "Unknown", "Unreachable")
            wait_words(lab, OTHER, "Reachable", "refused the connection")
            lab.wait_condition(TENANT, name, "Ready", "Unknown", "ClusterUnreachable")
            lab.apply_tenants(late, placement=THERE)
            lab.wait_condition(TENANT, late, "Ready", "Unknown", "ClusterUnreachable")
        finally:
            lab.others[OTHER].start_apiserver()
        lab.wait_ready(name, late, seconds=LATER)
        lab.delete_tenants(name, late)


# --- wrong answers ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("fault", "words"),
    [(Answer.html(), "HTML"), (Answer.html(500), "500"), (Hang(), "within")],
    ids=["html", "500", "hang"],
)
def test_what_a_target_answers_instead_is_told_and_heals(
    lab: FaultyLab, name: str, fault: Answer | Hang, words: str
) -> None:
    with lab.operator():
        wait_cluster_ready(lab)
        lab.apply_tenants(name, placement=HERE)
        lab.wait_ready(name)
        uid = lab.target.get("namespace", lab.namespace_of(name))["metadata"]["uid"]
        with lab.target_proxy.fault(fault):
            lab.target_proxy.cut_connections()
            lab.wait_condition(CLUSTERS, CLUSTER, "Ready", "Unknown", "Unreachable")
            wait_words(lab, CLUSTER, "Ready", words)
            lab.wait_condition(TENANT, name, "Ready", "Unknown", "ClusterUnreachable")
        wait_cluster_ready(lab)
        lab.wait_ready(name, seconds=LATER)
        assert lab.target.get("namespace", lab.namespace_of(name))["metadata"]["uid"] == uid
        lab.delete_tenants(name)


def test_a_slow_target_is_used_all_the_same(lab: FaultyLab, name: str) -> None:
    with lab.operator():
        wait_cluster_ready(lab)
        with lab.target_proxy.fault(Slow(0.7), "^/(?!.*watch=)") as slow:
            lab.apply_tenants(name, placement=HERE)
            lab.wait_ready(name, seconds=LATER)
            assert slow.hits > 5
        assert condition(lab.get(CLUSTERS, CLUSTER) or {}, "Ready")["status"] == "True"
        lab.delete_tenants(name)


@pytest.mark.parametrize("after", [True, False], ids=["answer-lost", "request-lost"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", r"/api/v1/namespaces(\?|$)"),
        ("POST", r"/namespaces/tenantry-system/configmaps"),
        ("PATCH", r"/rolebindings/"),
        ("PATCH", r"/resourcequotas/"),
        ("PATCH", r"/secrets/"),
        ("PATCH", r"/ingresses/"),
    ],
    ids=["namespace", "claim", "bindings", "quota", "secrets", "ingress"],
)
def test_a_write_to_a_target_of_which_nothing_is_heard_is_put_right(
    lab: FaultyLab, name: str, method: str, path: str, after: bool
) -> None:
    with lab.operator():
        wait_cluster_ready(lab)
        mark = lab.target.audit_mark()
        with lab.target_proxy.fault(Cut(after=after), path, method=method, times=2) as rule:
            lab.apply_tenants(name, placement=HERE)
            lab.wait_ready(name, seconds=LATER)
            assert rule.hits >= 1
        namespace = lab.namespace_of(name)
        made = [
            entry
            for entry in operators_writes(lab.target, after=mark)
            if (entry.verb, entry.resource, entry.code) == ("create", "namespaces", 201)
        ]
        assert len(made) == 1
        record = lab.record_of(name)["metadata"]["name"]
        lab.delete_tenants(name)
        wait_until(lambda: lab.get("tenantrecords", record) is None, SOON, "the record goes a moment later")
        wait_until(lambda: namespace not in namespaces(lab), SOON, "the namespace is gone")


def namespaces(lab: FaultyLab) -> list[str]:
    return [body["metadata"]["name"] for body in lab.target.get("namespaces")["items"]]


# --- another cluster ----------------------------------------------------------------------------------------------
def test_another_cluster_at_the_same_address_is_not_touched_until_somebody_accepts_it(
    lab: FaultyLab, name: str, fresh_control_plane: FreshControlPlane
) -> None:
    other = fresh_control_plane("stranger", audit=True).access
    install_target(other)
    stranger = other.get("namespace", "kube-system")["metadata"]["uid"]
    annotate = ("annotate", "--overwrite", CLUSTERS, CLUSTER)
    with lab.operator():
        wait_cluster_ready(lab)
        lab.apply_tenants(name, placement=HERE)
        lab.wait_ready(name)
        mark = other.audit_mark()
        try:
            leave_a_side(lab, name)
            seen = len(lab.target_proxy.journal.entries)
            lab.target_proxy.lead_to(Backend.of(other, token_of(operator_kubeconfig(other))))
            wait_until(lambda: _newer_watches(lab, seen) >= 8, SOON, "the watches go on there")
            assert lab.target_proxy.inject_error(410) >= 8  # a list of the stranger would say that all is gone
            told = lab.wait_condition(CLUSTERS, CLUSTER, "Ready", "False", "IdentityChanged")
            assert f"tenantry.io/accept-identity={stranger}" in told["message"]
            lab.apply_tenants(name, placement=HERE, env={"LEVEL": "high"})
            lab.apply_tenants(f"{name}-late", placement=HERE)
            for tenant in (name, f"{name}-late"):
                wait_until(lambda: _observed(lab, tenant), LATER, lambda: lab.told(tenant))  # noqa: B023 - called here
                assert condition(lab.tenant(tenant), "Ready")["status"] != "True"
            for wrong in ("yes", "*", lab.target.get("namespace", "kube-system")["metadata"]["uid"]):
                lab.management.kubectl(
                    *annotate, f"tenantry.io/accept-identity={wrong}", "tenantry.io/requestedAt=" + wrong
                )
                wait_until(lambda: _handled(lab, wrong), SOON, "the annotation was seen")  # noqa: B023 - called here
                assert condition(lab.get(CLUSTERS, CLUSTER) or {}, "Ready")["reason"] == "IdentityChanged"
            assert written(operators_writes(other, after=mark)) == []
            assert [entry for entry in other.audit_entries(after=mark) if entry.user == IDENTITY]
            lab.management.kubectl(*annotate, f"tenantry.io/accept-identity={stranger}")
            lab.wait_ready(name, f"{name}-late", seconds=LATER)
            spec = lab.record_of(name)["spec"]
            assert spec["cluster"]["id"] == stranger
            assert [side["cluster"]["id"] for side in spec["former"]] == [stranger], "what moves have left thaws, too"
            assert written(operators_writes(other, after=mark))
            lab.delete_tenants(name, f"{name}-late")
        finally:
            lab.target_proxy.lead_to(Backend.of(lab.target))
            lab.management.kubectl("annotate", CLUSTERS, CLUSTER, "tenantry.io/accept-identity-")
        wait_cluster_ready(lab)


def leave_a_side(lab: FaultyLab, tenant: str) -> None:
    """As if a move had left a namespace on that cluster: what is to become of it is all that the record says."""
    record = lab.record_of(tenant)
    place = {**record["spec"]["cluster"], "namespace": f"{tenant}-left"}
    ends = {"leftAt": "2026-05-01T12:00:00Z", "purgeAfter": "2126-05-01T12:00:00Z"}
    patch = {"spec": {"former": [{"epoch": 2, "cluster": place, **ends}]}}
    name = record["metadata"]["name"]
    lab.management.kubectl("patch", "tenantrecord", name, "--type=merge", "-p", json.dumps(patch))


def _newer_watches(lab: FaultyLab, number: int) -> int:
    return sum(watch.number > number for watch in lab.target_proxy.watches)


def _observed(lab: FaultyLab, tenant: str) -> bool:
    body = lab.tenant(tenant)
    return bool(body.get("status", {}).get("observedGeneration") == body["metadata"]["generation"])


def _handled(lab: FaultyLab, value: str) -> bool:
    return ((lab.get(CLUSTERS, CLUSTER) or {}).get("status") or {}).get("lastHandledReconcileAt") == value


# --- credentials and rights ---------------------------------------------------------------------------------------
def set_kubeconfig(lab: FaultyLab) -> str:
    """A new token into the Secret of the Cluster; the token."""
    kubeconfig = operator_kubeconfig(lab.target)
    lab.apply(kubeconfig_secret(f"{CLUSTER}-kubeconfig", lab.target_proxy.kubeconfig(kubeconfig)))
    return token_of(kubeconfig)


def test_a_rotated_token_is_picked_up_and_nobody_notices(lab: FaultyLab, name: str) -> None:
    journal = lab.target_proxy.journal
    with lab.operator() as operator:
        wait_cluster_ready(lab)
        lab.apply_tenants(name, placement=HERE)
        lab.wait_ready(name)
        before, pid = lab.get(CLUSTERS, CLUSTER) or {}, operator.pid
        token = set_kubeconfig(lab)
        wait_until(lambda: journal.entries[-1].token == token, SOON, "the new token is used")
        seen = len(journal.entries)
        lab.apply_tenants(name, placement=HERE, env={"LEVEL": "high"})
        lab.wait_ready(name)
        assert {entry.token for entry in journal.entries[seen:]} == {token}
        assert condition(lab.get(CLUSTERS, CLUSTER) or {}, "Ready") == condition(before, "Ready")
        assert operator.pid == pid
        lab.delete_tenants(name)


def test_a_revoked_token_is_told_and_a_new_one_goes_on_with_nothing_lost(lab: FaultyLab, name: str) -> None:
    late = f"{name}-late"
    with lab.operator():
        wait_cluster_ready(lab)
        lab.apply_tenants(name, placement=HERE)
        lab.wait_ready(name)
        namespace = lab.namespace_of(name)
        uid = lab.target.get("namespace", namespace)["metadata"]["uid"]
        lab.target.kubectl("delete", "serviceaccount", "-n", NAMESPACE, OPERATOR)
        install_target(lab.target)  # the account again, with another uid: the old tokens stay dead
        try:
            told = lab.wait_condition(CLUSTERS, CLUSTER, "CredentialsValid", "False", "Unauthorized")
            assert told["message"]
            assert condition(lab.get(CLUSTERS, CLUSTER) or {}, "Reachable")["status"] == "True"
            lab.wait_condition(TENANT, name, "Ready", "Unknown", "ClusterNotReady")
            lab.apply_tenants(late, placement=HERE)
            lab.wait_condition(TENANT, late, "Ready", "Unknown", "ClusterNotReady")
        finally:
            set_kubeconfig(lab)
        lab.wait_ready(name, late, seconds=LATER)
        assert lab.target.get("namespace", namespace)["metadata"]["uid"] == uid
        lab.delete_tenants(name, late)


def test_rights_that_were_taken_away_are_named_and_heal_when_given_back(lab: FaultyLab, name: str) -> None:
    ask = ("annotate", "--overwrite", CLUSTERS, CLUSTER)
    with lab.operator():
        wait_cluster_ready(lab)
        role = _role_with(lab, "ingresses")
        fewer = [
            {**rule, "resources": [each for each in rule["resources"] if each != "ingresses"]}
            if "resources" in rule
            else rule
            for rule in role["rules"]
        ]
        patch = ("patch", "clusterrole", role["metadata"]["name"], "--type=merge", "-p")
        lab.target.kubectl(*patch, json.dumps({"rules": fewer}))
        try:
            lab.management.kubectl(*ask, f"tenantry.io/requestedAt={name}")
            told = lab.wait_condition(CLUSTERS, CLUSTER, "PermissionsSufficient", "False", "PermissionsMissing")
            assert "list ingresses" in told["message"]
            assert "networkpolicies" not in told["message"]
            lab.apply_tenants(name, placement=HERE)
            lab.wait_condition(TENANT, name, "Ready", "Unknown", "ClusterNotReady")
        finally:
            lab.target.kubectl(*patch, json.dumps({"rules": role["rules"]}))
        wait_cluster_ready(lab)
        lab.wait_ready(name, seconds=LATER)
        lab.delete_tenants(name)


def _role_with(lab: FaultyLab, resource: str) -> dict[str, Any]:
    """The cluster-wide role of the operator that lets it read these."""
    bindings = lab.target.get("clusterrolebindings")["items"]
    bound = {body["roleRef"]["name"] for body in bindings if OPERATOR in json.dumps(body.get("subjects", []))}
    found: list[dict[str, Any]] = [
        body
        for body in lab.target.get("clusterroles")["items"]
        if body["metadata"]["name"] in bound and resource in json.dumps(body["rules"])
    ]
    assert len(found) == 1
    return found[0]
