"""The campaign: every operation, broken off before and after each of its writes, over one or more lanes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from typing import Final

from tests.crash.differing import difference
from tests.crash.gate import Mode, Point
from tests.crash.lane import Lane, Undisturbed, Verdict
from tests.crash.operations import Operation
from tests.crash.report import line_of

BATCH: Final = 8
"""Runs whose tenants are made at once; more of them would make every start of the operator longer."""
WAVES: Final = 3
"""How often writes are followed up that came only in later runs, and runs repeated whose write did not come."""

Target = tuple[Point, Mode]


@dataclass(slots=True)
class Findings:
    """What came out for one operation.

    Attributes:
        writes: How many different ones the undisturbed runs have made.
        verdicts: Of the runs in which the operator was killed.
        unreached: Of those in which the write did not come in any wave.
        aborted: What has made the rest of the runs impossible; empty if all were made.
    """

    writes: int = 0
    verdicts: list[Verdict] = field(default_factory=list)
    unreached: list[Verdict] = field(default_factory=list)
    aborted: str = ""


class Campaign:
    """Runs operations on lanes, each of which serves one run at a time.

    Args:
        lanes: Running ones.
        every: Every so-and-so-manieth write only; 1 for all.
        say: Takes lines of progress, from several threads.
    """

    def __init__(self, lanes: Sequence[Lane], *, every: int, say: Callable[[str], None]) -> None:
        self._every = every
        self._say = say
        self._count = len(lanes)
        self._free: SimpleQueue[Lane] = SimpleQueue()
        for lane in lanes:
            self._free.put(lane)

    def run(self, operation: Operation) -> Findings:
        """All points of one operation."""
        findings = Findings()
        try:
            self._run(operation, findings)
        except Exception as error:  # noqa: BLE001 - whatever it is, what was found out until then is to be told
            findings.aborted = f"{type(error).__name__}: {error}"
            self._say(f"{operation.name}: ABORTED: {findings.aborted[:4000]}")
        return findings

    def _run(self, operation: Operation, findings: Findings) -> None:
        expected = self._undisturbed(operation)
        findings.writes = len(expected.points)
        self._say(f"{operation.name}: {findings.writes} writes")
        known = set(expected.points)
        wave: list[Target] = [(point, mode) for point in expected.points[:: self._every] for mode in Mode]
        for number in range(WAVES):
            verdicts = self._wave(operation, expected, wave)
            findings.verdicts += [verdict for verdict in verdicts if verdict.reached]
            late = [verdict for verdict in verdicts if not verdict.reached]
            new = sorted({point for verdict in verdicts for point in verdict.seen} - known)
            known.update(new)
            last = number == WAVES - 1
            findings.unreached += [verdict for verdict in late if last or verdict.difference]
            wave = [(verdict.point, verdict.mode) for verdict in late if not verdict.difference]
            wave += [(point, mode) for point in new for mode in Mode if self._every == 1]
            if not wave:
                break

    def _undisturbed(self, operation: Operation) -> Undisturbed:
        with self._lane() as lane:
            cases = lane.prepare(operation, 2)
            first, second = (lane.undisturbed(operation, names) for names in cases)
            lane.clear(cases)
        told = difference({**first.end, **first.inside}, {**second.end, **second.inside})
        assert not told, f"{operation.name}: two undisturbed runs end differently: {told}"
        return replace(first, points=tuple(dict.fromkeys((*first.points, *second.points))))

    def _wave(self, operation: Operation, expected: Undisturbed, wave: Sequence[Target]) -> list[Verdict]:
        def work(batch: Sequence[Target]) -> list[Verdict]:
            with self._lane() as lane:
                return self._batch(lane, operation, expected, batch)

        batches = [wave[start : start + BATCH] for start in range(0, len(wave), BATCH)]
        with ThreadPoolExecutor(self._count) as pool:
            return [verdict for verdicts in pool.map(work, batches) for verdict in verdicts]

    def _batch(self, lane: Lane, operation: Operation, expected: Undisturbed, batch: Sequence[Target]) -> list[Verdict]:
        cases = lane.prepare(operation, len(batch))
        verdicts = []
        for names, (point, mode) in zip(cases, batch, strict=True):
            verdict = lane.disturbed(operation, names, expected, point, mode)
            self._say(line_of(operation.name, verdict))
            verdicts.append(verdict)
        for number, names in enumerate(cases):
            if not verdicts[
                number
            ].difference:  # that it came to the right end is one thing, that it stays there another
                verdicts[number] = lane.look_again(names, expected, verdicts[number])
                if verdicts[number].difference:
                    self._say(f"later: {line_of(operation.name, verdicts[number])}")
        lane.clear(cases)
        return verdicts

    @contextmanager
    def _lane(self) -> Iterator[Lane]:
        lane = self._free.get()
        try:
            yield lane
        finally:
            self._free.put(lane)
