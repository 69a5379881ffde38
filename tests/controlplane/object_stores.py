"""S3 servers for tests: rclone's, which checks every signature, and MiniStack's, which has S3's semantics."""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from tests.controlplane.build import cache_folder
from tests.controlplane.processes import LOOPBACK, DataFolder, Deadline, HeldPort, Server, ServerError
from tests.controlplane.toolchain import installer

REQUIREMENTS: Final = Path(__file__).resolve().parents[2] / "requirements" / "stores.txt"
START_SECONDS: Final = 60.0
BUCKET: Final = "backups"
RCLONE: Final = "rclone"
MINISTACK: Final = "ministack"


@dataclass(frozen=True, slots=True)
class StoreAccess:
    """A running S3 server with one bucket.

    Attributes:
        folder: Where its objects are, if they are files; else None.
    """

    endpoint: str
    bucket: str
    access_key: str
    secret_key: str
    folder: Path | None = None

    @property
    def credentials(self) -> dict[str, str]:
        """As in the Secret of a BackupStore."""
        return {"accessKeyId": self.access_key, "secretAccessKey": self.secret_key}


def installed() -> Path:
    """The folder with the pinned wheels, installed into the user's cache folder if they are not there.

    Raises:
        ServerError: if the installation fails; with what the installer said.
    """
    key = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:16]
    home = cache_folder().parent / "stores" / key
    if home.exists():
        return home
    home.parent.mkdir(parents=True, exist_ok=True)
    with (home.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if home.exists():
            return home
        with tempfile.TemporaryDirectory(dir=home.parent, prefix="installing-") as folder:
            target = Path(folder) / "wheels"
            command = [*installer(), "--require-hashes", "--target", str(target), "-r", str(REQUIREMENTS)]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
            if done.returncode:
                raise ServerError(f"installing the S3 servers failed:\n{done.stderr.strip()[-2000:]}")
            target.replace(home)
    return home


class StoreServer:
    """One S3 server that this process owns."""

    def __init__(self, kind: str) -> None:
        """Nothing is started yet; `kind` is RCLONE or MINISTACK."""
        self._kind = kind
        self._folder: DataFolder | None = None
        self._server: Server | None = None
        self._port: HeldPort | None = None
        self._access: StoreAccess | None = None

    @property
    def access(self) -> StoreAccess:
        """Raises ServerError before the start and after the stop."""
        if self._access is None:
            raise ServerError(f"{self._kind} is not running")
        return self._access

    def start(self) -> Self:
        """Start it, with an empty bucket.

        Raises:
            ServerError: it did not start.
        """
        folder = self._folder = DataFolder(self._kind)
        port = HeldPort()
        data = folder.path / "data"
        (data / BUCKET).mkdir(parents=True)
        self._access = StoreAccess(
            endpoint=f"http://{LOOPBACK}:{port.number}",
            bucket=BUCKET,
            access_key=f"AK{secrets.token_hex(8).upper()}",
            secret_key=secrets.token_urlsafe(30),
            folder=data / BUCKET if self._kind == RCLONE else None,
        )
        port.release()
        self._launch()
        return self

    def stop(self) -> None:
        """End it, and remove its data. Harmless when repeated."""
        if self._server is not None:
            self._server.stop()
        if self._port is not None:
            self._port.release()
        if self._folder is not None:
            self._folder.remove()
        self._server = self._folder = self._port = None

    def pause(self) -> None:
        """Let it hang."""
        assert self._server is not None
        self._server.pause()

    def resume(self) -> None:
        """The end of `pause`."""
        assert self._server is not None
        self._server.resume()

    def stop_server(self) -> None:
        """Refuse connections. Its port stays, and rclone's data."""
        assert self._server is not None
        self._server.stop()
        self._port = HeldPort(self._number)

    def start_server(self) -> None:
        """The end of `stop_server`."""
        assert self._port is not None
        self._port.release()
        self._port = None
        self._launch()

    def open_uploads(self) -> int:
        """How many multipart uploads were begun and neither completed nor aborted; of MiniStack only.

        rclone keeps them in memory and has no way to list them.
        """
        answer = self._ask(f"/{BUCKET}?uploads")
        return answer.count(b"<UploadId>")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _number(self) -> int:
        return int(self.access.endpoint.rpartition(":")[2])

    def _launch(self) -> None:
        assert self._folder is not None
        home, access = installed(), self.access
        environment: Mapping[str, str]
        if self._kind == RCLONE:
            command = [str(home / "bin" / "rclone"), "serve", "s3", str(self._folder.path / "data")]
            command += ["--addr", f"{LOOPBACK}:{self._number}"]
            environment = {
                "RCLONE_AUTH_KEY": f'"{access.access_key},{access.secret_key}"',
                "HOME": str(self._folder.path),
            }
        else:
            command = [sys.executable, "-m", "ministack"]
            environment = {"BIND_HOST": LOOPBACK, "GATEWAY_PORT": str(self._number), "PYTHONPATH": str(home)}
        environment = {"PATH": os.environ.get("PATH", ""), **environment}
        self._server = Server(
            self._kind, command, log=self._folder.path / "log", remove=self._folder.path, environment=environment
        )
        self._server.wait_until(self._answers, Deadline(START_SECONDS), "does not answer")
        if self._kind == MINISTACK:
            self._ask(f"/{BUCKET}", method="PUT")

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection((LOOPBACK, self._number), timeout=1):
            return True
        return False

    def _ask(self, path: str, *, method: str = "GET") -> bytes:
        request = urllib.request.Request(f"{self.access.endpoint}{path}", method=method)  # noqa: S310 - of this machine
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - as above
            body: bytes = answer.read()
            return body
