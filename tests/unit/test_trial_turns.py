"""Whose backups are restored on trial next: no tenant holds up the others, whatever its backups do."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.unit.test_verifying import Scene

from tenantry.api.resources import DATABASE_SERVERS, TENANT_BACKUPS, TENANTS, Ref
from tenantry.decide.trial import LEAST_TIME, LONGEST_PAUSE
from tenantry.ports.world import Availability
from tenantry.reconcile import verifying
from tenantry.reconcile.openstores import OpenStore
from tenantry.reconcile.trialpauses import TrialPauses
from tenantry.reconcile.trials import Finding, Verdict

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
ACME, BETA = Ref(TENANTS, "shop", "acme"), Ref(TENANTS, "shop", "beta")
FIRST, SECOND = Ref(TENANT_BACKUPS, "shop", "first"), Ref(TENANT_BACKUPS, "shop", "second")
SPENT = Finding(Verdict.NOT_POSSIBLE, "it took longer", NOW, 60.0, spent=True)
LONG = Finding(Verdict.NOT_POSSIBLE, "cut off", NOW, LEAST_TIME.total_seconds())
SHORT = Finding(Verdict.NOT_POSSIBLE, "cut off", NOW, 60.0)
PASSED = Finding(Verdict.PASSED, "", NOW, 60.0)


class Turns:
    """A scene with one server, on which a trial lasts until it is told how it ends."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun: list[str] = []
        self._end: asyncio.Future[Finding] | None = None
        self.scene = Scene()
        self.scene.store("open")
        self.scene.server("of-open")
        self.server = self.scene.live[Ref(DATABASE_SERVERS, "", "of-open")]
        self.server["spec"]["capacity"] = {"storage": "1Ti"}
        none: Any = None
        self.scene.kit.opened.judge("open", OpenStore(none, "k"), Availability(True))
        monkeypatch.setattr(verifying, "path_of", lambda _, backup: backup.metadata.name)
        monkeypatch.setattr(verifying, "TrialWork", lambda _, __, job: self._work(job.path))

    def _work(self, name: str) -> Any:
        turns = self

        class Work:
            async def run(self) -> Finding:
                turns.begun.append(name)
                turns._end = asyncio.get_running_loop().create_future()
                return await turns._end

        return Work()

    async def end(self, finding: Finding) -> None:
        """The trial that is under way ends so; then it is looked what is next."""
        await asyncio.sleep(0)
        assert self._end is not None
        self._end.set_result(finding)
        for _ in range(3):
            await asyncio.sleep(0)
        await self.tick()

    async def tick(self) -> None:
        """One look; what is begun begins."""
        self.scene.monotonic += 1
        await self.scene.tick()
        await asyncio.sleep(0)


async def test_the_tenant_that_was_tried_longest_ago_comes_first_however_many_another_one_asks_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turns = Turns(monkeypatch)
    for name in ("a-1", "a-2", "a-3"):
        turns.scene.backup(name, "open")
    await turns.tick()
    late = {"completedAt": "2026-11-22T09:59:00Z"}
    turns.scene.backup("b-1", "open", tenant="beta", status=late)
    await turns.end(PASSED)
    await turns.end(PASSED)
    assert [name[0] for name in turns.begun] == ["a", "b", "a"]


async def test_a_tenant_whose_trial_was_broken_off_waits_with_all_its_backups_also_when_a_server_flaps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turns = Turns(monkeypatch)
    for name in ("a-1", "a-2", "a-3"):
        turns.scene.backup(name, "open")
    await turns.tick()
    await turns.end(SPENT)
    for generation in range(2, 5):
        turns.server["metadata"]["generation"] = generation
        await turns.tick()
    assert len(turns.begun) == 1
    turns.scene.backup("b-1", "open", tenant="beta")
    await turns.tick()
    assert turns.begun[1:] == ["b-1"]
    await turns.end(PASSED)
    assert len(turns.begun) == 2
    turns.scene.monotonic += LONGEST_PAUSE.total_seconds()
    await turns.tick()
    assert turns.begun[2].startswith("a-")


async def test_what_was_cut_off_soon_is_tried_again_once_its_server_was_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turns = Turns(monkeypatch)
    turns.scene.backup("a-1", "open")
    await turns.tick()
    await turns.end(SHORT)
    assert turns.begun == ["a-1"]
    turns.server["metadata"]["generation"] = 2
    await turns.tick()
    assert turns.begun == ["a-1", "a-1"]


async def test_of_one_tenant_one_backup_is_tried_at_a_time_on_whichever_server(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = Turns(monkeypatch)
    turns.scene.store("other")
    turns.scene.server("of-other")
    turns.scene.live[Ref(DATABASE_SERVERS, "", "of-other")]["spec"]["capacity"] = {"storage": "1Ti"}
    none: Any = None
    turns.scene.kit.opened.judge("other", OpenStore(none, "k"), Availability(True))
    turns.scene.backup("a-1", "open")
    turns.scene.backup("a-2", "other")
    await turns.tick()
    await turns.tick()
    assert len(turns.begun) == 1
    turns.scene.backup("b-1", "other", tenant="beta")
    await turns.tick()
    assert turns.begun[1:] == ["b-1"]


# --- pauses ---------------------------------------------------------------------------------------------------
def pauses(scene: Scene) -> TrialPauses:
    return TrialPauses(scene.world.clock, lambda seconds: seconds)


@pytest.mark.parametrize(("finding", "waits"), [(SPENT, True), (LONG, True), (SHORT, False), (PASSED, False)])
def test_only_what_took_much_and_came_to_nothing_makes_a_tenant_wait(finding: Finding, waits: bool) -> None:
    found = pauses(Scene())
    found.ended(ACME, finding)
    found.clear()
    assert found.waits(SECOND, ACME) is waits
    assert not found.waits(FIRST, BETA)


def test_a_pause_is_sat_out_also_without_backups_and_is_longer_each_time_until_one_comes_to_something() -> None:
    scene = Scene()
    found, six_hours = pauses(scene), LONGEST_PAUSE.total_seconds()
    found.ended(ACME, SPENT)
    found.forget_tenants(lambda _: False)
    assert found.waits(FIRST, ACME)
    scene.monotonic += six_hours
    found.forget_tenants(lambda _: True)
    assert not found.waits(FIRST, ACME)
    found.ended(ACME, LONG)
    scene.monotonic += six_hours
    assert found.waits(FIRST, ACME)
    scene.monotonic += six_hours
    assert not found.waits(FIRST, ACME)
    found.ended(ACME, PASSED)
    found.ended(ACME, SPENT)
    scene.monotonic += six_hours
    assert not found.waits(FIRST, ACME)


def test_what_was_put_off_waits_until_what_stood_in_its_way_may_have_changed() -> None:
    found = pauses(Scene())
    found.put_off(FIRST, ACME)
    assert found.waits(FIRST, ACME)
    assert not found.waits(SECOND, ACME)
    assert found.backups() == [(FIRST, ACME)]
    found.clear()
    assert not found.waits(FIRST, ACME)
