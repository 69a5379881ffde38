"""Killing the operator with SIGKILL at random moments: the end is the same as that of an undisturbed run."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest
from tests.integration.conftest import FreshControlPlane, FreshPostgres
from tests.scene.installation import apply
from tests.scene.lab import Lab, all_ready, conditions_text, make_lab, tenant_body, wait_until, workspace_body
from tests.scene.snapshot import snapshot

TENANTS = 20
KILLS = 10
READY_SECONDS = 120.0


@pytest.mark.timeout(900)
def test_ten_kills_while_twenty_tenants_are_made_end_like_an_undisturbed_run(
    fresh_control_plane: FreshControlPlane, fresh_postgres: FreshPostgres, tmp_path: Path
) -> None:
    undisturbed = _run(fresh_control_plane, fresh_postgres, tmp_path / "calm", kills=0)
    disturbed = _run(fresh_control_plane, fresh_postgres, tmp_path / "killed", kills=KILLS)
    assert undisturbed["objects"]
    assert len(undisturbed["records"]) == TENANTS
    for part, items in undisturbed.items():
        assert disturbed[part] == items, part


def _run(clusters: FreshControlPlane, servers: FreshPostgres, folder: Path, *, kills: int) -> dict[str, Any]:
    folder.mkdir()
    lab = make_lab(
        clusters("management"), clusters("target"), servers(), folder, "--management-id", "the-same-in-both-runs"
    )
    apply(lab.management.access, workspace_body("shop"), workspace_body("labs"))
    try:
        lab.operator.start()
        apply(lab.management.access, *(_tenant(number) for number in range(TENANTS)))
        _kill_at_random_moments(lab, kills)
        wait_until(all_ready(lab, TENANTS), READY_SECONDS, lambda: conditions_text(lab))
        return snapshot(lab.management.access, lab.target.access, lab.postgres.access)
    finally:
        lab.operator.stop()
        lab.postgres.stop()
        lab.target.stop()
        lab.management.stop()


def _kill_at_random_moments(lab: Lab, kills: int) -> None:
    """The moments count from when it is ready, so each of the kills meets it at work; the seed is in the log."""
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")  # noqa: T201 - shown by pytest when the test fails
    moments = random.Random(seed)  # noqa: S311 - moments, no secrets
    for _ in range(kills):
        time.sleep(moments.uniform(0.0, 0.6))  # the random moment itself
        lab.operator.kill()
        lab.operator.start()


def _tenant(number: int) -> dict[str, Any]:
    """Every other one has a database; some have hosts, bindings and environment of their own."""
    spec: dict[str, Any] = {"database": {"mode": "Shared" if number % 2 else "None"}}
    if number % 3 == 0:
        spec["rbac"] = {"bindings": [{"role": "Admin", "subjects": [{"kind": "User", "name": "anna"}]}]}
    if number % 4 == 0:
        spec["env"] = {"NUMBER": str(number)}
    return tenant_body(f"tenant-{number:02d}", "shop" if number % 5 else "labs", **spec)
