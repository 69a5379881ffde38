"""What is taken out of a support bundle, and what stays so that it is of use."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tenantry.cli.scrubbing import HIDDEN, scrubbed, scrubbed_log, scrubbed_text

Json = dict[str, Any]
NAMES = st.from_regex(r"[A-Z][A-Z_]{0,10}", fullmatch=True)
VALUES = st.from_regex(r"zq[a-z0-9]{10,30}", fullmatch=True)
"""Such that none can be there by chance."""


@given(env=st.dictionaries(NAMES, VALUES, min_size=1))
def test_no_value_of_an_environment_stays_wherever_it_is(env: dict[str, str]) -> None:
    listed = [{"name": name, "value": value} for name, value in env.items()]
    body = {
        "metadata": {"name": "a", "annotations": {"kubectl.kubernetes.io/last-applied-configuration": json.dumps(env)}},
        "spec": {"env": env, "lastSpec": {"env": env}, "template": {"spec": {"containers": [{"env": listed}]}}},
    }
    text = json.dumps(scrubbed(body))
    assert not [value for value in env.values() if value in text]
    assert all(name in text for name in env)


@given(value=VALUES, user=VALUES)
def test_user_info_in_urls_passwords_and_keys_are_masked_in_every_text(value: str, user: str) -> None:
    for text in (
        f"http://{user}:{value}@proxy:3128",
        f"https://{value}@host/path",
        f'dial "postgres://{user}:{value}@db/x" failed',
        f"password={value}",
        f"AGE-SECRET-KEY-1{value.upper()}",
        f"-----BEGIN PRIVATE KEY-----\n{value}\n-----END PRIVATE KEY-----",
    ):
        told = scrubbed(
            {"metadata": {"name": "a"}, "status": {"conditions": [{"message": text}]}, "spec": {"noProxy": [text]}}
        )
        assert value not in json.dumps(told)
        assert value.upper() not in json.dumps(told)


def test_others_annotations_managed_fields_and_data_are_taken_out_and_ours_stay() -> None:
    metadata = {
        "name": "a",
        "annotations": {"tenantry.io/requestedAt": "now", "tenantry.io/made-up": "x", "argocd.example.com/y": "z"},
        "managedFields": [{"manager": "kubectl"}],
    }
    told = scrubbed({"metadata": metadata, "data": {"password": "eA=="}, "spec": {"description": "call 0123"}})
    assert told == {
        "metadata": {
            "name": "a",
            "annotations": {
                "tenantry.io/requestedAt": "now",
                "tenantry.io/made-up": HIDDEN,
                "argocd.example.com/y": HIDDEN,
            },
        },
        "data": HIDDEN,
        "spec": {"description": HIDDEN},
    }


def test_limits_stay_where_they_are_numbers() -> None:
    spec = {"limits": {"MAX": "10", "RATIO": "0.5", "MEMORY": "8Gi", "CODE": "not-a-number"}}
    told = scrubbed({"metadata": {}, "spec": spec})["spec"]["limits"]
    assert told == {"MAX": "10", "RATIO": "0.5", "MEMORY": "8Gi", "CODE": HIDDEN}


def test_arguments_stay_where_they_are_plain_flags_of_ours() -> None:
    args = [
        "--workers=32",
        "--hold-terminating",
        "--log-format=json",
        "--metrics-address=:8080",
        "--extra=s3cr3t-x",
        "y",
    ]
    container = {"command": ["tenantry", "operator"], "args": args}
    told = scrubbed({"metadata": {}, "spec": {"containers": [container]}})["spec"]["containers"][0]
    assert told["command"] == ["tenantry", "operator"]
    assert told["args"] == [*args[:4], f"--extra={HIDDEN}", HIDDEN]


def test_a_log_that_begins_in_the_middle_of_a_key_begins_after_it() -> None:
    rest = b"half of a line\nMIIEvQIBADANBg\nkqhkiG9w0BAQ\n-----END PRIVATE KEY-----\nwell\n"
    assert scrubbed_log(rest, cut=True) == "\nwell\n"
    assert scrubbed_log(b"half\nwell\n", cut=True) == "well\n"
    assert scrubbed_log(b"whole\nwell\n", cut=False) == "whole\nwell\n"


def test_what_helps_stays_as_it_is() -> None:
    body = {
        "apiVersion": "tenantry.io/v1alpha1",
        "kind": "DatabaseServer",
        "metadata": {"name": "shared", "uid": "u", "generation": 2, "labels": {"team": "blue"}},
        "spec": {"host": "db.example.com", "port": 5432, "adminSecretRef": {"name": "shared-admin"}},
        "status": {"conditions": [{"type": "Ready", "status": "False", "message": "Secret shared-admin is not there"}]},
    }
    assert scrubbed(body) == body
    assert scrubbed_text("TenantRecord acme-1 is Active") == "TenantRecord acme-1 is Active"
