"""Switching workloads: off and on again is as if nothing had been, whatever came between, and whoever wrote it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.api.names import (
    ANNOTATION_REPLICAS,
    ANNOTATION_RESTARTED_AT,
    ANNOTATION_SUSPENDED,
    LABEL_TASK,
    SECRET_DATABASE,
    SECRET_ENV,
)
from tenantry.decide.activity import MOST_REPLICAS, Activity, change, left_alone, must_settle, note, restart

Json = dict[str, Any]

ON, TASKS_OFF = Activity(workloads=True, tasks=True), Activity(workloads=True, tasks=False)
OFF, ALL_OFF = Activity(workloads=False, tasks=True), Activity(workloads=False, tasks=False)
ACTIVITIES = (ON, TASKS_OFF, OFF, ALL_OFF)
SCALED = ("Deployment", "StatefulSet", "ReplicaSet", "ReplicationController")
SUSPENDED = ("CronJob", "Job")
NOON = "2026-05-01T12:00:00Z"

activities = st.sampled_from(ACTIVITIES)
own_annotations = st.dictionaries(st.sampled_from(["note", "tenantry.io/other", "kubectl.kubernetes.io/x"]), st.text())
labels = st.dictionaries(st.sampled_from([LABEL_TASK, "app"]), st.sampled_from(["true", "false", ""]))
owners = st.lists(
    st.fixed_dictionaries(
        {
            "kind": st.sampled_from(["Deployment", "CronJob", "Cluster"]),
            "apiVersion": st.sampled_from(["batch/v1", "example.com/v1"]),
        },
        optional={"controller": st.booleans()},
    ),
    max_size=2,
)


def optional(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), strategy)


@st.composite
def workloads(draw: st.DrawFn, most: int = MOST_REPLICAS) -> Json:
    """Workloads as their owners left them: never switched by us."""
    kind = draw(st.sampled_from(SCALED + SUSPENDED))
    metadata: Json = {"name": "app"}
    parts: tuple[tuple[str, st.SearchStrategy[Any]], ...] = (
        ("annotations", own_annotations),
        ("labels", labels),
        ("ownerReferences", owners),
    )
    for key, strategy in parts:
        if (value := draw(optional(strategy))) is not None:
            metadata[key] = value
    if draw(st.integers(0, 9)) == 9:
        metadata["deletionTimestamp"] = NOON
    field, values = ("suspend", st.booleans()) if kind in SUSPENDED else ("replicas", st.integers(0, most))
    spec: Json = {"template": {"spec": {"containers": []}}}
    if (value := draw(optional(values))) is not None:
        spec[field] = value
    finished = draw(st.sampled_from([None, "Complete", "Failed", "Suspended"]))
    status = {"conditions": [{"type": finished, "status": "True"}]} if finished and kind == "Job" else {}
    return {"kind": kind, "metadata": metadata, "spec": spec, "status": status}


def merged(live: Any, patch: Any) -> Any:
    """The object after a JSON merge patch (RFC 7396)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(live) if isinstance(live, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def after(live: Json, *wanted: Activity) -> Json:
    """The workload once it was brought to each of these, one after the other."""
    for activity in wanted:
        patch = change(live, activity)
        live = live if patch is None else merged(live, patch)
    return live


def said(live: Json) -> Json:
    """The workload without the difference between a default and nothing, as the API server stores it."""
    body = copy.deepcopy(live)
    if body["kind"] in SCALED:
        body["spec"].setdefault("replicas", 1)
    else:
        body["spec"].setdefault("suspend", False)
    if not body["metadata"].get("annotations"):
        body["metadata"].pop("annotations", None)
    return body


def workload(kind: str = "Deployment", *, remembered: str | None = None, **spec: Any) -> Json:
    key = ANNOTATION_SUSPENDED if kind in SUSPENDED else ANNOTATION_REPLICAS
    kept = {} if remembered is None else {key: remembered}
    return {"kind": kind, "metadata": {"name": "app", "annotations": kept}, "spec": spec}


def kept(live: Json) -> Json:
    """What is remembered, and what runs."""
    fields = {key: live["spec"][key] for key in ("replicas", "suspend") if key in live["spec"]}
    return {**live["metadata"].get("annotations", {}), **fields}


# --- what holds for every workload -----------------------------------------------------------------------------
@given(workloads(), activities)
def test_off_and_on_again_gives_back_the_very_same_workload(live: Json, off: Activity) -> None:
    assert said(after(live, off, ON)) == said(live)


@given(workloads(), activities)
def test_doing_it_again_changes_nothing(live: Json, activity: Activity) -> None:
    assert change(after(live, activity), activity) is None


@given(workloads(), st.lists(activities, min_size=1, max_size=5))
def test_only_the_last_switch_counts_whatever_was_switched_before(live: Json, path: list[Activity]) -> None:
    """So the number survives any number of reasons to be off, and each switch is independent of the other."""
    assert said(after(live, *path)) == said(after(live, path[-1]))


@given(workloads(), st.booleans(), st.booleans())
def test_a_task_follows_both_switches_and_everything_else_only_one(live: Json, enabled: bool, tasks: bool) -> None:
    result = after(live, Activity(workloads=enabled, tasks=tasks))
    is_task = live["kind"] in SUSPENDED or live["metadata"].get("labels", {}).get(LABEL_TASK) == "true"
    runs = enabled and (tasks or not is_task)
    if runs or left_alone(live):
        assert result == live
    elif live["kind"] in SCALED:
        assert result["spec"]["replicas"] == 0
    else:
        finished = {"Complete", "Failed"} & {each["type"] for each in live["status"].get("conditions", [])}
        assert result["spec"].get("suspend") is True or finished


@given(workloads(), st.lists(activities, max_size=3), st.integers(1, MOST_REPLICAS), activities)
def test_a_number_that_somebody_sets_while_it_is_off_is_the_one_that_comes_back(
    live: Json, path: list[Activity], number: int, last: Activity
) -> None:
    if live["kind"] in SUSPENDED or left_alone(live):
        return
    scaled = merged(after(live, *path), {"spec": {"replicas": number}})
    assert after(scaled, last, ON)["spec"]["replicas"] == number
    assert ANNOTATION_REPLICAS not in after(scaled, last, ON)["metadata"].get("annotations", {})


@given(st.sampled_from(SCALED), st.text(), st.integers(0, 3))
def test_whatever_a_tenant_writes_into_the_annotation_a_number_comes_back(kind: str, text: str, replicas: int) -> None:
    result = after(workload(kind, remembered=text, replicas=replicas), ON)
    assert ANNOTATION_REPLICAS not in result["metadata"]["annotations"]
    assert 0 <= result["spec"]["replicas"] <= MOST_REPLICAS


@given(activities, st.sampled_from([None, "off", "tasks-off", "?"]))
def test_nothing_is_looked_at_only_where_all_is_on_and_was_never_off(activity: Activity, noted: str | None) -> None:
    assert must_settle(noted, activity) is not (noted is None and activity == ON)


# --- cases, by name --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("before", "activity", "expected"),
    [
        (workload(replicas=3), OFF, {ANNOTATION_REPLICAS: "3", "replicas": 0}),
        (workload(), OFF, {ANNOTATION_REPLICAS: "1", "replicas": 0}),
        (workload(replicas=0), OFF, {"replicas": 0}),
        (workload(remembered="3", replicas=0), OFF, {ANNOTATION_REPLICAS: "3", "replicas": 0}),
        (workload(remembered="3", replicas=5), OFF, {ANNOTATION_REPLICAS: "5", "replicas": 0}),
        (workload(remembered="3", replicas=0), ON, {"replicas": 3}),
        (workload(remembered="3", replicas=5), ON, {"replicas": 5}),
        (workload(remembered="0", replicas=0), ON, {"replicas": 0}),
        (workload(replicas=0), ON, {"replicas": 0}),
        (workload("CronJob"), OFF, {ANNOTATION_SUSPENDED: "true", "suspend": True}),
        (workload("CronJob", suspend=True), OFF, {"suspend": True}),
        (workload("CronJob", suspend=True), ON, {"suspend": True}),
        (workload("CronJob", remembered="true", suspend=True), ON, {"suspend": False}),
        (workload("CronJob", remembered="true", suspend=False), OFF, {ANNOTATION_SUSPENDED: "true", "suspend": True}),
        (workload("Job", suspend=False), TASKS_OFF, {ANNOTATION_SUSPENDED: "true", "suspend": True}),
    ],
)
def test_what_is_remembered_and_what_comes_back(before: Json, activity: Activity, expected: Json) -> None:
    assert kept(after(before, activity)) == expected


