"""What the demo writes: in place and in colour on a terminal, else plain lines that are never cut."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from rich.console import Console, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.rule import Rule

PLAIN_WIDTH: Final = 120
LIVE_PER_SECOND: Final = 8


class Marks(NamedTuple):
    """The signs for states, in what the terminal can show."""

    good: str
    bad: str
    busy: str


UNICODE: Final = Marks("✓", "✗", "…")
ASCII: Final = Marks("ok", "FAIL", "..")


class Screen:
    """Where everything is written.

    Attributes:
        live: Whether lines can be written over: a real terminal, and not one without a cursor.
        marks: The signs it can show.
    """

    def __init__(self, console: Console | None = None) -> None:
        if console is None:
            if isinstance(sys.stdout, io.TextIOWrapper):
                sys.stdout.reconfigure(errors="replace")  # a server's message may have what the terminal can't show
            terminal = sys.stdout.isatty()
            console = Console(width=None if terminal else PLAIN_WIDTH, highlight=False)
        self.console = console
        self.live = console.is_terminal and not console.is_dumb_terminal and console.file.isatty()
        self.marks = UNICODE if console.encoding.lower().startswith("utf") else ASCII
        self._begun = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._begun

    def title(self, text: str) -> None:
        """The heading of what follows."""
        characters = "─" if self.marks is UNICODE else "-"
        self.console.print()
        self.console.print(Rule(escape(text), align="left", characters=characters, style="cyan"))

    def say(self, text: str, style: str = "") -> None:
        """One line as it is: without markup, and folded by the terminal only, so that it can be copied."""
        self.console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    def done(self, text: str, seconds: float) -> None:
        """Something is finished."""
        self.say(f"{self.marks.good} {text} ({seconds:.1f} s)")

    def show(self, what: RenderableType) -> None:
        """A table or tree."""
        self.console.print(what)

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Something that takes a while; its seconds are told when it has gone well."""
        begun = time.monotonic()
        with self.waiting(text):
            yield
        self.done(text, time.monotonic() - begun)

    @contextmanager
    def waiting(self, text: str) -> Iterator[None]:
        """A sign of life for as long as something takes."""
        if self.live:
            with self.console.status(escape(text), spinner="dots" if self.marks is UNICODE else "line"):
                yield
        else:
            self.say(f"  {text} {self.marks.busy}")
            yield

    def picture(self, content: RenderableType) -> Live:
        """A picture to `update` until the context ends. Only where `live` is true."""
        return Live(content, console=self.console, refresh_per_second=LIVE_PER_SECOND, vertical_overflow="visible")
