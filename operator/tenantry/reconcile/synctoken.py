"""The sync token of one tenant in one pass: made when it is first asked for, then changed with a grace period."""

from __future__ import annotations

import logging
from dataclasses import replace

from tenantry.api.base import parse_duration
from tenantry.api.conditions import Reason
from tenantry.api.names import ANNOTATION_ROTATE_SYNC_TOKEN, ANNOTATION_ROTATED_AT, SECRET_SYNC
from tenantry.api.resources import SECRETS, Ref
from tenantry.api.tenant import Tenant
from tenantry.decide.conditions import GOOD, Outcome
from tenantry.decide.deletion import parse_time, time_text
from tenantry.decide.rotation import request_of
from tenantry.decide.synctoken import Change, SyncToken, changed, next_change
from tenantry.desired.encoding import decoded
from tenantry.desired.stamp import bears_stamp
from tenantry.desired.synctoken import CURRENT_KEY, PREFIX, PREVIOUS_KEY, sync_secret
from tenantry.ports.kube import NotFoundError
from tenantry.ports.world import Json
from tenantry.reconcile.apply import Applier
from tenantry.reconcile.placing import Placed
from tenantry.reconcile.world import World

logger = logging.getLogger(__name__)


def token_of(secret: Json | None) -> SyncToken | None:
    """What a live Secret has; None where it has no token."""
    values = decoded(secret.get("data") or {}) if secret is not None else {}
    if secret is None or not values.get(CURRENT_KEY):
        return None
    annotations = secret["metadata"].get("annotations") or {}
    return SyncToken(
        value=values[CURRENT_KEY],
        previous=values.get(PREVIOUS_KEY, ""),
        rotated_at=parse_time(annotations.get(ANNOTATION_ROTATED_AT)),
        handled=annotations.get(ANNOTATION_ROTATE_SYNC_TOKEN),
    )


def secret_of(placed: Placed, token: SyncToken) -> Json:
    """The Secret as it is to be where the tenant lives: the token, the time of its change, the echo of the request."""
    marks = {
        ANNOTATION_ROTATED_AT: time_text(token.rotated_at) if token.rotated_at is not None else None,
        ANNOTATION_ROTATE_SYNC_TOKEN: token.handled,
    }
    annotations = {name: value for name, value in marks.items() if value is not None}
    namespace = placed.record.spec.cluster.namespace
    return sync_secret(placed.identity, namespace, token.value, token.previous, annotations)


async def keep_token(world: World, tenant: Tenant, placed: Placed, applier: Applier, secret: Json | None) -> Outcome:
    """Make, change or leave the token; all of a change is one write, so it is done or was never begun.

    Args:
        world: The world.
        tenant: Whose annotation asks for it.
        placed: Where it lives.
        applier: Writes.
        secret: The live Secret, if there is one.

    Returns:
        What SecretsReady says of it: it is true all the time, for one token is always valid.

    Raises:
        Terminal: a Secret of that name is somebody else's.
        KubeError: of the target.
    """
    have = token_of(secret)
    request = request_of(tenant.metadata.annotations.get(ANNOTATION_ROTATE_SYNC_TOKEN), have.handled if have else None)
    if request is None and (have is None or not have.previous):
        return GOOD  # nobody asks, nothing ends: not even the clock is read
    now = await placed.target.kube.now()
    grace = parse_duration(tenant.spec.rotation.grace_period)
    step = next_change(have, request, grace, now)
    if step.change != Change.NOTHING:
        fresh = PREFIX + world.token() if step.change != Change.END_FORMER else ""
        token = changed(have, step, fresh, request, now)
        await applier.apply_secret(secret_of(placed, token), secret)
        _tell(world, tenant, step.change)
    again = max(1.0, (step.again - now).total_seconds()) if step.again is not None else None
    if step.pending:
        return Outcome(True, Reason.ROTATION_PENDING, step.pending, retry_after=again)
    return replace(GOOD, retry_after=again)


async def carry_token(old: Placed, new: Placed, applier: Applier) -> None:
    """Give the side that a tenant moves to the token that it has, former one and all, before the old side is stopped.

    Raises:
        Terminal: a Secret of that name is somebody else's.
        KubeError: of either cluster.
    """
    secret = await _read(old)
    token = token_of(secret)
    if secret is None or token is None or not bears_stamp(secret, old.identity):
        return
    await applier.apply_secret(secret_of(new, token), await _read(new))


def together(written: Outcome, token: Outcome) -> Outcome:
    """What SecretsReady says of the login and of the token: what waits speaks for both."""
    times = [time for time in (written.retry_after, token.retry_after) if time is not None]
    first = written if written.status is not True or written.reason != Reason.READY else token
    return replace(first, retry_after=min(times, default=None))


async def _read(placed: Placed) -> Json | None:
    try:
        return await placed.target.kube.get(Ref(SECRETS, placed.record.spec.cluster.namespace, SECRET_SYNC))
    except NotFoundError:
        return None


def _tell(world: World, tenant: Tenant, change: Change) -> None:
    about = world.live.get(tenant.ref)
    if world.rehearsal or about is None or change == Change.END_FORMER:
        return
    how = ", and the former one is not valid any more" if change == Change.REPLACE else ""
    message = f"Secret {SECRET_SYNC} has a new token{how}"
    logger.info("%s/%s: %s", tenant.workspace, tenant.name, message)
    world.events.emit(about, warning=False, reason=Reason.ROTATED, message=message)
