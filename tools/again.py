"""A second try, alone, for the few tests that failed in a run of them all; what failed first is told either way.

A test that holds only when nothing else runs is a defect, of the test or of what it tests: it is named at the end of
the run, to be looked into. But one such test in thousands does not keep a change from being judged.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

FAILED: Final = 1
"""How pytest ends where tests failed, and nothing else was wrong."""
CACHE: Final = Path(".pytest_cache/v/cache/lastfailed")


def failed_tests(cache: Path) -> list[str]:
    """The ids of the tests that failed last, as pytest keeps them; none where it keeps nothing.

    Raises:
        ValueError: the file is not pytest's.
    """
    return sorted(json.loads(cache.read_text())) if cache.exists() else []


def try_again(status: int, failed: Sequence[str], most: int, run: Callable[[Sequence[str]], int]) -> tuple[int, str]:
    """How the run is to end, and what is to be told of it.

    Args:
        status: How pytest ended.
        failed: Which tests failed.
        most: More than these are no accident.
        run: Runs tests by their ids, alone; how pytest ended.
    """
    if status != FAILED or not failed or len(failed) > most:
        return status, ""
    status = run(failed)
    if status != 0:
        return status, ""
    lines = "\n".join(f"  {each}" for each in failed)
    return 0, f"failed in the run of all tests, passed alone; each is a defect to be looked into:\n{lines}"


def main() -> int:
    """Read the command line, try again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("status", type=int, help="how pytest ended")
    parser.add_argument("--most", type=int, default=0, help="how many tests may fail at first")
    arguments = parser.parse_args()
    failed = failed_tests(CACHE)

    def run(tests: Sequence[str]) -> int:
        sys.stdout.write(f"\n{len(tests)} failed: once more, alone\n")
        sys.stdout.flush()
        return subprocess.run([sys.executable, "-m", "pytest", *tests], check=False).returncode  # noqa: S603 - ids that pytest wrote

    status, told = try_again(arguments.status, failed, arguments.most, run)
    if told:
        sys.stdout.write(f"\n{told}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
