"""Masks what looks like a secret in a text: the last resort of the logs."""

from __future__ import annotations

import re
from typing import Final, NamedTuple


class _Rule(NamedTuple):
    """A pattern, and the words without one of which a text in lower case need not be searched for it."""

    marks: tuple[str, ...]
    pattern: re.Pattern[str]
    replacement: str


_KEYS: Final = "|".join(
    ("password", "passwd", "client[_-]?secret", "secret[_-]?access[_-]?key", "private[_-]?key", "client-key-data")
)
_VALUE: Final = "|".join(
    (
        r"(?:null|None)(?=[\s,})]|$)",
        r'b?"(?:[^"\\]|\\.)*"?',
        r"b?'(?:[^'\\]|\\.)*'?",
        r"\\+[\"'][^\"'\\\s]*",  # JSON inside a string
        r"\S+",  # where it ends nobody can tell, so too much is masked rather than too little
    )
)

# Every pattern runs in linear time, since tenants have a say in what is logged: repetitions that could start anywhere
# are bounded, and no two that follow each other take the same characters.
_RULES: Final = (
    _Rule(
        ("private key",),
        re.compile(r"-----BEGIN ([A-Z ]{0,32}PRIVATE KEY)-----.*?(?:-----END \1-----|\Z)", re.DOTALL),
        "***",
    ),
    _Rule(("ls0tls1crudjti",), re.compile(r"\bLS0tLS1CRUdJTi[A-Za-z0-9+/=]+"), "***"),  # PEM in base64
    _Rule(("eyj",), re.compile(r"\beyJ[\w-]{6,512}\.[\w-]{1,8192}\.[\w-]*"), "***"),  # a JSON web token
    _Rule(
        ("bearer",),
        re.compile(r"\b(bearer)\s+(?=[a-z]*[0-9._~+/=-])[a-z0-9._~+/=-]{8,}", re.IGNORECASE),
        r"\1 ***",
    ),
    _Rule(
        ("authorization",),
        re.compile(r"""\b(authorization["']?\s*[=:]\s*["']?[a-z]+)\s+[^\s"',]+""", re.IGNORECASE),
        r"\1 ***",
    ),
    _Rule(("://",), re.compile(r"""(://[^\s:/@'"]*):[^\s/'"]+@"""), r"\1:***@"),
    _Rule(
        ("password", "passwd", "secret", "key"),
        re.compile(rf"""((?:{_KEYS})\\*["']?\s*[=:]\s*)(?:{_VALUE})""", re.IGNORECASE),
        r"\1***",
    ),
    _Rule(("token",), re.compile(rf"""(token(?:=|\\*["']\s*:\s*))(?:{_VALUE})""", re.IGNORECASE), r"\1***"),
    _Rule(("password",), re.compile(r"\b(password\s+)'(?:[^']|'')*'?", re.IGNORECASE), r"\1***"),  # as SQL has it
    _Rule(("scram-sha-256$",), re.compile(r"SCRAM-SHA-256\$[^\s'\"]+"), "***"),
)


def redact(text: str) -> str:
    """The text with every secret that was recognised replaced by `***`.

    Bearer tokens, passwords in assignments, JSON, SQL and URIs, private keys. Secrets are not to be logged in the first
    place: one that has no mark of a secret about it gets through.
    """
    lowered = text.lower()
    for rule in _RULES:
        if any(mark in lowered for mark in rule.marks):
            text = rule.pattern.sub(rule.replacement, text)
    return text
