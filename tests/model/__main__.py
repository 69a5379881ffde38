"""`python -m tests.model --examples 20`: random lives until one of them ends as it must not."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from tests.controlplane.binaries import Binaries
from tests.controlplane.build import BuildError
from tests.controlplane.processes import ServerError
from tests.controlplane.toolchain import ToolchainError
from tests.model.ground import open_ground
from tests.model.life import life_on


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--examples", type=click.IntRange(1), default=20, show_default=True, help="So many lives.")
@click.option("--steps", type=click.IntRange(1), default=25, show_default=True, help="Of one life, at most.")
def main(examples: int, steps: int) -> None:
    """Random lives of tenants on real servers; each run draws others."""
    Binaries.find()
    with tempfile.TemporaryDirectory(prefix="tenantry-model-") as folder, open_ground(Path(folder)) as ground:
        run_state_machine_as_test(
            life_on(ground),
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
    click.echo(f"{examples} lives of at most {steps} steps: all ended as they must")


if __name__ == "__main__":
    try:
        main()
    except (BuildError, ServerError, ToolchainError) as error:
        sys.exit(f"tests.model: {error}")
