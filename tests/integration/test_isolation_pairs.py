"""Ten tenants, every pair of them: none gets at another's database or namespace, whatever they have gone through."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import errors, sql
from tests.integration.acting import manifest
from tests.integration.backing import backup, ended, register
from tests.integration.tenants import wait_for
from tests.scene.stage import SERVER_15, SERVER_18

from tenantry.api.names import ANNOTATION_APPROVE_MOVE, ANNOTATION_ROTATE_CREDENTIALS
from tenantry.api.resources import TENANT_RESTORES, Resource

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.tenants import Whereabouts, Workbench

Json = dict[str, Any]

TENANTS = 10
RESTORED = 4
"""How many of them are restored, of both of the servers that they came from."""
RESTORE_SECONDS = 120.0
REVIEWS = Resource("authorization.k8s.io", "v1", "SubjectAccessReview", "subjectaccessreviews", namespaced=False)
ASKED = (
    ("get", "", "secrets"),
    ("list", "", "pods"),
    ("create", "", "pods"),
    ("get", "", "configmaps"),
    ("create", "apps", "deployments"),
    ("delete", "networking.k8s.io", "ingresses"),
    ("create", "rbac.authorization.k8s.io", "rolebindings"),
    ("delete", "networking.k8s.io", "networkpolicies"),
)
REFUSED = (psycopg.OperationalError, errors.InsufficientPrivilege, errors.UndefinedObject)


def spec(plan: str, number: int, server: str) -> Json:
    return {
        "plan": plan,
        "database": {"mode": "Shared", "shared": {"server": server}},
        "rbac": {"bindings": [{"role": "Admin", "subjects": [{"kind": "User", "name": f"admin-{number}"}]}]},
    }


class Tenant:
    """One of the ten, as it can act itself."""

    def __init__(self, workbench: Workbench, number: int) -> None:
        self.name = f"t{number}"
        self.user = f"admin-{number}"
        self.number = number
        self._workbench = workbench
        self.where: Whereabouts = workbench.whereabouts(self.name)

    @property
    def secret(self) -> dict[str, str]:
        """Its credentials as they are now."""
        return self._workbench.secret(self.where, "tenant-database")

    @property
    def server(self) -> str:
        """Where its database is: host and port."""
        return "{host}:{port}".format_map(self.secret)

    def connect(self, database: str = "", *, at: Tenant | None = None) -> psycopg.Connection[tuple[Any, ...]]:
        """A session with its credentials, on its own or another database, on its own or another's server."""
        secret, there = self.secret, (at or self).secret
        return psycopg.connect(
            host=there["host"],
            port=there["port"],
            user=secret["username"],
            password=secret["password"],
            dbname=database or secret["dbname"],
            autocommit=True,
            connect_timeout=30,
        )


def attacks(other: Tenant) -> list[sql.Composed]:
    """What a tenant may try from within its own database against another's."""
    secret = other.secret
    database, owner = sql.Identifier(secret["dbname"]), sql.Identifier(f"{secret['dbname']}_owner")
    login = sql.Identifier(secret["username"])
    texts = (
        "SET ROLE {owner}",
        "SET SESSION AUTHORIZATION {login}",
        "GRANT {owner} TO CURRENT_USER",
        "ALTER ROLE {login} PASSWORD 'stolen'",
        "ALTER ROLE {login} NOLOGIN",
        "DROP ROLE {login}",
        "ALTER DATABASE {database} RENAME TO stolen",
        "ALTER DATABASE {database} OWNER TO CURRENT_USER",
        "ALTER DATABASE {database} ALLOW_CONNECTIONS false",
        "GRANT CONNECT ON DATABASE {database} TO CURRENT_USER",
        "REVOKE CONNECT ON DATABASE {database} FROM {owner}",
        "COMMENT ON DATABASE {database} IS 'stolen'",
        "DROP DATABASE {database}",
        "CREATE DATABASE stolen TEMPLATE {database}",
        "REASSIGN OWNED BY {owner} TO CURRENT_USER",
    )
    return [sql.SQL(text).format(database=database, owner=owner, login=login) for text in texts]


def check_databases(tenants: list[Tenant]) -> None:
    """By SQL, all pairs; each tenant's own canary is the only one that it sees."""
    for attacker in tenants:
        with attacker.connect() as session:
            assert session.execute("SELECT word FROM canary").fetchall() == [(attacker.name,)]
            seen = session.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE query <> '<insufficient privilege>' AND query <> ''"
                " AND usename <> session_user AND NOT pg_has_role(usesysid, 'USAGE')"
            ).fetchone()
            assert seen == (0,), "another's queries can't be read"
            objects = session.execute("SELECT count(*) FROM pg_largeobject_metadata").fetchone()
            assert objects == (1,), "only its own large object"
            for other in tenants:
                if other is attacker or other.server != attacker.server:
                    continue
                for attack in attacks(other):
                    with pytest.raises(REFUSED):
                        session.execute(attack)
        for other in tenants:
            if other is not attacker:
                words = "permission denied for database" if other.server == attacker.server else "authentication failed"
                with pytest.raises(psycopg.OperationalError, match=words):
                    attacker.connect(other.secret["dbname"], at=other)
        for common in ("postgres", "template1", "tenantry"):
            with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
                attacker.connect(common)


def check_clusters(workbench: Workbench, tenants: list[Tenant]) -> None:
    """By the API server's own word, all pairs: people and ServiceAccounts of one in the namespace of the other."""
    for attacker, other in itertools.permutations(tenants, 2):
        people = (attacker.user, f"system:serviceaccount:{attacker.where.namespace}:tenant")
        for user, (verb, group, resource) in itertools.product(people, ASKED):
            assert not may(workbench, user, other.where.namespace, verb, group, resource), (user, verb, resource)
    for tenant in tenants:
        assert may(workbench, tenant.user, tenant.where.namespace, "get", "", "secrets"), "the question is a real one"


