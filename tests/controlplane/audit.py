"""The audit log of a test cluster: its policy, and a reader that counts what each identity asked for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import orjson

WRITE_VERBS: Final = frozenset({"create", "update", "patch", "delete", "deletecollection"})

POLICY: Final = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata}]
"""
"""Every request of everybody once, when it was answered, without bodies."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One request that an API server answered.

    Attributes:
        user: Such as `system:serviceaccount:NAMESPACE:NAME`.
        verb: Kubernetes' verb: get, list, watch, create, update, patch, delete, deletecollection.
        group: The API group; empty for the core group and for paths that are no resource, such as /readyz.
        resource: The plural.
        code: The HTTP status.
        stage: ResponseComplete; ResponseStarted for the beginning of a watch; Panic.
        received: When the request came.
        answered: When this stage was reached.
    """

    user: str
    verb: str
    group: str
    resource: str
    subresource: str
    namespace: str
    name: str
    code: int
    stage: str
    uri: str
    user_agent: str
    received: datetime
    answered: datetime

    @property
    def is_write(self) -> bool:
        """Whether it asked for a change, granted or not."""
        return self.verb in WRITE_VERBS


def parse_entry(line: bytes) -> AuditEntry:
    """One line of the log."""
    event: dict[str, Any] = orjson.loads(line)
    target = event.get("objectRef") or {}
    return AuditEntry(
        user=event["user"].get("username", ""),
        verb=event["verb"],
        group=target.get("apiGroup", ""),
        resource=target.get("resource", ""),
        subresource=target.get("subresource", ""),
        namespace=target.get("namespace", ""),
        name=target.get("name", ""),
        code=(event.get("responseStatus") or {}).get("code", 0),
        stage=event["stage"],
        uri=event["requestURI"],
        user_agent=event.get("userAgent", ""),
        received=datetime.fromisoformat(event["requestReceivedTimestamp"]),
        answered=datetime.fromisoformat(event["stageTimestamp"]),
    )


def read_entries(log: Path, *, after: int = 0) -> list[AuditEntry]:
    """The entries from a byte offset on (see `end_of`). A last line that is still being written is left out."""
    with log.open("rb") as stream:
        stream.seek(after)
        return [parse_entry(line) for line in stream if line.endswith(b"\n")]


def end_of(log: Path) -> int:
    """The byte offset of the log's present end: a mark to read from later."""
    return log.stat().st_size if log.exists() else 0
