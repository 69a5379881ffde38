"""Random lives of tenants against the real servers; many more of them: `make model`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from tests.model.ground import Ground, open_ground
from tests.model.life import life_on


@pytest.fixture
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    with open_ground(tmp_path_factory.mktemp("lives")) as opened:
        yield opened


@pytest.mark.timeout(500)
def test_whatever_came_before_a_tenant_ends_as_its_last_spec_says_with_its_rows_and_nobody_elses(
    ground: Ground,
) -> None:
    calm = settings(
        max_examples=3,
        stateful_step_count=9,
        deadline=None,
        derandomize=True,  # the same lives each time: `make model` draws others
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(life_on(ground), settings=calm)
