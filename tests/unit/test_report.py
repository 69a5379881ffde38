"""The report of a pass: one status write, an Event where Ready changes, nothing lost of what was known before."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, cast

import pytest
from tests.unit.fake_time import FakeTime
from tests.unit.test_status import merged

from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.resources import TENANTS, Ref
from tenantry.api.tenant import Tenant
from tenantry.decide.conditions import GOOD, PENDING, Outcome
from tenantry.ports.kube import ForbiddenError, KubeError, UnreachableError
from tenantry.ports.world import Json
from tenantry.reconcile.ledger import Ledger
from tenantry.reconcile.report import Report
from tenantry.reconcile.world import Settings, World

ACME = Ref(TENANTS, "shop", "acme")
KINDS = (ConditionType.PLACED, ConditionType.NAMESPACE_READY, ConditionType.DATABASE_READY)
FORGED = {
    "type": "Ready", "status": "Unknown", "reason": "Progressing", "message": "", "observedGeneration": 1,
    "lastTransitionTime": "never",
}  # fmt: skip


class Scene:
    """A tenant in a store that takes status patches, and a list of the Events."""

    def __init__(self, status: Json | None = None) -> None:
        self.time = FakeTime()
        self.body: Json = {
            "apiVersion": TENANTS.api_version,
            "kind": TENANTS.kind,
            "metadata": {"name": "acme", "namespace": "shop", "uid": "u", "generation": 1},
            "spec": {},
            "status": status or {"observedGeneration": -1},
        }
        self.patches: list[Json] = []
        self.events: list[tuple[bool, str]] = []
        nothing = cast("Any", None)
        port = cast("Any", self)
        self.world = World(
            settings=Settings("m", "tenantry-system"), management=port, live=port, ledger=Ledger(), targets=nothing,
            servers=nothing, own_servers=nothing, clock=self.time, dns=nothing, events=port, wake=nothing,
            token=lambda: "", certificate=nothing, jitter=float, copier=nothing,
        )  # fmt: skip

    def get(self, ref: Ref) -> Json:
        assert ref == ACME
        return copy.deepcopy(self.body)

    def observe(self, body: Json) -> None:
        self.body = body

    async def merge_patch(self, ref: Ref, patch: Json, *, subresource: str = "") -> Json:
        assert (ref, subresource) == (ACME, "status")
        self.patches.append(patch)
        return dict(merged(self.body, patch))

    def emit(self, about: Mapping[str, Any], *, warning: bool, reason: str, message: str) -> None:
        assert about["metadata"]["uid"] == "u"
        assert message
        self.events.append((warning, reason))

    def report(self, **outcomes: Outcome) -> Report:
        """Of a new pass, which has found out this much."""
        found = dict.fromkeys(KINDS, PENDING) | {ConditionType(kind): each for kind, each in outcomes.items()}
        return Report(self.world, Tenant.model_validate(self.body), found)

    def told(self) -> dict[str, tuple[str, str]]:
        """Status and reason by condition."""
        return {each["type"]: (each["status"], each["reason"]) for each in self.body["status"]["conditions"]}


ALL_GOOD = {kind.value: GOOD for kind in KINDS}


async def test_on_the_first_visit_all_is_unknown_and_in_progress_and_no_event_says_so() -> None:
    scene = Scene()
    await scene.report(Placed=GOOD).write_first()
    assert scene.told() == {
        "Ready": ("Unknown", "Progressing"), "Reconciling": ("True", "Progressing"), "Placed": ("True", "Ready"),
        "NamespaceReady": ("Unknown", "Progressing"), "DatabaseReady": ("Unknown", "Progressing"),
    }  # fmt: skip
    assert scene.body["status"]["observedGeneration"] == 1
    assert scene.events == []
    await scene.report().write_first()
    assert len(scene.patches) == 1


async def test_a_second_pass_that_finds_the_same_writes_nothing_and_tells_nobody() -> None:
    scene = Scene()
    for _ in range(3):
        await scene.report(**ALL_GOOD).write()
        scene.time.advance(3600)
    assert scene.told()["Ready"] == ("True", "Ready")
    assert len(scene.patches) == 1
    assert scene.events == [(False, "Ready")]


async def test_an_event_is_emitted_where_ready_changes_and_is_a_warning_where_it_is_not_true() -> None:
    scene = Scene()
    stalled = Outcome(False, Reason.DATABASE_MISSING, "gone", terminal=True)
    for outcome in (GOOD, stalled, stalled, GOOD):
        await scene.report(**{**ALL_GOOD, "DatabaseReady": outcome}).write()
    assert scene.events == [(False, "Ready"), (True, "DatabaseMissing"), (False, "Ready")]


async def test_what_was_known_stays_in_the_status_while_the_tenant_cannot_be_worked_on() -> None:
    known = {"observedGeneration": 1, "cluster": "eu-1", "namespace": "shop-acme", "url": "https://a.com"}
    scene = Scene({**known, "hosts": ["a.com"], "effective": {"plan": "basic", "limits": {"A": "1"}}})
    await scene.report(Placed=Outcome(None, Reason.CLUSTER_NOT_ALLOWED, "not any more")).write()
    assert scene.told()["Ready"] == ("Unknown", "ClusterNotAllowed")
    assert scene.body["status"].items() >= {**known, "hosts": ["a.com"]}.items()
    assert scene.body["status"]["effective"]["limits"] == {"A": "1"}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UnreachableError("no answer"), Reason.CLUSTER_UNREACHABLE),
        (ForbiddenError("no", status=403), Reason.RETRYING),
        (KubeError("odd", status=418), Reason.RETRYING),
    ],
)
def test_trouble_is_told_under_the_first_concern_that_is_not_good_and_is_tried_again(
    error: KubeError, reason: Reason
) -> None:
    report = Scene().report(Placed=GOOD)
    report.trouble(error)
    assert report.outcomes[ConditionType.NAMESPACE_READY] == Outcome(None, reason, error.message)
    assert report.outcomes[ConditionType.PLACED] == GOOD
    assert report.retry
    assert report.good(ConditionType.PLACED)
    assert not report.good(ConditionType.PLACED, ConditionType.NAMESPACE_READY)


async def test_waiting_for_the_quota_alone_keeps_the_first_visits_words_for_a_few_seconds_only() -> None:
    scene = Scene()
    await scene.report(Placed=GOOD).write_first()
    quota = {**ALL_GOOD, "NamespaceReady": Outcome(None, Reason.QUOTA_NOT_ENFORCED, "not yet")}
    scene.time.advance(5)
    await scene.report(**quota).write()
    assert scene.told()["Ready"] == ("Unknown", "Progressing")
    scene.time.advance(6)
    await scene.report(**quota).write()
    assert scene.told()["Ready"] == ("Unknown", "QuotaNotEnforced")


async def test_a_status_that_somebody_forged_holds_nothing_up() -> None:
    scene = Scene({"observedGeneration": 1, "conditions": [FORGED]})
    await scene.report(**{**ALL_GOOD, "NamespaceReady": Outcome(None, Reason.QUOTA_NOT_ENFORCED, "not yet")}).write()
    assert scene.told()["Ready"] == ("Unknown", "QuotaNotEnforced")
    assert {each["lastTransitionTime"] for each in scene.body["status"]["conditions"]} == {"2026-01-01T00:00:00Z"}
