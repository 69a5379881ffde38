"""Extensions of a Shared database: made when asked for, never dropped by the operator, for data hangs on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
from tests.integration.tenants import condition
from tests.scene.stage import EXTENSIONS

if TYPE_CHECKING:
    from tests.integration.tenants import Whereabouts, Workbench


def shared(*extensions: str) -> dict[str, Any]:
    return {"mode": "Shared", "extensions": list(extensions)}


def connect(workbench: Workbench, where: Whereabouts) -> psycopg.Connection[tuple[Any, ...]]:
    return psycopg.connect(workbench.secret(where, "tenant-database")["uri"], autocommit=True, connect_timeout=30)


def there(workbench: Workbench, where: Whereabouts) -> set[str]:
    with connect(workbench, where) as session:
        rows = session.execute("SELECT extname::text FROM pg_extension WHERE extname <> 'plpgsql'").fetchall()
    return {row[0] for row in rows}


def test_an_extension_that_is_asked_for_no_more_stays_with_all_that_uses_it(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    plan = workbench.platform("TenantPlan", "extended", extensions=EXTENSIONS)
    workbench.make(plan=plan, database=shared("citext"))
    with connect(workbench, where) as session:
        session.execute("CREATE TABLE people (name citext)")
        session.execute("INSERT INTO people VALUES ('Anna')")
    workbench.make(plan=plan, database=shared("citext", "pg_trgm"))
    assert there(workbench, where) == {"citext", "pg_trgm"}
    workbench.make(plan=plan, database=shared("pg_trgm"))
    workbench.make(plan=plan, database=shared())
    assert there(workbench, where) == {"citext", "pg_trgm"}
    with connect(workbench, where) as session:
        assert session.execute("SELECT count(*) FROM people WHERE name = 'ANNA'").fetchone() == (1,)


def test_a_tenant_drops_an_extension_itself_and_gets_it_back_only_where_it_asks_for_it(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    plan = workbench.platform("TenantPlan", "extended", extensions=EXTENSIONS)
    workbench.make(plan=plan, database=shared("citext", "pg_trgm"))
    workbench.make(plan=plan, database=shared("pg_trgm"))
    with connect(workbench, where) as session:
        session.execute("DROP EXTENSION citext")
        session.execute("DROP EXTENSION pg_trgm")
    seen = workbench.look_now()
    workbench.when(lambda body: body["status"].get("lastHandledReconcileAt") == seen, "it was looked at again")
    assert there(workbench, where) == {"pg_trgm"}


def test_an_extension_that_a_plan_takes_back_stays_where_it_is_and_is_named_until_nobody_asks(
    workbench: Workbench,
) -> None:
    where = workbench.whereabouts()
    plan = workbench.platform("TenantPlan", "extended", extensions=EXTENSIONS)
    workbench.make(plan=plan, database=shared("citext"))
    workbench.platform("TenantPlan", "extended", extensions=["pg_trgm"])
    tenant = workbench.told("False", "ExtensionNotAllowed", None)
    assert condition(tenant)["message"] == (
        f"spec.database.extensions: plan {plan!r} does not have citext; it has pg_trgm"
    )
    assert there(workbench, where) == {"citext"}
    workbench.make(plan=plan, database=shared())
    assert there(workbench, where) == {"citext"}
