"""`python -m tests.model.shifted <file> operator ...`: the operator, whose clock is off by what the file says."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

from tenantry.cli.main import main
from tenantry.runtime.clock import SystemClock


def run(offset: Path, arguments: list[str]) -> None:
    """Run `tenantry` with a clock that can jump at any moment: the file holds seconds, and is read each time."""

    def now(_: SystemClock) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=int(offset.read_text() or "0"))

    with patch.object(SystemClock, "now", now):
        main(arguments)


if __name__ == "__main__":
    run(Path(sys.argv[1]), sys.argv[2:])
