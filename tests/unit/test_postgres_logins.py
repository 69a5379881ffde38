"""What is told of a tenant's logins and of their clients, who are strangers, decided without a server."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.adapters.postgres import rules
from tenantry.adapters.postgres.logins import client_name, state_of
from tenantry.adapters.postgres.sessions import Session
from tenantry.adapters.postgres.snapshot import RoleRow, Snapshot
from tenantry.ports.postgres import LoginState, WantedDatabase

WANTED = WantedDatabase("tenantry_abcdefgh", "mgmt", "abcdefgh", "acme-abcdefgh", connection_limit=20)
FIRST, SECOND = WANTED.logins
ROLE = RoleRow(
    name=FIRST,
    powers=frozenset(),
    inherit=True,
    login=True,
    connection_limit=20,
    comment=rules.Stamp.of(WANTED).comment(),
    settings=frozenset(),
    usable=False,
    memberships=frozenset(),
)


def there_is(role: RoleRow) -> Snapshot:
    return Snapshot(version=180000, claim=None, database=None, roles={role.name: role})


@given(st.text(), st.none() | st.text())
def test_whatever_a_client_says_is_at_most_64_printable_characters(application: str, address: str | None) -> None:
    told = client_name(application, address)
    assert told.isprintable()
    assert 0 < len(told) <= 64


@given(st.text(max_size=80), st.ip_addresses().map(str))
def test_a_long_name_does_not_push_the_address_out(application: str, address: str) -> None:
    assert client_name(application, address).endswith(f" at {address}")


@pytest.mark.parametrize(
    ("application", "address", "told"),
    [
        ("psql", "10.0.0.7", "psql at 10.0.0.7"),
        ("", "::1", "unnamed at ::1"),
        ("  ", None, "unnamed at a local socket"),
        ("a\nb\u202e", "10.0.0.7", "a?b? at 10.0.0.7"),
    ],
)
def test_a_client_is_named_by_what_it_says_and_where_it_is(application: str, address: str | None, told: str) -> None:
    assert client_name(application, address) == told


@given(st.lists(st.tuples(st.sampled_from(WANTED.logins), st.integers(0, 14))))
def test_all_sessions_of_a_login_are_counted_and_ten_clients_named_once(seen: list[tuple[str, int]]) -> None:
    sessions = [Session(pid, login, f"c{number}", "::1") for pid, (login, number) in enumerate(seen)]
    state = state_of(there_is(ROLE), WANTED, FIRST, sessions)
    own = {f"c{number} at ::1" for login, number in seen if login == FIRST}
    assert state.sessions == sum(login == FIRST for login, _ in seen)
    assert len(state.clients) == len(set(state.clients)) == min(len(own), 10)
    assert set(state.clients) <= own


@pytest.mark.parametrize(("login", "expired"), [(False, False), (True, True), (False, True)])
def test_a_login_that_is_locked_or_expired_can_not_log_in(login: bool, expired: bool) -> None:
    assert state_of(there_is(ROLE), WANTED, FIRST, ()).can_login
    assert not state_of(there_is(replace(ROLE, login=login, expired=expired)), WANTED, FIRST, ()).can_login


@pytest.mark.parametrize("role", [replace(ROLE, comment=None), replace(ROLE, name=SECOND)])
def test_of_a_role_that_is_missing_or_not_the_tenants_nothing_is_told(role: RoleRow) -> None:
    seen = [Session(1, FIRST, "spy", "::1")]
    assert state_of(there_is(role), WANTED, FIRST, seen) == LoginState(FIRST, can_login=False, sessions=0, clients=())
