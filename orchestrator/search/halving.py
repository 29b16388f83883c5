"""Successive halving in brackets: who waits, who goes on and who is out, told from the records alone.

Trials are in brackets by their numbers. Each runs to its bracket's first rung, a number of epochs, and waits
there until all of its bracket have; then the best go on to the next rung, and the others are out. As nothing but
recorded values decides, an interrupted search goes on as if it had not been.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from orchestrator.search.brackets import Bracket, Verdict, is_through, waiting_after
from orchestrator.search.trials import Record
from orchestrator.spec.schedulers import BracketScheduler


def brackets_of(count: int, epochs: int, scheduler: BracketScheduler) -> tuple[Bracket, ...]:
    """The brackets of so many trials of so many epochs (Li et al. 2018, algorithm 1), largest first.

    After the smallest they begin again; the last one has the trials that are left.
    """
    eta, grace = scheduler.reduction_factor, min(scheduler.grace_period, epochs)
    halvings = int(math.log(epochs / grace, eta) + 1e-9)
    found: list[Bracket] = []
    first = 0
    while first < count:
        s = halvings - len(found) % (halvings + 1)
        size = math.ceil((halvings + 1) / (s + 1) * eta**s - 1e-9)
        rungs = {int(epochs * eta**-i + 1e-9) for i in range(1, s + 1)}
        found.append(Bracket(first, min(size, count - first), tuple(sorted(rungs))))
        first += size
    return tuple(found)


class Halving:
    """The brackets of one variant's search; `better` is 1 where a larger metric is better, else -1."""

    def __init__(self, count: int, epochs: int, scheduler: BracketScheduler, better: int) -> None:
        self.brackets = brackets_of(count, epochs, scheduler)
        self._of_number = {number: bracket for bracket in self.brackets for number in bracket.numbers}
        self._eta = scheduler.reduction_factor
        self._better = better

    def bracket(self, number: int) -> Bracket:
        return self._of_number[number]

    def verdict(self, bracket: Bracket, look_up: Callable[[int], Record | None]) -> Verdict:
        """Judge a bracket; `look_up` gives the record of a number, None while there is none."""
        members = [look_up(number) for number in bracket.numbers]
        size = float(bracket.size)
        go_on: list[Record] = []
        out: list[Record] = []
        for passed in range(1, len(bracket.rungs) + 1):
            if any(record is None or not is_through(record, passed) for record in members):
                break
            there = [record for record in members if record is not None and len(record.rungs) >= passed]
            size = max(size // self._eta, 1)
            ranked = sorted(there, key=lambda r: (-self._better * r.rungs[passed - 1], r.trial.index))
            survivors = ranked[: int(size)]
            out += waiting_after(ranked[int(size) :], passed)
            go_on += waiting_after(survivors, passed)
            members = list(survivors)
        return Verdict(tuple(go_on), tuple(out))
