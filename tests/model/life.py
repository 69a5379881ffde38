"""Random lives of two tenants as hypothesis draws them, and what must be true of them in the end.

Whatever came before, a tenant ends as one that was made with its last spec and left in peace; a row in its database is
there unless it was destroyed on demand or its window was over; and no row is ever seen by another tenant.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Final

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.crash.operations import LONG_AGO, apply_tenant, delete_tenant, rotate_tenant, write_row
from tests.model.ground import REPLICAS, Ground
from tests.model.meddling import delete_one, edit_one
from tests.model.specs import CHOICES, Choice
from tests.model.subject import DELETED, NOTHING, RETAINED, Subject

WINDOWS: Final = st.sampled_from(["1h", "0s"])
POLICIES: Final = st.sampled_from(["Delete", "Delete", "Retain"])
NUMBERS: Final = st.integers(0, 30)
HOURS: Final = (-48, 0, 48)
"""By which the operator's clock may be off; every window that is asked for is shorter."""


def _one(fits: Callable[[Subject], bool]) -> st.SearchStrategy[int]:
    """The number of one of the tenants that fit; for rules whose precondition says that there is one."""

    def numbers(life: Life) -> st.SearchStrategy[int]:
        return st.sampled_from([number for number, subject in enumerate(life.subjects) if fits(subject)])

    return st.runner().flatmap(numbers)


def _any(fits: Callable[[Subject], bool]) -> Callable[[Life], bool]:
    return lambda life: any(fits(subject) for subject in life.subjects)


def _alive(subject: Subject) -> bool:
    return subject.choice is not None


def _in_use(subject: Subject) -> bool:
    return subject.choice is not None and subject.choice.enabled


def _deleted(subject: Subject) -> bool:
    return subject.choice is None and subject.left == DELETED


def _left(subject: Subject) -> bool:
    return subject.choice is None and subject.left in (DELETED, RETAINED)


