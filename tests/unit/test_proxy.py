"""The proxy of a tenant: only what every program reads as a proxy's URL, and never for names inside the cluster."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.strategies import blueprints, calmly

from tenantry.api.proxy import PROXY_NAMES
from tenantry.api.tenant import TenantSpec
from tenantry.decide.proxy import INSIDE, check_url, proxy_env
from tenantry.desired.blueprint import Blueprint
from tenantry.desired.ingress import ingresses
from tenantry.desired.namespace import namespace
from tenantry.desired.network import network_policies
from tenantry.desired.quota import resource_quota
from tenantry.desired.rbac import tenant_bindings

SECRET = "hunter2"
PROXY = {"httpSecretRef": {"name": "proxy"}, "noProxy": ["10.0.0.0/8"]}


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://proxy.example.com:3128", "http://proxy.example.com:3128"),
        ("https://proxy.example.com/\n", "https://proxy.example.com"),
        (f"http://ann:{SECRET}@10.0.0.7:8080", f"http://ann:{SECRET}@10.0.0.7:8080"),
        ("http://[2001:db8::1]:3128", "http://[2001:db8::1]:3128"),
    ],
)
def test_the_url_of_a_proxy_is_taken_as_it_is(text: str, url: str) -> None:
    assert check_url(text) == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        "proxy.example.com:3128",
        f"socks5://ann:{SECRET}@proxy:1080",
        f"http://ann:{SECRET}@",
        f"http://ann:{SECRET}@proxy:99999",
        f"http://ann:{SECRET}@proxy:0",
        f"http://ann:{SECRET}@proxy:x",
        f"http://ann:{SECRET}@proxy/path",
        f"http://ann:{SECRET}@proxy?a=b",
        f"http://ann:{SECRET}@proxy#",
        f"http://ann:{SECRET}@pro xy",
        f"http://ann:{SECRET}@proxy\nHTTPS_PROXY=x",
        f"http://ann:{SECRET}@pröxy",
        f"http://[{SECRET}",
        "http://proxy" + "a" * 3000,
    ],
)
def test_what_is_no_proxys_url_is_refused_without_a_word_of_it(text: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        check_url(text)
    assert SECRET not in str(refused.value)
    assert "proxy" not in str(refused.value)


@given(st.text(max_size=40))
def test_no_text_breaks_the_check_and_what_passes_is_one_line_that_passes_again(text: str) -> None:
    try:
        url = check_url(f"http://{text}")
    except ValueError:
        return
    assert url == check_url(url)
    assert not any(char.isspace() for char in url)


@given(st.lists(st.sampled_from([".example.com", "10.0.0.0/8", ".svc", "localhost"]), max_size=6))
def test_names_inside_the_cluster_are_always_reached_directly_and_each_is_named_once(own: list[str]) -> None:
    env = proxy_env("http://proxy:1", own, "shop-acme-abc123")
    assert set(env) == set(PROXY_NAMES)
    direct = env["NO_PROXY"].split(",")
    assert {*INSIDE, ".shop-acme-abc123", *own} == set(direct)
    assert len(direct) == len(set(direct))
    assert all(env[name] == env[name.lower()] for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"))


@calmly
@given(blueprints())
def test_the_proxy_changes_nothing_but_the_environment(blueprint: Blueprint) -> None:
    with_proxy = TenantSpec.model_validate({**blueprint.spec.model_dump(by_alias=True), "proxy": PROXY})
    assert with_proxy.proxy is not None
    assert rendered(blueprint) == rendered(replace(blueprint, spec=with_proxy))


def rendered(blueprint: Blueprint) -> list[object]:
    return [
        namespace(blueprint),
        resource_quota(blueprint),
        *network_policies(blueprint),
        *tenant_bindings(blueprint),
        *ingresses(blueprint),
    ]
