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
from tenantry.desired.dedicated import kept_objects, passwords_secret, server_objects, stateful_set
from tenantry.desired.stamp import bears_stamp, stamp_labels

Json = dict[str, Any]

WHO = TenantIdentity("m", "shop", "u", "acme")
SERVER = DedicatedServer(
    image="registry.example.com/postgres:17", user=999, cpu="500m", memory="1Gi", shared_buffers=262144, storage="10Gi",
    storage_class="", max_connections=30, pull_policy="IfNotPresent", database_id="", running=True,
)  # fmt: skip


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
    secret = passwords_secret(WHO, "shop-acme", "superuser-secret", "admin-secret")
    assert set(secret["data"]) == {"superuser-password", "admin-password"}
    volumes = {volume["name"]: volume for volume in made()["spec"]["template"]["spec"]["volumes"]}
    assert [item["key"] for item in volumes["passwords"]["secret"]["items"]] == ["superuser-password"]
    assert "valueFrom" not in json.dumps(made())


def test_what_is_kept_is_all_that_is_made() -> None:
    bodies = [*server_objects(SERVER, WHO, "shop-acme"), made()]
    names = [(body["kind"], body["metadata"]["name"]) for body in bodies]
    assert [(body["kind"], body["metadata"]["name"]) for body in kept_objects(WHO, "shop-acme")] == names
    assert all(bears_stamp(body, WHO) for body in bodies)


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
