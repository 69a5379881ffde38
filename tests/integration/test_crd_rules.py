"""Every validation rule of the kinds on a real API server: what it refuses, in which words, and what it lets pass."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pytest
from tests.integration.crd_samples import KINDS, MINIMAL, Access, Api, Json, merged, namespace_of, root_schema

DEDICATED = {"version": "17", "size": "small", "storage": {"size": "10Gi"}}
LATER: Final = "is not supported yet: leave it out"
RESERVED_ENV: Final = (
    "can't set names that start with KUBERNETES_, PG or LD_: programs take orders from them; rename it"
)
IN_BOTH: Final = "a name can't be in both env and limits: limits are delivered as env too; take it out of one"
ENV_KEY: Final = "each key must be 1 to 128 characters long and of the form ^[A-Za-z_][A-Za-z0-9_]*$"
QUOTA_KEY: Final = "each key must be 1 to 128 characters long and of the form ^[a-z0-9]([a-z0-9./-]*[a-z0-9])?$"
SIZE_KEY: Final = "each key must be 1 to 63 characters long and of the form ^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"
LABEL_KEY: Final = "each key must be at most 317 characters long"
EITHER_PLACEMENT: Final = "name either a cluster, or a region and an environment (one of the two is enough)"
SUBJECTS: Final = "subjects can't start with system: (Kubernetes' own users and groups); name the person or group"
SELECTOR: Final = "selector must be set with from: Selector, and with nothing else"
EITHER_TLS: Final = "set either clusterIssuer or controllerDefault: true"
RECIPIENT: Final = f"age1{'q' * 58}"
WINDOW: Final = "duration must be from 1m to 168h (a week)"
CA: Final = "caSecretRef must be set with sslMode verify-ca or verify-full"


@dataclass(frozen=True, slots=True)
class Case:
    """One rule of one kind. `refused` and `accepted` are merge patches on the kind's minimal spec."""

    kind: str
    field: str
    message: str
    refused: Json
    accepted: Json

    def __str__(self) -> str:
        return f"{self.kind}.{self.field}"


def binding(*names: str) -> Json:
    return {"rbac": {"bindings": [{"role": "Edit", "subjects": [{"kind": "User", "name": name} for name in names]}]}}


def allowed(**value: Any) -> Json:
    return {"allowedWorkspaces": {key.rstrip("_"): inner for key, inner in value.items()}}


def ingress(**value: Any) -> Json:
    return {"ingress": {"className": "traefik", **value}}


def cases() -> Iterator[Case]:
    yield from tenant_cases()
    yield from plan_cases()
    yield from cluster_cases()
    yield Case("DatabaseServer", "spec.caSecretRef", CA, {"sslMode": None}, {"sslMode": "require"})
    yield Case("DatabaseServer", "spec.caSecretRef", CA, {"sslMode": "verify-ca"}, {"caSecretRef": {"name": "ca"}})
    yield from backup_cases()
    for kind in ("TenantPlan", "Cluster", "DatabaseServer", "BackupStore"):
        labels = "spec.allowedWorkspaces.selector.matchLabels"
        selected = allowed(from_="Selector", selector={"matchLabels": {"a": "b"}})
        too_long = allowed(from_="Selector", selector={"matchLabels": {"k" * 318: "b"}})
        yield Case(kind, "spec.allowedWorkspaces.selector", SELECTOR, allowed(from_="Selector"), selected)
        yield Case(kind, "spec.allowedWorkspaces.selector", SELECTOR, allowed(selector={}), allowed(from_="All"))
        yield Case(kind, "spec.allowedWorkspaces.selector", SELECTOR, allowed(from_="All", selector={}), allowed())
        yield Case(kind, labels, LABEL_KEY, too_long, selected)