class Life(RuleBasedStateMachine):
    """One run. Each step is done to the real servers and to the model."""

    def __init__(self, ground: Ground) -> None:
        super().__init__()
        self._ground = ground
        self._looking = ground.looking
        self.subjects = [Subject(ground.open_case()), Subject(ground.open_case())]
        self._numbers = itertools.count()
        self._hours = [0]
        self._busy = False

    # --- what people do -------------------------------------------------------------------------------------------
    @initialize(choice=CHOICES)
    def begin(self, choice: Choice) -> None:
        """One of them is there and, where its spec lets it, in use."""
        self.apply(0, choice, wait=True)
        if choice.enabled:
            self.use(0)

    @rule(which=st.integers(0, 1), choice=CHOICES, wait=st.booleans())
    def apply(self, which: int, choice: Choice, wait: bool) -> None:
        """Make it, change it, or take up what its predecessor left."""
        subject = self.subjects[which]
        if subject.left != NOTHING:
            self._set_clock(0)  # by a clock that is ahead its window is over: it would have to be asked for by name
        apply_tenant(self._looking, subject.names.case, choice.spec(subject.names.case))
        subject.choice, self._busy = choice, True
        if wait or subject.left != NOTHING:
            self._settle(subject)

    @precondition(_any(_alive))
    @rule(which=_one(_alive), window=WINDOWS, policy=POLICIES)
    def delete(self, which: int, window: str, policy: str) -> None:
        """Delete it with what its spec then says of deletion."""
        subject = self.subjects[which]
        assert subject.choice is not None
        if window == "0s":
            self._settle(subject)  # what is destroyed is destroyed for certain
        spec = subject.choice.spec(subject.names.case, policy=policy, window=window)
        apply_tenant(self._looking, subject.names.case, spec)
        self._delete(subject)
        subject.gone(policy, window)

    @precondition(_any(_deleted))
    @rule(which=_one(_deleted))
    def end_window(self, which: int) -> None:
        """Its time is over."""
        subject = self.subjects[which]
        self._set_clock(0)
        self._wait_left(subject)
        self._ground.while_dead(lambda: self._looking.end_window(subject.names, LONG_AGO))
        subject.forget()
        self._wait_left(subject)

    @precondition(_any(_left))
    @rule(which=_one(_left), choice=CHOICES)
    def namesake(self, which: int, choice: Choice) -> None:
        """A Tenant of its name in a workspace of that name has nothing of it until the platform team says so."""
        subject = self.subjects[which]
        names = subject.names
        self._set_clock(0)
        self._wait_left(subject)
        self._ground.renew_workspace(names)
        before = self._ground.traces(names)
        apply_tenant(self._looking, names.case, choice.spec(names.case))
        subject.choice, self._busy = choice, True
        self._ground.wait(lambda: self._ground.reason(names) == "PredecessorExists", "it has to ask", names)
        assert [trace for trace in self._ground.traces(names) if not trace.startswith("Tenant")] == [
            trace for trace in before if not trace.startswith("Tenant")
        ]
        assert self._looking.rows(names) == subject.rows
        self._ground.consent(names)
        self._settle(subject)

    @precondition(_any(_in_use))
    @rule(which=_one(_in_use))
    def use(self, which: int) -> None:
        """Its application writes a row, and runs."""
        subject = self.subjects[which]
        self._settle(subject)
        word = f"{subject.names.case.token}-{next(self._numbers)}"
        write_row(self._looking, subject.names, word)
        subject.rows.append(word)
        if not subject.deployed:
            self._ground.deploy(subject.names)
            subject.deployed = True

    @precondition(_any(_alive))
    @rule(which=_one(_alive))
    def rotate(self, which: int) -> None:
        """New credentials are asked for."""
        rotate_tenant(self._looking, self.subjects[which].names, f"at-{next(self._numbers)}")
        self._busy = True

    # --- what happens to it ---------------------------------------------------------------------------------------
    @precondition(_any(_alive))
    @rule(which=_one(_alive), number=NUMBERS)
    def lose(self, which: int, number: int) -> None:
        """Somebody deletes one of its objects on the target."""
        note(f"deleted: {delete_one(self._looking, self.subjects[which].names, number)}")
        self._busy = True

    @precondition(_any(_alive))
    @rule(which=_one(_alive), number=NUMBERS)
    def edit(self, which: int, number: int) -> None:
        """Somebody edits one of its objects on the target."""
        note(f"edited: {edit_one(self._looking, self.subjects[which].names, number)}")
        self._busy = True

    @rule(hours=st.sampled_from(HOURS))
    def jump(self, hours: int) -> None:
        """The operator's clock jumps."""
        self._set_clock(hours)

    @precondition(lambda self: self._busy)
    @rule()
    def crash(self) -> None:
        """SIGKILL, at whatever the operator was doing."""
        self._busy = False
        self._ground.crash()

    # --- what must be true ----------------------------------------------------------------------------------------
    @invariant()
    def no_row_is_lost_or_seen_by_another(self) -> None:
        """At every moment: rows are in the database of who wrote them, at rest or not, and in no other."""
        for subject in self.subjects:
            if subject.made:
                assert self._looking.rows(subject.names) == subject.rows

    def teardown(self) -> None:
        """The end: each tenant as in peace, or nothing of it anywhere."""
        try:
            if any(self._hours):
                self._set_clock(max(self._hours))  # whatever waits for a time of the clock when it was ahead
                self._ground.crash()
            for subject in self.subjects:
                self._check_end(subject)
            self._check_apart()
            self._set_clock(0)
            self._destroy()
            self._ground.check_log()
        finally:
            self._set_clock(0)
            self._ground.clear([subject.names for subject in self.subjects])

    def _check_end(self, subject: Subject) -> None:
        if subject.choice is None and subject.left == NOTHING:
            self._wait_left(subject)
            return
        if subject.choice is None:  # what it left is had back, with all that is in it
            self.apply(self.subjects.index(subject), Choice(), wait=True)
        assert subject.choice is not None
        self._settle(subject)
        assert self._looking.rows(subject.names) == subject.rows
        differing = self._ground.converge(subject.names, subject.choice)
        assert not differing, "\n".join(differing)
        if subject.deployed:
            wanted = REPLICAS if subject.choice.enabled else 0
            self._ground.wait(lambda: self._ground.replicas(subject.names) == wanted, f"{wanted} pods", subject.names)

    def _check_apart(self) -> None:
        """No login gets into the other one's database."""
        first, second = (subject.names for subject in self.subjects)
        if all(_in_use(subject) for subject in self.subjects):
            assert self._ground.gets_into(first, first)
            assert not self._ground.gets_into(first, second)
            assert not self._ground.gets_into(second, first)

    def _destroy(self) -> None:
        """Nothing is left over of whoever is destroyed, whatever his life was."""
        for subject in self.subjects:
            if subject.choice is not None:
                spec = subject.choice.spec(subject.names.case, window="0s")
                apply_tenant(self._looking, subject.names.case, spec)
                self._delete(subject, wait=False)
                subject.gone("Delete", "0s")
        for subject in self.subjects:
            self._wait_left(subject)

    # --- inside ---------------------------------------------------------------------------------------------------
    def _settle(self, subject: Subject) -> None:
        self._ground.settle(subject.names)
        subject.settled()

    def _delete(self, subject: Subject, *, wait: bool = True) -> None:
        delete_tenant(self._looking, subject.names)
        self._busy = True
        if wait:
            names = subject.names
            self._ground.wait(lambda: self._looking.tenant(names) is None, "the Tenant is gone", names)

    def _set_clock(self, hours: int) -> None:
        if self._hours[-1] != hours:
            self._hours.append(hours)
            self._ground.set_clock(hours)

    def _wait_left(self, subject: Subject) -> None:
        looking, names = self._looking, subject.names
        if subject.left == NOTHING:
            self._ground.wait(lambda: not self._ground.traces(names), "nothing of it is left", names)
            return

        def told() -> bool:
            return [record["spec"]["state"] for record in looking.records(names)] == [subject.left]

        self._ground.wait(told, f"its record is {subject.left}", names)


def life_on(ground: Ground) -> Any:
    """What hypothesis calls for each run; it says that it wants a class, and takes whatever makes a machine."""
    return lambda: Life(ground)
