"""Decisions about deletions: windows within plans, and when many of them are stopped."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.api.base import parse_duration
from tenantry.api.tenant import TenantSpec
from tenantry.api.tenantplan import TenantPlanSpec
from tenantry.api.tenantrecord import PinnedDeletion
from tenantry.decide.deletion import (
    Departure,
    Gone,
    StopRule,
    keeping_more,
    parse_time,
    pinned_deletion,
    safer,
    stopped,
    time_text,
)
from tenantry.decide.halt import Terminal

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
NOTHING = Gone()
hours = st.integers(0, 1000).map(lambda number: f"{number}h")


def plan(least: str = "0s", most: str = "720h") -> TenantPlanSpec:
    return TenantPlanSpec.model_validate({"deletion": {"minWindow": least, "maxWindow": most}})


def spec(window: str | None = None, policy: str = "Delete") -> TenantSpec:
    return TenantSpec.model_validate({"deletion": {"policy": policy, **({"window": window} if window else {})}})


@pytest.mark.parametrize(
    ("least", "most", "window"), [("0s", "720h", "24h"), ("48h", "720h", "48h"), ("0s", "1h", "1h"), ("0s", "0s", "0s")]
)
def test_without_a_wish_the_window_is_a_day_as_far_as_the_plan_allows(least: str, most: str, window: str) -> None:
    assert pinned_deletion(spec(), "p", plan(least, most)).window == window


@given(hours, hours, hours)
def test_a_window_is_never_outside_of_the_plan(least: str, most: str, wish: str) -> None:
    if parse_duration(least) > parse_duration(most):
        least, most = most, least
    bounds = parse_duration(least), parse_duration(most)
    assert bounds[0] <= parse_duration(pinned_deletion(spec(), "p", plan(least, most)).window) <= bounds[1]
    if bounds[0] <= parse_duration(wish) <= bounds[1]:
        assert pinned_deletion(spec(wish), "p", plan(least, most)).window == wish
    else:
        with pytest.raises(Terminal, match=r"spec\.deletion\.window"):
            pinned_deletion(spec(wish), "p", plan(least, most))


def test_an_ephemeral_tenant_is_not_kept_beyond_its_end_unless_the_plan_says_so() -> None:
    throw_away = TenantSpec.model_validate({"ephemeral": {"ttl": "1h"}})
    assert pinned_deletion(throw_away, "p", plan()).window == "0s"
    assert pinned_deletion(throw_away, "p", plan("2h")).window == "2h"


@given(hours, hours, st.sampled_from(["Delete", "Retain"]), st.sampled_from(["Delete", "Retain"]))
def test_of_two_terms_what_keeps_more_is_kept_whichever_comes_first(
    one: str, other: str, policy: str, another: str
) -> None:
    terms = PinnedDeletion(policy=policy, window=one), PinnedDeletion(policy=another, window=other)
    for kept in (keeping_more(*terms), keeping_more(*reversed(terms))):
        assert (kept.policy == "Retain") == ("Retain" in (policy, another))
        assert parse_duration(kept.window) == max(map(parse_duration, (one, other)))


def test_the_policy_is_the_specs() -> None:
    assert pinned_deletion(spec(policy="Retain"), "p", plan()).policy == "Retain"


@given(st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2200, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 - the strategy adds the zone
def test_a_time_is_read_as_it_was_written(moment: datetime) -> None:
    assert parse_time(time_text(moment)) == moment.replace(microsecond=0)


@pytest.mark.parametrize("text", [None, "", "soon", "2026-13-01T00:00:00Z"])
def test_what_is_no_time_is_none(text: str | None) -> None:
    assert parse_time(text) is None


def leaving(number: int, workspace: str = "other", began: datetime | None = None) -> list[Departure]:
    return [Departure(workspace, f"tenant-{each}-{began}", began) for each in range(number)]


def test_ten_deletions_go_and_eleven_stop() -> None:
    assert stopped(StopRule(), "shop", leaving(10), 5, NOTHING, NOW) is None
    assert stopped(StopRule(), "shop", leaving(11), 5, NOTHING, NOW) is not None


def test_deletions_that_began_count_for_the_span_and_no_longer() -> None:
    recent, old = NOW - timedelta(minutes=9), NOW - timedelta(minutes=11)
    assert stopped(StopRule(), "shop", [*leaving(10, began=recent), *leaving(1)], 5, NOTHING, NOW) is not None
    assert stopped(StopRule(), "shop", [*leaving(50, began=old), *leaving(1)], 5, NOTHING, NOW) is None


@pytest.mark.parametrize(
    ("leave", "stay", "stops"),
    [(2, 0, False), (1, 1, False), (1, 2, False), (2, 2, False), (2, 1, True), (3, 0, True)],
)
def test_over_half_of_a_workspace_of_three_or_more_stops(leave: int, stay: int, stops: bool) -> None:
    assert (stopped(StopRule(), "shop", leaving(leave, "shop"), stay, NOTHING, NOW) is not None) is stops


def test_the_share_is_of_the_own_workspace() -> None:
    assert stopped(StopRule(), "shop", [*leaving(5, "other"), *leaving(1, "shop")], 3, NOTHING, NOW) is None


@pytest.mark.parametrize("above", [Gone(workspace=True), Gone(kind=True)])
def test_what_goes_with_its_workspace_or_kind_is_stopped(above: Gone) -> None:
    assert stopped(StopRule(), "shop", leaving(1, "shop"), 0, above, NOW) is not None
    assert stopped(StopRule(terminating=False), "shop", leaving(1, "shop"), 0, above, NOW) is None


def test_a_rule_that_is_switched_off_stops_nothing() -> None:
    off = StopRule(count=0, share=1.0, terminating=False)
    assert stopped(off, "shop", leaving(500, "shop"), 0, Gone(workspace=True, kind=True), NOW) is None


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
def test_one_more_deletion_never_lifts_a_stop(own: int, others: int, staying: int) -> None:
    before = [*leaving(own, "shop"), *leaving(others)]
    if stopped(StopRule(), "shop", before, staying, NOTHING, NOW) is not None:
        after = [*before, *leaving(1, "shop")]
        assert stopped(StopRule(), "shop", after, max(0, staying - 1), NOTHING, NOW) is not None


@given(
    recorded=st.tuples(st.sampled_from(["Delete", "Retain"]), st.integers(0, 96)),
    written=st.tuples(st.sampled_from(["Delete", "Retain"]), st.none() | st.integers(0, 96)),
    least=st.integers(0, 96),
)
def test_where_record_and_spec_do_not_agree_nothing_goes_earlier_than_either_says(
    recorded: tuple[str, int], written: tuple[str, int | None], least: int
) -> None:
    pinned = PinnedDeletion.model_validate({"policy": recorded[0], "window": f"{recorded[1]}h"})
    deletion = {"policy": written[0], **({"window": f"{written[1]}h"} if written[1] is not None else {})}
    found = safer(pinned, TenantSpec.model_validate({"deletion": deletion}), plan(f"{least}h"))
    assert (found.policy == "Retain") == ("Retain" in (recorded[0], written[0]))
    assert parse_duration(found.window) == timedelta(hours=max(recorded[1], least))
    unknown = safer(pinned, TenantSpec.model_validate({"deletion": deletion}), None)
    assert parse_duration(unknown.window) == timedelta(hours=max(recorded[1], written[1] or 0))