def backup_cases() -> Iterator[Case]:
    def case(field: str, message: str, refused: Json, accepted: Json) -> Case:
        return Case("BackupStore", f"spec.{field}", message, refused, accepted)

    folder, bucket = {"url": "file:///backups"}, {"url": "gs://backups"}
    compatible, key = {"endpoint": "https://s3.example.com"}, {"credentialsSecretRef": {"name": "c"}}
    with_endpoint = "endpoint goes with s3:// and az:// only; leave it out"
    yield case("endpoint", with_endpoint, {**bucket, **compatible}, compatible)
    yield case("endpoint", with_endpoint, {**folder, **compatible}, {"url": "az://backups", **compatible})
    with_region = "region goes with s3:// only; leave it out"
    yield case("region", with_region, {**bucket, "region": "eu-1"}, {"region": "eu-1"})
    no_credentials = "a folder has no credentials; leave credentialsSecretRef out"
    yield case("credentialsSecretRef", no_credentials, {**folder, **key}, {**bucket, **key})
    keys = "set recipients, or secretRef, or both"
    yield case("encryption", keys, {"encryption": {}}, {"encryption": {"secretRef": {"name": "age"}}})
    yield case("encryption", keys, {"encryption": {"recipients": []}}, {"encryption": {"recipients": [RECIPIENT]}})
    interval = "interval must be from 1m to 8760h (a year), or 0s for never"
    for refused, accepted in (("59s", "1m"), ("8760h1s", "8760h"), ("1s", "0s")):
        never = {"verification": {"interval": accepted}}
        yield case("verification.interval", interval, {"verification": {"interval": refused}}, never)
    found = {"source": {"tenant": {"name": "acme"}, "stored": {"run": "20260101t030000z-01234567"}}}
    stays = "what was found in a store stays there: with source.stored it must be Retain"
    yield Case("TenantBackup", "spec.deletionPolicy", stays, {**found, "deletionPolicy": "Delete"}, found)
    for refused, accepted in (("59s", "1m"), ("168h1s", "168h")):
        yield case("verification.window.duration", WINDOW, open_for(refused), open_for(accepted))


def open_for(duration: str) -> Json:
    return {"verification": {"window": {"schedule": "0 1 * * *", "duration": duration}}}


def tenant_cases() -> Iterator[Case]:
    def case(field: str, message: str, refused: Json, accepted: Json | None = None) -> Case:
        return Case("Tenant", f"spec.{field}", message, refused, accepted or {})

    tier2 = {"tier": "Tier2"}
    yield case("placement", "Tier2 and Tier3 need a placement", tier2, {"tier": "Tier1"})
    own_cluster = {"tier": "Tier3", "placement": {"region": "r"}}
    yield case("placement", "Tier2 and Tier3 need a placement", {"tier": "Tier3"}, own_cluster)
    there = {"placement": {"cluster": "c"}}
    own = "Tier2 needs database.mode: Dedicated, a server of its own"
    promised = {**tier2, **there, "database": {"mode": "Dedicated", "dedicated": DEDICATED}}
    yield case("database", own, {**tier2, **there, "database": {"mode": "Shared"}}, promised)
    yield case("database", own, {**tier2, **there}, promised)
    yield from proxy_cases()
    ttl = "ttl must be a duration from 1m to 8760h (a year)"
    yield case("ephemeral.ttl", ttl, {"ephemeral": {"ttl": "59s"}}, {"ephemeral": {"ttl": "1m"}})
    yield case("ephemeral.ttl", ttl, {"ephemeral": {"ttl": "8760h1s"}}, {"ephemeral": {"ttl": "8760h"}})
    yield from env_cases("Tenant")
    yield case("tags", LABEL_KEY, {"tags": {"k" * 318: "v"}}, {"tags": {"k" * 317: "v"}})
    yield case("quota.hard", QUOTA_KEY, {"quota": {"hard": {"-": 1}}}, {"quota": {"hard": {"requests.cpu": 1}}})
    both = {"cluster": "c", "region": "r"}
    yield case("placement", EITHER_PLACEMENT, {"placement": {}}, {"placement": {"cluster": "c"}})
    yield case("placement", EITHER_PLACEMENT, {"placement": both}, {"placement": {"region": "r"}})
    yield case("placement", EITHER_PLACEMENT, {"placement": both}, {"placement": {"region": "r", "environment": "e"}})
    yield case("rbac.bindings[].subjects[].name", SUBJECTS, binding("ann", "system:masters"), binding("ann", "systema"))
    yield from external_cases()
    server = {"shared": {"server": "s"}}
    goes_with = "shared goes with mode: Shared only"
    yield case("database.shared", goes_with, {"database": server}, {"database": {"mode": "Shared", **server}})
    yield case("database.shared", goes_with, {"database": {"mode": "None", **server}}, {"database": {"mode": "None"}})
    yield from dedicated_cases()
    year = "window can be at most 8760h (a year)"
    yield case("deletion.window", year, {"deletion": {"window": "8760h1s"}}, {"deletion": {"window": "8760h"}})
    yield from rotation_cases()


