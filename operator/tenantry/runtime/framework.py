"""kopf, without the client library that it would load to know that library's objects from others.

The `kubernetes` package is installed for kubeconfigs that only its loader understands, and loading it costs 11 MB of
the operator's memory at rest. We hand kopf plain dictionaries; without the package its checks for such objects say no.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

UNWANTED: Final = "kubernetes.client"


@contextmanager
def _absent(module: str) -> Iterator[None]:
    """While this holds, to import a module that was not imported before fails as if it were not installed."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]  # the import system's own sign for "is not to be had"
    try:
        yield
    finally:
        del sys.modules[module]


with _absent(UNWANTED):
    import kopf

__all__ = ["kopf"]
