"""All that one tenant has anywhere, in a form in which two runs can be compared, and what one of them has too much."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Final, Self

import psycopg
from tests.controlplane.access import ClusterAccess
from tests.controlplane.postgres_access import PostgresAccess
from tests.crash.case import TENANT, Names
from tests.crash.differing import State
from tests.crash.places import Dsn, Place, own_server
from tests.crash.stored import told_of
from tests.integration.acting import Api
from tests.integration.node import Node
from tests.integration.tenants import plain
from tests.scene.faulty import CLUSTER, SERVER, FaultyLab
from tests.scene.installation import NAMESPACE
from tests.scene.snapshot import plain_body

from tenantry.api.names import (
    ANNOTATION_PURGE_AFTER,
    GROUP,
    LABEL_PLAN,
    LABEL_TENANT_HASH,
    POSTGRES,
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
from tenantry.api.tenantrecord import RecordState

Json = dict[str, Any]

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
       array(SELECT concat_ws(' ', pg_get_userbyid(m.roleid), m.admin_option,
                             to_jsonb(m) ->> 'inherit_option', to_jsonb(m) ->> 'set_option')
               FROM pg_auth_members m WHERE m.member = r.oid ORDER BY 1) AS groups,
       array(SELECT concat_ws(' ', d.datname, s.setconfig::text) FROM pg_db_role_setting s
               LEFT JOIN pg_database d ON d.oid = s.setdatabase WHERE s.setrole = r.oid ORDER BY 1) AS settings
  FROM pg_authid r WHERE strpos(r.rolname, %(hash)s) > 0
"""
HEARD_SECONDS: Final = 10.0
"""Within which an operator that is not dead has heard that a window is over."""
OWN: Final = " of its own"
"""The mark of a server of a tenant's own."""
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
    """Looks as the administrator of all servers, past the proxies, over connections that are kept.

    Attributes:
        target: The cluster of the first place, where tenants are unless they say otherwise.
        places: All clusters and servers; see `know`.
        kept: The folder of the BackupStore, where the lane has one.
    """

    def __init__(self, lab: FaultyLab, node: Node | None = None) -> None:
        self._stack = ExitStack()
        self._node = node
        self.kept = lab.folder / "kept"
        self.management = self._api(lab.management.kubeconfig)
        self.target = self._api(lab.target.kubeconfig)
        self.places: tuple[Place, ...] = (Place(CLUSTER, SERVER, self.target, lab.postgres.access),)

    def know(self, cluster: str, server: str, access: ClusterAccess, postgres: PostgresAccess) -> None:
        """Look at one more place, too."""
        place = Place(cluster, server, self._api(access.kubeconfig), postgres, f" on {cluster}")
        self.places = (*self.places, place)

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

    def on_target(self, names: Names, place: Place | None = None) -> list[Json]:
        """All objects with the tenant's hash, and all namespaces that are called after the run, whatever they bear."""
        api = (place or self.places[0]).api
        query = f"?labelSelector={LABEL_TENANT_HASH}%3D{names.hash}"
        found = [body for kind in (*WATCHED_ON_TARGETS, SECRETS) for body in _items(api, kind, query)]
        spaces = _items(api, NAMESPACES)
        called = {body["metadata"]["name"] for body in found if body["kind"] == NAMESPACES.kind}
        late = [body for body in spaces if names.case.token in body["metadata"]["name"]]
        return [*found, *(body for body in late if body["metadata"]["name"] not in called)]

    def home(self, names: Names) -> tuple[Place, str, Place | None]:
        """Where its record says that it lives: the cluster, the namespace; the server, None for one of its own."""
        first = self.places[0]
        for record in self.records(names):
            spec = record["spec"]
            clusters = {place.cluster: place for place in self.places}
            servers = {place.server: place for place in self.places}
            return (
                clusters[spec["cluster"]["name"]],
                spec["cluster"]["namespace"],
                servers.get(spec["database"]["server"]),
            )
        return first, names.namespace, first

    def secret(self, names: Names, name: str) -> dict[str, str]:
        """What is in a Secret of the tenant's namespace; empty where there is none."""
        place, namespace, _ = self.home(names)
        return plain(place.api.get(SECRETS.path(namespace, name)).body)

    def as_tenant(self, names: Names) -> psycopg.Connection[Any]:
        """A session of the tenant's application, with what its Secret says; past the proxy."""
        secret = self.secret(names, SECRET_DATABASE)
        _, namespace, server = self.home(names)
        if server is None:
            assert self._node is not None, "a server of a tenant's own runs on no node"
            if self._node.port_or_none(namespace) is None:
                raise psycopg.OperationalError("FATAL: no server runs")
            return psycopg.connect(self._node.reach(namespace, secret), connect_timeout=30)
        return psycopg.connect(server.postgres.dsn(secret["username"], secret["password"], secret["database"]))

    def session(self, user: str, password: str, database: str) -> psycopg.Connection[Any]:
        """A session of anybody on the first server; past the proxy."""
        return psycopg.connect(self.places[0].postgres.dsn(user, password, database))

    def rows(self, names: Names) -> list[str]:
        """What its application has written, in all databases of the tenant's; none where it has no table yet."""
        found: list[str] = []
        for _, dsn in self._servers(names):
            for row in _rows(dsn("postgres"), _DATABASES, names):
                if _rows(dsn(row["datname"]), _INSIDE, names)[0]["used"]:
                    found += [each["word"] for each in _rows(dsn(row["datname"]), _CANARY, names)]
        return found

    def end_window(self, names: Names, long_ago: str, *, running: bool = True) -> None:
        """As if the time of the deleted tenant were over: all three that know it say so; `running`: an operator is."""
        for record in self.records(names):
            path = TENANT_RECORDS.path(name=record["metadata"]["name"])
            answer = self.management.patch(path, {"spec": {"purgeAfter": long_ago}}, dry=False)
            assert answer.status < 300, answer.message
        for place in self.places:
            with psycopg.connect(place.postgres.superuser_dsn("tenantry"), autocommit=True) as connection:
                connection.execute("UPDATE claims SET purge_after = %s WHERE tenant_hash = %s", (long_ago, names.hash))
        # Last: while the record says that it is not due, the operator puts the namespace's time right.
        patch = {"metadata": {"annotations": {ANNOTATION_PURGE_AFTER: long_ago}}}
        place, namespace, _ = self.home(names)
        assert place.api.patch(NAMESPACES.path(name=namespace), patch, dry=False).status == 200
        # It may hear of the namespace first, and put it right by the record that it knows: then once more.
        deadline = time.monotonic() + HEARD_SECONDS
        while running and time.monotonic() < deadline and self._is_in_window(names):
            space = place.api.get(NAMESPACES.path(name=namespace)).body.get("metadata", {})
            if space.get("annotations", {}).get(ANNOTATION_PURGE_AFTER, long_ago) != long_ago:
                place.api.patch(NAMESPACES.path(name=namespace), patch, dry=False)
            time.sleep(0.1)  # polls what another process does; the deadline bounds it

    def _is_in_window(self, names: Names) -> bool:
        return any(record["spec"]["state"] == RecordState.DELETED for record in self.records(names))

    def end_former(self, names: Names, long_ago: str) -> None:
        """As if the time of what moves have left were over, by all who know it."""
        for record in self.records(names):
            sides = [{**side, "purgeAfter": long_ago} for side in record["spec"].get("former", ())]
            path = TENANT_RECORDS.path(name=record["metadata"]["name"])
            answer = self.management.patch(path, {"spec": {"former": sides}}, dry=False)
            assert answer.status < 300, answer.message
            for place in self.places:
                with psycopg.connect(place.postgres.superuser_dsn("tenantry"), autocommit=True) as connection:
                    query = "UPDATE claims SET purge_after = %s WHERE tenant_hash = %s AND state = 'parked'"
                    connection.execute(query, (long_ago, names.hash))
                patch = {"metadata": {"annotations": {ANNOTATION_PURGE_AFTER: long_ago}}}
                for side in sides:
                    if side.get("cluster", {}).get("name") == place.cluster:
                        place.api.patch(NAMESPACES.path(name=side["cluster"]["namespace"]), patch, dry=False)

    def open_roles(self, names: Names) -> set[str]:
        """Those of the tenant's roles that may log in, on whatever server."""
        roles = [row for _, dsn in self._servers(names) for row in _rows(dsn("postgres"), _ROLES, names)]
        return {row["rolname"] for row in roles if row["rolcanlogin"]}

    def state(self, names: Names) -> State:
        """All but what takes a session in the tenant's database, for that would be in the way of its end."""
        found: dict[str, Any] = {}
        if (tenant := self.tenant(names)) is not None:
            metadata = tenant["metadata"]
            kept = {key: metadata.get(key) for key in ("finalizers", "deletionTimestamp", "annotations")}
            found["Tenant"] = {"metadata": kept, "spec": tenant["spec"], "status": _status(tenant)}
        found |= told_of(self.management, self.kept, names)
        for body in (*self.records(names), *self.of_plan(names)):
            found[_key(body)] = _timeless(body)
        for place in self.places:
            bodies = self.on_target(names, place)
            spaces = [body["metadata"]["name"] for body in bodies if body["kind"] == NAMESPACES.kind]
            found |= {_key(body) + place.mark: _timeless(body) for body in bodies}
            for body in (each for space in spaces for each in _items(place.api, DEPLOYMENTS, namespace=space)):
                found[_key(body) + place.mark] = _workload(body)
            for row in _rows(place.postgres.superuser_dsn("tenantry"), _CLAIMS, names):
                found[f"claim {row['database']}{place.mark}"] = row
        for mark, dsn in self._servers(names):
            with _unless_it_goes(mark, found):
                for kind, query in (("database", _DATABASES), ("role", _ROLES)):
                    for row in _rows(dsn("postgres"), query, names):
                        found[f"{kind} {next(iter(row.values()))}{mark}"] = row
        return _with_placeholders(found, names)

    def inside(self, names: Names) -> State:
        """What is in the tenant's databases, and whether its application gets in with the Secret that it is given."""
        found: dict[str, Any] = {}
        for mark, dsn in self._servers(names):
            with _unless_it_goes(mark, found):
                for row in (each for each in _rows(dsn("postgres"), _DATABASES, names) if each["datallowconn"]):
                    inside = _rows(dsn(row["datname"]), _INSIDE, names)[0]
                    if inside.pop("used"):
                        inside["canary"] = [each["word"] for each in _rows(dsn(row["datname"]), _CANARY, names)]
                    found[f"inside {row['datname']}{mark}"] = inside
        if self.secret(names, SECRET_DATABASE):
            found["login"] = self._login(names)
        return _with_placeholders(found, names)

    def _servers(self, names: Names) -> list[tuple[str, Dsn]]:
        """Those of all places, and the tenant's own where it has one that runs."""
        found: list[tuple[str, Dsn]] = [(place.mark, place.postgres.superuser_dsn) for place in self.places]
        place, namespace, server = self.home(names)
        own = own_server(self._node, place, namespace) if server is None else None
        return [*found, (OWN, own)] if own is not None else found

    def _login(self, names: Names) -> str:
        try:
            with self.as_tenant(names) as connection:
                row = connection.execute("SELECT current_user::text").fetchone()
                assert row is not None
                return str(row[0])
        except psycopg.OperationalError as error:
            return f"refused: {str(error).rpartition('FATAL: ')[2].strip()}"


