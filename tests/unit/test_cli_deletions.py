"""What the commands about deletions decide before they write: who can be had back, who is held, how it looks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from tenantry.api.tenantrecord import RecordState, TenantRecord
from tenantry.cli.departed import (
    HEADINGS,
    is_held,
    is_undecided,
    obstacle,
    of_tenant,
    row_of_record,
    table,
    undeleted,
    why_not_held,
)
from tenantry.cli.main import main
from tenantry.decide.deletion import time_text

Json = dict[str, Any]

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
TAKES_OVER = "tenantry.io/adopt-workspace"
TEXTS = st.text(max_size=30)


def record(name: str = "acme-1", **spec: Any) -> TenantRecord:
    usual: Json = {
        "managementId": "m",
        "workspace": "shop",
        "workspaceUid": "u1",
        "tenant": "acme",
        "tenantUid": "t1",
        "state": "Deleted",
        "cluster": {"name": "eu-1", "id": "c", "namespace": "shop-acme-1"},
        "database": {"mode": "None"},
        "deletedAt": time_text(NOW - timedelta(hours=1)),
        "purgeAfter": time_text(NOW + timedelta(hours=23)),
        "lastSpec": {"plan": "basic", "env": {"A": "b"}},
    }
    body = {"metadata": {"name": name, "uid": "r", "resourceVersion": "1"}, "spec": {**usual, **spec}}
    return TenantRecord.model_validate(body)


def workspace(uid: str = "u1", **metadata: Any) -> Json:
    return {"metadata": {"name": "shop", "uid": uid, **metadata}}


def tenant(reason: str = "DeletionHeld", **metadata: Any) -> Json:
    usual = {
        "name": "acme",
        "namespace": "shop",
        "uid": "t1",
        "deletionTimestamp": "2026-05-01T12:00:00Z",
        "finalizers": ["tenantry.io/tenant"],
    }
    ready = {"type": "Ready", "status": "Unknown", "reason": reason, "message": "nothing is touched yet"}
    present = {key: value for key, value in {**usual, **metadata}.items() if value is not None}
    return {"metadata": present, "status": {"conditions": [ready]}}


# --- what can be undeleted ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("state", ["Deleted", "Retained", "Orphaned"])
def test_what_is_deleted_retained_or_orphaned_can_be_had_back_in_its_workspace(state: str) -> None:
    assert obstacle(record(state=state), workspace(), None) is None


OBSTACLES: dict[str, tuple[TenantRecord, Json | None, Json | None, str]] = {
    "active": (record(state="Active"), workspace(), tenant(), "there is nothing to undelete"),
    "active without a Tenant": (record(state="Active"), workspace(), None, "apply it again to take it over"),
    "purging": (record(state="Purging"), workspace(), None, "it is too late"),
    "no spec": (record(lastSpec=None), workspace(), None, "with the annotation tenantry.io/adopt=acme-1"),
    "a Tenant": (record(), workspace(), {"metadata": {}}, "there is a Tenant shop/acme"),
    "a Tenant that goes": (record(), workspace(), tenant(), "and its own deletion is under way"),
    "no workspace": (record(), None, None, f"is gone: make the namespace again, with the annotation {TAKES_OVER}=u1"),
    "workspace going": (record(), workspace(deletionTimestamp="x"), None, f"with the annotation {TAKES_OVER}=u1"),
    "another workspace": (record(), workspace("u2"), None, f"kubectl annotate namespace shop {TAKES_OVER}=u1"),
    "took over a third": (record(), workspace("u2", annotations={TAKES_OVER: "u3"}), None, f"{TAKES_OVER}=u1"),
}  # fmt: skip


@pytest.mark.parametrize("case", OBSTACLES.values(), ids=OBSTACLES)
def test_what_can_not_be_had_back_is_refused_with_the_way_out(
    case: tuple[TenantRecord, Json | None, Json | None, str],
) -> None:
    *facts, told = case
    assert told in (obstacle(*facts) or "")  # type: ignore[arg-type]  # a tuple's slice loses its types


def test_a_workspace_that_took_over_the_former_one_is_as_good() -> None:
    assert obstacle(record(), workspace("u2", annotations={TAKES_OVER: "u1"}), None) is None


@given(
    state=st.sampled_from(RecordState),
    spec=st.none() | st.just({"plan": "basic"}),
    space=st.none() | st.sampled_from(["u1", "u2"]).map(workspace),
    present=st.none() | st.just(tenant()),
)
def test_nothing_is_undeleted_beside_a_tenant_out_of_a_purge_or_without_a_spec(
    state: RecordState, spec: Json | None, space: Json | None, present: Json | None
) -> None:
    possible = obstacle(record(state=state, lastSpec=spec), space, present) is None
    wanted = state in (RecordState.DELETED, RecordState.RETAINED, RecordState.ORPHANED)
    assert possible == (wanted and spec is not None and present is None and space == workspace("u1"))


# --- the Tenant that is made --------------------------------------------------------------------------------------
def test_the_tenant_is_made_with_the_spec_it_had() -> None:
    body = undeleted(record(), [record()], NOW)
    assert body == {
        "apiVersion": "tenantry.io/v1alpha1",
        "kind": "Tenant",
        "metadata": {"name": "acme", "namespace": "shop"},
        "spec": {"plan": "basic", "env": {"A": "b"}},
    }


@given(hours=st.integers(-48, 48), state=st.sampled_from(["Deleted", "Retained", "Orphaned"]), last=st.integers(1, 3))
def test_adoption_is_asked_for_by_name_where_the_operator_would_ask_back(hours: int, state: str, last: int) -> None:
    due = time_text(NOW + timedelta(hours=hours)) if state != "Retained" else None
    wanted = record(state=state, purgeAfter=due)
    others = [record(f"acme-{number}", incarnation=number) for number in range(2, last + 1)]
    strangers = [record("acme-9", incarnation=9, workspaceUid="other")]
    annotations = undeleted(wanted, [wanted, *others, *strangers], NOW)["metadata"].get("annotations")
    needed = state == "Orphaned" or (due is not None and hours <= 0) or last > 1
    assert annotations == ({"tenantry.io/adopt": "acme-1"} if needed else None)


def test_records_are_found_by_the_names_of_workspace_and_tenant() -> None:
    records = [record("a"), record("b", tenant="other"), record("c", workspace="other"), record("d", state="Active")]
    assert [each.name for each in of_tenant(records, "shop", "acme")] == ["a", "d"]


# --- held -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("reason", ["DeletionHeld", "Protected"])
def test_a_deletion_is_held_where_the_operator_says_so(reason: str) -> None:
    assert is_held(tenant(reason))


def test_a_deletion_whose_record_is_searched_for_is_not_held_yet_and_may_be() -> None:
    assert is_undecided(tenant("RecordMissing"))
    assert not is_held(tenant("RecordMissing"))
    assert not any(is_undecided(other) for other in (tenant("DeletionHeld"), *NOT_HELD.values()))


NOT_HELD = {
    "it is not being deleted": tenant(deletionTimestamp=None),
    "its deletion is over for Tenantry; it waits for somebody else's finalizer": tenant(finalizers=["example.com/x"]),
    "its deletion is not held: Deleting: nothing is touched yet": tenant("Deleting"),
    "its deletion is not held": {**tenant(), "status": {}},
}


@pytest.mark.parametrize("told", NOT_HELD)
def test_what_is_not_held_is_told_apart(told: str) -> None:
    assert not is_held(NOT_HELD[told])
    assert why_not_held(NOT_HELD[told]) == told


# --- how it looks -------------------------------------------------------------------------------------------------
def test_a_record_is_a_line_under_the_headings() -> None:
    text = table(HEADINGS, [row_of_record(record())])
    assert text == (
        "STATE     TENANT   WORKSPACE   RECORD   DELETED                PURGE-AFTER            MESSAGE\n"
        "Deleted   acme     shop        acme-1   2026-05-01T11:00:00Z   2026-05-02T11:00:00Z   -\n"
    )


@given(rows=st.lists(st.tuples(TEXTS, TEXTS, TEXTS), max_size=5))
def test_a_row_is_one_line_whatever_is_in_it(rows: list[tuple[str, str, str]]) -> None:
    text = table(("A", "B", "C"), rows)
    assert len(text.split("\n")) == len(rows) + 2
    assert text.endswith("\n")


# --- what is refused before any cluster is asked ------------------------------------------------------------------
REFUSED = {
    ("confirm",): "say which",
    ("abort",): "say which",
    ("abort", "--all", "--workspace", "shop"): "--all is for itself",
    ("abort", "--all", "shop/acme"): "--all is for itself",
    ("abort", "acme"): "acme: say WORKSPACE/NAME",
    ("abort", "shop/"): "shop/: say WORKSPACE/NAME",
    ("abort", "/acme"): "/acme: say WORKSPACE/NAME",
    ("abort", "--workspace", "labs", "shop/acme"): "shop/acme: say WORKSPACE/NAME",
    ("confirm", "--all"): "no terminal",
}


@pytest.mark.parametrize("arguments", REFUSED, ids=" ".join)
def test_a_choice_that_is_none_is_refused_at_once(arguments: tuple[str, ...]) -> None:
    done = CliRunner(env={"KUBECONFIG": "/nowhere"}).invoke(main, ["deletions", *arguments])
    assert done.exit_code in (1, 2)
    assert REFUSED[arguments] in done.stderr


@pytest.mark.parametrize("arguments", [("deletions", "list"), ("undelete", "acme-1"), ("deletions", "abort", "--all")])
def test_without_a_kubeconfig_one_line_says_so(arguments: tuple[str, ...]) -> None:
    done = CliRunner().invoke(main, [*arguments, "--kubeconfig", "/nowhere"])
    assert (done.exit_code, done.stderr) == (1, "Error: there is no kubeconfig at /nowhere\n")
