"""Health checks: how a round is told, and the two checks that come with it."""

from __future__ import annotations

import asyncio
import logging

import pytest
from tests.unit.fake_time import FakeTime

from tenantry.runtime.health import Heartbeat, no_run_over, report


def test_when_all_is_well_ok_is_enough() -> None:
    assert report("healthz", {"loop": lambda: None}, verbose=False) == (True, "ok")


def test_a_verbose_answer_lists_every_check() -> None:
    assert report("readyz", {"lease": lambda: None}, verbose=True) == (
        True,
        "[+]ping ok\n[+]lease ok\nreadyz check passed\n",
    )


def test_a_failure_is_always_listed_with_its_reason_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    checks = {"lease": lambda: None, "watch": lambda: "no list yet"}
    caplog.set_level(logging.DEBUG)
    assert report("readyz", checks, verbose=False) == (
        False,
        "[+]ping ok\n[+]lease ok\n[-]watch failed: no list yet\nreadyz check failed\n",
    )
    assert "readyz check watch failed: no list yet" in caplog.text


def test_a_check_that_raises_has_failed_without_telling_strangers_why(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> str | None:
        raise RuntimeError("inner detail")

    healthy, text = report("healthz", {"odd": broken}, verbose=False)
    assert not healthy
    assert "[-]odd failed: the check itself raised RuntimeError\n" in text
    assert "inner detail" not in text
    assert "inner detail" in caplog.text


def test_a_loop_that_stands_still_is_told_and_recovers() -> None:
    time = FakeTime()
    heartbeat = Heartbeat(clock=time, limit=30)
    time.advance(30)
    assert heartbeat.check() is None
    time.advance(5)
    assert heartbeat.check() == "the event loop has not turned for 35 s"
    heartbeat.beat()
    assert heartbeat.check() is None


async def test_a_heart_that_runs_beats_again_and_again() -> None:
    beats: asyncio.Queue[None] = asyncio.Queue()

    class Counted(Heartbeat):
        def beat(self) -> None:
            super().beat()
            beats.put_nowait(None)

    time = FakeTime()
    heartbeat = Counted(clock=time, interval=0.001, limit=30)
    time.advance(60)
    assert heartbeat.check() is not None
    running = asyncio.create_task(heartbeat.run())
    async with asyncio.timeout(5):
        for _ in range(3):
            await beats.get()
            assert heartbeat.check() is None
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


def test_a_run_beyond_all_deadlines_is_told() -> None:
    seconds = 100.0
    check = no_run_over(180, lambda: seconds)
    assert check() is None
    seconds = 200.0
    assert check() == "a reconcile has been going on for 200 s"
