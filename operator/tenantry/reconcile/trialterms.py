"""On which terms backups are restored on trial: the verification of their BackupStore, made ready to be asked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from tenantry.api.backupstore import BackupStore, StoreVerification
from tenantry.api.base import parse_duration
from tenantry.api.databaseserver import DatabaseServer
from tenantry.api.resources import BACKUP_STORES, DATABASE_SERVERS, Ref
from tenantry.decide.quantities import parse_quantity
from tenantry.decide.schedule import ScheduleError, parse
from tenantry.decide.trial import Window
from tenantry.reconcile.schedules import zone_named
from tenantry.reconcile.world import World

_FIELD: Final = "spec.verification"


@dataclass(frozen=True, slots=True)
class Terms:
    """Of one store.

    Attributes:
        interval: From one trial of a tenant to the next; None for never by itself.
        server: The DatabaseServer for all of them; None for each tenant's own.
        window: When they may begin; None for always.
        problem: Why none can be made; empty where nothing is wrong with the terms.
    """

    interval: timedelta | None
    server: str | None = None
    window: Window | None = None
    problem: str = ""


def terms_of(world: World, store: str) -> Terms | None:
    """The terms of a store; None where there is no such BackupStore."""
    body = world.live.get(Ref(BACKUP_STORES, "", store))
    return terms_from(BackupStore.model_validate(body).spec.verification, store) if body is not None else None


def terms_from(verification: StoreVerification, store: str) -> Terms:
    """What a BackupStore says."""
    interval = parse_duration(verification.interval) or None
    window, problem = None, ""
    try:
        window = _window(verification)
    except ScheduleError as error:
        problem = f"{error} (BackupStore {store!r})"
    return Terms(interval, verification.server, window, problem)


def _window(verification: StoreVerification) -> Window | None:
    wanted = verification.window
    if wanted is None:
        return None
    try:
        schedule = parse(wanted.schedule)
    except ScheduleError as error:
        raise ScheduleError(f"{_FIELD}.window.schedule: {error}") from error
    zone = zone_named(wanted.time_zone, f"{_FIELD}.window.timeZone")
    return Window(schedule, zone, parse_duration(wanted.duration))


def capacity_of(spec: DatabaseServer) -> int | None:
    """In bytes, what the databases of a server may take together; None where nobody has said it."""
    capacity = spec.spec.capacity
    if capacity is None:
        return None
    try:
        return int(parse_quantity(capacity.storage))
    except ValueError:
        return None


def problem_of(world: World, verification: StoreVerification, store: str) -> str:
    """What the platform team has to put right for trials to be made, as far as the store itself tells; or nothing."""
    terms = terms_from(verification, store)
    if terms.problem or terms.server is None:
        return terms.problem
    body = world.live.get(Ref(DATABASE_SERVERS, "", terms.server))
    if body is None:
        return f"{_FIELD}.server: there is no DatabaseServer {terms.server!r}"
    if capacity_of(DatabaseServer.model_validate(body)) is None:
        return (
            f"{_FIELD}.server: DatabaseServer {terms.server!r} has no spec.capacity.storage, so its room is not known"
        )
    return ""
