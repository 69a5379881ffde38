"""The proofs about databases: every tenant gets into its own with what its Secret says, and into no other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tests.demo.databases import Answer, greet, intrude
from tests.demo.findings import Findings
from tests.demo.quickstart import TenantName


@dataclass(frozen=True, slots=True)
class Proofs:
    """What the server answered to one tenant's login.

    Attributes:
        own: In its own database.
        others: In the databases of the other tenants, and in that of the server itself.
    """

    own: Answer
    others: Mapping[str, Answer]


def prove(found: Mapping[TenantName, Findings]) -> dict[TenantName, Proofs]:
    """Try all that should work and all that should not."""
    return {
        name: Proofs(own=greet(one.uri), others=_others(one, found))
        for name, one in found.items()
        if one.uri and one.database
    }


def _others(one: Findings, found: Mapping[TenantName, Findings]) -> dict[str, Answer]:
    tried = {
        f"the database of {other.name}": other.database.name
        for other in found.values()
        if other.database and other.name != one.name
    }
    return {what: intrude(one.uri, database) for what, database in {**tried, "database postgres": "postgres"}.items()}
