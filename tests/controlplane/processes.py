"""Server processes of a test run: started under a guard, ended by pid with a deadline, gone when the run is gone."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from signal import Signals
from typing import Self

import psutil

GUARD = Path(__file__).with_name("guard.py")
LOOPBACK = "127.0.0.1"
POLL_SECONDS = 0.05
LOG_TAIL_LINES = 20
PAUSE_SECONDS = 30.0


class ServerError(RuntimeError):
    """A server of the test clusters did not start, answer or end; the message carries the end of its log."""


class PortTakenError(ServerError):
    """Somebody took a server's port in the moment between its choice and the start: try again with another."""


class Deadline:
    """A point in time that waiting must not pass."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds that remain, never below 0."""
        return max(0.0, self._end - time.monotonic())

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Poll until the condition holds.

        Raises:
            ServerError: at the deadline; `what` says in the message what was waited for.
        """
        while not condition():
            if not self.left:
                raise ServerError(f"{what}: still not after {self.seconds:g} s")
            time.sleep(POLL_SECONDS)  # a process is polled: nothing tells us


class HeldPort:
    """A loopback port from the kernel, kept by a bound socket that does not listen.

    Nobody else can have it, and clients are refused. `release()` it right before its server starts. Holding it while
    a server is down matters: a client that keeps dialling a free port of the ephemeral range will at some time
    connect to itself.
    """

    def __init__(self, number: int = 0) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((LOOPBACK, number))
        except OSError:
            self._socket.close()
            raise
        self.number: int = self._socket.getsockname()[1]

    def release(self) -> None:
        """Let the port go. Harmless when repeated."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class DataFolder:
    """A private temporary folder for the data of one cluster or server."""

    def __init__(self, name: str) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=f"tenantry-{name}-"))

    def remove(self) -> None:
        """Delete it with all that is in it. Harmless when repeated."""
        shutil.rmtree(self.path, ignore_errors=True)


class Server:
    """One running server process.

    Attributes:
        name: For messages.
        pid: Of the server itself, not of its guard.
        log: The file with its output.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        log: Path,
        remove: Path | None = None,
        user: str = "",
        on_orphan: Signals = Signals.SIGKILL,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start it.

        Args:
            name: For messages.
            command: Program and arguments.
            log: Takes its output; appended to.
            remove: The folder to delete when this process dies without having stopped the server.
            user: The user to run it as, where this process is root; empty: the same.
            on_orphan: What ends it in that case.
            environment: Its whole environment; None: this process's.

        Raises:
            ServerError: if the program can't be run at all.
        """
        self.name = name
        self.log = log
        guard = [sys.executable, "-I", "-S", str(GUARD), "--on-orphan", str(int(on_orphan))]
        guard += ["--remove", str(remove)] if remove else []
        guard += ["--user", user] if user else []
        with log.open("ab") as output:
            self._guard = subprocess.Popen(
                [*guard, "--", *map(str, command)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for the owner, which then stops its servers in order
                env=environment,
                text=True,
            )
        assert self._guard.stdin is not None
        assert self._guard.stdout is not None
        self._orders = self._guard.stdin
        with self._guard.stdout as first_line:
            pid = first_line.readline().strip()
        if not pid:
            self._end_guard()
            raise ServerError(f"{name} can't be run: {self.log_tail()}")
        self.pid = int(pid)

    def running(self) -> bool:
        """Whether the process is there (paused or not)."""
        return self._guard.poll() is None

    @property
    def exit_code(self) -> int | None:
        """How it ended, 128 and the signal's number where that was one; None while it is there."""
        return self._guard.poll()

    def log_tail(self, lines: int = LOG_TAIL_LINES) -> str:
        """The last lines that it wrote."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def send(self, number: Signals) -> None:
        """Have a signal sent, without waiting for that; nothing happens if it has ended."""
        with contextlib.suppress(OSError, ValueError):  # it has ended, and its input may be closed
            self._orders.write(f"{int(number)}\n")
            self._orders.flush()

    def pause(self) -> None:
        """Stop it in its tracks (SIGSTOP), and return when it stands still."""
        self.send(Signals.SIGSTOP)
        Deadline(PAUSE_SECONDS).wait_until(self._stands_still, f"{self.name}: not stopped")

    def resume(self) -> None:
        """The end of `pause`."""
        self.send(Signals.SIGCONT)
        Deadline(PAUSE_SECONDS).wait_until(lambda: not self._stands_still(), f"{self.name}: not resumed")

    def stop(self, number: Signals = Signals.SIGTERM, *, grace: float = 5.0) -> None:
        """End it: a signal, SIGKILL after `grace` seconds, and wait until it is gone. Harmless when repeated.

        Raises:
            ServerError: if it outlives SIGKILL by 10 s.
        """
        self.send(Signals.SIGCONT)
        self.send(number)
        try:
            self._guard.wait(grace)
        except subprocess.TimeoutExpired:
            self.send(Signals.SIGKILL)
            try:
                self._guard.wait(10)
            except subprocess.TimeoutExpired:
                raise ServerError(f"{self.name} (pid {self.pid}) outlives SIGKILL") from None
        self._end_guard()

    def wait_until(self, condition: Callable[[], bool], deadline: Deadline, what: str) -> None:
        """Poll until the condition holds.

        Raises:
            ServerError: at the deadline, or as soon as the process has ended; PortTakenError where that is why.
        """

        def holds() -> bool:
            if not self.running():
                raise self._early_end()
            return condition()

        deadline.wait_until(holds, f"{self.name}: {what} (log: {self.log})")

    def _stands_still(self) -> bool:
        return psutil.Process(self.pid).status() == psutil.STATUS_STOPPED

    def _early_end(self) -> ServerError:
        self._end_guard()
        tail = self.log_tail()
        kind = PortTakenError if "address already in use" in tail.lower() else ServerError
        return kind(f"{self.name} ended with exit code {self._guard.returncode}:\n{tail}")

    def _end_guard(self) -> None:
        with contextlib.suppress(OSError):
            self._orders.close()
        self._guard.wait(10)
