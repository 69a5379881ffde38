"""BackupStore: from a URL and some Secrets to a store that backups are written to, looked at again every minute."""

from __future__ import annotations

import asyncio
from typing import Final

from tenantry.api.backupstore import BackupStore, BackupStoreStatus, StoreSync
from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.names import ANNOTATION_REQUESTED_AT, STORE_FINALIZER
from tenantry.api.resources import TENANT_BACKUPS, Ref
from tenantry.decide.conditions import GOOD, PENDING, Outcome
from tenantry.decide.halt import Halt, Terminal, Waiting
from tenantry.desired.manifest import LEAST_KEY
from tenantry.ports.backup import (
    ObjectMissingError,
    ObjectStore,
    SealError,
    StoreCredentialsError,
    StoreError,
    StoreLocation,
)
from tenantry.reconcile.openstores import BackupKit, OpenStore, probe_key
from tenantry.reconcile.platform import availability_of, conditions_of, platform_secret, set_finalizer
from tenantry.reconcile.result import Result
from tenantry.reconcile.status import write_status
from tenantry.reconcile.syncrequests import SyncRequests
from tenantry.reconcile.trialterms import problem_of
from tenantry.reconcile.world import World

PROBE_SECONDS: Final = 60.0
RETRY_SECONDS: Final = 15.0
ANSWER_SECONDS: Final = 20.0
"""For all that a look at a store takes."""
IN_USE_RETRY: Final = 30.0
CREDENTIALS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "s3": (("accessKeyId", "secretAccessKey"), ("sessionToken",)),
    "gs": (("serviceAccountKey",), ()),
    "az": (("accountName", "accountKey"), ()),
}
"""The keys of the Secret, and those that may be left out, by the URL's scheme."""


