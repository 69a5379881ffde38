"""The plain values of the test clusters: access that crosses processes, audit entries, kubeconfigs, flags."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from tests.controlplane.access import ClusterAccess, kubeconfig_text
from tests.controlplane.audit import parse_entry, read_entries
from tests.controlplane.certificates import Authority
from tests.controlplane.flags import apiserver_flags, arguments
from tests.controlplane.postgres_access import PostgresAccess
from tests.controlplane.postgres_binaries import debian_binaries
from tests.controlplane.processes import ServerError

EVENT = (
    b'{"user":{"username":"system:serviceaccount:a:b"},"verb":"patch","requestURI":"/api","stage":"ResponseComplete",'
    b'"userAgent":"x","objectRef":{"resource":"namespaces","name":"n","namespace":"n","subresource":"status"},'
    b'"responseStatus":{"code":200},"requestReceivedTimestamp":"2026-01-02T03:04:05.000001Z",'
    b'"stageTimestamp":"2026-01-02T03:04:05.500000Z"}\n'
)


def cluster(authority: Authority | None) -> ClusterAccess:
    return ClusterAccess(
        name="target",
        server="https://127.0.0.1:1",
        ca_pem="CA",
        kubeconfig="{}",
        kubeconfig_path=Path("/data/kubeconfig"),
        folder=Path("/data"),
        kubectl_program=("kube-all", "kubectl"),
        authority=authority,
        audit_log=Path("/data/audit.log") if authority else None,
        pids={"etcd": 1},
    )


@pytest.mark.parametrize("authority", [None, Authority("certificate", "key")])
def test_access_to_a_cluster_survives_the_way_to_another_process(authority: Authority | None) -> None:
    assert ClusterAccess.from_json(cluster(authority).to_json()) == cluster(authority)


@pytest.mark.parametrize("ca", [None, "CA"])
def test_access_to_postgresql_survives_the_way_to_another_process(ca: str | None) -> None:
    path = Path("/ca.crt") if ca else None
    access = PostgresAccess("127.0.0.1", 1, 150018, "postgres", "s", "admin", "a", Path("/bin"), ca, path, 7)
    assert PostgresAccess.from_json(access.to_json()) == access
    assert ("sslmode=verify-full" in access.admin_dsn()) == bool(ca)


def test_a_given_cluster_signs_no_certificates_and_has_no_audit_log() -> None:
    with pytest.raises(LookupError, match="given cluster"):
        cluster(None).certificate_kubeconfig("ada")
    with pytest.raises(LookupError, match="no audit log"):
        cluster(None).audit_mark()


def test_a_kubeconfig_has_everything_in_line() -> None:
    config = json.loads(kubeconfig_text("c", "https://x:1", "PEM", {"token": "t"}))
    assert base64.b64decode(config["clusters"][0]["cluster"].pop("certificate-authority-data")) == b"PEM"
    assert config["clusters"] == [{"name": "c", "cluster": {"server": "https://x:1"}}]
    assert config["users"] == [{"name": "c", "user": {"token": "t"}}]


def test_a_client_certificate_names_user_and_groups_and_may_be_long_expired() -> None:
    pair = Authority.new("ca").client("ada", ["blue", "red"], lifetime=timedelta(days=-1))
    certificate = x509.load_pem_x509_certificate(pair.certificate_pem.encode())
    assert certificate.subject.rfc4514_string() == "CN=ada,O=red,O=blue"
    assert certificate.not_valid_before_utc < certificate.not_valid_after_utc < datetime.now(UTC)


def test_an_audit_event_becomes_an_entry() -> None:
    entry = parse_entry(EVENT)
    assert (entry.user, entry.verb, entry.code) == ("system:serviceaccount:a:b", "patch", 200)
    assert (entry.group, entry.resource, entry.subresource, entry.name) == ("", "namespaces", "status", "n")
    assert entry.is_write
    assert entry.answered - entry.received == timedelta(microseconds=499_999)


def test_an_audit_line_that_is_still_being_written_is_left_for_later(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    log.write_bytes(EVENT + EVENT + EVENT[:40])
    assert len(read_entries(log)) == 2
    assert len(read_entries(log, after=len(EVENT))) == 1


@pytest.mark.parametrize("audit", [True, False])
def test_the_api_server_keeps_an_audit_log_only_where_asked(audit: bool) -> None:
    flags = apiserver_flags(Path("/data"), etcd_port=1, port=2, event_ttl="5m", audit=audit)
    assert ("audit-log-path" in flags) == audit
    assert "--event-ttl=5m" in arguments(flags)
    assert not any("admission" in name for name in flags)


def test_the_newest_debian_postgresql_is_taken_by_number_not_by_letters(tmp_path: Path) -> None:
    for version in ("9", "15", "17"):
        (tmp_path / version / "bin").mkdir(parents=True)
        (tmp_path / version / "bin" / "postgres").touch()
    assert debian_binaries(tmp_path) == tmp_path / "17" / "bin"


def test_without_debians_postgresql_the_package_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="apt-get install postgresql-15"):
        debian_binaries(tmp_path)
