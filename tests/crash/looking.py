"""All that one tenant has anywhere, in a form in which two runs can be compared, and what one of them has too much."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any, Final, Self

import psycopg
from tests.controlplane.postgres_access import PostgresAccess
from tests.crash.case import TENANT, Names
from tests.integration.acting import Api
from tests.integration.tenants import plain
from tests.scene.faulty import FaultyLab
from tests.scene.installation import NAMESPACE
from tests.scene.snapshot import plain_body

from tenantry.api.names import (
    ANNOTATION_PURGE_AFTER,
    GROUP,
    LABEL_PLAN,
    LABEL_TENANT_HASH,
    SECRET_DATABASE,
    SYSTEM_NAMESPACE,
)
from tenantry.api.resources import (
    CONFIG_MAPS,
    CONTROLLER_REVISIONS,
    DEPLOYMENTS,
    LEASES,
    NAMESPACES,
    SECRETS,
    TENANT_RECORDS,
    TENANTS,
    WATCHED_ON_TARGETS,
    Resource,
)

Json = dict[str, Any]
State = Mapping[str, Any]
"""Everything by kind and name, with placeholders."""

_DATABASES: Final = """
SELECT d.datname, pg_get_userbyid(d.datdba) AS owner, d.datconnlimit, d.datallowconn,
       shobj_description(d.oid, 'pg_database') AS stamp,
       array(SELECT a::text FROM unnest(d.datacl) a ORDER BY 1) AS privileges
  FROM pg_database d WHERE strpos(d.datname, %(hash)s) > 0
"""
_ROLES: Final = """
SELECT r.rolname, r.rolcanlogin, r.rolsuper, r.rolcreatedb, r.rolcreaterole, r.rolbypassrls, r.rolconnlimit,
       r.rolinherit, r.rolreplication, r.rolvaliduntil::text, r.rolpassword IS NOT NULL AS has_password,
       shobj_description(r.oid, 'pg_authid') AS stamp,
       array(SELECT concat_ws(' ', pg_get_userbyid(m.roleid), m.admin_option, m.inherit_option, m.set_option)
               FROM pg_auth_members m WHERE m.member = r.oid ORDER BY 1) AS groups,
       array(SELECT concat_ws(' ', d.datname, s.setconfig::text) FROM pg_db_role_setting s
               LEFT JOIN pg_database d ON d.oid = s.setdatabase WHERE s.setrole = r.oid ORDER BY 1) AS settings
  FROM pg_authid r WHERE strpos(r.rolname, %(hash)s) > 0
