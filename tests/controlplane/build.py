"""Builds the multi-call binary of the test clusters from Kubernetes' Go modules, once, and caches it for the user."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TextIO

from tests.controlplane.toolchain import find_go

KUBERNETES_VERSION: Final = "v1.36.3"
SOURCE: Final = Path(__file__).with_name("kube")
SOURCE_FILES: Final = ("main.go", "go.mod", "go.sum")
BINARY: Final = "kube-all"
TERMINAL_SECONDS: Final = 1.0
LOG_SECONDS: Final = 15.0
FAILURE_LINES: Final = 20


class BuildError(RuntimeError):
    """The binary could not be built; the message says why and what to do."""


def build_flags(version: str = KUBERNETES_VERSION) -> tuple[str, ...]:
    """The flags of `go build`; without the version in them clients would see v0.0.0."""
    major, minor, _ = version.removeprefix("v").split(".")
    package = "k8s.io/component-base/version"
    values = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    settings = " ".join(f"-X {package}.{name}={value}" for name, value in values.items())
    return "-trimpath", "-ldflags", f"-s -w {settings}"


def cache_key(sources: Mapping[str, bytes], flags: tuple[str, ...], machine: str) -> str:
    """16 hex digits that change with every source file, flag and kind of machine."""
    digest = hashlib.sha256()
    for part in (machine, *flags):
        digest.update(part.encode() + b"\0")
    for name in sorted(sources):
        digest.update(name.encode() + b"\0" + hashlib.sha256(sources[name]).digest())
    return digest.hexdigest()[:16]


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """`tenantry/controlplane` in the user's cache folder."""
    base = environment.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "tenantry" / "controlplane"


def cached_binary() -> Path:
    """Where the binary of these sources is, or will be once it is built."""
    sources = {name: (SOURCE / name).read_bytes() for name in SOURCE_FILES}
    machine = f"{platform.system()}-{platform.machine()}"
    return cache_folder() / cache_key(sources, build_flags(), machine) / BINARY


@dataclass(slots=True)
class Progress:
    """What a running `go build -v` has said so far, fed line by line.

    Attributes:
        tail: The last lines that are neither a download nor a compiled package: what went wrong, if something did.
    """

    downloaded: int = 0
    compiled: int = 0
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=FAILURE_LINES))

    def feed(self, line: str) -> None:
        """Take in one line of standard error."""
        text = line.strip()
        if text.startswith("go: downloading "):
            self.downloaded += 1
        elif text and " " not in text:
            self.compiled += 1
        elif text:
            self.tail.append(text)

    def line(self, seconds: float) -> str:
        """The progress in one line."""
        return (
            f"building the test clusters' Kubernetes {KUBERNETES_VERSION} (once, about 6 min from nothing): "
            f"{seconds:.0f} s, {self.downloaded} modules downloaded, {self.compiled} packages compiled"
        )


class Ticker:
    """Shows the progress: in place every second on a terminal, elsewhere as a new line every 15 s."""

    def __init__(self, progress: Progress, stream: TextIO) -> None:
        self._progress = progress
        self._stream = stream
        self._terminal = stream.isatty()
        self._started = time.monotonic()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _show(self) -> None:
        line = self._progress.line(time.monotonic() - self._started)
        self._stream.write(f"\r\x1b[K{line}" if self._terminal else f"{line}\n")
        self._stream.flush()

    def _run(self) -> None:
        while not self._done.wait(TERMINAL_SECONDS if self._terminal else LOG_SECONDS):
            self._show()

    def __enter__(self) -> None:
        self._show()
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self._show()
        if self._terminal:
            self._stream.write("\n")


@contextmanager
def build_lock(folder: Path, stream: TextIO) -> Iterator[None]:
    """Only one build at a time; a second one waits here, and finds the first one's result."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "build.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.write("waiting for another build of the test clusters' binary\n")
            stream.flush()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment of `go build`: static, and neither another toolchain nor somebody's workspace gets in."""
    return {**environment, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off"}


def explain_failure(progress: Progress) -> str:
    """Why `go build` failed, in words for the user."""
    said = "\n".join(progress.tail)
    if "no space left on device" in said:
        return (
            "no space left to build the test clusters' binary: it takes about 4 GB in Go's module and build caches "
            f"(`go env GOMODCACHE GOCACHE`) and in the temporary folder.\n{said}"
        )
    return f"go build failed, its last lines were:\n{said}"


def compile_binary(go: Path, output: Path, stream: TextIO) -> None:
    """Run `go build`, with its progress on `stream`.

    Raises:
        BuildError: if it fails; with the last 20 lines.
    """
    progress = Progress()
    command = [str(go), "build", "-v", *build_flags(), "-o", str(output), "."]
    with (
        subprocess.Popen(command, cwd=SOURCE, env=build_environment(), stderr=subprocess.PIPE, text=True) as build,
        Ticker(progress, stream),
    ):
        assert build.stderr is not None
        try:
            for line in build.stderr:
                progress.feed(line)
        except BaseException:
            build.kill()  # Ctrl-C: don't wait for minutes of compiling that nobody wants any more
            raise
    if build.returncode:
        raise BuildError(explain_failure(progress))


def ensure_built(stream: TextIO | None = None) -> Path:
    """The multi-call binary, built if it is not in the cache yet.

    Args:
        stream: Where the progress goes; standard error if None.

    Raises:
        BuildError: if it can't be built.
        ToolchainError: if there is no Go and none can be installed.
    """
    stream = stream or sys.stderr
    binary = cached_binary()
    if binary.exists():
        return binary
    try:
        with build_lock(cache_folder(), stream):
            if binary.exists():
                return binary
            binary.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=binary.parent, prefix="building-") as folder:
                output = Path(folder) / BINARY
                compile_binary(find_go(cache_folder() / "toolchain"), output, stream)
                output.replace(binary)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        free = shutil.disk_usage(cache_folder().parent).free // 1_000_000
        raise BuildError(f"no space left in {cache_folder()} ({free} MB free)") from error
    return binary
