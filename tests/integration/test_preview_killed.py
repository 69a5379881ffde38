"""A held change outlives the operator: killed at any time it applies nothing, and `tenantry preview` shows it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from tests.scene.careful import SECONDS, Shop, careful_lab, command
from tests.scene.faulty import operators_writes, written
from tests.scene.lab import Lab, conditions_text, wait_until

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("fresh_control_plane"),  # has the binary built outside the time-out; none is started
]

Json = dict[str, Any]
HOLD = "tenantry.io/dry-run=true"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with careful_lab(tmp_path_factory.mktemp("preview")) as opened:
        yield opened


@pytest.fixture
def shop(lab: Lab, name_prefix: str) -> Shop:
    return Shop(lab, f"{name_prefix}-shop")


def held(shop: Shop, name: str) -> Json:
    """The condition ChangeHeld, where it is about the newest spec."""
    body = shop.get(name)
    conditions = body.get("status", {}).get("conditions", [])
    found: Json = next((each for each in conditions if each["type"] == "ChangeHeld"), {})
    return found if found.get("observedGeneration") == body["metadata"]["generation"] else {}


def wait_held(shop: Shop, name: str) -> Json:
    wait_until(lambda: bool(held(shop, name)), SECONDS, lambda: conditions_text(shop.lab))
    preview: Json = shop.get(name)["status"].get("preview") or {}
    return preview


def env_of(shop: Shop, name: str) -> str:
    namespace = shop.record(name)["cluster"]["namespace"]
    return str(shop.lab.target.access.get("secret", "tenant-env", "-n", namespace)["data"].get("LEVEL", ""))


def test_an_operator_that_is_killed_finds_the_change_held_and_writes_nothing_of_it(lab: Lab, shop: Shop) -> None:
    had = shop.open("acme", env={"LEVEL": "low"})
    shop.kubectl("annotate", "tenant", "acme", HOLD)
    lab.operator.kill()
    shop.apply("acme", env={"LEVEL": "high"})
    mark = lab.target.access.audit_mark()
    lab.operator.start()
    preview = wait_held(shop, "acme")
    assert [(each["action"], each["detail"]) for each in preview["items"]] == [("Change", "changes LEVEL")]
    lab.operator.kill()
    lab.operator.start()
    shop.wait_looked_at("acme")
    assert shop.stock("acme") == had
    real = [entry for entry in operators_writes(lab.target.access, after=mark) if "dryRun=All" not in entry.uri]
    assert written(real) == []
    assert shop.get("acme")["status"]["preview"] == preview
    lab.operator.kill()
    shop.kubectl("annotate", "tenant", "acme", "tenantry.io/dry-run-")
    before = env_of(shop, "acme")
    lab.operator.start()
    wait_until(lambda: env_of(shop, "acme") != before, SECONDS, lambda: conditions_text(lab))
    shop.wait_ready("acme")
    wait_until(lambda: "preview" not in shop.get("acme")["status"], SECONDS, "the preview is gone")


def test_a_spec_that_was_only_begun_when_the_next_one_is_held_is_gone_on_with(lab: Lab, shop: Shop) -> None:
    """As after a crash between the note of a spec and the first write of it: B was begun on top of A, C is held."""
    shop.open("acme", env={"LEVEL": "a"})
    lab.operator.kill()
    change = {"spec": {"lastSpec": {"env": {"LEVEL": "b"}}, "lastGeneration": 2}}
    name = shop.record_name("acme")
    lab.management.access.kubectl("patch", "tnrec", name, "--type=merge", "-p", json.dumps(change))
    shop.kubectl("annotate", "tenant", "acme", HOLD)
    shop.apply("acme", env={"LEVEL": "b"})
    shop.apply("acme", env={"LEVEL": "c"})
    lab.operator.start()
    wait_held(shop, "acme")
    assert env_of(shop, "acme") == "Yg==", "b"
    ready = next(each for each in shop.get("acme")["status"]["conditions"] if each["type"] == "Ready")
    assert (ready["status"], ready["observedGeneration"]) == ("True", 2)


def test_the_command_shows_what_is_held_and_says_where_nothing_is(lab: Lab, shop: Shop) -> None:
    shop.open("acme", env={"LEVEL": "low"})
    name = f"{shop.name}/acme"
    said = command(lab, "preview", name).stdout
    assert said == f"Tenant {name}: nothing is held, as it has no annotation tenantry.io/dry-run\n"
    shop.kubectl("annotate", "tenant", "acme", HOLD)
    said = command(lab, "preview", name).stdout
    assert said == f"Tenant {name}: nothing is held, as its spec is the one that is applied\n"
    shop.apply("acme", env={"LEVEL": "high"}, deletion={"window": "1h"})
    namespace = shop.record("acme")["cluster"]["namespace"]
    loss = "deletion.window: once deleted, the tenant can be had back for 1h instead of 24h"
    assert command(lab, "preview", name).stdout.splitlines() == [
        f"Tenant {name}: generation 2 is held, 1 is applied",
        f"It would change 1; data loss: {loss}",
        "",
        "DATA LOSS",
        f"  {loss}",
        "",
        f"ACTION   WHAT{' ' * (len(namespace) + 17)}DETAIL",
        f"Change   Secret {namespace}/tenant-env   changes LEVEL",
        "",
        "Fields that differ: spec.deletion.window, spec.env.LEVEL",
    ]
    for form, parse in (("json", json.loads), ("yaml", yaml.safe_load)):
        assert parse(command(lab, "preview", name, "-o", form).stdout)["dataLoss"] is True
    none = command(lab, "preview", f"{shop.name}/none", code=1).stderr
    assert none == f"Error: there is no Tenant {shop.name}/none\n"
    assert "say WORKSPACE/NAME" in command(lab, "preview", "acme", code=2).stderr
    lab.operator.kill()
    shop.apply("acme", env={"LEVEL": "higher"})
    late = command(lab, "preview", name, "--timeout", "1s", code=1).stderr
    assert "generation 3 of" in late
    assert "is `tenantry operator` running?" in late
    assert "was not looked at yet" in command(lab, "preview", name, "--no-wait").stdout
    lab.operator.start()
