"""The crash test's own parts: which write it kills at, what it lets pass, what it calls the same, what it counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.crash.case import Case, Names
from tests.crash.differing import difference, leaks
from tests.crash.gate import Gate, Mode, Point
from tests.crash.lane import Verdict
from tests.crash.report import figures, line_of, passed
from tests.scene.proxy import CutConnection
from tests.scene.proxy_faults import Passing
from tests.scene.proxy_postgres import SqlWrite

from tenantry.api.identity import TenantIdentity, host_claim_name


@dataclass
class Door:
    """A proxy as far as the gate knows one."""

    before_write: Callable[[Passing], None] | None = None
    after_write: Callable[[Passing], None] | None = None


@dataclass
class SqlDoor:
    """The database's."""

    before_write: Callable[[SqlWrite], None] | None = None
    after_write: Callable[[SqlWrite], None] | None = None


@dataclass
class Scene:
    """A gate before three doors, and how often it has killed."""

    management: Door = field(default_factory=Door)
    target: Door = field(default_factory=Door)
    postgres: SqlDoor = field(default_factory=SqlDoor)
    kills: int = 0

    def __post_init__(self) -> None:
        self.gate = Gate(self.kill)
        self.gate.stand_before(self.management, self.target, self.postgres)

    def kill(self) -> None:
        self.kills += 1

    def write(self, number: int, path: str = "/api/v1/namespaces") -> list[str]:
        """A write comes to the target: whether it was passed on, and answered."""
        passing = Passing(number, "POST", path, "", 0.0, number)
        assert self.target.before_write is not None
        assert self.target.after_write is not None
        came: list[str] = []
        try:
            self.target.before_write(passing)
            came.append("passed on")
            self.target.after_write(passing)
            came.append("answered")
        except CutConnection:
            pass
        return came

    def sql(self, number: int, text: str) -> None:
        """A write comes to the database server."""
        assert self.postgres.before_write is not None
        self.postgres.before_write(SqlWrite(number, text))


SECOND = Point("target POST /api/v1/namespaces", 2)
WHOLE = ["passed on", "answered"]


def test_before_the_write_means_that_the_server_never_hears_of_it_nor_of_any_later_one() -> None:
    scene = Scene()
    scene.gate.arm(str, SECOND, Mode.BEFORE)
    assert [scene.write(number) for number in (1, 2, 3)] == [WHOLE, [], []]
    assert scene.kills == 1
    assert scene.gate.fired.is_set()


def test_after_the_write_means_that_its_answer_is_not_heard() -> None:
    scene = Scene()
    scene.gate.arm(str, SECOND, Mode.AFTER)
    assert [scene.write(number) for number in (1, 2, 3)] == [WHOLE, ["passed on"], []]
    assert scene.kills == 1


def test_an_idle_gate_lets_everything_pass_and_notes_nothing() -> None:
    scene = Scene()
    scene.gate.arm(str, SECOND, Mode.BEFORE)
    seen = [scene.write(number) for number in (1, 2)]
    assert scene.gate.rest() == [Point(SECOND.label, 1), SECOND]
    assert [*seen, scene.write(3)] == [WHOLE, [], WHOLE]
    assert scene.gate.rest() == [Point(SECOND.label, 1), SECOND]


def test_the_status_of_platform_objects_is_no_write_of_a_tenants() -> None:
    scene = Scene()
    scene.gate.arm(str)
    scene.write(1, "/apis/tenantry.io/v1alpha1/clusters/eu-1/status")
    scene.sql(1, "DROP  ROLE\n a")
    assert scene.gate.rest() == [Point("postgres DROP ROLE a", 1)]


@given(st.lists(st.sampled_from(["/a", "/b", "/c"]), min_size=1))
def test_each_write_has_a_name_of_its_own_whatever_the_order(paths: list[str]) -> None:
    scene = Scene()
    scene.gate.arm(str)
    for number, path in enumerate(paths):
        scene.write(number, path)
    seen = scene.gate.rest()
    assert len(set(seen)) == len(paths)
    scene.gate.arm(str)
    for number, path in enumerate(sorted(paths)):
        scene.write(number, path)
    assert set(scene.gate.rest()) == set(seen)


@given(st.text("0123456789abcdef", min_size=8, max_size=8), st.uuids())
def test_two_runs_are_told_in_the_same_words(token: str, uid: object) -> None:
    def told(token: str, uid: str) -> str:
        case = Case(token)
        names = Names(case, TenantIdentity("some-management", case.workspace, uid, "acme"))
        hosts = " ".join(map(host_claim_name, case.hosts))
        text = f"{names.namespace} {names.identity.record} tenantry_{names.hash} {uid} {hosts} {case.plan}"
        return names.placeholders(f"{text} 2026-01-02T03:04:05Z PASSWORD 'SCRAM-SHA-256$4096:{token}$x:y'")

    assert told(token, str(uid)) == told("0a1b2c3d", "00000000-0000-4000-8000-000000000000")


# --- what is compared and counted ---------------------------------------------------------------------------------
def test_a_difference_says_what_is_missing_left_over_and_other_and_only_what_is_left_over_leaks() -> None:
    expected = {"Namespace /a": {"phase": "Active"}, "role a": {"groups": ["x"]}, "claim a": {"state": "ready"}}
    found = {"role a": {"groups": ["y"]}, "claim a": {"state": "ready"}, "database a": {}}
    assert difference(expected, expected) == []
    assert difference(expected, found) == [
        "missing: Namespace /a",
        "left over: database a",
        'role a.groups[0]: expected "x", found "y"',
    ]
    assert leaks(expected, found) == ["database a"]


@dataclass(frozen=True)
class Found:
    """As much of `campaign.Findings` as a report needs."""

    writes: int
    verdicts: tuple[Verdict, ...]
    unreached: tuple[Verdict, ...] = ()
    aborted: str = ""


def verdict(*told: str, leaked: tuple[str, ...] = (), reached: bool = True) -> Verdict:
    return Verdict(SECOND, Mode.AFTER, reached, told, leaked, 2.04, (SECOND,))


def test_the_figures_add_up_and_one_bad_end_fails_the_campaign() -> None:
    good = Found(1, (verdict(), verdict()), (verdict(reached=False),))
    bad = Found(1, (verdict(), verdict("left over: role a", leaked=("role a",))))
    told = figures({"create": good, "delete": bad})
    assert {key: told[key] for key in ("points", "converged", "leaks")} == {"points": 4, "converged": 3, "leaks": 1}
    assert told["operations"]["create"] == {
        "points": 2, "converged": 2, "leaks": 0,
        "writes": 1, "unreached": 1, "aborted": False, "slowestSeconds": 2.0,
    }  # fmt: skip
    assert passed([good])
    assert not passed([good, bad])
    assert not passed([Found(1, (verdict(),), aborted="the operator does not start")])
    assert not passed([Found(1, (), (verdict("missing: role a", reached=False),))])


@pytest.mark.parametrize(("told", "end"), [((), ": ok after 2.0 s"), (("role a: x",), "\n    role a: x")])
def test_a_line_says_where_it_was_killed_and_what_is_wrong(told: tuple[str, ...], end: str) -> None:
    line = line_of("create", verdict(*told))
    assert line.startswith("create: killed after target POST /api/v1/namespaces (2): ")
    assert line.endswith(end)
