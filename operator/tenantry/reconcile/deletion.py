"""Deleting a Tenant: held or begun, brought to rest or to its end, let go; each step safe to lose, finalizer last."""

from __future__ import annotations

import logging
from typing import Any

from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.names import ANNOTATION_ABORT_DELETION, ANNOTATION_FORCE_ORPHAN, TENANT_FINALIZER
from tenantry.api.resources import TENANT_RECORDS, Ref
from tenantry.api.tenant import Tenant
from tenantry.api.tenantrecord import PinnedDeletion, RecordState, TenantRecord
from tenantry.decide.conditions import Outcome
from tenantry.decide.deletion import departure, keeping_more, pinned_deletion, safer, time_text
from tenantry.decide.halt import Halt, Terminal, Waiting
from tenantry.decide.merging import merge_patch
from tenantry.decide.move import left_behind, rolled_back
from tenantry.ports.kube import ConflictError, KubeError, NotFoundError
from tenantry.reconcile.applied import hold_of
from tenantry.reconcile.holding import Holding, SettlingError, ends_by_itself
from tenantry.reconcile.ledger import others_of
from tenantry.reconcile.memory import Memory
from tenantry.reconcile.placing import usable_target
from tenantry.reconcile.purge import purge
from tenantry.reconcile.quiescence import quiesce
from tenantry.reconcile.records import find_record, remove_record, swap
from tenantry.reconcile.reopening import Reopening
from tenantry.reconcile.report import Report
from tenantry.reconcile.result import Result
from tenantry.reconcile.terms import TermsOfTenants
from tenantry.reconcile.traces import record_of_traces, search
from tenantry.reconcile.workspace import find_workspace, identify
from tenantry.reconcile.world import World

logger = logging.getLogger(__name__)

SEARCH_RETRY = 30.0


