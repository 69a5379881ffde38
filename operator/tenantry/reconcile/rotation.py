"""Rotation: new credentials for a tenant without an outage, by turns between its two logins."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from tenantry.api.base import parse_duration
from tenantry.api.conditions import Reason
from tenantry.api.names import (
    ANNOTATION_RESTARTED_FOR,
    ANNOTATION_ROTATE_CREDENTIALS,
    ANNOTATION_ROTATED_AT,
    SECRET_DATABASE,
)
from tenantry.api.tenant import Tenant
from tenantry.decide.conditions import GOOD, Outcome
from tenantry.decide.deletion import parse_time, time_text
from tenantry.decide.rotation import Logins, Move, Schedule, Step, concerns, is_forced, next_step, request_of
from tenantry.ports.postgres import DatabaseAdmin, DatabaseError, LoginState, WantedDatabase
from tenantry.ports.world import Json
from tenantry.reconcile.workloads import Workloads
from tenantry.reconcile.world import World

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Marks:
    """What the Secret remembers of rotations, as annotations; times by the database server's clock.

    Attributes:
        handled: The last request that was done.
        restarted_for: The rotation for which the workloads were restarted.
    """

    rotated_at: str | None = None
    handled: str | None = None
    restarted_for: str | None = None

    @classmethod
    def of(cls, secret: Json | None) -> Marks:
        """Those of a live Secret."""
        annotations = (secret or {}).get("metadata", {}).get("annotations") or {}
        return cls(
            rotated_at=annotations.get(ANNOTATION_ROTATED_AT),
            handled=annotations.get(ANNOTATION_ROTATE_CREDENTIALS),
            restarted_for=annotations.get(ANNOTATION_RESTARTED_FOR),
        )

    def annotations(self) -> Mapping[str, str]:
        """As they are written."""
        values = {
            ANNOTATION_ROTATED_AT: self.rotated_at,
            ANNOTATION_ROTATE_CREDENTIALS: self.handled,
            ANNOTATION_RESTARTED_FOR: self.restarted_for,
        }
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Credentials:
    """A login, its password and what is remembered of them: what is written to the Secret in one piece."""

    login: str
    password: str
    marks: Marks


@dataclass(frozen=True, slots=True)
class Next:
    """The next step, with the login that is not in use and the server's time where the server was asked."""

    step: Step
    other: LoginState | None = None
    now: datetime | None = None


class Rotation:
    """The rotation of one tenant's credentials in one pass."""

    def __init__(self, world: World, tenant: Tenant, admin: DatabaseAdmin, wanted: WantedDatabase) -> None:
        self._world = world
        self._tenant = tenant
        self._admin = admin
        self._wanted = wanted

    @property
    def request(self) -> str | None:
        """The annotation's value."""
        return request_of(self._tenant.metadata.annotations.get(ANNOTATION_ROTATE_CREDENTIALS), None)

    async def next(self, credentials: Credentials, secret: Json) -> Next:
        """The next step; no question is asked where nothing rotates.

        Raises:
            DatabaseError: the server could not be asked.
        """
        spec, marks = self._tenant.spec.rotation, credentials.marks
        rotated_at = parse_time(marks.rotated_at)
        schedule = Schedule(
            request=request_of(self.request, marks.handled),
            interval=parse_duration(spec.interval) if spec.interval is not None else None,
            grace=parse_duration(spec.grace_period),
            cut=is_forced(marks.handled),
        )
        if not concerns(schedule, rotated_at):
            return Next(Step(Move.NOTHING))
        now = await self._admin.now()
        other = next(state for state in await self._admin.logins(self._wanted) if state.name != credentials.login)
        logins = Logins(
            created_at=datetime.fromisoformat(secret["metadata"]["creationTimestamp"]),
            rotated_at=rotated_at,
            former_open=other.can_login,
            former_sessions=other.sessions,
            former_clients=other.clients,
        )
        return Next(next_step(logins, schedule, now), other, now)

    async def renew(self, credentials: Credentials, other: LoginState, now: datetime) -> Credentials:
        """Open the other login with a new password and prove it; nothing uses it before the Secret is written.

        Raises:
            DatabaseError: what stands in the way.
        """
        if other.can_login:  # whoever may still have it is forced out, or is long gone
            await self._cut(other.name)
        password = self._world.token()
        await self._admin.set_password(self._wanted, other.name, password)
        if not await self._admin.login_works(self._wanted, other.name, password):
            raise DatabaseError(f"the new login {other.name} can't get into its database; the former one stays in use")
        marks = replace(credentials.marks, rotated_at=time_text(now), handled=self.request or credentials.marks.handled)
        return Credentials(other.name, password, marks)

    def tell(self) -> None:
        """The Secret has the new credentials."""
        self._tell(warning=False, reason=Reason.ROTATED, message=f"Secret {SECRET_DATABASE} has new credentials")

    async def lock(self, credentials: Credentials, other: LoginState) -> None:
        """The former login is locked.

        Raises:
            DatabaseError: what stands in the way.
        """
        if is_forced(credentials.marks.handled):
            await self._cut(other.name)
            return
        await self._admin.lock_login(self._wanted, other.name, end_sessions=False)
        self._tell(warning=False, reason=Reason.LOGIN_LOCKED, message=f"the former login {other.name} is locked")

    async def hand_over(self, credentials: Credentials) -> None:
        """Give what the logins made as themselves to the owner role; of a tenant that never rotated it may wait.

        What stands in the way (a table in use, a right that the tenant took away) is tried again at the next look.
        """
        if credentials.marks.rotated_at is None:
            return
        try:
            await self._admin.reassign(self._wanted)
        except DatabaseError as error:
            logger.info("what the logins of %s own stays theirs for now: %s", self._wanted.database, error.message)

    async def restart(self, credentials: Credentials, workloads: Workloads) -> Credentials | None:
        """Restart what reads the credentials at its start, once a rotation; what is to be remembered of it."""
        marks = credentials.marks
        if not self._tenant.spec.rotation.restart_workloads or marks.rotated_at in (None, marks.restarted_for):
            return None
        await workloads.restart(str(marks.rotated_at))
        return replace(credentials, marks=replace(marks, restarted_for=marks.rotated_at))

    @staticmethod
    def outcome(found: Next) -> Outcome:
        """What the condition SecretsReady says: it is true all the time, for one login always works."""
        step = found.step
        again = None
        if step.again is not None and found.now is not None:
            again = max(1.0, (step.again - found.now).total_seconds())
        if step.pending:
            return Outcome(True, Reason.ROTATION_PENDING, step.pending, retry_after=again)
        return replace(GOOD, retry_after=again)

    async def _cut(self, login: str) -> None:
        cut = await self._admin.lock_login(self._wanted, login, end_sessions=True)
        who = f": {', '.join(cut.clients)}" if cut.clients else ""
        self._tell(
            warning=bool(cut.sessions),
            reason=Reason.LOGIN_LOCKED,
            message=f"the former login {login} was locked and its {cut.sessions} sessions were ended{who}",
        )

    def _tell(self, *, warning: bool, reason: Reason, message: str) -> None:
        if self._world.rehearsal:
            return
        logger.info("%s: %s", reason, message)
        about = self._world.live.get(self._tenant.ref)
        if about is not None:
            self._world.events.emit(about, warning=warning, reason=reason, message=message)
