"""What a dry run goes on with: the spec that the record of the very Tenant has, and none where that is not known."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given
from tests.unit.strategies import calmly, specs
from tests.unit.test_ledger import record

from tenantry.api.names import TENANT_FINALIZER
from tenantry.api.resources import NAMESPACES, TENANT_RECORDS, Ref
from tenantry.api.tenant import Tenant, TenantSpec
from tenantry.api.tenantrecord import TenantRecord
from tenantry.decide.merging import merged
from tenantry.ports.world import Json
from tenantry.reconcile.applied import NEW, UNKNOWN, hold_of
from tenantry.reconcile.ledger import Ledger
from tenantry.reconcile.records import spec_change, spec_document
from tenantry.reconcile.world import World

UID = "the-tenant"


def tenant(spec: Json, *, dry_run: str | None = "true", uid: str = UID, generation: int = 7) -> Tenant:
    metadata: Json = {"name": "acme", "namespace": "shop", "uid": uid, "generation": generation}
    if dry_run is not None:
        metadata["annotations"] = {"tenantry.io/dry-run": dry_run}
    return Tenant.model_validate({"metadata": metadata, "spec": spec})


def record_of(**spec: Any) -> Json:
    _, body = record("acme")
    return {**body, "spec": {**body["spec"], "tenantUid": UID, "state": "Active", **spec}}


class Records:
    """A world that has one record."""

    def __init__(self, body: Json | None) -> None:
        self.ledger = Ledger()
        self.live = self
        self._body = body
        if body is not None:
            self.ledger.note(body["metadata"]["name"], body)

    def get(self, ref: Ref) -> Json | None:
        if ref == Ref(NAMESPACES, "", "shop"):
            return {"metadata": {"name": "shop", "uid": "w1"}}
        assert ref.resource == TENANT_RECORDS
        return self._body


def world(body: Json | None) -> World:
    return cast("World", Records(body))


OLD: Json = {"env": {"A": "1"}, "deletion": {"window": "2h"}}


def test_the_spec_that_was_applied_last_is_gone_on_with_under_its_own_generation() -> None:
    found = hold_of(world(record_of(lastSpec=OLD, lastGeneration=4)), tenant({"env": {"A": "2"}}))
    assert found is not None
    assert found.applied is not None
    assert (found.held, found.generation, found.applied.spec) == (True, 4, TenantSpec.model_validate(OLD))
    assert found.applied.metadata.generation == 7, "all else is the Tenant's own"


@pytest.mark.parametrize("value", [None, "false", " False "])
def test_without_the_annotation_nothing_is_held(value: str | None) -> None:
    assert hold_of(world(record_of(lastSpec=OLD)), tenant({}, dry_run=value)) is None


def test_a_spec_that_means_the_same_is_not_held() -> None:
    same = {**OLD, "enabled": True, "ingress": {"backend": {"port": 80}}}
    found = hold_of(world(record_of(lastSpec=OLD, lastGeneration=4)), tenant(same))
    assert found is not None
    assert (found.held, found.generation) == (False, 7)


@pytest.mark.parametrize(
    "body",
    [
        None, record_of(lastSpec=OLD, tenantUid="another"), record_of(lastSpec=OLD, state="Deleted"), record_of(),
        record_of(lastSpec={"enabled": "of another version"}),
    ],
)  # fmt: skip
def test_where_it_is_not_known_what_was_applied_nothing_is_done_and_that_is_said(body: Json | None) -> None:
    found = hold_of(world(body), tenant({}))
    assert found is not None
    assert (found.applied, found.held, found.generation) == (None, True, 0)
    assert found.why.startswith("tenantry.io/dry-run: ")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, UNKNOWN),
        ({"lastSpec": OLD}, None),
        ({"workspaceUid": "of a namesake of the workspace"}, NEW),
        ({"state": "Deleted"}, NEW),
    ],
)
def test_a_record_that_was_made_anew_is_the_tenants_if_it_is_of_its_workspace(changes: Json, why: str | None) -> None:
    found = hold_of(world(record_of(tenantUid="", **changes)), tenant({}))
    assert found is not None
    assert found.why == (why or "")


def test_a_tenant_whose_record_is_lost_is_not_called_new() -> None:
    body = tenant({})
    assert (hold_of(world(None), body) or pytest.fail("it is held")).why == NEW
    had = body.model_copy(update={"metadata": body.metadata.model_copy(update={"finalizers": [TENANT_FINALIZER]})})
    assert (hold_of(world(None), had) or pytest.fail("it is held")).why == UNKNOWN


@pytest.mark.parametrize(("old", "new"), [(False, True), (True, False), (True, True), (False, False)])
def test_protection_holds_if_either_spec_says_so(old: bool, new: bool) -> None:
    last = {"deletion": {"protected": old}}
    found = hold_of(world(record_of(lastSpec=last)), tenant({"deletion": {"protected": new}, "env": {"A": "2"}}))
    assert found is not None
    assert found.applied is not None
    assert found.applied.spec.deletion.protected is (old or new)


@calmly
@given(specs, specs)
def test_what_is_noted_of_a_spec_is_that_spec_whatever_was_noted_before(old: TenantSpec, new: TenantSpec) -> None:
    before, after = (tenant({}, dry_run=None).model_copy(update={"spec": spec}) for spec in (old, new))
    have = TenantRecord.model_validate(record_of(lastSpec=spec_document(before), lastGeneration=6))
    change = spec_change(after, have)
    noted = merged(record_of(lastSpec=spec_document(before))["spec"], change)
    assert TenantSpec.model_validate(noted["lastSpec"]) == new
    assert (change == {}) == (old == new)
    assert change.get("lastGeneration", 7) == 7


def test_during_a_dry_run_nothing_is_noted() -> None:
    assert spec_change(tenant({"env": {"A": "2"}}), TenantRecord.model_validate(record_of(lastSpec=OLD))) == {}
