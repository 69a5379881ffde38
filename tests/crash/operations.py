"""What is broken off at each of its writes: what is there before, what a person does, when it is over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from tests.crash.case import TENANT, Case, Names
from tests.crash.looking import Json, Looking
from tests.integration.acting import Api, manifest, pod_spec
from tests.scene.lab import is_ready, plan_body, tenant_body

from tenantry.api.names import (
    ANNOTATION_DRY_RUN,
    ANNOTATION_ROTATE_CREDENTIALS,
    ANNOTATION_ROTATE_SYNC_TOKEN,
    SECRET_DATABASE,
    SECRET_SYNC,
)
from tenantry.api.resources import DEPLOYMENTS, LEASES, TENANT_PLANS, TENANTS, Resource, resource_of
from tenantry.api.tenantrecord import RecordState

LONG_AGO: Final = "2020-01-01T00:00:00Z"
PERSON: Final = "?fieldManager=person&force=true"
ADMIN: Final = [{"role": "Admin", "subjects": [{"kind": "User", "name": "anna"}]}]
VIEW: Final = [{"role": "View", "subjects": [{"kind": "Group", "name": "support"}]}]

Act = Callable[[Looking, Names], None]
Done = Callable[[Looking, Names], bool]


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that people do to a tenant.

    Attributes:
        act: Returns when it was asked for.
        done: Whether all of it has come about in an undisturbed run; later runs are compared with its end.
        after: What comes before it, each brought to its end.
        own_server: The tenant's database is on a server of its own.
    """

    name: str
    act: Act
    done: Done
    after: tuple[Operation, ...] = field(default=())
    own_server: bool = False


def make_plan(looking: Looking, case: Case, **spec: Any) -> None:
    """The run's TenantPlan."""
    usual: Json = {"customHosts": "Any", "env": {"TIER": "basic"}, "deletion": {"minWindow": "0s", "maxWindow": "24h"}}
    usual["maxTenants"] = 1
    usual["allowedModes"] = ["Shared", "Dedicated", "None"]
    usual["sizes"] = {"small": {"cpu": "250m", "memory": "256Mi"}}
    _apply(looking.management, TENANT_PLANS, plan_body(case.plan, **{**usual, **spec}))


def first_spec(case: Case, **spec: Any) -> Json:
    """A Tenant with everything that can be written."""
    return {
        "plan": case.plan,
        "database": {"mode": "Shared", "extensions": ["citext"]},
        "domains": [{"host": case.domains[0]}],
        "env": {"LOG_LEVEL": "info", "COLOR": "grey"},
        "rbac": {"bindings": ADMIN},
        "rotation": {"gracePeriod": "1s", "restartWorkloads": True},
        **spec,
    }


# --- what people do -----------------------------------------------------------------------------------------------
def apply_to_management(looking: Looking, body: Json) -> None:
    """As `kubectl apply` does."""
    _apply(looking.management, resource_of(body), body)


def _apply(api: Api, resource: Resource, body: Json) -> None:
    path = resource.path(body["metadata"].get("namespace", ""), body["metadata"]["name"])
    answer = api.send("PATCH", path + PERSON, body, dry=False, content="application/apply-patch+yaml")
    assert answer.status < 300, answer.message


def apply_tenant(looking: Looking, case: Case, spec: Json) -> None:
    """As `kubectl apply` does."""
    _apply(looking.management, TENANTS, tenant_body(TENANT, case.workspace, **spec))


def _create(looking: Looking, names: Names) -> None:
    apply_tenant(looking, names.case, first_spec(names.case))


def _use(looking: Looking, names: Names) -> None:
    """The tenant's own doing: a workload with three replicas, and a row in its database."""
    labels, pod = {"app": "app"}, pod_spec()
    pod["containers"][0]["envFrom"] = [{"secretRef": {"name": SECRET_DATABASE}}]
    template = {"metadata": {"labels": labels}, "spec": pod}
    spec = {"replicas": 3, "selector": {"matchLabels": labels}, "template": template}
    _apply(looking.target, DEPLOYMENTS, manifest(DEPLOYMENTS, "app", names.namespace, spec=spec))
    write_row(looking, names, "alive")


def write_row(looking: Looking, names: Names, word: str) -> None:
    """As the tenant's application, with what its Secret says."""
    with looking.as_tenant(names) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS canary (word text PRIMARY KEY)")
        connection.execute("INSERT INTO canary VALUES (%s) ON CONFLICT DO NOTHING", (word,))


def _changed(case: Case) -> Json:
    """A domain less and another instead, another environment, one more binding."""
    domains = [{"host": case.domains[1]}]
    return first_spec(case, domains=domains, env={"LOG_LEVEL": "debug"}, rbac={"bindings": [*ADMIN, *VIEW]})


def _update(looking: Looking, names: Names) -> None:
    """A plan's quota, and another spec."""
    make_plan(looking, names.case, quota={"hard": {"pods": "7", "requests.cpu": "1"}})
    apply_tenant(looking, names.case, _changed(names.case))


def _hold(looking: Looking, names: Names) -> None:
    """Another spec under dry-run: nothing of it may come about, whatever is broken off."""
    body = tenant_body(TENANT, names.case.workspace, **_changed(names.case))
    body["metadata"]["annotations"] = {ANNOTATION_DRY_RUN: "true"}
    _apply(looking.management, TENANTS, body)


def _release(looking: Looking, names: Names) -> None:
    """The same spec without the annotation."""
    apply_tenant(looking, names.case, _changed(names.case))


def _disable(looking: Looking, names: Names) -> None:
    apply_tenant(looking, names.case, first_spec(names.case, enabled=False))


