"""`tenantry operator`: what it says about flags that can't work, before it begins anything."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from tenantry.cli.main import main


@pytest.mark.parametrize("flag", ["--metrics-address", "--health-address"])
def test_an_address_that_is_none_is_refused_with_the_flag_and_the_way_out(flag: str) -> None:
    answer = CliRunner().invoke(main, ["operator", flag, "nonsense"])
    assert answer.exit_code == 2
    assert flag in answer.output
    assert "use host:port, :port, or 0 for none" in answer.output


def test_a_flag_can_be_set_by_an_environment_variable() -> None:
    answer = CliRunner().invoke(main, ["operator"], env={"TENANTRY_METRICS_ADDRESS": "nonsense"})
    assert answer.exit_code == 2
    assert "'nonsense' is no address" in answer.output


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--leader-elect-lease-duration", "10"), "--leader-elect-renew-deadline 10"),
        (("--leader-elect-renew-deadline", "2"), "--leader-elect-retry-period 2"),
        (("--leader-elect-resource-name", "Not_This"), "--leader-elect-resource-name"),
        (("--leader-elect-resource-name", "slot-1"), "not slot-..."),
        (("--instance", "two words"), "--instance"),
    ],
)
def test_an_election_that_can_not_work_is_refused_with_the_flags(flags: tuple[str, ...], told: str) -> None:
    answer = CliRunner().invoke(main, ["operator", *flags])
    assert answer.exit_code == 2
    assert told in " ".join(answer.output.split())