class Deletion:
    """What follows a Tenant's deletion. Nothing is rendered or pruned any more, only brought to rest or taken down.

    But for a tenant that a move has stopped, and that is held or runs on: it is opened once more.
    """

    def __init__(self, world: World, memory: Memory, reopening: Reopening) -> None:
        self._world = world
        self._reopening = reopening
        self._memory = memory
        self._holding = Holding(world, memory)
        self._terms = TermsOfTenants(world)

    async def reconcile(self, tenant: Tenant) -> Result:
        """One pass: as far as it goes."""
        if not tenant.has_finalizer:
            return Result()
        report = Report(self._world, tenant, {})
        try:
            await self._end(tenant)
        except SettlingError as settling:
            return Result(requeue_after=settling.seconds)
        except Halt as halt:
            report.outcomes[halt.condition] = Outcome.of(halt)
            await report.write()
            retry_after = halt.retry_after if isinstance(halt, Waiting) else None
            return Result(requeue_after=retry_after or SEARCH_RETRY)
        except ConflictError:
            raise
        except KubeError as error:
            report.trouble(error)
            await report.write()
            return Result.after(error)
        return Result()

    async def _end(self, tenant: Tenant) -> None:
        record = await self._record_of(tenant)
        if self._is_aborted(tenant, record):
            await self._abort(tenant, record)
            return
        if record is None:
            await self._let_go(tenant)
            return
        if record.spec.state == RecordState.ACTIVE:
            try:
                record = await self._begin(tenant, record)
            except Waiting:
                now = find_record(self._world, record.identity)
                if not self._is_aborted(tenant, now):
                    raise
                await self._abort(tenant, now)  # held only now, and aborted before: its record may have been lost
                return
        try:
            record = await self._carry_out(record)
        except (Halt, KubeError) as trouble:
            if not self._may_orphan(tenant, record) or isinstance(trouble, ConflictError):
                raise
            record = await self._orphan(record, getattr(trouble, "message", str(trouble)))
        await self._let_go(tenant)
        await self._after(tenant, record)

    async def _record_of(self, tenant: Tenant) -> TenantRecord | None:
        """The record; where it was lost, made anew from stamps; None where nothing was ever made.

        Raises:
            Waiting: not everything can be searched now.
        """
        world = self._world
        identity = identify(world, tenant, find_workspace(world, tenant.workspace))
        record = find_record(world, identity)
        if record is not None:
            return record
        traces = await search(world, identity)
        if traces.unreachable or (traces.database is not None and traces.cluster is None):
            raise Waiting(
                ConditionType.PLACED,
                Reason.RECORD_MISSING,
                "this tenant has no record; it is let go when every cluster and server was searched for what it "
                f"left; can't be searched now: {', '.join(traces.unreachable) or 'none'}",
                retry_after=SEARCH_RETRY,
            )
        return await record_of_traces(world, tenant, traces, traces.cluster) if traces.cluster is not None else None

    async def _begin(self, tenant: Tenant, record: TenantRecord) -> TenantRecord:
        """The first step: what becomes of the tenant is written down before anything of it is touched.

        Raises:
            Waiting: it is held.
            SettlingError: it waits a moment for others.
        """
        world = self._world
        # The later one: a window that begins in the past would be over before it has begun.
        now = max(world.clock.now(), await world.management.now())
        record = await self._check_held(tenant, record)
        pinned = self._pinned(tenant, record)
        departing = departure(pinned, now)
        if departing["state"] == RecordState.RETAINED:
            await self._let_run_on(tenant, record, "its Tenant is deleted, and what it has runs on")
        change: dict[str, Any] = {
            **departing,
            "deletion": pinned.model_dump(by_alias=True, mode="json"),
            "message": "",
            **self._last_spec(tenant, record),
            **rolled_back(record.spec, time_text(now)),
        }
        if ends_by_itself(tenant, now):
            change["expired"] = True
        elif change["state"] == RecordState.PURGING:
            await self._memory.note_deletion(record)
        return await swap(world, record, change)

    async def _check_held(self, tenant: Tenant, record: TenantRecord) -> TenantRecord:
        """As `Holding.check`; what is held goes on serving, also where a move has stopped it.

        Raises:
            Waiting: it is held.
            SettlingError: it waits a moment for others.
            ConflictError: it was opened again: look again at once.
        """
        try:
            return await self._holding.check(tenant, record)
        except Waiting as held:
            try:
                await self._reopening.reopen(tenant, find_record(self._world, record.identity), "its deletion is held")
            except Waiting as trouble:
                told = f"{held.message}; {trouble.message}"
                raise Waiting(held.condition, held.reason, told, retry_after=trouble.retry_after) from held
            raise

    async def _let_run_on(self, tenant: Tenant, record: TenantRecord, why: str) -> None:
        """What nobody will look after any more serves, unless it can't be reached and the person insists.

        Raises:
            Waiting: it can't be opened yet.
            ConflictError: it was opened again: look again at once.
        """
        try:
            await self._reopening.reopen(tenant, record, why)
        except Waiting:
            if not self._may_orphan(tenant, record):
                raise

    def _pinned(self, tenant: Tenant, record: TenantRecord) -> PinnedDeletion:
        """As its spec and its plan's content that it has say; where these make no sense together, what keeps more.

        Not as another plan says that the spec may name since a moment ago: nobody leaves by terms that he never had.
        Nor as a spec says that was only ever held, where it is not known which one was applied before it.
        """
        terms = self._terms.at_deletion(tenant, find_workspace(self._world, tenant.workspace), record)
        kept = safer(record.spec.deletion, tenant.spec, terms.spec if terms is not None else None)
        if terms is None:
            return kept
        try:
            asked = pinned_deletion(tenant.spec, terms.name, terms.spec)
        except Terminal:
            return kept
        hold = hold_of(self._world, tenant)
        return keeping_more(kept, asked) if hold is not None and hold.applied is None else asked

    def _last_spec(self, tenant: Tenant, record: TenantRecord) -> dict[str, Any]:
        """What an undelete is to apply; of a Tenant whose change is held, what was applied before that."""
        last = record.spec.last_spec
        if tenant.dry_run and last is not None:
            return {}
        body = self._world.live.get(tenant.ref)
        spec = body["spec"] if body is not None else tenant.spec.model_dump(by_alias=True, mode="json")
        return {"lastSpec": merge_patch(last or {}, spec)}

    async def _carry_out(self, record: TenantRecord) -> TenantRecord:
        match record.spec.state:
            case RecordState.DELETED:
                await quiesce(self._world, usable_target(self._world, record), record)
            case RecordState.PURGING:
                record = await purge(self._world, record)
            case _:
                pass  # Retained runs on, Orphaned is looked after when its cluster is back
        return record

    def _may_orphan(self, tenant: Tenant, record: TenantRecord) -> bool:
        """The person said so for this very object, and the cluster or the server is not there."""
        if tenant.metadata.annotations.get(ANNOTATION_FORCE_ORPHAN) != tenant.metadata.uid:
            return False
        clusters, databases = others_of(record.spec)
        targets = [self._world.targets.get(each.name) for each in (record.spec.cluster, *clusters)]
        names = [each.server for each in (record.spec.database, *databases) if each.server]
        servers = [self._world.servers.get(name) for name in names]
        return any(each is None or not each.availability.ok for each in (*targets, *servers))

    async def _orphan(self, record: TenantRecord, why: str) -> TenantRecord:
        pinned = record.spec
        left = f"namespace {pinned.cluster.namespace} on Cluster {pinned.cluster.name}"
        if pinned.database.mode == "Shared":
            left += f", database {pinned.database.name} on DatabaseServer {pinned.database.server}"
        left += "".join(f", from a move {left_behind(side)}" for side in pinned.former)
        message = f"left behind: {left}; it is dealt with when they are back. When it was let go: {why}"[:1024]
        return await swap(self._world, record, {"state": RecordState.ORPHANED.value, "message": message})

    def _is_aborted(self, tenant: Tenant, record: TenantRecord | None) -> bool:
        """Only what is held can be aborted: nobody frees a tenant from its plan by a word written in advance."""
        if tenant.metadata.annotations.get(ANNOTATION_ABORT_DELETION) != tenant.metadata.uid:
            return False
        if record is None:
            return True
        held = record.spec.held_since is not None or tenant.spec.deletion.protected
        return held and record.spec.state == RecordState.ACTIVE

    async def _abort(self, tenant: Tenant, record: TenantRecord | None) -> None:
        """Let the Tenant go and touch nothing: what it has runs on, and who applies it again has it back."""
        if record is not None:
            await self._let_run_on(tenant, record, "its deletion was aborted")
            change = {"state": RecordState.RETAINED.value, "heldSince": None, **self._last_spec(tenant, record)}
            await swap(self._world, record, {**change, **rolled_back(record.spec, time_text(self._world.clock.now()))})
        self._tell(tenant, Reason.RETAINED, "its deletion was aborted: what it has runs on without being managed")
        await self._let_go(tenant)

    async def _after(self, tenant: Tenant, record: TenantRecord) -> None:
        spec = record.spec
        match spec.state:
            case RecordState.PURGING:
                await remove_record(self._world, record)
                logger.info("deleted: nothing of %s is left", record.identity.tenant_id)
            case RecordState.DELETED:
                self._world.wake.wake(Ref(TENANT_RECORDS, "", record.name))
                self._tell(
                    tenant,
                    Reason.DELETED,
                    f"kept until {spec.purge_after}: apply it again, or `tenantry undelete {record.name}`, to have "
                    "it back",
                )
            case RecordState.RETAINED:
                self._tell(tenant, Reason.RETAINED, f"what it has runs on unmanaged: TenantRecord {record.name}")
            case _:
                self._world.wake.wake(Ref(TENANT_RECORDS, "", record.name))
                self._tell(tenant, Reason.ORPHANED, f"TenantRecord {record.name}: {spec.message}", warning=True)

    def _tell(self, tenant: Tenant, reason: Reason, message: str, *, warning: bool = False) -> None:
        logger.info("%s: %s", reason, message)
        about = {
            "apiVersion": tenant.ref.resource.api_version,
            "kind": tenant.ref.resource.kind,
            "metadata": {"name": tenant.name, "namespace": tenant.workspace, "uid": tenant.metadata.uid},
        }
        self._world.events.emit(about, warning=warning, reason=reason, message=message)

    async def _let_go(self, tenant: Tenant) -> None:
        patch = {
            "metadata": {
                "resourceVersion": tenant.metadata.resource_version,
                "finalizers": [name for name in tenant.metadata.finalizers if name != TENANT_FINALIZER],
            }
        }
        try:
            answer = await self._world.management.merge_patch(tenant.ref, patch)
        except NotFoundError:
            return
        if answer["metadata"].get("finalizers"):
            self._world.live.observe(answer)
        else:
            self._world.live.forget(tenant.ref, uid=tenant.metadata.uid)
