"""`python -m tests.crash`: SIGKILL before and after every single write; as the last line one JSON object."""

from __future__ import annotations

import json
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import click
from tests.controlplane.binaries import Binaries
from tests.controlplane.build import BuildError
from tests.controlplane.processes import ServerError
from tests.controlplane.toolchain import ToolchainError
from tests.crash.campaign import Campaign
from tests.crash.departures import OPERATIONS
from tests.crash.lane import open_lane
from tests.crash.report import figures, passed


def _chosen(_context: click.Context, _option: click.Parameter, value: str) -> list[str]:
    names = [name.strip() for name in value.split(",")] if value else list(OPERATIONS)
    if unknown := set(names) - OPERATIONS.keys():
        raise click.BadParameter(f"{', '.join(sorted(unknown))}: choose from {', '.join(OPERATIONS)}")
    return names


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--operations", callback=_chosen, default="", help=f"[default: {','.join(OPERATIONS)}]")
@click.option("--sample", type=click.IntRange(1), default=1, show_default=True, help="Every so-and-so-manieth write.")
@click.option("--lanes", type=click.IntRange(1, 8), default=1, show_default=True, help="Sets of servers side by side.")
@click.option("--logs", type=click.Path(path_type=Path), help="Keep the operator's logs in this folder.")
def main(operations: list[str], sample: int, lanes: int, logs: Path | None) -> None:
    """Break off what people do to a tenant at each write, and see that it comes to the same end.

    Progress is on standard error. Ends with 1 unless all runs converged and nothing was left over.
    """
    Binaries.find()
    with ExitStack() as stack:
        root = logs or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tenantry-crash-")))
        folders = [root / f"lane-{number}" for number in range(lanes)]
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        say(f"starting {lanes} set(s) of servers")
        with ThreadPoolExecutor(lanes) as pool:
            opened = list(pool.map(lambda folder: stack.enter_context(open_lane(folder)), folders))
        campaign = Campaign(opened, every=sample, say=say)
        found = {name: campaign.run(OPERATIONS[name]) for name in operations}
    click.echo(json.dumps(figures(found)))
    sys.exit(0 if passed(found.values()) else 1)


def say(line: str) -> None:
    """A line of progress."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - a command line's progress


if __name__ == "__main__":
    try:
        main()
    except (BuildError, ServerError, ToolchainError) as error:
        sys.exit(f"tests.crash: {error}")
