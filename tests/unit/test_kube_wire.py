"""Lines, shapes and meanings: what comes off the wire of an API server, right or wrong, and what is put on it."""

from __future__ import annotations

import base64
import ssl
from typing import Any

import aiohttp
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.controlplane.certificates import Authority

from tenantry.adapters.kube.answers import cleaned, error_of_answer, error_of_failure, secret_values
from tenantry.adapters.kube.lines import LineSplitter, LineTooLongError
from tenantry.adapters.kube.shape import checked, collection_of, event_of, parsed, path_of, ref_of
from tenantry.adapters.kube.tls import client_context
from tenantry.api.resources import ACCESS_REVIEWS, CONFIG_MAPS, NAMESPACES, SECRETS, Ref
from tenantry.ports.kube import (
    AlreadyExistsError,
    ConflictError,
    ExpiredError,
    ForbiddenError,
    InvalidError,
    KubeError,
    NoSuchKindError,
    NotFoundError,
    UnauthorizedError,
    UnreachableError,
)

Json = dict[str, Any]


# --- lines ----------------------------------------------------------------------------------------------------
@given(st.lists(st.binary(min_size=1, max_size=20).map(lambda line: line.replace(b"\n", b"x")), max_size=8), st.data())
def test_lines_come_out_whole_however_the_stream_is_cut(lines: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    splitter = LineSplitter(100)
    found: list[bytes] = []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        found += splitter.feed(stream[:cut])
        stream = stream[cut:]
    assert found == [line for line in lines if line.strip()]
    assert not splitter.pending


def test_a_line_of_many_megabytes_is_put_together_from_its_pieces() -> None:
    splitter = LineSplitter(16 * 1024 * 1024)
    for _ in range(128):
        assert splitter.feed(b"x" * 64 * 1024) == []
    assert splitter.pending
    assert splitter.feed(b"\n") == [b"x" * 8 * 1024 * 1024]


def test_a_line_over_the_limit_is_refused_before_it_has_ended() -> None:
    splitter = LineSplitter(10)
    assert splitter.feed(b"12345") == []
    with pytest.raises(LineTooLongError):
        splitter.feed(b"678901")
    with pytest.raises(LineTooLongError):
        LineSplitter(10).feed(b"12345678901\n")


# --- answers --------------------------------------------------------------------------------------------------
def status(code: int, reason: str = "", message: str = "words", **details: Any) -> bytes:
    return orjson.dumps({"kind": "Status", "code": code, "reason": reason, "message": message, "details": details})


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (400, "BadRequest", InvalidError),
        (401, "Unauthorized", UnauthorizedError),
        (403, "Forbidden", ForbiddenError),
        (404, "NotFound", NotFoundError),
        (405, "MethodNotAllowed", InvalidError),
        (409, "AlreadyExists", AlreadyExistsError),
        (409, "Conflict", ConflictError),
        (409, "", ConflictError),
        (410, "Expired", ExpiredError),
        (413, "RequestEntityTooLarge", InvalidError),
        (415, "UnsupportedMediaType", InvalidError),
        (422, "Invalid", InvalidError),
        (429, "TooManyRequests", UnreachableError),
        (500, "InternalError", UnreachableError),
        (503, "ServiceUnavailable", UnreachableError),
        (504, "Timeout", UnreachableError),
    ],
)
def test_each_status_has_its_error(code: int, reason: str, kind: type[KubeError]) -> None:
    error = error_of_answer(code, status(code, reason, name="a"))
    assert type(error) is kind
    assert (error.status, error.reason, error.message) == (code, reason, "words")


def test_a_404_that_names_no_object_is_about_the_kind() -> None:
    error = error_of_answer(404, status(404, "NotFound"))
    assert type(error) is NoSuchKindError
    assert (error.status, error.reason, error.message) == (404, "NotFound", "words")


def test_a_field_that_server_side_apply_does_not_know_is_the_objects_fault_in_spite_of_the_500() -> None:
    message = "failed to create typed patch object (n/a; /v1, Kind=ConfigMap): .colour: field not declared in schema"
    assert type(error_of_answer(500, status(500, "", message))) is InvalidError


@pytest.mark.parametrize("code", [301, 302, 307, 308, 304])
def test_a_redirect_is_not_followed_and_said(code: int) -> None:
    error = error_of_answer(code, b"")
    assert isinstance(error, UnreachableError)
    assert "answered with a redirect" in error.message


