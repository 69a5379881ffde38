"""The logs: their two formats, the context, and that secrets are masked as a last resort."""

from __future__ import annotations

import asyncio
import io
import logging
import sys
import time
import warnings
from collections.abc import Iterator
from datetime import datetime

import orjson
import pytest
from hypothesis import given, strategies

from tenantry.runtime.logs import JsonFormatter, LogFormat, TextFormatter, configure_logging, log_context
from tenantry.runtime.redact import redact

PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEsecret\nsecret==\n-----END RSA PRIVATE KEY-----"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzeXN0ZW06c2EifQ.c2lnbmF0dXJl-secret"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where the logs go; the root logger is as before afterwards."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    others = {
        name: logging.getLogger(name).level
        for name in ("kopf", "aiohttp", "asyncio", "kubernetes", "psycopg", "urllib3")
    }
    try:
        yield io.StringIO()
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        for name, each in others.items():
            logging.getLogger(name).setLevel(each)
        logging.captureWarnings(capture=False)


def fail(error: Exception) -> None:
    raise error


def failed(error: Exception, message: str = "it failed", **extra: object) -> logging.LogRecord:
    """A record that carries the exception with a traceback."""
    made = record(message, level=logging.ERROR, **extra)
    try:
        fail(error)
    except type(error):
        made.exc_info = sys.exc_info()
    return made


def record(message: str, *args: object, level: int = logging.INFO, **extra: object) -> logging.LogRecord:
    made = logging.getLogger("tenantry.test").makeRecord(
        "tenantry.test", level, __file__, 1, message, args, None, extra=extra
    )
    made.created = 1767323045.123
    return made


# --- JSON -------------------------------------------------------------------------------------------------------
def test_a_json_line_has_time_level_logger_message_and_the_context() -> None:
    with log_context(controller="tenant", namespace="shop", name="acme", cluster="", reconcileID="1f"):
        line = JsonFormatter().format(record("applied %d objects", 11, seconds=0.25))
    assert orjson.loads(line) == {
        "ts": "2026-01-02T03:04:05.123Z",
        "level": "info",
        "logger": "tenantry.test",
        "msg": "applied 11 objects",
        "controller": "tenant",
        "namespace": "shop",
        "name": "acme",
        "reconcileID": "1f",
        "seconds": 0.25,
    }


def test_an_exception_is_one_line_with_error_and_stacktrace() -> None:
    line = JsonFormatter().format(failed(KeyError("host\nname")))
    assert "\n" not in line
    found = orjson.loads(line)
    assert found["error"] == r"KeyError: 'host\nname'"
    assert found["stacktrace"].startswith("Traceback")


def test_objects_that_libraries_attach_to_records_are_left_out() -> None:
    line = orjson.loads(JsonFormatter().format(record("x", settings=object(), body={"spec": {}}, attempt=3)))
    assert line["attempt"] == 3
    assert not {"settings", "body"} & set(line)


def test_no_field_can_take_the_place_of_the_message() -> None:
    with log_context(level="debug", ts="never"):
        line = orjson.loads(JsonFormatter().format(record("hello")))
    assert (line["level"], line["msg"], line["ts"][:4]) == ("info", "hello", "2026")


@given(strategies.text(strategies.characters()))
def test_any_message_makes_one_line_that_can_be_read(message: str) -> None:
    line = JsonFormatter().format(record("%s", message))
    assert "\n" not in line
    orjson.loads(line)


# --- text -------------------------------------------------------------------------------------------------------
def test_a_text_line_says_when_how_bad_about_what_and_what() -> None:
    with log_context(controller="tenant", namespace="shop", name="acme", cluster="eu-1", reconcileID="1f"):
        line = TextFormatter().format(record("placed"))
    assert line == "2026-01-02T03:04:05.123Z INFO    [tenant shop/acme] placed cluster=eu-1"


def test_a_cluster_scoped_object_has_no_namespace_and_no_context_leaves_no_brackets() -> None:
    with log_context(controller="cluster", namespace="", name="eu-1"):
        assert TextFormatter().format(record("up")).endswith("INFO    [cluster eu-1] up")
    assert TextFormatter().format(record("up")).endswith("INFO    up")


@given(strategies.text(strategies.one_of(strategies.characters(), strategies.sampled_from("\n\r\x1b\x85\u2028\u202e"))))
def test_no_message_can_forge_another_line_or_steer_a_terminal(message: str) -> None:
    line = TextFormatter().format(record("%s", message))
    assert len(line.splitlines()) == 1
    assert not {"\x1b", "\u202e"} & set(line)


def test_a_traceback_in_text_is_indented_whatever_the_exception_says() -> None:
    made = failed(RuntimeError("x\n2026-01-02T03:04:05.123Z INFO all is well"))
    first, *rest = TextFormatter().format(made).split("\n")
    assert first.endswith("it failed")
    assert all(line.startswith("    ") for line in rest)


# --- context ----------------------------------------------------------------------------------------------------
def test_contexts_nest_and_end() -> None:
    with log_context(name="acme", cluster="eu"):
        with log_context(cluster="us"):
            assert "name=acme" not in TextFormatter().format(record("x"))
            assert TextFormatter().format(record("x")).endswith("[acme] x cluster=us")
        assert TextFormatter().format(record("x")).endswith("[acme] x cluster=eu")
    assert TextFormatter().format(record("x")).endswith("INFO    x")


