"""Adoption of a foreign namespace: only with its owner's consent, nothing of the owner's touched, let go in the end."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from tests.integration.acting import Api, manifest, token_of
from tests.integration.tenants import Whereabouts, condition, wait_for
from tests.integration.test_tenant_switches import deployment

from tenantry.api.names import (
    ANNOTATION_ADOPT_NAMESPACE,
    ANNOTATION_ADOPTED,
    ANNOTATION_ALLOW_ADOPTION,
    LABEL_TENANT_HASH,
    SERVICE_ACCOUNT,
)
from tenantry.api.resources import CONFIG_MAPS, DEPLOYMENTS, NAMESPACES, ROLE_BINDINGS, SECRETS, TENANT_RECORDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.tenants import Workbench

Json = dict[str, Any]

SHARED = {"mode": "Shared"}
LABELS = {"team": "blue", "app.kubernetes.io/managed-by": "Helm", "pod-security.kubernetes.io/warn": "privileged"}
OURS = ("tenantry.io/",)


def consent(workbench: Workbench, name: str = "acme") -> str:
    return f"{workbench.stage.management_id}/{workbench.workspace}/{name}"


class Foreign:
    """A namespace with an application of somebody else's in it."""

    def __init__(self, workbench: Workbench, name: str, allowed: str | None) -> None:
        self.workbench, self.name = workbench, name
        self.where = Whereabouts(workbench.whereabouts().identity, name)
        annotations = {"owner": "anna"} | ({ANNOTATION_ALLOW_ADOPTION: allowed} if allowed else {})
        body = manifest(NAMESPACES, name, labels=LABELS, annotations=annotations)
        assert workbench.target.create(NAMESPACES, body, dry=False).status == 201
        notes = manifest(CONFIG_MAPS, "notes", name, data={"a": "b"})
        assert workbench.target.create(CONFIG_MAPS, notes, dry=False).status == 201
        secret = manifest(SECRETS, "payroll", name, stringData={"a": "b"})
        assert workbench.target.create(SECRETS, secret, dry=False).status == 201
        app = deployment("app", 3)
        app["metadata"]["namespace"] = name
        assert workbench.target.create(DEPLOYMENTS, app, dry=False).status == 201

    def namespace(self) -> Json:
        return self.workbench.on_target(NAMESPACES, "", self.name)

    def contents(self) -> dict[str, Json]:
        """What its owner has in it, without what others count."""
        found: dict[str, Json] = {}
        for resource, name in ((CONFIG_MAPS, "notes"), (SECRETS, "payroll"), (DEPLOYMENTS, "app")):
            body = self.workbench.on_target(resource, self.name, name)
            found[name] = {key: body[key] for key in ("data", "spec") if key in body}
        return found

    def said(self) -> tuple[dict[str, str], dict[str, str]]:
        """Labels and annotations of the namespace."""
        metadata = self.namespace()["metadata"]
        return metadata["labels"], metadata["annotations"]


@pytest.fixture
def foreign(workbench: Workbench) -> Iterator[Foreign]:
    made = Foreign(workbench, f"{workbench.prefix}-legacy", consent(workbench))
    yield made
    workbench.target.delete(NAMESPACES.path(name=made.name), dry=False)


def adopting(workbench: Workbench, namespace: str, name: str = "acme", **spec: Any) -> Json:
    body = workbench.tenant(name, **spec)
    body["metadata"]["annotations"] = {ANNOTATION_ADOPT_NAMESPACE: namespace}
    return body


