"""The start of `tenantry operator` as a process: failures are one line, not a traceback."""

from __future__ import annotations

import socket
import subprocess
import sys


def test_an_address_that_somebody_else_listens_on_ends_the_start_with_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, "-m", "tenantry", "operator", "--metrics-address", address, "--health-address", "0"],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: can't listen on {address}: ")
    assert len(done.stderr.splitlines()) == 1
