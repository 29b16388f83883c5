"""Which searched values mattered, and how sure that is: Optuna's PED-ANOVA over the trials of a search.

PED-ANOVA (Watanabe, Bansal and Hutter 2023, arXiv 2304.10255) tells how far the values of the best trials lie apart
from those of all. It asks of a trial but whether it is among the best, so that trials that were stopped early need no
guess of what they would have reached. Values without any effect differ a little as well: so each importance comes with
the spread over trials drawn anew, and with how often shuffled results give as much.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.analysis.formats import short_names
from orchestrator.analysis.results import Results
from orchestrator.analysis.tried import with_metric
from orchestrator.search.trials import Record
from orchestrator.spec.domains import Choice, Domain, to_unit
from orchestrator.spec.variants import variants

if TYPE_CHECKING:
    from optuna.study import Study

BEST = 0.25
"""Share of the trials that count as the best."""
MIN_TRIALS = 8
"""Trials of a variant below which nothing is computed."""
ENOUGH = 20
"""Trials of a variant from which five are among the best; below, an importance is rough."""
DRAWS = 30
"""Times that trials are drawn anew."""
SHUFFLES = 39
"""Times that results are shuffled: the smallest p is one in as many and one."""
LEVEL = 0.05


@dataclass(frozen=True)
class Importance:
    """One searched value of one variant; shares are of 1."""

    variant: str
    path: str
    label: str
    share: float
    """Of the importances of all of the variant's values."""
    low: float
    high: float
    """90% interval of the share, by drawing the trials anew with replacement."""
    p: float
    """How often a value without effect would seem as important, by shuffled results."""
    trials: int

    @property
    def told(self) -> bool:
        """Whether it is told from chance, not counting how many values are looked at."""
        return self.p < LEVEL


@dataclass(frozen=True)
class Importances:
    """What was found, and what there is to say of it."""

    found: tuple[Importance, ...]
    doubts: tuple[str, ...]
    """Where trials are too few."""
    notes: tuple[str, ...]


def importances(results: Results) -> Importances:
    """The importance of every searched value, variant by variant, for the search's first metric."""
    arms = [arm for arm in variants(results.spec) if arm.space]
    labels = short_names(dict.fromkeys(path for arm in arms for path in arm.space))
    metric = results.spec.search.first_metric
    sign = results.spec.search.objectives[metric]
    found: list[Importance] = []
    few: dict[str, int] = {}
    rough: dict[str, int] = {}
    single: list[str] = []
    for arm in arms:
        mine = [record for record in with_metric(results) if record.trial.variant == arm.name]
        places = {path: _places(domain, path, mine) for path, domain in arm.space.items()}
        if len(mine) < MIN_TRIALS:
            few[arm.name] = len(mine)
            continue
        if len(arm.space) == 1:
            single.append(arm.name)
            continue
        if len(mine) < ENOUGH:
            rough[arm.name] = len(mine)
        losses = [-sign * float(record.metrics[metric]) for record in mine]
        with _quiet():
            found += _of(arm.name, labels, arm.space, places, losses)
    doubts, notes = [], []
    if few:
        doubts.append(f"No importances of {_listed(few)}: they take {MIN_TRIALS} search trials with a result.")
    if rough:
        doubts.append(f"Rough for {_listed(rough)}: few trials; {ENOUGH} or more make the intervals narrower.")
    if single:
        notes.append(f"Nothing is ranked where a single value is searched: {', '.join(single)}.")
    return Importances(tuple(found), tuple(doubts), tuple(notes))


def _of(
    variant: str,
    labels: Mapping[str, str],
    space: Mapping[str, Domain],
    places: Mapping[str, Sequence[float]],
    losses: Sequence[float],
) -> list[Importance]:
    """Of one variant: `places` are the values by path, trial by trial, `losses` what the trials reached."""
    varied = [path for path in space if len(set(places[path])) > 1]
    if len(varied) < 2 or len(set(losses)) == 1:
        return []
    count, rng = len(losses), random.Random(0)
    search = _Search({path: space[path] for path in varied}, places)
    study = search.study(range(count))
    seen = search.measure(study, losses)
    whole = _shares(seen)
    draws = []
    for _ in range(DRAWS):
        drawn = rng.choices(range(count), k=count)
        draws.append(_shares(search.measure(search.study(drawn), [losses[trial] for trial in drawn])))
    as_much = dict.fromkeys(varied, 0)
    for _ in range(SHUFFLES):
        by_chance = search.measure(study, rng.sample(losses, count))
        for path in varied:
            as_much[path] += by_chance[path] >= seen[path]
    made = []
    for path in varied:
        spread = sorted(shares[path] for shares in draws)
        low, high = spread[round(0.05 * (DRAWS - 1))], spread[round(0.95 * (DRAWS - 1))]
        share, p = whole[path], (1 + as_much[path]) / (1 + SHUFFLES)
        made.append(Importance(variant, path, labels[path], share, min(low, share), max(high, share), p, count))
    return made


class _Search:
    """One variant's trials as Optuna's, by number; their values by path, as places in the domain."""

    def __init__(self, space: Mapping[str, Domain], places: Mapping[str, Sequence[float]]) -> None:
        import optuna
        from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

        self._optuna = optuna
        self._places = places
        self._distributions: dict[str, BaseDistribution] = {
            path: CategoricalDistribution([*range(len(domain.values))])
            if isinstance(domain, Choice)
            else FloatDistribution(0, 1)
            for path, domain in space.items()
        }
        self._evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=BEST)

    def study(self, trials: Sequence[int]) -> Study:
        """These trials, some of them several times."""
        made = self._optuna.create_study()
        for trial in trials:
            params = {path: self._places[path][trial] for path in self._distributions}
            made.add_trial(self._optuna.trial.create_trial(params=params, distributions=self._distributions, value=0.0))
        return made

    def measure(self, study: Study, losses: Sequence[float]) -> dict[str, float]:
        """The importances by path, not yet shares, were these the losses of the study's trials."""
        found = self._evaluator.evaluate(
            study, params=[*self._distributions], target=lambda trial: losses[trial.number]
        )
        return {path: float(value) for path, value in found.items()}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without a line for every study that Optuna makes, and for what is expected of few trials."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            # Where many results are equal, the best quarter may be all of them: then no value is better than another.
            warnings.filterwarnings("ignore", "Target and region quantiles")
            # That low values are good, as ours are.
            warnings.filterwarnings("ignore", "PedAnovaImportanceEvaluator computes")
            yield
    finally:
        optuna.logging.set_verbosity(before)


def _places(domain: Domain, path: str, records: Sequence[Record]) -> list[Any]:
    """Where each trial's value lies in the domain: the number of a choice, else 0 to 1 on the scale it is drawn on."""
    values = [record.params[path] for record in records]
    if isinstance(domain, Choice):
        return [domain.values.index(value) for value in values]
    # What a constraint has repaired may lie outside.
    return [min(max(to_unit(domain, value), 0.0), 1.0) for value in values]


def _shares(importances: Mapping[str, float]) -> dict[str, float]:
    whole = sum(importances.values())
    return {path: value / whole if whole else 1 / len(importances) for path, value in importances.items()}


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in counts.items())
