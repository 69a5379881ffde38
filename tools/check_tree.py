"""`make check`: what no linter sees: addresses and paths that must not be in the tree, long modules, untidy text."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]

MOST_LINES: Final = 400
LONG_ON_PURPOSE: Final[dict[str, str]] = {}
LINES_COUNT_IN: Final = ("operator/", "tools/")

FORBIDDEN: Final = (
    # Packages come from wherever the person's own settings say: an address in the tree would override them.
    (
        re.compile(r"\b(?:pypi|pythonhosted|npmjs)\.org\b|\bproxy\.golang\.|\bsum\.golang\.|\bcrates\.io\b"),
        "the address of a package registry",
    ),
    (re.compile(r"^\s*(?:--(?:extra-)?index-url|--find-links)\b"), "where to get packages from"),
    (re.compile(r"(?<![\w.~$}-])/(?:home|root|Users|work)/[\w.-]"), "a path of somebody's machine"),
    (re.compile(r"^(?:<{7}|>{7}) "), "a merge that was not finished"),
    (re.compile(r"[ \t]+$"), "blanks at the end of the line"),
    (re.compile(r"\r"), "a carriage return"),
)
BINARY: Final = (".png", ".jpg", ".gif", ".ico", ".gz", ".whl")


def tree_files(root: Path) -> list[Path]:
    """All files of the project, also those not committed yet; without git: all but hidden and built ones."""
    command = ["git", "-C", str(root), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - no word of it is input
    if done.returncode == 0:
        named = [root / name for name in done.stdout.split("\0") if name]
    else:
        named = [path for path in root.rglob("*") if not _made_here(path.relative_to(root))]
    return sorted(path for path in named if path.is_file() and path.suffix not in BINARY)


def _made_here(path: Path) -> bool:
    return any(part.startswith(".") or part in {"__pycache__", "build", "dist"} for part in path.parts)


def faults(name: str, text: str) -> Iterator[str]:
    """What is wrong with one file, a line each.

    Args:
        name: Its path from the root of the project, with slashes.
        text: Its content.
    """
    lines = text.split("\n")
    for number, line in enumerate(lines, start=1):
        for pattern, what in FORBIDDEN:
            if pattern.search(line):
                yield f"{name}:{number}: {what}"
    if text and not text.endswith("\n"):
        yield f"{name}:{len(lines)}: no newline at the end"
    long = len(lines) - 1 > MOST_LINES and name.endswith(".py") and name.startswith(LINES_COUNT_IN)
    if long and name not in LONG_ON_PURPOSE:
        yield f"{name}: {len(lines) - 1} lines, more than {MOST_LINES}: it has more than one job"


def check(root: Path, files: Iterable[Path]) -> list[str]:
    """What is wrong with the tree, a line each."""
    found: list[str] = []
    for path in files:
        name = path.relative_to(root).as_posix()
        try:
            found.extend(faults(name, path.read_bytes().decode()))
        except UnicodeDecodeError:
            found.append(f"{name}: not UTF-8")
    return found


def main() -> int:
    """The command. Exit status 1 if anything is wrong."""
    found = check(ROOT, tree_files(ROOT))
    sys.stdout.writelines(f"{line}\n" for line in found)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
