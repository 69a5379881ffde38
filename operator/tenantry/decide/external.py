"""What the Secret of an External database may say: a stranger's data, taken by an allow-list and never as a URI."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import unicodedata
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tenantry.api.conditions import ConditionType, Reason
from tenantry.decide.halt import Terminal

KEYS: Final = ("host", "port", "dbname", "database", "username", "user", "password", "sslmode", "ca.crt")
DEFAULT_PORT: Final = 5432
SSL_MODES: Final = ("require", "verify-ca", "verify-full")
PLAINTEXT: Final = "disable"
"""Taken for a loopback address only, which leads nowhere unless the operator runs with --allow-loopback-targets."""
MAX_CA: Final = 256 * 1024
MAX_PASSWORD: Final = 1024
MAX_HOST: Final = 253

_LABEL: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_PORT: Final = re.compile(r"[1-9][0-9]{0,4}")
_DATABASE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.$-]{0,62}")
"""Without `=`, `:` and `/`, for libpq takes a database name with these for a whole connection string."""
_USER: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.$@-]{0,127}")
_MAX_SHOWN: Final = 63


@dataclass(frozen=True, slots=True)
class ExternalDatabase:
    """An External database as its Secret describes it: every value is of the form that it has to have.

    Attributes:
        host: A DNS name with a dot, or an IP address in normal form.
        by_name: The host is a name: where it leads can change.
        ca_pem: Certificates as PEM, written anew; empty without any.
    """

    host: str
    port: int
    database: str
    username: str
    password: str = field(repr=False)
    ssl_mode: str
    by_name: bool
    ca_pem: str = ""


def external_database(secret: str, data: Mapping[str, str]) -> ExternalDatabase:
    """Judge a Secret's data.

    Args:
        secret: Its name, for the message.
        data: Values as base64, as the API has them.

    Raises:
        Terminal: DatabaseSecretInvalid, with the first key that is wrong and the way out. No value is in it.
    """
    reader = _Reader(secret, data)
    host, by_name = reader.host()
    ca_pem = reader.ca()
    return ExternalDatabase(
        host=host,
        port=reader.port(),
        database=reader.text(
            "dbname", "database", form=_DATABASE, rule="letters, digits and _ . $ -, at most 63, none of . $ - first"
        ),
        username=reader.text(
            "username", "user", form=_USER, rule="letters, digits and _ . $ @ -, at most 128, none of . $ @ - first"
        ),
        password=reader.password(),
        ssl_mode=reader.ssl_mode(host, by_name=by_name, has_ca=bool(ca_pem)),
        by_name=by_name,
        ca_pem=ca_pem,
    )


class _Reader:
    """Takes one key after the other out of a Secret's data."""

    def __init__(self, secret: str, data: Mapping[str, str]) -> None:
        self._secret = secret
        self._data = data
        for key in sorted(data):
            if key not in KEYS:
                shown = key if len(key) <= _MAX_SHOWN else f"{key[:_MAX_SHOWN]}…"
                raise self._refusal(shown, f"is none of {', '.join(KEYS)}; take it out")

    def text(self, *keys: str, form: re.Pattern[str], rule: str) -> str:
        """The value of a key that has two names; both may be there if they say the same."""
        given = {key: self._value(key) for key in keys if key in self._data}
        if not given:
            raise self._refusal(keys[0], "is missing")
        for key, value in given.items():
            if not form.fullmatch(value):
                raise self._refusal(key, f"has to be of {rule}")
        if len(set(given.values())) > 1:
            raise self._refusal(keys[1], f"says something else than {keys[0]!r}; take one of them out")
        return next(iter(given.values()))

    def host(self) -> tuple[str, bool]:
        """The host, and whether it is a name."""
        if "host" not in self._data:
            raise self._refusal("host", "is missing")
        host = self._value("host")
        address = _address(host)
        if address is None and not _is_name(host):
            raise self._refusal(
                "host",
                "has to be one DNS name in full, such as db.example.com, or one IP address as it is usually written: "
                "no list, no path, no port, no URI",
            )
        return address or host, address is None

    def port(self) -> int:
        """The port; PostgreSQL's own where none is given."""
        text = self._value("port") if "port" in self._data else str(DEFAULT_PORT)
        if not _PORT.fullmatch(text) or int(text) > 65535:
            raise self._refusal("port", "has to be one number from 1 to 65535")
        return int(text)

    def password(self) -> str:
        """The password: any text of one line."""
        if "password" not in self._data:
            raise self._refusal("password", "is missing")
        password = self._value("password")
        if not 1 <= len(password) <= MAX_PASSWORD:
            raise self._refusal("password", f"has to have 1 to {MAX_PASSWORD} characters")
        if any(unicodedata.category(char) in ("Cc", "Zl", "Zp") for char in password):
            raise self._refusal(
                "password",
                "has a line break or another control character in it; make it with `printf %s`, which adds none",
            )
        return password

    def ssl_mode(self, host: str, *, by_name: bool, has_ca: bool) -> str:
        """The sslmode; without the key, the strictest that the Secret allows."""
        if "sslmode" not in self._data:
            return "verify-full" if has_ca else "require"
        mode = self._value("sslmode")
        if mode == PLAINTEXT and not by_name and ipaddress.ip_address(host).is_loopback:
            return mode
        if mode not in SSL_MODES:
            raise self._refusal("sslmode", f"has to be one of {', '.join(SSL_MODES)}: nothing goes unencrypted")
        if mode != "require" and not has_ca:
            raise self._refusal("ca.crt", f"is missing: with sslmode {mode} it says whom to trust")
        return mode

    def ca(self) -> str:
        """The certificates, written anew: nothing else of the file is handed on."""
        if "ca.crt" not in self._data:
            return ""
        pem = self._value("ca.crt", MAX_CA)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # an oddly encoded certificate is the business of who trusts it
                certificates = x509.load_pem_x509_certificates(pem.encode())
                written = [certificate.public_bytes(Encoding.PEM).decode() for certificate in certificates]
        except ValueError:
            written = []
        if not written or "PRIVATE KEY" in pem:
            raise self._refusal("ca.crt", "has to hold PEM certificates and no key")
        return "".join(written)

    def _value(self, key: str, longest: int = 8 * MAX_PASSWORD) -> str:
        try:
            value = base64.b64decode(self._data[key], validate=True).decode()
        except (ValueError, binascii.Error):
            raise self._refusal(key, "is no UTF-8 text") from None
        if len(value) > longest:
            raise self._refusal(key, f"has more than {longest} characters")
        return value

    def _refusal(self, key: str, what: str) -> Terminal:
        return Terminal(
            ConditionType.DATABASE_READY,
            Reason.DATABASE_SECRET_INVALID,
            f"spec.database.external.secretRef: key {key!r} of Secret {self._secret!r} {what}",
        )


def _address(host: str) -> str | None:
    """The host as an IP address in normal form; None if it is none, or an IPv4 address in an IPv6 one's clothes."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and (address.scope_id or address.ipv4_mapped):
        return None
    return str(address)


def _is_name(host: str) -> bool:
    """Whether it is a DNS name in full: a bare label would mean one thing here and another in the tenant's namespace.

    What only inet_aton takes for an address (`0177.1`, `0x7f.1`) is none.
    """
    labels = host.split(".")
    last = labels[-1].lower()
    return (
        len(host) <= MAX_HOST
        and len(labels) > 1
        and all(_LABEL.fullmatch(label) for label in labels)
        and not last.isdecimal()
        and not last.startswith("0x")
    )