@pytest.mark.parametrize(
    ("code", "body", "kind", "words"),
    [
        (404, b"404 page not found\n", NoSuchKindError, "no such kind"),
        (404, b"<html>nginx</html>", UnreachableError, "HTML"),
        (404, b'{"error": "x"}', UnreachableError, "not a Kubernetes Status"),
        (403, b"denied by proxy", UnreachableError, "not JSON"),
        (401, b'{"type": "error"}', UnauthorizedError, "does not accept the credentials"),
        (401, b"<!DOCTYPE html><title>log in</title>", UnreachableError, "HTML"),
        (429, b"Too many requests, please try again later.", UnreachableError, "429 Too Many Requests"),
        (502, b"<html>bad gateway</html>", UnreachableError, "502 Bad Gateway"),
        (599, b"", UnreachableError, "599"),
        (403, b"[]", UnreachableError, "JSON that is not an object"),
    ],
)
def test_an_answer_that_is_not_kubernetes_is_named(code: int, body: bytes, kind: type[KubeError], words: str) -> None:
    error = error_of_answer(code, body)
    assert type(error) is kind
    assert words in error.message


@pytest.mark.parametrize(
    ("header", "details", "seconds"),
    [
        ("7", {}, 7.0),
        (None, {"retryAfterSeconds": 3}, 3.0),
        ("1", {"retryAfterSeconds": 3}, 1.0),
        ("99999999", {}, 300.0),
        ("-1", {}, None),
        ("nan", {}, None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", {}, None),
        ("²", {}, None),
        (None, {"retryAfterSeconds": True}, None),
        (None, {}, None),
    ],
)
def test_retry_after_is_taken_within_bounds(header: str | None, details: Json, seconds: float | None) -> None:
    error = error_of_answer(429, status(429, "TooManyRequests", **details), header)
    assert isinstance(error, UnreachableError)
    assert error.retry_after == seconds


@given(st.integers(300, 999), st.binary(max_size=80), st.none() | st.text(max_size=8))
def test_any_answer_is_a_kube_error(code: int, body: bytes, header: str | None) -> None:
    assert isinstance(error_of_answer(code, body, header), KubeError)


def test_tls_alerts_about_our_certificate_are_a_matter_of_credentials() -> None:
    error = ssl.SSLError(1, "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] alert")
    error.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    assert isinstance(error_of_failure(error, 10), UnauthorizedError)


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (TimeoutError(), "did not answer within 10 s"),
        (aiohttp.ServerDisconnectedError(), "closed the connection without an answer"),
        (aiohttp.ClientPayloadError("x"), "broke off in the middle of its answer"),
        (ConnectionResetError(), "reset the connection"),
        (OSError(113, "No route to host"), "No route to host"),
        (aiohttp.InvalidURL("https://x"), "InvalidUrl"),
    ],
)
def test_failures_are_told_in_words(failure: Exception, words: str) -> None:
    error = error_of_failure(failure, 10)
    assert isinstance(error, UnreachableError)
    assert words.lower() in error.message.lower()


def test_certificates_that_openssl_does_not_take_are_said_and_leave_no_file_open() -> None:
    authority = Authority.new("ca")
    one, other = authority.client("one"), authority.client("other")
    ca_pem = authority.certificate_pem.encode()
    with pytest.raises(UnreachableError, match="certificates can't be used: key values mismatch"):
        client_context(ca_pem, one.certificate_pem.encode(), other.key_pem.encode())
    context = client_context(ca_pem, one.certificate_pem.encode(), one.key_pem.encode())
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert len(context.get_ca_certs()) == 1


# --- words that are safe to show -------------------------------------------------------------------------------
def test_no_secret_and_no_control_character_leaves_in_a_message() -> None:
    error = ForbiddenError("token s3cr3t-token\nforged: line\u202e \x1b[31m" + "x" * 5000, status=403, reason="a b")
    shown = cleaned(error, ["s3cr3t-token", ""])
    assert "s3cr3t" not in shown.message
    assert shown.message.startswith("token [hidden] forged: line")
    assert shown.message.isprintable()
    assert len(shown.message) == 1024
    assert str(shown) == shown.message
    assert shown.reason == ""


def test_the_values_of_a_secret_are_known_in_both_encodings() -> None:
    data = {"password": base64.b64encode(b"hunter2-hunter2").decode(), "odd": "%%%", "none": None}
    body = orjson.dumps({"kind": "Secret", "data": data, "stringData": {"a": "plain-text"}})
    assert {"hunter2-hunter2", data["password"], "plain-text", "%%%"} == set(secret_values(body))
    assert secret_values(b'{"data": null}') == []