class BackupStoreReconciler:
    """Reconciles BackupStores: a client each, tried by writing once, and by listing every minute."""

    def __init__(self, world: World, kit: BackupKit) -> None:
        self._world = world
        self._kit = kit
        self._written: dict[str, StoreLocation] = {}
        self._syncs = SyncRequests(world, kit)

    async def reconcile(self, key: Ref) -> Result:
        """One pass over one BackupStore."""
        body = self._world.live.get(key)
        if body is None:
            self._kit.opened.forget(key.name)
            self._syncs.stop(key.name)
            return Result()
        spec = BackupStore.model_validate(body)
        if spec.metadata.deletion_timestamp:
            return await self._delete(key, spec)
        await set_finalizer(self._world, key, spec.metadata, STORE_FINALIZER, present=True)
        outcomes: dict[ConditionType, Outcome] = {
            ConditionType.CREDENTIALS_VALID: PENDING,
            ConditionType.REACHABLE: PENDING,
        }
        opened: OpenStore | None = None
        try:
            location, opened = self._open(spec)
            await self._examine(spec.name, location, opened.store)
            outcomes = dict.fromkeys(outcomes, GOOD)
        except Halt as halt:
            outcomes[halt.condition] = Outcome.of(halt)
        availability = availability_of(outcomes)
        if self._kit.opened.judge(spec.name, opened, availability):
            self._world.wake.every(TENANT_BACKUPS)
        sync = self._syncs.look_after(spec, opened if availability.ok else None)
        await self._report(key, spec, outcomes, sync)
        return Result(requeue_after=self._world.jitter(PROBE_SECONDS if availability.ok else RETRY_SECONDS))

    def _open(self, spec: BackupStore) -> tuple[StoreLocation, OpenStore]:
        world, wanted = self._world, spec.spec
        credentials: dict[str, str] = {}
        if wanted.credentials_secret_ref is not None:
            keys, optional = CREDENTIALS[wanted.url.partition(":")[0]]
            name = wanted.credentials_secret_ref.name
            credentials = platform_secret(world, name, "credentialsSecretRef", keys, optional)
        signing = platform_secret(world, wanted.signing_secret_ref.name, "signingSecretRef", ("key",))["key"].strip()
        if len(signing) < LEAST_KEY:
            raise _invalid(f"spec.signingSecretRef: the key has fewer than {LEAST_KEY} characters; make a longer one")
        recipients, identities = self._keys(spec)
        location = StoreLocation(wanted.url, wanted.endpoint or "", wanted.region or "", credentials)
        try:
            store = self._kit.stores.open(location)
        except StoreError as error:
            raise _invalid(f"spec.url: {error.message}") from error
        return location, OpenStore(store, signing, recipients, identities)

    def _keys(self, spec: BackupStore) -> tuple[tuple[str, ...], tuple[str, ...]]:
        encryption = spec.spec.encryption
        if encryption is None:
            return (), ()
        recipients, identities = list(encryption.recipients or ()), []
        try:
            if encryption.secret_ref is not None:
                name = encryption.secret_ref.name
                secret = platform_secret(self._world, name, "encryption.secretRef", ("identity",))
                pair = self._kit.sealer.key_of(secret["identity"].strip())
                recipients.append(pair.recipient)
                identities.append(pair.identity)
            self._kit.sealer.check(recipients)
        except SealError as error:
            raise _invalid(f"spec.encryption: {error.message}") from error
        return tuple(dict.fromkeys(recipients)), tuple(identities)

    async def _examine(self, name: str, location: StoreLocation, store: ObjectStore) -> None:
        """Whether it can be written and read; written once for each set of credentials."""
        prefix = f"{self._world.settings.management_id}/"
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await store.list(prefix, most=1)
                if self._written.get(name) != location:
                    probe = probe_key(self._world.settings.management_id)
                    await store.put(probe, b"tenantry\n")
                    if await store.get(probe, most=64) != b"tenantry\n":
                        raise _invalid("spec.url: what was written there is not what is read: it is no object store")
                    self._written[name] = location
        except ObjectMissingError as error:
            raise _invalid(f"spec.url: {error.message}: make the bucket first") from error
        except StoreCredentialsError as error:
            message = f"spec.credentialsSecretRef: {error.message}; it must be allowed to list, read, write and delete"
            raise Terminal(ConditionType.CREDENTIALS_VALID, Reason.UNAUTHORIZED, message) from error
        except StoreError as error:
            raise Waiting(ConditionType.REACHABLE, Reason.UNREACHABLE, error.message) from error
        except TimeoutError as error:
            message = f"the store did not answer within {ANSWER_SECONDS:g} s"
            raise Waiting(ConditionType.REACHABLE, Reason.UNREACHABLE, message) from error

    async def _report(
        self, key: Ref, spec: BackupStore, outcomes: dict[ConditionType, Outcome], sync: StoreSync | None
    ) -> None:
        world = self._world
        problem = problem_of(world, spec.spec.verification, spec.name)
        status = BackupStoreStatus(
            observed_generation=spec.metadata.generation,
            conditions=conditions_of(
                world,
                key,
                outcomes,
                ready_message="backups can be written here"
                + (f"; they can't be restored on trial: {problem}" if problem else ""),
                previous=spec.status.conditions,
                generation=spec.metadata.generation,
            ),
            sync=sync,
            last_handled_reconcile_at=spec.metadata.annotations.get(ANNOTATION_REQUESTED_AT),
        )
        await write_status(world.management, world.live, key, status)

    async def _delete(self, key: Ref, spec: BackupStore) -> Result:
        """Let go of the store, once no TenantBackup names it; what is in it stays."""
        count = sum(body["spec"]["store"] == spec.name for body in self._world.live.all(TENANT_BACKUPS))
        if count:
            outcome = Outcome(
                None, Reason.IN_USE, f"it is let go when the TenantBackups that name it ({count}) are deleted"
            )
            await self._report(key, spec, {ConditionType.REACHABLE: outcome}, spec.status.sync)
            return Result(requeue_after=IN_USE_RETRY)
        self._kit.opened.forget(spec.name)
        self._syncs.stop(spec.name)
        await set_finalizer(self._world, key, spec.metadata, STORE_FINALIZER, present=False)
        return Result()


def _invalid(message: str) -> Terminal:
    return Terminal(ConditionType.CREDENTIALS_VALID, Reason.STORE_SECRET_INVALID, message)
