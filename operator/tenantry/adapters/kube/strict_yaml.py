"""YAML from strangers: one document, bounded in size, depth and number of values, without aliases or tags."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import yaml

from tenantry.adapters.kube.refusal import KubeconfigReason, KubeconfigRefused, shown

MAX_BYTES: Final = 1024 * 1024
MAX_DEPTH: Final = 20
MAX_NODES: Final = 20_000
"""A kubeconfig of 500 contexts has about 12,000."""

Value = str | bool | None | list[Any] | dict[str, Any]

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
# libyaml's parser where PyYAML was built with it: a hostile megabyte costs milliseconds instead of seconds.
_PARSER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load_strict(data: bytes | str) -> Value:
    """The document's value. Plain scalars are null, true or false where YAML 1.2 says so; all others stay text.

    Built from parser events, so that nothing of YAML's object construction ever runs on it.

    Raises:
        KubeconfigRefused: for all that is not exactly one plain document within the bounds.
    """
    builder = _Builder(_events(_text(data)))
    return builder.document()


def _text(data: bytes | str) -> str:
    if len(data) > MAX_BYTES:
        raise KubeconfigRefused(KubeconfigReason.TOO_LARGE, "the kubeconfig is larger than 1 MiB")
    try:
        raw = data.encode() if isinstance(data, str) else data
        text = raw.decode()
    except UnicodeError:
        raise KubeconfigRefused(KubeconfigReason.BINARY, "the kubeconfig is not UTF-8 text") from None
    if len(raw) > MAX_BYTES:
        raise KubeconfigRefused(KubeconfigReason.TOO_LARGE, "the kubeconfig is larger than 1 MiB")
    if found := _CONTROL.search(text):
        message = f"the kubeconfig is not text: it has control characters (line {_line_at(text, found.start())})"
        raise KubeconfigRefused(KubeconfigReason.BINARY, message)
    if not text.strip().strip("\ufeff"):
        raise KubeconfigRefused(KubeconfigReason.EMPTY, "the kubeconfig is empty")
    return text


def _events(text: str) -> Iterator[Any]:
    try:
        yield from yaml.parse(text, Loader=_PARSER)
    except yaml.reader.ReaderError as error:
        where = _line_at(text, error.position) if isinstance(error.position, int) else "?"
        message = f"the kubeconfig has a character that YAML does not allow (line {where})"
        raise KubeconfigRefused(KubeconfigReason.MALFORMED, message) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "at its end"
        message = f"the kubeconfig is not YAML: {(error.problem or 'not understood')[:100]} ({where})"
        raise KubeconfigRefused(KubeconfigReason.MALFORMED, message) from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise KubeconfigRefused(KubeconfigReason.MALFORMED, "the kubeconfig is not YAML") from None


def _line_at(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _line(event: Any) -> str:
    return f"line {event.start_mark.line + 1}" if event.start_mark else "line ?"


class _Builder:
    """Builds plain values from the events of one document, and stops at the first thing that has no place in it."""

    def __init__(self, events: Iterator[Any]) -> None:
        self._events = events
        self._nodes = 0

    def document(self) -> Value:
        self._next()  # StreamStart
        if isinstance(self._next(), yaml.StreamEndEvent):
            raise KubeconfigRefused(KubeconfigReason.EMPTY, "the kubeconfig is empty")
        value = self._value(self._next(), 0)
        self._next()  # DocumentEnd
        more = self._next()
        if not isinstance(more, yaml.StreamEndEvent):
            message = f"the kubeconfig has a second YAML document ({_line(more)}): leave one"
            raise KubeconfigRefused(KubeconfigReason.SEVERAL_DOCUMENTS, message)
        return value

    def _next(self) -> Any:
        event = next(self._events, None)
        if event is None:
            raise KubeconfigRefused(KubeconfigReason.MALFORMED, "the kubeconfig is not YAML: it ends too early")
        return event

    def _value(self, event: Any, depth: int) -> Value:
        self._check(event, depth)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(depth + 1)
        if isinstance(event, yaml.SequenceStartEvent):
            items = []
            while not isinstance(event := self._next(), yaml.SequenceEndEvent):
                items.append(self._value(event, depth + 1))
            return items
        text: str = event.value
        if event.style:  # quoted or a block: text, whatever it looks like
            return text
        return None if text in _NULLS else _BOOLEANS.get(text, text)

    def _mapping(self, depth: int) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        while not isinstance(key := self._next(), yaml.MappingEndEvent):
            self._check(key, depth)
            if not isinstance(key, yaml.ScalarEvent):
                raise KubeconfigRefused(KubeconfigReason.MALFORMED, f"a key is not a name ({_line(key)})")
            if key.value in mapping:
                message = f"the key {shown(key.value)} is there twice ({_line(key)}): leave one"
                raise KubeconfigRefused(KubeconfigReason.DUPLICATE_KEY, message)
            mapping[key.value] = self._value(self._next(), depth)
        return mapping

    def _check(self, event: Any, depth: int) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES or depth > MAX_DEPTH:
            message = f"the kubeconfig is nested too deep or has too many values ({_line(event)})"
            raise KubeconfigRefused(KubeconfigReason.TOO_COMPLEX, message)
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            message = f"the kubeconfig uses a YAML anchor or alias ({_line(event)}): write the value out"
            raise KubeconfigRefused(KubeconfigReason.YAML_ALIAS, message)
        if event.tag is not None:
            message = f"the kubeconfig uses a YAML tag ({_line(event)}): write the plain value"
            raise KubeconfigRefused(KubeconfigReason.YAML_TAG, message)
