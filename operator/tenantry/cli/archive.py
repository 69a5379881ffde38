"""A tar.gz that is there whole or not at all: for its owner only, never in the place of another file, bounded."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import secrets
import tarfile
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

from tenantry.cli.manifests import as_json
from tenantry.ports.world import Json

MEGABYTE: Final = 1024 * 1024
OWNER_ONLY: Final = 0o600
RESERVE: Final = MEGABYTE
"""Bytes beyond the bound, for the manifest."""


class ArchiveError(Exception):
    """The archive can't be written; the message is one line for the person."""


class Archive:
    """A tar.gz under construction, in a file beside the one that it becomes when it is whole.

    Args:
        path: What it becomes.
        folder: The one folder in it.
        time: Of every file in it.
        limit: Bytes, unpacked; what is over that is left out and told.
    """

    def __init__(self, path: Path, folder: str, time: datetime, limit: int) -> None:
        self._path = path
        self._folder = folder
        self._time = int(time.timestamp())
        self._limit = limit
        self._size = 0
        self._files: list[Json] = []
        self._left_out: list[Json] = []
        self._partial = path.with_name(f".{path.name}.{secrets.token_hex(6)}.partial")

    def __enter__(self) -> Self:
        refuse_to_overwrite(self._path)
        try:
            descriptor = os.open(self._partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
        except OSError as error:
            raise ArchiveError(f"{self._path}: {error.strerror}") from error
        self._file: BinaryIO = os.fdopen(descriptor, "wb")
        self._tar = tarfile.open(fileobj=self._file, mode="w:gz", format=tarfile.PAX_FORMAT)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _where: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
            else:
                self._tar.close()
        except OSError as failure:
            raise ArchiveError(f"{self._path}: {failure.strerror or failure}") from failure
        finally:
            self._file.close()
            self._partial.unlink(missing_ok=True)

    def add(self, name: str, text: str) -> None:
        """A file. One that is over the bound is left out.

        Raises:
            ArchiveError: it can't be written.
        """
        if ".." in name.split("/") or name.startswith("/"):  # names come from a server: none leads out of the folder
            self.leave_out(name.replace("/", " "), "its name is no path within the bundle")
            return
        data = text.encode(errors="replace")
        if self._size + len(data) > self._limit:
            self.leave_out(name, f"over the bound of {self._limit // MEGABYTE} MB for all of it (--max-size)")
            return
        self._size += len(data)
        self._write(name, data)
        self._files.append({"name": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()})

    def leave_out(self, what: str, why: str) -> None:
        """Note what is not in it."""
        self._left_out.append({"what": what, "why": why})

    @property
    def left_out(self) -> int:
        """How much was noted as left out."""
        return len(self._left_out)

    def _write(self, name: str, data: bytes) -> None:
        entry = tarfile.TarInfo(f"{self._folder}/{name}")
        entry.size, entry.mtime, entry.mode = len(data), self._time, OWNER_ONLY
        try:
            self._tar.addfile(entry, io.BytesIO(data))
        except OSError as error:
            raise ArchiveError(f"{self._path}: {error.strerror or error}") from error

    def _finish(self) -> None:
        """Write the manifest, and give it its name: a link fails where there is something of that name by now."""
        self._write("manifest.json", as_json({"files": self._files, "leftOut": self._left_out}).encode())
        self._tar.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        try:
            os.link(self._partial, self._path)
        except FileExistsError:
            refuse_to_overwrite(self._path)
        except OSError:  # a file system without links: looked at once more, then renamed
            refuse_to_overwrite(self._path)
            self._partial.rename(self._path)


def refuse_to_overwrite(path: Path) -> None:
    """Raises ArchiveError where there is something of that name."""
    with contextlib.suppress(OSError):
        path.lstat()
        raise ArchiveError(f"{path} is there already: name another file by -o, or take it away")
