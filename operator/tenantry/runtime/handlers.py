"""The kopf side: handlers that only pass events on, and an operator that is started again whenever kopf gives up."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any, Final

import kopf

from tenantry.api.names import GROUP
from tenantry.api.resources import Resource
from tenantry.ports.kube import KubeError
from tenantry.ports.world import Json

logger = logging.getLogger(__name__)

OnEvent = Callable[[Resource, str | None, Json], None]
OnDefinition = Callable[[Json], None]

RESTART_SECONDS: Final = 5.0
STOP_SECONDS: Final = 10.0


class EndlessBackoff:
    """Seconds between tries, without end: kopf ends the operator when its finite default is used up."""

    def __iter__(self) -> Iterator[float]:
        yield from (1.0, 2.0, 5.0, 10.0)
        yield from itertools.repeat(30.0)


def registry_of(
    resources: tuple[Resource, ...], on_event: OnEvent, on_definition: OnDefinition, kubeconfig: str | None
) -> kopf.OperatorRegistry:
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

    async def defined(event: Any, **_: Any) -> None:
        if event["object"]["spec"]["group"] == GROUP:
            on_definition(dict(event["object"]))

    kopf.on.event("apiextensions.k8s.io", "v1", "customresourcedefinitions", id="definitions", registry=registry)(
        defined
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
    settings.scanning.disabled = False  # a kind that was deleted and is installed again is watched again
    settings.peering.standalone = True
    settings.process.ultimate_exiting_timeout = (
        None  # it would kill the whole process some time after a restart of kopf
    )
    settings.watching.server_timeout = 300
    settings.watching.connect_timeout = 10
    settings.watching.reconnect_backoff = 1.0
    settings.networking.request_timeout = 60
    settings.networking.error_backoffs = EndlessBackoff()
    return settings


async def run_kopf(
    resources: tuple[Resource, ...],
    on_event: OnEvent,
    on_definition: OnDefinition,
    *,
    on_restart: Callable[[], Awaitable[object]],
    again: asyncio.Event,
    kubeconfig: str | None,
) -> None:
    """Watch until cancelled.

    kopf runs in a thread and an event loop of its own: when it ends, it cancels every task of its loop, and it takes
    the process' signals for itself (kopf 1.45, `run_tasks` and `spawn_tasks`). Events come over one by one, in order.

    Args:
        resources: What to watch.
        on_event: Told in this loop of every event: the resource, its kind (None in the first list) and the object.
        on_definition: Told in this loop of every event of our CustomResourceDefinitions.
        on_restart: A list and diff, for what kopf missed while it was down.
        again: Set to have all watches begun anew.
        kubeconfig: Of the management cluster; None where kopf is to look for itself.
    """
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)  # warns that signals are left to us
    if kubeconfig is not None:
        os.environ["KUBECONFIG"] = kubeconfig  # the only way kopf takes it
    loop = asyncio.get_running_loop()

    def hand_over(resource: Resource, kind: str | None, body: Json) -> None:
        loop.call_soon_threadsafe(on_event, resource, kind, body)

    def hand_over_definition(body: Json) -> None:
        loop.call_soon_threadsafe(on_definition, body)

    registry = registry_of(resources, hand_over, hand_over_definition, kubeconfig)
    while True:
        stop = threading.Event()
        ended = asyncio.Event()
        on_end = partial(loop.call_soon_threadsafe, ended.set)
        thread = threading.Thread(target=_run_here, args=(registry, stop, on_end), name="kopf", daemon=True)
        thread.start()
        try:
            await _first_of(ended, again)
        finally:
            stop.set()
            if not ended.is_set():
                await asyncio.to_thread(thread.join, STOP_SECONDS)
        if again.is_set():
            again.clear()
        else:
            logger.error("the watch on the custom resources ended; it is started again in %g s", RESTART_SECONDS)
            await asyncio.sleep(RESTART_SECONDS)
        await _caught_up(on_restart)


async def _first_of(*events: asyncio.Event) -> None:
    waiting = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()


def _run_here(registry: kopf.OperatorRegistry, stop: threading.Event, on_end: Callable[[], object]) -> None:
    """The thread: one life of kopf."""

    async def live() -> None:
        try:
            await kopf.operator(
                registry=registry, settings=settings_of(), clusterwide=True, standalone=True, stop_flag=stop
            )
        finally:
            stop.set()  # kopf waits for it in a thread of the loop's pool, which asyncio.run would wait for in turn

    try:
        asyncio.run(live())
    except Exception:  # whatever ends kopf, its thread ends in order and is started again
        logger.exception("the watch on the custom resources failed")
    finally:
        with contextlib.suppress(RuntimeError):  # the other loop is closed: the process ends
            on_end()


async def _caught_up(on_restart: Callable[[], Awaitable[object]]) -> None:
    """What happened meanwhile is found by lists; if these fail too, the next relist finds it."""
    try:
        await on_restart()
    except KubeError as error:
        logger.warning("the custom resources could not be listed: %s", error.message)
