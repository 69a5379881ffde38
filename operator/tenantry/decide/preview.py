"""Preview: from what a rehearsed pass would have written to a bounded report for people, without any secret."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from tenantry.api.base import parse_duration
from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.names import ANNOTATION_DESIRED_HASH, ANNOTATION_DRY_RUN, ANNOTATION_HOST, LABEL_CLAIM
from tenantry.api.preview import (
    MAX_DETAIL,
    MAX_LINE,
    MAX_WHAT,
    MOST_FIELDS,
    MOST_ITEMS,
    MOST_REASONS,
    Preview,
    PreviewItem,
    PreviewRefusal,
)
from tenantry.api.resources import SECRETS, Ref
from tenantry.api.tenantrecord import TenantRecordSpec
from tenantry.decide.conditions import Outcome
from tenantry.decide.quantities import parse_quantity, same_quantity

Json = dict[str, Any]
Action = Literal["Create", "Change", "Delete"]

HOST: Final = "Host"
KEEPS_DATA: Final = frozenset({"Namespace", "PersistentVolumeClaim", "StatefulSet", "Database"})
"""What can't be deleted without losing data."""
PASSES: Final = frozenset(
    {
        Reason.PENDING,
        Reason.QUOTA_NOT_ENFORCED,
        Reason.ADDRESS_PENDING,
        Reason.PROGRESSING,
        Reason.DATABASE_STARTING,
    }
)
"""What is said of something that has only not come about yet: no refusal."""

_ORDER: Final[tuple[Action, ...]] = ("Delete", "Change", "Create")
_SERVERS: Final = frozenset({"uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink"})
_QUANTITIES: Final = frozenset({"hard", "default", "defaultRequest", "max", "min", "requests", "limits"})
_LONGEST_VALUE: Final = 60
_ABSENT: Final = object()


@dataclass(frozen=True, slots=True)
class Write:
    """One object before and after; None where it is not there."""

    ref: Ref
    before: Mapping[str, Any] | None = field(repr=False)
    after: Mapping[str, Any] | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Intent:
    """What a spec would do.

    Attributes:
        writes: To the target, one an object.
        steps: On the database server.
        before: The record's spec as it is; None where there is no record.
        after: As it would be; None where nothing got so far.
        outcomes: How each concern would end.
        limits: What the tenant is given as limits, before and after; no secrets.
    """

    writes: Sequence[Write] = ()
    steps: Sequence[PreviewItem] = ()
    before: TenantRecordSpec | None = None
    after: TenantRecordSpec | None = None
    outcomes: Mapping[ConditionType, Outcome] = field(default_factory=dict)
    limits: tuple[Mapping[str, str], Mapping[str, str]] = ({}, {})


# --- items --------------------------------------------------------------------------------------------------------
def items_of(writes: Iterable[Write]) -> list[PreviewItem]:
    """What becomes of each object; nothing for one that stays as it is."""
    return [item for write in writes if (item := _item(write)) is not None]


def _item(write: Write) -> PreviewItem | None:
    what = _what(write)
    if write.before is None or write.after is None:
        if write.after is not None:
            return item("Create", what, _keys(write.after))
        return item("Delete", what) if write.before is not None else None
    changes = list(_changes(write.before, write.after))
    return item("Change", what, _told(write, changes)) if changes else None


def limit_items(before: Mapping[str, str], after: Mapping[str, str]) -> list[PreviewItem]:
    """The limits that become others: in `tenant-env` they can't be told from what is secret, here they can."""
    found = []
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old is None or new is None:
            found.append(item("Delete" if new is None else "Create", f"Limit {name}", str(old or new)))
        elif old != new:
            found.append(item("Change", f"Limit {name}", f"{old} -> {new}"))
    return found


def item(action: Action, what: str, detail: str = "") -> PreviewItem:
    """One item, cut to what it may be long."""
    return PreviewItem(action=action, what=_cut(what, MAX_WHAT), detail=_cut(detail, MAX_DETAIL))


def _what(write: Write) -> str:
    metadata = (write.after or write.before or {}).get("metadata", {})
    host = (metadata.get("annotations") or {}).get(ANNOTATION_HOST)
    return f"{HOST} {host}" if host and LABEL_CLAIM in (metadata.get("labels") or {}) else str(write.ref)


