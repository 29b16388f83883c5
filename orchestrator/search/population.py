"""Population based training: who takes over whose weights, and which values follow, told from the records alone.

A variant's trials train in step and wait for each other after every interval. Then each of the worst goes on from the
checkpoint of one of the best, with values explored from that one's; the others go on as they are. As nothing but
recorded values and the seed decides, an interrupted search goes on as if it had not been.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from orchestrator.search.brackets import Bracket, Exploit, Verdict, is_through, waiting_after
from orchestrator.search.trials import Change, Record
from orchestrator.spec.domains import draw, scaled
from orchestrator.spec.schedulers import PBTScheduler, PopulationScheduler
from orchestrator.spec.variants import Variant


class Population:
    """The trials of one variant's search; `better` is 1 where a larger metric is better, else -1."""

    def __init__(self, count: int, epochs: int, scheduler: PopulationScheduler, better: int, key: str) -> None:
        interval = scheduler.interval(epochs)
        self.brackets: tuple[Bracket, ...] = (Bracket(0, count, tuple(range(interval, epochs, interval))),)
        self._fraction = scheduler.quantile_fraction
        self._better = better
        self._key = key

    def bracket(self, number: int) -> Bracket:
        return self.brackets[0]

    def verdict(self, bracket: Bracket, look_up: Callable[[int], Record | None]) -> Verdict:
        """What the waiting trials are to do; `look_up` gives the record of a number, None while there is none.

        Trials go on once all that are to take over others have done so.
        """
        members = [record for number in bracket.numbers if (record := look_up(number)) is not None]
        if len(members) < bracket.size:
            return Verdict()
        for passed, epoch in enumerate(bracket.rungs, start=1):
            if not all(is_through(record, passed) for record in members):
                break
            if waiting := waiting_after(members, passed):
                pending = self._exploits([r for r in members if len(r.rungs) >= passed], passed, epoch)
                return Verdict(exploits=tuple(pending)) if pending else Verdict(go_on=tuple(waiting))
        return Verdict()

    def _exploits(self, there: list[Record], passed: int, epoch: int) -> list[Exploit]:
        """What is left to do of a comparison; one that was killed half-way comes to the same."""
        ranked = sorted(there, key=lambda r: (-self._better * r.rungs[passed - 1], r.trial.index))
        quantile = min(math.ceil(len(ranked) * self._fraction), len(ranked) // 2)
        best, found = ranked[:quantile], []
        for loser in ranked[len(ranked) - quantile :]:
            key = f"{self._key}/{epoch}/{loser.trial.index}"
            source = random.Random(f"{key}/source").choice(best)
            is_made = any(change.epoch == epoch for change in loser.changes)
            # One that was ended while it waited has no checkpoint any more to give, and none to take.
            if not (is_made or loser.status.ended or source.status.ended):
                found.append(Exploit(loser, source, epoch, key))
        return sorted(found, key=lambda exploit: exploit.loser.trial.index)


def perturbed(variant: Variant, exploit: Exploit, scheduler: PBTScheduler) -> dict[str, Any]:
    """The source's values, each drawn anew or multiplied by a factor, within the variant's space."""
    values = {}
    for path, domain in variant.space.items():
        rng = random.Random(f"{exploit.key}/{path}")
        if rng.random() < scheduler.resample_probability:
            values[path] = draw(domain, rng)
        else:
            values[path] = scaled(domain, exploit.source.params[path], rng.choice(scheduler.perturbation_factors))
    return variant.repaired(values)


def lineage(record: Record, look_up: Callable[[str], Record]) -> tuple[dict[str, Any], tuple[Change, ...]]:
    """The values that made a trial's weights: those at the start, and what they were changed to.

    Before it took over another's weights, those are the other one's values. `look_up` gives the record of an id.
    """
    changes: list[Change] = []
    made = record.changes
    while made:
        *_, last = made
        changes.insert(0, Change(last.epoch, dict(last.params)))
        record = look_up(str(last.source))
        made = tuple(change for change in record.changes if change.epoch < last.epoch)
    return dict(record.trial.params), tuple(changes)


def schedule(first: Mapping[str, Any], changes: Sequence[Change]) -> list[dict[str, Any]]:
    """JSON-like, values by the epoch after which they hold; "weights_of" is the trial that was taken over then."""
    return [
        {"after_epoch": change.epoch, "params": dict(change.params), "weights_of": change.source}
        for change in (Change(0, first), *changes)
    ]
