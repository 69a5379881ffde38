"""What the check of an installation makes of what it sees."""

from __future__ import annotations

import copy
import io
import tarfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry import __version__
from tenantry.api.crd import crd
from tenantry.api.kinds import ALL_KINDS
from tenantry.cli import archive
from tenantry.cli.archive import MEGABYTE, Archive, ArchiveError
from tenantry.cli.findings import Area, Finding, Level, as_report, as_text, exit_code, in_order
from tenantry.cli.installed import bound, needed, of_kind, of_policy, of_right_object
from tenantry.cli.manifests import MANAGEMENT_RIGHTS, bundled
from tenantry.cli.standing import (
    Rank,
    of_deployments,
    of_identity,
    of_platform,
    of_pods,
    of_records,
    of_tenants,
    standing_of,
    version_of,
)
from tenantry.decide.deletion import time_text

Json = dict[str, Any]
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
KINDS = [crd(kind) for kind in ALL_KINDS]
FINDINGS = st.lists(
    st.builds(Finding, st.sampled_from(Level), st.sampled_from(Area), st.text(max_size=9), st.text(max_size=9))
)


# --- findings -------------------------------------------------------------------------------------------------------
@given(FINDINGS)
def test_all_is_well_only_where_something_was_seen_and_nothing_is_wrong_or_unseen(findings: list[Finding]) -> None:
    levels = {each.level for each in findings}
    expected = 1 if Level.WRONG in levels else 2 if Level.UNSEEN in levels or not findings else 0
    assert exit_code(findings) == expected


@given(FINDINGS)
def test_the_worst_is_told_first_and_nothing_is_lost(findings: list[Finding]) -> None:
    ordered = in_order(findings)
    assert sorted(map(repr, ordered)) == sorted(map(repr, findings))
    ranks = [list(Level).index(each.level) for each in ordered]
    assert ranks == sorted(ranks)
    assert len(as_report(findings)["findings"]) == len(findings)
    assert len(as_text(findings).splitlines()) == len(findings) + 3


def test_one_way_out_is_told_once() -> None:
    findings = [Finding(Level.WRONG, Area.KINDS, name, "is missing", "install it") for name in ("a", "b")]
    assert as_text(findings).count("install it") == 1


# --- kinds ----------------------------------------------------------------------------------------------------------
def live(packaged: Json, **status: str) -> Json:
    body = copy.deepcopy(packaged)
    states = {"NamesAccepted": "True", "Established": "True"} | status
    body["status"] = {"conditions": [{"type": key, "status": value} for key, value in states.items()]}
    return body


@pytest.mark.parametrize("packaged", KINDS, ids=lambda body: body["metadata"]["name"])
def test_every_kind_as_it_is_packaged_is_well(packaged: Json) -> None:
    assert of_kind(packaged, live(packaged)).level == Level.WELL


def test_a_kind_that_is_not_there_not_established_not_served_or_going_is_wrong() -> None:
    packaged = KINDS[0]
    unserved, going = live(packaged), live(packaged)
    unserved["spec"]["versions"][0]["served"] = False
    going["metadata"]["deletionTimestamp"] = "2026-05-01T12:00:00Z"
    told = [of_kind(packaged, each) for each in (None, live(packaged, Established="False"), unserved, going)]
    assert {each.level for each in told} == {Level.WRONG}
    words = ["not installed", "not Established", "not served", "being deleted"]
    assert all(word in each.message for word, each in zip(words, told, strict=True))
    assert all(each.remedy for each in told)


