"""The cache of live objects, fed by watches, reads and own writes: never goes back in time or raises the dead."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import orjson

from tenantry.api.names import LABEL_TENANT_HASH
from tenantry.api.resources import Ref, Resource, resource_of
from tenantry.ports.kube import WatchEvent
from tenantry.ports.world import Json

OnChange = Callable[[Ref, str, Json | None], None]
"""Told what somebody else changed: which object, its tenant hash (may be empty), its body or None if it is gone."""

_GONE: Final = b""


@dataclass(slots=True)
class _Entry:
    """The newest that is known of one name.

    Attributes:
        version: resourceVersion; of a deleted object, that of its deletion (or the last known one).
        raw: JSON without managedFields; empty for a deleted object (a tombstone).
        presumed: A tombstone whose `version` may be too low: not a watch told of the end, but an own delete or a read.
        learned: Count of things learned before this; see `LiveCache.mark`.
    """

    version: int
    uid: str
    tenant: str
    raw: bytes
    presumed: bool
    learned: int


@dataclass(slots=True)
class _Flight:
    """Own writes of one name that have not ended.

    Attributes:
        answer: The highest resourceVersion that was answered to us.
        gone: We deleted it, or found it deleted.
        news: Tenants whose object a watch changed meanwhile.
    """

    writers: int = 0
    answer: int = 0
    gone: bool = False
    news: set[str] = field(default_factory=set)


class LiveCache:
    """See `tenantry.ports.kube.LiveObjects`. For one API server, one event loop; nothing here waits.

    Args:
        on_change: Called for changes that others made, never for an echo of our own writes, and not for the first list
            of a kind (whoever waits for that reconciles everything anyway).
        stamp: Label and value that the watches select by. An object without it is not kept, because no watch would tell
            of its changes; one that loses it counts as deleted.
    """

    def __init__(self, on_change: OnChange, *, stamp: tuple[str, str] | None = None) -> None:
        self._on_change = on_change
        self._stamp = stamp
        self._kinds: dict[Resource, dict[tuple[str, str], _Entry]] = {}
        self._tenants: dict[str, set[Ref]] = {}
        self._flights: dict[Ref, _Flight] = {}
        self._listed: dict[tuple[Resource, str], int] = {}
        self._learned = 0

    # --- reading ----------------------------------------------------------------------------------------------
    def get(self, ref: Ref) -> Json | None:
        """A fresh copy of the object without managedFields, or None."""
        entry = self._entry(ref)
        return orjson.loads(entry.raw) if entry and entry.raw else None

    def of_tenant(self, tenant_hash: str) -> list[Json]:
        """All objects with that tenant-hash label, ordered by kind, namespace and name."""
        refs = sorted(self._tenants.get(tenant_hash, ()), key=lambda ref: (ref.resource.kind, ref.namespace, ref.name))
        return [body for ref in refs if (body := self.get(ref)) is not None]

    def all(self, resource: Resource) -> list[Json]:
        """All objects of a kind, ordered by namespace and name."""
        entries = self._kinds.get(resource, {})
        return [orjson.loads(entry.raw) for _, entry in sorted(entries.items(), key=lambda item: item[0]) if entry.raw]

    def tenants(self) -> set[str]:
        """The hashes of all tenants that have an object here."""
        return set(self._tenants)

    # --- what we did and read ourselves -----------------------------------------------------------------------
    def observe(self, body: Json) -> None:
        """Take in an object that an own write or read returned; notifies nobody."""
        ref = _ref(resource_of(body), body)
        version = _version(body)
        if flight := self._flights.get(ref):
            flight.answer = max(flight.answer, version)
            flight.gone = False
        if not self._was_not_listed(ref, version):
            self._take(ref, body, version)

    def forget(self, ref: Ref, *, uid: str = "") -> None:
        """Take out an object that an own delete removed or a read did not find; notifies nobody.

        Only for what is really gone: an object that waits for its finalizers is still there. With a uid, another
        object of that name stays.
        """
        entry = self._entry(ref)
        if entry and entry.raw and uid and entry.uid != uid:
            return
        if flight := self._flights.get(ref):
            flight.gone = True
        if entry and entry.raw:
            self._bury(ref, entry.version, entry.uid, presumed=True)
        elif entry is None and uid:
            self._bury(ref, 0, uid, presumed=True)

    @contextmanager
    def writing(self, ref: Ref) -> Iterator[None]:
        """Around an own write and the `observe` or `forget` of its answer.

        What a watch tells of this object meanwhile is taken in, but `on_change` waits for the end, and is called only
        if the cache then holds something newer than our answer: without that, our own echo, which may come before the
        answer, would look like somebody else's change.
        """
        flight = self._flights.setdefault(ref, _Flight())
        flight.writers += 1
        try:
            yield
        finally:
            flight.writers -= 1
            if not flight.writers:
                del self._flights[ref]
                self._land(ref, flight)

    def _land(self, ref: Ref, flight: _Flight) -> None:
        entry = self._entry(ref)
        if entry and entry.version > flight.answer and (entry.raw or not flight.gone):
            for tenant in sorted(flight.news):
                self._tell(ref, tenant)

    def clear(self) -> None:
        """Forget everything, as if nothing had ever been listed: it was true of another server."""
        self._kinds.clear()
        self._tenants.clear()
        self._listed.clear()

    # --- what the watches say ---------------------------------------------------------------------------------
    def mark(self) -> int:
        """A moment in the order of what was learned: taken before a list is asked for, handed to `replace_all`."""
        return self._learned

    def take_event(self, resource: Resource, event: WatchEvent) -> None:
        """Take in one event of a watch; bookmarks are nothing to it."""
        if event.type == "BOOKMARK":
            return
        ref, version = _ref(resource, event.object), _version(event.object)
        if not self._was_not_listed(ref, version):
            gone = event.type == "DELETED"
            self._report(ref, self._end(ref, version) if gone else self._take(ref, event.object, version))

    def replace_all(
        self, resource: Resource, items: Iterable[Json], resource_version: str, *, namespace: str = "", since: int = 0
    ) -> None:
        """Take in a complete list: what is not in it is gone, unless something newer than the list is known of it.

        Args:
            resource: The kind.
            items: All its objects, of the namespace if one is given.
            resource_version: Of the list.
            namespace: Empty for all.
            since: The `mark` taken before the list was asked for. What was learned before it can't be newer than the
                list; if it seems to be, the server's history was rewound (etcd restored) and the list is the truth.
        """
        listed = int(resource_version)
        known = self._kinds.setdefault(resource, {})
        scope = {key: entry for key, entry in known.items() if not namespace or key[0] == namespace}
        first = (resource, namespace) not in self._listed
        settled = [entry for entry in scope.values() if entry.learned <= since]
        if any(entry.version > listed for entry in settled):
            for entry in settled:
                entry.version = 0
        news: dict[Ref, set[str]] = {}
        for body in items:
            ref = _ref(resource, body)
            scope.pop((ref.namespace, ref.name), None)
            news[ref] = self._take(ref, body, _version(body), since)
        for (where, name), entry in scope.items():
            if entry.version > listed or (entry.presumed and entry.learned > since):
                continue
            if entry.raw:
                ref = Ref(resource, where, name)
                news[ref] = self._end(ref, listed)
            else:
                del known[where, name]  # from now on the list's own version says that it is dead
        self._listed[resource, namespace] = listed
        if not first:
            for ref, tenants in news.items():
                self._report(ref, tenants)

    def _was_not_listed(self, ref: Ref, version: int) -> bool:
        """Whether a complete list, at this version or later, did not have the object: then it was dead by then."""
        scopes = ((ref.resource, ""), (ref.resource, ref.namespace))
        return self._entry(ref) is None and any(version <= self._listed.get(scope, -1) for scope in scopes)

    # --- the one way in ---------------------------------------------------------------------------------------
    def _take(self, ref: Ref, body: Json, version: int, since: int = 0) -> set[str]:
        """Keep the object unless something newer is known. Returns the tenants that this is news for.

        A tombstone that is only presumed holds off every version of that very object, until a list that was asked for
        later (`since`) has it: be it unchanged, as what was forgotten by mistake may be for ever.
        """
        metadata = body["metadata"]
        uid, labels = str(metadata.get("uid") or ""), metadata.get("labels") or {}
        entry = self._entry(ref)
        if entry and _is_outdated(entry, uid, version, since):
            return set()
        if self._stamp and labels.get(self._stamp[0]) != self._stamp[1]:
            return self._end(ref, version)
        tenant = str(labels.get(LABEL_TENANT_HASH) or "")
        tenants = {tenant}
        if entry and entry.raw:
            tenants.add(entry.tenant)
            self._drop_from_index(ref, entry.tenant)
        lean = {**body, "metadata": {name: value for name, value in metadata.items() if name != "managedFields"}}
        self._put(ref, _Entry(version, uid, tenant, _packed(lean), presumed=False, learned=0))
        if tenant:
            self._tenants.setdefault(tenant, set()).add(ref)
        return tenants

    def _end(self, ref: Ref, version: int) -> set[str]:
        """The object is known to have ended at this version, unless something newer is known."""
        entry = self._entry(ref)
        if entry and version < entry.version:
            return set()
        self._bury(ref, version, entry.uid if entry else "", presumed=False)
        return {entry.tenant} if entry and entry.raw else set()

    def _bury(self, ref: Ref, version: int, uid: str, *, presumed: bool) -> None:
        entry = self._entry(ref)
        if entry and entry.raw:
            self._drop_from_index(ref, entry.tenant)
        self._put(ref, _Entry(version, uid, "", _GONE, presumed, learned=0))

    def _put(self, ref: Ref, entry: _Entry) -> None:
        self._learned += 1
        entry.learned = self._learned
        self._kinds.setdefault(ref.resource, {})[ref.namespace, ref.name] = entry

    def _drop_from_index(self, ref: Ref, tenant: str) -> None:
        if refs := self._tenants.get(tenant):
            refs.discard(ref)
            if not refs:
                del self._tenants[tenant]

    def _entry(self, ref: Ref) -> _Entry | None:
        return self._kinds.get(ref.resource, {}).get((ref.namespace, ref.name))

    # --- telling ----------------------------------------------------------------------------------------------
    def _report(self, ref: Ref, tenants: set[str]) -> None:
        if flight := self._flights.get(ref):
            flight.news |= tenants
            return
        for tenant in sorted(tenants):
            self._tell(ref, tenant)

    def _tell(self, ref: Ref, tenant: str) -> None:
        entry = self._entry(ref)
        there = entry is not None and entry.raw and entry.tenant == tenant
        self._on_change(ref, tenant, orjson.loads(entry.raw) if entry and there else None)


def _is_outdated(entry: _Entry, uid: str, version: int, since: int) -> bool:
    """Whether what is known is not older than this version of an object; see `LiveCache._take`."""
    if entry.presumed and entry.learned <= since:
        return version < entry.version
    return version <= entry.version or (entry.presumed and entry.uid == uid)


def _ref(resource: Resource, body: Json) -> Ref:
    metadata = body["metadata"]
    return Ref(resource, str(metadata.get("namespace") or ""), str(metadata["name"]))


def _version(body: Json) -> int:
    return int(body["metadata"]["resourceVersion"])


def _packed(body: Json) -> bytes:
    """JSON in no more memory than it needs: what orjson returns keeps its work space, up to ten times its length."""
    return bytes(memoryview(orjson.dumps(body)))