def test_a_namespace_is_adopted_with_consent_and_let_go_with_all_that_was_in_it(
    workbench: Workbench, foreign: Foreign
) -> None:
    contents, (labels, annotations) = foreign.contents(), foreign.said()
    workbench.apply(adopting(workbench, foreign.name, database=SHARED))
    tenant = workbench.ready()
    assert tenant["status"]["namespace"] == foreign.name
    assert workbench.on_target(NAMESPACES, "", workbench.whereabouts().namespace) == {}, "it has no other one"
    record = workbench.record(foreign.where)["spec"]["cluster"]
    assert (record["namespace"], record["adopted"]) == (foreign.name, True)
    guarded = workbench.inventory(foreign.where)
    assert {"ResourceQuota/tenant", "NetworkPolicy/tenant-isolation", "Secret/tenant-database"} <= guarded
    assert foreign.contents() == contents
    assert foreign.said()[1]["owner"] == "anna"
    assert foreign.said()[0]["pod-security.kubernetes.io/enforce"] == "restricted"
    before = foreign.namespace()
    workbench.look_now()
    workbench.ready()
    assert foreign.namespace() == before, "steady state writes nothing"
    workbench.delete()
    workbench.gone()
    wait_for(lambda: workbench.record(foreign.where) == {}, "it is purged")
    assert workbench.inventory(foreign.where) == set()
    assert workbench.database_traces(foreign.where) == set()
    assert foreign.contents() == contents
    after_labels, after_annotations = foreign.said()
    assert after_annotations == annotations
    kept = {"pod-security.kubernetes.io/enforce": "restricted"}
    assert after_labels == {**labels, **kept}, "what was there, and the level of Pod Security that may not be relaxed"
    assert foreign.namespace()["status"]["phase"] == "Active"


@pytest.mark.timeout(180)
def test_a_deleted_tenant_rests_in_its_adopted_namespace_and_comes_back_or_leaves_the_workloads_as_they_were(
    workbench: Workbench, foreign: Foreign
) -> None:
    plan = workbench.platform("TenantPlan", "kept", deletion={"maxWindow": "24h"})
    body = adopting(workbench, foreign.name, plan=plan, deletion={"window": "1h"})
    workbench.apply(body)
    workbench.ready()

    def replicas() -> int:
        return int(workbench.on_target(DEPLOYMENTS, foreign.name, "app")["spec"]["replicas"])

    workbench.delete()
    workbench.gone()
    wait_for(lambda: replicas() == 0, "nothing runs in the window")
    workbench.apply(body)
    workbench.ready()
    wait_for(lambda: replicas() == 3, "all is back")
    workbench.delete()
    workbench.gone()
    wait_for(lambda: replicas() == 0, "at rest again")
    long_ago = "2020-01-01T00:00:00Z"
    path = TENANT_RECORDS.path(name=foreign.where.identity.record)
    patch = {"metadata": {"annotations": {"tenantry.io/purge-after": long_ago}}}
    assert workbench.management.patch(path, {"spec": {"purgeAfter": long_ago}}, dry=False).status == 200
    assert workbench.target.patch(NAMESPACES.path(name=foreign.name), patch, dry=False).status == 200
    wait_for(lambda: workbench.record(foreign.where) == {}, "it is let go", 90)
    assert replicas() == 3
    labels, annotations = foreign.said()
    assert not [key for key in (*labels, *annotations) if key.startswith(OURS) and key != ANNOTATION_ALLOW_ADOPTION]


def test_a_retained_tenant_keeps_its_adopted_namespace_and_its_stamp(workbench: Workbench, foreign: Foreign) -> None:
    workbench.apply(adopting(workbench, foreign.name, deletion={"policy": "Retain"}))
    workbench.ready()
    inventory = workbench.inventory(foreign.where)
    workbench.delete()
    workbench.gone()
    assert workbench.inventory(foreign.where) == inventory
    assert ANNOTATION_ADOPTED in foreign.said()[1]


