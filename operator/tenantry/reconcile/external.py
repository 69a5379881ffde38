"""External: a database that is somebody else's. Its Secret is read, judged and handed on; nobody is dialled from here.

A workspace chose the address: a connection from the operator would let it look around in the management cluster's
network. So whether anybody can log in is not known, and is said to be unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.identity import TenantIdentity
from tenantry.api.names import (
    ANNOTATION_DATABASE_SECRET,
    ANNOTATION_ROTATE_CREDENTIALS,
    LABEL_DATABASE_SECRET,
    SECRET_DATABASE,
)
from tenantry.api.resources import SECRETS, Ref
from tenantry.api.tenant import Tenant
from tenantry.api.tenantrecord import TenantRecord
from tenantry.decide.conditions import GOOD, Outcome
from tenantry.decide.external import ExternalDatabase, external_database
from tenantry.decide.halt import Terminal, Waiting
from tenantry.desired.blueprint import DatabaseConnection
from tenantry.desired.database import database_secret
from tenantry.ports.kube import CredentialsRefusedError, LiveObjects, UnreachableError
from tenantry.ports.world import Dns, Json

MODE: Final = "External"
FIELD: Final = "spec.database.external.secretRef"
LOOK_AGAIN: Final = 60.0
"""Seconds after which it is looked again where a name leads: a failover to another address must not wait for resync."""
UNRESOLVED_RETRY: Final = 120.0
"""Seconds; a DNS server that its owner made slow on purpose costs seconds of a worker each time."""
MAX_ADDRESSES: Final = 16


@dataclass(frozen=True, slots=True)
class External:
    """An External database, and where it is.

    Attributes:
        secret: The name of the workspace's Secret.
        addresses: Sorted, so that a server that answers in turns changes nothing.
    """

    secret: str
    database: ExternalDatabase
    addresses: tuple[str, ...]

    @property
    def cidrs(self) -> tuple[str, ...]:
        """Its addresses, for the tenant's egress policy."""
        return tuple(f"{address}/{128 if ':' in address else 32}" for address in self.addresses)

    def body(self, identity: TenantIdentity, namespace: str) -> Json:
        """The tenant's Secret, with the same keys as of a Shared database."""
        given = self.database
        connection = DatabaseConnection(
            host=given.host,
            port=given.port,
            database=given.database,
            username=given.username,
            password=given.password,
            ssl_mode=given.ssl_mode,
            ca_pem=given.ca_pem,
            cidrs=self.cidrs,
        )
        return database_secret(identity, namespace, connection, {ANNOTATION_DATABASE_SECRET: self.secret})

    def outcome(self, *, enabled: bool) -> Outcome:
        """What DatabaseReady says: no more than what was looked at."""
        message = f"External: {SECRET_DATABASE} is made from Secret {self.secret!r}; nobody has tried to log in with it"
        if not enabled:
            message += "; its logins are not the operator's to lock while spec.enabled is false"
        again = LOOK_AGAIN if self.database.by_name else None
        return Outcome(True, Reason.NOT_VERIFIED, message, retry_after=again)


def is_external(record: TenantRecord) -> bool:
    """Whether the record pins a database that is somebody else's."""
    return record.spec.database.mode == MODE


def is_copy(secret: Json | None) -> bool:
    """Whether a live `tenant-database` was made from a workspace's Secret, and not for a database of ours."""
    return ANNOTATION_DATABASE_SECRET in ((secret or {}).get("metadata", {}).get("annotations") or {})


@dataclass(frozen=True, slots=True)
class Source:
    """The Secret of a workspace that an External database is described in, as it was at one moment.

    Attributes:
        data: As the API has it, in base64.
    """

    name: str
    data: Mapping[str, str] = field(repr=False)


def source(live: LiveObjects, tenant: Tenant) -> Source:
    """The Secret that the spec names.

    Raises:
        Terminal: the spec names none any more.
        Waiting: SecretNotFound.
    """
    external = tenant.spec.database.external
    if external is None:
        raise Terminal(
            ConditionType.DATABASE_READY,
            Reason.SECRET_NOT_FOUND,
            "this tenant's database is External, and the spec does not name its Secret any more: set "
            f"spec.database.mode: External and {FIELD} again, or mode: None to do without it",
        )
    name = external.secret_ref.name
    secret = live.get(Ref(SECRETS, tenant.workspace, name))
    if secret is None or (secret["metadata"].get("labels") or {}).get(LABEL_DATABASE_SECRET) != "true":
        raise Waiting(
            ConditionType.DATABASE_READY,
            Reason.SECRET_NOT_FOUND,
            f'{FIELD}: this workspace has no Secret {name!r} with the label {LABEL_DATABASE_SECRET}: "true"',
        )
    return Source(name, secret.get("data") or {})


async def look_up(dns: Dns, described: Source) -> External:
    """The database that a tenant's Secret describes, and where that is now.

    Raises:
        Terminal: DatabaseSecretInvalid, AddressRefused; no message has a value in it.
        Waiting: HostNotResolved.
    """
    database = external_database(described.name, described.data)
    host = f"{FIELD}: key 'host' of Secret {described.name!r}"
    try:
        addresses = await dns.addresses(database.host)
    except CredentialsRefusedError as refused:
        raise Terminal(
            ConditionType.DATABASE_READY,
            Reason.ADDRESS_REFUSED,
            f"{host} leads to an address that no tenant is let out to ({refused.reason}); it has to be the database's",
        ) from refused
    except UnreachableError as error:
        raise Waiting(
            ConditionType.DATABASE_READY,
            Reason.HOST_NOT_RESOLVED,
            f"{host} is a name that the operator can't resolve now; what the tenant has stays as it is. A name that "
            "only the target's network knows can't be used: give an IP address",
            retry_after=UNRESOLVED_RETRY,
        ) from error
    if len(addresses) > MAX_ADDRESSES:
        raise Terminal(
            ConditionType.DATABASE_READY,
            Reason.ADDRESS_REFUSED,
            f"{host} leads to more than {MAX_ADDRESSES} addresses; give the name of one database",
        )
    return External(described.name, database, addresses)


def rotation_outcome(tenant: Tenant) -> Outcome:
    """What SecretsReady says of an External database: good, and that a rotation that was asked for never comes."""
    if ANNOTATION_ROTATE_CREDENTIALS not in tenant.metadata.annotations:
        return GOOD
    return Outcome(
        True,
        Reason.ROTATION_NOT_APPLICABLE,
        f"the annotation {ANNOTATION_ROTATE_CREDENTIALS} does nothing with an External database: its password is "
        f"changed by whoever owns it; put the new one into Secret {_named(tenant)!r} and take the annotation off",
    )


def _named(tenant: Tenant) -> str:
    external = tenant.spec.database.external
    return external.secret_ref.name if external is not None else ""
