"""The operator as a process of its own, as users run it."""

from __future__ import annotations

import os
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from signal import Signals
from typing import Self

from tests.controlplane.postgres_binaries import path_with_programs
from tests.controlplane.processes import Server

LENIENT = ("--mass-deletion-count=0", "--mass-deletion-share=1", "--no-hold-terminating")
"""Flags of an operator whose tests delete many tenants, and workspaces with them, without being asked back."""
START_SECONDS = 90.0
START_ATTEMPTS = 3
STOP_SECONDS = 30.0


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class OperatorProcess:
    """`tenantry operator` with its log in a file. It ends when this process does, and Ctrl-C does not reach it.

    Args:
        kubeconfig: Of the management cluster, as the operator's own identity.
        log: Appended to, so that restarts are all in one file.
        flags: More flags.
        allow_loopback: Targets and database servers may be on this machine.
        stop_seconds: What it gets for its graceful end.
        program: What of Python runs `tenantry`.
        elect: It works only while it holds the Lease, as by default. Without, a start after a SIGKILL need not wait for
            the end of a dead process's lease.
        remove: The folder to delete when this process dies without having stopped the operator.
    """

    def __init__(
        self,
        kubeconfig: Path,
        log: Path,
        flags: Sequence[str] = (),
        *,
        allow_loopback: bool = True,
        stop_seconds: float = STOP_SECONDS,
        program: Sequence[str] = ("-m", "tenantry"),
        elect: bool = False,
        remove: Path | None = None,
    ) -> None:
        self._kubeconfig = kubeconfig
        self._log = log
        own = ("--leader-elect" if elect else "--no-leader-elect", *(("--allow-loopback-targets",) * allow_loopback))
        self._flags = (*own, *flags)
        self._stop_seconds = stop_seconds
        self._program = tuple(program)
        self._remove = remove
        self._process: Server | None = None
        self.port = 0

    @property
    def kubeconfig(self) -> Path:
        """Of the management cluster."""
        return self._kubeconfig

    @property
    def pid(self) -> int:
        """Of the running process."""
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.running()

    @property
    def process(self) -> Server:
        """What runs.

        Raises:
            RuntimeError: nothing does.
        """
        if self._process is None:
            raise RuntimeError("the operator is not running")
        return self._process

    @property
    def log_text(self) -> str:
        """All it has logged so far."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def start(self, *, ready: bool = True) -> Self:
        """Start it and, unless told otherwise, wait until /readyz says so.

        Raises:
            RuntimeError: as `wait_ready`.
        """
        for _ in range(START_ATTEMPTS - 1):
            begun = len(self.log_text)
            self._launch()
            if not ready:
                return self
            try:
                self.wait_ready()
            except RuntimeError:
                # Somebody took the port in the moment between its choice and the start: another one.
                if self.running or "can't listen on" not in self.log_text[begun:]:
                    raise
                self.stop()
            else:
                return self
        self._launch()
        self.wait_ready()
        return self

    def _launch(self) -> None:
        self.port = free_port()
        address = f"127.0.0.1:{self.port}"
        command = [
            sys.executable, *self._program, "operator",
            "--kubeconfig", str(self._kubeconfig),
            "--metrics-address", address, "--health-address", address,
            *self._flags,
        ]  # fmt: skip
        self._process = Server(
            "the operator",
            command,
            log=self._log,
            remove=self._remove,
            on_orphan=Signals.SIGTERM,
            environment={**os.environ, "PYTHONUNBUFFERED": "1", "PATH": path_with_programs()},
        )

    def wait_ready(self, seconds: float = START_SECONDS) -> None:
        """Wait for /readyz.

        Raises:
            RuntimeError: it ended, or is not ready in time; with the end of its log.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not self.running:
                break
            if self.get("/readyz") is not None:
                return
            time.sleep(0.05)  # polling a process of its own: nothing tells us
        raise RuntimeError(f"the operator did not get ready:\n{self.log_text[-3000:]}")

    def get(self, path: str) -> str | None:
        """The body of one of its endpoints; None while it does not answer with 200."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
                return str(answer.read().decode())
        except (urllib.error.URLError, OSError):
            return None

    def kill(self) -> None:
        """SIGKILL: no chance to finish anything."""
        process, self._process = self._process, None
        if process is not None:
            process.stop(Signals.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, and wait for the graceful end.

        Raises:
            RuntimeError: it did not end in time and was killed.
        """
        process, self._process = self._process, None
        if process is None:
            return
        begun = time.monotonic()
        process.stop(Signals.SIGTERM, grace=self._stop_seconds)
        if time.monotonic() - begun >= self._stop_seconds:
            raise RuntimeError(f"the operator did not stop within {self._stop_seconds:g} s")

    def __enter__(self) -> Self:
        return self if self._process is not None else self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
