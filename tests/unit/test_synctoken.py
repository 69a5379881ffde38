"""The sync token: one request is one change, the former one is valid for its grace period and not longer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.api.identity import TenantIdentity
from tenantry.api.names import ANNOTATION_ROTATE_SYNC_TOKEN, ANNOTATION_ROTATED_AT
from tenantry.decide.deletion import time_text
from tenantry.decide.rotation import request_of
from tenantry.decide.synctoken import Change, SyncToken, changed, next_change
from tenantry.desired.synctoken import sync_secret
from tenantry.reconcile.synctoken import token_of

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
GRACE = timedelta(hours=24)
ACME = TenantIdentity("m-1", "shop", "w1", "acme")


def token(previous: str = "", ago: timedelta = timedelta(), handled: str | None = "1") -> SyncToken:
    return SyncToken("now", previous, NOON - ago, handled)


@pytest.mark.parametrize(
    ("have", "request_", "change", "pending"),
    [
        (None, None, Change.NOTHING, False),
        (None, "1", Change.MAKE, False),
        (None, "force-1", Change.MAKE, False),
        (token(), None, Change.NOTHING, False),
        (token(), "2", Change.ROTATE, False),
        (token("old"), None, Change.NOTHING, False),
        (token("old"), "2", Change.NOTHING, True),
        (token("old"), "force-2", Change.REPLACE, False),
        (token(), "force-2", Change.REPLACE, False),
        (token("old", GRACE), "2", Change.ROTATE, False),
        (token("old", GRACE), None, Change.END_FORMER, False),
        (SyncToken("now", "old", None, "1"), None, Change.END_FORMER, False),
    ],
)
def test_the_next_change_is_the_one_that_is_due(
    have: SyncToken | None, request_: str | None, change: Change, pending: bool
) -> None:
    step = next_change(have, request_, GRACE, NOON)
    assert (step.change, bool(step.pending)) == (change, pending)


asked = st.none() | st.sampled_from(["a", "b", "c", "force-a", "force-b", ""])


@given(st.lists(st.tuples(asked, st.integers(0, 30), st.booleans()), max_size=30))
def test_whatever_is_asked_for_and_whenever_a_process_dies_holders_keep_their_grace(
    history: list[tuple[str | None, int, bool]],
) -> None:
    """Each look is later than the last; a process that dies before its write has done nothing."""
    now, given_out = NOON, dict[str, datetime]()
    have: SyncToken | None = None
    for number, (annotation, hours, dies) in enumerate(history):
        now += timedelta(hours=hours)
        request = request_of(annotation, have.handled if have else None)
        step = next_change(have, request, GRACE, now)
        if step.change == Change.NOTHING or dies:
            continue
        before = have
        have = changed(have, step, f"t{number}", request, now)
        again = next_change(have, request_of(annotation, have.handled), GRACE, now)
        assert again.change == Change.NOTHING, "the same request does nothing more"
        assert (have.handled == request) or step.change == Change.END_FORMER
        if before is None:
            continue
        if step.change == Change.ROTATE:
            assert have.previous == before.value
            assert not before.previous or before.rotated_at is None or before.rotated_at + GRACE <= now
            given_out[before.value] = now
        elif step.change == Change.END_FORMER:
            assert have.value == before.value
            assert given_out[before.previous] + GRACE <= now
        else:
            assert have.previous == "", "only who says force is cut off at once"


@given(st.sampled_from(["", "old"]), st.none() | st.just(NOON), st.none() | st.text("ab-", min_size=1, max_size=5))
def test_what_the_secret_says_is_what_was_written(previous: str, at: datetime | None, handled: str | None) -> None:
    have = SyncToken("now", previous, at, handled)
    times = {ANNOTATION_ROTATED_AT: time_text(at)} if at is not None else {}
    echo = {ANNOTATION_ROTATE_SYNC_TOKEN: handled} if handled is not None else {}
    assert token_of(sync_secret(ACME, "ns", "now", previous, {**times, **echo})) == have
    assert "now" not in repr(have)


def test_a_secret_without_a_token_is_as_none() -> None:
    assert token_of(None) is None
    assert token_of({"metadata": {}, "data": {"previous": "b2xk"}}) is None