@contextlib.contextmanager
def _unless_it_goes(mark: str, found: dict[str, Any]) -> Iterator[None]:
    """A server of a tenant's own may be started or stopped while it is asked: that is a state, too."""
    try:
        yield
    except psycopg.OperationalError as error:
        if mark != OWN:
            raise
        found[f"server{mark}"] = f"takes no sessions: {error}"


def _rows(dsn: str, query: str, names: Names) -> list[Json]:
    with psycopg.connect(dsn, row_factory=psycopg.rows.dict_row) as connection:
        return list(connection.execute(query, {"hash": names.hash}).fetchall())


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
    if body["kind"] == SECRETS.kind:  # passwords and certificates of a server of the tenant's own
        own = found["metadata"]["name"] == POSTGRES
        found["data"] = {name: "***" if own or name == "ca.crt" else value for name, value in found["data"].items()}
    for name in ("lastMove", "lastRestore"):
        if (last := found.get("spec", {}).get(name)) is not None:
            found["spec"][name] = _untimed(last)
    return found


def _untimed(move: Json) -> Json:
    """What is said of a move or restore, without how long it took."""
    return {name: value is not None if name.startswith("writeStop") else value for name, value in move.items()}


def _workload(body: Json) -> Json:
    """What we do to a workload of the tenant's; the rest of it is its controller's."""
    annotations = body["metadata"].get("annotations", {})
    ours = {name: value for name, value in annotations.items() if name.startswith(GROUP)}
    restarted = body["spec"]["template"]["metadata"].get("annotations", {})
    return {"replicas": body["spec"]["replicas"], "annotations": ours, "restarted": restarted}


def _status(tenant: Json) -> Json:
    """What it says; the observed generation as whether it is the present one, for re-applies may be counted."""
    status = json.loads(json.dumps(tenant.get("status", {})))
    status.pop("backup", None)  # of a backup that was broken off it has nothing to tell
    generation = tenant["metadata"]["generation"]
    for entry in (status, *status.get("conditions", [])):
        if "observedGeneration" in entry:
            entry["observedGeneration"] = "present" if entry["observedGeneration"] == generation else "former"
    if "move" in status:
        status["move"] = _untimed(status["move"])
    return dict(status)
