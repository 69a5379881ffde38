"""Writing an object's status: only where it differs from what is there, and only what differs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel

from tenantry.api.conditions import Condition, ConditionType
from tenantry.api.resources import Ref
from tenantry.decide.conditions import Outcome, condition_of
from tenantry.ports.kube import Kube, LiveObjects, NoSuchKindError, NotFoundError
from tenantry.ports.world import Json


async def write_status(kube: Kube, live: LiveObjects, ref: Ref, status: BaseModel) -> bool:
    """Make the status of a custom resource what the model says; whether anything had to be written.

    The comparison is with the newest state seen, so a steady state writes nothing. An object that is gone is no error.

    Raises:
        KubeError: it could not be written; also where its kind is not served, as while that is installed again.
    """
    body = live.get(ref)
    if body is None:
        return False
    wanted = status.model_dump(by_alias=True, mode="json")
    patch = _difference(body.get("status") or {}, wanted)
    if not patch:
        return False
    try:
        answer = await kube.merge_patch(ref, {"status": patch}, subresource="status")
    except NoSuchKindError:
        raise
    except NotFoundError:
        live.forget(ref, uid=body["metadata"]["uid"])  # not one of the same name that has come meanwhile
        return False
    live.observe(answer)
    return True


def told_of(outcome: Outcome, previous: list[Condition], generation: int, now: datetime) -> list[Condition]:
    """Ready, and as kstatus has it Reconciling or Stalled."""
    conditions = [condition_of(ConditionType.READY, outcome, previous, generation, now)]
    if outcome.status is not True:
        kind = ConditionType.STALLED if outcome.terminal else ConditionType.RECONCILING
        holds = Outcome(True, outcome.reason, outcome.message)
        conditions.append(condition_of(kind, holds, previous, generation, now))
    return conditions


def _difference(have: Json, want: Json) -> dict[str, Any]:
    """A merge patch: None takes a field out; absent, None and empty mean the same."""
    patch: dict[str, Any] = {key: None for key, former in have.items() if key not in want and not _empty(former)}
    for key, value in want.items():
        former = have.get(key)
        if former == value or (_empty(former) and _empty(value)):
            continue
        if isinstance(value, dict) and isinstance(former, dict):
            if inner := _difference(former, value):
                patch[key] = inner
        else:
            patch[key] = value
    return patch


def _empty(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_empty(each) for each in value.values())
    return value is None or (isinstance(value, list | str) and not value)
