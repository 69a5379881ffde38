"""Where a tenant is placed: only where it may be and where there is room; once placed, it stays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.strategies import calmly, cluster, cluster_specs

from tenantry.api.cluster import ClusterSpec
from tenantry.api.conditions import Reason
from tenantry.api.tenant import Placement
from tenantry.decide.halt import Halt, Terminal, Waiting
from tenantry.decide.placement import Candidate, check_use, means, place
from tenantry.decide.workspaces import allows

PROD = {"stage": "prod"}
candidate_lists = st.lists(
    st.builds(
        lambda name, spec, tenants, available, claimed: Candidate(cluster(name, spec), tenants, available, claimed),
        st.sampled_from(["a", "b", "c"]),
        cluster_specs,
        st.integers(0, 4),
        st.booleans(),
        st.booleans(),
    ),
    max_size=3,
    unique_by=lambda candidate: candidate.cluster.name,
)
placements = st.one_of(
    st.none(),
    st.builds(Placement, cluster=st.sampled_from(["a", "b", "missing"])),
    st.builds(Placement, region=st.sampled_from(["fra", "ams"])),
    st.builds(Placement, region=st.just("fra"), environment=st.sampled_from(["prod", "dev"])),
)
workspaces = st.sampled_from([{}, PROD, {"stage": "dev"}])


def candidate(name: str, tenants: int = 0, *, available: bool = True, claimed: bool = False, **spec: Any) -> Candidate:
    fields = {"allowedWorkspaces": {"from": "All"}, "region": "fra", **spec}
    return Candidate(cluster(name, ClusterSpec.model_validate(fields)), tenants, available, claimed)


def halt(placement: Placement | None, *candidates: Candidate, exclusive: bool = False) -> Halt:
    with pytest.raises(Halt) as caught:
        place(placement, PROD, candidates, exclusive=exclusive)
    return caught.value


@calmly
@given(placements, workspaces, candidate_lists, st.sampled_from([None, "prod"]), st.booleans())
def test_a_chosen_cluster_is_allowed_schedulable_not_full_nobodys_own_and_what_was_asked_for(
    placement: Placement | None,
    labels: dict[str, str],
    candidates: list[Candidate],
    environment: str | None,
    exclusive: bool,
) -> None:
    try:
        chosen = place(placement, labels, candidates, environment, exclusive=exclusive)
    except Halt:
        return
    spec = chosen.spec
    found = next(c for c in candidates if c.cluster.name == chosen.name)
    tenants = found.tenants
    assert not found.claimed
    assert not (exclusive and tenants), "who is to have it alone gets an empty one"
    assert allows(spec.allowed_workspaces, labels)
    assert not spec.unschedulable
    assert spec.capacity is None or spec.capacity.max_tenants is None or tenants < spec.capacity.max_tenants
    if placement is None:
        assert spec.default
    assert means(placement, chosen)
    check_use(chosen, labels)


@calmly
@given(placements, workspaces, candidate_lists)
def test_the_order_of_the_clusters_does_not_matter(
    placement: Placement | None, labels: dict[str, str], candidates: list[Candidate]
) -> None:
    answers = []
    for order in (candidates, candidates[::-1]):
        try:
            answers.append(place(placement, labels, order).name)
        except Halt as found:
            answers.append(found.message)
    assert answers[0] == answers[1]


@calmly
@given(workspaces, candidate_lists)
def test_a_cluster_that_may_not_be_used_is_told_of_like_one_that_is_not_there(
    labels: dict[str, str], candidates: list[Candidate]
) -> None:
    for each in candidates:
        if allows(each.cluster.spec.allowed_workspaces, labels):
            continue
        wish = Placement(cluster=each.cluster.name)
        with pytest.raises(Waiting) as there:
            place(wish, labels, candidates)
        with pytest.raises(Waiting) as missing:
            place(wish, labels, [])
        assert there.value.message == missing.value.message


def test_of_several_the_available_then_the_emptiest_then_the_first_by_name_is_taken() -> None:
    fra = Placement(region="fra")
    assert place(fra, PROD, [candidate("c", 1), candidate("b", 1), candidate("a", 2)]).name == "b"
    assert place(fra, PROD, [candidate("a", 0, available=False), candidate("b", 9)]).name == "b"
    assert place(fra, PROD, [candidate("a", 0, available=False)]).name == "a"


def test_two_defaults_are_ambiguous_unless_the_environment_tells_them_apart() -> None:
    one, other = candidate("a", default=True, environment="prod"), candidate("b", default=True, environment="dev")
    found = halt(None, one, other)
    assert isinstance(found, Terminal)
    assert found.reason == Reason.AMBIGUOUS_DEFAULT
    assert "a, b" in found.message
    assert place(None, PROD, [one, other], "dev").name == "b"


@pytest.mark.parametrize(
    ("placement", "spec", "reason"),
    [
        (Placement(cluster="x"), {}, Reason.CLUSTER_NOT_FOUND),
        (Placement(cluster="a"), {"unschedulable": True}, Reason.CLUSTER_UNSCHEDULABLE),
        (Placement(cluster="a"), {"capacity": {"maxTenants": 0}}, Reason.CLUSTER_FULL),
        (Placement(region="ams"), {}, Reason.NO_CLUSTER_MATCHES),
        (Placement(region="fra"), {"capacity": {"maxTenants": 0}}, Reason.CLUSTER_FULL),
        (None, {}, Reason.NO_CLUSTER_MATCHES),
    ],
)
def test_what_does_not_fit_yet_is_waited_for(placement: Placement | None, spec: dict[str, Any], reason: Reason) -> None:
    found = halt(placement, candidate("a", **spec))
    assert isinstance(found, Waiting)
    assert found.reason == reason


@pytest.mark.parametrize(
    ("candidates", "exclusive", "reason"),
    [
        ([candidate("a", claimed=True)], False, Reason.CLUSTER_CLAIMED),
        ([candidate("a", claimed=True)], True, Reason.CLUSTER_CLAIMED),
        ([candidate("a", 1)], True, Reason.CLUSTER_NOT_EMPTY),
    ],
)
def test_a_cluster_that_is_somebodys_own_is_no_place_and_an_own_one_has_to_be_empty(
    candidates: list[Candidate], exclusive: bool, reason: Reason
) -> None:
    named = halt(Placement(cluster="a"), *candidates, exclusive=exclusive)
    assert (type(named), named.reason) == (Waiting, reason)
    assert "'a'" in named.message
    by_region = halt(Placement(region="fra"), *candidates, exclusive=exclusive)
    assert by_region.reason == Reason.CLUSTER_FULL
    empty = candidate("b", 0)
    assert place(Placement(region="fra"), PROD, [*candidates, empty], exclusive=exclusive).name == "b"


def test_a_placement_is_content_with_what_it_names_and_none_with_everything() -> None:
    home = candidate("a", environment="prod").cluster
    for content in (None, Placement(cluster="a"), Placement(region="fra", environment="prod")):
        assert means(content, home)
    for elsewhere in (Placement(cluster="b"), Placement(region="ams"), Placement(environment="dev")):
        assert not means(elsewhere, home)


def test_a_placed_tenant_may_not_stay_where_it_is_not_allowed() -> None:
    closed = replace(candidate("a", allowedWorkspaces={"from": "None"})).cluster
    with pytest.raises(Waiting, match="does not allow this workspace"):
        check_use(closed, PROD)
