"""The stores that backups can be written to now: what BackupStores were found to be, and who may use them."""

from __future__ import annotations

from dataclasses import dataclass, field

from tenantry.api.backupstore import BackupStore
from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.resources import BACKUP_STORES, Ref
from tenantry.api.tenantbackup import BackupPhase, TenantBackup
from tenantry.decide.deletion import parse_time
from tenantry.decide.halt import Waiting
from tenantry.decide.workspaces import allows
from tenantry.ports.backup import BackupObserver, Dumper, Loader, ObjectStore, ObjectStores, Sealer
from tenantry.ports.world import Availability
from tenantry.reconcile.schedules import Schedules
from tenantry.reconcile.shelf import Shelf
from tenantry.reconcile.world import World


@dataclass(frozen=True, slots=True)
class OpenStore:
    """A store that answers, and the keys that go with it.

    Attributes:
        signing_key: Manifests are signed with it.
        recipients: age public keys; empty for a store that is not encrypted.
        identities: age private keys that the operator has; empty where only others can read.
    """

    store: ObjectStore
    signing_key: str = field(repr=False)
    recipients: tuple[str, ...] = ()
    identities: tuple[str, ...] = field(default=(), repr=False)


class OpenStores:
    """By the name of the BackupStore. In memory only: each is found out anew after a start."""

    def __init__(self) -> None:
        self._open: dict[str, OpenStore] = {}
        self._judged: dict[str, Availability] = {}

    def judge(self, name: str, store: OpenStore | None, availability: Availability) -> bool:
        """What a reconcile of the BackupStore found out; whether that changes what can be done with it."""
        former = self._judged.get(name)
        self._judged[name] = availability
        if store is not None:
            self._open[name] = store
        return former is None or former.ok != availability.ok

    def forget(self, name: str) -> None:
        """There is no such BackupStore any more."""
        self._open.pop(name, None)
        self._judged.pop(name, None)

    def get(self, name: str) -> OpenStore | None:
        """The store, if it answers."""
        judged = self._judged.get(name)
        return self._open.get(name) if judged is not None and judged.ok else None

    def why_not(self, name: str) -> str:
        """Why `get` gives nothing."""
        judged = self._judged.get(name)
        return judged.message if judged is not None else "it was not looked at yet"


@dataclass(frozen=True, slots=True)
class BackupKit:
    """What backups take beside the world.

    Attributes:
        worker: This process, as statuses name it: another one after each start.
        observer: Counts.
        shelf: The TenantBackups that there are.
        schedules: What tenants' schedules are.
        untidy: Tenants whose old backups are to be looked through.
    """

    stores: ObjectStores
    sealer: Sealer
    dumper: Dumper
    loader: Loader
    worker: str
    observer: BackupObserver
    opened: OpenStores = field(default_factory=OpenStores)
    shelf: Shelf = field(default_factory=Shelf)
    schedules: Schedules = field(default_factory=Schedules)
    untidy: set[Ref] = field(default_factory=set)

    def note(self, backup: TenantBackup) -> None:
        """A TenantBackup as it is now."""
        if self.shelf.note(backup):
            self.untidy.add(backup.tenant)

    def observe(self, backup: TenantBackup) -> None:
        """A TenantBackup that has just ended."""
        status = backup.status
        began, ended = parse_time(status.started_at), parse_time(status.completed_at)
        seconds = (ended - began).total_seconds() if began is not None and ended is not None else 0.0
        good = status.phase == BackupPhase.COMPLETED
        size = (status.size_bytes or 0) if good else 0
        self.observer.backup_ended(backup.spec.store, good=good, seconds=max(seconds, 0.0), size=size)

    def take_untidy(self) -> list[Ref]:
        """The tenants whose schedule has made a good backup since this was asked last."""
        tenants = sorted(self.untidy, key=str)
        self.untidy.clear()
        return tenants


def probe_key(management_id: str) -> str:
    """The object by which a store is tried: it is there for as long as the store is the one that it was."""
    return f"{management_id}/probe"


def choose_store(world: World, kit: BackupKit, name: str, labels: dict[str, str], *, new: bool) -> OpenStore:
    """The store of that name, if this workspace may use it and it answers; for a new backup, to stay.

    Raises:
        Waiting: StoreNotFound, StoreNotReady.
    """
    body = world.live.get(Ref(BACKUP_STORES, "", name))
    found = BackupStore.model_validate(body) if body is not None else None
    leaving = new and found is not None and found.metadata.deletion_timestamp is not None
    # A workspace learns no more of a store that it may not use than of one that is not there.
    if found is None or leaving or not allows(found.spec.allowed_workspaces, labels):
        raise Waiting(
            ConditionType.READY,
            Reason.STORE_NOT_FOUND,
            f"spec.store: there is no BackupStore {name!r} that this workspace may use",
            retry_after=60.0,
        )
    store = kit.opened.get(name)
    if store is None:
        raise Waiting(
            ConditionType.READY,
            Reason.STORE_NOT_READY,
            f"BackupStore {name!r} is not ready: {kit.opened.why_not(name)}",
            retry_after=30.0,
        )
    return store
