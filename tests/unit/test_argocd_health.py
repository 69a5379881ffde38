"""Argo CD's health of our kinds, told by the shipped script of statuses that the operator's own code makes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tests.scene.argocd import Health, health_of
from tests.unit.strategies import calmly
from tools.argocd import HEALTH, SNIPPET
from tools.generate import ROOT

from tenantry.api.base import Kind
from tenantry.api.cluster import ClusterStatus
from tenantry.api.conditions import Condition, ConditionType, Reason
from tenantry.api.crd import UNOBSERVED
from tenantry.api.kinds import ALL_KINDS
from tenantry.api.tenant import TenantStatus
from tenantry.decide.conditions import GOOD, Outcome, condition_of, summarize, suspended

Json = dict[str, Any]

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
GENERATION = 7
SCRIPT = (ROOT / HEALTH).read_text(encoding="utf-8")
CONCERNS = (ConditionType.PLACED, ConditionType.DATABASE_READY, ConditionType.INGRESS_READY)

TERMINAL = Outcome(False, Reason.PLAN_EXCEEDED, "MAX_USERS is 11, at most 10", terminal=True)
WAITING = Outcome(None, Reason.SERVER_FULL, "server 'pg' is full")
outcomes = st.sampled_from([GOOD, TERMINAL, WAITING, Outcome(True, Reason.NOT_WANTED)])
found = st.fixed_dictionaries(dict.fromkeys(CONCERNS, outcomes))


def body(conditions: list[Condition], *, observed: int = GENERATION, deleting: bool = False) -> Json:
    status = TenantStatus(conditions=conditions, observed_generation=observed)
    times = {"deletionTimestamp": "2026-01-02T03:04:05Z"} if deleting else {}
    return {
        "metadata": {"generation": GENERATION, **times},
        "status": status.model_dump(by_alias=True, mode="json"),
    }


def told(
    outcomes: dict[ConditionType, Outcome], *, reason: Reason = Reason.READY, generation: int = GENERATION
) -> list[Condition]:
    return summarize(
        outcomes, ready_message="all there", ready_reason=reason, previous=[], generation=generation, now=NOW
    )


def expected(outcomes: dict[ConditionType, Outcome]) -> Health:
    bad = [outcome for outcome in outcomes.values() if outcome.status is not True]
    if TERMINAL in bad:
        return Health("Degraded", TERMINAL.message)
    return Health("Progressing", WAITING.message) if bad else Health("Healthy", "all there")


@calmly
@given(found)
def test_good_is_healthy_what_waits_progresses_and_what_somebody_has_to_change_is_degraded(
    found: dict[ConditionType, Outcome],
) -> None:
    assert health_of(SCRIPT, body(told(found))) == expected(found)


@calmly
@given(found)
def test_a_generation_that_was_not_looked_at_yet_progresses_whatever_was_found_before(
    found: dict[ConditionType, Outcome],
) -> None:
    assert health_of(SCRIPT, body(told(found), observed=GENERATION - 1)).status == "Progressing"


@calmly
@given(found)
def test_what_is_being_deleted_progresses_and_says_what_it_waits_for(found: dict[ConditionType, Outcome]) -> None:
    conditions = told(found)
    health = health_of(SCRIPT, body(conditions, deleting=True))
    assert health == Health("Progressing", conditions[0].message)


@calmly
@given(found)
def test_what_is_left_alone_is_suspended_whatever_was_found_before(found: dict[ConditionType, Outcome]) -> None:
    ready, others = suspended(told(found), GENERATION, NOW, reason=Reason.SUSPENDED, told="left as it is")
    assert health_of(SCRIPT, body([ready, *others])) == Health("Suspended", "left as it is")


@calmly
@given(found)
def test_a_held_change_is_suspended_unless_what_is_applied_has_trouble_of_its_own(
    found: dict[ConditionType, Outcome],
) -> None:
    held = Outcome(True, Reason.DRY_RUN, "1 to change")
    conditions = told(found, reason=Reason.DRY_RUN, generation=GENERATION - 1)
    conditions.append(condition_of(ConditionType.CHANGE_HELD, held, [], GENERATION, NOW))
    health = health_of(SCRIPT, body(conditions))
    usual = expected(found)
    assert health == (Health("Suspended", "all there") if usual.status == "Healthy" else usual)


def test_a_new_tenant_whose_first_spec_is_held_is_suspended() -> None:
    ready, others = suspended([], GENERATION, NOW, reason=Reason.DRY_RUN, told="nothing is made")
    assert health_of(SCRIPT, body([ready, *others])) == Health("Suspended", "nothing is made")


def test_what_is_switched_off_is_healthy_for_that_is_what_was_asked_for() -> None:
    conditions = told({ConditionType.PLACED: GOOD}, reason=Reason.DISABLED)
    assert health_of(SCRIPT, body(conditions)) == Health("Healthy", "all there")


@pytest.mark.parametrize("status", [{}, {"status": {}}, {"status": UNOBSERVED}, {"status": {"conditions": []}}])
def test_what_the_operator_has_not_seen_yet_progresses(status: Json) -> None:
    assert health_of(SCRIPT, {"metadata": {"generation": 1}, **status}).status == "Progressing"
    deleted = {"metadata": {"generation": 1, "deletionTimestamp": "2026-01-02T03:04:05Z"}, **status}
    assert health_of(SCRIPT, deleted) == Health("Progressing", "being deleted")


def test_an_observed_object_without_a_word_on_ready_progresses() -> None:
    assert health_of(SCRIPT, body([])).status == "Progressing"


def test_ready_alone_is_enough_to_be_degraded() -> None:
    conditions = [condition_of(ConditionType.READY, TERMINAL, [], GENERATION, NOW)]
    assert health_of(SCRIPT, body(conditions)) == Health("Degraded", TERMINAL.message)


def test_the_platforms_kinds_are_told_alike() -> None:
    conditions = told({ConditionType.REACHABLE: WAITING})
    status = ClusterStatus(conditions=conditions, observed_generation=GENERATION)
    cluster = {"metadata": {"generation": GENERATION}, "status": status.model_dump(by_alias=True, mode="json")}
    assert health_of(SCRIPT, cluster) == Health("Progressing", WAITING.message)


@pytest.mark.parametrize("kind", [kind for kind in ALL_KINDS if kind.status], ids=lambda kind: kind.resource.kind)
def test_the_snippet_for_argo_cd_has_the_script_for_every_kind_with_a_status(kind: Kind) -> None:
    snippet = yaml.safe_load((ROOT / SNIPPET).read_text(encoding="utf-8"))
    assert snippet["data"][f"resource.customizations.health.tenantry.io_{kind.resource.kind}"] == SCRIPT
