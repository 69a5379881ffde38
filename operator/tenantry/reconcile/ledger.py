"""Ledger: an index over the TenantRecords, for the questions that would otherwise read all of them each time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

from tenantry.api.resources import TENANTS, Ref
from tenantry.api.tenantrecord import (
    PinnedCluster,
    PinnedDatabase,
    PinnedPlan,
    RecordState,
    TenantRecord,
    TenantRecordSpec,
)
from tenantry.ports.world import Json


@dataclass(frozen=True, slots=True)
class Entry:
    """What of a record is asked for often.

    Attributes:
        clusters: Ids by name: where the tenant lives, where it moves to, and where moves have left something. More
            than one of a name where these differ.
        servers: As `clusters`, of its databases.
    """

    record: str
    tenant: Ref
    tenant_uid: str
    workspace_uid: str
    incarnation: int
    tenant_hash: str
    cluster: str
    server: str
    clusters: Mapping[str, Set[str]]
    servers: Mapping[str, Set[str]]
    namespace: str
    plan: PinnedPlan | None
    state: str
    deleted_at: str | None
    expired: bool
    held_since: str | None

    @classmethod
    def of(cls, record: TenantRecord) -> Entry:
        """The entry of a record."""
        spec = record.spec
        return cls(
            record=record.name,
            tenant=Ref(TENANTS, spec.workspace, spec.tenant),
            tenant_uid=spec.tenant_uid,
            workspace_uid=spec.workspace_uid,
            incarnation=spec.incarnation,
            tenant_hash=record.identity.tenant_hash,
            cluster=spec.cluster.name,
            server=spec.database.server,
            clusters=_ids((each.name, each.id) for each in (*others_of(spec)[0], spec.cluster)),
            servers=_ids((each.server, each.id) for each in (*others_of(spec)[1], spec.database) if each.server),
            namespace=spec.cluster.namespace,
            plan=spec.plan,
            state=spec.state,
            deleted_at=spec.deleted_at,
            expired=spec.expired,
            held_since=spec.held_since,
        )


class Ledger:
    """Kept up to date by the watch on TenantRecords and by every write of one; holds no more than the records say."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._on_cluster: Counter[str] = Counter()
        self._on_server: Counter[str] = Counter()
        self._by_hash: dict[str, Entry] = {}
        self._of_tenant: dict[Ref, dict[str, Entry]] = {}
        self._leaving: dict[str, Entry] = {}
        self._awaited: dict[str, Mapping[Ref, str]] = {}

    def note(self, name: str, body: Json | None) -> None:
        """Take in a record as it is now; None where it is gone."""
        former = self._entries.pop(name, None)
        if former is not None:
            self._count(former, -1)
            self._by_hash.pop(former.tenant_hash, None)
            self._leaving.pop(name, None)
            namesakes = self._of_tenant[former.tenant]
            namesakes.pop(name)
            if not namesakes:
                del self._of_tenant[former.tenant]
        if body is None:
            return
        entry = Entry.of(TenantRecord.model_validate(body))
        self._entries[name] = entry
        self._by_hash[entry.tenant_hash] = entry
        self._of_tenant.setdefault(entry.tenant, {})[name] = entry
        if entry.deleted_at is not None:
            self._leaving[name] = entry
        self._count(entry, 1)

    def tenants_on_cluster(self, cluster: str) -> int:
        """How many records have something on a Cluster, in whatever state."""
        return self._on_cluster[cluster]

    def tenants_on_server(self, server: str) -> int:
        """How many records have something on a DatabaseServer, in whatever state."""
        return self._on_server[server]

    def entry(self, record: str) -> Entry | None:
        """The entry of a record."""
        return self._entries.get(record)

    def entries(self) -> list[Entry]:
        """All of them."""
        return list(self._entries.values())

    def leaving(self) -> list[Entry]:
        """Those whose deletion has begun."""
        return list(self._leaving.values())

    def cluster_ids(self, cluster: str) -> set[str]:
        """The cluster ids that records have pinned under a Cluster's name."""
        return {each for entry in self._entries.values() for each in entry.clusters.get(cluster, ())}

    def server_ids(self, server: str) -> set[str]:
        """The system identifiers that records have pinned under a DatabaseServer's name."""
        return {each for entry in self._entries.values() for each in entry.servers.get(server, ())}

    def by_hash(self, tenant_hash: str) -> Entry | None:
        """The entry of a tenant hash."""
        return self._by_hash.get(tenant_hash)

    def record_of(self, tenant: Ref) -> str | None:
        """The name of the record of a Tenant."""
        entry = self.of_tenant(tenant)
        return entry.record if entry is not None else None

    def tenant_of(self, record: str) -> Ref | None:
        """The Tenant of a record."""
        entry = self._entries.get(record)
        return entry.tenant if entry is not None else None

    def of_tenant(self, tenant: Ref) -> Entry | None:
        """The entry of a Tenant: of several namesakes the one that is active, or else the last incarnation."""
        namesakes = self._of_tenant.get(tenant)
        if not namesakes:
            return None
        return max(namesakes.values(), key=lambda entry: (entry.state == RecordState.ACTIVE, entry.incarnation))

    def namesakes(self, tenant: Ref) -> list[Entry]:
        """All entries of a workspace's and a tenant's name, of whatever incarnation and workspace UID."""
        return list(self._of_tenant.get(tenant, {}).values())

    def await_records(self, cluster: str, why: Mapping[Ref, str]) -> None:
        """Tenants of which something was found on a cluster, and why their records can't be made yet: all of them."""
        self._awaited[cluster] = why

    def awaited(self, tenant: Ref) -> str | None:
        """Why a record of a tenant of that name can't be made yet; None where none is awaited."""
        return next((why[tenant] for why in self._awaited.values() if tenant in why), None)

    def _count(self, entry: Entry, by: int) -> None:
        for cluster in entry.clusters:
            self._on_cluster[cluster] += by
        for server in entry.servers:
            self._on_server[server] += by


def others_of(spec: TenantRecordSpec) -> tuple[list[PinnedCluster], list[PinnedDatabase]]:
    """Where else than at its place a record says that a tenant has something, or will have."""
    clusters, databases = [side.cluster for side in spec.former], [side.database for side in spec.former]
    if spec.move is not None:
        clusters.append(spec.move.cluster)
        databases.append(spec.move.database)
    return [each for each in clusters if each is not None], [each for each in databases if each is not None]


def _ids(named: Iterable[tuple[str, str]]) -> Mapping[str, Set[str]]:
    """Ids by name."""
    found: dict[str, set[str]] = {}
    for name, each in named:
        found.setdefault(name, set()).add(each)
    return found