def test_a_record_that_was_lost_still_knows_that_the_namespace_was_adopted(
    workbench: Workbench, foreign: Foreign
) -> None:
    workbench.apply(adopting(workbench, foreign.name))
    workbench.ready()
    path = TENANT_RECORDS.path(name=foreign.where.identity.record)
    uid = workbench.record(foreign.where)["metadata"]["uid"]
    assert workbench.management.delete(path, dry=False).status == 200
    found = wait_for(lambda: workbench.record(foreign.where), "it is made anew", 60)
    assert found["metadata"]["uid"] != uid
    assert (found["spec"]["cluster"]["adopted"], found["spec"]["cluster"]["namespace"]) == (True, foreign.name)
    workbench.ready()
    workbench.delete()
    workbench.gone()
    assert foreign.namespace()["status"]["phase"] == "Active"


def refused(workbench: Workbench, namespace: str, whose: str, way: str) -> None:
    told = workbench.told(
        "False",
        "NamespaceConflict",
        f"the namespace {namespace!r} is on the target and is {whose}; it is not touched: rename or delete it there"
        f"{way}",
    )
    assert condition(told, "Stalled")["reason"] == "NamespaceConflict"


@pytest.mark.parametrize("allowed", [None, "", "another/{workspace}/acme", "{management}/{workspace}/other", "*"])
def test_without_a_consent_that_names_this_very_tenant_nothing_is_touched_until_it_is_given(
    workbench: Workbench, allowed: str | None
) -> None:
    words = {"management": workbench.stage.management_id, "workspace": workbench.workspace}
    foreign = Foreign(workbench, f"{workbench.prefix}-legacy", allowed.format(**words) if allowed else allowed)
    before = foreign.namespace()["metadata"]["labels"], foreign.contents()
    workbench.apply(adopting(workbench, foreign.name))
    way = f", or have its owner annotate it with {ANNOTATION_ALLOW_ADOPTION}={consent(workbench)}"
    refused(workbench, foreign.name, "not made by this operator", way)
    assert workbench.record(foreign.where) == {}
    assert (foreign.namespace()["metadata"]["labels"], foreign.contents()) == before
    workbench.stage.target.kubectl(
        "annotate", "--overwrite", "namespace", foreign.name, f"{ANNOTATION_ALLOW_ADOPTION}={consent(workbench)}"
    )
    workbench.look_now()
    workbench.ready()
    workbench.delete()
    workbench.gone()
    workbench.target.delete(NAMESPACES.path(name=foreign.name), dry=False)


def test_a_namespace_of_the_wanted_name_is_adopted_with_consent_alone(workbench: Workbench) -> None:
    foreign = Foreign(workbench, workbench.whereabouts().namespace, consent(workbench))
    contents = foreign.contents()
    workbench.make()
    assert workbench.record(foreign.where)["spec"]["cluster"]["adopted"] is True
    workbench.delete()
    workbench.gone()
    assert (foreign.contents(), foreign.namespace()["status"]["phase"]) == (contents, "Active")
    workbench.target.delete(NAMESPACES.path(name=foreign.name), dry=False)


@pytest.mark.parametrize("name", ["default", "kube-system", "kube-public", "tenantry-system"])
def test_namespaces_of_the_system_are_never_adopted(workbench: Workbench, name: str) -> None:
    workbench.apply(adopting(workbench, name))
    workbench.told(
        "False",
        "NamespaceReserved",
        f"{ANNOTATION_ADOPT_NAMESPACE}: the namespace {name!r} is reserved and can't be adopted; name another one",
    )
    assert LABEL_TENANT_HASH not in workbench.on_target(NAMESPACES, "", name)["metadata"].get("labels", {})


