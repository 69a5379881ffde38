"""How long a tenant has been stopped for its move: what is told of it, and what its patience goes by."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import cast

import pytest

from tenantry.reconcile.leaving import seconds_since
from tenantry.reconcile.world import World

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("began", "seconds"),
    [
        ("2026-05-01T11:59:50.250+00:00", 9.75),
        ("2026-05-01T11:59:50Z", 10.0),
        ("2026-05-01T12:00:01.000+00:00", 0.0),
        ("2026-05-01T11:59:50", 0.0),
        ("soon", 0.0),
        (None, 0.0),
    ],
)
def test_the_time_since_the_write_stop_is_known_also_with_its_milliseconds(began: str | None, seconds: float) -> None:
    world = cast("World", SimpleNamespace(clock=SimpleNamespace(now=lambda: NOON)))
    assert seconds_since(began, world) == seconds
