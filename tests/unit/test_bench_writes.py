"""The replay of the benchmark: the operator's writes read out of the audit log, and put under fresh names."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from tests.bench.floor import floor_tenant, record_path
from tests.bench.writes import (
    FLOOR_ID,
    MANAGEMENT_ID,
    Write,
    fresh_hash,
    hash_of,
    merged,
    renamed,
    tenant_name,
    writes_of,
)

from tenantry.api.identity import host_claim_name
from tenantry.api.names import ANNOTATION_HOST, LABEL_MANAGEMENT_ID, LABEL_TENANT_HASH

OPERATOR = "system:serviceaccount:a:b"
NAME, HASH = tenant_name(7), "abcdefgh"
LABELS = {LABEL_TENANT_HASH: HASH, LABEL_MANAGEMENT_ID: MANAGEMENT_ID}


def line(
    verb: str, uri: str, body: dict[str, Any] | None, *, at: str = "2026-01-01T00:00:01Z", code: int = 200,
    user: str = OPERATOR, resource: str = "configmaps",
) -> bytes:  # fmt: skip
    return orjson.dumps(
        {
            "user": {"username": user},
            "verb": verb,
            "requestURI": uri,
            "requestObject": body,
            "responseStatus": {"code": code},
            "objectRef": {"resource": resource},
            "requestReceivedTimestamp": at,
        }
    )


def one(verb: str, uri: str, body: dict[str, Any]) -> Write:
    return writes_of([line(verb, uri, body)], "target", OPERATOR)[NAME][0]


def stamped(**content: Any) -> dict[str, Any]:
    return {"metadata": {"name": NAME, "labels": LABELS, **content}}


def test_only_granted_writes_of_the_user_that_concern_a_tenant_are_read() -> None:
    about = stamped()
    log = [
        line("create", "/api/v1/namespaces", about, at="2026-01-01T00:00:02Z", code=201),
        line("patch", f"/api/v1/namespaces/{NAME}", about, at="2026-01-01T00:00:01Z"),
        line("patch", f"/api/v1/namespaces/{NAME}", about, code=403),
        line("get", f"/api/v1/namespaces/{NAME}", None),
        line("create", "/api/v1/namespaces", about, user="somebody else"),
        line("patch", "/apis/tenantry.io/v1alpha1/clusters/eu-1/status", {"status": {}}),
        line("create", "/apis/authorization.k8s.io/v1/x", about, resource="selfsubjectaccessreviews"),
    ]
    found = writes_of(log, "target", OPERATOR)
    assert [write.method for write in found.pop(NAME)] == ["PATCH", "POST"]
    assert not found


@pytest.mark.parametrize(
    ("uri", "content_type"),
    [
        (f"/api/v1/namespaces/{NAME}?fieldManager=tenantry&force=true", "application/apply-patch+yaml"),
        (f"/api/v1/namespaces/{NAME}/status?fieldManager=tenantry", "application/merge-patch+json"),
    ],
)
def test_the_kind_of_a_patch_is_known_by_whether_it_was_forced(uri: str, content_type: str) -> None:
    write = one("patch", uri, stamped())
    assert write.content_type == content_type
    assert write.path == f"/api/v1/namespaces/{NAME}"


def test_writes_of_two_servers_are_put_in_the_order_in_which_they_came() -> None:
    late = writes_of([line("patch", f"/a/{NAME}", {}, at="2026-01-01T00:00:09Z")], "management", OPERATOR)
    early = writes_of([line("patch", f"/b/{NAME}", {}, at="2026-01-01T00:00:03Z")], "target", OPERATOR)
    assert [write.cluster for write in merged(late, early)[NAME]] == ["target", "management"]


def test_a_renamed_write_has_another_name_hash_and_management_id_and_is_as_long() -> None:
    namespace = f"shop-{NAME}-{HASH[:6]}"
    write = one(
        "patch", f"/api/v1/namespaces/{namespace}?force=true", stamped(annotations={"id": f"shop_{NAME}_{HASH}"})
    )
    (fresh,) = renamed(NAME, [write])
    text = fresh.uri + fresh.body.decode()
    assert not any(word in text for word in (NAME, HASH[:6], MANAGEMENT_ID))
    assert f"floor-000007-{fresh_hash(HASH)[:6]}" in fresh.uri
    assert orjson.loads(fresh.body)["metadata"]["labels"] == {
        LABEL_TENANT_HASH: fresh_hash(HASH),
        LABEL_MANAGEMENT_ID: FLOOR_ID,
    }
    assert len(text) == len(write.uri + write.body.decode())


def test_a_renamed_claim_is_called_after_its_renamed_host() -> None:
    host = f"{NAME}-shop.eu.example.com"
    claim = {"metadata": {"name": host_claim_name(host), "labels": LABELS, "annotations": {ANNOTATION_HOST: host}}}
    (fresh,) = renamed(NAME, [one("create", "/api/v1/namespaces/tenantry-system/configmaps", claim)])
    assert orjson.loads(fresh.body)["metadata"]["name"] == host_claim_name("floor-000007-shop.eu.example.com")


def test_writes_without_a_stamp_are_not_replayed_under_a_guessed_hash() -> None:
    with pytest.raises(LookupError, match="stamp"):
        hash_of([one("patch", f"/a/{NAME}", {"metadata": {"finalizers": []}})])


def test_a_floor_tenant_knows_which_versions_it_has_to_wait_for_and_which_record_it_makes() -> None:
    tenants = "/apis/tenantry.io/v1alpha1/namespaces/shop/tenants"
    writes = [
        one("create", "/apis/tenantry.io/v1alpha1/tenantrecords?fieldManager=x", {
            "metadata": {"name": f"{NAME}-{HASH}", "labels": LABELS}
        }),
        one("patch", f"{tenants}/{NAME}?fieldManager=x", {"metadata": {"resourceVersion": "5", "finalizers": ["f"]}}),
        one("patch", f"{tenants}/{NAME}/status", {"status": {}}),
    ]  # fmt: skip
    tenant = floor_tenant(NAME, writes, "None")
    assert tenant.awaited == {f"{tenants}/floor-000007"}
    assert record_path(tenant) == f"/apis/tenantry.io/v1alpha1/tenantrecords/floor-000007-{fresh_hash(HASH)}"
    assert orjson.loads(tenant.create)["metadata"]["name"] == "floor-000007"
