"""DatabaseServer: from an address and an admin role to a server that tenants can have databases on."""

from __future__ import annotations

from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.databaseserver import MINIMUM_VERSION, DatabaseServer, DatabaseServerStatus
from tenantry.api.names import ANNOTATION_REQUESTED_AT, SERVER_FINALIZER
from tenantry.api.resources import DATABASE_SERVERS, TENANT_RECORDS, Ref
from tenantry.api.tenantrecord import TenantRecord
from tenantry.decide.conditions import GOOD, PENDING, Outcome
from tenantry.decide.halt import Halt, Terminal, Waiting
from tenantry.decide.move import repinned
from tenantry.ports.kube import CredentialsRefusedError
from tenantry.ports.postgres import DatabaseCredentialsError, DatabaseError, ServerFacts
from tenantry.ports.servers import Server, ServerEndpoint
from tenantry.ports.world import Availability
from tenantry.reconcile.openstores import BackupKit
from tenantry.reconcile.partings import PARTING_RETRY, Partings
from tenantry.reconcile.platform import Counters, availability_of, conditions_of, platform_secret, set_finalizer
from tenantry.reconcile.records import swap
from tenantry.reconcile.result import Result
from tenantry.reconcile.status import write_status
from tenantry.reconcile.world import World

IN_USE_RETRY = 30.0


class DatabaseServerReconciler:
    """Reconciles DatabaseServers: one connection each, judged anew on every pass."""

    def __init__(self, world: World, kit: BackupKit) -> None:
        self._world = world
        self._partings = Partings(world, kit)
        self._counters = Counters()
        self._told: dict[str, tuple[Availability, ServerEndpoint | None]] = {}

    async def reconcile(self, key: Ref) -> Result:
        """One pass over one DatabaseServer."""
        body = self._world.live.get(key)
        if body is None:
            await self._world.servers.disconnect(key.name)
            return Result()
        spec = DatabaseServer.model_validate(body)
        if spec.metadata.deletion_timestamp:
            return await self._delete(key, spec)
        await set_finalizer(self._world, key, spec.metadata, SERVER_FINALIZER, present=True)
        server, outcomes = await self._look(spec)
        return await self._report(key, spec, server.facts if server else None, outcomes)

    async def _look(self, spec: DatabaseServer) -> tuple[Server | None, dict[ConditionType, Outcome]]:
        """What can be found out about it now; told to the tenants that it concerns."""
        outcomes: dict[ConditionType, Outcome] = {
            ConditionType.CREDENTIALS_VALID: PENDING,
            ConditionType.REACHABLE: PENDING,
            ConditionType.ISOLATED: PENDING,
        }
        server: Server | None = None
        try:
            server = await self._connect(spec)
            await self._examine(spec, server, outcomes)
        except Halt as halt:
            outcomes[halt.condition] = Outcome.of(halt)
        self._judge(spec.name, server, outcomes)
        return server, outcomes

    async def _connect(self, spec: DatabaseServer) -> Server:
        admin = platform_secret(
            self._world, spec.spec.admin_secret_ref.name, "adminSecretRef", ("username", "password")
        )
        ca_pem = ""
        if spec.spec.ca_secret_ref is not None:
            ca_pem = platform_secret(self._world, spec.spec.ca_secret_ref.name, "caSecretRef", ("ca.crt",))["ca.crt"]
        endpoint = ServerEndpoint(
            host=spec.spec.host,
            port=spec.spec.port,
            username=admin["username"],
            password=admin["password"],
            ssl_mode=spec.spec.ssl_mode,
            ca_pem=ca_pem,
        )
        try:
            return await self._world.servers.connect(spec.name, endpoint)
        except CredentialsRefusedError as error:
            raise Terminal(ConditionType.REACHABLE, Reason.ADDRESS_REFUSED, f"spec.host: {error.message}") from error
        except DatabaseError as error:
            raise Waiting(ConditionType.REACHABLE, Reason.UNREACHABLE, error.message) from error

    async def _examine(self, spec: DatabaseServer, server: Server, outcomes: dict[ConditionType, Outcome]) -> None:
        try:
            facts = await server.probe()
        except DatabaseCredentialsError as error:
            outcomes[ConditionType.REACHABLE] = GOOD
            raise Terminal(ConditionType.CREDENTIALS_VALID, Reason.UNAUTHORIZED, error.message) from error
        except DatabaseError as error:
            outcomes[ConditionType.CREDENTIALS_VALID] = GOOD
            raise Waiting(ConditionType.REACHABLE, Reason.UNREACHABLE, error.message) from error
        outcomes[ConditionType.REACHABLE] = GOOD
        _check_rights(facts)
        outcomes[ConditionType.CREDENTIALS_VALID] = GOOD
        _check_version(facts)
        await self._identify(spec, facts)
        _check_isolation(facts, spec.spec.admin_secret_ref.name)
        outcomes[ConditionType.ISOLATED] = GOOD

    async def _identify(self, spec: DatabaseServer, facts: ServerFacts) -> None:
        """The same server is registered once, and a name goes on standing for the server it stood for."""
        for other in self._world.servers.all():
            if other.name == spec.name or other.facts is None:
                continue
            body = self._world.live.get(Ref(DATABASE_SERVERS, "", other.name))
            if body is None or other.facts.system_identifier != facts.system_identifier:
                continue
            senior = (body["metadata"]["creationTimestamp"], other.name)
            if senior < (spec.metadata.creation_timestamp, spec.name):
                raise Terminal(
                    ConditionType.REACHABLE,
                    Reason.DUPLICATE_SERVER,
                    f"this is the server that {other.name!r} stands for already; delete one of the two",
                )
        foreign = self._world.ledger.server_ids(spec.name) - {facts.system_identifier}
        if not foreign:
            return
        if spec.accepted_identity != facts.system_identifier:
            raise Terminal(
                ConditionType.REACHABLE,
                Reason.IDENTITY_CHANGED,
                f"the host now leads to server {facts.system_identifier}, but tenants' data is on "
                f"{', '.join(sorted(foreign))}; set it back, or accept it by the annotation "
                f"tenantry.io/accept-identity={facts.system_identifier}",
            )
        for body in self._world.live.all(TENANT_RECORDS):
            record = TenantRecord.model_validate(body)
            if change := repinned(record.spec, "database", spec.name, facts.system_identifier):
                await swap(self._world, record, change)

    def _judge(self, name: str, server: Server | None, outcomes: dict[ConditionType, Outcome]) -> None:
        """Tell the connection; wake the tenants when that changes what they can do, or what their Secrets say."""
        told = self._told.get(name)
        availability = availability_of(outcomes)
        if server is not None:
            server.judge(availability)
        self._told[name] = now = (availability, server.endpoint if server is not None else None)
        if told != now:
            self._world.wake.tenants_of_server(name)

    async def _report(
        self,
        key: Ref,
        spec: DatabaseServer,
        facts: ServerFacts | None,
        outcomes: dict[ConditionType, Outcome],
    ) -> Result:
        world = self._world
        count, later = self._counters.report(
            key, spec.status.databases, facts.databases if facts else spec.status.databases or 0, world.clock.now()
        )
        status = DatabaseServerStatus(
            observed_generation=spec.metadata.generation,
            conditions=conditions_of(
                world,
                key,
                outcomes,
                ready_message="tenants can have databases here",
                previous=spec.status.conditions,
                generation=spec.metadata.generation,
            ),
            system_identifier=facts.system_identifier if facts else spec.status.system_identifier,
            version=_readable_version(facts.version) if facts else spec.status.version,
            databases=count,
            last_handled_reconcile_at=spec.metadata.annotations.get(ANNOTATION_REQUESTED_AT),
        )
        await write_status(world.management, world.live, key, status)
        interval = world.settings.probe
        return Result(requeue_after=min(interval, later or interval))

    async def _delete(self, key: Ref, spec: DatabaseServer) -> Result:
        """Let go of the server, once no tenant has a database on it, and nothing of a restore on trial is left there.

        Until then it is connected as ever, also after a restart: else its tenants could never be deleted.
        """
        world, wait = self._world, IN_USE_RETRY
        server, outcomes = await self._look(spec)
        if count := world.ledger.tenants_on_server(spec.name):
            told = f"it is let go when the tenants with databases on it ({count}) are deleted or moved"
        elif world.trials.on_server(spec.name) is not None:
            told = "it is let go when the backup that is being restored on trial there was dropped"
        elif any(outcome.reason == Reason.DUPLICATE_SERVER for outcome in outcomes.values()):
            told = ""  # the other name of the server goes on looking after it
        else:
            wait, known = PARTING_RETRY, server or world.servers.get(spec.name)  # its Secret may have gone first
            told = await self._partings.wait(spec, known, availability_of(outcomes).message)
        if told:
            await self._tell_waits(key, spec, told)
            return Result(requeue_after=wait)
        await world.servers.disconnect(spec.name)
        self._told.pop(spec.name, None)
        await set_finalizer(world, key, spec.metadata, SERVER_FINALIZER, present=False)
        return Result()

    async def _tell_waits(self, key: Ref, spec: DatabaseServer, told: str) -> None:
        conditions = conditions_of(
            self._world,
            key,
            {ConditionType.REACHABLE: Outcome(None, Reason.IN_USE, told)},
            ready_message="",
            previous=spec.status.conditions,
            generation=spec.metadata.generation,
        )
        status = spec.status.model_copy(
            update={"observed_generation": spec.metadata.generation, "conditions": conditions}
        )
        await write_status(self._world.management, self._world.live, key, status)


