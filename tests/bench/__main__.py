"""`python -m tests.bench`: the operator against the raw floor; a table, and as the last line one JSON object."""

from __future__ import annotations

import json
import sys

import click
from tests.bench.report import figures, table
from tests.bench.run import Options, prepared
from tests.controlplane.build import BuildError
from tests.controlplane.processes import ServerError
from tests.controlplane.toolchain import ToolchainError


@click.command()
@click.option("--tenants", default=300, show_default=True, help="Without databases, the single ones among them.")
@click.option("--batch", default=100, show_default=True, help="The operator and the floor take turns with so many.")
@click.option("--database-tenants", default=60, show_default=True, help="With databases; 0 leaves that part out.")
@click.option("--database-batch", default=30, show_default=True, help="As --batch.")
@click.option("--singles", default=15, show_default=True, help="Made one at a time on an idle system.")
@click.option("--rest-seconds", default=60.0, show_default=True, help="How long the steady state is watched.")
def main(**counts: float) -> None:
    """Make tenants by the operator, replay its own writes by a bare client, and print the ratios.

    Progress is on standard error.
    """
    options = Options(**counts)  # type: ignore[arg-type]  # click has checked the types
    with prepared(options) as bench:
        outcome = bench.run()
    click.echo(table(outcome))
    click.echo(json.dumps(figures(outcome)))


if __name__ == "__main__":
    try:
        main()
    except (BuildError, ServerError, ToolchainError) as error:
        sys.exit(f"tests.bench: {error}")
