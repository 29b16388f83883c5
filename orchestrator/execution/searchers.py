"""The searchers of Ray Tune that samplers are, made from a spec."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ray.tune.search import Searcher
from ray.tune.search.sample import Domain as TuneDomain

from orchestrator.spec.samplers import BOHBSampler, HyperOptSampler, OptunaSampler
from orchestrator.spec.search import SearchSpec

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

METRIC = "value"
Value = float | tuple[float, ...]
"""The search's metric, or each of several."""
Known = tuple[Mapping[str, Any], Sequence[tuple[int, Value]]]
"""A point, and the metric after so many epochs, the last ones last."""


def result_of(value: Value) -> dict[str, float]:
    """What a searcher is told."""
    if not isinstance(value, tuple):
        return {METRIC: value}
    return dict(zip(_several(len(value)), value, strict=True))


def _several(count: int) -> list[str]:
    return [f"{METRIC}-{number}" for number in range(count)]


def make_searcher(
    search: SearchSpec,
    space: dict[str, TuneDomain],
    results: Sequence[Known],
    begun: Mapping[str, Known],
    seed: int,
) -> Searcher:
    """A searcher that knows all results, and expects those of the trials that have `begun`, by their ids."""
    sampling, points = search.sampling, [dict(point) for point, _ in (*results, *begun.values())]
    known: dict[str, Any] = {"points_to_evaluate": points} if points else {}
    searcher: Searcher
    if isinstance(sampling, HyperOptSampler):
        from ray.tune.search.hyperopt import HyperOptSearch

        searcher = HyperOptSearch(
            HyperOptSearch.convert_search_space(space),
            metric=METRIC,
            mode=search.mode,
            n_initial_points=sampling.startup_trials,
            random_state_seed=seed,
            **known,
        )
    elif isinstance(sampling, BOHBSampler):
        from ray.tune.search.bohb import TuneBOHB

        settings = {"min_points_in_model": sampling.startup_trials, "random_fraction": sampling.random_fraction}
        searcher = TuneBOHB(
            TuneBOHB.convert_search_space(space),
            bohb_config=settings,
            metric=METRIC,
            mode=search.mode,
            seed=seed,
            **known,
        )
    else:
        searcher = _optuna_searcher(search, space, points, seed)
        if takes_results(search):
            for point, values in results:
                searcher.add_evaluated_point(dict(point), values[-1][1])
            results = ()
    for number, (_, values) in enumerate(results):
        trial_id = f"told-{number}"
        searcher.suggest(trial_id)
        for epochs, value in values:
            observe(searcher, search, trial_id, epochs, value)
        searcher.on_trial_complete(trial_id, result_of(values[-1][1]))
    for trial_id, (_, values) in begun.items():
        searcher.suggest(trial_id)
        for epochs, value in values:
            observe(searcher, search, trial_id, epochs, value)
    return searcher


def takes_results(search: SearchSpec) -> bool:
    """Whether the searcher can be told the result of a point that it has not drawn; else it is asked for the point.

    Optuna's cannot where it works in generations, and Ray's form of it not for several metrics.
    """
    sampling = search.sampling
    if isinstance(sampling, (HyperOptSampler, BOHBSampler)) or len(search.objectives) > 1:
        return False
    return not isinstance(sampling, OptunaSampler) or sampling.algorithm not in ("cmaes", "nsgaii")


def observe(searcher: Searcher, search: SearchSpec, trial_id: str, epochs: int, value: Value) -> None:
    """Tell a searcher that models every number of epochs the metric after so many."""
    if isinstance(search.sampling, BOHBSampler):
        searcher.on_trial_result(trial_id, {METRIC: value, "hyperband_info": {"budget": epochs}})


def _optuna_searcher(
    search: SearchSpec, space: dict[str, TuneDomain], points: Sequence[Mapping[str, Any]], seed: int
) -> Searcher:
    """Optuna's searcher; where it takes no results, it draws the points first, in order."""
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    # It would tell on the screen that it has made a study.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = OptunaSearch.convert_search_space(space)
    sampling = search.sampling if isinstance(search.sampling, OptunaSampler) else OptunaSampler()
    sampler = _optuna_sampler(sampling, seed)
    signs = search.objectives.values()
    if not takes_results(search):
        from orchestrator.execution.replay import ReplayingSampler

        sampler = ReplayingSampler(sampler, distributions, points)
    metric: Any = METRIC
    mode: Any = search.mode
    if len(signs) > 1:
        metric, mode = _several(len(signs)), ["max" if sign > 0 else "min" for sign in signs]
    return OptunaSearch(distributions, metric=metric, mode=mode, sampler=sampler)


def _optuna_sampler(sampling: OptunaSampler, seed: int) -> BaseSampler:
    from optuna import samplers
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        match sampling.algorithm:
            case "gp":
                return samplers.GPSampler(n_startup_trials=sampling.startup_trials or 10, seed=seed)
            case "cmaes":
                return samplers.CmaEsSampler(
                    n_startup_trials=sampling.startup_trials or 1,
                    popsize=sampling.population_size,
                    seed=seed,
                    warn_independent_sampling=False,
                )
            case "nsgaii":
                return samplers.NSGAIISampler(population_size=sampling.population_size or 10, seed=seed)
            case _:
                # Releases before 5 ignore the points that run unless they are told not to.
                return samplers.TPESampler(
                    n_startup_trials=sampling.startup_trials or 10, constant_liar=True, seed=seed
                )