def dedicated_cases() -> Iterator[Case]:
    def case(field: str, message: str, refused: Json, accepted: Json) -> Case:
        return Case("Tenant", f"spec.{field}", message, {"database": refused}, {"database": accepted})

    own = {"mode": "Dedicated", "dedicated": DEDICATED}
    goes_with = "dedicated must be set with mode: Dedicated, and goes with no other mode"
    yield case("database.dedicated", goes_with, {"mode": "Dedicated"}, own)
    yield case("database.dedicated", goes_with, {**own, "mode": "Shared"}, {"mode": "Shared"})
    outside = {"externalAccess": {"enabled": True, "cidrs": ["192.0.2.0/24"]}}
    only = "externalAccess goes with mode: Dedicated only: other tenants' databases are on the shared servers"
    yield case("database.externalAccess", only, {"mode": "Shared", **outside}, {**own, **outside})
    yield case("database.externalAccess", only, outside, {"mode": "Shared"})
    more = "instances: more than 1 takes an operator of databases: use 1, or provider: CloudNativePG"
    two = {**DEDICATED, "instances": 2}
    operated = {**own, "dedicated": {**two, "provider": "CloudNativePG"}}
    yield case("database.dedicated.instances", more, {**own, "dedicated": two}, operated)


def external_cases() -> Iterator[Case]:
    own = {"mode": "External", "external": {"secretRef": {"name": "customer-db"}}}

    def case(field: str, message: str, refused: Json, accepted: Json) -> Case:
        return Case("Tenant", f"spec.database.{field}", message, {"database": refused}, {"database": accepted})

    together = "external must be set with mode: External, and goes with no other mode"
    yield case("external", together, {"mode": "External"}, own)
    yield case("external", together, {**own, "mode": "Shared"}, {"mode": "Shared"})
    yield case("external", together, {"external": own["external"]}, {})
    extensions = "extensions can't be set with mode: External: whoever owns that database makes them there"
    yield case("extensions", extensions, {**own, "extensions": ["citext"]}, {**own, "extensions": []})
    limits = "maxConnections can't be set with mode: External: the limits of that database are its owner's"
    yield case("maxConnections", limits, {**own, "maxConnections": 1}, {"mode": "Shared", "maxConnections": 1})
    rotation = (
        "rotation can't be set with database.mode: External: its password is changed by whoever owns that database; "
        "put the new one into the Secret"
    )
    for value in ({"interval": "720h"}, {"gracePeriod": "1h"}, {"restartWorkloads": True}):
        accepted: Json = {"database": {"mode": "Shared"}, "rotation": value}
        yield Case("Tenant", "spec.rotation", rotation, {"database": own, "rotation": value}, accepted)
    yield Case(
        "Tenant", "spec.rotation", rotation, {"database": own, "rotation": {"interval": "1h"}}, {"database": own}
    )


def proxy_cases() -> Iterator[Case]:
    set_twice = "proxy sets HTTP_PROXY, HTTPS_PROXY and NO_PROXY, in both cases: take them out of env and limits"
    proxy: Json = {"proxy": {"httpSecretRef": {"name": "proxy"}, "noProxy": ["10.0.0.0/8", ".example.com", "[::1]"]}}
    for field, name in (("env", "HTTP_PROXY"), ("env", "no_proxy"), ("limits", "HTTPS_PROXY")):
        refused = {**proxy, field: {name: "1"}}
        yield Case("Tenant", "spec.proxy", set_twice, refused, {**proxy, field: {"FTP_PROXY": "1"}})
    yield Case("Tenant", "spec.proxy", set_twice, {**proxy, "env": {"http_proxy": ""}}, {"env": {"http_proxy": ""}})


def rotation_cases() -> Iterator[Case]:
    def case(field: str, message: str, refused: Json, accepted: Json) -> Case:
        return Case("Tenant", f"spec.rotation.{field}", message, {"rotation": refused}, {"rotation": accepted})

    interval = "interval must be a duration from 1h to 87600h (ten years)"
    short = {"gracePeriod": "1m"}
    yield case("interval", interval, {**short, "interval": "59m59s"}, {**short, "interval": "1h"})
    yield case("interval", interval, {"interval": "87600h1s"}, {"interval": "87600h"})
    year = "gracePeriod can be at most 8760h (a year)"
    yield case("gracePeriod", year, {"gracePeriod": "8760h1s"}, {"gracePeriod": "8760h"})
    shorter = "gracePeriod must be shorter than interval: the former login is locked before it is used again"
    yield case("gracePeriod", shorter, {"interval": "24h"}, {"interval": "24h", "gracePeriod": "23h59m"})


