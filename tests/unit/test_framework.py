"""What the operator's process loads, and what it leaves."""

from __future__ import annotations

import subprocess
import sys

LOADED = "import sys, tenantry.runtime.operator; print(*sorted({m.partition('.')[0] for m in sys.modules}))"
AFTERWARDS = "import tenantry.runtime.operator; from kubernetes.aio import client; print(client.Configuration.__name__)"


def said_by(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.strip()


def test_the_operator_does_not_load_the_libraries_that_only_some_installations_need() -> None:
    loaded = said_by(LOADED).split()
    assert "kopf" in loaded
    assert {"kubernetes", "obstore"}.isdisjoint(loaded)


def test_the_library_can_be_loaded_by_who_needs_it() -> None:
    assert said_by(AFTERWARDS) == "Configuration"
