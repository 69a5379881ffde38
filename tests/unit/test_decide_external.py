"""The Secret of an External database: only what is allow-listed gets through, and no refusal says a value."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict
from tests.controlplane.certificates import Authority
from tests.unit.strategies import calmly, identities

from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.identity import TenantIdentity
from tenantry.decide.external import KEYS, ExternalDatabase, external_database
from tenantry.decide.halt import Terminal
from tenantry.desired.encoding import decoded
from tenantry.reconcile.external import External

GOOD: Final[Mapping[str, str]] = {
    "host": "db.example.com", "dbname": "shop", "username": "app", "password": "p:a/s\\s @w%rd?&é",
}  # fmt: skip
SECRET: Final = "customer-db"


def encoded(values: Mapping[str, str | bytes]) -> dict[str, str]:
    return {
        key: base64.b64encode(value if isinstance(value, bytes) else value.encode()).decode()
        for key, value in values.items()
    }


def judged(**changes: str | bytes | None) -> ExternalDatabase:
    """The good Secret with other values; None takes one out, an underscore stands for a dot."""
    values: dict[str, str | bytes] = dict(GOOD)
    for key, value in changes.items():
        name = key.replace("_", ".")
        if value is None:
            del values[name]
        else:
            values[name] = value
    return external_database(SECRET, encoded(values))


def refusal(**changes: str | bytes | None) -> str:
    with pytest.raises(Terminal) as caught:
        judged(**changes)
    assert (caught.value.condition, caught.value.reason) == (
        ConditionType.DATABASE_READY, Reason.DATABASE_SECRET_INVALID,
    )  # fmt: skip
    return caught.value.message


CA: Final = Authority.new("the authority").certificate_pem
CA_KEY: Final = "-----BEGIN PRIVATE KEY-----\nMC4CAQ==\n-----END PRIVATE KEY-----\n"


def test_what_is_left_out_is_the_usual_port_and_the_strictest_sslmode_that_the_secret_allows() -> None:
    database = judged()
    assert (database.port, database.ssl_mode, database.ca_pem, database.by_name) == (5432, "require", "", True)
    assert judged(ca_crt=CA).ssl_mode == "verify-full"


def test_both_names_of_a_key_are_taken_and_may_stand_together_if_they_agree() -> None:
    assert judged(dbname=None, database="shop", username=None, user="app") == judged()
    assert judged(database="shop", user="app") == judged()
    assert "key 'database'" in refusal(database="other")
    assert "key 'user'" in refusal(user="other")


@pytest.mark.parametrize("key", ["host", "dbname", "username", "password"])
def test_what_nobody_can_guess_has_to_be_there(key: str) -> None:
    assert refusal(**{key: None}) == (f"spec.database.external.secretRef: key {key!r} of Secret {SECRET!r} is missing")


@pytest.mark.parametrize(
    ("host", "taken", "by_name"),
    [
        ("192.0.2.7", "192.0.2.7", False), ("2001:DB8:0::1", "2001:db8::1", False), ("a.b", "a.b", True),
        ("DB-1.eu.Example.com", "DB-1.eu.Example.com", True), ("10-0-0-1.db.example", "10-0-0-1.db.example", True),
    ],
)  # fmt: skip
def test_a_host_is_one_full_name_or_one_address(host: str, taken: str, by_name: bool) -> None:
    database = judged(host=host)
    assert (database.host, database.by_name) == (taken, by_name)


@pytest.mark.parametrize(
    "host",
    [
        "", " ", "db", "localhost", "db.example.com.", ".example.com", "db..example.com", "-db.example.com",
        "db.example.com:5432", "a.example.com,b.example.com", "192.0.2.7,192.0.2.8", "/var/run/postgresql", "@abstract",
        "./socket", "C:\\pipe", "postgresql://db.example.com/shop", "host=db.example.com", "db.example.com port=1",
        "db.example.com\n", "db.example.com\x00", "db.exa\u0000mple.com", "[::1]", "fe80::1%eth0", "::ffff:192.0.2.7",
        "0177.0.0.1", "0x7f.1", "127.1", "2130706433", "0x7f000001", "192.0.2.7/32", "bücher.example",
        "db_1.example.com", "db.example.com?sslmode=disable", "user@db.example.com", "a" * 64 + ".example.com",
        f"{'a.' * 130}com", "٣.example",
        "db.example.com ", "*.example.com", "${HOST}.example.com",
    ],
)  # fmt: skip
def test_a_host_that_is_a_list_a_path_a_uri_or_oddly_written_is_refused(host: str) -> None:
    message = refusal(host=host)
    assert message.startswith(f"spec.database.external.secretRef: key 'host' of Secret {SECRET!r} has to be one DNS")
    assert "such as db.example.com" in message


@pytest.mark.parametrize(
    "port", ["", "0", "65536", "99999", "-1", "+1", "5432,5433", "5_432", " 5432", "5432\n", "0x10", "05432", "٣", "pg"]
)
def test_a_port_is_one_plain_number(port: str) -> None:
    assert "key 'port'" in refusal(port=port)
    assert judged(port="65535").port == 65535


@pytest.mark.parametrize(
    "name",
    [
        "", "postgresql://u:p@h/db", "host=evil dbname=x", "a=b", "a/b", "a b", "a'b", 'a"b', "-c", "--help", "$user",
        ".x", "a;b", "a\n", "a\x00", "ä", "a\\b", "a:b", "a?b", "a#b", "a%20b", "a,b", "@a", "a" * 200,
    ],
)  # fmt: skip
def test_a_name_that_a_client_could_take_for_more_than_a_name_is_refused(name: str) -> None:
    for key in ("dbname", "username"):
        assert f"key {key!r}" in refusal(**{key: name})


def test_a_login_may_have_an_at_and_a_database_may_not() -> None:
    assert judged(username="app@server").username == "app@server"
    assert "key 'dbname'" in refusal(dbname="app@server")
    assert judged(dbname="a" * 63).database == "a" * 63
    assert "key 'dbname'" in refusal(dbname="a" * 64)


@pytest.mark.parametrize("password", ["", "a\n", "a\r\n", "a\x00b", "a\tb", "\x7f", "\x85", "a\u2028b", "a" * 1025])
def test_a_password_is_one_line_of_text(password: str) -> None:
    assert "key 'password'" in refusal(password=password)
    assert judged(password="a" * 1024).password == "a" * 1024


@pytest.mark.parametrize("mode", ["", "disable", "allow", "prefer", "REQUIRE", "require ", "verify-full,disable", "on"])
def test_nothing_goes_unencrypted(mode: str) -> None:
    for host in ("db.example.com", "192.0.2.7", "2001:db8::1", "localhost.example"):
        assert "key 'sslmode'" in refusal(sslmode=mode, host=host)
    assert "key 'sslmode'" in refusal(sslmode="prefer", host="127.0.0.1")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1"])
def test_a_loopback_address_needs_no_encryption(host: str) -> None:
    assert judged(sslmode="disable", host=host).ssl_mode == "disable"


def test_to_verify_takes_somebody_to_trust() -> None:
    for mode in ("verify-ca", "verify-full"):
        assert "key 'ca.crt'" in refusal(sslmode=mode)
        assert judged(sslmode=mode, ca_crt=CA).ca_pem == CA
    assert judged(sslmode="require", ca_crt=CA).ssl_mode == "require"


@pytest.mark.parametrize(
    "pem",
    [
        "", "nothing", CA_KEY, CA + CA_KEY, CA.replace("M", "!"),
        "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----",
        CA[: len(CA) // 2], "/etc/ssl/certs/ca.pem", CA * 1000,
    ],
)  # fmt: skip
def test_a_ca_is_certificates_and_nothing_else(pem: str) -> None:
    assert "key 'ca.crt'" in refusal(ca_crt=pem)


def test_of_a_ca_only_the_certificates_are_handed_on() -> None:
    assert judged(ca_crt=f"# Example Corp\n{CA}\nsslkey=/etc/passwd\n{CA}").ca_pem == CA + CA


@pytest.mark.parametrize(
    "key",
    [
        "uri", "jdbc-uri", "pgpass", "service", "hostaddr", "options", "sslrootcert", "passfile", "HOST", "type",
        "a" * 253,
    ],
)  # fmt: skip
def test_a_key_that_is_not_on_the_list_is_refused_by_name(key: str) -> None:
    with pytest.raises(Terminal) as caught:
        external_database(SECRET, encoded({**GOOD, key: "hidden"}))
    assert f"{key[:63]}" in caught.value.message
    assert caught.value.message.endswith(f"is none of {', '.join(KEYS)}; take it out")
    assert len(caught.value.message) < 500


@pytest.mark.parametrize("key", sorted(KEYS))
def test_bytes_that_are_no_text_are_refused(key: str) -> None:
    with pytest.raises(Terminal, match="is no UTF-8 text"):
        external_database(SECRET, encoded({**GOOD, key: b"\xff\xfe"}))


texts = st.text(max_size=40) | st.text("abcABC019.:/@=%&?#$_- ,'\"\\\n\x00", max_size=40)
near = st.sampled_from(
    [
        *GOOD.values(), "5432", "127.0.0.1", "::1", "2001:db8::1", "require", "disable", "verify-full", CA,
        "app@server", "0",
    ]
)  # fmt: skip
datas = st.dictionaries(st.sampled_from([*KEYS, "uri"]), near | texts | st.binary(max_size=20), max_size=9)


@calmly
@given(datas, identities)
def test_a_client_reads_from_the_tenants_secret_exactly_what_was_judged(
    data: dict[str, str | bytes], identity: TenantIdentity
) -> None:
    """Whatever a stranger writes: libpq finds no parameter in the URI but the seven that are meant."""
    try:
        database = external_database(SECRET, encoded({**GOOD, **data}))
    except Terminal as halt:
        said = halt.message.split(f"Secret {SECRET!r}")[1].replace("such as db.example.com", "")
        for value in data.values():
            assert len(value) < 8 or str(value) not in said
        return
    secret = External(SECRET, database, ("192.0.2.7",)).body(identity, "shop-acme")
    values = decoded(secret["data"])
    assert conninfo_to_dict(values["uri"]) == {
        "host": database.host, "port": str(database.port), "dbname": database.database, "user": database.username,
        "password": database.password, "sslmode": database.ssl_mode,
    }  # fmt: skip
    jdbc = urlsplit(values["jdbc-uri"].removeprefix("jdbc:"))
    assert (jdbc.scheme, unquote(jdbc.path)) == ("postgresql", f"/{database.database}")
    assert values["pgpass"].count("\n") == 1
    assert "=" not in values["database"]
    assert values["database"] == values["dbname"] == database.database
    assert "\n" not in "".join(value for key, value in values.items() if key not in ("ca.crt", "pgpass"))
    assert values.get("ca.crt", "").replace(CA, "") == ""
