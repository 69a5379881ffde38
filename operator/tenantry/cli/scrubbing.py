"""Takes out of objects and texts whatever could be a secret, before they go to somebody else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from tenantry.api import names
from tenantry.ports.world import Json
from tenantry.runtime.redact import redact

HIDDEN: Final = "[left out]"

_USER_INFO = re.compile(r"://[^\s/@\"']{1,1024}@")
_MARKED = re.compile(r"\b(?:AGE-SECRET-KEY-1[0-9A-Za-z]+|(?:AKIA|ASIA)[0-9A-Z]{16}|gh[pousr]_[0-9A-Za-z]{20,})")
_NUMBER = re.compile(r"-?[0-9]{1,12}(?:\.[0-9]{1,6})?[A-Za-z]{0,2}")
_ENDED_KEY = re.compile(r"-----END [A-Z ]{0,32}PRIVATE KEY-----")
_BEGUN_KEY: Final = re.compile(r"-----BEGIN [A-Z ]{0,32}PRIVATE KEY-----")

_KNOWN_ANNOTATIONS: Final = frozenset(
    value
    for name, value in vars(names).items()
    if name.startswith("ANNOTATION_") and isinstance(value, str) and value.startswith(f"{names.GROUP}/")
)
_ENVIRONMENTS: Final = frozenset({"env"})
"""Maps from a name to a value, or lists of both; of values nobody can tell what they are."""
_OPAQUE: Final = frozenset({"limits"})
"""What is opaque to us and mostly a number: numbers stay."""
_FREE_TEXTS: Final = frozenset({"description", "detail"})
"""What people write as they like, and what a preview says of values that change."""
_SECRET_KEYS: Final = frozenset({"data", "stringData", "binaryData", "token", "password", "secretAccessKey"})
_COMMANDS: Final = frozenset({"args", "command"})


def scrubbed_text(text: str) -> str:
    """A text with what looks like a secret masked: what the logs mask, all user info in URLs, keys with a mark."""
    return _MARKED.sub("***", redact(_USER_INFO.sub("://***@", text)))


def scrubbed_log(data: bytes, *, cut: bool) -> str:
    """A log, masked; of one that begins in the middle the first line goes, and the rest of a key that began before."""
    text = data.decode(errors="replace")
    if cut:
        text = text.partition("\n")[2]
        end, begin = _ENDED_KEY.search(text), _BEGUN_KEY.search(text)
        if end and (begin is None or end.start() < begin.start()):
            text = text[end.end() :]
    return scrubbed_text(text)


def scrubbed(body: Json) -> Json:
    """An object without what could be a secret; what was taken out is seen to have been there.

    Values of environments, free texts, arguments that are no flags of ours, annotations of others (kubectl keeps a
    whole object in one), managedFields, `data` of any kind. All other texts are masked as logs are.
    """
    out: Json = {}
    for key, value in body.items():
        if key == "metadata" and isinstance(value, Mapping):
            out[key] = _metadata(value)
        else:
            out[key] = _field(key, value)
    return out


def _metadata(metadata: Mapping[str, Any]) -> Json:
    kept = {key: _value(value) for key, value in metadata.items() if key not in ("managedFields", "annotations")}
    if annotations := metadata.get("annotations"):
        kept["annotations"] = {
            key: scrubbed_text(str(value)) if key in _KNOWN_ANNOTATIONS else HIDDEN
            for key, value in annotations.items()
        }
    return kept


def _field(key: str, value: Any) -> Any:
    if key in _ENVIRONMENTS:
        return _environment(value)
    if key in _SECRET_KEYS:
        return HIDDEN if value else value
    if key in _OPAQUE and isinstance(value, Mapping):
        return {name: _number(each) for name, each in value.items()}
    if key in _FREE_TEXTS and isinstance(value, str):
        return HIDDEN if value else value
    if key in _COMMANDS and isinstance(value, list):
        return [_argument(str(each)) for each in value]
    if key == "metadata" and isinstance(value, Mapping):  # of a pod template
        return _metadata(value)
    return _value(value)


def _value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {scrubbed_text(str(key)): _field(str(key), each) for key, each in value.items()}
    if isinstance(value, list):
        return [_value(each) for each in value]
    return scrubbed_text(value) if isinstance(value, str) else value


def _environment(value: Any) -> Any:
    """Names without their values."""
    if isinstance(value, Mapping):
        return dict.fromkeys(map(str, value), HIDDEN)
    if isinstance(value, list):
        return [{"name": str(each.get("name", ""))} | ({"value": HIDDEN} if "value" in each else {}) for each in value]
    return HIDDEN


def _number(value: Any) -> Any:
    if isinstance(value, Mapping):  # ceilings.limits, quota: by name again
        return {key: _number(each) for key, each in value.items()}
    return value if _NUMBER.fullmatch(str(value)) else HIDDEN


def _argument(text: str) -> str:
    """A flag's name stays; its value only where it can't be a secret: a number, a word in small letters, an address."""
    name, equals, value = text.partition("=")
    if not name.startswith("--"):
        return text if text in ("tenantry", "operator") else HIDDEN
    harmless = re.fullmatch(r"[0-9.]*|[a-zA-Z]{1,12}|:[0-9]+|tenantry-[a-z-]+", value)
    return f"{name}{equals}{value if harmless else HIDDEN}"