def env_cases(kind: str) -> Iterator[Case]:
    for field in ("env", "limits"):
        for name in ("KUBERNETES_HOST", "PGPASSWORD", "LD_PRELOAD"):
            accepted = {field: {name.lower(): "1", "MY_" + name: "1"}}
            yield Case(kind, f"spec.{field}", f"{field} {RESERVED_ENV}", {field: {name: "1"}}, accepted)
        for name in ("", "1A", "A-B", "A" * 129):
            yield Case(kind, f"spec.{field}", ENV_KEY, {field: {name: "1"}}, {field: {"A" * 128: "1", "_a1": "1"}})
    accepted = {"env": {"A": "1"}, "limits": {"B": "1"}}
    yield Case(kind, "spec.limits", IN_BOTH, {"env": {"A": "1", "B": "1"}, "limits": {"B": "2"}}, accepted)


def plan_cases() -> Iterator[Case]:
    yield from plan_deletion_cases()
    yield from env_cases("TenantPlan")
    cpu = {"requests.cpu": "1", "count/configmaps": 2}
    ceilings = {"ceilings": {"quota": cpu, "limits": {"A": "1"}}}
    size = {"cpu": 1, "memory": "1Gi"}
    yield Case("TenantPlan", "spec.sizes", SIZE_KEY, {"sizes": {"Big": size}}, {"sizes": {"big": size}})
    yield Case("TenantPlan", "spec.quota.hard", QUOTA_KEY, {"quota": {"hard": {"cpu.": 1}}}, {"quota": {"hard": cpu}})
    yield Case("TenantPlan", "spec.ceilings.quota", QUOTA_KEY, {"ceilings": {"quota": {"CPU": 1}}}, ceilings)
    yield Case("TenantPlan", "spec.ceilings.limits", ENV_KEY, {"ceilings": {"limits": {"a.b": "1"}}}, ceilings)


def plan_deletion_cases() -> Iterator[Case]:
    def case(field: str, message: str, refused: Json, accepted: Json) -> Case:
        return Case("TenantPlan", f"spec.deletion.{field}", message, {"deletion": refused}, {"deletion": accepted})

    for field in ("minWindow", "maxWindow"):
        year = f"{field} can be at most 8760h (a year)"
        longest = {"maxWindow": "8760h", field: "8760h"}
        yield case(field, year, {**longest, field: "8760h1s"}, longest)
    longer = "minWindow can't be longer than maxWindow (720h where it is not given)"
    yield case("minWindow", longer, {"minWindow": "721h"}, {"minWindow": "720h"})
    yield case("minWindow", longer, {"minWindow": "2h", "maxWindow": "1h"}, {"minWindow": "1h", "maxWindow": "1h"})


def cluster_cases() -> Iterator[Case]:
    def case(field: str, message: str, refused: Json, accepted: Json | None = None) -> Case:
        return Case("Cluster", f"spec.{field}", message, refused, accepted or {})

    yield case("type", "type: run is not supported yet: use standard", {"type": "run"}, {"type": "standard"})
    yield case("endpoints", f"endpoints {LATER}", {"endpoints": {"a": "b"}})
    yield case("endpoints", "each key must be at most 63 characters long", {"endpoints": {"k" * 64: "b"}})
    template = {"domain": None, "hostTemplate": "{tenant}.{domain}", **ingress()}
    fixed = {"domain": None, "hostTemplate": "{tenant}.example.com", **ingress()}
    no_domain = "domain must be set with ingress where hostTemplate uses {domain}"
    yield case("domain", no_domain, template, fixed)
    yield case("domain", no_domain, {"domain": None, **ingress()}, {"domain": None})
    gateway = {"gatewayRef": {"namespace": "n", "name": "g"}}
    yield case("ingress.gatewayRef", "gatewayRef is not supported yet: use className", ingress(**gateway), ingress())
    yield case("ingress.className", "className must be set", {"ingress": {}}, ingress())
    operated = {"image": "pg:{version}", "apiServerCidrs": ["192.0.2.10/32"]}
    either = "image or cloudNativePG must be set: one for servers with provider Builtin, one for those with provider "
    nobody, made = ({"dedicatedDatabases": offer} for offer in ({"user": 26}, {"cloudNativePG": operated}))
    yield case("dedicatedDatabases", f"{either}CloudNativePG", nobody, made)
    issuer, own = {"clusterIssuer": "letsencrypt"}, {"controllerDefault": True}
    yield case("ingress.tls", EITHER_TLS, ingress(tls={}), ingress(tls=issuer))
    yield case("ingress.tls", EITHER_TLS, ingress(tls=issuer | own), ingress(tls=own))
    yield case("ingress.tls", EITHER_TLS, ingress(tls={"controllerDefault": False}), ingress(tls=issuer))


