"""A kind that was installed again is noticed once it is served, once, and nothing else is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tenantry.api.resources import TENANT_PLANS, TENANTS
from tenantry.runtime import kinds
from tenantry.runtime.kinds import RenewedKinds

Json = dict[str, Any]


def definition(uid: str, plural: str = "tenants", *, established: bool = True, **metadata: str) -> Json:
    conditions = [{"type": "Established", "status": "True"}] if established else []
    return {
        "metadata": {"name": f"{plural}.tenantry.io", "uid": uid, **metadata},
        "status": {"conditions": conditions},
    }


async def renewals(monkeypatch: pytest.MonkeyPatch, *events: Json) -> int:
    """How often it was told, of events that come at once."""
    monkeypatch.setattr(kinds, "SERVED_SECONDS", 0.0)
    told: list[None] = []
    seen = RenewedKinds((TENANTS, TENANT_PLANS), lambda: told.append(None))
    for event in events:
        seen.take(event)
    await asyncio.sleep(0.01)  # the loop's next turns: a timer of no seconds
    return len(told)


FIRST, LATER = definition("a"), definition("b")
QUIET = {
    "the first list": [FIRST, definition("p", "tenantplans")],
    "its status": [FIRST, FIRST],
    "its end": [FIRST, definition("a", deletionTimestamp="2026-01-01T00:00:00Z")],
    "not served yet": [FIRST, definition("b", established=False)],
    "no kind that is watched": [definition("a", "backups"), definition("b", "backups")],
}


@pytest.mark.parametrize("events", QUIET.values(), ids=QUIET)
async def test_what_does_not_end_a_watch_is_passed_over(monkeypatch: pytest.MonkeyPatch, events: list[Json]) -> None:
    assert await renewals(monkeypatch, *events) == 0


async def test_kinds_that_come_back_are_told_of_once_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    plans = (definition("p", "tenantplans"), definition("q", "tenantplans"))
    assert await renewals(monkeypatch, FIRST, plans[0], LATER, plans[1], LATER) == 1
