"""The objects of a server of the tenant's own: hardened, whole, and without a word that is not needed."""

from __future__ import annotations

import copy
import dataclasses
import json
from typing import Any

import pytest

from tenantry.api.dedicated import DedicatedServer
from tenantry.api.identity import TenantIdentity
from tenantry.decide.drift import in_sync, with_desired_hash
from tenantry.desired.dedicated import (
    is_whole,
    kept_objects,
    outside_objects,
    passwords_secret,
    server_objects,
    stateful_set,
)
from tenantry.desired.stamp import bears_stamp, stamp_labels

Json = dict[str, Any]

WHO = TenantIdentity("m", "shop", "u", "acme")
SERVER = DedicatedServer(
    image="registry.example.com/postgres:17", user=999, cpu="500m", memory="1Gi", shared_buffers=262144, storage="10Gi",
    storage_class="", max_connections=30, pull_policy="IfNotPresent", database_id="", running=True,
)  # fmt: skip


CERTIFICATE = {"ca.crt": "c", "tls.crt": "t", "tls.key": "k"}


def made(**changes: Any) -> Json:
    return stateful_set(dataclasses.replace(SERVER, **changes), WHO, "shop-acme")


def test_its_volume_outlives_the_stateful_set_and_bears_the_stamp() -> None:
    spec = made()["spec"]
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    (claim,) = spec["volumeClaimTemplates"]
    assert claim["metadata"]["labels"].items() >= stamp_labels(WHO).items()
    assert "storageClassName" not in claim["spec"]
    (chosen,) = made(storage_class="fast")["spec"]["volumeClaimTemplates"]
    assert chosen["spec"]["storageClassName"] == "fast"


def test_only_replicas_say_whether_it_runs() -> None:
    runs, rests = made(), made(running=False)
    assert (runs["spec"].pop("replicas"), rests["spec"].pop("replicas")) == (1, 0)
    assert runs == rests


def test_a_change_of_settings_restarts_it_and_the_knowledge_which_database_it_is_does_not() -> None:
    assert made(database_id="7") == made()
    assert made(max_connections=31)["spec"]["template"] != made()["spec"]["template"]


def test_no_password_is_in_anything_but_the_secret() -> None:
    secret = passwords_secret(WHO, "shop-acme", superuser="s", admin="a", certificate=CERTIFICATE)
    assert set(secret["data"]) == {"superuser-password", "admin-password", "ca.crt", "tls.crt", "tls.key"}
    assert is_whole(secret)
    assert not any(is_whole({"data": {**secret["data"], key: ""}}) for key in secret["data"])
    assert not is_whole(None)
    volumes = {volume["name"]: volume for volume in made()["spec"]["template"]["spec"]["volumes"]}
    assert [item["key"] for item in volumes["passwords"]["secret"]["items"]] == [
        "superuser-password",
        "tls.crt",
        "tls.key",
    ]
    assert "valueFrom" not in json.dumps(made())


def test_what_is_kept_is_all_that_is_made() -> None:
    bodies = [*server_objects(SERVER, WHO, "shop-acme"), made()]
    names = [(body["kind"], body["metadata"]["name"]) for body in bodies]
    assert [(body["kind"], body["metadata"]["name"]) for body in kept_objects(WHO, "shop-acme")] == names
    assert all(bears_stamp(body, WHO) for body in bodies)


def test_only_whom_the_tenant_names_gets_in_from_outside_and_only_while_it_runs() -> None:
    assert outside_objects(SERVER, WHO, "shop-acme") == []
    opened = dataclasses.replace(SERVER, outside=("192.0.2.0/24", "2001:db8::/32"))
    assert outside_objects(dataclasses.replace(opened, running=False), WHO, "shop-acme") == []
    policy, service = outside_objects(opened, WHO, "shop-acme")
    (rule,) = policy["spec"]["ingress"]
    assert [peer["ipBlock"]["cidr"] for peer in rule["from"]] == list(opened.outside)
    assert service["spec"]["loadBalancerSourceRanges"] == list(opened.outside)
    assert (service["spec"]["externalTrafficPolicy"], service["spec"]["allocateLoadBalancerNodePorts"]) == (
        "Local",
        False,
    )
    live = copy.deepcopy(with_desired_hash(service))
    live["spec"]["ports"][0]["nodePort"] = 30000
    assert in_sync(with_desired_hash(service), live)
    live["spec"]["ports"].append({"port": 22})
    assert not in_sync(with_desired_hash(service), live)


def test_what_an_api_server_adds_to_it_is_no_change_and_what_somebody_changes_is() -> None:
    wanted = with_desired_hash(made())
    live = copy.deepcopy(wanted)
    pod = live["spec"]["template"]["spec"]
    pod["containers"][0] |= {"terminationMessagePolicy": "File", "aFieldOfALaterVersion": {"x": 1}}
    pod["volumes"][0]["configMap"]["defaultMode"] = 420
    live["spec"]["volumeClaimTemplates"][0] |= {"status": {"phase": "Pending"}}
    live["spec"] |= {"podManagementPolicy": "OrderedReady"}
    assert in_sync(wanted, live)


@pytest.mark.parametrize(
    "change",
    [
        lambda spec: spec["template"]["spec"]["containers"].append({"name": "miner"}),
        lambda spec: spec["template"]["spec"]["containers"][0].update(image="other"),
        lambda spec: spec["template"]["spec"]["containers"][0]["securityContext"]["capabilities"].update(drop=[]),
        lambda spec: spec["template"]["spec"]["volumes"].pop(),
        lambda spec: spec.update(replicas=3),
        lambda spec: spec.pop("persistentVolumeClaimRetentionPolicy"),
    ],
)
def test_each_change_of_what_it_says_is_seen(change: Any) -> None:
    wanted = with_desired_hash(made())
    live = copy.deepcopy(wanted)
    change(live["spec"])
    assert not in_sync(wanted, live)
