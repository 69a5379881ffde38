"""The test clusters themselves: they start, are separate, count requests, break when told to, and leave nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from signal import Signals

import psutil
import psycopg
import pytest
from tests.controlplane.access import ClusterAccess, KubectlError
from tests.controlplane.binaries import Binaries
from tests.controlplane.certificates import Authority
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.existing import ExistingCluster, given_or_own
from tests.controlplane.postgres import PostgresServer
from tests.controlplane.postgres_access import PostgresAccess
from tests.controlplane.postgres_binaries import WHEEL_PARTS, copy_for_all, wheel_binaries
from tests.controlplane.processes import Deadline, ServerError
from tests.controlplane.sessions import REPOSITORY
from tests.integration.conftest import FreshControlPlane, FreshPostgres

pytestmark = pytest.mark.timeout(600)


def gone(pids: list[int]) -> bool:
    return not any(psutil.pid_exists(pid) for pid in pids)


# --- control planes -------------------------------------------------------------------------------------------
def test_the_two_control_planes_answer_and_are_separate(
    management: ClusterAccess, target: ClusterAccess, namespace: str
) -> None:
    uids = {access.get("namespace", "kube-system")["metadata"]["uid"] for access in (management, target)}
    assert len(uids) == 2
    assert management.get("namespace", namespace)["status"]["phase"] == "Active"
    with pytest.raises(KubectlError, match="NotFound"):
        target.get("namespace", namespace)


def test_our_kinds_are_served_by_the_management_cluster_only(management: ClusterAccess, target: ClusterAccess) -> None:
    assert "tenants.tenantry.io" in management.kubectl("api-resources", "--api-group=tenantry.io", "-o", "name")
    assert target.kubectl("api-resources", "--api-group=tenantry.io", "-o", "name") == ""


def test_the_audit_log_counts_each_write_with_who_and_what(management: ClusterAccess, namespace: str) -> None:
    mark = management.audit_mark()
    management.kubectl("create", "configmap", "counted", "-n", namespace)
    with pytest.raises(KubectlError, match="already exists"):
        management.kubectl("create", "configmap", "counted", "-n", namespace)
    management.kubectl("delete", "configmap", "counted", "-n", namespace)
    writes = [
        entry
        for entry in management.audit_entries(after=mark)
        if entry.is_write and entry.namespace == namespace and entry.name == "counted"
    ]
    assert [(entry.verb, entry.code) for entry in writes] == [("create", 201), ("create", 409), ("delete", 200)]
    assert {(entry.user, entry.resource, entry.stage) for entry in writes} == {
        ("tenantry-test-admin", "configmaps", "ResponseComplete")
    }
    assert all(entry.received <= entry.answered for entry in writes)


def test_a_deleted_namespace_goes_with_all_that_is_in_it(management: ClusterAccess, name_prefix: str) -> None:
    management.kubectl("create", "namespace", name_prefix)
    management.kubectl("create", "configmap", "inside", "-n", name_prefix)
    management.kubectl("delete", "namespace", name_prefix, "--timeout=60s")
    with pytest.raises(KubectlError, match="NotFound"):
        management.get("namespace", name_prefix)


def test_a_service_accounts_kubeconfig_has_that_identity_and_no_rights(target: ClusterAccess, tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(target.service_account_kubeconfig("default", "default"))
    who = json.loads(target.kubectl("--kubeconfig", str(path), "auth", "whoami", "-o", "json"))
    assert who["status"]["userInfo"]["username"] == "system:serviceaccount:default:default"
    with pytest.raises(KubectlError, match="Forbidden"):
        target.kubectl("--kubeconfig", str(path), "get", "secrets", "-A")


def test_a_client_certificate_gives_any_user_in_any_group(target: ClusterAccess, tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(target.certificate_kubeconfig("ada", "blue", "system:masters"))
    who = json.loads(target.kubectl("--kubeconfig", str(path), "auth", "whoami", "-o", "json"))
    assert who["status"]["userInfo"]["username"] == "ada"
    assert {"blue", "system:masters"} <= set(who["status"]["userInfo"]["groups"])


def test_a_wrong_token_is_refused(target: ClusterAccess, tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(target.kubeconfig_for("wrong"))
    with pytest.raises(KubectlError, match=r"(?i)unauthorized|logged in"):
        target.kubectl("--kubeconfig", str(path), "get", "namespaces")


def test_an_api_server_hangs_comes_back_is_refused_comes_back_and_is_gone_in_the_end(
    fresh_control_plane: FreshControlPlane,
) -> None:
    cluster = fresh_control_plane()
    access = cluster.access
    access.kubectl("create", "configmap", "kept")
    cluster.pause_apiserver()
    with pytest.raises(KubectlError, match=r"(?i)timeout|deadline"):
        access.kubectl("get", "configmaps", "--request-timeout=1s")
    cluster.resume_apiserver()
    assert access.get("configmap", "kept")["metadata"]["name"] == "kept"

    cluster.stop_apiserver()
    with pytest.raises(KubectlError, match="refused"):
        access.kubectl("get", "configmaps")
    cluster.start_apiserver()
    assert access.get("configmap", "kept")["metadata"]["name"] == "kept"

    pids, folder = list(cluster.access.pids.values()), access.folder
    assert len(pids) == 3
    assert all(map(psutil.pid_exists, pids))
    cluster.stop()
    assert gone(pids)
    assert not folder.exists()
    with pytest.raises(ServerError, match="not running"):
        cluster.pause_apiserver()


OWNER = """
import os, sys, time
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.postgres import PostgresServer
from tests.controlplane.postgres_binaries import WHEEL_PARTS, copy_for_all, wheel_binaries
cluster = ControlPlane("orphan").start().access
database = PostgresServer(wheel_binaries()).start().access
print(cluster.folder, database.pid, *cluster.pids.values(), flush=True)
sys.stdin.read()
"""


def test_servers_and_their_data_are_gone_when_their_owner_was_killed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        folder, *numbers = owner.stdout.readline().split()
        pids = [int(number) for number in numbers]
        assert len(pids) == 4
        assert all(map(psutil.pid_exists, pids))
        owner.send_signal(Signals.SIGKILL)
    Deadline(60).wait_until(lambda: gone(pids), "servers of a killed owner are gone")
    Deadline(60).wait_until(lambda: not Path(folder).exists(), "data of a killed owner is gone")


def test_a_server_that_ends_at_once_is_reported_with_its_log() -> None:
    binaries = Binaries.find()
    broken = Binaries(binaries.etcd, (*binaries.apiserver, "--no-such-flag"), binaries.controller_manager)
    with pytest.raises(ServerError, match=r"kube-apiserver of broken ended with exit code 1:[\s\S]*--no-such-flag"):
        ControlPlane("broken", binaries=broken).start()


def test_the_programs_in_kubebuilder_assets_are_used_where_that_is_set(tmp_path: Path) -> None:
    built = Binaries.built()
    for name in ("etcd", "kube-apiserver"):
        (tmp_path / name).symlink_to(built.etcd[0])  # the multi-call binary goes by the name it is called
    found = Binaries.find({"KUBEBUILDER_ASSETS": str(tmp_path)})
    assert found.apiserver == (str(tmp_path / "kube-apiserver"),)
    assert found.controller_manager == built.controller_manager
    with ControlPlane("assets", binaries=found) as cluster:
        command = psutil.Process(cluster.access.pids["kube-apiserver"]).cmdline()
        assert command[0] == str(tmp_path / "kube-apiserver")


def test_assets_without_an_api_server_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="has no program etcd"):
        Binaries.find({"KUBEBUILDER_ASSETS": str(tmp_path)})


def test_a_given_kubeconfig_is_used_instead_of_an_own_cluster(management: ClusterAccess) -> None:
    given = given_or_own(
        "management", environment={"TENANTRY_TEST_MANAGEMENT_KUBECONFIG": str(management.kubeconfig_path)}
    )
    assert isinstance(given, ExistingCluster)
    with given:
        assert given.access.server == management.server
        assert given.access.ca_pem == management.ca_pem
        assert given.access.get("namespace", "kube-system") == management.get("namespace", "kube-system")
        with pytest.raises(LookupError, match="no audit log"):
            given.access.audit_mark()
    assert management.get("namespace", "kube-system")["status"]["phase"] == "Active"


# --- PostgreSQL -----------------------------------------------------------------------------------------------
@pytest.fixture(params=["postgres", "postgres_tls"])
def server(request: pytest.FixtureRequest) -> PostgresAccess:
    access: PostgresAccess = request.getfixturevalue(request.param)
    return access


def test_both_supported_ends_of_postgresql_run(postgres: PostgresAccess, postgres_tls: PostgresAccess) -> None:
    assert postgres.version // 10000 == 18
    assert postgres_tls.version // 10000 >= 15
    assert postgres.port != postgres_tls.port


def test_a_wrong_password_is_refused(server: PostgresAccess) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(server.dsn(server.admin_user, "wrong"))


def test_the_admin_role_may_make_databases_and_roles_but_is_no_superuser(server: PostgresAccess) -> None:
    query = "SELECT rolsuper, rolcreatedb, rolcreaterole, rolbypassrls FROM pg_roles WHERE rolname = current_user"
    with psycopg.connect(server.admin_dsn()) as connection:
        assert connection.execute(query).fetchone() == (False, True, True, True)


def test_others_may_not_connect_to_the_maintenance_databases(server: PostgresAccess, name_prefix: str) -> None:
    with psycopg.connect(server.admin_dsn(), autocommit=True) as admin:
        admin.execute(f"CREATE ROLE \"{name_prefix}\" LOGIN PASSWORD 'made-up'")
        try:
            for database in ("postgres", "template1"):
                with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
                    psycopg.connect(server.dsn(name_prefix, "made-up", database))
        finally:
            admin.execute(f'DROP ROLE "{name_prefix}"')


def test_public_keeps_its_connect_where_that_is_asked_for(fresh_postgres: FreshPostgres) -> None:
    access = fresh_postgres(public_connect=True).access
    query = "SELECT has_database_privilege('public', 'template1', 'CONNECT')"
    with psycopg.connect(access.admin_dsn()) as connection:
        assert connection.execute(query).fetchone() == (True,)


def test_a_tls_server_is_refused_by_a_client_with_another_authority(
    postgres_tls: PostgresAccess, tmp_path: Path
) -> None:
    with psycopg.connect(postgres_tls.admin_dsn()) as connection:
        assert connection.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone() == (True,)
    stranger = tmp_path / "ca.crt"
    stranger.write_text(Authority.new("somebody else").certificate_pem)
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        psycopg.connect(
            postgres_tls.dsn(postgres_tls.admin_user, postgres_tls.admin_password, sslrootcert=str(stranger))
        )


def test_a_tls_server_refuses_a_client_without_tls(postgres_tls: PostgresAccess) -> None:
    with pytest.raises(psycopg.OperationalError, match="no encryption"):
        psycopg.connect(postgres_tls.dsn(postgres_tls.admin_user, postgres_tls.admin_password, sslmode="disable"))


def test_a_server_goes_away_comes_back_with_its_data_and_is_gone_in_the_end(fresh_postgres: FreshPostgres) -> None:
    server = fresh_postgres()
    access = server.access
    with psycopg.connect(access.admin_dsn(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE kept")
    server.stop_server()
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(access.admin_dsn("kept"))
    server.start_server()
    psycopg.connect(access.admin_dsn("kept")).close()
    pid = server.access.pid
    assert psutil.Process(pid).username() != "root"
    server.stop()
    assert gone([pid])


def test_a_server_that_hangs_makes_clients_time_out(fresh_postgres: FreshPostgres) -> None:
    server = fresh_postgres()
    access = server.access
    server.pause()
    with pytest.raises(psycopg.OperationalError, match="timeout"):
        psycopg.connect(access.dsn(access.admin_user, access.admin_password, connect_timeout="2"))
    server.resume()
    psycopg.connect(access.admin_dsn()).close()


def test_a_folder_without_postgresql_is_reported() -> None:
    with pytest.raises(ServerError, match="there is no PostgreSQL in"):
        PostgresServer(wheel_binaries().parent).start()


def test_programs_in_a_closed_folder_are_copied_once_with_their_libraries(tmp_path: Path) -> None:
    site_packages = wheel_binaries().parents[2]
    copy = copy_for_all(site_packages, tmp_path / "cache")
    assert copy_for_all(site_packages, tmp_path / "cache") == copy
    assert copy.stat().st_mode & 0o777 == 0o755
    assert list((tmp_path / "cache").iterdir()) == [copy]
    psql = copy / WHEEL_PARTS[0] / "bin" / "psql"  # needs libpq, which is found from where psql is
    said = subprocess.run([psql, "--version"], capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout.startswith("psql (PostgreSQL) 18")
