"""`python -m tests.image.within ROOT FOLDER ARGUMENT...`: run `tenantry` in a root folder, as a container would.

A mount namespace of its own, the root folder read-only, `/tmp` empty and its own, one folder of ours, user 65532
without any privilege. The network is this machine's: there the test's servers listen.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

USER: Final = "65532"
PATH: Final = "/opt/tenantry/bin:/usr/lib/postgresql/17/bin:/usr/lib/postgresql/15/bin:/usr/bin:/bin"
"""As the Containerfile sets it: what runs an image would."""
SCRIPT: Final = """
set -eu
root=$1 folder=$2
shift 2
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --bind /etc/resolv.conf "$root/etc/resolv.conf"
mount -t tmpfs tmpfs "$root/tmp"
mkdir -p "$root$folder"
mount --bind "$folder" "$root$folder"
mount -o remount,bind,ro "$root"
exec chroot "$root" setpriv --reuid="$ID" --regid="$ID" --clear-groups --no-new-privs \
  --bounding-set=-all --inh-caps=-all tenantry "$@"
"""


def main() -> None:
    """Become that process."""
    root, folder, *arguments = sys.argv[1:]
    for name in ("proc", "dev", "tmp"):
        (Path(root) / name).mkdir(parents=True, exist_ok=True)
    (Path(root) / "etc/resolv.conf").touch()
    environment = {"PATH": f"{PATH}:/usr/sbin:/sbin", "HOME": "/tmp", "PYTHONDONTWRITEBYTECODE": "1", "ID": USER}  # noqa: S108 - of the image
    command = ["unshare", "--mount", "sh", "-c", SCRIPT, "sh", root, folder, *arguments]
    os.execvpe(command[0], command, environment)  # noqa: S606 - no shell takes these arguments apart


if __name__ == "__main__":
    main()
