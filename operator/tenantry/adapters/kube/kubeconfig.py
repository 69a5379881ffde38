"""Kubeconfigs from strangers: what is on the allow-list is copied out, everything else is refused with its reason."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from tenantry.adapters.kube.certificates import checked_ca, checked_client_certificate
from tenantry.adapters.kube.refusal import WAY_OUT, KubeconfigReason, KubeconfigRefused, shown
from tenantry.adapters.kube.strict_yaml import MAX_BYTES, load_strict

SECRET_KEYS: Final = ("value", "value.yaml", "kubeconfig")
"""Cluster API's, Flux's and the plain key, in the order in which they are looked for."""

_HOST = re.compile(r"^(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*$")
_URL = re.compile(r"^[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+$")
_PATH = re.compile(r"^(/[A-Za-z0-9._~:-]+)*$")
_TOKEN = re.compile(r"^[\x21-\x7e]+$")

_ROOT: Final = frozenset(
    {"apiVersion", "kind", "preferences", "extensions", "clusters", "contexts", "users", "current-context"}
)
_ENTRY: Final = frozenset({"name", "cluster", "context", "user"})
_CONTEXT: Final = frozenset({"cluster", "user", "namespace", "extensions"})
_CLUSTER: Final = frozenset(
    {"server", "certificate-authority-data", "tls-server-name", "disable-compression", "extensions"}
)
_USER: Final = frozenset({"token", "client-certificate-data", "client-key-data", "extensions"})

_Refusals = Mapping[str, tuple[KubeconfigReason, str]]

_REFUSED_IN_CLUSTER: Final[_Refusals] = {
    "insecure-skip-tls-verify": (
        KubeconfigReason.INSECURE_TLS,
        "the server must be proven: remove it and give certificate-authority-data",
    ),
    "certificate-authority": (
        KubeconfigReason.CA_FILE,
        "a file is not read: put its content, in base64, into certificate-authority-data",
    ),
    "proxy-url": (KubeconfigReason.PROXY, "connections through a proxy are not supported: remove it"),
}
_IMPERSONATION = (KubeconfigReason.IMPERSONATION, f"impersonation is not accepted: {WAY_OUT}")
_BASIC_AUTH = (KubeconfigReason.BASIC_AUTH, f"basic authentication is not accepted: {WAY_OUT}")
_REFUSED_IN_USER: Final[_Refusals] = {
    "exec": (KubeconfigReason.EXEC, f"no program is run for credentials: {WAY_OUT}"),
    "auth-provider": (KubeconfigReason.AUTH_PROVIDER, f"authentication plugins are not run: {WAY_OUT}"),
    "tokenFile": (KubeconfigReason.TOKEN_FILE, f"a file is not read: put the token into token, or {WAY_OUT}"),
    "client-certificate": (
        KubeconfigReason.CLIENT_CERTIFICATE_FILE,
        f"a file is not read: put its content, in base64, into client-certificate-data, or {WAY_OUT}",
    ),
    "client-key": (
        KubeconfigReason.CLIENT_KEY_FILE,
        f"a file is not read: put its content, in base64, into client-key-data, or {WAY_OUT}",
    ),
    "username": _BASIC_AUTH,
    "password": _BASIC_AUTH,
    "as": _IMPERSONATION,
    "as-uid": _IMPERSONATION,
    "as-groups": _IMPERSONATION,
    "as-user-extra": _IMPERSONATION,
}


@dataclass(frozen=True, slots=True)
class TargetCredentials:
    """All that is taken from a kubeconfig. Its repr shows no secret.

    Attributes:
        server: `https://host:port/path`, normal form, the port always there, no slash at the end.
        host: A DNS name, or an IP address without brackets.
        ca_pem: One or more CA certificates.
        token: The bearer token; it, or a client certificate with its key, or both are there.
        client_certificate_pem: The chain, leaf first.
        client_key_pem: PKCS #8.
        tls_server_name: The name the server's certificate must be for, where that is not `host`.
    """

    server: str
    host: str
    port: int
    ca_pem: bytes = field(repr=False)
    token: str | None = field(default=None, repr=False)
    client_certificate_pem: bytes | None = field(default=None, repr=False)
    client_key_pem: bytes | None = field(default=None, repr=False)
    tls_server_name: str | None = None


def kubeconfig_from_secret(data: Mapping[str, str], key: str | None) -> bytes:
    """The kubeconfig in a Secret's `data` (values in base64): the given key, or the first of SECRET_KEYS that is there.

    Raises:
        KubeconfigRefused: if the key is missing (the message lists the keys that are there) or its value is no base64.
    """
    wanted = (key,) if key else SECRET_KEYS
    found = next((name for name in wanted if name in data), None)
    if found is None:
        there = ", ".join(sorted(data)[:10]) or "none"
        message = f"the Secret has no key {' or '.join(wanted)}; its keys: {there}"
        raise KubeconfigRefused(KubeconfigReason.SECRET_KEY_MISSING, message)
    encoded = data[found]
    if len(encoded) > MAX_BYTES * 2:
        raise KubeconfigRefused(KubeconfigReason.TOO_LARGE, "the kubeconfig is larger than 1 MiB")
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise KubeconfigRefused(KubeconfigReason.SECRET_INVALID, f"the Secret's key {found} is not base64") from None


def parse_kubeconfig(data: bytes | str, *, now: datetime) -> TargetCredentials:
    """The credentials of a kubeconfig's current context. Reads no file, runs no program, resolves no name.

    Entries that the current context does not use are not looked at: nothing of them is ever used.

    Args:
        data: YAML or JSON, at most 1 MiB.
        now: The time at which certificates must be valid, with its zone.

    Raises:
        KubeconfigRefused: for anything else; never another exception, whatever the bytes.
    """
    root = _fields(load_strict(data), "the kubeconfig", _ROOT)
    if root.get("kind", "Config") != "Config" or root.get("apiVersion", "v1") != "v1":
        message = "this is another kind of object: a kubeconfig has apiVersion v1 and kind Config"
        raise KubeconfigRefused(KubeconfigReason.NOT_A_KUBECONFIG, message)
    current = _text(root, "current-context", "the kubeconfig")
    if not current:
        message = "current-context is not set: name the context to use"
        raise KubeconfigRefused(KubeconfigReason.CONTEXT_MISSING, message)
    context = _entry(root, "context", current, KubeconfigReason.CONTEXT_UNKNOWN, "current-context")
    where = f"context {shown(current)}"
    context = _fields(context, where, _CONTEXT)
    cluster_name = _reference(context, "cluster", where, KubeconfigReason.CLUSTER_MISSING)
    user_name = _reference(context, "user", where, KubeconfigReason.USER_MISSING)
    cluster = _entry(root, "cluster", cluster_name, KubeconfigReason.CLUSTER_MISSING, where)
    user = _entry(root, "user", user_name, KubeconfigReason.USER_MISSING, where)
    return _credentials(
        _fields(cluster, f"cluster {shown(cluster_name)}", _CLUSTER, _REFUSED_IN_CLUSTER),
        _fields(user, f"user {shown(user_name)}", _USER, _REFUSED_IN_USER),
        now=now,
    )


def _credentials(cluster: dict[str, Any], user: dict[str, Any], *, now: datetime) -> TargetCredentials:
    server, host, port = _server(_text(cluster, "server", "cluster"))
    authority = _text(cluster, "certificate-authority-data", "cluster")
    if not authority:
        message = "certificate-authority-data is not set: give the CA certificate of the API server, in base64"
        raise KubeconfigRefused(KubeconfigReason.CA_MISSING, message)
    server_name = _text(cluster, "tls-server-name", "cluster")
    if server_name and not _is_host(server_name.lower()):
        message = "tls-server-name is neither a DNS name nor an IP address"
        raise KubeconfigRefused(KubeconfigReason.SERVER_NAME_INVALID, message)
    ca_pem = checked_ca(authority, now=now)
    token = _token(_text(user, "token", "user"))
    certificate, key = _client_certificate(user, now=now)
    if not token and not certificate:
        message = f"the user has neither a token nor client-certificate-data and client-key-data: {WAY_OUT}"
        raise KubeconfigRefused(KubeconfigReason.CREDENTIALS_MISSING, message)
    return TargetCredentials(
        server, host, port, ca_pem, token or None, certificate, key, server_name.lower() if server_name else None
    )


def _client_certificate(user: dict[str, Any], *, now: datetime) -> tuple[bytes | None, bytes | None]:
    certificate = _text(user, "client-certificate-data", "user")
    key = _text(user, "client-key-data", "user")
    if not certificate and not key:
        return None, None
    if not key:
        message = "client-certificate-data is set but client-key-data is not"
        raise KubeconfigRefused(KubeconfigReason.CLIENT_KEY_MISSING, message)
    if not certificate:
        message = "client-key-data is set but client-certificate-data is not"
        raise KubeconfigRefused(KubeconfigReason.CLIENT_CERTIFICATE_MISSING, message)
    return checked_client_certificate(certificate, key, now=now)


def _token(token: str) -> str:
    if token and not _TOKEN.fullmatch(token):
        message = "token has a space, a line break or another character that no token has"
        raise KubeconfigRefused(KubeconfigReason.TOKEN_INVALID, message)
    return token


# --- the server's URL -----------------------------------------------------------------------------------------
def _server(url: str) -> tuple[str, str, int]:
    """The URL in normal form, its host and its port."""
    if not url:
        raise KubeconfigRefused(
            KubeconfigReason.SERVER_MISSING, "server is not set: give the https URL of the API server"
        )
    parts, port = _split(url)
    if parts.scheme == "http":
        raise KubeconfigRefused(KubeconfigReason.PLAIN_HTTP, "server uses http: credentials only travel over https")
    if parts.scheme != "https":
        raise _invalid_server("it is no https URL")
    if "@" in parts.netloc:
        raise KubeconfigRefused(KubeconfigReason.USER_INFO, f"server has a user name in its URL: {WAY_OUT}")
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise _invalid_server("it has a query or a fragment")
    host = (parts.hostname or "").removesuffix(".")
    if not _is_host(host):
        raise _invalid_server("its host is neither a DNS name nor an IP address")
    path = parts.path.rstrip("/")
    if not _PATH.fullmatch(path) or any(part in {".", ".."} for part in path.split("/")):
        raise _invalid_server("its path is not plain")
    return f"https://{f'[{host}]' if ':' in host else host}:{port}{path}", host, port


def _split(url: str) -> tuple[SplitResult, int]:
    if not _URL.fullmatch(url):
        raise _invalid_server("it has characters that a URL has not (write an international name in its xn-- form)")
    try:
        parts = urlsplit(url)
        port = 443 if parts.port is None else parts.port
    except ValueError:
        raise _invalid_server("its host or port can't be read") from None
    if port == 0:
        raise _invalid_server("its port is 0")
    return parts, port


def _invalid_server(problem: str) -> KubeconfigRefused:
    message = f"server is not usable: {problem}; give it as https://host:port"
    return KubeconfigRefused(KubeconfigReason.SERVER_INVALID, message)


def _is_host(host: str) -> bool:
    if ":" not in host:
        return _HOST.fullmatch(host) is not None
    try:
        return "%" not in host and ipaddress.ip_address(host) is not None
    except ValueError:
        return False


# --- reading plain values -------------------------------------------------------------------------------------
def _fields(value: Any, where: str, allowed: frozenset[str], refused: _Refusals | None = None) -> dict[str, Any]:
    """The mapping without unset fields (null, empty, false): what kubectl takes as unset too."""
    mapping = _mapping(value, where)
    present = {name: item for name, item in mapping.items() if item is not None and item is not False and item != ""}
    for name in present:
        if refused and name in refused:
            reason, problem = refused[name]
            raise KubeconfigRefused(reason, f"{where}: {name}: {problem}")
        if name not in allowed:
            raise KubeconfigRefused(KubeconfigReason.UNKNOWN_FIELD, f"{where} has an unknown field {shown(name)}")
    return present


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise KubeconfigRefused(KubeconfigReason.NOT_A_KUBECONFIG, f"{where} is not a mapping of fields")
    return value


def _text(mapping: dict[str, Any], name: str, where: str) -> str:
    value = mapping.get(name, "")
    if not isinstance(value, str):
        raise KubeconfigRefused(KubeconfigReason.NOT_A_KUBECONFIG, f"{where}: {name} is not text")
    return value


def _reference(context: dict[str, Any], name: str, where: str, reason: KubeconfigReason) -> str:
    value = _text(context, name, where)
    if not value:
        raise KubeconfigRefused(reason, f"{where} names no {name}")
    return value


def _entry(root: dict[str, Any], kind: str, name: str, reason: KubeconfigReason, asked_by: str) -> Any:
    """The one entry of that name in the list `contexts`, `clusters` or `users`."""
    entries = root.get(f"{kind}s", [])
    if not isinstance(entries, list):
        raise KubeconfigRefused(KubeconfigReason.NOT_A_KUBECONFIG, f"{kind}s is not a list")
    found = [_mapping(entry, f"an entry of {kind}s") for entry in entries]
    found = [entry for entry in found if entry.get("name") == name]
    if not found:
        raise KubeconfigRefused(reason, f"{asked_by} names the {kind} {shown(name)}, which is not in {kind}s")
    if len(found) > 1:
        message = f"{kind}s has {shown(name)} more than once: leave one"
        raise KubeconfigRefused(KubeconfigReason.AMBIGUOUS_NAME, message)
    return _fields(found[0], f"the entry {shown(name)} of {kind}s", _ENTRY).get(kind, {})
