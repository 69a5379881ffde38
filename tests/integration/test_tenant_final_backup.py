"""Final backups that can't be made: what they are of stays until somebody says that it may go without."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import pytest
from tests.controlplane.postgres_binaries import debian_binaries
from tests.integration.node import Node
from tests.integration.own_servers import brought_up
from tests.integration.tenants import condition, wait_for

from tenantry.api.resources import VOLUME_CLAIMS

if TYPE_CHECKING:
    from tests.integration.tenants import Workbench

DATABASE: Final[dict[str, Any]] = {
    "mode": "Dedicated",
    "dedicated": {"version": "15", "size": "small", "storage": {"size": "1Gi"}},
}
PATIENCE = 90.0

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def node(workbench: Workbench) -> Iterator[Node]:
    with Node(workbench.stage.target, workbench.prefix, debian_binaries()) as played:
        yield played


def test_a_server_of_the_tenants_own_is_not_destroyed_without_the_final_backup_that_it_is_to_have(
    workbench: Workbench, node: Node
) -> None:
    plan = workbench.platform(
        "TenantPlan",
        "own",
        allowedModes=["Dedicated"],
        sizes={"small": {"cpu": "250m", "memory": "256Mi"}},
        deletion={"finalBackup": True},
    )
    where = brought_up(workbench, node, plan=plan, database=DATABASE, deletion={"window": "0s"})
    had = [body["metadata"]["uid"] for body in workbench.objects(where, kinds=[VOLUME_CLAIMS])]
    workbench.delete()
    told = workbench.when(
        lambda body: "no final backup can be made yet" in condition(body).get("message", ""),
        "it says why it is still there",
        seconds=PATIENCE,
    )
    assert "to false" in condition(told)["message"]
    assert [body["metadata"]["uid"] for body in workbench.objects(where, kinds=[VOLUME_CLAIMS])] == had
    patch = json.dumps({"spec": {"deletion": {"finalBackup": False}}})
    workbench.stage.management.kubectl("patch", "tenantrecord", where.identity.record, "--type=merge", "-p", patch)
    workbench.gone(seconds=PATIENCE)
    wait_for(lambda: workbench.record(where) == {}, "nothing of it is left", PATIENCE)
