"""`python -m tests.demo`: shows Tenantry at work until Ctrl-C; with `--check` asserts all of it and ends."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import click
import psycopg
from tests.demo.checking import check, nothing_left, pids_of, show_verdicts
from tests.demo.interruptions import Interrupted, Interruptions
from tests.demo.screen import Screen
from tests.demo.show import (
    apply_platform,
    apply_tenants,
    lines_to_copy,
    log_tail,
    show_lines,
    show_what_was_made,
    wait_for_the_end,
)
from tests.demo.stage import Stage, raise_stage
from tests.demo.verdicts import Verdict

KNOWN_TROUBLE = (OSError, RuntimeError, psycopg.Error, subprocess.SubprocessError)
"""What has a message that says enough: of builds, servers, kubectl, the demo itself. Anything else is a mistake of ours
and comes with its traceback."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--check", "checking", is_flag=True, help="Assert everything, delete a tenant, and end with 0 or 1.")
def demo(*, checking: bool) -> None:
    """Two control planes, PostgreSQL, the operator and examples/quickstart/, until Ctrl-C."""
    screen = Screen()
    with Interruptions() as interruptions:
        try:
            code = run(screen, interruptions, checking=checking)
        except Interrupted as end:
            screen.say(f"stopped by {end} after {screen.seconds:.0f} s; everything is stopped, nothing is left")
            code = 128 + end.number
        except KNOWN_TROUBLE as error:
            screen.say(f"demo: {error}", "red")
            code = 1
    sys.exit(code)


def run(screen: Screen, interruptions: Interruptions, *, checking: bool) -> int:
    """All of it; whatever happens, the servers are stopped in the end.

    Returns:
        The exit code.
    """
    verdicts: list[Verdict] = []
    pids: list[int] = []
    paths: list[Path] = []
    with ExitStack() as stack:
        try:
            stage = raise_stage(screen, stack)
            pids, paths = pids_of(stage), [stage.folder, stage.management.folder, stage.target.folder]
            verdicts = perform(screen, stage, checking=checking)
            if not checking:
                wait_until_interrupted(screen, stage)
        finally:
            interruptions.shield()
    if not checking:
        screen.say("everything is stopped, nothing is left")
        return 0
    verdicts.append(nothing_left(pids, paths))
    show_verdicts(screen, verdicts)
    failed = sum(not one.passed for one in verdicts)
    screen.say(
        f"{len(verdicts) - failed} passed, {failed} failed in {screen.seconds:.0f} s", "red" if failed else "green"
    )
    return 1 if failed else 0


def perform(screen: Screen, stage: Stage, *, checking: bool) -> list[Verdict]:
    """The quick start, what came of it, and how to look at it; with `checking` also whether it is right."""
    screen.title("The platform team")
    apply_platform(screen, stage)
    screen.title("The admins of the workspaces")
    board = apply_tenants(screen, stage)
    found, proofs = show_what_was_made(screen, stage, board)
    copied = lines_to_copy(stage, found)
    show_lines(screen, copied)
    if not checking:
        return []
    screen.title("Check")
    verdicts = check(screen, stage, found, proofs, copied)
    if not all(one.passed for one in verdicts):
        screen.say(log_tail(stage))
    return verdicts


def wait_until_interrupted(screen: Screen, stage: Stage) -> None:
    """Leave everything running; Ctrl-C is how it is meant to end."""
    screen.console.print()
    screen.say(
        f"All of it is running ({screen.seconds:.0f} s from the start). Ctrl-C stops it and leaves nothing behind."
    )
    try:
        wait_for_the_end(stage)
    except Interrupted as end:
        screen.say(f"\n{end}: stopping")


if __name__ == "__main__":
    demo()
