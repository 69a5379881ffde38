"""Manifests: what is signed is believed, at its own path and nowhere else."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.strategies import calmly, labels

from tenantry.api.identity import TenantIdentity
from tenantry.desired.manifest import (
    MOST_BYTES,
    Manifest,
    ManifestError,
    Part,
    backup_path,
    decode,
    encode,
    run_id,
    tenant_path,
)

KEY = "k" * 32
UIDS = st.uuids().map(str)
EPOCHS = st.integers(1, 9)
TIMES = st.datetimes().map(lambda moment: moment.strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0"))


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    size = st.integers(0, 2**50)
    digest = st.binary(min_size=32, max_size=32).map(bytes.hex)
    return Manifest(
        identity=TenantIdentity(
            draw(labels(20)), draw(labels()), draw(UIDS), draw(labels(40)), draw(st.integers(1, 9)), draw(EPOCHS)
        ),
        run=run_id(draw(TIMES), draw(UIDS)),
        backup=draw(labels()),
        started_at=draw(TIMES),
        completed_at=draw(TIMES),
        server_version=draw(st.integers(140000, 190000)),
        tool_major=draw(st.integers(14, 19)),
        rows=draw(st.dictionaries(st.text(max_size=20), size, max_size=4)),
        database=Part("database.dump", draw(size), draw(digest), draw(size), draw(digest)),
        encrypted=draw(st.booleans()),
        tenant_spec=draw(st.none() | st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3)),
    )


@calmly
@given(manifests(), st.text(min_size=32, max_size=40, alphabet=st.characters(codec="utf-8")))
def test_what_was_encoded_is_decoded_at_its_path_with_its_key(manifest: Manifest, key: str) -> None:
    assert decode(encode(manifest, key), manifest.path, key) == manifest


@calmly
@given(manifests(), EPOCHS)
def test_a_backup_is_the_tenants_whichever_of_its_databases_it_was_made_of(manifest: Manifest, epoch: int) -> None:
    moved = replace(manifest, identity=replace(manifest.identity, epoch=epoch))
    assert moved == manifest
    assert decode(encode(moved, KEY), manifest.path, KEY) == moved


@calmly
@given(manifests(), manifests())
def test_a_manifest_is_believed_nowhere_but_at_its_own_path(manifest: Manifest, other: Manifest) -> None:
    if manifest.path != other.path:
        with pytest.raises(ManifestError, match="signature"):
            decode(encode(manifest, KEY), other.path, KEY)


@calmly
@given(manifests())
def test_a_manifest_of_another_key_is_not_believed(manifest: Manifest) -> None:
    with pytest.raises(ManifestError, match="signature"):
        decode(encode(manifest, KEY), manifest.path, KEY + "x")


@calmly
@given(manifests(), st.data())
def test_a_manifest_that_was_changed_anywhere_is_not_believed(manifest: Manifest, data: st.DataObject) -> None:
    body = json.loads(encode(manifest, KEY))
    field = data.draw(st.sampled_from(sorted(set(body) - {"signature"})))
    body[field] = data.draw(st.none() | st.integers() | st.text(max_size=3))
    if body == json.loads(encode(manifest, KEY)):
        return
    with pytest.raises(ManifestError):
        decode(json.dumps(body).encode(), manifest.path, KEY)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no JSON"),
        (b"\xff", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[]", "not signed"),
        (b'{"signature": 1}', "not signed"),
        (b'{"signature": "\xc3\xa4"}', "signature"),
        (b" " * (MOST_BYTES + 1), "more than any"),
    ],
)
def test_what_is_no_manifest_is_refused_with_its_reason(data: bytes, why: str) -> None:
    with pytest.raises(ManifestError, match=why):
        decode(data, "a/b", KEY)


@calmly
@given(manifests())
def test_a_key_that_is_too_short_signs_nothing(manifest: Manifest) -> None:
    with pytest.raises(ManifestError, match="at least 32"):
        encode(manifest, "k" * 31)


@calmly
@given(manifests(), st.text(max_size=30))
def test_a_path_is_made_of_ids_of_runs_only(manifest: Manifest, run: str) -> None:
    assert backup_path(manifest.identity, manifest.run).startswith(f"{tenant_path(manifest.identity)}/")
    with pytest.raises(ValueError, match="no id of a run"):
        backup_path(manifest.identity, f"{run}/../{manifest.run}")


@calmly
@given(manifests(), st.integers(10, 20))
def test_another_incarnation_has_another_path(manifest: Manifest, incarnation: int) -> None:
    again = replace(manifest.identity, incarnation=incarnation)
    assert not backup_path(again, manifest.run).startswith(tenant_path(manifest.identity) + "/")


@given(TIMES, UIDS, UIDS)
def test_two_objects_of_one_moment_have_two_runs(created: str, one: str, two: str) -> None:
    assert (run_id(created, one) == run_id(created, two)) == (one == two)
