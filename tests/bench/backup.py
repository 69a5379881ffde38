"""`python -m tests.bench.backup`: backups and restores against the raw programs; as the last line one JSON object."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
from tests.bench.backup_figures import BackupOutcome, figures, table
from tests.bench.backup_raw import Raw
from tests.bench.backup_scene import BackupScene, open_backup_scene
from tests.bench.backup_schedules import measure_schedules
from tests.bench.run import say
from tests.controlplane.build import BuildError
from tests.controlplane.object_stores import MINISTACK, RCLONE
from tests.controlplane.processes import ServerError
from tests.controlplane.toolchain import ToolchainError

ROOM: Final = 5
"""Databases of the large size that there must be room for: the one, the restored one, a raw one, logs, archives."""


@dataclass(frozen=True, slots=True)
class Options:
    """How much is to be done; sizes in MB."""

    size: int
    small: int
    rounds: int
    store: str
    schedules: int


class BackupBench:
    """One run: a small database, a large one whose rounds take turns with the raw programs."""

    def __init__(self, scene: BackupScene, options: Options, folder: Path) -> None:
        self._scene = scene
        self._options = options
        self._archive = folder / "raw.dump"
        self._raw = Raw(scene.postgres)
        self.outcome = BackupOutcome()

    def run(self) -> BackupOutcome:
        """All phases, but the schedules."""
        self._small()
        self._large()
        return self.outcome

    def _small(self) -> None:
        scene, size = self._scene, self._options.small
        scene.start()
        actual = scene.make_tenant("small", size)
        scene.back_up("small-1", "small")
        scene.restore("small-1", "small-1", "small")
        self.outcome.peaks[size] = scene.stop()
        say(f"{actual:.0f} MB: peak memory of the operator {self.outcome.peaks[size]:.0f} MiB")

    def _large(self) -> None:
        scene, outcome, size = self._scene, self.outcome, self._options.size
        scene.start()
        outcome.size_mb = scene.make_tenant("large", size)
        say(f"{outcome.size_mb:.0f} MB are made")
        for number in range(1, self._options.rounds + 1):
            self._dump_round(number)
        outcome.stored_mb = scene.size_of("large-1")
        self._raw.save(scene.database("large"), self._archive)
        for number in range(1, self._options.rounds + 1):
            self._restore_round(number)
        outcome.peaks[size] = scene.stop()
        say(f"{outcome.size_mb:.0f} MB: peak memory of the operator {outcome.peaks[size]:.0f} MiB")

    def _dump_round(self, number: int) -> None:
        self._raw.rest()
        raw = self._raw.dump(self._scene.database("large"))
        made = self._scene.back_up(f"large-{number}", "large")
        self.outcome.raw_dumps.append(raw)
        self.outcome.backups.append(made)
        say(
            f"pg_dump | cat: {raw:.1f} s; TenantBackup: written in {made.written:.1f} s, verified in {made.whole:.1f} s"
        )

    def _restore_round(self, number: int) -> None:
        self._raw.rest()
        raw = self._raw.restore(self._archive)
        self._raw.rest()
        made = self._scene.restore(f"large-{number}", "large-1", "large")
        self.outcome.raw_restores.append(raw)
        self.outcome.restores.append(made)
        say(f"cat | pg_restore: {raw:.1f} s; TenantRestore: {made.whole:.1f} s, cut-over {made.cutover:.2f} s")


def check_room(options: Options) -> None:
    """That the disk has room for it.

    Raises:
        click.UsageError: it has not.
    """
    free = shutil.disk_usage(tempfile.gettempdir()).free / 1e6
    if free < ROOM * options.size:
        raise click.UsageError(f"{ROOM * options.size} MB are needed in {tempfile.gettempdir()}, {free:.0f} are free")


@click.command()
@click.option("--size", default=2000, show_default=True, help="MB of the large database.")
@click.option("--small", default=200, show_default=True, help="MB of the small one, for the memory that it takes.")
@click.option("--rounds", default=3, show_default=True, help="In which the raw programs and the operator take turns.")
@click.option(
    "--store", type=click.Choice([RCLONE, MINISTACK, "folder"]), default=RCLONE, show_default=True, help="Kept there."
)
@click.option("--schedules", default=1000, show_default=True, help="That are due at once; 0 leaves that part out.")
def main(**options: int | str) -> None:
    """Measure; the last line is one JSON object. Progress is on standard error."""
    chosen = Options(**options)  # type: ignore[arg-type]  # click has checked the types
    check_room(chosen)
    say("starting a management and a target control plane, PostgreSQL and a store")
    with open_backup_scene(chosen.store) as scene, tempfile.TemporaryDirectory(prefix="tenantry-bench-") as folder:
        outcome = BackupBench(scene, chosen, Path(folder)).run()
    if chosen.schedules:
        outcome.scheduled = measure_schedules(chosen.schedules)
        say(f"{chosen.schedules} missed slots: all noticed within {outcome.scheduled.noticed:.1f} s")
    click.echo(table(outcome))
    click.echo(json.dumps(figures(outcome)))


if __name__ == "__main__":
    try:
        main()
    except (BuildError, ServerError, ToolchainError, RuntimeError) as error:
        sys.exit(f"tests.bench.backup: {error}")
