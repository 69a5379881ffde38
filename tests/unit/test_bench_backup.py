"""The arithmetic of the benchmark of backups: ratios, promises, the keys of its last line."""

from __future__ import annotations

import pytest
from tests.bench.backup_figures import (
    PROMISES,
    Backed,
    BackupOutcome,
    Restored,
    Scheduled,
    broken,
    figures,
    ratio,
    rows_for,
    table,
)

LAST_LINE = ("backup_ratio", "restore_ratio", "peak_rss_mb_200", "peak_rss_mb_2000", "cutover_s")


def outcome(*, written: float = 32.0, restored: float = 44.0, peak: float = 120.0) -> BackupOutcome:
    return BackupOutcome(
        raw_dumps=[30.0, 31.0, 90.0],
        backups=[Backed(written, written + 10), Backed(written - 1, written + 9), Backed(written + 1, written + 30)],
        raw_restores=[40.0, 41.0, 39.0],
        restores=[Restored(restored, 0.2), Restored(restored, 0.4)],
        peaks={2000: peak, 200: 110.0},
        size_mb=2011.5,
        stored_mb=800.0,
        scheduled=Scheduled(1000, 12.0, 0.012),
    )


def test_a_ratio_is_that_of_the_medians_so_that_one_slow_round_makes_none() -> None:
    assert ratio([30.0, 31.0, 90.0], [31.0, 62.0, 15.5]) == pytest.approx(1.0)
    assert ratio([], [1.0]) is None
    assert ratio([1.0], []) is None


def test_the_last_line_has_what_was_asked_for() -> None:
    found = figures(outcome())
    assert set(LAST_LINE) <= found.keys()
    assert found["backup_ratio"] == pytest.approx(31 / 32, abs=0.001)
    assert found["backup_ratio_verified"] == pytest.approx(31 / 42, abs=0.001)
    assert found["restore_ratio"] == pytest.approx(44 / 40, abs=0.001)
    assert found["cutover_s"] == 0.4
    assert found["schedules_idle_cpu_percent"] == 1.2
    assert set(PROMISES) <= found.keys()


def test_what_was_not_measured_is_said_to_be_unknown_and_is_no_broken_promise() -> None:
    found = figures(BackupOutcome())
    assert found["backup_ratio"] is None
    assert found["cutover_s"] is None
    assert broken(found) == []


def test_a_promise_that_is_not_kept_is_told() -> None:
    kept = outcome()
    assert broken(figures(kept)) == []
    assert "NOT AS PROMISED" not in table(kept)
    missed = outcome(written=40.0, restored=60.0, peak=161.0)
    told = broken(figures(missed))
    assert [line.partition(" ")[0] for line in told] == ["backup_ratio", "restore_ratio", "peak_rss_mb_2000"]
    assert table(missed).count("NOT AS PROMISED") == 3


def test_rows_grow_with_the_size() -> None:
    assert rows_for(2000) == 10 * rows_for(200) > 0
