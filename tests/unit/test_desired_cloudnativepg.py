"""What a server takes that CloudNativePG makes: hardened, open just where it must be, and never its volumes' end."""

from __future__ import annotations

import copy
import dataclasses
import json
from typing import Any

from tests.unit.test_desired_concerns import ACME as WHO

from tenantry.api.dedicated import DedicatedServer, Operated
from tenantry.api.names import ANNOTATION_HIBERNATION, LABEL_COMPONENT, LABEL_MANAGEMENT_ID, LABEL_TENANT_HASH
from tenantry.decide.drift import in_sync, with_desired_hash
from tenantry.desired.cloudnativepg import (
    PRIMARY,
    SECRET_KEYS,
    SECRET_LABELS,
    certificate_hosts,
    host_rules,
    kept_objects,
    open_objects,
    postgres_cluster,
    server_objects,
)
from tenantry.desired.dedicated import is_whole, passwords_secret
from tenantry.desired.stamp import bears_stamp

Json = dict[str, Any]

OPERATED = Operated(major=17, instances=3, operator_namespace="cnpg", api_server_cidrs=("192.0.2.10/32",))
SERVER = DedicatedServer(
    image="registry.example.com/cnpg:17", user=0, cpu="500m", memory="1Gi", shared_buffers=262144, storage="10Gi",
    storage_class="", max_connections=30, pull_policy="IfNotPresent", database_id="", running=True, operated=OPERATED,
)  # fmt: skip
NAMESPACE = "shop-acme"
CERTIFICATE = {"ca.crt": "c", "tls.crt": "t", "tls.key": "k"}


def made(instances: int = 3, **changes: Any) -> Json:
    operated = dataclasses.replace(OPERATED, instances=instances)
    return postgres_cluster(dataclasses.replace(SERVER, **changes), operated, WHO, NAMESPACE)


def test_only_an_annotation_says_whether_it_runs() -> None:
    runs, rests = made(), made(running=False)
    assert runs["metadata"]["annotations"].pop(ANNOTATION_HIBERNATION) == "off"
    assert rests["metadata"]["annotations"].pop(ANNOTATION_HIBERNATION) == "on"
    assert runs == rests


def test_what_it_makes_is_known_as_the_tenants_and_is_not_ours_to_prune() -> None:
    assert bears_stamp(made(), WHO)
    inherited = made()["spec"]["inheritedMetadata"]
    assert inherited["labels"][LABEL_COMPONENT] == "tenant-postgres"
    assert not inherited["labels"].keys() & {LABEL_TENANT_HASH, LABEL_MANAGEMENT_ID}
    assert inherited["annotations"]["tenantry.io/record"] == WHO.record


def test_where_a_database_was_no_other_one_is_made() -> None:
    assert made()["spec"]["bootstrap"]["initdb"]["postInitSQL"] == ["ALTER ROLE unused NOLOGIN"]
    (guard,) = made(database_id="7'; DROP")["spec"]["bootstrap"]["initdb"]["postInitSQL"]
    assert "<> '7' THEN RAISE EXCEPTION" in guard
    assert "DROP" not in guard


def test_a_single_instance_lets_its_node_be_drained() -> None:
    assert made(1)["spec"]["enablePDB"] is False
    assert made(3)["spec"]["enablePDB"] is True
    assert made(3)["spec"]["instances"] == 3


def test_a_storage_class_is_named_where_one_is_wanted() -> None:
    assert made()["spec"]["storage"] == {"size": "10Gi"}
    assert made(storage_class="fast")["spec"]["storage"] == {"size": "10Gi", "storageClass": "fast"}


def test_plain_connections_and_the_roles_of_ours_come_from_within_the_pod_only() -> None:
    rules = host_rules()
    assert rules[-1] == "host all all all reject", "or CloudNativePG's own last rule would let them in"
    reject = rules.index("host all postgres,tenantry_admin all reject")
    assert reject < rules.index("hostssl all all all scram-sha-256")
    assert all("127.0.0.1" in rule or "::1" in rule for rule in rules[:reject])


