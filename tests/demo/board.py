"""The state of the tenants as the watch tells it, and how that looks: a table, or a line for each change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from tests.demo.quickstart import TenantName
from tests.demo.screen import Marks

READY: Final = "Ready"
COLUMNS: Final = {
    "Placed": "Placed",
    "NamespaceReady": "Namespace",
    "DatabaseReady": "Database",
    "SecretsReady": "Secrets",
    "IngressReady": "Ingress",
}
TRANSIENT: Final = ("Reconciling", "Stalled")
"""Conditions that are there only while they are true."""
WIDE: Final = 86
MOST_MESSAGE: Final = 300


@dataclass(frozen=True, slots=True)
class Row:
    """One tenant.

    Attributes:
        seen: When the API server first told of it, by the clock of `Board.observe`.
        ready: When it first was Ready; None before.
    """

    seen: float
    conditions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    ready: float | None = None

    def seconds(self, now: float) -> float:
        """From the first sight to Ready, or until now."""
        return (now if self.ready is None else self.ready) - self.seen

    @property
    def reason(self) -> str:
        """Why it is Ready or not."""
        return str(self.conditions.get(READY, {}).get("reason", "not seen by the operator yet"))

    @property
    def troubles(self) -> list[str]:
        """What the operator says against each condition that is False."""
        return [
            f"{kind} {condition['reason']}: {condition.get('message', '')[:MOST_MESSAGE]}"
            for kind, condition in self.conditions.items()
            if condition["status"] == "False" and kind != READY
        ]


class Board:
    """All tenants that are waited for."""

    def __init__(self, expected: Iterable[TenantName]) -> None:
        self._expected = tuple(expected)
        self.rows: dict[TenantName, Row] = {}

    @property
    def complete(self) -> bool:
        """Whether every tenant has been Ready."""
        return all(name in self.rows and self.rows[name].ready is not None for name in self._expected)

    def observe(self, event: Mapping[str, Any], now: float) -> list[str]:
        """Take in an event of the watch.

        Returns:
            What has changed in it, as lines for people.
        """
        name = TenantName.of(event["object"])
        if event["type"] not in ("ADDED", "MODIFIED") or name not in self._expected:
            return []
        body = event["object"]
        new = {entry["type"]: entry for entry in body.get("status", {}).get("conditions", [])}
        row = self.rows.get(name)
        lines = [] if row else [f"{name} is stored"]
        row = row or Row(now)
        lines += _changes(name, row.conditions, new, now - row.seen)
        current = new.get(READY, {})
        is_ready = current.get("status") == "True" and current["observedGeneration"] == body["metadata"]["generation"]
        ready = now if row.ready is None and is_ready else row.ready
        self.rows[name] = Row(row.seen, new, ready)
        return lines

    def render(self, now: float, width: int, marks: Marks) -> RenderableType:
        """The table as it is now, with fewer columns where there is no room."""
        wide = width >= WIDE
        table = Table(expand=False, pad_edge=False)
        table.add_column("Tenant", no_wrap=True)
        table.add_column(READY)
        for title in COLUMNS.values() if wide else ("Parts",):
            table.add_column(title, justify="center")
        table.add_column("Seconds", justify="right")
        for name in self._expected:
            row = self.rows.get(name)
            if row is None:
                table.add_row(str(name), Text("not applied yet", "dim"))
                continue
            parts = [_part(row, kind, marks) for kind in COLUMNS]
            cells = parts if wide else [Text(f"{_good(row)}/{len(COLUMNS)}")]
            table.add_row(str(name), _ready(row, marks), *cells, f"{row.seconds(now):.1f}")
        troubles = [f"{name}: {trouble}" for name, row in sorted(self.rows.items()) for trouble in row.troubles]
        return Group(table, *(Text(trouble, "yellow") for trouble in troubles))

    def missing(self) -> list[str]:
        """What is said of each tenant that has not been Ready: for the message when waiting was in vain."""
        lines = []
        for name in self._expected:
            row = self.rows.get(name)
            if row is None or row.ready is None:
                lines.append(f"{name}: {row.reason if row else 'the API server does not have it'}")
                lines += [f"  {trouble}" for trouble in (row.troubles if row else [])]
        return lines


def _changes(name: TenantName, old: Mapping[str, Any], new: Mapping[str, Any], seconds: float) -> list[str]:
    """One line with all that is new; the message only where it matters, since most of them say the same."""
    told = []
    for kind, condition in new.items():
        before = old.get(kind, {})
        if (before.get("status"), before.get("reason")) != (condition["status"], condition["reason"]):
            message = condition.get("message", "")[:MOST_MESSAGE]
            matters = message and (kind == READY or condition["status"] == "False")
            told.append(f"{kind}={condition['status']}" + (f" ({condition['reason']}: {message})" if matters else ""))
    told += [f"{kind} is over" for kind in TRANSIENT if kind in old and kind not in new]
    return [f"{name} after {seconds:.1f} s: {', '.join(told)}"] if told else []


def _status(row: Row, kind: str) -> str:
    return str(row.conditions.get(kind, {}).get("status", "Unknown"))


def _good(row: Row) -> int:
    return sum(_status(row, kind) == "True" for kind in COLUMNS)


def _part(row: Row, kind: str, marks: Marks) -> Text:
    match _status(row, kind):
        case "True":
            return Text(marks.good, "green")
        case "False":
            return Text(marks.bad, "red")
        case _:
            return Text(marks.busy, "dim")


def _ready(row: Row, marks: Marks) -> Text:
    if row.ready is not None:
        return Text(f"{marks.good} {row.reason}", "green")
    return Text(row.reason, "red" if "Stalled" in row.conditions else "yellow")