def may(workbench: Workbench, user: str, namespace: str, verb: str, group: str, resource: str) -> bool:
    attributes = {"namespace": namespace, "verb": verb, "group": group, "resource": resource}
    groups = ["system:authenticated"]
    if user.startswith("system:serviceaccount:"):
        groups += ["system:serviceaccounts", f"system:serviceaccounts:{user.split(':')[2]}"]
    body = {
        "apiVersion": REVIEWS.api_version,
        "kind": REVIEWS.kind,
        "metadata": {},
        "spec": {"user": user, "groups": groups, "resourceAttributes": attributes},
    }
    answer = workbench.target.create(REVIEWS, body, dry=False)
    assert answer.status == 201, answer.message
    return bool(answer.body["status"]["allowed"])


@pytest.mark.timeout(1200)
def test_no_tenant_of_ten_gets_at_another_also_after_rotation_undelete_move_and_restore(
    trial: Workbench, tmp_path: Path
) -> None:
    """Half of them begin on another server, and end on that of the others."""
    plan = trial.platform("TenantPlan", "kept", deletion={"maxWindow": "24h"})
    numbers = {f"t{number}": number for number in range(TENANTS)}
    bodies = [
        trial.tenant(name, **spec(plan, number, (SERVER_15, SERVER_18)[number % 2])) for name, number in numbers.items()
    ]
    trial.apply(*bodies)
    tenants = [Tenant(trial, number) for number in range(TENANTS)]
    wait_ready(trial, tenants)
    for tenant in tenants:
        with tenant.connect() as session:
            session.execute(sql.SQL("CREATE TABLE canary AS SELECT {} AS word").format(sql.Literal(tenant.name)))
            session.execute("SELECT lo_from_bytea(0, 'mine')")
    check_databases(tenants)
    check_clusters(trial, tenants)

    rotate(trial, tenants)
    check_databases(tenants)

    secrets = {tenant.name: tenant.secret for tenant in tenants}
    trial.kubectl("delete", "tenant", *(tenant.name for tenant in tenants), "--timeout=120s")
    for attacker, other in itertools.product(tenants, tenants):
        with pytest.raises(psycopg.OperationalError):
            attacker.connect(secrets[other.name]["dbname"], at=other)
    trial.apply(*bodies)
    wait_ready(trial, tenants)
    check_databases(tenants)
    check_clusters(trial, tenants)

    left = move(trial, [tenant for tenant in tenants if tenant.number % 2 == 0], plan)
    assert len({tenant.server for tenant in tenants}) == 1
    check_databases(tenants)
    check_clusters(trial, tenants)
    for former in left:
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(former["uri"], sslmode="require", connect_timeout=30)

    left = restore(trial, tenants[:RESTORED], register(trial, tmp_path / "kept").name)
    check_databases(tenants)
    check_clusters(trial, tenants)
    for former in left:
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(former["uri"], sslmode="disable", connect_timeout=30)


def wait_ready(trial: Workbench, tenants: list[Tenant]) -> None:
    for tenant in tenants:
        trial.ready(tenant.name)


def rotate(trial: Workbench, tenants: list[Tenant]) -> None:
    logins = {tenant.name: tenant.secret["username"] for tenant in tenants}
    for tenant in tenants:
        trial.kubectl("annotate", "tenant", tenant.name, f"{ANNOTATION_ROTATE_CREDENTIALS}=force-now")
    for tenant in tenants:
        wait_for(lambda t=tenant: t.secret["username"] != logins[t.name], f"{tenant.name} is rotated")  # type: ignore[misc]  # a default argument binds the tenant


def is_moved(body: Json) -> bool:
    return bool((body["status"].get("move") or {}).get("phase") == "Completed")


def move(trial: Workbench, tenants: list[Tenant], plan: str) -> list[dict[str, str]]:
    """To the other server; the credentials that they had before."""
    former = [tenant.secret for tenant in tenants]
    for tenant in tenants:
        body = trial.tenant(tenant.name, **spec(plan, tenant.number, SERVER_18))
        body["metadata"]["annotations"] = {ANNOTATION_APPROVE_MOVE: SERVER_18}
        trial.apply(body)
    for tenant in tenants:
        wait_for(lambda t=tenant: is_moved(trial.get(t.name)), f"{tenant.name} is moved", 120)  # type: ignore[misc]  # as above
        trial.ready(tenant.name)
    return former


def restore(trial: Workbench, tenants: list[Tenant], store: str) -> list[dict[str, str]]:
    """Each from a backup that is made now; the credentials that they had before."""
    for tenant in tenants:
        trial.apply(backup(trial, f"{tenant.name}-first", store, tenant.name))
    for tenant in tenants:
        ended(trial, f"{tenant.name}-first", "Completed", "BackupCompleted", seconds=RESTORE_SECONDS)
    former = [tenant.secret for tenant in tenants]
    for tenant in tenants:
        wanted = {"backupRef": {"name": f"{tenant.name}-first"}, "tenantRef": {"name": tenant.name}}
        body = manifest(TENANT_RESTORES, f"{tenant.name}-back", trial.workspace, spec={**wanted, "safetyBackup": False})
        trial.apply(body)
    for tenant, before in zip(tenants, former, strict=True):
        wait_for(
            lambda t=tenant, b=before: t.secret["dbname"] != b["dbname"],  # type: ignore[misc]  # as above
            f"{tenant.name} is restored",
            RESTORE_SECONDS,
        )
        trial.ready(tenant.name)
    return former
