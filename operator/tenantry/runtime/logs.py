"""Structured logs: one line a record, as JSON or as text for people, with what is being worked on, without secrets."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final, TextIO

import orjson

from tenantry.runtime.redact import redact

_fields: ContextVar[Mapping[str, str]] = ContextVar("log_fields", default=MappingProxyType({}))

_QUIET: Final = ("kopf", "aiohttp", "asyncio", "kubernetes", "psycopg", "urllib3")
"""Libraries that are heard from WARNING on, whatever our own level: below it kopf and clients write whole objects."""

_OWN_ATTRIBUTES: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_CONTROL: Final = {
    **{code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))},
    **{code: f"\\u{code:04x}" for code in (*range(0x2028, 0x202F), *range(0x2066, 0x206A))},  # lines, direction of text
    9: "\\t",
    10: "\\n",
    13: "\\r",
}
_CONTROL_BUT_NEWLINE: Final = {code: text for code, text in _CONTROL.items() if code != 10}


class LogFormat(StrEnum):
    """For machines or for people."""

    JSON = "json"
    TEXT = "text"


@contextmanager
def log_context(**fields: str) -> Iterator[None]:
    """Adds fields to every record that is logged inside, also by tasks that are started there; empty ones are left out.

    Known names: controller, namespace, name, cluster, reconcileID.
    """
    token = _fields.set({**_fields.get(), **{name: value for name, value in fields.items() if value}})
    try:
        yield
    finally:
        _fields.reset(token)


def configure_logging(log_format: LogFormat | str, level: str, *, stream: TextIO | None = None) -> None:
    """Makes the root logger write to one stream in one format, in place of what it did before; warnings go there too.

    Args:
        log_format: `json` or `text`.
        level: A name such as `info`, in any case; for our own logs, since libraries are heard from WARNING on.
        stream: By default standard error.

    Raises:
        ValueError: if there is no such format or level.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"{level!r} is no log level: use debug, info, warning or error")
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(JsonFormatter() if LogFormat(log_format) is LogFormat.JSON else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))
    logging.captureWarnings(capture=True)


class _RedactingFormatter(logging.Formatter):
    """Redaction is here, not in a filter: only the formatter sees tracebacks, and it does not change shared records."""

    def message(self, record: logging.LogRecord) -> str:
        return redact(record.getMessage())

    def trace(self, record: logging.LogRecord) -> str:
        """The traceback, or empty."""
        if not record.exc_info:
            return ""
        return redact(self.formatException(record.exc_info))

    def fields(self, record: logging.LogRecord) -> dict[str, str | int | float]:
        """The context's fields and the record's own (`extra`): only plain values, for libraries attach objects."""
        fields: dict[str, str | int | float] = dict(_fields.get())
        for name, value in vars(record).items():
            if name not in _OWN_ATTRIBUTES and isinstance(value, str | int | float):
                fields[name] = redact(f"{name}={value}").removeprefix(f"{name}=") if isinstance(value, str) else value
        return fields


class JsonFormatter(_RedactingFormatter):
    """One JSON object a line: ts, level, logger, msg, the fields; for exceptions error and stacktrace (zap's names)."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        line: dict[str, object] = {
            "ts": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": self.message(record),
        }
        for name, value in self.fields(record).items():
            line.setdefault(name, value)
        if trace := self.trace(record):
            line["error"] = trace.rstrip().rpartition("\n")[2]
            line["stacktrace"] = trace
        try:
            return orjson.dumps(line).decode()
        except orjson.JSONEncodeError:  # lone surrogates, from bytes of a stranger
            return orjson.dumps({name: _printable(value) for name, value in line.items()}).decode()


class TextFormatter(_RedactingFormatter):
    """`time LEVEL [controller namespace/name] message field=value`, and an indented traceback.

    Control characters are escaped, so that no message can look like another line or steer a terminal.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end, and the traceback's lines."""
        fields = self.fields(record)
        fields.pop("reconcileID", None)
        controller = fields.pop("controller", "")
        name = "/".join(str(part) for part in (fields.pop("namespace", ""), fields.pop("name", "")) if part)
        about = f"[{controller} {name}] " if controller else f"[{name}] " if name else ""
        rest = "".join(f" {key}={value}" for key, value in fields.items())
        line = f"{_timestamp(record)} {record.levelname:<7} {about}{self.message(record)}{rest}".translate(_CONTROL)
        if trace := self.trace(record):
            line += "".join(f"\n    {each}" for each in trace.translate(_CONTROL_BUT_NEWLINE).split("\n"))
        return line


def _timestamp(record: logging.LogRecord) -> str:
    """RFC 3339, UTC, milliseconds."""
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _printable(value: object) -> object:
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value
