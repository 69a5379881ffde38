"""What Cluster, DatabaseServer and TenantPlan have in common: who may use their names, finalizers, counters, events."""

from __future__ import annotations

import base64
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from tenantry.api.base import ObjectMeta
from tenantry.api.conditions import Condition, ConditionType, Reason
from tenantry.api.resources import SECRETS, Ref
from tenantry.decide.conditions import Outcome, summarize
from tenantry.decide.halt import Terminal, Waiting
from tenantry.ports.kube import NotFoundError
from tenantry.ports.world import Availability
from tenantry.reconcile.world import World

logger = logging.getLogger(__name__)

COUNTER_INTERVAL = timedelta(seconds=30)
"""How often a counter in a status is written at most."""


class Counters:
    """Slows down the counters in the statuses of platform objects."""

    def __init__(self) -> None:
        self._written: dict[Ref, datetime] = {}

    def report(self, ref: Ref, reported: int | None, actual: int, now: datetime) -> tuple[int, float | None]:
        """The number to report now, and the seconds until the next look if that is not the actual one."""
        if reported == actual:
            return actual, None
        last = self._written.get(ref)
        if reported is not None and last is not None and now - last < COUNTER_INTERVAL:
            return reported, (COUNTER_INTERVAL - (now - last)).total_seconds()
        self._written[ref] = now
        return actual, None


async def set_finalizer(world: World, ref: Ref, metadata: ObjectMeta, finalizer: str, *, present: bool) -> None:
    """Add or remove our finalizer, if nobody changed the object meanwhile; no error if it is gone."""
    if (finalizer in metadata.finalizers) == present:
        return
    others = [name for name in metadata.finalizers if name != finalizer]
    patch = {
        "metadata": {
            "resourceVersion": metadata.resource_version,
            "finalizers": [*others, finalizer] if present else others,
        }
    }
    try:
        answer = await world.management.merge_patch(ref, patch)
    except NotFoundError:
        world.live.forget(ref, uid=metadata.uid)
        return
    if metadata.deletion_timestamp and not answer["metadata"].get("finalizers"):
        world.live.forget(ref, uid=metadata.uid)
    else:
        world.live.observe(answer)


def conditions_of(
    world: World,
    ref: Ref,
    outcomes: Mapping[ConditionType, Outcome],
    *,
    ready_message: str,
    previous: Sequence[Condition],
    generation: int,
) -> list[Condition]:
    """The conditions of a platform object, and an Event where Ready has changed."""
    conditions = summarize(
        outcomes, ready_message=ready_message, previous=previous, generation=generation, now=world.clock.now()
    )
    ready = conditions[0]
    former = next((condition for condition in previous if condition.type == ConditionType.READY), None)
    changed = former is None or (former.status, former.reason) != (ready.status, ready.reason)
    about = world.live.get(ref)
    if changed:
        logger.info("%s: %s", ready.reason, ready.message)
    if changed and about is not None:
        world.events.emit(about, warning=ready.status != "True", reason=ready.reason, message=ready.message)
    return conditions


def availability_of(outcomes: Mapping[ConditionType, Outcome]) -> Availability:
    """Whether tenants may use what has these outcomes; the first bad one says why not."""
    for outcome in outcomes.values():
        if outcome.status is not True:
            return Availability(ok=False, reason=outcome.reason, message=outcome.message)
    return Availability(ok=True)


def platform_secret(
    world: World, name: str, field: str, keys: Sequence[str], optional: Sequence[str] = ()
) -> dict[str, str]:
    """What a Secret of the operator's namespace says.

    Args:
        world: Where it is.
        name: Of the Secret.
        field: Of the spec, such as `adminSecretRef`: for messages.
        keys: What it must have.
        optional: What it may have.

    Raises:
        Waiting: SecretNotFound: it is not there.
        Terminal: SecretNotFound: it lacks a key, or is no text.
    """
    namespace = world.settings.namespace
    secret = world.live.get(Ref(SECRETS, namespace, name))
    if secret is None:
        raise Waiting(
            ConditionType.CREDENTIALS_VALID,
            Reason.SECRET_NOT_FOUND,
            f"spec.{field}: there is no Secret {name!r} in the operator's namespace {namespace!r}",
        )
    data = secret.get("data") or {}
    missing = [key for key in keys if not data.get(key)]
    if missing:
        raise Terminal(
            ConditionType.CREDENTIALS_VALID,
            Reason.SECRET_NOT_FOUND,
            f"spec.{field}: Secret {name!r} has no key {', '.join(missing)}",
        )
    try:
        return {key: base64.b64decode(data[key]).decode() for key in (*keys, *optional) if data.get(key)}
    except ValueError:
        raise Terminal(
            ConditionType.CREDENTIALS_VALID,
            Reason.SECRET_NOT_FOUND,
            f"spec.{field}: Secret {name!r} has a value that is no UTF-8 text",
        ) from None
