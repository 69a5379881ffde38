"""The text of `tenantry preview`: what is held, in lines, and in one of them where nothing is."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.test_preview import config_map

from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.resources import CONFIG_MAPS, Ref
from tenantry.cli.preview import text_of
from tenantry.decide.conditions import Outcome
from tenantry.decide.preview import Intent, Write, preview_of

Json = dict[str, Any]


def tenant(*, dry_run: bool = True, judged: int = 2, preview: Json | None = None) -> Json:
    annotations = {"tenantry.io/dry-run": "true"} if dry_run else {}
    told = [("Ready", 1), ("ChangeHeld", judged)]
    conditions = [
        {"type": kind, "status": "True", "reason": "DryRun", "observedGeneration": number} for kind, number in told
    ]
    return {
        "metadata": {"name": "acme", "namespace": "shop", "generation": 2, "annotations": annotations},
        "spec": {},
        "status": {"conditions": conditions, "preview": preview},
    }


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (tenant(dry_run=False), "nothing is held, as it has no annotation tenantry.io/dry-run"),
        (tenant(), "nothing is held, as its spec is the one that is applied"),
        (tenant(judged=1), "generation 2 was not looked at yet"),
    ],
)
def test_where_nothing_is_held_one_line_says_so(body: Json, line: str) -> None:
    assert text_of(body) == f"Tenant shop/acme: {line}\n"


def test_everything_that_the_preview_has_is_shown_and_nothing_breaks_a_line() -> None:
    writes = [Write(Ref(CONFIG_MAPS, "n", f"m{n:02d}"), config_map(n), config_map(n, a="x\ny")) for n in range(50)]
    refused = Outcome(False, Reason.PLAN_EXCEEDED, "too\nmuch", terminal=True)
    found = preview_of(
        Intent(writes, outcomes={ConditionType.PLACED: refused}), generation=2, before={}, after={"env": {"A": "1"}}
    ).model_copy(update={"data_loss": True, "data_loss_reasons": ["all\x1b of it"]})
    lines = text_of(tenant(preview=found.model_dump(by_alias=True))).splitlines()
    assert lines[0] == "Tenant shop/acme: generation 2 is held, 1 is applied"
    assert lines[2:8] == ["", "DATA LOSS", "  all  of it".replace("  of", " of"), "", "WOULD NOT GET READY",
                          "  PlanExceeded (Placed): too much"]  # fmt: skip
    assert lines[9].split() == ["ACTION", "WHAT", "DETAIL"]
    assert len([line for line in lines if line.startswith("Change")]) == 48
    assert lines[-3:] == ["and 2 more, which status.preview leaves out", "", "Fields that differ: spec.env"]
    assert all(line.isprintable() for line in lines)
