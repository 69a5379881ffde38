"""The small program between a test run and one server: ends the server when the run dies, however it dies.

Run as a script, with nothing but the standard library:

    python guard.py --on-orphan 9 [--remove DIR] [--user NAME] -- COMMAND...

It writes the server's process id as its first line, then takes signal numbers, one a line, for the server. The end of
its input means that the owner is gone: the server gets the orphan signal, after some seconds SIGKILL, and the folder
is removed. A pipe is used, not PR_SET_PDEATHSIG alone, since that fires when the *thread* that started a child ends.

What a server leaves behind becomes the guard's own, and is buried before the guard ends: init does that late on some
machines and never in some containers, and until then PostgreSQL takes a dead process for a living one.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

ORPHAN_GRACE = 5.0
BURIAL_SECONDS = 5.0
BURIAL_STEP = 0.01
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def die_with_parent(number: int) -> Callable[[], None]:
    """What the server runs between fork and exec, so that it does not outlive even a guard that was killed (Linux)."""
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def arm() -> None:
        if prctl is not None:
            prctl(PR_SET_PDEATHSIG, number)

    return arm


def adopt_orphans() -> None:
    """From now on whatever a child of this process leaves behind becomes its child (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def bury() -> None:
    """Take note of all that ended, or ends within some seconds, so that nothing but what lives has a process id."""
    deadline = time.monotonic() + BURIAL_SECONDS
    with contextlib.suppress(ChildProcessError):  # nobody is left
        while time.monotonic() < deadline:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(BURIAL_STEP)  # polls the kernel; the deadline bounds it


def identity(user: str) -> tuple[str | None, str | int | None, list[str] | None]:
    """`user`, `group` and `extra_groups` of Popen; all None for the user that runs this."""
    if not user:
        return None, None, None
    import pwd  # noqa: PLC0415 - only where a user is switched to

    return user, pwd.getpwnam(user).pw_gid, []


def end_orphan(server: subprocess.Popen[bytes], number: int, folder: str) -> None:
    """The owner is gone: end the server and remove what it wrote."""
    server.send_signal(signal.SIGCONT)
    server.send_signal(number)
    try:
        server.wait(ORPHAN_GRACE)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    bury()
    if folder:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Run one server; the exit code is its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--on-orphan", type=int, required=True)
    parser.add_argument("--remove", default="")
    parser.add_argument("--user", default="")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    user, group, groups = identity(options.user)
    adopt_orphans()
    server = subprocess.Popen(
        options.command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        start_new_session=True,
        user=user,
        group=group,
        extra_groups=groups,
        preexec_fn=die_with_parent(options.on_orphan),  # noqa: PLW1509 - one thread until here, so none holds a lock
    )
    owner_gone = threading.Event()

    def leave_with_the_server() -> None:
        code = server.wait()
        if not owner_gone.is_set():
            bury()
            os._exit(code if code >= 0 else 128 - code)

    threading.Thread(target=leave_with_the_server, daemon=True).start()
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(f"{server.pid}\n")
        sys.stdout.flush()
    for line in sys.stdin:
        server.send_signal(int(line))
    owner_gone.set()
    end_orphan(server, options.on_orphan, options.remove)


if __name__ == "__main__":
    main()
