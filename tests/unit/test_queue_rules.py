"""The work queue under any order of calls: never twice at a time, nothing lost, bounds kept, every lane its turn."""

from __future__ import annotations

from collections import Counter

from hypothesis import HealthCheck, settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.unit.fake_time import FakeTime

from tenantry.api.resources import CLUSTERS, TENANTS
from tenantry.runtime.queue import Key, WorkQueue

LIMIT = 5
LANE_LIMIT = 2
KEYS = [Key(TENANTS, f"target{lane}", f"t{number}") for lane in range(4) for number in range(3)]
KEYS += [Key(CLUSTERS, "", name) for name in ("eu", "us", "ap")]

some_key = strategies.sampled_from(KEYS)


class QueueRules(RuleBasedStateMachine):
    """Drives a queue beside a plain model: what has to run now, what has to run by when, and what is running."""

    def __init__(self) -> None:
        super().__init__()
        self.time = FakeTime()
        self.queue = WorkQueue(
            lane_of=lambda key: key.namespace,
            clock=self.time,
            roll=lambda: 0.999,
            limit=LIMIT,
            lane_limit=LANE_LIMIT,
            call_later=self.time.call_later,
        )
        self.wanted: set[Key] = set()
        self.due: dict[Key, float] = {}
        self.running: set[Key] = set()
        self.failures: Counter[Key] = Counter()
        self.passed_over: Counter[str] = Counter()

    # --- what may happen --------------------------------------------------------------------------------------
    @rule(key=some_key)
    def add(self, key: Key) -> None:
        self.queue.add(key)
        self.want(key)

    @rule(key=some_key, seconds=strategies.integers(0, 40))
    def add_after(self, key: Key, seconds: int) -> None:
        self.queue.add_after(key, seconds)
        if seconds == 0:
            self.want(key)
        elif key not in self.wanted:
            self.due[key] = min(self.due.get(key, float("inf")), self.time.monotonic() + seconds)

    @rule(key=some_key)
    def add_rate_limited(self, key: Key) -> None:
        self.queue.add_rate_limited(key)
        self.failures[key] += 1
        if key not in self.wanted:
            longest = min(300.0, 0.2 * 2 ** (self.failures[key] - 1))
            self.due[key] = min(self.due.get(key, float("inf")), self.time.monotonic() + longest * 0.999)

    @rule(key=some_key)
    def forget(self, key: Key) -> None:
        self.queue.forget(key)
        del self.failures[key]

    @rule(seconds=strategies.floats(0, 60))
    def time_passes(self, seconds: float) -> None:
        self.time.advance(seconds)
        for key, due in list(self.due.items()):
            if due <= self.time.monotonic():
                self.want(key)

    @rule()
    def take(self) -> None:
        may_run = {self.lane(key) for key in self.wanted if self.has_room(key)}
        key = self.queue.take()
        if key is None:
            assert not may_run
            return
        assert key in self.wanted, "came before its time or twice"
        assert self.has_room(key), "twice at a time, or beyond a bound"
        self.wanted.remove(key)
        self.running.add(key)
        for lane in may_run - {self.lane(key)}:
            self.passed_over[lane] += 1
            assert self.passed_over[lane] < 5, f"lane {lane} was passed over by more than each of the four others once"
        del self.passed_over[self.lane(key)]

    @precondition(lambda self: self.running)
    @rule(data=strategies.data())
    def done(self, data: strategies.DataObject) -> None:
        key = data.draw(strategies.sampled_from(sorted(self.running, key=str)))
        self.queue.done(key)
        self.running.remove(key)

    # --- what must hold ---------------------------------------------------------------------------------------
    @invariant()
    def as_many_wait_as_should(self) -> None:
        assert len(self.queue) == len(self.wanted)

    def teardown(self) -> None:
        """Nothing is lost: when all time has passed and all work is done, all that was asked for has run."""
        self.time_passes(1000)
        while self.wanted or self.running:
            before = len(self.wanted)
            while any(self.has_room(key) for key in self.wanted):
                self.take()
            assert len(self.wanted) < before or self.running
            for key in list(self.running):
                self.queue.done(key)
                self.running.remove(key)
        assert self.queue.take() is None

    # --- the model --------------------------------------------------------------------------------------------
    def want(self, key: Key) -> None:
        self.wanted.add(key)
        self.due.pop(key, None)

    @staticmethod
    def lane(key: Key) -> str:
        return key.namespace if key.resource is TENANTS else ""

    def has_room(self, key: Key) -> bool:
        lane = self.lane(key)
        lanes = Counter(self.lane(each) for each in self.running)
        tenants = len(self.running) - lanes[""]
        return (
            key not in self.running
            and len(self.running) < LIMIT
            and lanes[lane] < LANE_LIMIT
            and (lane == "" or tenants < LIMIT - 1)
        )


QueueRules.TestCase.settings = settings(
    max_examples=60, stateful_step_count=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestQueueRules = QueueRules.TestCase