ALL_CASES: Final = tuple(cases())

NAMES: Final = {
    "the name can have at most 40 characters: hosts, namespaces and records are derived from it": ("a" * 41, "a" * 40),
    "the name can't have dots: it becomes one label of a host name; use dashes": ("a.b", "a-b"),
    "the name is reserved: choose one that is not a namespace of Kubernetes or of the operator": (
        "kube-acme", "acme-kube",
    ),
}  # fmt: skip
"""Message: (a name that is refused, one that is not)."""


@dataclass(frozen=True, slots=True)
class Change:
    """A rule on updates: a stored spec, changes that are refused and one that is not, as merge patches."""

    kind: str
    field: str
    message: str
    stored: Json
    refused: Json
    accepted: Json

    def __str__(self) -> str:
        return f"{self.kind}.{self.field}"


STORE_URL: Final = ("BackupStore", "spec.url", "url can't be changed: make another BackupStore")
ONCE: Final = ("TenantBackup", "spec", "a backup can't be changed: make another TenantBackup")
ONCE_RESTORED: Final = ("TenantRestore", "spec", "a restore can't be changed: make another TenantRestore")
TESTED_ELSEWHERE: Final = {
    ("TenantBackup", "status.phase", "a backup's phase only goes forward"),
    ("TenantBackup", "status.verification", "what was found out by a restore is not taken back"),
    ("TenantRestore", "status.phase", "a restore's phase only goes forward"),
}
"""In test_tenant_backup.py, test_tenant_verification.py and test_tenant_restore.py: they are about statuses."""
EPHEMERAL: Final = (
    "Tenant", "spec.ephemeral", "ephemeral can't be changed after creation: say it when you create the tenant",
)  # fmt: skip
KUBECONFIG: Final = (
    "Cluster",
    "spec.kubeconfigSecretRef",
    "kubeconfigSecretRef can't be added or removed later: a Cluster is either the management cluster itself or another "
    "one; register the other cluster under another name",
)
VERSION: Final = (
    "Tenant",
    "spec.database.dedicated.version",
    "version can't be changed, for another major version can't read the data: make another Tenant and copy the data",
)
STORAGE: Final = (
    "Tenant",
    "spec.database.dedicated.storage",
    "storage can't be changed, for volumes of a StatefulSet stay as they were made: make another Tenant and copy the "
    "data",
)
PROVIDER: Final = (
    "Tenant",
    "spec.database.dedicated.provider",
    "provider can't be changed, for one can't take over the other's volumes: make another Tenant and copy the data",
)
OWN: Final = {"database": {"mode": "Dedicated", "dedicated": DEDICATED}}
LARGE: Final = {"database": {"dedicated": {"size": "large"}}}
SHORT: Final = {"ephemeral": {"ttl": "1h"}}
OTHER_SECRET: Final = {"kubeconfigSecretRef": {"name": "new"}}
SECRET: Final = {"kubeconfigSecretRef": {"name": "kc"}}
CHANGES: Final = (
    Change(*EPHEMERAL, stored=SHORT, refused={"ephemeral": {"ttl": "2h"}}, accepted={"displayName": "new"}),
    Change(*EPHEMERAL, stored=SHORT, refused={"ephemeral": None}, accepted={"displayName": "new"}),
    Change(*EPHEMERAL, stored={}, refused=SHORT, accepted={"displayName": "new"}),
    Change(*VERSION, stored=OWN, refused={"database": {"dedicated": {"version": "18"}}}, accepted=LARGE),
    Change(*STORAGE, stored=OWN, refused={"database": {"dedicated": {"storage": {"size": "9Gi"}}}}, accepted=LARGE),
    Change(*PROVIDER, stored=OWN, refused={"database": {"dedicated": {"provider": "CloudNativePG"}}}, accepted=LARGE),
    Change(*KUBECONFIG, stored=SECRET, refused={"kubeconfigSecretRef": None}, accepted=OTHER_SECRET),
    Change(*KUBECONFIG, stored={}, refused=SECRET, accepted={"unschedulable": True}),
    Change(*STORE_URL, stored={}, refused={"url": "s3://others"}, accepted={"description": "new"}),
    Change(*ONCE, stored={}, refused={"store": "other"}, accepted={}),
    Change(*ONCE, stored={"ttl": "1h"}, refused={"ttl": None}, accepted={}),
    Change(*ONCE_RESTORED, stored={}, refused={"tenantRef": {"name": "other"}}, accepted={}),
    Change(*ONCE_RESTORED, stored={}, refused={"safetyBackup": False}, accepted={}),
)  # fmt: skip


