"""`python -m tests.bench.latency`: how soon drift is repaired, and what one hanging target costs the others."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

import click
import orjson
from tests.bench.client import Client
from tests.bench.figures import percentile
from tests.bench.latency_scene import CLUSTERS, HANGING, LatencyScene, bodies_on, names_on
from tests.bench.run import say
from tests.bench.tenants import WORKSPACE, is_ready, make_tenants
from tests.controlplane.build import BuildError
from tests.controlplane.processes import ServerError
from tests.controlplane.toolchain import ToolchainError
from tests.scene.edits import EDITS, meant
from tests.scene.proxy_faults import Hang

from tenantry.api.names import ANNOTATION_REQUESTED_AT
from tenantry.api.resources import TENANTS

Json = dict[str, Any]
T = TypeVar("T")

MERGE: Final = "application/merge-patch+json"
POLL_SECONDS: Final = 0.004
PATIENCE: Final = 60.0
AT_ONCE: Final = 8
"""Changes under way, as of so many people."""


async def until(look: Callable[[], Awaitable[bool]]) -> float:
    """Seconds until it is so.

    Raises:
        TimeoutError: it is not within a minute.
    """
    begun = time.perf_counter()
    async with asyncio.timeout(PATIENCE):
        while not await look():  # noqa: ASYNC110 - another process is asked: nothing here is told of it
            await asyncio.sleep(POLL_SECONDS)
    return time.perf_counter() - begun


async def all_of(work: Sequence[Callable[[], Awaitable[T]]], at_once: int) -> list[T]:
    """The results, in no order, of that many pieces of work at a time."""
    queue, found = list(reversed(work)), list[T]()

    async def take() -> None:
        while queue:
            found.append(await queue.pop()())

    await asyncio.gather(*(take() for _ in range(min(at_once, len(work)))))
    return found


class Latency:
    """One run."""

    def __init__(self, scene: LatencyScene, tenants: int, edits: int) -> None:
        self._scene = scene
        self._each = tenants // len(CLUSTERS)
        self._edits = edits

    async def run(self) -> dict[str, float | int]:
        """All phases; what they took, in seconds."""
        scene = self._scene
        async with Client(scene.management) as user:
            bodies = [body for cluster in CLUSTERS for body in bodies_on(cluster, self._each)]
            await make_tenants(user, bodies)
            scene.settle()
            say(f"{len(bodies)} tenants on {len(CLUSTERS)} clusters")
            found = figures_of("repaired", await self._drift(user, at_once=1))
            say(f"edits, one after another: {found}")
            scene.settle()
            burst = figures_of("repaired_burst", await self._drift(user, at_once=self._edits))
            say(f"edits, all at once: {burst}")
            scene.settle()
            before = figures_of("changed", await self._changes(user, "before"))
            say(f"changes while all clusters answer: {before}")
            scene.settle()
            with scene.door.fault(Hang()):
                during = figures_of("changed_one_hangs", await self._changes(user, "during"))
            say(f"changes while {HANGING} hangs: {during}")
        ratio = during["changed_one_hangs_p99_s"] / before["changed_p99_s"]
        return {
            "tenants": len(bodies), "edits": self._edits, **found, **burst, **before, **during,
            "others_p99_ratio": round(ratio, 2),
        }  # fmt: skip

    async def _drift(self, user: Client, *, at_once: int) -> list[float]:
        """Of as many edits on the first cluster, seconds from the answer until all is as it was."""
        async with Client(self._scene.targets[CLUSTERS[0]]) as target:
            names = names_on(CLUSTERS[0], self._each)
            tenants = [await user.must("GET", TENANTS.path(WORKSPACE, name)) for name in names]
            namespaces = [tenant["status"]["namespace"] for tenant in tenants]

            def edit(number: int) -> Callable[[], Awaitable[float]]:
                resource, name, patch = EDITS[number % len(EDITS)]
                path = resource.path(namespaces[(number // len(EDITS)) % len(namespaces)], name)
                return lambda: self._repaired(target, path, patch if (number // len(EDITS)) % 2 else None)

            return await all_of([edit(number) for number in range(self._edits)], at_once)

    @staticmethod
    async def _repaired(target: Client, path: str, patch: Json | None) -> float:
        """Edit or, without a patch, delete an object; seconds until it is back."""
        before = await target.must("GET", path)
        if patch is None:
            await target.must("DELETE", path)
        else:
            after = await target.must("PATCH", path, orjson.dumps(patch), MERGE)
            if meant(after) == meant(before):
                raise RuntimeError(f"{path}: {patch} changes nothing")

        async def back() -> bool:
            status, body = await target.send("GET", path)
            return status == 200 and meant(orjson.loads(body)) == meant(before)

        return await until(back)

    async def _changes(self, user: Client, value: str) -> list[float]:
        """Of changes of all tenants, seconds from the answer to Ready; only those of clusters that never hang."""
        others = [name for cluster in CLUSTERS if cluster != HANGING for name in names_on(cluster, self._each)]
        load = asyncio.create_task(
            all_of([lambda name=name: self._change(user, name, value) for name in names_on(HANGING, self._each)], 8)  # type: ignore[misc]  # a default binds the loop's value
        )
        try:
            work = [lambda name=name: self._changed(user, name, value) for name in others]
            return await all_of(work, AT_ONCE)
        finally:
            await load

    @staticmethod
    async def _change(user: Client, name: str, value: str) -> Json:
        patch = {"metadata": {"annotations": {ANNOTATION_REQUESTED_AT: value}}, "spec": {"env": {"LOG_LEVEL": value}}}
        changed: Json = await user.must("PATCH", TENANTS.path(WORKSPACE, name), orjson.dumps(patch), MERGE)
        return changed

    async def _changed(self, user: Client, name: str, value: str) -> float:
        await self._change(user, name, value)

        async def ready() -> bool:
            return is_ready(await user.must("GET", TENANTS.path(WORKSPACE, name)))

        return await until(ready)


def figures_of(what: str, seconds: Sequence[float]) -> dict[str, float]:
    """Median, 99th percentile and worst."""
    shares = (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
    return {f"{what}_{name}_s": round(percentile(seconds, share), 3) for name, share in shares}


@click.command()
@click.option("--tenants", default=300, show_default=True, help="On three clusters.")
@click.option("--edits", default=200, show_default=True, help="Of objects on a target, behind the operator's back.")
def main(tenants: int, edits: int) -> None:
    """Measure; the last line is one JSON object. Progress is on standard error."""
    say("starting a management and three target control planes")
    with LatencyScene() as scene:
        found = asyncio.run(Latency(scene, tenants, edits).run())
    click.echo(json.dumps(found))


if __name__ == "__main__":
    try:
        main()
    except (BuildError, ServerError, ToolchainError) as error:
        sys.exit(f"tests.bench.latency: {error}")