@pytest.mark.parametrize(
    ("text", "number"),
    [("", 1), ("three", 1), ("-3", 1), ("3.5", 1), ("1e3", 1), (" 3", 1), ("٣", 1), ("²", 1), ("0x3", 1),
     ("007", 7), ("1000", 1000), ("1001", 1000), ("9" * 5000, 1000), ("0" * 5000 + "2", 2)],
)  # fmt: skip
def test_nonsense_counts_as_one_and_nothing_for_more_than_a_thousand(text: str, number: int) -> None:
    assert after(workload(remembered=text, replicas=0), ON)["spec"]["replicas"] == number


def test_one_patch_both_remembers_and_switches_off() -> None:
    assert change(workload(replicas=3), OFF) == {
        "metadata": {"annotations": {ANNOTATION_REPLICAS: "3"}},
        "spec": {"replicas": 0},
    }
    assert change(workload("CronJob"), OFF) == {
        "metadata": {"annotations": {ANNOTATION_SUSPENDED: "true"}},
        "spec": {"suspend": True},
    }


def owned(kind: str, owner: str, api_version: str, *, controller: bool = True) -> Json:
    body = workload(kind, replicas=2) if kind in SCALED else workload(kind)
    body["metadata"]["ownerReferences"] = [{"kind": owner, "apiVersion": api_version, "controller": controller}]
    return body


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (owned("ReplicaSet", "Deployment", "apps/v1"), True),
        (owned("StatefulSet", "Cluster", "postgresql.example.com/v1"), True),
        (owned("StatefulSet", "Release", "example.com/v1", controller=False), False),
        (owned("Job", "CronJob", "batch/v1"), False),
        (owned("Job", "CronJob", "example.com/v1"), True),
        (owned("Job", "Workflow", "example.com/v1"), True),
        (owned("Deployment", "CronJob", "batch/v1"), True),
    ],
)
def test_what_another_controller_decides_over_is_left_alone_but_the_jobs_of_a_cron_job(
    body: Json, expected: bool
) -> None:
    assert left_alone(body) is expected
    assert (change(body, ALL_OFF) is None) is expected


