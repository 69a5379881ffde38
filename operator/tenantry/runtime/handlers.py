"""The kopf side: handlers that only pass events on, and an operator that is started again whenever kopf gives up."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any, Final

import kopf

from tenantry.api.resources import Resource
from tenantry.ports import Json

logger = logging.getLogger(__name__)

OnEvent = Callable[[Resource, str | None, Json], None]

RESTART_SECONDS: Final = 5.0
STOP_SECONDS: Final = 10.0


class EndlessBackoff:
    """Seconds between tries, without end: kopf ends the operator when its finite default is used up."""

    def __iter__(self) -> Iterator[float]:
        yield from (1.0, 2.0, 5.0, 10.0)
        yield from itertools.repeat(30.0)


def registry_of(resources: tuple[Resource, ...], on_event: OnEvent, kubeconfig: str | None) -> kopf.OperatorRegistry:
    """Handlers for all events of these kinds. They enqueue and return: kopf neither coalesces nor retries them."""
    registry = kopf.OperatorRegistry()

    def pass_on(resource: Resource) -> Callable[..., Any]:
        async def handler(event: Any, **_: Any) -> None:
            on_event(resource, event["type"], dict(event["object"]))

        return handler

    for resource in resources:
        kopf.on.event(resource.group, resource.version, resource.plural, id=resource.plural, registry=registry)(
            pass_on(resource)
        )

    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        if kubeconfig is None and (info := kopf.login_with_service_account(**kwargs)) is not None:
            return info
        return kopf.login_with_kubeconfig(**kwargs) or kopf.login_via_client(**kwargs)

    kopf.on.login(id="login", registry=registry)(login)
    return registry


def settings_of() -> kopf.OperatorSettings:
    """Kopf without anything that writes, with time-outs, and without giving up."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.peering.standalone = True
    settings.watching.server_timeout = 300
    settings.watching.connect_timeout = 10
    settings.watching.reconnect_backoff = 1.0
    settings.networking.request_timeout = 60
    settings.networking.error_backoffs = EndlessBackoff()
    return settings


async def run_kopf(
    resources: tuple[Resource, ...], on_event: OnEvent, on_restart: Callable[[], Any], kubeconfig: str | None
) -> None:
    """Watch until cancelled. What kopf missed while it was down is found by `on_restart`, a list and diff."""
    if kubeconfig is not None:
        os.environ["KUBECONFIG"] = kubeconfig  # the only way kopf takes it
    registry = registry_of(resources, on_event, kubeconfig)
    while True:
        stop = asyncio.Event()
        running = asyncio.create_task(
            kopf.operator(registry=registry, settings=settings_of(), clusterwide=True, standalone=True, stop_flag=stop)
        )
        try:
            await asyncio.shield(running)
            logger.error("the watch on the custom resources ended; it is started again")
        except asyncio.CancelledError:
            stop.set()
            await asyncio.wait([running], timeout=STOP_SECONDS)
            running.cancel()
            raise
        except Exception:
            logger.exception("the watch on the custom resources failed; it is started again")
        await asyncio.sleep(RESTART_SECONDS)
        await on_restart()
