"""What the check of an installation finds: one line each, what it means for the exit code, and how it is shown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tenantry.cli.departed import NOTHING, table
from tenantry.ports.world import Json

HEADINGS: Final = ("STATE", "AREA", "WHAT", "FOUND")


class Level(StrEnum):
    """How bad a finding is; the worst first."""

    WRONG = "Wrong"
    UNSEEN = "Unseen"
    NOTICE = "Notice"
    WELL = "Well"


class Area(StrEnum):
    """What a finding is about, in the order in which an installation is made."""

    KINDS = "Kinds"
    ADMISSION = "Admission"
    RIGHTS = "Rights"
    OPERATOR = "Operator"
    PLATFORM = "Platform"
    TENANTS = "Tenants"
    RECORDS = "Records"
    DELETIONS = "Deletions"


_LEVELS: Final = tuple(Level)
_AREAS: Final = tuple(Area)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: The object, or the objects.
        message: What was found.
        remedy: The way out; empty where nothing is to be done.
    """

    level: Level
    area: Area
    what: str
    message: str
    remedy: str = ""

    def to_json(self) -> Json:
        """For programs; a field that says nothing is left out."""
        told = {"level": self.level.value, "area": self.area.value, "what": self.what, "message": self.message}
        return told | ({"remedy": self.remedy} if self.remedy else {})


def well(area: Area, what: str, message: str) -> Finding:
    """Nothing is wrong with it."""
    return Finding(Level.WELL, area, what, message)


def notice(area: Area, what: str, message: str, remedy: str = "") -> Finding:
    """Worth knowing, and nobody has to get up for it."""
    return Finding(Level.NOTICE, area, what, message, remedy)


def wrong(area: Area, what: str, message: str, remedy: str) -> Finding:
    """Somebody has to do something."""
    return Finding(Level.WRONG, area, what, message, remedy)


def unseen(area: Area, what: str, message: str) -> Finding:
    """It could not be looked at, so nothing can be said of it."""
    return Finding(
        Level.UNSEEN, area, what, message, "run this with the rights of docs/reference/rights.md, or ask who has them"
    )


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """The worst first; of the same level as an installation is made, otherwise as they came."""
    return sorted(findings, key=lambda each: (_LEVELS.index(each.level), _AREAS.index(each.area)))


def exit_code(findings: Iterable[Finding]) -> int:
    """0: all is well; 1: something is wrong; 2: nothing wrong was found, but not everything could be seen."""
    levels = {each.level for each in findings}
    if Level.WRONG in levels:
        return 1
    return 2 if Level.UNSEEN in levels or not levels else 0


def as_report(findings: Sequence[Finding]) -> Json:
    """For programs: how many of each level, and each finding, the worst first."""
    count = {level.value: sum(each.level == level for each in findings) for level in Level}
    return {"summary": count, "findings": [each.to_json() for each in in_order(findings)]}


def as_text(findings: Sequence[Finding]) -> str:
    """For people: a table, the ways out below what they are for, and the sum in the last line."""
    ordered = in_order(findings)
    shown = table(HEADINGS, [(each.level.value, each.area.value, each.what, each.message) for each in ordered])
    ways = [each for each in ordered if each.remedy]
    out = [shown]
    if ways:
        out.append("\nWhat to do:\n")
        out += [f"  {_line(each.what)}: {_line(each.remedy)}\n" for each in _without_repeats(ways)]
    told = ", ".join(f"{count} {word}" for word, count in as_report(findings)["summary"].items() if count)
    return "".join([*out, f"\n{told or NOTHING}\n"])


def _without_repeats(ways: Iterable[Finding]) -> list[Finding]:
    """One way out is told once, for the first thing that needs it."""
    first: dict[str, Finding] = {}
    for each in ways:
        first.setdefault(each.remedy, each)
    return list(first.values())


def _line(text: str) -> str:
    """One line, whatever is in it."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
