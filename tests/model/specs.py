"""Specs that a tenant's admin may write in any order: what one of them sets, the next one takes away again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from hypothesis import strategies as st
from tests.crash.case import Case

Json = dict[str, Any]

BINDINGS: Final[tuple[list[Json], ...]] = (
    [],
    [{"role": "Admin", "subjects": [{"kind": "User", "name": "anna"}]}],
    [
        {"role": "Admin", "subjects": [{"kind": "User", "name": "berta"}]},
        {"role": "View", "subjects": [{"kind": "Group", "name": "support"}]},
    ],
)
EXTENSIONS: Final = frozenset({"citext"})
QUOTAS: Final[tuple[Json, ...]] = ({}, {"hard": {"pods": "7"}}, {"hard": {"pods": "3", "requests.cpu": "1"}})


@dataclass(frozen=True, slots=True)
class Choice:
    """A spec, but for the names of the case that it is for.

    Attributes:
        domains: How many of the case's custom hosts it has; those of another case are others.
    """

    domains: tuple[int, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    bindings: int = 0
    quota: int = 0
    extensions: tuple[str, ...] = ()
    enabled: bool = True
    tasks: bool = True
    ingress: bool = True
    rbac: bool = True

    def spec(self, case: Case, **deletion: str) -> Json:
        """As it is written for a case: what is empty is left out, for the API server keeps it in one life only."""
        wanted: Json = {
            "plan": case.plan,
            "enabled": self.enabled,
            "database": _filled(mode="Shared", extensions=list(self.extensions)),
            "rotation": {"gracePeriod": "1s"},
            "deletion": deletion,
            "domains": [{"host": case.domains[number]} for number in self.domains],
            "env": dict(self.env),
            "quota": QUOTAS[self.quota],
            "rbac": _filled(enabled=self.rbac, bindings=BINDINGS[self.bindings]),
            "tasks": {} if self.tasks else {"enabled": False},
            "ingress": {} if self.ingress else {"enabled": False},
        }
        return _filled(**wanted)


def _filled(**fields: Any) -> Json:
    return {key: value for key, value in fields.items() if value not in ({}, [])}


CHOICES: Final = st.builds(
    Choice,
    domains=st.sampled_from([(), (0,), (1,), (0, 1)]),
    env=st.sampled_from([(), (("COLOR", "grey"),), (("COLOR", "red"), ("LOG_LEVEL", "debug"))]),
    bindings=st.integers(0, len(BINDINGS) - 1),
    quota=st.integers(0, len(QUOTAS) - 1),
    extensions=st.sampled_from([(), ("citext",)]),
    enabled=st.sampled_from([True, True, False]),
    tasks=st.booleans(),
    ingress=st.booleans(),
    rbac=st.booleans(),
)