def _check_rights(facts: ServerFacts) -> None:
    if facts.missing_rights:
        raise Terminal(
            ConditionType.CREDENTIALS_VALID,
            Reason.PERMISSIONS_MISSING,
            f"the admin role lacks {', '.join(facts.missing_rights)}; run as the server's superuser: "
            f"ALTER ROLE <admin> {' '.join(facts.missing_rights)}",
        )


def _check_version(facts: ServerFacts) -> None:
    if facts.version < MINIMUM_VERSION:
        raise Terminal(
            ConditionType.REACHABLE,
            Reason.VERSION_NOT_SUPPORTED,
            f"PostgreSQL {_readable_version(facts.version)} is too old: 14 and newer are supported",
        )


def _check_isolation(facts: ServerFacts, admin: str) -> None:
    """Whoever may connect to any database of a server lists everybody's names: shut where PUBLIC may by default."""
    if facts.public_connect:
        revoke = " ".join(f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC;" for name in facts.public_connect)
        raise Terminal(
            ConditionType.ISOLATED,
            Reason.PUBLIC_CAN_CONNECT,
            f"every tenant could connect to {' and '.join(facts.public_connect)}; run as the owner of these databases: "
            f"{revoke} GRANT CONNECT ON DATABASE postgres TO the role of Secret {admin!r};",
        )


def _readable_version(version: int) -> str:
    """`server_version_num` as people write it: 150018 is 15.18."""
    return f"{version // 10000}.{version % 10000}"
