"""pytest plugin: the servers that all tests of a session share, under xdist too. Loaded by tests/conftest.py."""

from __future__ import annotations

from typing import Any

import pytest
from tests.controlplane.sessions import session_servers
from tests.controlplane.shared import SharedServers, borrow

OWNER = pytest.StashKey[SharedServers]()
WORKER_INPUT = "tenantry_shared_servers"


def pytest_configure(config: pytest.Config) -> None:
    """The process that is no xdist worker owns the servers. None is started before a test asks for it."""
    if not hasattr(config, "workerinput"):
        config.stash[OWNER] = SharedServers(session_servers())


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell an xdist worker where to ask. Called in the controller."""
    owner = node.config.stash[OWNER]
    node.workerinput[WORKER_INPUT] = [owner.address, owner.key]


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop what was started."""
    owner = config.stash.get(OWNER, None)
    if owner is not None:
        owner.stop()


def lend(config: pytest.Config, name: str) -> str:
    """The access to one of `session_servers()` as JSON, from whichever process owns it.

    Raises:
        ServerError: if it does not start.
    """
    owner = config.stash.get(OWNER, None)
    if owner is not None:
        return owner.lend(name)
    address, key = vars(config)["workerinput"][WORKER_INPUT]
    return borrow(address, key, name)