def _keys(body: Mapping[str, Any] | None) -> str:
    """Of a Secret that is made: its keys."""
    return f"keys {', '.join(sorted(body.get('data') or {}))}" if body and body.get("kind") == SECRETS.kind else ""


def _told(write: Write, changes: Sequence[tuple[str, Any, Any]]) -> str:
    """The changes in words; of a Secret never a value."""
    if write.ref.resource == SECRETS:
        old, new = ((body or {}).get("data") or {} for body in (write.before, write.after))
        sorts = {
            "adds": sorted(new.keys() - old.keys()),
            "changes": sorted(key for key in old.keys() & new.keys() if old[key] != new[key]),
            "removes": sorted(old.keys() - new.keys()),
        }
        return "; ".join(f"{sort} {', '.join(keys)}" for sort, keys in sorts.items() if keys) or "its annotations"
    shown = [change for change in changes if not change[0].endswith(ANNOTATION_DESIRED_HASH)]
    return "; ".join(f"{path}: {_value(old)} -> {_value(new)}" for path, old, new in shown)


def _changes(before: Any, after: Any, path: str = "", *, quantity: bool = False) -> Iterator[tuple[str, Any, Any]]:
    """Which fields differ, lists as a whole; not what the API server itself writes."""
    if not (isinstance(before, Mapping) and isinstance(after, Mapping)):
        if not _same(before, after, quantity=quantity):
            yield path, before, after
        return
    for key in sorted(before.keys() | after.keys()):
        if (not path and key == "status") or (path == "metadata" and key in _SERVERS):
            continue
        inner = f"{path}.{key}" if path else str(key)
        yield from _changes(
            before.get(key, _ABSENT), after.get(key, _ABSENT), inner, quantity=quantity or key in _QUANTITIES
        )


def _same(before: Any, after: Any, *, quantity: bool) -> bool:
    if before == after or (_empty(before) and _empty(after)):
        return True
    numbers = isinstance(before, str | int) and isinstance(after, str | int)
    return quantity and numbers and same_quantity(before, after)


def _empty(value: Any) -> bool:
    return value is _ABSENT or value is None or (isinstance(value, list | Mapping) and not value)


def _value(value: Any) -> str:
    if value is _ABSENT:
        return "nothing"
    return _cut(value if isinstance(value, str) and value else json.dumps(value, default=str), _LONGEST_VALUE)


# --- what would be lost -------------------------------------------------------------------------------------------
def losses(intent: Intent, items: Sequence[PreviewItem], before: Json, after: Json) -> list[str]:
    """What would be gone, or could be had back for a shorter time, each in words.

    Args:
        intent: What the held spec would do.
        items: All of them.
        before: The spec that was applied last, as JSON; empty where there is none.
        after: The one that is held.
    """
    found = [f"{each.what} is deleted" for each in items if each.action == "Delete" and _keeps_data(each.what)]
    found += [f"{each.what} is given up: anybody may claim it" for each in items if _is_given_up(each)]
    if (old := _storage(before)) and (new := _storage(after)) and _less(new, old):
        found.append(f"the database's storage shrinks from {old} to {new}")
    if intent.before is not None and intent.after is not None:
        found += _pin_losses(intent.before, intent.after)
    return found


def _pin_losses(before: TenantRecordSpec, after: TenantRecordSpec) -> Iterator[str]:
    old, new = before.database, after.database
    if old.mode not in (new.mode, "None"):
        yield f"the database mode changes from {old.mode} to {new.mode}: the application loses the database it has"
    elif (old.mode, old.server, old.name) != (new.mode, new.server, new.name) and old.name:
        yield f"the database changes from {old.name} on {old.server} to {new.name} on {new.server}"
    if before.deletion.policy == "Retain" and after.deletion.policy != "Retain":
        yield "deletion.policy: once deleted, the tenant no longer runs on but is destroyed after its window"
    if parse_duration(after.deletion.window) < parse_duration(before.deletion.window):
        yield (
            f"deletion.window: once deleted, the tenant can be had back for {after.deletion.window} instead of "
            f"{before.deletion.window}"
        )


