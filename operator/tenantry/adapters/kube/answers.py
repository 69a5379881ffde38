"""What an API server's answers and failures mean, as errors of the port, in words that are safe to show."""

from __future__ import annotations

import base64
import binascii
import re
import socket
import ssl
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final

import aiohttp
import orjson

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

MAX_MESSAGE: Final = 1024
MAX_RETRY_AFTER: Final = 300.0

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
_BY_STATUS: Final[Mapping[int, type[KubeError]]] = {
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    410: ExpiredError,
}
_UNKNOWN_FIELD: Final = "failed to create typed patch object"
"""How server-side apply refuses a field that its schema lacks: with status 500, but no retry will help."""
_UNTRUSTED: Final = frozenset({2, 18, 19, 20, 21})
"""OpenSSL's verification results that mean: no chain to a trusted certificate."""
_WRONG_NAME: Final = frozenset({62, 64})


class ForeignAnswerError(ValueError):
    """The body is not what a Kubernetes API server sends; the message says what it is."""


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object of an answer.

    Raises:
        ForeignAnswerError: if it is none.
    """
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        start = body[:256].lstrip().lower()
        if start.startswith((b"<!doctype html", b"<html")):
            raise ForeignAnswerError("HTML (a log-in page, a proxy?)") from None
        raise ForeignAnswerError("something that is not JSON" if body else "an empty body") from None
    if not isinstance(parsed, dict):
        raise ForeignAnswerError("JSON that is not an object")
    return parsed


def error_of_answer(status: int, body: bytes, retry_after: str | None = None) -> KubeError:
    """The error that an answer with a status other than 2xx stands for. Its message still needs `cleaned`."""
    if 300 <= status < 400:
        return UnreachableError(f"the server answered with a redirect ({status}): is its address right?", status=status)
    try:
        answer = parse_object(body)
    except ForeignAnswerError as foreign:
        return _error_of_foreign(status, body, str(foreign), retry_after)
    if answer.get("kind") != "Status":
        return _error_of_foreign(status, body, "JSON that is not a Kubernetes Status", retry_after)
    details = answer.get("details")
    details = details if isinstance(details, dict) else {}
    seconds = details.get("retryAfterSeconds")
    if status == 404 and not details.get("name"):
        return NoSuchKindError(
            str(answer.get("message") or _phrase(status)), status=status, reason=str(answer.get("reason") or "")
        )
    return error_of_status(
        status,
        str(answer.get("reason") or ""),
        str(answer.get("message") or _phrase(status)),
        _seconds(retry_after) or _seconds(seconds),
    )


def error_of_status(status: int, reason: str, message: str, retry_after: float | None = None) -> KubeError:
    """The error that a Kubernetes Status object stands for."""
    if status == 500 and message.startswith(_UNKNOWN_FIELD):
        return InvalidError(message, status=status, reason=reason)
    if status == 429 or status >= 500:
        return UnreachableError(message, status=status, reason=reason, retry_after=retry_after)
    if status == 409:
        kind = AlreadyExistsError if reason == "AlreadyExists" else ConflictError
        return kind(message, status=status, reason=reason)
    return _BY_STATUS.get(status, InvalidError)(message, status=status, reason=reason)


def _error_of_foreign(status: int, body: bytes, what: str, retry_after: str | None) -> KubeError:
    if status == 401 and not what.startswith("HTML"):
        return UnauthorizedError("the server does not accept the credentials", status=status)
    if status == 404 and body.strip() == b"404 page not found":  # how an API server says that it has no such group
        return NoSuchKindError("the server has no such kind of object", status=status)
    message = f"the server answered {status} {_phrase(status)}".rstrip()
    if 400 <= status < 500 and status != 429:
        message += f" with {what}: it is not a Kubernetes API server"
    return UnreachableError(message, status=status, retry_after=_seconds(retry_after))


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _seconds(value: object) -> float | None:
    """Retry-After in seconds, bounded; None for dates and whatever else a server may write there."""
    text = str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
    return min(float(text), MAX_RETRY_AFTER) if text.isascii() and text.isdecimal() and len(text) < 10 else None


# --- no answer ------------------------------------------------------------------------------------------------
def error_of_failure(failure: BaseException, seconds: float) -> KubeError:
    """The error that a failed exchange stands for; `seconds` is the deadline it had."""
    # What aiohttp wraps comes first: its certificate error passes for OpenSSL's own, but lacks the verdict.
    tls = _tls_cause(failure) or (failure if isinstance(failure, ssl.SSLError) else None)
    if tls is not None:
        return _error_of_tls(tls)
    return UnreachableError(f"the server {_failure_in_words(failure, seconds)}")


def _failure_in_words(failure: BaseException, seconds: float) -> str:
    match failure:
        case TimeoutError():
            return f"did not answer within {seconds:g} s"
        case aiohttp.ClientConnectorError():
            return _os_error_in_words(failure.os_error)
        case aiohttp.ServerDisconnectedError():
            return "closed the connection without an answer"
        case aiohttp.ClientPayloadError():
            return "broke off in the middle of its answer"
        case aiohttp.ClientResponseError():
            return "answered something that is not HTTP"
        case OSError():
            return _os_error_in_words(failure)
        case _:
            return f"could not be reached ({type(failure).__name__})"


def _os_error_in_words(error: OSError) -> str:
    match error:
        case ConnectionRefusedError():
            return "refused the connection"
        case ConnectionResetError() | BrokenPipeError():
            return "reset the connection"
        case socket.gaierror():
            return "could not be reached: its name does not resolve"
        case _:
            return f"could not be reached: {error.strerror or type(error).__name__}"


def _tls_cause(failure: BaseException) -> ssl.SSLError | None:
    """The TLS error that aiohttp has wrapped, if that is what happened."""
    inner = [getattr(failure, "certificate_error", None), getattr(failure, "os_error", None), failure.__cause__]
    return next((error for error in inner if isinstance(error, ssl.SSLError)), None)


def _error_of_tls(error: ssl.SSLError) -> KubeError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return UnreachableError(f"the server's certificate {_verification_in_words(error)}")
    reason = error.reason or ""
    if "ALERT" in reason and any(word in reason for word in ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED")):
        return UnauthorizedError("the server does not accept the client certificate")
    if reason in {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL"}:
        return UnreachableError("the server does not speak TLS")
    return UnreachableError(f"TLS failed: {reason.replace('_', ' ').lower() or 'unknown reason'}")


def _verification_in_words(error: ssl.SSLCertVerificationError) -> str:
    code = getattr(error, "verify_code", 0)
    if code in _UNTRUSTED:
        return "is not signed by the kubeconfig's CA"
    if code in _WRONG_NAME:
        return "is for another host: correct server, or set tls-server-name"
    if code == 10:
        return "has expired"
    if code == 9:
        return "is not valid yet"
    return f"can't be verified: {getattr(error, 'verify_message', '') or 'unknown reason'}"


# --- words that are safe to show ------------------------------------------------------------------------------
def cleaned(error: KubeError, secrets: Iterable[str]) -> KubeError:
    """The error with a message that has no secret in it, no control characters, and at most 1,024 characters.

    A server knows our token and the Secrets we send; a hostile one would repeat them where others read.
    """
    message = error.message
    for secret in secrets:
        if len(secret) >= 4:
            message = message.replace(secret, "[hidden]")
    message = _CONTROL.sub(" ", message).strip()
    error.message = message if len(message) <= MAX_MESSAGE else f"{message[: MAX_MESSAGE - 3]}..."
    error.reason = error.reason if error.reason.isalnum() and len(error.reason) <= 64 else ""
    error.args = (error.message,)
    return error


def secret_values(body: bytes) -> list[str]:
    """All values in the `data` (as sent, and decoded) and the `stringData` of a Secret's JSON, longest first."""
    manifest = orjson.loads(body)
    values = [value for value in (manifest.get("stringData") or {}).values() if isinstance(value, str)]
    for value in (manifest.get("data") or {}).values():
        if isinstance(value, str):
            values.append(value)
            try:
                values.append(base64.b64decode(value, validate=True).decode(errors="replace"))
            except (binascii.Error, ValueError):
                continue  # the server is about to say the same
    return sorted(values, key=len, reverse=True)
