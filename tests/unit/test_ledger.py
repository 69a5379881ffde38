"""The ledger: after any history it says no more and no less than the records that are there now."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.strategies import calmly

from tenantry.api.identity import TenantIdentity
from tenantry.api.resources import TENANTS, Ref
from tenantry.reconcile.ledger import Ledger

Json = dict[str, Any]

ACME = Ref(TENANTS, "shop", "acme")


def record(
    name: str = "acme", uid: str = "w1", *, cluster: str = "eu-1", server: str = "pg", state: str = "Active"
) -> tuple[str, Json]:
    """The name of a record and its body."""
    identity = TenantIdentity("m", "shop", uid, name)
    body = {
        "metadata": {"name": identity.record},
        "spec": {
            "managementId": "m", "workspace": "shop", "workspaceUid": uid, "tenant": name, "tenantUid": "t",
            "state": state, "cluster": {"name": cluster, "id": f"{cluster}-id", "namespace": f"shop-{name}"},
            "database": {"mode": "Shared", "server": server, "id": f"{server}-id"} if server else {"mode": "None"},
        },
    }  # fmt: skip
    return identity.record, body


histories = st.lists(
    st.tuples(
        st.builds(
            lambda name, uid, cluster, server, state: record(name, uid, cluster=cluster, server=server, state=state),
            st.sampled_from(["acme", "zeta"]),
            st.sampled_from(["w1", "w2"]),
            st.sampled_from(["eu-1", "eu-2"]),
            st.sampled_from(["pg", "pg-2", ""]),
            st.sampled_from(["Active", "Purging"]),
        ),
        st.booleans(),
    ),
    max_size=12,
)


@calmly
@given(histories)
def test_after_any_history_the_answers_are_those_of_the_records_that_are_there(
    history: list[tuple[tuple[str, Json], bool]],
) -> None:
    ledger, there = Ledger(), dict[str, Json]()
    for (name, body), gone in history:
        ledger.note(name, None if gone else body)
        there.pop(name, None)
        if not gone:
            there[name] = body
    specs = [body["spec"] for body in there.values()]
    for cluster in ("eu-1", "eu-2"):
        on_it = [spec for spec in specs if spec["cluster"]["name"] == cluster]
        assert ledger.tenants_on_cluster(cluster) == len(on_it)
        assert ledger.cluster_ids(cluster) == {spec["cluster"]["id"] for spec in on_it}
    for server in ("pg", "pg-2"):
        on_it = [spec for spec in specs if spec["database"].get("server") == server]
        assert ledger.tenants_on_server(server) == len(on_it)
        assert ledger.server_ids(server) == {spec["database"]["id"] for spec in on_it}
    assert len(ledger.entries()) == len(there)
    for name, body in there.items():
        tenant = Ref(TENANTS, "shop", body["spec"]["tenant"])
        assert ledger.tenant_of(name) == tenant
        assert ledger.record_of(tenant) in there
        found = ledger.by_hash(name.rpartition("-")[2])
        assert found is not None
        assert found.tenant == tenant
    for name in ("acme", "zeta"):
        some = any(spec["tenant"] == name for spec in specs)
        assert (ledger.of_tenant(Ref(TENANTS, "shop", name)) is not None) == some


def test_the_end_of_a_predecessors_record_leaves_the_successors_alone() -> None:
    ledger = Ledger()
    old, new = record(uid="w1", cluster="eu-1"), record(uid="w2", cluster="eu-2")
    ledger.note(*old)
    ledger.note(*new)
    ledger.note(*record(uid="w1", cluster="eu-1", state="Purging"))
    assert ledger.record_of(ACME) == new[0]
    ledger.note(old[0], None)
    assert ledger.record_of(ACME) == new[0]
    found = ledger.of_tenant(ACME)
    assert found is not None
    assert found.cluster == "eu-2"


def test_forgetting_what_was_never_there_is_no_error() -> None:
    ledger = Ledger()
    ledger.note("acme-aaaaaaaa", None)
    assert (ledger.entries(), ledger.of_tenant(ACME), ledger.tenants_on_cluster("eu-1")) == ([], None, 0)


def test_another_identity_of_what_a_move_has_left_is_not_hidden_by_that_of_the_tenants_home() -> None:
    ledger = Ledger()
    name, body = record(cluster="eu-1", server="pg")
    left: Json = {"epoch": 1, "leftAt": "2026-05-01T12:00:00Z", "purgeAfter": "2026-05-02T12:00:00Z"}
    left["cluster"] = {**body["spec"]["cluster"], "id": "former-cluster"}
    left["database"] = {**body["spec"]["database"], "id": "former-server"}
    body["spec"]["former"] = [left]
    ledger.note(name, body)
    assert ledger.cluster_ids("eu-1") == {"eu-1-id", "former-cluster"}
    assert ledger.server_ids("pg") == {"pg-id", "former-server"}
    assert (ledger.tenants_on_cluster("eu-1"), ledger.tenants_on_server("pg")) == (1, 1)