def _keeps_data(what: str) -> bool:
    return what.partition(" ")[0] in KEEPS_DATA


def _is_given_up(each: PreviewItem) -> bool:
    return each.action == "Delete" and each.what.startswith(f"{HOST} ")


def _storage(spec: Json) -> str | None:
    dedicated = (spec.get("database") or {}).get("dedicated") or {}
    size = (dedicated.get("storage") or {}).get("size")
    return str(size) if size is not None else None


def _less(one: str, other: str) -> bool:
    try:
        return parse_quantity(one) < parse_quantity(other)
    except ValueError:
        return False


# --- all of it ----------------------------------------------------------------------------------------------------
def preview_of(intent: Intent, *, generation: int, before: Json, after: Json) -> Preview:
    """The preview of a held spec; the same intent gives the same one.

    Args:
        intent: What it would do.
        generation: Of the Tenant with the held spec.
        before: The spec that was applied last, as JSON; empty where there is none.
        after: The one that is held.
    """
    told = [*items_of(intent.writes), *intent.steps, *limit_items(*intent.limits)]
    items = sorted(told, key=lambda each: (_ORDER.index(each.action), each.what))
    lost = losses(intent, items, before, after)
    refusals = refusals_of(intent.outcomes)
    counts = {action: sum(each.action == action for each in items) for action in _ORDER}
    return Preview(
        generation=generation,
        message=_summary(counts, lost, refusals),
        data_loss=bool(lost),
        data_loss_reasons=_few([_cut(line, MAX_LINE) for line in lost], MOST_REASONS),
        to_create=counts["Create"],
        to_change=counts["Change"],
        to_delete=counts["Delete"],
        items=items[:MOST_ITEMS],
        left_out=max(0, len(items) - MOST_ITEMS),
        refusals=refusals[:MOST_REASONS],
        fields=_few([_cut(path, MAX_DETAIL) for path in changed_fields(before, after)], MOST_FIELDS),
    )


def refusals_of(outcomes: Mapping[ConditionType, Outcome]) -> list[PreviewRefusal]:
    """What would stop the spec, or make it wait; what stops it first."""
    bad = [(kind, each) for kind, each in outcomes.items() if each.status is not True and each.reason not in PASSES]
    return [
        PreviewRefusal(condition=kind.value, reason=each.reason.value, message=_cut(each.message, MAX_LINE))
        for kind, each in sorted(bad, key=lambda entry: not entry[1].terminal)
    ]


def changed_fields(before: Json, after: Json) -> list[str]:
    """Which fields of a spec differ, lists as a whole: their names, never what they say."""
    return [path for path, _, _ in _changes({"spec": before}, {"spec": after})]


def held_outcome(preview: Preview | None) -> Outcome:
    """What the condition ChangeHeld says; None where the annotation is there, and the spec is the applied one."""
    if preview is None:
        return Outcome(False, Reason.NOTHING_HELD, f"{ANNOTATION_DRY_RUN} is set: the next change of the spec is held")
    reason = Reason.DRY_RUN_REFUSED if preview.refusals else Reason.DRY_RUN
    return Outcome(
        True, reason, f"generation {preview.generation} is held by {ANNOTATION_DRY_RUN}, and {preview.message}"
    )


def _summary(counts: Mapping[Action, int], lost: Sequence[str], refusals: Sequence[PreviewRefusal]) -> str:
    parts = [f"{action.lower()} {counts[action]}" for action in reversed(_ORDER) if counts[action]]
    told = f"would {', '.join(parts)}" if parts else "would change nothing on the target"
    if lost:
        told += f"; data loss: {lost[0]}" + (f", and {len(lost) - 1} more" if len(lost) > 1 else "")
    if refusals:
        told += f"; would not get Ready: {refusals[0].reason}: {refusals[0].message}"
    return _cut(told, MAX_LINE)


def _few(lines: Sequence[str], most: int) -> list[str]:
    if len(lines) <= most:
        return list(lines)
    return [*lines[: most - 1], f"and {len(lines) - most + 1} more"]


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
