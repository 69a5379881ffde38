"""A tenant's login to its database: in the Secret first, then on the server, then proven; changed without an outage."""

from __future__ import annotations

from typing import Final

from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.tenant import Tenant
from tenantry.decide.conditions import GOOD, Outcome
from tenantry.decide.deletion import time_text
from tenantry.decide.halt import Waiting
from tenantry.decide.rotation import Move
from tenantry.desired.blueprint import DatabaseConnection
from tenantry.desired.database import database_secret
from tenantry.desired.encoding import decoded
from tenantry.ports.postgres import DatabaseError, DatabaseUnreachableError
from tenantry.ports.world import Json
from tenantry.reconcile.apply import Applier
from tenantry.reconcile.database import CREATING, READY, SharedDatabase, refused, unreachable
from tenantry.reconcile.placing import Placed
from tenantry.reconcile.rotation import Credentials, Marks, Rotation
from tenantry.reconcile.workloads import Workloads
from tenantry.reconcile.world import World

TOO_MANY_CONNECTIONS: Final = "53300"
MOST_STEPS: Final = 3
"""Of a rotation in one pass: rotate, lock, look again."""
ROTATION_RETRY: Final = 60.0


class DatabaseLogin:
    """The credentials of one tenant in one pass; each step safe to repeat and to lose."""

    def __init__(self, world: World, tenant: Tenant, placed: Placed, shared: SharedDatabase, applier: Applier) -> None:
        self._world = world
        self._placed = placed
        self._shared = shared
        self._applier = applier
        self._admin = shared.server.admin
        self._rotation = Rotation(world, tenant, self._admin, shared.wanted)

    async def connect(self, secret: Json | None, *, was_ready: bool) -> Outcome:
        """Write the Secret, make its password the login's, prove it, mark the claim ready; then rotate if it is time.

        The Secret is written first: a password that only the server knows would be lost with the process.

        Args:
            secret: The live Secret, if there is one.
            was_ready: The database was complete before: its credentials may be in use also where the Secret is gone.

        Returns:
            What SecretsReady says.

        Raises:
            Waiting: ServerNotReady, DatabaseRefused, LoginFailed.
        """
        try:
            credentials = self._kept(secret)
            fresh = credentials is None
            credentials = credentials or await self._made(was_ready)
            await self._write(credentials, secret)
            if fresh or not await self._works(credentials):
                await self._set(credentials)
            await self._admin.mark(self._shared.wanted, before=CREATING, after=READY)
        except DatabaseUnreachableError as error:
            raise unreachable(self._shared, error) from error
        except DatabaseError as error:
            raise refused(error) from error
        return await self._rotate(credentials, secret) if secret is not None and not fresh else GOOD

    async def _rotate(self, credentials: Credentials, secret: Json) -> Outcome:
        """As far as it goes now; what stands in its way makes the tenant no less ready."""
        rotation = self._rotation
        try:
            found = await rotation.next(credentials, secret)
            for _ in range(MOST_STEPS):
                if found.other is None or found.now is None or found.step.move == Move.NOTHING:
                    break
                if found.step.move == Move.ROTATE:
                    credentials = await rotation.renew(credentials, found.other, found.now)
                    await self._write(credentials, secret)
                    rotation.tell()
                else:
                    await rotation.lock(credentials, found.other)
                found = await rotation.next(credentials, secret)
            await rotation.hand_over(credentials)
        except DatabaseError as error:
            return Outcome(True, Reason.ROTATION_PENDING, error.message, retry_after=ROTATION_RETRY)
        workloads = Workloads(self._placed.target, self._placed.record.spec.cluster.namespace)
        if (restarted := await rotation.restart(credentials, workloads)) is not None:
            await self._write(restarted, secret)
        return rotation.outcome(found)

    def _kept(self, secret: Json | None) -> Credentials | None:
        """Those that the Secret says are in use; None where it says nothing sensible."""
        values = decoded(secret.get("data") or {}) if secret is not None else {}
        login = values.get("username", "")
        if login in self._shared.wanted.logins and values.get("password"):
            return Credentials(login, values["password"], Marks.of(secret))
        return None

    async def _made(self, was_ready: bool) -> Credentials:
        """New ones. Where others may be in use (somebody deleted the Secret), of the login that nobody can be using."""
        login, marks = self._shared.wanted.logins[0], Marks(handled=self._rotation.request)
        if was_ready:
            states = await self._admin.logins(self._shared.wanted)
            login = next((state.name for state in states if not state.can_login), login)
            if any(state.can_login for state in states):
                now = await self._admin.now()
                marks = Marks(handled=self._rotation.request, rotated_at=time_text(now))
        return Credentials(login, self._world.token(), marks)

    async def _write(self, credentials: Credentials, secret: Json | None) -> None:
        identity, namespace = self._placed.identity, self._placed.record.spec.cluster.namespace
        body = database_secret(identity, namespace, self._connection(credentials), credentials.marks.annotations())
        await self._applier.apply_secret(body, secret)

    async def _set(self, credentials: Credentials) -> None:
        await self._admin.set_password(self._shared.wanted, credentials.login, credentials.password)
        if not await self._works(credentials):
            raise Waiting(
                ConditionType.DATABASE_READY,
                Reason.LOGIN_FAILED,
                f"the login {credentials.login} can't get into its database with the password that was just set",
                retry_after=10.0,
            )

    async def _works(self, credentials: Credentials) -> bool:
        try:
            return await self._admin.login_works(self._shared.wanted, credentials.login, credentials.password)
        except DatabaseError as error:
            if error.sqlstate == TOO_MANY_CONNECTIONS:
                return True  # counted only after the password was found right: the tenant uses all it has
            raise

    def _connection(self, credentials: Credentials) -> DatabaseConnection:
        endpoint = self._shared.server.endpoint
        return DatabaseConnection(
            host=endpoint.host,
            port=endpoint.port,
            database=self._shared.wanted.database,
            username=credentials.login,
            password=credentials.password,
            ssl_mode=endpoint.ssl_mode,
            ca_pem=endpoint.ca_pem,
            cidrs=self._shared.cidrs,
        )
