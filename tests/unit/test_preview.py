"""The preview: all that would happen and nothing else, bounded, in the same words each time, and without a secret."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.strategies import blueprints, calmly
from tests.unit.test_drift import objects, stored

from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.preview import MAX_DETAIL, MOST_FIELDS, MOST_ITEMS, MOST_REASONS, Preview
from tenantry.api.resources import CONFIG_MAPS, RESOURCE_QUOTAS, SECRETS, Ref
from tenantry.api.tenantrecord import PinnedDatabase, PinnedDeletion, TenantRecordSpec
from tenantry.decide.conditions import GOOD, PENDING, Outcome
from tenantry.decide.drift import desired_hash
from tenantry.decide.preview import Intent, Write, changed_fields, held_outcome, items_of, limit_items, preview_of
from tenantry.desired.blueprint import Blueprint
from tenantry.reconcile.apply import ref_of

Json = dict[str, Any]


def writes_of(before: Blueprint | None, after: Blueprint | None) -> list[Write]:
    """What applying one blueprint after the other writes: what differs, and the pruning."""
    old = {ref_of(body): body for body in objects(before)} if before else {}
    new = {ref_of(body): body for body in objects(after)} if after else {}
    return [Write(ref, old.get(ref), new.get(ref)) for ref in old.keys() | new.keys()]


@calmly
@given(blueprints())
def test_applying_nothing_previews_nothing(blueprint: Blueprint) -> None:
    assert items_of(writes_of(blueprint, blueprint)) == []
    as_stored = [Write(ref_of(body), stored(body), {**stored(body), "status": {"a": 1}}) for body in objects(blueprint)]
    assert items_of(as_stored) == []


@calmly
@given(blueprints(), blueprints())
def test_every_object_that_the_next_apply_makes_changes_or_deletes_is_told_and_no_other(
    one: Blueprint, other: Blueprint
) -> None:
    other = replace(other, identity=one.identity, namespace=one.namespace)
    told = {(each.action, each.what) for each in items_of(writes_of(one, other))}
    old = {str(ref_of(body)): desired_hash(body) for body in objects(one)}
    new = {str(ref_of(body)): desired_hash(body) for body in objects(other)}
    env = f"Secret {one.namespace}/tenant-env"
    changed = {name for name in old.keys() & new.keys() if old[name] != new[name]}
    changed |= {env} if one.env != other.env else set()  # the digest knows no values
    assert told == (
        {("Create", name) for name in new.keys() - old.keys()}
        | {("Delete", name) for name in old.keys() - new.keys()}
        | {("Change", name) for name in changed}
    )


@calmly
@given(blueprints(), blueprints())
def test_of_a_secret_only_names_are_told(one: Blueprint, other: Blueprint) -> None:
    values = ("s3cr3t-one", "s3cr3t-other")
    one = replace(one, env={"SAME": values[0], "OLD": values[0], "KEY": values[0]})
    other = replace(
        other,
        identity=one.identity,
        namespace=one.namespace,
        env={"SAME": values[0], "NEW": values[1], "KEY": values[1]},
    )
    intent = Intent(writes_of(one, other))
    text = preview_of(intent, generation=2, before={}, after={}).model_dump_json()
    assert "adds NEW; changes KEY; removes OLD" in text
    for value in values:
        assert value not in text
        assert base64.b64encode(value.encode()).decode() not in text
    for made in (Intent(writes_of(None, other)), Intent(writes_of(other, None))):
        assert values[1] not in preview_of(made, generation=2, before={}, after={}).model_dump_json()


def config_map(number: int, **data: str) -> Json:
    metadata = {"name": f"map-{number:03d}", "namespace": "n"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


@calmly
@given(st.integers(0, 120), st.integers(0, 40), st.integers(0, 40))
def test_however_much_there_is_the_preview_is_bounded_and_says_what_it_leaves_out(
    objects_: int, reasons: int, fields: int
) -> None:
    writes = [
        Write(Ref(CONFIG_MAPS, "n", f"map-{number:03d}"), config_map(number, a="x" * 999), config_map(number, b="y"))
        for number in range(objects_)
    ]
    kinds = list(ConditionType)
    bad = Outcome(False, Reason.PLAN_EXCEEDED, "m" * 5000, terminal=True)
    outcomes = dict.fromkeys(kinds[: min(reasons, len(kinds))], bad)
    spec = {f"field{number}": "v" * 300 for number in range(fields)}
    found = preview_of(Intent(writes, outcomes=outcomes), generation=2, before={}, after=spec)
    assert len(found.items) == min(objects_, MOST_ITEMS)
    assert len(found.items) + found.left_out == found.to_create + found.to_change + found.to_delete == objects_
    assert len(found.refusals) <= MOST_REASONS
    assert len(found.fields) == min(fields, MOST_FIELDS)
    assert len(found.model_dump_json()) < 48_000
    assert Preview.model_validate(json.loads(found.model_dump_json(by_alias=True))) == found


def test_what_is_deleted_comes_first_so_that_it_is_not_left_out() -> None:
    made = [Write(Ref(CONFIG_MAPS, "n", f"map-{each:03d}"), None, config_map(each)) for each in range(MOST_ITEMS)]
    gone = Write(Ref(CONFIG_MAPS, "n", "zzz"), config_map(999), None)
    found = preview_of(Intent([*made, gone]), generation=2, before={}, after={})
    assert found.items[0].action == "Delete"
    assert (found.left_out, found.message) == (1, f"would create {MOST_ITEMS}, delete 1")
    again = preview_of(Intent([gone, *reversed(made)]), generation=2, before={}, after={})
    assert again == found


def test_a_change_tells_from_what_to_what_and_another_spelling_of_a_quantity_is_none() -> None:
    def quota(**hard: str) -> Json:
        return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "tenant"}, "spec": {"hard": hard}}

    ref = Ref(RESOURCE_QUOTAS, "n", "tenant")
    before = quota(pods="20", cpu="500m", memory="1Gi")
    (found,) = items_of([Write(ref, before, quota(pods="30", cpu="0.5", secrets="1"))])
    assert found.detail == "spec.hard.memory: 1Gi -> nothing; spec.hard.pods: 20 -> 30; spec.hard.secrets: nothing -> 1"
    (long,) = items_of([Write(ref, before, quota(**{f"name-{each}": "1" for each in range(99)}))])
    assert len(long.detail) == MAX_DETAIL
    assert long.detail.endswith("…")


limit_maps = st.dictionaries(st.sampled_from("ABC"), st.sampled_from(["0", "1", "2"]))


@calmly
@given(limit_maps, limit_maps)
def test_the_limits_that_become_others_are_told(before: dict[str, str], after: dict[str, str]) -> None:
    told = {each.what: (each.action, each.detail) for each in limit_items(before, after)}
    expected = {f"Limit {name}": ("Create", after[name]) for name in after.keys() - before.keys()}
    expected |= {f"Limit {name}": ("Delete", before[name]) for name in before.keys() - after.keys()}
    both = (name for name in before.keys() & after.keys() if before[name] != after[name])
    expected |= {f"Limit {name}": ("Change", f"{before[name]} -> {after[name]}") for name in both}
    assert told == expected


@pytest.mark.parametrize(
    ("before", "after", "fields"),
    [
        ({}, {}, []),
        ({"env": {"A": "1"}}, {"env": {"A": "2", "B": "3"}}, ["spec.env.A", "spec.env.B"]),
        ({"domains": [{"host": "a.b"}]}, {}, ["spec.domains"]),
        ({"domains": []}, {}, []),
    ],
)
def test_the_fields_of_the_spec_that_differ_are_named(before: Json, after: Json, fields: list[str]) -> None:
    assert changed_fields(before, after) == fields


def record(
    mode: str = "Shared", *, server: str = "pg", window: str = "24h", policy: str = "Delete"
) -> TenantRecordSpec:
    return TenantRecordSpec.model_validate(
        {
            "managementId": "m", "workspace": "shop", "workspaceUid": "u", "tenant": "acme", "tenantUid": "v",
            "cluster": {"name": "eu-1", "id": "i", "namespace": "n"},
            "database": PinnedDatabase(mode=mode, server=server, name="tenantry_x" if mode == "Shared" else ""),
            "deletion": PinnedDeletion(policy=policy, window=window),
        }
    )  # fmt: skip


def dedicated(size: str) -> Json:
    return {"database": {"mode": "Dedicated", "dedicated": {"storage": {"size": size}}}}


LOSSES: dict[str, tuple[Intent, Json, Json, str]] = {
    "a shorter window": (Intent(before=record(), after=record(window="1h")), {}, {}, "1h instead of 24h"),
    "a policy": (Intent(before=record(policy="Retain"), after=record()), {}, {}, "deletion.policy"),
    "another mode": (Intent(before=record("External"), after=record("None")), {}, {}, "from External to None"),
    "another server": (Intent(before=record(), after=record(server="pg-2")), {}, {}, "on pg to tenantry_x on pg-2"),
    "less storage": (Intent(), dedicated("10Gi"), dedicated("5Gi"), "shrinks from 10Gi to 5Gi"),
    "a namespace": (
        Intent([Write(Ref(CONFIG_MAPS, "n", "x"), None, None)], before=record(), after=record()), {}, {}, ""
    ),
}  # fmt: skip


@pytest.mark.parametrize("lost", LOSSES)
def test_what_would_be_lost_is_told(lost: str) -> None:
    intent, before, after, words = LOSSES[lost]
    found = preview_of(intent, generation=2, before=before, after=after)
    assert found.data_loss == bool(words) == bool(found.data_loss_reasons)
    assert words in " ".join(found.data_loss_reasons)
    assert ("data loss" in found.message) == bool(words)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (record(), record(window="48h")), (record(), record(policy="Retain")), (record("None"), record()),
        (None, record()), (record(), None), (record(window="1h"), record(window="60m")),
    ],
)  # fmt: skip
def test_what_can_only_gain_loses_nothing(before: TenantRecordSpec | None, after: TenantRecordSpec | None) -> None:
    grown = preview_of(
        Intent(before=before, after=after), generation=2, before=dedicated("5Gi"), after=dedicated("10Gi")
    )
    assert not grown.data_loss


def test_the_deletion_of_what_keeps_data_and_of_a_host_is_a_loss() -> None:
    claim = config_map(1)
    claim["metadata"] |= {"labels": {"tenantry.io/claim": "host"}, "annotations": {"tenantry.io/host": "a.test"}}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}
    writes = [
        Write(ref_of(claim), claim, None),
        Write(ref_of(namespace), namespace, None),
        Write(Ref(SECRETS, "n", "s"), {"metadata": {}, "data": {"a": "eA=="}}, None),
    ]
    found = preview_of(Intent(writes), generation=2, before={}, after={})
    assert found.data_loss_reasons == ["Namespace n is deleted", "Host a.test is given up: anybody may claim it"]


def test_what_only_has_not_come_about_yet_is_no_refusal_and_what_stalls_is_told_first() -> None:
    waits = Outcome(None, Reason.HOST_NOT_VERIFIED, "waits")
    stalls = Outcome(False, Reason.DATABASE_CONFLICT, "stalls", terminal=True)
    outcomes = {
        ConditionType.PLACED: GOOD,
        ConditionType.NAMESPACE_READY: Outcome(None, Reason.QUOTA_NOT_ENFORCED, "not yet"),
        ConditionType.SECRETS_READY: PENDING,
        ConditionType.INGRESS_READY: waits,
        ConditionType.DATABASE_READY: stalls,
    }
    found = preview_of(Intent(outcomes=outcomes), generation=2, before={}, after={})
    assert [each.reason for each in found.refusals] == ["DatabaseConflict", "HostNotVerified"]
    assert found.message == "would change nothing on the target; would not get Ready: DatabaseConflict: stalls"
    assert held_outcome(found).reason == Reason.DRY_RUN_REFUSED


def test_the_condition_says_whether_something_is_held() -> None:
    assert held_outcome(None).status is False
    found = held_outcome(preview_of(Intent(), generation=7, before={}, after={}))
    assert (found.status, found.reason) == (True, Reason.DRY_RUN)
    assert found.message == "generation 7 is held by tenantry.io/dry-run, and would change nothing on the target"
