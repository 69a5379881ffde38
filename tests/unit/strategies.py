"""Strategies for what people write and what is made of it: identities, plans, specs, clusters, blueprints."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from tenantry.api.cluster import Cluster, ClusterSpec
from tenantry.api.identity import TenantIdentity, namespace_name
from tenantry.api.tenant import TenantSpec
from tenantry.api.tenantplan import TenantPlanSpec
from tenantry.decide.effective import effective
from tenantry.decide.halt import Terminal
from tenantry.desired.blueprint import Blueprint, ServedHost

Json = dict[str, Any]

calmly = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
"""For a property over whole plans and specs: how long one example takes says nothing on a machine that is busy."""

DOMAIN = "eu.example.com"
ENV_NAMES = ("LOG_LEVEL", "MAX_USERS", "MAX_SEATS", "TIER", "REGION_2")
LIMIT_VALUES = ("0", "1", "2", "9", "10", "0010", "11", "2.5", "0.5", "-1", "1e3", "0_5", " 5", "NaN", "gold", "٣")
QUOTA_NAMES = (
    "requests.cpu",
    "requests.memory",
    "pods",
    "services.nodeports",
    "count/secrets",
    "requests.nvidia.com/gpu",
)
QUANTITIES = (0, 1, 7, "0", "1", "2", "500m", "0.5", "2k", "4Gi", "4096Mi", "1e3", "100n", "0.0000000001")
TEXTS = ("", "info", "Zoë & söhne", "a\nb", "{tenant}", "\N{SNOWMAN}" * 60)
PEOPLE = ("anna", "ben@example.com", "ops")


def labels(longest: int = 63) -> st.SearchStrategy[str]:
    """RFC 1123 labels, often as long as they may be."""
    edges = [("ab-" * longest)[: longest - 1] + "z", "a" + "-" * (longest - 2) + "9", "x" * longest, "0"]
    middle = st.text("ab9-", max_size=8)
    return middle.map(lambda text: f"a{text}z"[:longest]) | st.sampled_from(edges)


def hosts() -> st.SearchStrategy[str]:
    """Hosts and wildcards, many of which overlap."""
    parts = st.sampled_from(["a", "b", "shop", "eu", "example", "com"])
    names = st.lists(parts, min_size=2, max_size=5).map(".".join)
    near = st.sampled_from([DOMAIN, f"*.{DOMAIN}", f"www.{DOMAIN}", f"a.b.{DOMAIN}", "*.example.com"])
    return names | names.map(lambda name: f"*.{name}") | near


identities = st.builds(
    TenantIdentity,
    management_id=st.sampled_from(["0123456789abcdef", "fedcba9876543210"]),
    workspace=labels(63),
    workspace_uid=st.uuids().map(str),
    name=labels(40),
    incarnation=st.integers(1, 3),
    epoch=st.integers(1, 3),
)

_limit_maps = st.dictionaries(st.sampled_from(ENV_NAMES), st.sampled_from(LIMIT_VALUES), max_size=2)
_quota_maps = st.dictionaries(st.sampled_from(QUOTA_NAMES), st.sampled_from(QUANTITIES), max_size=3)
_env_maps = st.dictionaries(st.sampled_from(ENV_NAMES), st.sampled_from(TEXTS), max_size=2)
_resources = st.fixed_dictionaries({}, optional={"cpu": st.just("500m"), "memory": st.sampled_from(["64Mi", 1000])})
_modes = st.lists(st.sampled_from(["Shared", "None", "Dedicated", "External"]), max_size=3, unique=True)

plans = st.fixed_dictionaries(
    {
        "limits": _limit_maps,
        "ceilings": st.fixed_dictionaries({"limits": _limit_maps, "quota": _quota_maps}),
        "overridable": st.lists(st.sampled_from(["limits", "quota", "database.maxConnections"]), unique=True),
        "env": _env_maps,
        "network": st.fixed_dictionaries(
            {"egress": st.sampled_from(["None", "Internet", "All"]), "selfService": st.booleans()}
        ),
        "limitRange": st.fixed_dictionaries(
            {
                "container": st.fixed_dictionaries(
                    {"default": _resources, "defaultRequest": _resources}, optional={"max": _resources}
                )
            }
        ),
        "podSecurity": st.sampled_from(["restricted", "baseline"]),
        "imagePullPolicy": st.sampled_from(["Any", "Always"]),
        "maxConnections": st.integers(1, 50),
        "extensions": st.lists(st.sampled_from(["citext", "pgcrypto"]), unique=True),
        "customHosts": st.sampled_from(["Verified", "Any", "None"]),
        "allowedHosts": st.lists(hosts(), max_size=2, unique=True),
    },
    optional={"quota": st.fixed_dictionaries({"hard": _quota_maps}), "allowedModes": _modes},
).map(TenantPlanSpec.model_validate)
"""Plans of all kinds, also such as contradict themselves: defaults above the ceilings, no modes, modes to come."""

_domains = st.lists(
    st.fixed_dictionaries({"host": hosts()}, optional={"tls": st.just({"secretName": "own-tls"})}),
    max_size=3,
    unique_by=lambda domain: str(domain["host"]),
)
_subjects = st.builds(
    lambda kind, name: {"kind": kind, "name": name},
    st.sampled_from(["User", "Group", "ServiceAccount"]),
    st.sampled_from(PEOPLE),
)
_bindings = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["Admin", "Edit", "View"]), "subjects": st.lists(_subjects, min_size=1, max_size=3)}
    ),
    max_size=3,
    unique_by=lambda binding: str(binding["role"]),
)
_tame = {
    "displayName": st.sampled_from(TEXTS),
    "domains": _domains,
    "ingress": st.fixed_dictionaries({"enabled": st.booleans()}),
    "rbac": st.fixed_dictionaries({"enabled": st.booleans(), "bindings": _bindings}),
}
_greedy = {
    "env": _env_maps,
    "limits": _limit_maps,
    "quota": st.fixed_dictionaries({"hard": _quota_maps}),
    "database": st.fixed_dictionaries(
        {"extensions": st.lists(st.sampled_from(["citext", "pgcrypto"]), max_size=1)},
        optional={"mode": st.sampled_from(["Shared", "None"]), "maxConnections": st.integers(1, 60)},
    ),
}
tame_specs = st.fixed_dictionaries(_tame).map(TenantSpec.model_validate)
"""Specs that ask for nothing a plan could refuse."""
specs = st.fixed_dictionaries({**_tame, **_greedy}).map(TenantSpec.model_validate)
"""Specs that ask for all sorts of things."""

_tls = st.sampled_from([None, {"clusterIssuer": "letsencrypt"}, {"controllerDefault": True}])
_ingresses = st.builds(
    lambda tls, controller: {"className": "traefik", "tls": tls, "controllerNamespace": controller},
    _tls,
    st.sampled_from([None, "traefik"]),
)
cluster_specs = st.fixed_dictionaries(
    {
        "ingress": st.none() | _ingresses,
        "domain": st.just(DOMAIN),
        "region": st.sampled_from([None, "fra", "ams"]),
        "environment": st.sampled_from([None, "prod", "dev"]),
        "default": st.booleans(),
        "unschedulable": st.booleans(),
        "capacity": st.none() | st.builds(lambda most: {"maxTenants": most}, st.none() | st.integers(0, 3)),
        "allowedWorkspaces": st.sampled_from(
            [{"from": "All"}, {"from": "None"}, {"from": "Selector", "selector": {"matchLabels": {"stage": "prod"}}}]
        ),
    }
).map(ClusterSpec.model_validate)


def cluster(name: str, spec: ClusterSpec) -> Cluster:
    """A Cluster of that name."""
    return Cluster.model_validate({"metadata": {"name": name}, "spec": spec})


@st.composite
def blueprints(draw: st.DrawFn) -> Blueprint:
    """Tenants that their plans allow, with any set of hosts."""
    identity, plan, spec = draw(identities), draw(plans), draw(specs)
    try:
        mixed = effective(spec, "basic", plan)
    except Terminal:
        spec, plan = draw(tame_specs), plan.model_copy(update={"allowed_modes": ["Shared", "None"]})
        mixed = effective(spec, "basic", plan)
    served = draw(st.lists(st.builds(ServedHost, hosts(), st.sampled_from(["", "own-tls"])), max_size=3))
    cidrs = draw(st.sampled_from([(), ("192.0.2.7/32",), ("192.0.2.0/24", "2001:db8::/64")]))
    return Blueprint(
        identity=identity,
        namespace=namespace_name("{workspace}-{tenant}", identity),
        cluster_name="eu-1",
        cluster=draw(cluster_specs),
        spec=spec,
        effective=mixed,
        hosts=tuple(served),
        env=draw(_env_maps),
        database_port=5432 if cidrs else None,
        database_cidrs=cidrs,
    )
