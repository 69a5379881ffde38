"""What happens to a tenant's objects behind our back: they come back within seconds, and loss is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.integration.acting import manifest
from tests.integration.tenants import condition, wait_for
from tests.scene.edits import EDITS, meant
from tests.scene.stage import DOMAIN

from tenantry.api.identity import host_claim_name
from tenantry.api.names import SYSTEM_NAMESPACE
from tenantry.api.resources import (
    CONFIG_MAPS,
    NAMESPACES,
    NETWORK_POLICIES,
    ROLE_BINDINGS,
    SECRETS,
    WATCHED_ON_TARGETS,
    resource_of,
)

if TYPE_CHECKING:
    from tests.integration.tenants import Whereabouts, Workbench

Json = dict[str, Any]

SECONDS = 10.0
"""Within which what was changed is back; it takes about half a second."""
RBAC = {"bindings": [{"role": "Admin", "subjects": [{"kind": "User", "name": "anna"}]}]}


def essence(workbench: Workbench, where: Whereabouts) -> dict[str, Json]:
    """A tenant's objects without what the server says of them."""
    found = {}
    for body in workbench.objects(where, kinds=WATCHED_ON_TARGETS):
        found[f"{body['kind']}/{body['metadata']['name']}"] = meant(body)
    return found


def test_objects_that_somebody_edits_are_put_back_within_seconds(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.make(rbac=RBAC)
    before = essence(workbench, where)
    for resource, name, patch in EDITS:
        answer = workbench.target.patch(resource.path(where.namespace, name), patch, dry=False)
        assert answer.status == 200, answer.message
    labels = {"pod-security.kubernetes.io/enforce": "privileged", "theirs": "yes"}
    relaxed = {"metadata": {"labels": labels, "annotations": {"tenantry.io/service-types": "NodePort"}}}
    assert workbench.target.patch(NAMESPACES.path(name=where.namespace), relaxed, dry=False).status == 200
    before[f"Namespace/{where.namespace}"]["metadata"]["labels"]["theirs"] = "yes"  # is no business of ours
    wait_for(lambda: essence(workbench, where) == before, "all is as it was", SECONDS)
    workbench.ready()


def test_the_closed_network_of_a_tenant_that_is_switched_off_is_closed_again_when_somebody_opens_it(
    workbench: Workbench,
) -> None:
    where = workbench.whereabouts()
    workbench.apply(workbench.tenant(enabled=False))
    workbench.told("True", "Disabled", None)
    path = NETWORK_POLICIES.path(where.namespace, "tenant-isolation")
    for way in ("ingress", "egress"):
        answer = workbench.target.patch(path, {"spec": {way: [{}]}}, dry=False)
        assert answer.status == 200, answer.message
    wait_for(
        lambda: not {"ingress", "egress"} & workbench.target.get(path).body["spec"].keys(), "it is closed", SECONDS
    )


def test_objects_that_somebody_deletes_are_made_again_within_seconds(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.make(rbac=RBAC)
    before = essence(workbench, where)
    uids = {body["metadata"]["uid"] for body in workbench.objects(where, kinds=WATCHED_ON_TARGETS)}
    deleted = 0
    for body in workbench.objects(where, kinds=WATCHED_ON_TARGETS):
        if body["kind"] == "Namespace":
            continue
        resource, metadata = resource_of(body), body["metadata"]
        answer = workbench.target.delete(resource.path(metadata["namespace"], metadata["name"]), dry=False)
        assert answer.status == 200, answer.message
        deleted += 1
    assert deleted == len(before) - 1 >= 10
    wait_for(lambda: essence(workbench, where) == before, "all is as it was", SECONDS)
    now = {body["metadata"]["uid"] for body in workbench.objects(where, kinds=WATCHED_ON_TARGETS)}
    assert len(uids & now) == 1, "only the Namespace is the same"
    workbench.ready()


def test_a_binding_that_was_made_anew_with_another_role_is_replaced(workbench: Workbench) -> None:
    """The role of a RoleBinding can't be changed: it takes a deletion."""
    where = workbench.whereabouts()
    workbench.make(rbac=RBAC)
    binding = workbench.on_target(ROLE_BINDINGS, where.namespace, "tenant-admin")
    path = ROLE_BINDINGS.path(where.namespace, "tenant-admin")
    stolen = manifest(
        ROLE_BINDINGS,
        "tenant-admin",
        where.namespace,
        labels=binding["metadata"]["labels"],
        annotations=binding["metadata"]["annotations"],
        roleRef={**binding["roleRef"], "name": "cluster-admin"},
        subjects=binding["subjects"],
    )

    def put_in_its_place() -> bool:
        """Ours may be back before theirs comes: then they are told that it exists, and try again."""
        workbench.target.delete(path, dry=False)
        return workbench.target.create(ROLE_BINDINGS, stolen, dry=False).status == 201

    wait_for(put_in_its_place, "theirs is in its place")
    wait_for(
        lambda: (
            workbench.on_target(ROLE_BINDINGS, where.namespace, "tenant-admin").get("roleRef") == binding["roleRef"]
        ),
        "the role is the tenants' own again",
        SECONDS,
    )
    workbench.ready()


def test_an_object_of_ours_that_lost_its_stamp_is_not_taken_over(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.make()
    path = CONFIG_MAPS.path(where.namespace, "tenant-info")
    theirs = {"metadata": {"labels": {"tenantry.io/management-id": None, "tenantry.io/tenant-hash": None}}}
    assert workbench.target.patch(path, theirs, dry=False).status == 200
    workbench.look_now()
    tenant = workbench.told("Unknown", "Retrying", None)
    message = condition(tenant)["message"]
    assert "tenant-info" in message
    assert message.endswith("the operator writes only what is its own")
    assert not workbench.on_target(CONFIG_MAPS, where.namespace, "tenant-info")["metadata"]["labels"].get(
        "tenantry.io/tenant-hash"
    )


def test_a_namespace_that_vanished_is_made_again_at_once_and_that_is_an_incident(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.make(database={"mode": "Shared"}, env={"A": "1"})
    host = f"acme-{workbench.workspace}.{DOMAIN}"
    inventory, claim = workbench.inventory(where), workbench.claim(host)["metadata"]["uid"]
    first = workbench.on_target(NAMESPACES, "", where.namespace)["metadata"]["uid"]
    workbench.stage.target.kubectl("delete", "namespace", where.namespace, "--wait=false")

    def made_again() -> bool:
        body = workbench.on_target(NAMESPACES, "", where.namespace)
        return bool(body) and body["metadata"]["uid"] != first

    wait_for(made_again, "the namespace is there again")
    note = f"NamespaceRecreated: {where.namespace} had vanished from the target and was made again"
    events = wait_for(lambda: workbench.events("acme", "NamespaceRecreated"), "the event is there")
    assert [(event["type"], event["note"]) for event in events] == [("Warning", note)]
    tenant = workbench.when(lambda body: condition(body)["message"] == f"https://{host}, {note}", "it is told")
    assert condition(tenant, "NamespaceReady")["message"] == note
    assert workbench.inventory(where) == inventory
    assert workbench.secret(where, "tenant-env")["A"] == "1"
    assert workbench.claim(host)["metadata"]["uid"] == claim, "the host was never free"


def test_the_claim_of_a_host_is_the_stamped_config_map_of_its_digest(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.make()
    host = f"acme-{workbench.workspace}.{DOMAIN}"
    claim = workbench.on_target(CONFIG_MAPS, SYSTEM_NAMESPACE, host_claim_name(host))
    assert claim["metadata"]["labels"]["tenantry.io/tenant-hash"] == where.hash
    assert claim["metadata"]["labels"]["tenantry.io/claim"] == "host"
    assert claim["metadata"]["annotations"]["tenantry.io/host"] == host


def test_a_lost_record_is_made_again_from_the_stamps_once_all_places_were_searched(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.make(database={"mode": "Shared"})
    before = workbench.record(where)["spec"]
    namespace = workbench.on_target(NAMESPACES, "", where.namespace)["metadata"]["uid"]
    password = workbench.secret(where, "tenant-database")["password"]
    dark = workbench.platform("Cluster", "dark", kubeconfigSecretRef={"name": f"{workbench.prefix}-none"})
    wait_for(
        lambda: condition(workbench.stage.management.get("tcl", dark)).get("reason") == "SecretNotFound",
        "the other cluster can't be reached",
    )
    workbench.stage.management.kubectl("delete", "tnrec", where.identity.record)
    tenant = workbench.told("Unknown", "RecordMissing", None)
    message = condition(tenant)["message"]
    assert message.startswith(
        "this tenant has no record; before one is made, what it may have left is searched for, and these can't be "
        "searched now: "
    )
    assert f"Cluster {dark!r}" in message
    assert workbench.record(where) == {}
    workbench.stage.management.kubectl("delete", "tcl", dark, "--wait=false")
    # Tests beside this one have dark clusters, too: then it is looked for again every 30 s.
    wait_for(lambda: workbench.record(where), "the record is made again", seconds=120)
    workbench.ready()
    assert workbench.record(where)["spec"] == before
    assert workbench.on_target(NAMESPACES, "", where.namespace)["metadata"]["uid"] == namespace
    assert workbench.secret(where, "tenant-database")["password"] == password
    assert workbench.on_target(SECRETS, where.namespace, "tenant-env")