def _rotate(looking: Looking, names: Names) -> None:
    rotate_tenant(looking, names, "once")


def rotate_tenant(looking: Looking, names: Names, value: str, annotation: str = ANNOTATION_ROTATE_CREDENTIALS) -> None:
    """Ask for new credentials, by an annotation that was not there before, or did not say this."""
    path = TENANTS.path(names.case.workspace, TENANT)
    change = {"metadata": {"annotations": {annotation: value}}}
    answer = looking.management.patch(path, change, dry=False)
    assert answer.status < 300, answer.message


def _make_token(looking: Looking, names: Names) -> None:
    rotate_tenant(looking, names, "first", ANNOTATION_ROTATE_SYNC_TOKEN)


def _rotate_token(looking: Looking, names: Names) -> None:
    rotate_tenant(looking, names, "second", ANNOTATION_ROTATE_SYNC_TOKEN)


def delete_tenant(looking: Looking, names: Names) -> None:
    """As `kubectl delete` does."""
    answer = looking.management.delete(TENANTS.path(names.case.workspace, TENANT), dry=False)
    assert answer.status < 300, answer.message


def _destroy(looking: Looking, names: Names) -> None:
    """Without a window."""
    apply_tenant(looking, names.case, first_spec(names.case, deletion={"window": "0s"}))
    delete_tenant(looking, names)


def _end_window(looking: Looking, names: Names) -> None:
    """As if the time were over."""
    looking.end_window(names, LONG_AGO)


# --- when it is over ----------------------------------------------------------------------------------------------
def is_there(looking: Looking, names: Names) -> bool:
    """It is Ready as it is written now."""
    tenant = looking.tenant(names)
    return tenant is not None and is_ready(tenant)


def _updated(looking: Looking, names: Names) -> bool:
    tenant = looking.tenant(names)
    if tenant is None or not is_ready(tenant):
        return False
    quota = tenant["status"].get("effective", {}).get("quota", {})
    hosts = tenant["status"].get("hosts", [])
    return quota.get("pods") == "7" and names.case.domains[1] in hosts and names.case.domains[0] not in hosts


def _held(looking: Looking, names: Names) -> bool:
    tenant = looking.tenant(names)
    if tenant is None:
        return False
    conditions = tenant["status"].get("conditions", [])
    judged = (each["observedGeneration"] for each in conditions if each["type"] == "ChangeHeld")
    return next(judged, 0) == tenant["metadata"]["generation"] and is_there(looking, names)


def _released(looking: Looking, names: Names) -> bool:
    tenant = looking.tenant(names)
    return tenant is not None and is_ready(tenant) and names.case.domains[1] in tenant["status"].get("hosts", [])


def _rotated(looking: Looking, names: Names) -> bool:
    """The other login is in use, and the former one is locked."""
    used = looking.secret(names, SECRET_DATABASE).get("username", "")
    open_ = looking.open_roles(names)
    return used.endswith("_1") and open_ == {used} and is_there(looking, names)


def _has_token(looking: Looking, names: Names) -> bool:
    return looking.secret(names, SECRET_SYNC).keys() == {"token"} and is_there(looking, names)


def _token_rotated(looking: Looking, names: Names) -> bool:
    """It is another one, and the former one has ended."""
    bodies = (body for body in looking.on_target(names) if body["metadata"]["name"] == SECRET_SYNC)
    done = any(body["metadata"]["annotations"].get(ANNOTATION_ROTATE_SYNC_TOKEN) == "second" for body in bodies)
    return done and _has_token(looking, names)


def _deleted(looking: Looking, names: Names) -> bool:
    states = [record["spec"]["state"] for record in looking.records(names)]
    return looking.tenant(names) is None and states == [RecordState.DELETED.value]


def _gone(looking: Looking, names: Names) -> bool:
    if looking.tenant(names) is not None or looking.records(names):
        return False
    left = any(looking.on_target(names, place) for place in looking.places)
    return not left and not any(body["kind"] == LEASES.kind for body in looking.of_plan(names))


CREATE: Final = Operation("create", _create, is_there)
USE: Final = Operation("use", _use, is_there, (CREATE,))
UPDATE: Final = Operation("update", _update, _updated, (CREATE,))
HOLD: Final = Operation("hold", _hold, _held, (CREATE,))
RELEASE: Final = Operation("release", _release, _released, (CREATE, HOLD))
DISABLE: Final = Operation("disable", _disable, is_there, (CREATE, USE))
ENABLE: Final = Operation("enable", _create, is_there, (CREATE, USE, DISABLE))
ROTATE: Final = Operation("rotate", _rotate, _rotated, (CREATE, USE))
MAKE_TOKEN: Final = Operation("make-token", _make_token, _has_token, (CREATE, USE))
ROTATE_TOKEN: Final = Operation("rotate-token", _rotate_token, _token_rotated, (CREATE, USE, MAKE_TOKEN))
DELETE: Final = Operation("delete", delete_tenant, _deleted, (CREATE, USE))
UNDELETE: Final = Operation("undelete", _create, is_there, (CREATE, USE, DELETE))
PURGE: Final = Operation("purge", _end_window, _gone, (CREATE, USE, DELETE))
DESTROY: Final = Operation("destroy", _destroy, _gone, (CREATE, USE))

ON_SHARED: Final = (
    *(CREATE, UPDATE, HOLD, RELEASE, ROTATE, MAKE_TOKEN, ROTATE_TOKEN),
    *(DISABLE, ENABLE, DELETE, UNDELETE, PURGE, DESTROY),
)
"""What is done to tenants that stay where they are, with databases on a shared server."""
