"""The builders one by one: quota, limits, access, ingress, environment and the database's Secret."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.strategies import blueprints, calmly

from tenantry.api.cluster import ClusterSpec
from tenantry.api.identity import TenantIdentity
from tenantry.api.names import SYSTEM_NAMESPACE
from tenantry.api.tenant import TenantSpec
from tenantry.api.tenantplan import ContainerLimits, TenantPlanSpec
from tenantry.decide.effective import effective
from tenantry.decide.quantities import parse_quantity
from tenantry.desired.blueprint import Blueprint, DatabaseConnection, ServedHost
from tenantry.desired.database import connection_uri, database_secret
from tenantry.desired.encoding import decoded, encoded
from tenantry.desired.environment import env_secret, info_config_map
from tenantry.desired.ingress import ANNOTATION_CLUSTER_ISSUER, ingresses, tls_secret_name
from tenantry.desired.quota import limit_range, resource_quota
from tenantry.desired.rbac import operator_binding, service_account, tenant_bindings

ACME = TenantIdentity("0123456789abcdef", "shop", "uid", "acme")
CONNECTION = DatabaseConnection(
    host="db.example.com",
    port=5432,
    database="tenantry_abc",
    username="tenantry_abc_0",
    password="p:a/s\\s@w%rd",
    ssl_mode="verify-full",
)
OVERHEAD = {"count/configmaps": 2, "configmaps": 2, "count/secrets": 2, "secrets": 2}


@calmly
@given(blueprints())
def test_a_quota_is_what_was_promised_and_room_for_what_is_not_the_tenants(blueprint: Blueprint) -> None:
    hard = resource_quota(blueprint)["spec"]["hard"]
    assert hard.keys() == blueprint.effective.quota.keys()
    for name, promised in blueprint.effective.quota.items():
        extra = OVERHEAD.get(name, 0) if promised.isdigit() else 0
        assert parse_quantity(hard[name]) == parse_quantity(promised) + extra


@calmly
@given(blueprints())
def test_a_limit_range_leaves_nothing_for_the_api_server_to_add(blueprint: Blueprint) -> None:
    (limit,) = limit_range(blueprint)["spec"]["limits"]
    assert limit["type"] == "Container"
    assert limit.get("max", {}).keys() <= limit.get("default", {}).keys()
    assert limit.get("default", {}).keys() <= limit.get("defaultRequest", {}).keys()
    assert {} not in limit.values()


def test_what_a_plan_says_of_containers_goes_before_what_follows_from_it() -> None:
    container = ContainerLimits.model_validate(
        {"default": {"cpu": "1"}, "defaultRequest": {}, "max": {"cpu": "2", "memory": "1Gi"}}
    )
    blueprint = example()
    blueprint = replace(blueprint, effective=replace(blueprint.effective, container=container))
    (limit,) = limit_range(blueprint)["spec"]["limits"]
    assert limit["default"] == limit["defaultRequest"] == {"cpu": "1", "memory": "1Gi"}


@calmly
@given(blueprints())
def test_only_the_operator_has_the_operators_role_and_workloads_have_none(blueprint: Blueprint) -> None:
    binding = operator_binding(blueprint.identity, blueprint.namespace)
    assert binding["roleRef"]["name"] == "tenantry-operator-namespace"
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": "tenantry-operator", "namespace": SYSTEM_NAMESPACE}
    ]
    assert all(each["roleRef"]["name"].startswith("tenantry-tenant-") for each in tenant_bindings(blueprint))
    assert service_account(blueprint)["automountServiceAccountToken"] is False


@calmly
@given(blueprints())
def test_people_have_the_roles_they_were_given_and_no_others(blueprint: Blueprint) -> None:
    rbac, given_roles = blueprint.spec.rbac, {}
    for binding in tenant_bindings(blueprint):
        given_roles[binding["roleRef"]["name"].removeprefix("tenantry-tenant-")] = binding["subjects"]
        for subject in binding["subjects"]:
            assert (subject.get("namespace") == blueprint.namespace) == (subject["kind"] == "ServiceAccount")
            assert ("apiGroup" in subject) == (subject["kind"] != "ServiceAccount")
    wanted = {each.role.lower(): each.subjects for each in rbac.bindings} if rbac.enabled else {}
    if "admin" in wanted and blueprint.effective.network.self_service:
        wanted["self-service"] = wanted["admin"]
    assert {role: [each["name"] for each in subjects] for role, subjects in given_roles.items()} == {
        role: [each.name for each in subjects] for role, subjects in wanted.items()
    }


@calmly
@given(blueprints())
def test_a_tenant_that_serves_nothing_has_no_ingress_and_no_url(blueprint: Blueprint) -> None:
    serves = bool(blueprint.hosts) and blueprint.spec.ingress.enabled and blueprint.cluster.ingress is not None
    assert bool(ingresses(blueprint)) == serves
    if not serves:
        assert blueprint.url == ""


@calmly
@given(blueprints())
def test_an_ingress_routes_exactly_the_held_hosts_to_the_one_service(blueprint: Blueprint) -> None:
    held = [host.host for host in blueprint.hosts]
    made, backend = ingresses(blueprint), blueprint.spec.ingress.backend
    rules = [rule for ingress in made for rule in ingress["spec"]["rules"]]
    assert sorted(rule["host"] for rule in rules) == (sorted(held) if made else [])
    services = [path["backend"]["service"] for rule in rules for path in rule["http"]["paths"]]
    assert all(each == {"name": backend.service, "port": {"number": backend.port}} for each in services)
    for ingress in made:
        own = {rule["host"] for rule in ingress["spec"]["rules"]}
        assert {name for entry in ingress["spec"].get("tls", []) for name in entry["hosts"]} <= own


@calmly
@given(blueprints())
def test_a_url_is_that_of_a_host_that_one_can_type(blueprint: Blueprint) -> None:
    if blueprint.url:
        parts = urlsplit(blueprint.url)
        assert parts.hostname in {host.host for host in blueprint.hosts}
        assert "*" not in blueprint.url
    elif blueprint.serves:
        assert all(host.host.startswith("*.") for host in blueprint.hosts)


@pytest.mark.parametrize(
    ("tls", "expected"),
    [
        (None, [("b.com", "own")]),
        ({"clusterIssuer": "le"}, [("a.com", tls_secret_name("a.com")), ("b.com", "own")]),
        ({"controllerDefault": True}, [("a.com", None), ("b.com", "own")]),
    ],
)
def test_each_host_has_its_certificate_from_where_the_cluster_or_the_tenant_says(
    tls: dict[str, Any] | None, expected: list[tuple[str, str | None]]
) -> None:
    blueprint = example(tls)
    entries = [entry for ingress in ingresses(blueprint) for entry in ingress["spec"].get("tls", [])]
    assert [(entry["hosts"][0], entry.get("secretName")) for entry in entries] == expected
    assert blueprint.url == f"{'https' if tls else 'http'}://a.com"


def example(tls: dict[str, Any] | None = None) -> Blueprint:
    """A tenant with a default host and one with a certificate of its own."""
    spec = TenantSpec()
    return Blueprint(
        identity=ACME,
        namespace="shop-acme",
        cluster_name="eu-1",
        cluster=ClusterSpec.model_validate({"ingress": {"className": "traefik", "tls": tls}}),
        spec=spec,
        effective=effective(spec, "basic", TenantPlanSpec()),
        hosts=(ServedHost("a.com"), ServedHost("b.com", "own")),
        env={"A": "1"},
    )


@calmly
@given(blueprints())
def test_the_environment_arrives_as_it_is(blueprint: Blueprint) -> None:
    assert decoded(env_secret(blueprint)["data"]) == dict(blueprint.env)


@given(st.dictionaries(st.text("ABC_", min_size=1, max_size=4), st.text(st.characters(codec="utf-8"), max_size=9)))
def test_encoding_and_decoding_lose_nothing(values: dict[str, str]) -> None:
    assert decoded(encoded(values)) == values


def test_facts_are_told_without_secrets() -> None:
    facts = info_config_map(example())["data"]
    assert (facts["name"], facts["plan"], facts["hosts"]) == ("acme", "basic", "a.com,b.com")


@calmly
@given(st.text(st.characters(codec="utf-8", exclude_characters="\0\1"), min_size=1, max_size=12))
def test_any_password_comes_through_the_uri_and_the_password_file(password: str) -> None:
    connection = replace(CONNECTION, password=password)
    parts = urlsplit(connection_uri(connection))
    assert (parts.hostname, parts.port, parts.path) == ("db.example.com", 5432, "/tenantry_abc")
    assert unquote(parts.password or "") == password
    data = decoded(database_secret(ACME, "shop-acme", connection)["data"])
    assert data["password"] == password
    fields = data["pgpass"].removesuffix("\n").replace("\\\\", "\0").replace("\\:", "\1").split(":")
    assert fields[4].replace("\1", ":").replace("\0", "\\") == password


def test_the_database_secret_has_the_names_that_clients_look_for() -> None:
    body = database_secret(ACME, "shop-acme", replace(CONNECTION, ca_pem="PEM", host="2001:db8::1"))
    data = decoded(body["data"])
    assert body["type"] == "servicebinding.io/postgresql"
    assert data["type"] == "postgresql"
    assert {"host", "port", "database", "username", "password", "provider"} <= data.keys()  # Service Binding
    assert {"dbname", "user", "uri", "jdbc-uri", "pgpass"} <= data.keys()  # CloudNativePG
    assert data["ca.crt"] == "PEM"
    assert "@[2001:db8::1]:5432/" in data["uri"]
    assert "ca.crt" not in database_secret(ACME, "shop-acme", CONNECTION)["data"]
    assert base64.b64decode(body["data"]["sslmode"]) == b"verify-full"


def test_a_password_is_in_no_representation_of_a_connection() -> None:
    assert CONNECTION.password not in repr(CONNECTION)


def test_a_certificate_that_the_tenant_brings_is_kept_from_the_issuer() -> None:
    """cert-manager takes over every Secret that an Ingress with its annotation names."""
    issued, brought = ingresses(example({"clusterIssuer": "le"}))
    assert issued["metadata"]["annotations"][ANNOTATION_CLUSTER_ISSUER] == "le"
    assert [rule["host"] for rule in issued["spec"]["rules"]] == ["a.com"]
    assert ANNOTATION_CLUSTER_ISSUER not in brought["metadata"]["annotations"]
    assert brought["spec"]["tls"] == [{"hosts": ["b.com"], "secretName": "own"}]
