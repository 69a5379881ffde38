"""Every file under examples/ is applied with the real kubectl, and does what its comments promise.

The quick start is the demo's business; its plans are here, for the other examples stand on them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import pytest
from tests.integration.examples import lives, repository, sorts
from tests.integration.examples.example import EXAMPLES, NAMES, Example

if TYPE_CHECKING:
    from tests.integration.tenants import Workbench


EXPECTED: Final[Mapping[str, Callable[[Example], None]]] = MappingProxyType(
    {
        "backup": lives.a_tenant_gets_back_what_it_had_before,
        "cloudnativepg": sorts.a_tenants_database_has_a_replica,
        "dedicated-database": sorts.a_tenant_has_a_database_server_of_its_own,
        "disaster-recovery": lives.a_backup_that_is_only_in_the_store_is_found_again,
        "deletion": lives.deleted_tenants_are_locked_for_their_windows_and_come_back_with_everything,
        "external-database": sorts.a_tenant_uses_a_database_that_is_its_customers_own,
        "ephemeral": lives.a_throw_away_tenant_ends_by_itself_and_leaves_nothing,
        "gitops": repository.a_repository_brings_plans_and_tenants_and_what_is_protected_stays,
        "plans": sorts.a_plan_has_as_many_tenants_as_it_says_and_a_change_reaches_one_of_them_first,
        "preview": sorts.a_change_is_held_and_foretold_until_the_annotation_goes,
        "moving": lives.a_tenant_moves_to_another_server_with_its_data,
        "retain": lives.a_retained_tenant_runs_on_until_it_is_deleted_with_another_policy,
        "adoption": sorts.a_namespace_that_was_there_is_a_tenants_and_stays_when_that_is_gone,
        "proxy": sorts.the_application_is_told_of_a_proxy,
        "own-cluster": sorts.of_two_tenants_one_gets_the_cluster_and_the_other_follows,
        "rotation": lives.new_credentials_come_without_an_outage,
        "sync-token": sorts.a_sync_token_is_made_and_changed_and_the_former_one_stays_for_a_while,
        "suspended": lives.a_suspended_tenant_is_left_as_it_is_and_caught_up_with_afterwards,
        "switched-off": lives.a_tenant_that_is_off_serves_and_runs_nothing_and_comes_back_as_it_was,
        "tasks-off": lives.tasks_rest_while_the_application_serves,
    }
)


@pytest.fixture
def example(request: pytest.FixtureRequest, workbench: Workbench) -> Example:
    """The example that the test is about, after the quick start's plans."""
    opened = Example(workbench, EXAMPLES / request.param)
    opened.plans()
    return opened


@pytest.mark.parametrize("example", NAMES, indirect=True)
def test_an_example_does_what_it_says(example: Example) -> None:
    EXPECTED[example.folder.name](example)
    assert example.applied == example.files()


def test_every_example_has_an_expectation_and_a_line_in_the_list_of_examples() -> None:
    assert set(EXPECTED) == set(NAMES)
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert [name for name in NAMES if f"[`{name}/`]({name})" not in listed] == []
