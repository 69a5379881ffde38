"""A Tenant that becomes Ready: all of it is there, stamped, enforced, and told in its status as it is."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

from tests.integration.tenants import condition, wait_for
from tests.scene.stage import CLUSTER, DOMAIN, PLAN, SERVER_18

from tenantry.api.names import ANNOTATION_DESIRED_HASH, OPERATOR_SERVICE_ACCOUNT, SYSTEM_NAMESPACE
from tenantry.api.resources import (
    CONFIG_MAPS,
    INGRESSES,
    NAMESPACES,
    NETWORK_POLICIES,
    RESOURCE_QUOTAS,
    ROLE_BINDINGS,
    TENANTS,
)
from tenantry.decide.quantities import same_quantity
from tenantry.desired.stamp import stamp_annotations, stamp_labels

if TYPE_CHECKING:
    from tests.integration.tenants import Workbench

Json = dict[str, Any]

OPERATOR = f"system:serviceaccount:{SYSTEM_NAMESPACE}:{OPERATOR_SERVICE_ACCOUNT}"
CONCERNS = ["Placed", "NamespaceReady", "DatabaseReady", "SecretsReady", "IngressReady"]
SHARED = {"mode": "Shared", "extensions": ["citext"]}


def rich_tenant(workbench: Workbench) -> dict[str, object]:
    """A Tenant that asks for something of each kind."""
    return workbench.tenant(
        displayName="Acme Corp",
        ingress={"backend": {"service": "shop", "port": 8080}},
        rbac={
            "bindings": [
                {"role": "Admin", "subjects": [{"kind": "User", "name": "anna@acme.example"}]},
                {"role": "View", "subjects": [{"kind": "ServiceAccount", "name": "robot"}]},
            ]
        },
        quota={"hard": {"requests.cpu": "4"}},
        database=SHARED,
    )


def test_a_tenant_becomes_ready_with_all_of_it_there_and_all_of_it_stamped(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.apply(rich_tenant(workbench))
    workbench.kubectl("wait", "--for=condition=Ready", "tenant/acme", "--timeout=90s")
    assert workbench.inventory(where) == {
        f"Namespace/{where.namespace}",
        "ResourceQuota/tenant",
        "LimitRange/tenant",
        "NetworkPolicy/tenant-isolation",
        "NetworkPolicy/tenant-ingress-controller",
        "NetworkPolicy/tenant-egress",
        "NetworkPolicy/tenant-database",
        "ServiceAccount/tenant",
        "RoleBinding/tenantry-operator",
        "RoleBinding/tenant-admin",
        "RoleBinding/tenant-self-service",
        "RoleBinding/tenant-view",
        "ConfigMap/tenant-info",
        "Secret/tenant-env",
        "Secret/tenant-database",
        "Ingress/tenant",
        f"Claim/acme-{workbench.workspace}.{DOMAIN}",
    }
    for body in workbench.objects(where):
        labels, annotations = body["metadata"]["labels"], body["metadata"]["annotations"]
        assert stamp_labels(where.identity).items() <= labels.items(), body
        assert stamp_annotations(where.identity).items() <= annotations.items(), body
        if body["metadata"].get("namespace") == where.namespace:
            assert ANNOTATION_DESIRED_HASH in annotations, body
    assert workbench.database_traces(where) == {
        where.database,
        f"{where.database}_owner",
        f"{where.database}_0",
        f"{where.database}_1",
        "claim",
    }


def test_ready_means_that_the_quota_is_enforced_with_room_for_what_we_put_there(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    tenant = workbench.make(quota={"hard": {"requests.cpu": "4", "count/secrets": "7"}})
    quota = workbench.on_target(RESOURCE_QUOTAS, where.namespace, "tenant")
    wanted, enforced = quota["spec"]["hard"], quota["status"]["hard"]
    assert wanted.keys() == enforced.keys()
    assert all(same_quantity(wanted[name], enforced[name]) for name in wanted)
    assert (wanted["requests.cpu"], wanted["pods"], wanted["services.nodeports"]) == ("4", "20", "0")
    assert wanted["count/secrets"] == "9", "the two Secrets of the operator are on top of what was promised"
    assert tenant["status"]["effective"]["quota"]["count/secrets"] == "7"


def test_the_status_says_where_the_tenant_is_and_what_it_has(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    host = f"acme-{workbench.workspace}.{DOMAIN}"
    status = workbench.make(limits={"MAX_USERS": "7"}, database=SHARED)["status"]
    effective = status.pop("effective")
    conditions = status.pop("conditions")
    assert status == {
        "observedGeneration": 1,
        "tenantId": f"{workbench.workspace}_acme_{where.hash}",
        "record": f"acme-{where.hash}",
        "cluster": CLUSTER,
        "namespace": where.namespace,
        "url": f"https://{host}",
        "hosts": [host],
        "binding": {"name": "tenant-database"},
    }
    assert effective["plan"] == "basic"
    assert effective["limits"] == {"MAX_USERS": "7", "MAX_PROJECTS": "5"}
    assert effective["quota"]["requests.memory"] == "4Gi"
    assert [entry["type"] for entry in conditions] == ["Ready", *CONCERNS], "neither Reconciling nor Stalled"
    for entry in conditions:
        assert (entry["status"], entry["observedGeneration"], entry["reason"]) == ("True", 1, "Ready")
        assert entry["lastTransitionTime"].endswith("Z")
    assert conditions[0]["message"] == f"https://{host}"


def test_the_status_never_said_more_than_was_true_on_the_way_to_ready(workbench: Workbench) -> None:
    path = TENANTS.path(workbench.workspace)
    before = workbench.management.get(path).body["metadata"]["resourceVersion"]
    workbench.apply(workbench.tenant(database=SHARED))
    workbench.ready()

    def seen() -> list[Json] | None:
        """All states up to Ready; a slow server may end a watch before it has told all of them."""
        history = workbench.kubectl("get", "--raw", f"{path}?watch=true&resourceVersion={before}&timeoutSeconds=1")
        states = [json.loads(line)["object"] for line in history.splitlines()]
        return states if states and condition(states[-1]).get("status") == "True" else None

    states = wait_for(seen, "the history is told")
    told = [
        {entry["type"]: (entry["status"], entry["reason"]) for entry in state["status"].get("conditions", [])}
        for state in states
    ]
    assert states[0]["status"] == {"observedGeneration": -1}, "kstatus: not looked at yet"
    first = next(conditions for conditions in told if conditions)
    assert first["Ready"] == first["DatabaseReady"] == ("Unknown", "Progressing")
    assert first["Reconciling"] == ("True", "Progressing")
    assert first["Placed"] == ("True", "Ready")
    assert told[-1]["Ready"] == ("True", "Ready")
    for conditions in filter(None, told):
        assert ("Reconciling" in conditions) == (conditions["Ready"][0] == "Unknown")
        assert "Stalled" not in conditions
        assert all(conditions[name][0] == "True" for name in CONCERNS) == (conditions["Ready"][0] == "True")
    writes = [state for before, state in itertools.pairwise(states) if before["status"] != state["status"]]
    assert len(writes) <= 3, "the first visit, the end, and at most once that the quota is waited for"


def test_the_record_is_written_before_anything_on_the_target_and_pins_where_the_tenant_is(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    stage = workbench.stage
    marks = stage.management.audit_mark(), stage.target.audit_mark()
    tenant = workbench.make(database=SHARED)
    recorded = next(
        entry.answered
        for entry in stage.management.audit_entries(after=marks[0])
        if entry.user == OPERATOR and (entry.resource, entry.verb) == ("tenantrecords", "create")
        if workbench.record(where)["metadata"]["name"] == entry.name or not entry.name
    )
    own = [
        entry
        for entry in stage.target.audit_entries(after=marks[1])
        if entry.user == OPERATOR and entry.is_write and where.namespace in (entry.namespace, entry.name)
    ]
    assert own
    assert all(entry.received >= recorded for entry in own)
    main = stage.management.get("tcl", CLUSTER)
    server = stage.management.get("dbs", SERVER_18)
    record = workbench.record(where)
    assert record["metadata"]["labels"]["tenantry.io/tenant-hash"] == where.hash
    assert record["spec"] == {
        "managementId": stage.management_id,
        "workspace": workbench.workspace,
        "workspaceUid": where.identity.workspace_uid,
        "tenant": "acme",
        "tenantUid": tenant["metadata"]["uid"],
        "incarnation": 1,
        "epoch": 1,
        "deletion": {"policy": "Delete", "window": "0s", "finalBackup": False},
        "expired": False,
        "finalBackup": "",
        "former": [],
        "message": "",
        "moveFailed": "",
        "state": "Active",
        "cluster": {
            "name": CLUSTER,
            "id": main["status"]["clusterId"],
            "namespace": where.namespace,
            "host": f"acme-{workbench.workspace}.{DOMAIN}",
            "adopted": False,
            "exclusive": False,
        },
        "database": {
            "mode": "Shared",
            "server": SERVER_18,
            "id": server["status"]["systemIdentifier"],
            "name": where.database,
        },
        "plan": {"name": PLAN, "revision": tenant["status"]["effective"]["planRevision"], "wasReady": False},
        "lastSpec": tenant["spec"],
        "lastGeneration": 1,
    }


def test_what_was_asked_for_is_what_the_objects_say(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.apply(rich_tenant(workbench))
    workbench.ready()
    host = f"acme-{workbench.workspace}.{DOMAIN}"
    namespace = workbench.on_target(NAMESPACES, "", where.namespace)["metadata"]
    assert namespace["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert namespace["annotations"]["tenantry.io/hosts"] == host
    assert namespace["annotations"]["tenantry.io/service-types"] == "ClusterIP"
    ingress = workbench.on_target(INGRESSES, where.namespace, "tenant")["spec"]
    assert ingress["ingressClassName"] == "traefik"
    assert ingress["tls"] == [{"hosts": [host]}]
    assert [rule["host"] for rule in ingress["rules"]] == [host]
    backend = ingress["rules"][0]["http"]["paths"][0]["backend"]
    assert backend == {"service": {"name": "shop", "port": {"number": 8080}}}
    database = workbench.on_target(NETWORK_POLICIES, where.namespace, "tenant-database")["spec"]
    server = workbench.stage.postgres_18
    assert database["egress"] == [
        {"to": [{"ipBlock": {"cidr": f"{server.host}/32"}}], "ports": [{"protocol": "TCP", "port": server.port}]}
    ]
    controller = workbench.on_target(NETWORK_POLICIES, where.namespace, "tenant-ingress-controller")["spec"]
    peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "traefik"}}}
    assert controller["ingress"] == [{"from": [peer]}]
    admin = workbench.on_target(ROLE_BINDINGS, where.namespace, "tenant-admin")
    assert admin["roleRef"]["name"] == "tenantry-tenant-admin"
    assert [subject["name"] for subject in admin["subjects"]] == ["anna@acme.example"]
    view = workbench.on_target(ROLE_BINDINGS, where.namespace, "tenant-view")
    assert view["subjects"] == [{"kind": "ServiceAccount", "name": "robot", "namespace": where.namespace}]
    info = workbench.on_target(CONFIG_MAPS, where.namespace, "tenant-info")["data"]
    assert info["displayName"] == "Acme Corp"
    assert (info["plan"], info["cluster"], info["region"], info["environment"]) == ("basic", CLUSTER, "fra", "prod")


def test_a_tenant_without_a_database_has_no_secret_policy_or_binding_for_one(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    tenant = workbench.make()
    assert not {"Secret/tenant-database", "NetworkPolicy/tenant-database"} & workbench.inventory(where)
    assert "binding" not in tenant["status"]
    assert workbench.database_traces(where) == set()


def test_the_printer_columns_tell_a_person_what_matters(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.make()
    header, row = workbench.kubectl("get", "tn", "acme").splitlines()
    assert header.split() == ["NAME", "READY", "REASON", "CLUSTER", "HOST", "AGE"]
    assert row.split()[:-1] == ["acme", "True", "Ready", CLUSTER, f"acme-{workbench.workspace}.{DOMAIN}"]
    wide = workbench.kubectl("get", "tenants", "acme", "-o", "wide").splitlines()[1]
    assert {"basic", where.namespace, where.identity.tenant_id} <= set(wide.split())
    assert "acme" in workbench.kubectl("get", "tenantry")


def test_requested_at_is_echoed_when_it_was_handled(workbench: Workbench) -> None:
    workbench.make()
    now = workbench.look_now()
    workbench.kubectl(
        "wait", f"--for=jsonpath={{.status.lastHandledReconcileAt}}={now}", "tenant/acme", "--timeout=90s"
    )
    assert workbench.ready()["status"]["lastHandledReconcileAt"] == now


def test_becoming_ready_is_an_event_and_staying_so_is_none(workbench: Workbench) -> None:
    workbench.make()
    now = workbench.look_now()
    workbench.kubectl(
        "wait", f"--for=jsonpath={{.status.lastHandledReconcileAt}}={now}", "tenant/acme", "--timeout=90s"
    )
    event = wait_for(lambda: workbench.events("acme", "Ready"), "it is told")
    assert [(entry["type"], entry.get("series")) for entry in event] == [("Normal", None)]
    assert event[0]["note"] == f"https://acme-{workbench.workspace}.{DOMAIN}"
