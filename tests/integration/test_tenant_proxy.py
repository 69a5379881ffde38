"""spec.proxy: its URL comes from a Secret, reaches the environment and nothing else, and follows the Secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.integration.tenants import condition, wait_for

from tenantry.api.proxy import PROXY_NAMES

if TYPE_CHECKING:
    from tests.integration.tenants import Workbench

Json = dict[str, Any]

FIELD = "spec.proxy.httpSecretRef"
URL = "http://ann:hunter2@proxy.example.com:3128"


def proxy(key: str | None = None, *direct: str) -> Json:
    reference = {"name": "proxy", **({"key": key} if key else {})}
    return {"httpSecretRef": reference, "noProxy": list(direct)}


def env(workbench: Workbench) -> dict[str, str]:
    return workbench.secret(workbench.whereabouts(), "tenant-env")


def test_a_proxy_reaches_the_environment_follows_its_secret_and_goes_with_the_spec(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    before = workbench.make(env={"A": "1"})
    assert not set(PROXY_NAMES) & env(workbench).keys()
    inventory = workbench.inventory(where)
    workbench.env_secret("proxy", {"url": URL, "other": "https://other.example.com"})
    workbench.make(env={"A": "1"}, proxy=proxy(None, "10.0.0.0/8", ".example.org"))
    found = env(workbench)
    assert (found["HTTP_PROXY"], found["https_proxy"], found["A"]) == (URL, URL, "1")
    inside = ("localhost", "127.0.0.1", "::1", ".svc", ".cluster.local", f".{where.namespace}")
    assert found["NO_PROXY"].split(",") == [*inside, "10.0.0.0/8", ".example.org"]
    assert workbench.inventory(where) == inventory
    workbench.env_secret("proxy", {"url": "http://new.example.com:3128"})
    wait_for(lambda: env(workbench)["HTTP_PROXY"] == "http://new.example.com:3128", "it follows its Secret", 5)
    workbench.env_secret("proxy", {"other": "https://other.example.com"})
    workbench.make(proxy=proxy("other"))
    assert env(workbench)["HTTPS_PROXY"] == "https://other.example.com"
    tenant = workbench.make(env={"A": "1"})
    assert not set(PROXY_NAMES) & env(workbench).keys()
    assert "hunter2" not in str([before["status"], tenant["status"], workbench.record(where)])


@pytest.mark.parametrize(
    ("values", "labelled", "status", "reason", "message"),
    [
        (None, True, "Unknown", "SecretNotFound", "this workspace has no Secret 'proxy' with the label"),
        ({"url": URL}, False, "Unknown", "SecretNotFound", "this workspace has no Secret 'proxy' with the label"),
        ({"uri": URL}, True, "Unknown", "SecretNotFound", "Secret 'proxy' has no key 'url'"),
        ({"url": "socks5://ann:hunter2@proxy"}, True, "False", "EnvInvalid", "has to begin with http:// or https://"),
        ({"url": f"{URL}/x"}, True, "False", "EnvInvalid", "can't have a path, a query or a fragment"),
    ],
)
def test_a_proxy_that_makes_no_sense_is_told_without_its_value_and_heals_with_its_secret(
    workbench: Workbench, values: dict[str, str] | None, labelled: bool, status: str, reason: str, message: str
) -> None:
    if values is not None:
        workbench.env_secret("proxy", values, labelled=labelled)
    workbench.apply(workbench.tenant(proxy=proxy()))
    told = condition(workbench.told(status, reason, None))["message"]
    assert told.startswith(FIELD)
    assert message in told
    assert "hunter2" not in told
    workbench.env_secret("proxy", {"url": URL})
    workbench.ready()
    assert env(workbench)["HTTP_PROXY"] == URL


def test_a_plan_that_has_the_same_name_as_a_limit_wins_by_a_clear_word(workbench: Workbench) -> None:
    plan = workbench.platform("TenantPlan", "limits", limits={"HTTP_PROXY": "1"})
    workbench.env_secret("proxy", {"url": URL})
    workbench.apply(workbench.tenant(plan=plan, proxy=proxy()))
    told = workbench.told("False", "EnvInvalid", None)
    assert "spec.proxy sets HTTP_PROXY, which is one of the tenant's limits" in condition(told)["message"]
