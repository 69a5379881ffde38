"""What kstatus makes of our statuses: Flux waits by it, and `helm --wait`.

Its rules as of cli-utils 1.2 (`checkGenericProperties`, then `checkReadyCondition`). The real ones run in
tests/integration/test_tenants_chart.py, inside helm.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.strategies import calmly

from tenantry.api.conditions import Condition, ConditionType, Reason
from tenantry.api.crd import UNOBSERVED
from tenantry.api.tenant import TenantStatus
from tenantry.decide.conditions import GOOD, Outcome, summarize, suspended

Json = dict[str, Any]

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
GENERATION = 3
CONCERNS = (ConditionType.PLACED, ConditionType.DATABASE_READY)
TERMINAL = Outcome(False, Reason.PLAN_EXCEEDED, "too much", terminal=True)
WAITING = Outcome(None, Reason.SERVER_FULL, "full")
found = st.fixed_dictionaries(dict.fromkeys(CONCERNS, st.sampled_from([GOOD, TERMINAL, WAITING])))


def kstatus(body: Json) -> str:
    """The status that kstatus computes of a custom resource."""
    metadata, status = body["metadata"], body.get("status", {})
    if metadata.get("deletionTimestamp"):
        return "Terminating"
    generation = metadata.get("generation")
    if generation is not None and status.get("observedGeneration", generation) != generation:
        return "InProgress"
    for condition in status.get("conditions", ()):
        if condition["status"] == "True" and condition["type"] in {"Reconciling", "Stalled"}:
            return "InProgress" if condition["type"] == "Reconciling" else "Failed"
    ready = [condition["status"] for condition in status.get("conditions", ()) if condition["type"] == "Ready"]
    return "InProgress" if ready and ready[0] in {"False", "Unknown"} else "Current"


def body(conditions: list[Condition], observed: int = GENERATION, **metadata: str) -> Json:
    status = TenantStatus(conditions=conditions, observed_generation=observed)
    return {
        "metadata": {"generation": GENERATION, **metadata},
        "status": status.model_dump(by_alias=True, mode="json"),
    }


def told(outcomes: dict[ConditionType, Outcome]) -> list[Condition]:
    return summarize(outcomes, ready_message="there", previous=[], generation=GENERATION, now=NOW)


@calmly
@given(found)
def test_good_is_current_what_waits_is_in_progress_and_what_somebody_has_to_change_has_failed(
    found: dict[ConditionType, Outcome],
) -> None:
    outcomes = found.values()
    wanted = "Failed" if TERMINAL in outcomes else "InProgress" if WAITING in outcomes else "Current"
    assert kstatus(body(told(found))) == wanted


@calmly
@given(found)
def test_a_change_is_in_progress_until_it_was_looked_at(found: dict[ConditionType, Outcome]) -> None:
    assert kstatus(body(told(found), GENERATION - 1)) == "InProgress"


@calmly
@given(found)
def test_what_is_being_deleted_is_terminating(found: dict[ConditionType, Outcome]) -> None:
    assert kstatus(body(told(found), deletionTimestamp="2026-01-02T03:04:05Z")) == "Terminating"


def test_what_nobody_has_looked_at_is_not_current() -> None:
    assert kstatus({"metadata": {"generation": 1}, "status": UNOBSERVED}) == "InProgress"


@pytest.mark.parametrize(
    ("before", "wanted"), [(GOOD, "Current"), (TERMINAL, "InProgress"), (WAITING, "InProgress"), (None, "InProgress")]
)
def test_a_suspended_tenant_is_current_only_if_it_was_ready_before(before: Outcome | None, wanted: str) -> None:
    former = [] if before is None else told({ConditionType.PLACED: before})
    ready, others = suspended(former, GENERATION, NOW, reason=Reason.SUSPENDED, told="left as it is")
    assert kstatus(body([ready, *others])) == wanted
