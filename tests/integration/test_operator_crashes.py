"""A sample of `make crash`: lives of tenants with a SIGKILL in each of their operations end as those without."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.crash.departures import (
    MOVE,
    OWN_CREATE,
    OWN_DELETE,
    OWN_PURGE,
    OWN_UNDELETE,
    OWN_USE,
)
from tests.crash.gate import Mode
from tests.crash.lane import Lane, open_lane
from tests.crash.operations import (
    CREATE,
    DELETE,
    DISABLE,
    ENABLE,
    MAKE_TOKEN,
    PURGE,
    ROTATE,
    ROTATE_TOKEN,
    UNDELETE,
    UPDATE,
    USE,
)
from tests.crash.report import line_of

SHARED = (
    *(CREATE, USE, UPDATE, ROTATE, MAKE_TOKEN, ROTATE_TOKEN),
    *(DISABLE, ENABLE, MOVE, DELETE, UNDELETE, DELETE, PURGE),
)
OWN = (OWN_CREATE, OWN_USE, OWN_DELETE, OWN_UNDELETE, OWN_DELETE, OWN_PURGE)
LIVES = {"on a shared server, and moved": SHARED, "on a server of its own": OWN}
QUIET_SECONDS = 1.5


@pytest.fixture(scope="module")
def lane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lane]:
    with open_lane(tmp_path_factory.mktemp("crashes")) as opened:
        yield opened


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", LIVES)
def test_a_tenants_life_with_a_kill_amid_the_writes_of_each_operation_ends_as_without(lane: Lane, kind: str) -> None:
    calm, killed = lane.open_case(), lane.open_case()
    kills, life = 0, LIVES[kind]
    for number, operation in enumerate(life):
        expected = lane.undisturbed(operation, calm, quiet=QUIET_SECONDS)
        if not expected.points:  # what the tenant itself does
            lane.undisturbed(operation, killed, quiet=0)
            continue
        point, mode = expected.points[len(expected.points) // 2], list(Mode)[number % 2]
        verdict = lane.disturbed(operation, killed, expected, point, mode)
        assert not verdict.difference, line_of(operation.name, verdict)
        kills += verdict.reached
    assert kills >= len(life) * 2 // 3  # a write in the middle may be one that is not made each time