async def test_tasks_started_inside_have_the_context_and_their_neighbours_do_not() -> None:
    async def about() -> str:
        await asyncio.sleep(0)
        return TextFormatter().format(record("x"))[33:]

    async def named(name: str) -> str:
        with log_context(name=name):
            return await asyncio.create_task(about())

    assert tuple(await asyncio.gather(named("a"), named("b"), about())) == ("[a] x", "[b] x", "x")


# --- secrets ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {JWT}",
        "authorization: bearer abcdef.0123456789secret",
        "{'Authorization': 'Basic c2VjcmV0'}",
        f"token {JWT} was refused",
        "connect to postgres://admin:secret@db:5432/x failed",
        "postgresql://admin:p%40secret:x@[::1]/x",
        "host=db user=admin password=secret dbname=x",
        "password='a \\' secret'",
        'PGPASSWORD="a \\" secret"',
        "params={'password': 'secret', 'host': 'db'}",
        '{"password":"secret","host":"db"}',
        r'body: "{\"password\": \"secret\"}"',
        "password=b'secret'",
        "password=a,b)secret",
        "ALTER ROLE x PASSWORD 'it''s secret'",
        "verifier SCRAM-SHA-256$4096:secret$a:b",
        "AWS_SECRET_ACCESS_KEY=secret",
        '"client-key-data": "secret"',
        "?token=secret&x=1",
        "client-key: LS0tLS1CRUdJTiBSU0EgUFJJVkFURSsecret",
        PEM,
        PEM.replace("\n", "\\n"),
        PEM.removesuffix("-----END RSA PRIVATE KEY-----"),
    ],
)
def test_what_looks_like_a_secret_is_masked(text: str) -> None:
    masked = redact(text)
    assert "secret" not in masked.replace("client_secret", "").replace("SECRET_ACCESS_KEY", "")
    assert "***" in masked


@pytest.mark.parametrize(
    "text",
    [
        "the bearer token was refused",
        "bearer authentication failed",
        "password authentication failed for user admin",
        "token expired, invalid token",
        "the password of shop/acme was rotated",
        "GET https://10.0.0.1:6443/api/v1/namespaces: 404",
        "postgres://admin@db:5432/x",
        "Secret tenant-database is missing",
        "mail to ops@example.com: sent",
    ],
)
def test_ordinary_messages_are_left_as_they_are(text: str) -> None:
    assert redact(text) == text


def test_what_stands_around_a_secret_stays_readable() -> None:
    assert (
        redact('{"password":"x","host":"db"} via https://u:p@db/x')
        == '{"password":***,"host":"db"} via https://u:***@db/x'
    )


def test_tracebacks_and_fields_are_masked_as_well() -> None:
    made = failed(RuntimeError("password=sesame"), password="sesame", uri="https://u:sesame@db/")
    for formatter in (JsonFormatter(), TextFormatter()):
        line = formatter.format(made)
        assert "password=***" in line
        assert "://u:***@db/" in line
        assert "sesame" not in line


@pytest.mark.parametrize(
    "piece",
    [
        "eyJ-", "eyJaaaaaa.", "password", "password: ", "-----BEGIN PRIVATE KEY-----", "://a:", "bearer ", "a-", '\\"',
        "token'", "authorization:a", "LS0tLS1CRUdJTi", "password '",
    ],
)  # fmt: skip
def test_no_text_makes_masking_slow(piece: str) -> None:
    text = piece * (100_000 // len(piece))
    started = time.process_time()
    redact(text)
    assert time.process_time() - started < 1.0


# --- set up -----------------------------------------------------------------------------------------------------
def test_logging_goes_to_the_stream_at_its_level_in_its_format(stream: io.StringIO) -> None:
    configure_logging("json", "INFO", stream=stream)
    logging.getLogger("tenantry.test").debug("no")
    logging.getLogger("tenantry.test").info("yes")
    assert [orjson.loads(line)["msg"] for line in stream.getvalue().splitlines()] == ["yes"]
    configure_logging(LogFormat.TEXT, "debug", stream=stream)
    logging.getLogger("tenantry.test").debug("as text")
    last = stream.getvalue().splitlines()[-1]
    assert last.endswith("DEBUG   as text")
    assert datetime.fromisoformat(last.split()[0]).tzinfo is not None


@pytest.mark.parametrize("library", ["kopf.objects", "aiohttp.access", "asyncio", "kubernetes.aio"])
def test_libraries_are_heard_from_warning_on_even_when_we_debug(stream: io.StringIO, library: str) -> None:
    configure_logging("text", "debug", stream=stream)
    logging.getLogger(library).info("the whole spec")
    logging.getLogger(library).warning("something is wrong")
    assert stream.getvalue().count("\n") == 1


def test_warnings_are_logged_too(stream: io.StringIO) -> None:
    configure_logging("json", "info", stream=stream)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old ways", stacklevel=1)
    assert "old ways" in orjson.loads(stream.getvalue())["msg"]


@pytest.mark.parametrize(("log_format", "level"), [("xml", "info"), ("json", "loud")])
def test_a_format_or_level_that_does_not_exist_is_refused(stream: io.StringIO, log_format: str, level: str) -> None:
    with pytest.raises(ValueError, match=r"xml|loud"):
        configure_logging(log_format, level, stream=stream)
