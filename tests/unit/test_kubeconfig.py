"""The strict kubeconfig parser: what it takes, and every refusal with its reason and message."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from hypothesis import given
from hypothesis import strategies as st
from tests.controlplane.certificates import Authority

from tenantry.adapters.kube.kubeconfig import TargetCredentials, kubeconfig_from_secret, parse_kubeconfig
from tenantry.adapters.kube.refusal import KubeconfigReason, KubeconfigRefused

NOW = datetime.now(UTC)
CA = Authority.new("ca")
CLIENT = CA.client("operator")
TOKEN = "sa-token.abc-123"

Json = dict[str, Any]


def b64(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


CONFIG: Json = {
    "apiVersion": "v1",
    "kind": "Config",
    "preferences": {},
    "current-context": "eu",
    "contexts": [{"name": "eu", "context": {"cluster": "eu-1", "user": "sa", "namespace": "default"}}],
    "clusters": [
        {
            "name": "eu-1",
            "cluster": {
                "server": "https://eu.example.com:6443",
                "certificate-authority-data": b64(CA.certificate_pem),
            },
        }
    ],
    "users": [{"name": "sa", "user": {"token": TOKEN}}],
}


def config(*, cluster: Json | None = None, user: Json | None = None) -> Json:
    """The good kubeconfig with fields of its cluster and its user set anew."""
    changed = copy.deepcopy(CONFIG)
    changed["clusters"][0]["cluster"].update(cluster or {})
    changed["users"][0]["user"].update(user or {})
    return changed


def parsed(**changes: Json) -> TargetCredentials:
    return parse_kubeconfig(json.dumps(config(**changes)), now=NOW)


def refusal(data: Json, now: datetime = NOW) -> KubeconfigRefused:
    with pytest.raises(KubeconfigRefused) as caught:
        parse_kubeconfig(json.dumps(data), now=now)
    return caught.value


BY_CERTIFICATE: Json = {
    "token": None,
    "client-certificate-data": b64(CLIENT.certificate_pem),
    "client-key-data": b64(CLIENT.key_pem),
}


# --- what is taken --------------------------------------------------------------------------------------------
def test_a_token_kubeconfig_gives_its_credentials() -> None:
    credentials = parsed()
    assert credentials == TargetCredentials(
        "https://eu.example.com:6443", "eu.example.com", 6443, CA.certificate_pem.encode(), TOKEN
    )


def test_yaml_and_json_mean_the_same() -> None:
    assert parse_kubeconfig(yaml.safe_dump(CONFIG), now=NOW) == parsed()


def test_a_client_certificate_is_taken_with_its_key() -> None:
    credentials = parsed(user=BY_CERTIFICATE)
    assert credentials.client_certificate_pem == CLIENT.certificate_pem.encode()
    assert credentials.client_key_pem is not None
    leaf = x509.load_pem_x509_certificate(credentials.client_certificate_pem)
    assert load_pem_private_key(credentials.client_key_pem, None).public_key() == leaf.public_key()
    assert credentials.token is None


def test_no_secret_shows_in_the_repr() -> None:
    key = parsed(user=BY_CERTIFICATE).client_key_pem
    assert key is not None
    assert TOKEN not in repr(parsed())
    assert key.decode().splitlines()[1] not in repr(parsed(user=BY_CERTIFICATE))


@pytest.mark.parametrize(
    ("given_server", "server", "host", "port"),
    [
        ("https://EU.Example.com", "https://eu.example.com:443", "eu.example.com", 443),
        ("https://eu.example.com./", "https://eu.example.com:443", "eu.example.com", 443),
        ("https://192.0.2.7:6443", "https://192.0.2.7:6443", "192.0.2.7", 6443),
        ("https://[2001:db8::1]:6443/", "https://[2001:db8::1]:6443", "2001:db8::1", 6443),
        ("https://r.example/k8s/clusters/c-1/", "https://r.example:443/k8s/clusters/c-1", "r.example", 443),
    ],
)
def test_the_server_is_brought_into_normal_form(given_server: str, server: str, host: str, port: int) -> None:
    credentials = parsed(cluster={"server": given_server})
    assert (credentials.server, credentials.host, credentials.port) == (server, host, port)


def test_unset_fields_and_extensions_mean_nothing() -> None:
    unset = config(
        cluster={"insecure-skip-tls-verify": False, "certificate-authority": "", "proxy-url": None, "extensions": [{}]},
        user={"exec": None, "tokenFile": "", "username": ""},
    )
    unset["extensions"] = [{"name": "minikube", "extension": {"a": [1, {"b": None}]}}]
    assert parse_kubeconfig(json.dumps(unset), now=NOW) == parsed()


def test_entries_that_the_current_context_does_not_use_are_not_looked_at() -> None:
    more = config()
    more["users"].append({"name": "other", "user": {"exec": {"command": "touch"}}})
    more["clusters"].append({"name": "other", "cluster": {"server": "http://other"}})
    assert parse_kubeconfig(json.dumps(more), now=NOW) == parsed()


def test_tls_server_name_is_taken() -> None:
    assert parsed(cluster={"tls-server-name": "K8s.Local"}).tls_server_name == "k8s.local"


def test_line_breaks_in_base64_are_fine() -> None:
    wrapped = base64.encodebytes(CA.certificate_pem.encode()).decode()
    assert parsed(cluster={"certificate-authority-data": wrapped}) == parsed()


# --- refusals in the user ------------------------------------------------------------------------------------
JOIN = "tenantry cluster join"


@pytest.mark.parametrize(
    ("field", "value", "reason", "way_out"),
    [
        ("exec", {"command": "aws", "apiVersion": "client.authentication.k8s.io/v1"}, KubeconfigReason.EXEC, JOIN),
        ("exec", {}, KubeconfigReason.EXEC, JOIN),
        ("auth-provider", {"name": "oidc"}, KubeconfigReason.AUTH_PROVIDER, JOIN),
        ("tokenFile", "/etc/shadow", KubeconfigReason.TOKEN_FILE, "put the token into token"),
        ("client-certificate", "/a.crt", KubeconfigReason.CLIENT_CERTIFICATE_FILE, "client-certificate-data"),
        ("client-key", "/a.key", KubeconfigReason.CLIENT_KEY_FILE, "client-key-data"),
        ("username", "admin", KubeconfigReason.BASIC_AUTH, JOIN),
        ("password", "hunter2", KubeconfigReason.BASIC_AUTH, JOIN),
        ("as", "root", KubeconfigReason.IMPERSONATION, JOIN),
        ("as-uid", "1", KubeconfigReason.IMPERSONATION, JOIN),
        ("as-groups", ["system:masters"], KubeconfigReason.IMPERSONATION, JOIN),
        ("as-user-extra", {"a": ["b"]}, KubeconfigReason.IMPERSONATION, JOIN),
        ("colour", "red", KubeconfigReason.UNKNOWN_FIELD, "unknown field"),
    ],
)
def test_a_field_of_the_user_that_is_not_allowed_is_refused_by_name(
    field: str, value: object, reason: KubeconfigReason, way_out: str
) -> None:
    found = refusal(config(user={field: value}))
    assert found.reason == reason
    assert field in found.message
    assert '"sa"' in found.message
    assert way_out in found.message


def test_reasons_are_written_as_in_conditions() -> None:
    assert str(KubeconfigReason.CLIENT_CERTIFICATE_EXPIRED) == "ClientCertificateExpired"
    assert all(reason.isalpha() and reason[0].isupper() for reason in KubeconfigReason)


def test_a_user_without_credentials_is_refused() -> None:
    found = refusal(config(user={"token": None}))
    assert found.reason == KubeconfigReason.CREDENTIALS_MISSING
    assert JOIN in found.message


@pytest.mark.parametrize("token", ["a b", "a\n", "a\r\nX-Evil: 1", "tökén", "\t"])
def test_a_token_that_no_header_can_carry_is_refused_and_not_repeated(token: str) -> None:
    found = refusal(config(user={"token": token}))
    assert found.reason == KubeconfigReason.TOKEN_INVALID
    assert token not in found.message


# --- refusals in the cluster ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("field", "value", "reason", "way_out"),
    [
        ("insecure-skip-tls-verify", True, KubeconfigReason.INSECURE_TLS, "certificate-authority-data"),
        ("insecure-skip-tls-verify", "yes", KubeconfigReason.INSECURE_TLS, "certificate-authority-data"),
        ("certificate-authority", "/ca.crt", KubeconfigReason.CA_FILE, "certificate-authority-data"),
        ("proxy-url", "http://proxy:3128", KubeconfigReason.PROXY, "remove it"),
        ("colour", "red", KubeconfigReason.UNKNOWN_FIELD, "unknown field"),
        ("tls-server-name", "a b", KubeconfigReason.SERVER_NAME_INVALID, "DNS name"),
        ("certificate-authority-data", "%%%", KubeconfigReason.CA_INVALID, "base64"),
        ("certificate-authority-data", b64("no pem"), KubeconfigReason.CA_INVALID, "PEM"),
        ("certificate-authority-data", "", KubeconfigReason.CA_MISSING, "in base64"),
        ("server", "", KubeconfigReason.SERVER_MISSING, "https URL"),
        ("server", "http://eu.example.com", KubeconfigReason.PLAIN_HTTP, "https"),
        ("server", "https://admin:hunter2@eu.example.com", KubeconfigReason.USER_INFO, JOIN),
        ("server", "https://@eu.example.com", KubeconfigReason.USER_INFO, JOIN),
        ("server", ["https://eu.example.com"], KubeconfigReason.NOT_A_KUBECONFIG, "not text"),
    ],
)
def test_a_field_of_the_cluster_that_is_not_allowed_is_refused_by_name(
    field: str, value: object, reason: KubeconfigReason, way_out: str
) -> None:
    found = refusal(config(cluster={field: value}))
    assert found.reason == reason
    assert field in found.message
    assert way_out in found.message
    assert "hunter2" not in found.message


@pytest.mark.parametrize(
    "server",
    [
        "eu.example.com:6443",
        "ftp://eu.example.com",
        "unix:///var/run/docker.sock",
        "https://",
        "https://:6443",
        "https://eu.example.com:0",
        "https://eu.example.com:99999",
        "https://eu.example.com:x",
        "https://eu.example.com/?a=b",
        "https://eu.example.com/#a",
        "https://eu.example.com/../etc",
        "https://eu.example.com/a//b",
        "https://eu.example.com/%2e%2e",
        "https://eu example.com",
        "https://eu.example.com\n.evil",
        "https://good.example\\@evil.example",
        "https://[fe80::1%25eth0]:6443",
        "https://[::1",
        "https://münchen.example",
        "https://-a.example",
    ],
)
def test_a_server_that_is_no_plain_https_url_is_refused(server: str) -> None:
    found = refusal(config(cluster={"server": server}))
    assert found.reason == KubeconfigReason.SERVER_INVALID
    assert "https://host:port" in found.message


# --- certificates --------------------------------------------------------------------------------------------
def test_an_expired_client_certificate_is_refused_with_its_date() -> None:
    pair = CA.client("operator", lifetime=timedelta(days=-3))
    user = {"client-certificate-data": b64(pair.certificate_pem), "client-key-data": b64(pair.key_pem)}
    found = refusal(config(user=user))
    assert found.reason == KubeconfigReason.CLIENT_CERTIFICATE_EXPIRED
    assert f"{datetime.now(UTC) - timedelta(days=3):%Y-%m-%d}" in found.message


def test_a_client_certificate_of_tomorrow_is_refused() -> None:
    found = refusal(config(user=BY_CERTIFICATE), NOW - timedelta(days=1))
    assert found.reason == KubeconfigReason.CLIENT_CERTIFICATE_NOT_YET_VALID


def test_an_expired_ca_is_refused() -> None:
    found = refusal(config(), NOW + timedelta(days=30))
    assert found.reason == KubeconfigReason.CA_EXPIRED


def test_a_key_of_another_certificate_is_refused() -> None:
    user = BY_CERTIFICATE | {"client-key-data": b64(CA.client("another").key_pem)}
    assert refusal(config(user=user)).reason == KubeconfigReason.CLIENT_KEY_MISMATCH


def encrypted_key() -> str:
    key = load_pem_private_key(CLIENT.key_pem.encode(), None)
    return b64(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"phrase")))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"client-certificate-data": None}, KubeconfigReason.CLIENT_CERTIFICATE_MISSING),
        ({"client-certificate-data": b64("no pem")}, KubeconfigReason.CLIENT_CERTIFICATE_INVALID),
        ({"client-certificate-data": "!"}, KubeconfigReason.CLIENT_CERTIFICATE_INVALID),
        ({"client-key-data": None}, KubeconfigReason.CLIENT_KEY_MISSING),
        ({"client-key-data": b64("no pem")}, KubeconfigReason.CLIENT_KEY_INVALID),
        ({"client-key-data": b64(CLIENT.certificate_pem)}, KubeconfigReason.CLIENT_KEY_INVALID),
        ({"client-key-data": encrypted_key()}, KubeconfigReason.CLIENT_KEY_INVALID),
        ({"client-key-data": b64("x" * 100_000)}, KubeconfigReason.CLIENT_KEY_INVALID),
    ],
)
def test_half_or_broken_client_certificates_are_refused(changes: Json, reason: KubeconfigReason) -> None:
    found = refusal(config(user=BY_CERTIFICATE | changes))
    assert found.reason == reason
    assert "data" in found.message


# --- the structure -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        (lambda root: root.pop("current-context"), KubeconfigReason.CONTEXT_MISSING, "current-context"),
        (lambda root: root.update({"current-context": "us"}), KubeconfigReason.CONTEXT_UNKNOWN, '"us"'),
        (lambda root: root.pop("contexts"), KubeconfigReason.CONTEXT_UNKNOWN, '"eu"'),
        (lambda root: root.pop("clusters"), KubeconfigReason.CLUSTER_MISSING, '"eu-1"'),
        (lambda root: root["contexts"][0]["context"].pop("cluster"), KubeconfigReason.CLUSTER_MISSING, "no cluster"),
        (lambda root: root.update(users=[]), KubeconfigReason.USER_MISSING, '"sa"'),
        (lambda root: root["contexts"][0]["context"].pop("user"), KubeconfigReason.USER_MISSING, "no user"),
        (lambda root: root["users"].append(root["users"][0]), KubeconfigReason.AMBIGUOUS_NAME, "more than once"),
        (lambda root: root.update(kind="Secret"), KubeconfigReason.NOT_A_KUBECONFIG, "kind Config"),
        (lambda root: root.update(apiVersion="v2"), KubeconfigReason.NOT_A_KUBECONFIG, "apiVersion v1"),
        (lambda root: root.update(users={"sa": {}}), KubeconfigReason.NOT_A_KUBECONFIG, "users is not a list"),
        (lambda root: root.update(users=["sa"]), KubeconfigReason.NOT_A_KUBECONFIG, "not a mapping"),
        (lambda root: root.update(spec={"a": 1}), KubeconfigReason.UNKNOWN_FIELD, '"spec"'),
        (lambda root: root["contexts"][0]["context"].update(x="y"), KubeconfigReason.UNKNOWN_FIELD, '"x"'),
        (lambda root: root["users"][0].update(x="y"), KubeconfigReason.UNKNOWN_FIELD, '"x"'),
    ],
)
def test_a_kubeconfig_that_does_not_hang_together_is_refused(
    change: Callable[[Json], object], reason: KubeconfigReason, words: str
) -> None:
    changed = config()
    change(changed)
    found = refusal(changed)
    assert found.reason == reason
    assert words in found.message


# --- the Secret around it ------------------------------------------------------------------------------------
@pytest.mark.parametrize("key", ["value", "value.yaml", "kubeconfig"])
def test_the_customary_keys_of_a_secret_are_found(key: str) -> None:
    assert kubeconfig_from_secret({key: b64("text"), "other": b64("x")}, None) == b"text"


def test_cluster_apis_key_comes_before_the_others() -> None:
    assert kubeconfig_from_secret({"kubeconfig": b64("3"), "value.yaml": b64("2"), "value": b64("1")}, None) == b"1"


def test_a_given_key_is_the_only_one_that_counts() -> None:
    assert kubeconfig_from_secret({"value": b64("1"), "mine": b64("2")}, "mine") == b"2"
    with pytest.raises(KubeconfigRefused, match="no key mine; its keys: value") as caught:
        kubeconfig_from_secret({"value": b64("1")}, "mine")
    assert caught.value.reason == KubeconfigReason.SECRET_KEY_MISSING


def test_the_keys_that_are_there_are_listed_without_their_values() -> None:
    with pytest.raises(KubeconfigRefused) as caught:
        kubeconfig_from_secret({"b": b64("hunter2"), "a": b64("hunter2")}, None)
    assert caught.value.message == "the Secret has no key value or value.yaml or kubeconfig; its keys: a, b"


def test_a_secrets_value_must_be_base64() -> None:
    with pytest.raises(KubeconfigRefused) as caught:
        kubeconfig_from_secret({"value": "%"}, None)
    assert caught.value.reason == KubeconfigReason.SECRET_INVALID


# --- whatever comes ------------------------------------------------------------------------------------------
NAMES = [
    "kind",
    "clusters",
    "contexts",
    "users",
    "current-context",
    "name",
    "cluster",
    "user",
    "token",
    "server",
    "exec",
]
SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=5)


@given(
    st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
        max_leaves=20,
    )
)
def test_any_structure_without_credentials_is_refused(value: object) -> None:
    with pytest.raises(KubeconfigRefused):
        parse_kubeconfig(json.dumps(value), now=NOW)


@given(st.sampled_from(["clusters", "users"]), st.text(max_size=12), st.text(min_size=1, max_size=12))
def test_no_field_beside_the_allowed_ones_changes_anything(place: str, name: str, value: str) -> None:
    changed = config()
    for entry in changed[place]:
        entry[place.removesuffix("s")].setdefault(name, value)
    try:
        taken = parse_kubeconfig(json.dumps(changed), now=NOW)
    except KubeconfigRefused:
        return
    assert taken == parsed()
