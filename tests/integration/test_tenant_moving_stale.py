"""Moves of tenants whose record knows less than is there, or whose logins stay locked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from tests.integration.moves import DAY, PATIENCE, approve, canaries, moved, on, refuses, remove, write
from tests.integration.tenants import condition
from tests.scene.stage import SERVER_15, SERVER_18

from tenantry.api.resources import TENANT_RECORDS

if TYPE_CHECKING:
    from tests.integration.tenants import Whereabouts, Workbench

Json = dict[str, Any]

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def kept(trial: Workbench) -> str:
    return trial.platform("TenantPlan", "kept", customHosts="Any", deletion=DAY)


def put_record(trial: Workbench, where: Whereabouts, former: Json) -> None:
    """As a restored backup of the management cluster does it: all of the spec is what it was."""
    now = trial.record(where)["spec"]
    change = {**dict.fromkeys(now), **former}
    path = TENANT_RECORDS.path(name=where.identity.record)
    answer = trial.management.patch(path, {"spec": change}, dry=False)
    assert answer.status == 200, answer.message


def claim_states(trial: Workbench, where: Whereabouts) -> dict[str, str]:
    """Of the tenant's databases on the newer server."""
    query = "SELECT database, state FROM claims WHERE tenant_hash = %s"
    with psycopg.connect(trial.stage.postgres_18.superuser_dsn("tenantry")) as connection:
        return dict(connection.execute(query, (where.hash,)).fetchall())


def test_a_record_that_is_older_than_a_move_opens_and_empties_nothing(trial: Workbench, kept: str) -> None:
    where = trial.whereabouts()
    trial.make(plan=kept, database=on(SERVER_15))
    old = trial.secret(where, "tenant-database")
    write(old, "before")
    past = trial.record(where)["spec"]
    trial.apply(trial.tenant(plan=kept, database=on(SERVER_18)))
    approve(trial, SERVER_18)
    moved(trial, SERVER_18)
    present, new = trial.record(where)["spec"], trial.secret(where, "tenant-database")
    write(new, "after")
    put_record(trial, where, past)
    told = condition(trial.told("Unknown", "MoveNotSupported", None, seconds=PATIENCE))["message"]
    assert f"{where.database}_e2" in told
    assert "knows nothing" in told
    assert canaries(new) == {"before", "after"}
    assert refuses(old), "never two sides that are written to"
    put_record(trial, where, present)
    trial.ready(seconds=PATIENCE)
    assert canaries(trial.secret(where, "tenant-database")) == {"before", "after"}
    remove(trial)


def test_what_a_move_has_copied_for_a_tenant_that_is_switched_off_counts_as_data(trial: Workbench, kept: str) -> None:
    where = trial.whereabouts()
    trial.make(plan=kept, database=on(SERVER_15))
    write(trial.secret(where, "tenant-database"), "alive")
    trial.apply(trial.tenant(plan=kept, database=on(SERVER_15), enabled=False))
    trial.told("True", "Disabled", None)
    trial.apply(trial.tenant(plan=kept, database=on(SERVER_18), enabled=False))
    approve(trial, SERVER_18)
    trial.when(
        lambda body: (body["status"].get("move") or {}).get("phase") == "Completed", "it is moved", seconds=PATIENCE
    )
    assert claim_states(trial, where) == {f"{where.database}_e2": "ready"}
    trial.apply(trial.tenant(plan=kept, database=on(SERVER_18)))
    trial.ready(seconds=PATIENCE)
    assert canaries(trial.secret(where, "tenant-database")) == {"alive"}
    remove(trial)
