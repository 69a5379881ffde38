"""The YAML of kubeconfigs: bombs, tricks and broken files are refused quickly, with the line, by one kind of error."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.adapters.kube.kubeconfig import parse_kubeconfig
from tenantry.adapters.kube.refusal import KubeconfigReason, KubeconfigRefused
from tenantry.adapters.kube.strict_yaml import MAX_BYTES, load_strict

NOW = datetime.now(UTC)
MIB = 1024 * 1024


def refusal(data: bytes | str) -> KubeconfigRefused:
    with pytest.raises(KubeconfigRefused) as caught:
        load_strict(data)
    return caught.value


def test_plain_scalars_are_null_or_booleans_or_text() -> None:
    text = 'a: ~\nb: true\nc: "true"\nd: 007\ne: 2026-01-01\nf: [x, null]\ng:\n'
    expected = {"a": None, "b": True, "c": "true", "d": "007", "e": "2026-01-01", "f": ["x", None], "g": None}
    assert load_strict(text) == expected


def test_json_is_yaml() -> None:
    assert load_strict(b'{"a": ["b", {"c": "d"}]}') == {"a": ["b", {"c": "d"}]}


@pytest.mark.parametrize(
    ("data", "reason", "words"),
    [
        ("", KubeconfigReason.EMPTY, "empty"),
        (" \n# only a comment\n", KubeconfigReason.EMPTY, "empty"),
        ("a: 1\n---\nb: 2\n", KubeconfigReason.SEVERAL_DOCUMENTS, "line 2"),
        ("a: &x 1\nb: 2\n", KubeconfigReason.YAML_ALIAS, "line 1"),
        ("a: [1]\nb: *x\n", KubeconfigReason.YAML_ALIAS, "line 2"),
        ("a: &x [1]\n", KubeconfigReason.YAML_ALIAS, "line 1"),
        ("a: !!python/object/apply:os.system [id]\n", KubeconfigReason.YAML_TAG, "line 1"),
        ("x: y\na: !!binary aGk=\n", KubeconfigReason.YAML_TAG, "line 2"),
        ("a: 1\nb: 2\na: 3\n", KubeconfigReason.DUPLICATE_KEY, '"a" is there twice (line 3)'),
        ("[a]: 1\n", KubeconfigReason.MALFORMED, "line 1"),
        ("a: b\n c: d\n", KubeconfigReason.MALFORMED, "line 2"),
        ("a:\n\t- b\n", KubeconfigReason.MALFORMED, "line 2"),
        ("a: 'b\n", KubeconfigReason.MALFORMED, "line"),
        ("%YAML 9.9\n---\na: b\n", KubeconfigReason.MALFORMED, "line 1"),
        (b"\x00\x01\x02", KubeconfigReason.BINARY, "control characters (line 1)"),
        (b"a: b\n\x7fELF", KubeconfigReason.BINARY, "line 2"),
        (b"\xff\xfea\x00", KubeconfigReason.BINARY, "UTF-8"),
        (b"\x1f\x8b\x08\x00", KubeconfigReason.BINARY, "UTF-8"),
        ("a: \ud800", KubeconfigReason.BINARY, "UTF-8"),
        ("[" * 50, KubeconfigReason.TOO_COMPLEX, "too deep"),
        ("- a\n" * 30_000, KubeconfigReason.TOO_COMPLEX, "too many"),
    ],
)
def test_what_is_not_one_plain_document_is_refused(data: bytes | str, reason: KubeconfigReason, words: str) -> None:
    found = refusal(data)
    assert found.reason == reason
    assert words in found.message


def test_a_truncated_kubeconfig_is_refused_with_the_line() -> None:
    found = refusal('apiVersion: v1\nclusters:\n- cluster: {server: "https://a')
    assert found.reason == KubeconfigReason.MALFORMED
    assert "line 3" in found.message


def test_a_merge_key_is_a_field_like_any_other_and_unknown() -> None:
    with pytest.raises(KubeconfigRefused) as caught:
        parse_kubeconfig("<<: {kind: Config}\ncurrent-context: a\n", now=NOW)
    assert caught.value.reason == KubeconfigReason.UNKNOWN_FIELD


def test_a_long_key_is_not_repeated_whole_for_it_may_be_a_misplaced_token() -> None:
    token = "eyJhbGciOiJSUzI1NiIsImtpZCI6Ij" * 5
    assert token not in refusal(f"{token}: 1\n{token}: 2\n").message


LAUGHS = "\n".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 10))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (f"l0: &l0 lol\n{LAUGHS}\n", KubeconfigReason.YAML_ALIAS),
        (b"a" * (10 * MIB), KubeconfigReason.TOO_LARGE),
        ("ä" * (MAX_BYTES - 1), KubeconfigReason.TOO_LARGE),
        ("[" * MIB, KubeconfigReason.TOO_COMPLEX),
        ("{" * MIB, KubeconfigReason.MALFORMED),
        ("{a: " * (MIB // 4), KubeconfigReason.TOO_COMPLEX),
        ("- " * (MIB // 2), KubeconfigReason.TOO_COMPLEX),
        ("? " * (MIB // 2), KubeconfigReason.MALFORMED),
        ("".join(f"k{n}: v\n" for n in range(90_000)), KubeconfigReason.TOO_COMPLEX),
        ("x" * MIB + ": y", KubeconfigReason.TOO_LARGE),
        ("k: " + "'" * (MIB - 9), KubeconfigReason.MALFORMED),
    ],
    ids=["laughs", "10MiB", "wide", "brackets", "braces", "maps", "dashes", "questions", "many", "longkey", "quotes"],
)
def test_bombs_are_refused_in_no_time(data: bytes | str, reason: KubeconfigReason) -> None:
    started = time.process_time()
    found = refusal(data)
    assert found.reason == reason
    assert time.process_time() - started < 1.0


@given(st.binary(max_size=300) | st.text(max_size=300))
def test_no_bytes_raise_anything_but_the_refusal(data: bytes | str) -> None:
    with pytest.raises(KubeconfigRefused):
        parse_kubeconfig(data, now=NOW)


@given(st.text(alphabet=st.sampled_from(list("ab:-[]{}'\"&*!|>%@`#?, \n\t~<")), max_size=80))
def test_no_text_that_looks_like_yaml_raises_anything_but_the_refusal(data: str) -> None:
    with pytest.raises(KubeconfigRefused):
        parse_kubeconfig(data, now=NOW)
