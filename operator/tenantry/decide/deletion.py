"""What a deletion comes to: its window within the plan's bounds, whether it is held, and when a purge is due."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from tenantry.api.base import parse_duration
from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.tenant import TenantSpec
from tenantry.api.tenantplan import TenantPlanSpec
from tenantry.api.tenantrecord import PinnedDeletion, RecordState
from tenantry.decide.backuppolicy import last_backup
from tenantry.decide.halt import Terminal

DEFAULT_WINDOW: Final = "24h"
NO_WINDOW: Final = "0s"
TIME_FORMAT: Final = "%Y-%m-%dT%H:%M:%SZ"


def pinned_deletion(spec: TenantSpec, plan: str, plan_spec: TenantPlanSpec) -> PinnedDeletion:
    """What is to happen at the tenant's deletion.

    A window that the tenant asks for has to be within the plan's bounds; the default of 24h, or of an ephemeral tenant
    of none, is brought into them.

    Raises:
        Terminal: PlanExceeded.
    """
    least, most = (parse_duration(text) for text in (plan_spec.deletion.min_window, plan_spec.deletion.max_window))
    window = spec.deletion.window
    if window is None:
        window = DEFAULT_WINDOW if spec.ephemeral is None else NO_WINDOW
        default = parse_duration(window)
        if default < least:
            window = plan_spec.deletion.min_window
        elif default > most:
            window = plan_spec.deletion.max_window
    elif not least <= parse_duration(window) <= most:
        raise Terminal(
            ConditionType.PLACED,
            Reason.PLAN_EXCEEDED,
            f"spec.deletion.window: {window} is not within what plan {plan!r} gives, which is "
            f"{plan_spec.deletion.min_window} to {plan_spec.deletion.max_window}",
        )
    final = last_backup(spec, plan, plan_spec)
    return PinnedDeletion(policy=spec.deletion.policy, window=window, final_backup=final)


def safer(pinned: PinnedDeletion, spec: TenantSpec, plan: TenantPlanSpec | None) -> PinnedDeletion:
    """Of what a record and a spec say that make no sense together, what keeps more: a record may know less by now.

    Args:
        pinned: What the record says; the default, where it was lost and made anew.
        spec: What the Tenant says.
        plan: Gives at least its minWindow; None where it is not known.
    """
    # A window that the plan refuses is not had by asking for it; without a plan nothing says that it is refused.
    other = plan.deletion.min_window if plan is not None else spec.deletion.window or NO_WINDOW
    return keeping_more(pinned, PinnedDeletion(policy=spec.deletion.policy, window=other))


def keeping_more(one: PinnedDeletion, other: PinnedDeletion) -> PinnedDeletion:
    """Of two, where nobody knows which one holds, what keeps more: Retain if either says so, and the longer window."""
    policy = "Retain" if "Retain" in (one.policy, other.policy) else one.policy
    window = max(one.window, other.window, key=parse_duration)
    return PinnedDeletion(policy=policy, window=window, final_backup=one.final_backup or other.final_backup)


def departure(pinned: PinnedDeletion, now: datetime) -> dict[str, str]:
    """What a record's spec says of a deletion that begins now."""
    begun = {"deletedAt": time_text(now)}
    if pinned.policy == "Retain":
        return {**begun, "state": RecordState.RETAINED.value}
    window = parse_duration(pinned.window)
    if window > timedelta():
        return {**begun, "state": RecordState.DELETED.value, "purgeAfter": time_text(now + window)}
    return {**begun, "state": RecordState.PURGING.value}


def time_text(moment: datetime) -> str:
    """A time as a record keeps it: UTC, whole seconds."""
    return moment.astimezone(UTC).strftime(TIME_FORMAT)


def parse_time(text: str | None) -> datetime | None:
    """A time that a record keeps; None where there is none, or something else was written there."""
    try:
        return datetime.strptime(text or "", TIME_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class StopRule:
    """When deletions are stopped until somebody confirms them (rule 9 of the design).

    Attributes:
        count: More than this many within the span stop; 0: no number does.
        span: How far back deletions are counted.
        share: More than this part of a workspace's tenants stop; 1: no part does.
        smallest: Workspaces with fewer tenants than this are not looked at for the share.
        settle: How long a deletion waits for others to come, so that the first of many is stopped with them.
        terminating: Whether anything under a workspace or kind that is being deleted is stopped.
    """

    count: int = 10
    span: timedelta = timedelta(minutes=10)
    share: float = 0.5
    smallest: int = 3
    settle: timedelta = timedelta(seconds=2)
    terminating: bool = True


@dataclass(frozen=True, slots=True)
class Departure:
    """One tenant that is leaving: its deletion waits, or began at a time.

    Attributes:
        tenant: Its name, for one that leaves again is not counted twice; empty where that is not known.
    """

    workspace: str
    tenant: str = ""
    began: datetime | None = None


@dataclass(frozen=True, slots=True)
class Gone:
    """What is being deleted above a tenant: its workspace, its kind, or nothing."""

    workspace: bool = False
    kind: bool = False


def stopped(
    rule: StopRule,
    workspace: str,
    departures: Sequence[Departure],
    staying: int,
    above: Gone,
    now: datetime,
) -> str | None:
    """Why a deletion that is about to begin must not, in words for people; None if it may.

    Args:
        rule: The settings.
        workspace: Of the tenant.
        departures: All deletions that wait (this one too) and those that began lately; ephemeral ends are left out.
        staying: How many tenants of the workspace are not leaving.
        above: What else is being deleted.
        now: The time.
    """
    if rule.terminating and above.kind:
        return "the kind Tenant itself is being deleted"
    if rule.terminating and above.workspace:
        return f"the workspace {workspace!r} itself is being deleted"
    lately = [each for each in departures if each.began is None or now - each.began < rule.span]
    named = {(each.workspace, each.tenant) for each in lately if each.tenant}
    counted = [*named, *((each.workspace, "") for each in lately if not each.tenant)]
    if rule.count and len(counted) > rule.count:
        minutes = rule.span.total_seconds() / 60
        return f"{len(counted)} tenants were deleted within {minutes:g} minutes, and more than {rule.count} ask back"
    own = sum(whose == workspace for whose, _ in counted)
    if own + staying >= rule.smallest and own > rule.share * (own + staying):
        return f"{own} of the {own + staying} tenants of workspace {workspace!r} were deleted"
    return None


def held_message(why: str) -> str:
    """What a held deletion tells."""
    return (
        f"nothing is touched yet: {why}. Confirm with `tenantry deletions confirm`, or let the tenants run on with "
        "`tenantry deletions abort`"
    )
