"""Throw-away tenants: deleted by the operator when their time is over, and not before."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from tests.controlplane.access import KubectlError
from tests.integration.tenants import wait_for

if TYPE_CHECKING:
    from tests.integration.tenants import Workbench

TTL_SECONDS = 60.0
"""The least that the API takes."""


def test_an_ephemeral_tenant_is_deleted_with_all_it_has_when_its_time_is_over(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    tenant = workbench.make(ephemeral={"ttl": "1m"}, database={"mode": "Shared"})
    with pytest.raises(KubectlError, match="ephemeral can't be changed after creation"):
        workbench.kubectl("patch", "tenant", "acme", "--type=merge", "-p", '{"spec": {"ephemeral": {"ttl": "2m"}}}')
    created = datetime.fromisoformat(tenant["metadata"]["creationTimestamp"])

    def age() -> float:
        return (datetime.now(UTC) - created).total_seconds()

    def asked_to_go() -> bool:
        body = workbench.get()
        return not body or "deletionTimestamp" in body["metadata"]

    wait_for(asked_to_go, "its time is over", TTL_SECONDS + 60)
    assert age() >= TTL_SECONDS - 1, "creationTimestamp is in whole seconds"
    workbench.gone()
    wait_for(lambda: workbench.record(where) == {}, "the record is gone")
    assert workbench.inventory(where) == set()
    assert workbench.database_traces(where) == set()
    events = wait_for(lambda: workbench.events("acme", "Expired"), "it is told")
    assert [(event["type"], event["note"]) for event in events] == [("Normal", "spec.ephemeral.ttl is over")]
    # What git makes again at once would come to its end and be made again for ever: it is told so, and nothing is made.
    workbench.apply(workbench.tenant(ephemeral={"ttl": "1m"}, database={"mode": "Shared"}))
    workbench.told("False", "Expired", None)
    assert workbench.record(where) == {}
    assert workbench.inventory(where) == set()
    workbench.delete()
    workbench.gone()
