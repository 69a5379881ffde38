"""The demo's board of tenants: what it makes of the events of a watch, and how it looks where there is little room."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console
from tests.demo.board import Board
from tests.demo.quickstart import TenantName
from tests.demo.screen import ASCII, UNICODE

ACME = TenantName("shop", "acme")


def _event(kind: str = "MODIFIED", *, generation: int = 1, observed: int = 1, **conditions: str) -> dict[str, Any]:
    """An event about shop/acme; a condition's value is `Status/Reason/message`."""
    entries = []
    for name, text in conditions.items():
        status, reason, message = text.split("/", 2)
        entry = {"type": name, "status": status, "reason": reason, "message": message, "observedGeneration": observed}
        entries.append(entry)
    metadata = {"namespace": "shop", "name": "acme", "generation": generation}
    return {"type": kind, "object": {"metadata": metadata, "status": {"conditions": entries}}}


def _drawn(board: Board, now: float, width: int, *, ascii_only: bool = False) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None).print(
        board.render(now, width, ASCII if ascii_only else UNICODE)
    )
    return stream.getvalue()


def test_the_seconds_of_a_tenant_count_from_its_first_event_to_its_first_ready() -> None:
    board = Board([ACME])
    board.observe(_event("ADDED"), 10.0)
    assert board.missing() == ["shop/acme: not seen by the operator yet"]
    board.observe(_event(Ready="True/Ready/https://acme"), 11.5)
    assert board.complete
    board.observe(_event(Ready="True/Ready/again"), 15.0)
    assert board.rows[ACME].seconds(99.0) == 1.5


def test_ready_of_an_older_generation_does_not_count() -> None:
    board = Board([ACME])
    board.observe(_event("ADDED", generation=2, observed=1, Ready="True/Ready/"), 1.0)
    assert not board.complete
    assert board.missing() == ["shop/acme: Ready"]


def test_tenants_that_nobody_waits_for_are_left_out() -> None:
    board = Board([TenantName("labs", "acme")])
    assert board.observe(_event("ADDED"), 1.0) == []
    assert board.rows == {}


def test_a_line_tells_only_what_has_changed_with_the_messages_that_matter() -> None:
    board = Board([ACME])
    board.observe(_event("ADDED"), 0.0)
    first = board.observe(_event(Ready="Unknown/Progressing/being made", Placed="True/Ready/on eu-1"), 0.25)
    again = board.observe(_event(Ready="Unknown/Progressing/being made", Placed="True/Ready/on eu-1"), 0.5)
    failed = board.observe(_event(Ready="False/ServerFull/no room", DatabaseReady="False/ServerFull/no room"), 1.0)
    assert first == ["shop/acme after 0.2 s: Ready=Unknown (Progressing: being made), Placed=True"]
    assert again == []
    assert failed == [
        "shop/acme after 1.0 s: Ready=False (ServerFull: no room), DatabaseReady=False (ServerFull: no room)"
    ]


def test_what_is_over_is_told() -> None:
    board = Board([ACME])
    board.observe(_event("ADDED", Reconciling="True/Progressing/"), 0.0)
    assert board.observe(_event(), 1.0) == ["shop/acme after 1.0 s: Reconciling is over"]


def test_a_wide_table_has_a_column_for_each_part_and_a_narrow_one_counts_them() -> None:
    board = Board([ACME, TenantName("shop", "globex")])
    board.observe(_event("ADDED", Placed="True/Ready/", SecretsReady="False/SecretNotFound/acme-env is missing"), 0.0)
    wide, narrow = _drawn(board, 2.0, 120), _drawn(board, 2.0, 60)
    assert "Ingress" in wide
    assert "✓" in wide
    assert "✗" in wide
    assert "Ingress" not in narrow
    assert "1/5" in narrow
    for table in (wide, narrow):
        assert "2.0" in table
        assert "not applied yet" in table
        assert "acme-env is missing" in table
    assert all(len(line) <= 60 for line in narrow.splitlines())


def test_a_terminal_without_unicode_gets_words() -> None:
    board = Board([ACME])
    board.observe(_event("ADDED", Placed="True/Ready/", SecretsReady="False/SecretNotFound/"), 0.0)
    assert "FAIL" in _drawn(board, 1.0, 120, ascii_only=True)
    assert "✓" not in _drawn(board, 1.0, 120, ascii_only=True)


def test_a_tenant_that_does_not_get_ready_says_why() -> None:
    board = Board([ACME, TenantName("shop", "globex")])
    board.observe(_event("ADDED", Ready="False/ServerFull/x", DatabaseReady="False/ServerFull/it is full"), 0.0)
    assert board.missing() == [
        "shop/acme: ServerFull",
        "  DatabaseReady ServerFull: it is full",
        "shop/globex: the API server does not have it",
    ]
