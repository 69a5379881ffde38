"""Ledger: an index over the TenantRecords, for the questions that would otherwise read all of them each time."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from tenantry.api.resources import TENANTS, Ref
from tenantry.api.tenantrecord import RecordState, TenantRecord
from tenantry.ports import Json


@dataclass(frozen=True, slots=True)
class Entry:
    """What of a record is asked for often."""

    tenant: Ref
    tenant_hash: str
    cluster: str
    cluster_id: str
    server: str
    server_id: str
    namespace: str
    state: str


class Ledger:
    """Kept up to date by the watch on TenantRecords and by every write of one; holds no more than the records say."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._on_cluster: Counter[str] = Counter()
        self._on_server: Counter[str] = Counter()
        self._by_hash: dict[str, Entry] = {}
        self._by_tenant: dict[Ref, str] = {}

    def note(self, name: str, body: Json | None) -> None:
        """Take in a record as it is now; None where it is gone."""
        former = self._entries.pop(name, None)
        if former is not None:
            self._count(former, -1)
            self._by_hash.pop(former.tenant_hash, None)
            if self._by_tenant.get(former.tenant) == name:
                self._by_tenant.pop(former.tenant)
        if body is None:
            self._fall_back(former)
            return
        record = TenantRecord.model_validate(body)
        entry = Entry(
            tenant=Ref(TENANTS, record.spec.workspace, record.spec.tenant),
            tenant_hash=record.identity.tenant_hash,
            cluster=record.spec.cluster.name,
            cluster_id=record.spec.cluster.id,
            server=record.spec.database.server,
            server_id=record.spec.database.id,
            namespace=record.spec.cluster.namespace,
            state=record.spec.state,
        )
        self._entries[name] = entry
        self._by_hash[entry.tenant_hash] = entry
        if entry.state == RecordState.ACTIVE or entry.tenant not in self._by_tenant:
            self._by_tenant[entry.tenant] = name
        self._count(entry, 1)

    def tenants_on_cluster(self, cluster: str) -> int:
        """How many records are pinned to a Cluster, in whatever state."""
        return self._on_cluster[cluster]

    def tenants_on_server(self, server: str) -> int:
        """How many records are pinned to a DatabaseServer, in whatever state."""
        return self._on_server[server]

    def entries(self) -> list[Entry]:
        """All of them."""
        return list(self._entries.values())

    def cluster_ids(self, cluster: str) -> set[str]:
        """The cluster ids that records have pinned under a Cluster's name."""
        return {entry.cluster_id for entry in self._entries.values() if entry.cluster == cluster}

    def server_ids(self, server: str) -> set[str]:
        """The system identifiers that records have pinned under a DatabaseServer's name."""
        return {entry.server_id for entry in self._entries.values() if entry.server == server}

    def by_hash(self, tenant_hash: str) -> Entry | None:
        """The entry of a tenant hash."""
        return self._by_hash.get(tenant_hash)

    def record_of(self, tenant: Ref) -> str | None:
        """The name of the record of a Tenant."""
        return self._by_tenant.get(tenant)

    def tenant_of(self, record: str) -> Ref | None:
        """The Tenant of a record."""
        entry = self._entries.get(record)
        return entry.tenant if entry is not None else None

    def of_tenant(self, tenant: Ref) -> Entry | None:
        """The entry of a Tenant."""
        name = self._by_tenant.get(tenant)
        return self._entries.get(name) if name is not None else None

    def _fall_back(self, gone: Entry | None) -> None:
        """A namesake in a workspace that was made anew has a record of its own beside its predecessor's."""
        if gone is not None and gone.tenant not in self._by_tenant:
            for name, entry in self._entries.items():
                if entry.tenant == gone.tenant:
                    self._by_tenant[gone.tenant] = name

    def _count(self, entry: Entry, by: int) -> None:
        self._on_cluster[entry.cluster] += by
        if entry.server:
            self._on_server[entry.server] += by
