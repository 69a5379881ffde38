"""The demo from the first step to the last: everything that happens between the start and the end of the servers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from tests.controlplane.access import KubectlError
from tests.demo.board import Board
from tests.demo.findings import Findings, gather
from tests.demo.looking import Line, lines, setup_line
from tests.demo.proofs import Proofs, prove
from tests.demo.quickstart import (
    EXPECTED,
    PLATFORM,
    PLATFORM_OBJECTS,
    TENANTS,
    WORKSPACES,
    TenantName,
    platform_manifest,
)
from tests.demo.screen import Screen
from tests.demo.stage import Stage
from tests.demo.tree import tenant_tree
from tests.demo.watching import TenantWatch

PLATFORM_SECONDS: Final = 60
TENANT_SECONDS: Final = 120.0
APPLY: Final = ("apply", "--server-side", "-f")
APPLY_OVER: Final = ("apply", "--server-side", "--force-conflicts", "-f")
"""Over what `tenantry cluster join` has said of the Cluster."""
TICK: Final = 0.1
LOG_LINES: Final = 20


class DemoError(RuntimeError):
    """The demo did not get where it should; the message says what and why."""


def apply_platform(screen: Screen, stage: Stage) -> None:
    """What the platform team applies: workspaces, and then cluster, database server and plans.

    Raises:
        DemoError: they do not get Ready.
    """
    port = stage.postgres.port
    screen.say(f"examples/quickstart/ says that PostgreSQL listens on port 5432; here it does on {port}. So, like you:")
    screen.say(f"  kubectl {' '.join(APPLY)} examples/quickstart/{WORKSPACES.name}")
    sed = f"sed 's/port: 5432/port: {port}/' examples/quickstart/{PLATFORM.name}"
    screen.say(f"  {sed} | kubectl {' '.join(APPLY_OVER)} -")
    stage.management.kubectl(*APPLY, str(WORKSPACES))
    stage.management.kubectl(*APPLY_OVER, "-", input=platform_manifest(PLATFORM.read_text(), port))
    with screen.step("Cluster eu-1, DatabaseServer shared-fra, plans basic and pro are Ready"):
        try:
            stage.management.kubectl(
                *("wait", "--for=condition=Ready", f"--timeout={PLATFORM_SECONDS}s", *PLATFORM_OBJECTS),
                timeout=len(PLATFORM_OBJECTS) * PLATFORM_SECONDS,
            )
        except KubectlError as error:
            kinds = "clusters,databaseservers,tenantplans"
            state = stage.management.kubectl("get", kinds, "-o", "wide")
            raise DemoError(f"the platform is not Ready: {error.stderr.strip()}\n{state}{log_tail(stage)}") from error


def apply_tenants(screen: Screen, stage: Stage) -> Board:
    """What the workspace admins apply, and what becomes of it, live.

    Raises:
        DemoError: a tenant does not get Ready in time.
    """
    board = Board(EXPECTED)
    screen.say(f"  kubectl {' '.join(APPLY)} examples/quickstart/{TENANTS.name}")
    with TenantWatch(stage.management) as watch:
        begun = time.monotonic()
        stage.management.kubectl(*APPLY, str(TENANTS))
        kubectl_seconds = time.monotonic() - begun
        (_follow_live if screen.live else _follow_plainly)(screen, board, watch, begun + TENANT_SECONDS)
    if not board.complete:
        said = "\n".join(board.missing())
        raise DemoError(f"not Ready within {TENANT_SECONDS:g} s:\n{said}{log_tail(stage)}")
    slowest = max(row.seconds(time.monotonic()) for row in board.rows.values())
    screen.say(
        f"seconds count from when the API server has a Tenant to its Ready: {slowest:.1f} at most"
        f" (kubectl apply itself took {kubectl_seconds:.1f})"
    )
    return board


def show_what_was_made(
    screen: Screen, stage: Stage, board: Board
) -> tuple[dict[TenantName, Findings], dict[TenantName, Proofs]]:
    """Look at both clusters and the database server, try the tenants' logins, and show all that."""
    with screen.step("both clusters and the database server read, the tenants' logins tried"):
        found = gather(stage)
        proofs = prove(found)
    screen.title("What was made")
    for name, one in found.items():
        row = board.rows.get(name)
        screen.show(tenant_tree(one, row.seconds(time.monotonic()) if row else 0.0, proofs.get(name), screen.marks))
    return found, proofs


def lines_to_copy(stage: Stage, found: Mapping[TenantName, Findings]) -> list[Line]:
    """The lines for looking around."""
    return lines(setup_line(stage.bin, stage.kubeconfig), found, stage.log)


def show_lines(screen: Screen, copied: list[Line]) -> None:
    """Each under what it is about, so that it can be taken as a whole."""
    screen.title("Look around: lines to copy into another terminal")
    for line in copied:
        screen.say(f"# {line.about}", "dim")
        screen.say(line.command)


def wait_for_the_end(stage: Stage) -> None:
    """Until a signal raises `Interrupted`.

    Raises:
        DemoError: the operator ended by itself.
    """
    while stage.operator.running:
        time.sleep(1.0)  # nothing tells of the end of a process; a signal ends the sleep at once
    raise DemoError(f"the operator has ended by itself{log_tail(stage)}")


def log_tail(stage: Stage) -> str:
    """The last lines of the operator's log, for messages."""
    tail = stage.operator.log_text.splitlines()[-LOG_LINES:]
    return "\n".join(["\nthe operator's log ends with:", *tail]) if tail else "\nthe operator's log is empty"


def _follow_live(screen: Screen, board: Board, watch: TenantWatch, deadline: float) -> None:
    with screen.picture(board.render(time.monotonic(), screen.console.width, screen.marks)) as live:
        while not board.complete and time.monotonic() < deadline:
            event = watch.next(TICK)
            if event is not None:
                board.observe(event, time.monotonic())
            live.update(board.render(time.monotonic(), screen.console.width, screen.marks))


def _follow_plainly(screen: Screen, board: Board, watch: TenantWatch, deadline: float) -> None:
    while not board.complete and time.monotonic() < deadline:
        event = watch.next(TICK)
        for line in board.observe(event, time.monotonic()) if event is not None else ():
            screen.say(f"  {line}")
    screen.show(board.render(time.monotonic(), screen.console.width, screen.marks))
