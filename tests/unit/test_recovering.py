"""Which backups of a store get objects by themselves, whose a path is, and what an annotation asks for."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.strategies import calmly, labels

from tenantry.api.identity import TenantIdentity
from tenantry.api.names import ANNOTATION_ADOPT_WORKSPACE, ANNOTATION_BACKUP_NOW, ANNOTATION_SLOT, LABEL_SCHEDULED
from tenantry.api.resources import Ref
from tenantry.api.tenant import Tenant
from tenantry.api.tenantbackup import TenantBackup
from tenantry.decide.backupnow import MOST_CHARACTERS, backup_name, left_alone, request_of
from tenantry.decide.deletion import time_text
from tenantry.decide.halt import Halt
from tenantry.decide.recovering import SHOWN, Found, with_newest
from tenantry.desired.manifest import backup_path, place_of, run_id
from tenantry.reconcile.storesync import tenant_backup
from tenantry.reconcile.workspace import find_workspace, workspaces_by_uid
from tenantry.reconcile.world import World

NOW = datetime(2026, 5, 1, tzinfo=UTC)
WORKSPACE_UID = "6f1c1b5e-0d5e-4d0c-9a3b-0123456789ab"
IDENTITY = TenantIdentity("m", "shop", WORKSPACE_UID, "acme")
RUN = run_id(time_text(NOW), "u")


def found(minutes: int, **more: Any) -> Found:
    completed = NOW + timedelta(minutes=minutes)
    plain = Found("shop", IDENTITY, run_id(time_text(completed), "u"), "b", "", time_text(completed), present=False)
    return replace(plain, **more)


@calmly
@given(st.lists(st.integers(0, 10_000), unique=True, max_size=30).flatmap(st.permutations))
def test_the_newest_few_are_the_same_in_whatever_order_they_are_found(minutes: list[int]) -> None:
    newest: tuple[Found, ...] = ()
    for each in minutes:
        newest = with_newest(newest, found(each))
    assert newest == tuple(map(found, sorted(minutes, reverse=True)[:SHOWN]))


def test_scheduled_ones_other_ones_and_those_of_other_incarnations_do_not_compete() -> None:
    sorts = {
        found(1).sort,
        found(2).sort,
        found(1, slot=time_text(NOW)).sort,
        found(1, identity=replace(IDENTITY, incarnation=2)).sort,
    }
    assert len(sorts) == 3


IDENTITIES = st.builds(TenantIdentity, labels(20), labels(), st.uuids().map(str), labels(40), st.integers(1, 9_999_999))


@calmly
@given(IDENTITIES, st.datetimes(min_value=datetime(1000, 1, 1)), st.text(min_size=1))  # noqa: DTZ001 - only its digits count
def test_whose_a_path_is_can_be_told_from_it(identity: TenantIdentity, moment: datetime, uid: str) -> None:
    run = run_id(moment.strftime("%Y-%m-%dT%H:%M:%SZ"), uid)
    place = place_of(backup_path(identity, run))
    assert place is not None
    assert (place.identity, place.run) == (identity, run)


GOOD = backup_path(IDENTITY, RUN)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "m/probe",
        f"{GOOD}/deeper",
        GOOD.replace("/1/", "/01/"),
        GOOD.replace("/1/", "/2/"),
        GOOD.replace("/1/", "/\u0661/"),
        GOOD.replace(WORKSPACE_UID, "another-workspace"),
        GOOD.replace("_acme_", "_other_"),
        GOOD.replace(RUN, "../../x"),
        f"/{GOOD}",
    ],
)
def test_what_is_no_backups_path_is_nobodys(path: str) -> None:
    assert place_of(path) is None


@calmly
@given(st.text(max_size=300))
def test_no_text_makes_a_path_hard_to_tell(path: str) -> None:
    place = place_of(path)
    assert place is None or backup_path(place.identity, place.run) == path


# --- the TenantBackup of one that was found -----------------------------------------------------------------------
def test_the_object_of_a_backup_says_only_what_differs_from_what_is_there_now() -> None:
    body = tenant_backup(found(0), "s", "m")
    assert body["spec"]["source"] == {"tenant": {"name": "acme"}, "stored": {"run": RUN, "incarnation": 1}}
    assert body["metadata"] == {"name": f"acme-{RUN}", "namespace": "shop"}
    other = found(0, workspace="store", slot=time_text(NOW), identity=replace(IDENTITY, management_id="former"))
    body = tenant_backup(other, "s", "m")
    assert body["spec"]["source"]["stored"] == {
        "run": RUN,
        "incarnation": 1,
        "workspace": "shop",
        "managementId": "former",
    }
    assert body["metadata"]["labels"] == {LABEL_SCHEDULED: "true"}
    assert body["metadata"]["annotations"] == {ANNOTATION_SLOT: time_text(NOW)}
    metadata = {**body["metadata"], "uid": "u", "resourceVersion": "1", "creationTimestamp": time_text(NOW)}
    assert TenantBackup.read({**body, "metadata": metadata}).spec.source.stored is not None


# --- a backup now -------------------------------------------------------------------------------------------------
def tenant(value: str | None = "v", *, deleting: bool = False, **more: Any) -> Tenant:
    metadata: dict[str, Any] = {
        "name": "acme",
        "namespace": "shop",
        "uid": "u",
        "resourceVersion": "1",
        "creationTimestamp": time_text(NOW),
        "annotations": {ANNOTATION_BACKUP_NOW: value} if value is not None else {},
    }
    if deleting:
        metadata["deletionTimestamp"] = time_text(NOW)
    return Tenant.model_validate({"metadata": metadata, "spec": more.pop("spec", {}), **more})


def status(**requested: str) -> dict[str, Any]:
    return {"backup": {"lastSuccess": time_text(NOW), "requested": requested}}


@calmly
@given(st.text(max_size=200), st.text(max_size=200))
def test_each_value_has_a_name_of_its_own_that_is_always_the_same(one: str, other: str) -> None:
    names = [backup_name(IDENTITY, request_of(tenant(value))) for value in (one, other, one)]
    assert names[0] == names[2]
    assert (names[0] == names[1]) == (one[:MOST_CHARACTERS] == other[:MOST_CHARACTERS])


def test_a_tenant_that_is_left_alone_says_why_it_is_not_backed_up_and_keeps_what_is_known() -> None:
    suspended = left_alone(tenant(spec={"suspend": True}, status=status(request="former", backup="b")))
    assert suspended is not None
    assert suspended.last_success == time_text(NOW)
    assert suspended.requested is not None
    assert (suspended.requested.request, suspended.requested.backup) == ("v", None)
    assert "spec.suspend" in suspended.requested.message
    deleted = left_alone(tenant(deleting=True))
    assert deleted is not None
    assert deleted.requested is not None
    assert "is being deleted" in deleted.requested.message


@pytest.mark.parametrize(
    "asked",
    [
        tenant(None, spec={"suspend": True}, status=status(request="former", backup="b")),
        tenant(spec={"suspend": True}, status=status(request="v", backup="b")),
        tenant(status=status(request="v", message="no store")),
    ],
    ids=["nothing is asked", "it was done", "it is not left alone"],
)
def test_what_is_known_stays_where_there_is_nothing_new_to_say(asked: Tenant) -> None:
    assert left_alone(asked) == asked.status.backup


# --- whose workspace is whose -------------------------------------------------------------------------------------
class Namespaces:
    """A world with nothing but namespaces, as far as they are looked at."""

    def __init__(self, bodies: list[dict[str, Any]]) -> None:
        self.live = self
        self._bodies = bodies

    def all(self, _resource: object) -> list[dict[str, Any]]:
        return self._bodies

    def get(self, ref: Ref) -> dict[str, Any] | None:
        return next((body for body in self._bodies if body["metadata"]["name"] == ref.name), None)


UID = st.sampled_from(["u0", "u1", "u2", "u3", "gone"])


@calmly
@given(st.lists(st.tuples(st.none() | UID, st.booleans()), max_size=4))
def test_all_workspaces_at_once_are_mapped_as_each_by_itself(drawn: list[tuple[str | None, bool]]) -> None:
    bodies: list[dict[str, Any]] = []
    for number, (taken_over, going) in enumerate(drawn):
        metadata: dict[str, Any] = {"name": f"n{number}", "uid": f"u{number}", "labels": {}}
        metadata |= {"annotations": {ANNOTATION_ADOPT_WORKSPACE: taken_over}} if taken_over else {}
        metadata |= {"deletionTimestamp": "now"} if going else {}
        bodies.append({"metadata": metadata})
    world = cast("World", Namespaces(bodies))
    expected = []
    for body in bodies:
        if "deletionTimestamp" not in body["metadata"]:
            with suppress(Halt):
                expected.append(find_workspace(world, body["metadata"]["name"]))
    mapped = workspaces_by_uid(world)
    assert sorted(mapped.values(), key=lambda each: each.name) == expected
    assert all(uid == each.uid for uid, each in mapped.items())