@pytest.fixture(scope="module")
def api(management: Access) -> Iterator[Api]:
    with Api(management.kubeconfig) as api:
        yield api


@pytest.mark.parametrize("case", ALL_CASES, ids=str)
def test_a_rule_refuses_with_its_message_and_lets_the_rest_pass(api: Api, case: Case) -> None:
    refused = api.create(
        case.kind, "sample", merged(MINIMAL[case.kind], case.refused), namespace=namespace_of(case.kind)
    )
    assert refused.status == 422, refused.body
    assert (case.field, case.message) in {(without_indexes(field), message) for field, message in refused.causes}

    accepted = api.create(
        case.kind, "sample", merged(MINIMAL[case.kind], case.accepted), namespace=namespace_of(case.kind)
    )
    assert accepted.status == 201, accepted.body


@pytest.mark.parametrize("message", NAMES)
def test_a_tenants_name_is_refused_with_the_reason(api: Api, message: str) -> None:
    bad, good = NAMES[message]
    refused = api.create("Tenant", bad, {}, namespace="default")
    assert (refused.status, refused.causes) == (422, {("metadata.name", message)})
    assert api.create("Tenant", good, {}, namespace="default").status == 201


@pytest.mark.parametrize("name", ["default", "kube-system", "kube-public", "kube-node-lease", "tenantry-system"])
def test_a_tenant_cannot_be_called_like_a_namespace_of_the_system(api: Api, name: str) -> None:
    assert api.create("Tenant", name, {}, namespace="default").status == 422


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_what_is_said_at_creation_can_be_neither_changed_nor_removed_nor_added(
    api: Api, namespace: str, name_prefix: str, change: Change
) -> None:
    spec = merged(MINIMAL[change.kind], change.stored)
    created = api.create(
        change.kind, f"{name_prefix}-c", spec, namespace=namespace_of(change.kind, namespace), dry_run=False
    )
    assert created.status == 201, created.body
    try:
        refused = api.replace(created.body, merged(created.body["spec"], change.refused))
        assert (refused.status, refused.causes) == (422, {(change.field, change.message)})
        assert api.replace(created.body, merged(created.body["spec"], change.accepted)).status == 200
    finally:
        api.delete(created.body)


def test_no_rule_of_any_kind_is_without_a_test() -> None:
    tested = {(case.kind, case.field, case.message) for case in ALL_CASES}
    tested |= {(change.kind, change.field, change.message) for change in CHANGES}
    tested |= {("Tenant", "metadata.name", message) for message in NAMES} | TESTED_ELSEWHERE
    there = {(name, *rule) for name, kind in KINDS.items() for rule in rules_of(root_schema(kind), "")}
    assert there == tested


def rules_of(schema: Json, path: str) -> Iterator[tuple[str, str]]:
    """(field, message) of all rules of a schema and below."""
    for rule in schema.get("x-kubernetes-validations", ()):
        yield f"{path}{rule.get('fieldPath', '')}".removeprefix("."), rule["message"]
    for name, field in schema.get("properties", {}).items():
        yield from rules_of(field, f"{path}.{name}")
    if "items" in schema:
        yield from rules_of(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from rules_of(schema["additionalProperties"], f"{path}.*")


def without_indexes(field: str) -> str:
    return re.sub(r"\[\d+\]", "[]", field)