def test_a_consent_that_a_tenant_forges_gives_nothing(workbench: Workbench) -> None:
    """Its own ServiceAccount can't write on a namespace; and one that is stamped is nobody's to give away."""
    bindings = [{"role": "Admin", "subjects": [{"kind": "ServiceAccount", "name": SERVICE_ACCOUNT}]}]
    victim = workbench.whereabouts("victim")
    workbench.make("victim", rbac={"bindings": bindings})
    word = consent(workbench)
    patch = {"metadata": {"annotations": {ANNOTATION_ALLOW_ADOPTION: word}}}
    token = token_of(workbench.target, victim.namespace, SERVICE_ACCOUNT)
    with contextlib.closing(Api(workbench.stage.target.kubeconfig, token)) as tenant:
        for name in (victim.namespace, "kube-system", "default"):
            assert tenant.patch(NAMESPACES.path(name=name), patch, dry=False).status == 403
    assert workbench.target.patch(NAMESPACES.path(name=victim.namespace), patch, dry=False).status == 200
    before, inventory = workbench.on_target(NAMESPACES, "", victim.namespace), workbench.inventory(victim)
    workbench.apply(adopting(workbench, victim.namespace))
    refused(workbench, victim.namespace, "another tenant's", "")
    assert workbench.on_target(NAMESPACES, "", victim.namespace) == before
    assert workbench.inventory(victim) == inventory
    off = {"metadata": {"annotations": {ANNOTATION_ALLOW_ADOPTION: None}}}
    assert workbench.target.patch(NAMESPACES.path(name=victim.namespace), off, dry=False).status == 200


def test_what_has_one_of_our_names_in_it_is_told_and_left_as_it_is(workbench: Workbench, foreign: Foreign) -> None:
    for resource, body in (
        (CONFIG_MAPS, manifest(CONFIG_MAPS, "tenant-info", foreign.name, data={"mine": "1"})),
        (SECRETS, manifest(SECRETS, "tenant-env", foreign.name, stringData={"mine": "1"})),
    ):
        assert workbench.target.create(resource, body, dry=False).status == 201
    workbench.apply(adopting(workbench, foreign.name))
    workbench.told(
        "False",
        "NamespaceConflict",
        f"the namespace {foreign.name!r} can't be adopted as it is: it has a ConfigMap 'tenant-info', a name that "
        "this operator uses; rename or delete it there",
    )
    assert LABEL_TENANT_HASH not in foreign.said()[0]
    workbench.stage.target.kubectl("-n", foreign.name, "delete", "configmap", "tenant-info")
    workbench.look_now()
    told = workbench.told("False", "ApplyRefused", None)
    assert "tenant-env" in condition(told)["message"]
    assert workbench.secret(foreign.where, "tenant-env") == {"mine": "1"}
    workbench.stage.target.kubectl("-n", foreign.name, "delete", "secret", "tenant-env")
    workbench.look_now()
    workbench.ready()


def test_an_adopted_namespace_that_is_gone_is_waited_for_and_never_made(workbench: Workbench, foreign: Foreign) -> None:
    workbench.apply(adopting(workbench, foreign.name))
    workbench.ready()
    workbench.stage.target.kubectl("delete", "namespace", foreign.name)
    workbench.look_now()
    told = workbench.told("Unknown", "NamespaceNotFound", None)
    assert f"{ANNOTATION_ALLOW_ADOPTION}={consent(workbench)}" in condition(told)["message"]
    again = Foreign(workbench, foreign.name, consent(workbench))
    workbench.look_now()
    workbench.ready()
    assert again.said()[0][LABEL_TENANT_HASH] == foreign.where.hash
    assert workbench.on_target(ROLE_BINDINGS, foreign.name, "tenantry-operator")


def test_a_dedicated_database_is_not_put_into_an_adopted_namespace(workbench: Workbench, foreign: Foreign) -> None:
    plan = workbench.platform(
        "TenantPlan", "own", allowedModes=["Dedicated"], sizes={"small": {"cpu": "500m", "memory": "1Gi"}}
    )
    dedicated = {"version": "18", "size": "small", "storage": {"size": "1Gi"}}
    database = {"mode": "Dedicated", "dedicated": dedicated}
    workbench.apply(adopting(workbench, foreign.name, plan=plan, database=database))
    told = workbench.told("False", "NamespaceConflict", None)
    assert "can't hold a Dedicated database" in condition(told)["message"]
    assert LABEL_TENANT_HASH not in foreign.said()[0]
