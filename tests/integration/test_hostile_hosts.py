"""A hostile workspace admin gets no host, namespace or name of another tenant, and learns nothing of what is hidden."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from tests.integration.hostile import DATABASE, Mallory, Victim, make_victim
from tests.integration.registering import Registrar
from tests.integration.tenants import condition, wait_for
from tests.scene.stage import CLUSTER, DOMAIN

from tenantry.api.names import TENANT_FINALIZER
from tenantry.api.resources import INGRESSES

if TYPE_CHECKING:
    from tests.integration.tenants import Workbench

Json = dict[str, Any]


@pytest.fixture
def mallory(workbench: Workbench) -> Iterator[Mallory]:
    with Mallory(workbench) as attacker:
        yield attacker


@pytest.fixture
def victim(workbench: Workbench) -> Iterator[Victim]:
    """Has a wildcard and a host of its own beside the default one. Untouched in the end, whatever was tried."""
    plan = workbench.platform("TenantPlan", "any", customHosts="Any")
    own = f"{workbench.prefix}.example.net"
    target = make_victim(workbench, plan=plan, domains=[{"host": own}, {"host": f"*.apps.{own}"}])
    yield target
    target.check()
    for host in target.tenant["status"]["hosts"]:
        claim = workbench.claim(host)
        assert claim["metadata"]["labels"]["tenantry.io/tenant-hash"] == target.where.hash


TAKEN = "{host} is taken by another tenant of this cluster, or overlaps with a host of one; choose another"
UNDER = (
    f"spec.domains: {{host}} is under the cluster's own domain {DOMAIN}, where tenants have only their default host; "
    "use a host of your own"
)
HOSTS: dict[str, tuple[str, str, str]] = {
    "the custom host of another": ("{prefix}.example.net", "HostnameConflict", TAKEN),
    "the wildcard of another": ("*.apps.{prefix}.example.net", "HostnameConflict", TAKEN),
    "a host under another's wildcard": ("shop.apps.{prefix}.example.net", "HostnameConflict", TAKEN),
    "a host far under another's wildcard": ("a.b.apps.{prefix}.example.net", "HostnameConflict", TAKEN),
    "a wildcard over another's host": ("*.example.net", "HostnameConflict", TAKEN),
    "a wildcard under another's wildcard": ("*.shop.apps.{prefix}.example.net", "HostnameConflict", TAKEN),
    "the default host of another": ("{default}", "HostNotAllowed", UNDER),
    "a host under the default host of another": ("www.{default}", "HostNotAllowed", UNDER),
    "the cluster's domain": (DOMAIN, "HostNotAllowed", UNDER),
    "a wildcard of the cluster's domain": (f"*.{DOMAIN}", "HostNotAllowed", UNDER),
    "a wildcard over the cluster's domain": ("*.example.com", "HostNotAllowed", UNDER),
    "a reserved host": (f"login.{DOMAIN}", "HostNotAllowed", UNDER),
}


@pytest.mark.parametrize("case", HOSTS)
def test_a_host_of_another_tenant_or_of_the_platform_is_not_given_away(
    mallory: Mallory, victim: Victim, case: str
) -> None:
    """Her plan is as generous as it can be."""
    template, reason, message = HOSTS[case]
    bench = mallory.bench
    host = template.format(prefix=bench.prefix, default=victim.host)
    assert mallory.create(plan=f"{bench.prefix}-any", domains=[{"host": host}]).status == 201
    tenant = bench.told("False", reason, message.format(host=host))
    assert tenant["status"]["hosts"] == [f"acme-{bench.workspace}.{DOMAIN}"], "what is hers she has"
    ingress = bench.on_target(INGRESSES, bench.whereabouts().namespace, "tenant")
    assert [rule["host"] for rule in ingress["spec"]["rules"]] == tenant["status"]["hosts"]
    for secret in (victim.workspace, victim.where.hash):
        assert secret not in str(tenant["status"]).replace(host, "")


@pytest.mark.parametrize("host", ["{}.", "UPPER.{}", "a_b.{}", "{}/path", "{}:443", "*", "*.*.{}", "a..{}", "xn--é.{}"])
def test_a_host_in_another_spelling_is_no_host(mallory: Mallory, host: str) -> None:
    answer = mallory.create(domains=[{"host": host.format("acme.example.net")}])
    assert answer.status == 422
    assert "spec.domains[0].host" in answer.message


def test_a_host_that_is_not_proven_is_not_claimed_so_nobody_is_kept_from_it(mallory: Mallory) -> None:
    bench = mallory.bench
    host = f"bank-{bench.prefix}.example.org"
    mallory.create(domains=[{"host": host}])
    bench.told("Unknown", "HostNotVerified", None)
    assert not bench.claim(host)


@pytest.mark.parametrize("name", ["x" * 41, "a.b", "default", "kube-system", "kube-x", "tenantry-system", "A", "-a"])
def test_names_that_lead_elsewhere_are_refused(mallory: Mallory, name: str) -> None:
    assert mallory.create(name).status == 422


def test_names_that_look_like_anothers_make_tenants_of_their_own(mallory: Mallory, victim: Victim) -> None:
    """Her namespaces, records, databases: the hash tells them apart, whatever the names are made of."""
    bench = mallory.bench
    short = victim.where.hash[:6]
    names = [f"acme-{victim.where.hash}", f"acme-{short}", f"tenantry-{short}", "y" * 40, "0", "a--b"]
    for name in names:
        assert mallory.create(name, database=DATABASE).status == 201
    found = [bench.whereabouts(name) for name in names]
    for name, where in zip(names, found, strict=True):
        status = bench.ready(name)["status"]
        assert status["namespace"] == where.namespace
        assert len(where.namespace) <= 63
        assert status["hosts"][0].partition(".")[0].startswith(name)
    every = [victim.where, *found]
    for kind in ("hash", "namespace", "database"):
        assert len({getattr(where, kind) for where in every}) == len(every)
    assert len({where.identity.record for where in every}) == len(every)


def test_two_workspaces_whose_names_run_together_share_nothing_and_the_first_keeps_its_host(
    workbench: Workbench,
) -> None:
    """`a-b` in `c` and `a` in `b-c`: the default host template makes one host of both, which only one can have."""
    first, second = (workbench.make_workspace(f"{start}{workbench.prefix}") for start in ("", "b-"))
    workbench.make("a-b", first)
    workbench.apply(workbench.tenant("a", second))
    host = f"a-b-{workbench.prefix}.{DOMAIN}"
    workbench.told("False", "HostnameConflict", TAKEN.format(host=host), name="a", workspace=second)
    for kind in ("NamespaceReady", "SecretsReady"):
        told = lambda kind=kind: condition(workbench.get("a", second), kind)["status"] == "True"  # noqa: E731 - one use
        wait_for(told, f"{kind}: the rest it gets")
    wheres = workbench.whereabouts("a-b", first), workbench.whereabouts("a", second)
    assert wheres[0].namespace != wheres[1].namespace
    assert workbench.claim(host)["metadata"]["labels"]["tenantry.io/tenant-hash"] == wheres[0].hash
    assert workbench.ready("a-b", first)["status"]["hosts"] == [host]


HIDDEN: dict[str, tuple[Json, str, str]] = {
    "plan": (
        {"plan": "{name}"},
        "PlanNotFound",
        "spec.plan: there is no TenantPlan '{name}' that this workspace may use",
    ),
    "cluster": (
        {"placement": {"cluster": "{name}"}},
        "ClusterNotFound",
        "spec.placement.cluster: there is no Cluster '{name}' that this workspace may use",
    ),
    "region": (
        {"placement": {"region": "{name}"}},
        "NoClusterMatches",
        "no cluster with region: {name} that this workspace may use; register one or set spec.placement",
    ),
    "environment": (
        {"placement": {"environment": "{name}"}},
        "NoClusterMatches",
        "no cluster with environment: {name} that this workspace may use; register one or set spec.placement",
    ),
    "server": (
        {"placement": {"cluster": CLUSTER}, "database": {"mode": "Shared", "shared": {"server": "{name}"}}},
        "ServerNotFound",
        "there is no DatabaseServer '{name}' that this workspace may use",
    ),
}


@pytest.mark.parametrize("what", HIDDEN)
def test_what_a_workspace_may_not_use_is_to_it_as_if_it_were_not_there(trial: Workbench, what: str) -> None:
    template, reason, message = HIDDEN[what]
    with Mallory(trial) as mallory, Registrar(trial) as registrar:
        nobody: Json = {"allowedWorkspaces": {"from": "None"}}
        hidden = registrar.full("hidden")
        registrar.secret(
            "hidden", {"value": trial.stage.target.kubeconfig_for("none"), "username": "a", "password": "b"}
        )
        registrar.cluster("hidden", region=hidden, environment=hidden, **nobody)
        registrar.server("hidden", port=trial.stage.postgres_18.port, **nobody)
        trial.platform("TenantPlan", "hidden", **nobody)
        registrar.told("Cluster", hidden, "False", "Unauthorized", "Unauthorized")
        for tenant, name in (("acme", hidden), ("other", f"{trial.prefix}-absent")):
            mallory.create(tenant, **_named(template, name))
            trial.told("Unknown", reason, message.replace("{name}", name), name=tenant)
        statuses = [trial.get(tenant)["status"] for tenant in ("acme", "other")]
        assert {key for status in statuses for key in status} == {"observedGeneration", "conditions"}


def _named(template: Json, name: str) -> Json:
    return {
        key: _named(value, name) if isinstance(value, dict) else value.replace("{name}", name)
        for key, value in template.items()
    }


@pytest.mark.timeout(600)
def test_a_tenant_that_waits_for_a_search_is_not_told_the_names_of_what_it_may_not_use(trial: Workbench) -> None:
    with Mallory(trial) as mallory, Registrar(trial) as registrar:
        hidden = registrar.cluster("hidden", allowedWorkspaces={"from": "None"})
        registrar.told(
            "Cluster",
            hidden,
            "Unknown",
            "SecretNotFound",
            f"spec.kubeconfigSecretRef: there is no Secret {hidden!r} in the operator's namespace 'tenantry-system'",
        )
        mallory.create(metadata={"finalizers": [TENANT_FINALIZER]})
        told = condition(trial.told("Unknown", "RecordMissing", None))["message"]
        assert "Cluster that this workspace may not use" in told
        assert hidden not in told
        registrar.delete("Cluster", hidden)
        registrar.gone("Cluster", hidden)
        mallory.handled()
        # Tests beside this one have clusters that can't be searched, too: then it is looked for again every 30 s.
        trial.ready(seconds=360)