# --- shapes ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a?b", "a#b", "a b", "a%2fb", "a\nb", "ä"])
def test_a_name_that_would_lead_elsewhere_is_never_sent(name: str) -> None:
    with pytest.raises(InvalidError):
        path_of(Ref(CONFIG_MAPS, "shop", name))
    with pytest.raises(InvalidError):
        path_of(Ref(CONFIG_MAPS, name, "a"))
    with pytest.raises(InvalidError):
        path_of(Ref(NAMESPACES, "", name))


def test_a_delete_without_a_namespace_never_becomes_one_of_a_collection() -> None:
    with pytest.raises(InvalidError):
        path_of(Ref(SECRETS, "", ""))
    with pytest.raises(InvalidError):
        collection_of(SECRETS, "a/b")


def test_paths_are_those_of_the_api() -> None:
    assert (
        path_of(Ref(CONFIG_MAPS, "shop", "system:a"), "status") == "/api/v1/namespaces/shop/configmaps/system:a/status"
    )
    assert collection_of(CONFIG_MAPS, "") == "/api/v1/configmaps"


def test_a_manifest_says_what_it_is_about() -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "n"}}
    assert ref_of(body) == Ref(CONFIG_MAPS, "n", "a")
    review = {"apiVersion": ACCESS_REVIEWS.api_version, "kind": ACCESS_REVIEWS.kind, "spec": {}}
    assert ref_of(review) == Ref(ACCESS_REVIEWS, "", "")


@pytest.mark.parametrize(
    "body",
    [{}, {"apiVersion": "v9", "kind": "Thing"}, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}],
)
def test_a_manifest_that_has_no_place_is_refused(body: Json) -> None:
    with pytest.raises(InvalidError):
        ref_of(body)


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {},
        {"metadata": None},
        {"metadata": {"name": "a"}},
        {"metadata": {"resourceVersion": "1"}},
        {"metadata": {"name": "", "resourceVersion": "1"}},
        {"metadata": {"name": "a", "resourceVersion": 1}},
        {"metadata": {"name": "a", "resourceVersion": "-1"}},
        {"metadata": {"name": "a", "resourceVersion": "1" * 5000}},
        {"metadata": {"name": "a", "resourceVersion": "x"}},
        {"metadata": {"name": "a", "resourceVersion": "²"}},
    ],
)
def test_what_is_no_stored_object_is_not_taken_for_one(body: object) -> None:
    with pytest.raises(UnreachableError, match="not a Kubernetes API server"):
        checked(body)


def test_events_come_without_managed_fields() -> None:
    body = {"metadata": {"name": "a", "resourceVersion": "1", "managedFields": [{}]}}
    event = event_of(orjson.dumps({"type": "ADDED", "object": body}))
    assert event.object == {"metadata": {"name": "a", "resourceVersion": "1"}}
    bookmark = event_of(b'{"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}}')
    assert (bookmark.type, bookmark.object["metadata"]["resourceVersion"]) == ("BOOKMARK", "9")


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b'{"type": "ERROR", "object": {"code": 410, "message": "too old"}}', ExpiredError),
        (b'{"type": "ERROR", "object": {"code": 500, "message": "etcd"}}', UnreachableError),
        (b'{"type": "ERROR", "object": {}}', UnreachableError),
        (b'{"type": "ERROR", "object": {"code": 403}}', ForbiddenError),
        (b'{"type": "BOOKMARK", "object": {}}', UnreachableError),
        (b'{"type": "PARTY", "object": {}}', UnreachableError),
        (b'{"type": 7, "object": {}}', UnreachableError),
        (b'{"object": {}}', UnreachableError),
        (b'{"type": "ADDED", "object": []}', UnreachableError),
        (b'{"type": "ADDED", "obj', UnreachableError),
        (b"<html>", UnreachableError),
        (b"7", UnreachableError),
    ],
)  # fmt: skip
def test_lines_that_are_no_good_events_are_errors(line: bytes, kind: type[KubeError]) -> None:
    with pytest.raises(KubeError) as caught:
        event_of(line)
    assert type(caught.value) is kind


@given(st.binary(max_size=60))
def test_any_bytes_are_parsed_or_refused_as_unreachable(data: bytes) -> None:
    try:
        body = parsed(data)
    except UnreachableError:
        return
    assert isinstance(body, dict)
