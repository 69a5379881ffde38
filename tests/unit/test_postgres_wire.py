"""Telling writes from reads in what a client and a PostgreSQL server say to each other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.scene.postgres_wire import Conversation, is_write

INSERT = "INSERT INTO public.claims (database) VALUES ($1)"
LOGGED_IN = b"R\x00\x00\x00\x08\x00\x00\x00\x00Z\x00\x00\x00\x05I"
READY = b"Z\x00\x00\x00\x05I"


def message(kind: bytes, body: bytes) -> bytes:
    return kind + (len(body) + 4).to_bytes(4) + body


def query(conversation: Conversation, text: str) -> str | None:
    """A simple query, passed on."""
    write = conversation.asks(b"Q", text.encode() + b"\0")
    conversation.sent(b"Q")
    return write


def execute(conversation: Conversation, text: str) -> str | None:
    """One statement of a pipeline, passed on."""
    body = text.encode()
    for kind, content in ((b"P", b"\0" + body + b"\0\0\0"), (b"B", b"\0\0\0\0\0\0\0\0")):
        assert conversation.asks(kind, content) is None
        conversation.sent(kind)
    write = conversation.asks(b"E", b"\0\0\0\0\0")
    conversation.sent(b"E")
    return write


@pytest.mark.parametrize(
    "text",
    [
        INSERT,
        "create role x",
        "ALTER ROLE x LOGIN PASSWORD 'SCRAM-SHA-256$4096:a==$b=:c='",
        "DROP DATABASE IF EXISTS x",
        "GRANT a TO b",
        "REVOKE ALL ON DATABASE x FROM PUBLIC; GRANT CONNECT ON DATABASE x TO y",
        "COMMENT ON DATABASE x IS '{}'",
        "REASSIGN OWNED BY a TO b",
        "\n UPDATE public.claims SET state = $1",
        "WITH gone AS ( DELETE FROM public.claims WHERE true) SELECT 1",
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity",
        "ROLLBACK PREPARED 'x'",
        "SELECT pg_advisory_xact_lock(1);CREATE TABLE IF NOT EXISTS t ()",
        "VACUUM",
        "something that nobody has thought of",
    ],
)
def test_what_asks_for_a_change_is_a_write(text: str) -> None:
    assert is_write(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SELECT 1",
        "SELECT * FROM claims WHERE database = $1 FOR UPDATE",
        "  with x as (SELECT 1) SELECT * FROM x",
        "BEGIN",
        "COMMIT",
        "ROLLBACK",
        "SET LOCAL ROLE x",
        "RESET ROLE",
        "SHOW server_version",
        "SELECT pg_advisory_lock(1); SELECT 2",
        "SELECT updated, created FROM dropped",
    ],
)
def test_what_asks_for_none_is_none(text: str) -> None:
    assert not is_write(text)


def test_a_write_is_told_before_it_runs_and_when_the_server_is_done_with_it() -> None:
    conversation = Conversation()
    assert conversation.answers(LOGGED_IN) == []
    assert query(conversation, "SELECT 1") is None
    assert query(conversation, "DROP ROLE a") == "DROP ROLE a"
    assert conversation.answers(READY) == []
    assert conversation.answers(READY) == ["DROP ROLE a"]


def test_a_pipeline_is_one_write_that_is_done_when_all_of_it_is() -> None:
    conversation = Conversation()
    conversation.answers(LOGGED_IN)
    assert execute(conversation, "BEGIN") is None
    assert execute(conversation, "SELECT 1") is None
    assert execute(conversation, INSERT) == INSERT
    conversation.sent(b"H")
    assert conversation.answers(message(b"C", b"INSERT 0 1\0")) == []
    assert execute(conversation, "DELETE FROM t") is None
    assert execute(conversation, "COMMIT") is None
    conversation.sent(b"S")
    assert conversation.answers(message(b"C", b"COMMIT\0")) == []
    assert conversation.answers(READY) == [INSERT]


def test_the_commit_of_a_transaction_is_a_write_only_if_it_has_written() -> None:
    conversation = Conversation()
    for text in ("BEGIN", "SET LOCAL ROLE a", "CREATE EXTENSION citext"):
        query(conversation, text)
    assert query(conversation, "COMMIT") == "COMMIT of CREATE EXTENSION citext"
    query(conversation, "DROP ROLE a")
    for text in ("BEGIN", "SELECT 1"):
        assert query(conversation, text) is None
    assert query(conversation, "COMMIT") is None


def test_the_bare_answer_to_a_wish_for_encryption_is_no_message() -> None:
    conversation = Conversation()
    conversation.asked_encryption()
    query(conversation, "DROP ROLE a")
    assert conversation.answers(b"N" + LOGGED_IN) == []
    assert conversation.answers(READY) == ["DROP ROLE a"]


@given(st.lists(st.sampled_from(["SELECT 1", "DROP ROLE a", "DROP ROLE b"])), st.randoms(use_true_random=False))
def test_it_does_not_matter_in_which_pieces_answers_come(texts: list[str], random: object) -> None:
    conversation = Conversation()
    for text in texts:
        query(conversation, text)
    data = LOGGED_IN + b"".join(message(b"D", b"ZZ\x00\x00") + READY for _ in texts)
    done: list[str] = []
    while data:
        size = random.randint(1, len(data))  # type: ignore[attr-defined]  # hypothesis has no type for it
        done += conversation.answers(data[:size])
        data = data[size:]
    assert done == [text for text in texts if is_write(text)]