"""
IN_POSTGRES: Final = frozenset({"database", "role", "claim", "inside"})
_CLAIMS: Final = "SELECT database, management_id, record, state FROM claims WHERE tenant_hash = %(hash)s"
_INSIDE: Final = """
SELECT array(SELECT concat_ws(' ', nspname, pg_get_userbyid(nspowner), nspacl::text) FROM pg_namespace
              WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' ORDER BY 1) AS schemas,
       array(SELECT concat_ws(' ', extname, pg_get_userbyid(extowner)) FROM pg_extension ORDER BY 1) AS extensions,
       to_regclass('public.canary') IS NOT NULL AS used
"""
_CANARY: Final = "SELECT word FROM public.canary ORDER BY 1"


class Looking:
    """Looks as the administrator of all servers, past the proxies, over connections that are kept."""

    def __init__(self, lab: FaultyLab) -> None:
        self._stack = ExitStack()
        self._postgres: PostgresAccess = lab.postgres.access
        self.management = self._api(lab.management.kubeconfig)
        self.target = self._api(lab.target.kubeconfig)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _api(self, kubeconfig: str) -> Api:
        api = Api(kubeconfig)
        self._stack.callback(api.close)
        return api

    def management_id(self) -> str:
        """The operator's, once it has started."""
        found = self.management.get(CONFIG_MAPS.path(NAMESPACE, "tenantry-identity"))
        return str(found.body["data"]["managementId"])

    def tenant(self, names: Names) -> Json | None:
        """The Tenant; None if it is not there."""
        answer = self.management.get(TENANTS.path(names.case.workspace, TENANT))
        return None if answer.status == 404 else answer.body

    def records(self, names: Names) -> list[Json]:
        """All TenantRecords of the workspace."""
        found = _items(self.management, TENANT_RECORDS)
        return [body for body in found if body["spec"]["workspace"] == names.case.workspace]

    def of_plan(self, names: Names) -> list[Json]:
        """The contents and the slots of the run's plan."""
        query = f"?labelSelector={LABEL_PLAN}%3D{names.case.plan}"
        kinds = (CONTROLLER_REVISIONS, LEASES)
        return [body for kind in kinds for body in _items(self.management, kind, query, namespace=SYSTEM_NAMESPACE)]

    def on_target(self, names: Names) -> list[Json]:
        """All objects with the tenant's hash, and all namespaces that are called after the run, whatever they bear."""
        query = f"?labelSelector={LABEL_TENANT_HASH}%3D{names.hash}"
        found = [body for kind in (*WATCHED_ON_TARGETS, SECRETS) for body in _items(self.target, kind, query)]
        spaces = _items(self.target, NAMESPACES)
        called = {body["metadata"]["name"] for body in found if body["kind"] == NAMESPACES.kind}
        late = [body for body in spaces if names.case.token in body["metadata"]["name"]]
        return [*found, *(body for body in late if body["metadata"]["name"] not in called)]

    def secret(self, names: Names, name: str) -> dict[str, str]:
        """What is in a Secret of the tenant's namespace; empty where there is none."""
        return plain(self.target.get(SECRETS.path(names.namespace, name)).body)

    def as_tenant(self, names: Names) -> psycopg.Connection[Any]:
        """A session of the tenant's application, with what its Secret says; past the proxy."""
        secret = self.secret(names, SECRET_DATABASE)
        return psycopg.connect(self._postgres.dsn(secret["username"], secret["password"], secret["database"]))

    def end_window(self, names: Names, long_ago: str) -> None:
        """As if the time of the deleted tenant were over: all three that know it say so."""
        for record in self.records(names):
            path = TENANT_RECORDS.path(name=record["metadata"]["name"])
            answer = self.management.patch(path, {"spec": {"purgeAfter": long_ago}}, dry=False)
            assert answer.status < 300, answer.message
        with psycopg.connect(self._postgres.superuser_dsn("tenantry"), autocommit=True) as connection:
            connection.execute("UPDATE claims SET purge_after = %s WHERE tenant_hash = %s", (long_ago, names.hash))
        # Last: while the record says that it is not due, the operator puts the namespace's time right.
        patch = {"metadata": {"annotations": {ANNOTATION_PURGE_AFTER: long_ago}}}
        assert self.target.patch(NAMESPACES.path(name=names.namespace), patch, dry=False).status == 200

    def open_roles(self, names: Names) -> set[str]:
        """Those of the tenant's roles that may log in."""
        return {row["rolname"] for row in self._rows("postgres", _ROLES, names) if row["rolcanlogin"]}

    def state(self, names: Names) -> State:
        """All but what takes a session in the tenant's database, for that would be in the way of its end."""
        found: dict[str, Any] = {}
        if (tenant := self.tenant(names)) is not None:
            metadata = tenant["metadata"]
            kept = {key: metadata.get(key) for key in ("finalizers", "deletionTimestamp", "annotations")}
            found["Tenant"] = {"metadata": kept, "spec": tenant["spec"], "status": _status(tenant)}
        for body in (*self.records(names), *self.of_plan(names), *self.on_target(names)):
            found[_key(body)] = _timeless(body)
        for body in _items(self.target, DEPLOYMENTS, namespace=names.namespace):
            found[_key(body)] = _workload(body)
        for kind, database, query in (
            ("database", "postgres", _DATABASES),
            ("role", "postgres", _ROLES),
            ("claim", "tenantry", _CLAIMS),
        ):
            for row in self._rows(database, query, names):
                found[f"{kind} {next(iter(row.values()))}"] = row
        return _with_placeholders(found, names)

    def inside(self, names: Names) -> State:
        """What is in the tenant's databases, and whether its application gets in with the Secret that it is given."""
        found: dict[str, Any] = {}
        for row in self._rows("postgres", _DATABASES, names):
            if row["datallowconn"]:
                inside = self._rows(row["datname"], _INSIDE, names)[0]
                if inside.pop("used"):
                    inside["canary"] = [each["word"] for each in self._rows(row["datname"], _CANARY, names)]
                found[f"inside {row['datname']}"] = inside
        if self.secret(names, SECRET_DATABASE):
            found["login"] = self._login(names)
        return _with_placeholders(found, names)

    def _rows(self, database: str, query: str, names: Names) -> list[Json]:
        with psycopg.connect(self._postgres.superuser_dsn(database), row_factory=psycopg.rows.dict_row) as connection:
            return list(connection.execute(query, {"hash": names.hash}).fetchall())

    def _login(self, names: Names) -> str:
        try:
            with self.as_tenant(names) as connection:
                row = connection.execute("SELECT current_user::text").fetchone()
                assert row is not None
                return str(row[0])
        except psycopg.OperationalError as error:
            return f"refused: {str(error).rpartition('FATAL: ')[2].strip()}"


def difference(expected: State, found: State) -> list[str]:
    """What is missing, too much or different, in words; empty for the same."""
    told = [f"missing: {key}" for key in sorted(expected.keys() - found.keys())]
    told += [f"left over: {key}" for key in leaks(expected, found)]
    for key in sorted(expected.keys() & found.keys()):
        told += [f"{key}{where}" for where in _unequal(expected[key], found[key])]
    return told


def leaks(expected: State, found: State) -> list[str]:
    """What is there that the undisturbed end does not have."""
    return sorted(found.keys() - expected.keys())


def _unequal(expected: Any, found: Any, where: str = "") -> Iterator[str]:
    """The places where two values differ."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in sorted(expected.keys() | found.keys()):
            yield from _unequal(expected.get(key), found.get(key), f"{where}.{key}")
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for number, pair in enumerate(zip(expected, found, strict=True)):
            yield from _unequal(*pair, f"{where}[{number}]")
    elif expected != found:
        yield f"{where}: expected {json.dumps(expected)[:300]}, found {json.dumps(found)[:300]}"


def _with_placeholders(found: Json, names: Names) -> State:
    """Privileges and the like in an order that does not depend on the tenant's hash."""
    replaced: Json = json.loads(names.placeholders(json.dumps(found, sort_keys=True)))
    for key, value in replaced.items():
        if key.partition(" ")[0] in IN_POSTGRES:
            replaced[key] = {name: sorted(entry) if isinstance(entry, list) else entry for name, entry in value.items()}
    return replaced


def _items(api: Api, resource: Resource, query: str = "", *, namespace: str = "") -> list[Json]:
    answer = api.get(resource.path(namespace) + query)
    assert answer.status == 200, answer.message
    kinds = {"apiVersion": resource.api_version, "kind": resource.kind}
    return [{**kinds, **body} for body in answer.body["items"]]


def _key(body: Json) -> str:
    metadata = body["metadata"]
    return f"{body['kind']} {metadata.get('namespace', '')}/{metadata['name']}"


def _timeless(body: Json) -> Json:
    """Without what is another in each run; a namespace that is on its way out says so."""
    found: Json = plain_body(json.loads(json.dumps(body)))
    if body["kind"] == NAMESPACES.kind:
        found["phase"] = body["status"]["phase"]
    return found


def _workload(body: Json) -> Json:
    """What we do to a workload of the tenant's; the rest of it is its controller's."""
    annotations = body["metadata"].get("annotations", {})
    ours = {name: value for name, value in annotations.items() if name.startswith(GROUP)}
    restarted = body["spec"]["template"]["metadata"].get("annotations", {})
    return {"replicas": body["spec"]["replicas"], "annotations": ours, "restarted": restarted}


def _status(tenant: Json) -> Json:
    """What it says; the observed generation as whether it is the present one, for re-applies may be counted."""
    status = json.loads(json.dumps(tenant.get("status", {})))
    generation = tenant["metadata"]["generation"]
    for entry in (status, *status.get("conditions", [])):
        if "observedGeneration" in entry:
            entry["observedGeneration"] = "present" if entry["observedGeneration"] == generation else "former"
    return dict(status)