def test_it_is_open_to_cloudnativepg_and_the_api_server_while_it_runs_and_else_to_nobody() -> None:
    (policy,) = open_objects(SERVER, OPERATED, WHO, NAMESPACE)
    spec = policy["spec"]
    assert spec["podSelector"] == {"matchLabels": {"cnpg.io/cluster": "tenant-postgres"}}
    (ingress,) = spec["ingress"]
    assert ingress["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "cnpg"}}}]
    assert spec["egress"] == [{"to": [{"ipBlock": {"cidr": "192.0.2.10/32"}}]}]
    outside = dataclasses.replace(SERVER, outside=("198.51.100.0/24",))
    assert open_objects(dataclasses.replace(outside, running=False), OPERATED, WHO, NAMESPACE) == []
    *_, policy, service = open_objects(outside, OPERATED, WHO, NAMESPACE)
    assert service["spec"]["selector"] == policy["spec"]["podSelector"]["matchLabels"] == PRIMARY


def test_clients_get_to_the_primary_by_the_name_that_every_server_of_a_tenant_has() -> None:
    settings, service = server_objects(dataclasses.replace(SERVER, database_id="7"), WHO, NAMESPACE)
    assert settings["data"] == {"database-id": "7", "provider": "CloudNativePG"}
    assert (service["metadata"]["name"], service["spec"]["selector"]) == ("tenant-postgres", PRIMARY)
    assert {"tenant-postgres.shop-acme.svc", "tenant-postgres-rw"} <= set(certificate_hosts(NAMESPACE))


def test_all_that_is_made_is_kept_whatever_is_known() -> None:
    kept = {(body["kind"], body["metadata"]["name"]) for body in kept_objects(WHO, NAMESPACE)}
    objects = [*server_objects(SERVER, WHO, NAMESPACE), made()]
    assert {(body["kind"], body["metadata"]["name"]) for body in objects} <= kept
    assert ("RoleBinding", "tenantry-operator-cloudnativepg") in kept


def test_its_secret_has_no_password_that_is_not_ours_and_is_read_anew_when_it_changes() -> None:
    secret = passwords_secret(
        WHO, NAMESPACE, superuser="", admin="a", certificate=CERTIFICATE, labels=SECRET_LABELS
    )  # fmt: skip
    assert secret["data"].keys() == {"admin-password", "ca.crt", "tls.crt", "tls.key"}
    assert secret["metadata"]["labels"]["cnpg.io/reload"] == "true"
    assert is_whole(secret, SECRET_KEYS)
    assert not is_whole(secret)
    assert made()["spec"]["certificates"] == {"serverCASecret": "tenant-postgres", "serverTLSSecret": "tenant-postgres"}


def test_fields_that_cloudnativepg_fills_in_are_no_drift_and_ours_are() -> None:
    wanted = with_desired_hash(made())
    live = copy.deepcopy(wanted)
    live["spec"]["postgresql"]["parameters"]["wal_level"] = "logical"
    live["spec"] |= {"affinity": {"podAntiAffinityType": "preferred"}, "postgresUID": 26}
    live["spec"]["bootstrap"]["initdb"]["localeProvider"] = "libc"
    live["status"] = {"phase": "anything"}
    assert in_sync(wanted, live)
    changes: tuple[Json, ...] = (
        {"instances": 1}, {"imageName": "other"}, {"enableSuperuserAccess": False}, {"postgresql": {}},
    )  # fmt: skip
    for change in changes:
        assert not in_sync(wanted, {**live, "spec": {**live["spec"], **change}})


def test_no_secret_value_is_in_any_of_it() -> None:
    assert "password" not in json.dumps([made(), *server_objects(SERVER, WHO, NAMESPACE)]).replace(
        "password_encryption", ""
    )
