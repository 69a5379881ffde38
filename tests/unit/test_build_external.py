"""What a pass took from the Secret of an External database is what it remembers, whatever the Secret says by then."""

from __future__ import annotations

import base64
from typing import Any, cast

from tests.unit.fake_time import FakeTime
from tests.unit.strategies import Json

from tenantry.api.cluster import Cluster, ClusterSpec
from tenantry.api.effective import Effective
from tenantry.api.names import LABEL_DATABASE_SECRET
from tenantry.api.resources import SECRETS, Ref
from tenantry.api.tenant import Tenant
from tenantry.api.tenantplan import TenantPlanSpec
from tenantry.api.tenantrecord import PinnedPlan, TenantRecord
from tenantry.decide.effective import effective
from tenantry.desired.blueprint import Blueprint
from tenantry.reconcile.build import Build
from tenantry.reconcile.ledger import Ledger
from tenantry.reconcile.placing import Placed
from tenantry.reconcile.terms import Terms
from tenantry.reconcile.world import Settings, World

PLAN = TenantPlanSpec.model_validate({"allowedModes": ["External"]})
OWN = {"mode": "External", "external": {"secretRef": {"name": "customer-db"}}}
TENANT = Tenant.model_validate({"metadata": {"name": "acme", "namespace": "shop"}, "spec": {"database": OWN}})
RECORD = TenantRecord.model_validate(
    {
        "metadata": {"name": "acme-aaaaaaaa"},
        "spec": {
            "managementId": "m", "workspace": "shop", "workspaceUid": "u", "tenant": "acme", "tenantUid": "u",
            "cluster": {"name": "eu-1", "id": "i", "namespace": "shop-acme"}, "database": {"mode": "External"},
        },
    }
)  # fmt: skip


class Scene:
    """The caches of a management cluster and a target with one Secret in them."""

    def __init__(self) -> None:
        self.password: str | None = "first"
        self.live = self
        nothing = cast("Any", None)
        self.world = World(
            settings=Settings("m", "tenantry-system"), management=nothing, live=cast("Any", self), ledger=Ledger(),
            targets=nothing, servers=nothing, own_servers=nothing, clock=FakeTime(), dns=nothing, events=nothing,
            wake=nothing, token=lambda: "", certificate=nothing, jitter=float, copier=nothing,
        )  # fmt: skip

    def get(self, ref: Ref) -> Json | None:
        if ref != Ref(SECRETS, "shop", "customer-db") or self.password is None:
            return None
        data = {"password": base64.b64encode(self.password.encode()).decode()}
        return {"metadata": {"labels": {LABEL_DATABASE_SECRET: "true"}}, "data": data}

    def build(self) -> Build:
        mixed: Effective = effective(TENANT.spec, "own", PLAN)
        cluster = Cluster.model_validate({"metadata": {"name": "eu-1"}, "spec": {}})
        terms = Terms("own", PLAN, PinnedPlan(name="own"))
        placed = Placed(RECORD.identity, terms, mixed, RECORD, cluster, cast("Any", self))
        blueprint = Blueprint(
            identity=RECORD.identity, namespace="shop-acme", cluster_name="eu-1", cluster=ClusterSpec(),
            spec=TENANT.spec, effective=mixed, hosts=(), env={},
        )  # fmt: skip
        return Build(self.world, placed, blueprint, None, TENANT)


def test_a_secret_that_changes_during_a_pass_is_not_taken_for_seen_to() -> None:
    scene = Scene()
    digests = []
    for password in ("second", None, "first"):
        build = scene.build()
        before = build.digest()
        scene.password = password
        assert build.digest() == before
        digests.append(before)
    assert len(set(digests)) == 3
    assert scene.build().digest() == digests[0]