def test_rules_that_differ_are_another_version_even_with_the_same_fields() -> None:
    changed = live(KINDS[0])
    spec = changed["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["x-kubernetes-validations"].pop()
    assert "other rules" in of_kind(KINDS[0], changed).message


# --- rights ---------------------------------------------------------------------------------------------------------
def test_every_right_of_the_manifest_is_asked_for_where_it_is_given() -> None:
    asked = {str(each) for each in needed(bundled(MANAGEMENT_RIGHTS), "somewhere")}
    assert {
        "patch tenants/status.tenantry.io",
        "get secrets",
        "create leases.coordination.k8s.io in somewhere",
    } <= asked
    assert "patch configmaps 'tenantry-deletions' in somewhere" in asked
    assert len(asked) > 80


def test_roles_for_people_are_not_the_operators() -> None:
    assert {each["metadata"]["name"] for each in bound(bundled(MANAGEMENT_RIGHTS))} == {"tenantry-management"}


def test_a_role_that_gives_less_counts_only_where_nobody_could_be_asked() -> None:
    role = next(each for each in bundled(MANAGEMENT_RIGHTS) if each["kind"] == "ClusterRole")
    less = {**role, "rules": role["rules"][1:]}
    assert of_right_object(role, less, sufficient=None).level == Level.WRONG
    assert of_right_object(role, less, sufficient=True).level == Level.WELL
    assert of_right_object(role, None, sufficient=True).level == Level.NOTICE
    assert of_right_object(role, None, sufficient=False).level == Level.WRONG


def test_a_policy_with_more_from_the_api_server_is_well_and_a_changed_one_is_not() -> None:
    policy = next(each for each in bundled(MANAGEMENT_RIGHTS) if each["kind"] == "ValidatingAdmissionPolicy")
    filled = copy.deepcopy(policy)
    filled["spec"]["matchConstraints"]["matchPolicy"] = "Equivalent"
    assert of_policy(policy, filled).level == Level.WELL
    filled["spec"]["failurePolicy"] = "Ignore"
    assert of_policy(policy, filled).level == Level.WRONG


# --- the operator ---------------------------------------------------------------------------------------------------
def pod(*, ready: str = "True", version: str | None = __version__, **status: Any) -> Json:
    labels = {"app.kubernetes.io/version": version} if version else {}
    condition = {"type": "Ready", "status": ready}
    spec = {"containers": [{"image": "registry.example.com:5000/tenantry/operator:9.9@sha256:ab"}]}
    return {"metadata": {"name": "p", "labels": labels}, "spec": spec, "status": {"conditions": [condition], **status}}


def test_pods_are_judged_by_readiness_and_told_apart_by_version() -> None:
    waiting = {"state": {"waiting": {"reason": "ImagePullBackOff"}}, "restartCount": 3}
    told = of_pods([pod(), pod(version=None), pod(ready="False", containerStatuses=[waiting])], "ns")
    assert [each.level for each in told] == [Level.WELL, Level.NOTICE, Level.WRONG]
    assert "9.9" in told[1].message
    assert "ImagePullBackOff, 3 restarts" in told[2].message
    assert version_of({"metadata": {}, "spec": {"containers": [{"image": "host:5000/operator"}]}}) is None


def test_a_deployment_at_zero_or_not_ready_is_wrong() -> None:
    bodies = [
        {"metadata": {"name": "d"}, "spec": {"replicas": wanted}, "status": {"readyReplicas": ready}}
        for wanted, ready in ((1, 1), (0, 0), (2, 1))
    ]
    assert [each.level for each in of_deployments(bodies, "ns")] == [Level.WELL, Level.WRONG, Level.WRONG]


def test_a_management_cluster_without_an_id_is_wrong() -> None:
    seen: list[Json | None] = [None, {"data": {}}, {"data": {"managementId": "m"}}]
    found = [of_identity(each) for each in seen]
    assert [each.level for each in found] == [Level.WRONG, Level.WRONG, Level.WELL]


# --- what it looks after --------------------------------------------------------------------------------------------
def tenant(name: str = "acme", *, minutes: float = 60, stalled: bool = False, **ready: Any) -> Json:
    since = time_text(NOW - timedelta(minutes=minutes))
    conditions = [
        {"type": "Ready", "status": "True", "reason": "Ready", "message": "", "lastTransitionTime": since} | ready
    ]
    if stalled:
        conditions.append({"type": "Stalled", "status": "True"})
    metadata: Json = {"name": name, "namespace": "shop", "creationTimestamp": since}
    return {"metadata": metadata, "status": {"observedGeneration": 1, "conditions": conditions}}


def unobserved(minutes: float) -> Json:
    return tenant(minutes=minutes) | {"status": {"observedGeneration": -1}}


def going(*finalizers: str, reason: str = "Deleting") -> Json:
    body = tenant(status="Unknown", reason=reason)
    body["metadata"] |= {"deletionTimestamp": "2026-05-01T11:00:00Z", "finalizers": list(finalizers)}
    return body


@pytest.mark.parametrize(
    ("body", "rank"),
    [
        (tenant(), Rank.FINE),
        (tenant(reason="Disabled"), Rank.FINE),
        (tenant(status="False", reason="PlanNotFound", stalled=True), Rank.STALLED),
        (tenant(status="Unknown", minutes=1), Rank.WAITING),
        (tenant(status="Unknown", minutes=11), Rank.STUCK),
        (unobserved(1), Rank.WAITING),
        (unobserved(3), Rank.UNOBSERVED),
        (going("tenantry.io/tenant"), Rank.DELETING),
        (going("tenantry.io/tenant", reason="DeletionHeld"), Rank.HELD),
        (going("other.example.com/x", reason="DeletionHeld"), Rank.DELETING),
    ],
)
def test_a_tenant_stands_as_its_conditions_and_the_time_say(body: Json, rank: Rank) -> None:
    assert standing_of(body, NOW).rank == rank


@given(st.lists(st.sampled_from([tenant(), tenant(status="False", stalled=True), unobserved(9)]), max_size=40))
def test_every_tenant_is_counted_however_many_are_bad(bodies: list[Json]) -> None:
    found = of_tenants(bodies, NOW)
    assert f"{len(bodies)} tenants" in {each.what for each in found}
    bad = sum(standing_of(each, NOW).rank != Rank.FINE for each in bodies)
    assert any(each.level == Level.WRONG for each in found) == (bad > 0)
    assert len(found) <= 13


def test_a_tenant_that_is_ready_and_whose_backups_fail_is_told() -> None:
    body = tenant()
    backups = {"type": "BackupHealthy", "status": "False", "reason": "BackupFailed", "message": "the store refused"}
    body["status"]["conditions"].append(backups)
    found = [each for each in of_tenants([body, tenant("brick")], NOW) if each.level == Level.WRONG]
    assert [(each.what, each.message) for each in found] == [
        ("backups of Tenant shop/acme", "BackupFailed: the store refused")
    ]


def test_an_active_record_without_its_tenant_is_wrong_and_a_deleted_one_is_not() -> None:
    records = [
        {"metadata": {"name": f"{name}-1"}, "spec": {"state": state, "workspace": "shop", "tenant": name}}
        for name, state in (("acme", "Active"), ("gone", "Active"), ("old", "Deleted"))
    ]
    found = of_records(records, [tenant()])
    assert [each.what for each in found if each.level == Level.WRONG] == ["TenantRecord gone-1"]
    assert found[-1].message == "2 Active, 1 Deleted"


def test_platform_objects_that_are_not_ready_are_told_in_their_own_words() -> None:
    bad = tenant("eu-1", status="False", reason="Unreachable", message="did not answer")
    found = of_platform("Cluster", [tenant("eu-2"), bad])
    assert [(each.what, each.message) for each in found] == [("Cluster eu-1", "Unreachable: did not answer")]
    assert of_platform("Cluster", [])[0].level == Level.WELL


# --- the archive ----------------------------------------------------------------------------------------------------
def test_what_is_over_the_bound_is_left_out_and_said_to_be(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    with Archive(path, "f", NOW, MEGABYTE) as made:
        made.add("small", "x")
        made.add("big", "x" * MEGABYTE)
        made.add("other", "y")
        made.add("objects/../../../etc/z", "z")
        assert made.left_out == 2
    with tarfile.open(path) as read:
        assert read.getnames() == ["f/small", "f/other", "f/manifest.json"]
        assert "--max-size" in (read.extractfile("f/manifest.json") or io.BytesIO()).read().decode()


def test_nothing_is_left_where_the_archive_is_broken_off_or_the_name_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    with pytest.raises(KeyError), Archive(path, "f", NOW, MEGABYTE):
        raise KeyError
    assert not list(tmp_path.iterdir())
    with pytest.raises(ArchiveError, match="is there already"), Archive(path, "f", NOW, MEGABYTE):
        path.write_text("somebody else's")
    assert path.read_text() == "somebody else's"
    assert [each.name for each in tmp_path.iterdir()] == ["a.tar.gz"]
    with pytest.raises(ArchiveError, match="No such file"), Archive(tmp_path / "no" / "a", "f", NOW, MEGABYTE):
        pass


def test_the_archive_does_not_follow_a_link_that_is_there_already(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArchiveError, match="is there already"):
        archive.refuse_to_overwrite(tmp_path / "a.tar.gz")