def test_a_finished_job_and_one_being_deleted_are_left_as_they_are() -> None:
    for status in ({"conditions": [{"type": "Complete", "status": "True"}]},
                   {"conditions": [{"type": "Failed", "status": "True"}]}):  # fmt: skip
        assert change({**workload("Job"), "status": status}, OFF) is None
    going = workload(replicas=2)
    going["metadata"]["deletionTimestamp"] = NOON
    assert change(going, OFF) is None
    begun = {"conditions": [{"type": "Complete", "status": "False"}]}
    assert change({**workload("Job"), "status": begun}, OFF) is not None


def test_a_job_that_finished_after_it_was_suspended_keeps_no_annotation() -> None:
    job = workload("Job", remembered="true", suspend=True)
    job["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
    assert kept(after(job, ON)) == {"suspend": False}


@pytest.mark.parametrize(
    ("activity", "expected"), [(ON, None), (TASKS_OFF, "tasks-off"), (OFF, "off"), (ALL_OFF, "off")]
)
def test_the_note_on_the_namespace_says_how_much_is_off(activity: Activity, expected: str | None) -> None:
    assert note(activity) == expected


# --- restarts --------------------------------------------------------------------------------------------------
def reading(*, restarted: str | None = None, replicas: int | None = 1, **pod: Any) -> Json:
    template: Json = {"metadata": {}, "spec": {"containers": [{"name": "app"}], **pod}}
    if restarted is not None:
        template["metadata"]["annotations"] = {ANNOTATION_RESTARTED_AT: restarted, "note": "kept"}
    return {"kind": "Deployment", "metadata": {"name": "app"}, "spec": {"replicas": replicas, "template": template}}


def container(secret: str = SECRET_DATABASE, *, whole: bool = False) -> list[Json]:
    if whole:
        return [{"name": "first"}, {"name": "app", "envFrom": [{"configMapRef": {}}, {"secretRef": {"name": secret}}]}]
    variable = {"name": "PGPASSWORD", "valueFrom": {"secretKeyRef": {"name": secret, "key": "password"}}}
    return [{"name": "first"}, {"name": "app", "env": [{"name": "A", "value": "b"}, variable]}]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (reading(containers=container()), True),
        (reading(containers=container(whole=True)), True),
        (reading(initContainers=container()), True),
        (reading(initContainers=container(whole=True)), True),
        (reading(containers=container(), replicas=None), True),
        (reading(containers=container(), replicas=0), False),
        (reading(containers=container(SECRET_ENV)), False),
        (reading(containers=container(SECRET_ENV, whole=True)), False),
        (reading(volumes=[{"name": "login", "secret": {"secretName": SECRET_DATABASE}}]), False),
        (reading(), False),
        ({"kind": "Deployment", "metadata": {"name": "app"}, "spec": {}}, False),
    ],
)
def test_restarted_is_what_reads_the_login_from_its_environment(body: Json, expected: bool) -> None:
    patch = restart(body, NOON)
    assert (patch is not None) is expected
    if patch is not None:
        assert patch == {"spec": {"template": {"metadata": {"annotations": {ANNOTATION_RESTARTED_AT: NOON}}}}}


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        (None, True),
        ("2026-05-01T11:59:59Z", True),
        ("2026-05-01T12:00:01Z", True),  # a clock that jumped back, or a hand: better once too often
        ("nonsense", True),
        ("2026-05-01T12:00:00", True),  # without a zone: some other time
        (NOON, False),
        ("2026-05-01T14:00:00+02:00", False),
    ],
)
def test_the_same_time_restarts_once(before: str | None, expected: bool) -> None:
    live = reading(containers=container(), restarted=before)
    assert (restart(live, NOON) is not None) is expected
    assert restart(merged(live, restart(live, NOON)) if expected else live, NOON) is None


def test_what_is_left_alone_is_not_restarted_either() -> None:
    live = reading(containers=container())
    live["metadata"]["ownerReferences"] = [{"kind": "Cluster", "apiVersion": "example.com/v1", "controller": True}]
    assert restart(live, NOON) is None
