"""The searchers of Ray Tune that samplers are, made from a spec."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ray.tune.search import Searcher
from ray.tune.search.sample import Domain as TuneDomain

from orchestrator.errors import UsageError
from orchestrator.spec.samplers import BOHBSampler, HyperOptSampler, OptunaSampler
from orchestrator.spec.search import SearchSpec

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

METRIC = "value"
Value = float | tuple[float, ...]
"""The search's metric, or each of several."""
Results = Sequence[tuple[Mapping[str, Any], Sequence[tuple[int, Value]]]]
"""Points, and for each the metric after so many epochs, the last ones last."""


def result_of(value: Value) -> dict[str, float]:
    """What a searcher is told."""
    if not isinstance(value, tuple):
        return {METRIC: value}
    return dict(zip(_several(len(value)), value, strict=True))


def _several(count: int) -> list[str]:
    return [f"{METRIC}-{number}" for number in range(count)]


def require_packages(search: SearchSpec) -> None:
    """Raise `UsageError`, with the line that installs them, where a sampler's packages are missing."""
    sampling = search.sampling
    extra = ""
    modules: tuple[str, ...] = ()
    if isinstance(sampling, HyperOptSampler):
        extra, modules = "hyperopt", ("hyperopt",)
    elif isinstance(sampling, BOHBSampler):
        extra, modules = "bohb", ("hpbandster", "ConfigSpace")
    elif isinstance(sampling, OptunaSampler) and sampling.algorithm == "cmaes":
        extra, modules = "cmaes", ("cmaes",)
    missing = [module for module in modules if not _is_installed(module)]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise UsageError(
            f"search.sampler {search.drawing}: {' and '.join(missing)} {verb} not installed",
            hint=f"pip install 'distillation-orchestrator[{extra}]', or choose optuna with its algorithm tpe",
        )


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:
        # Set to None in sys.modules, as tests do.
        return False


def make_searcher(
    search: SearchSpec,
    space: dict[str, TuneDomain],
    results: Results,
    seed: int,
) -> Searcher:
    """A searcher that knows all results."""
    sampling, points = search.sampling, [dict(point) for point, _ in results]
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
        searcher, is_told = _optuna_searcher(search, space, results, seed)
        if is_told:
            return searcher
    for number, (_, values) in enumerate(results):
        trial_id = f"told-{number}"
        searcher.suggest(trial_id)
        for epochs, value in values:
            observe(searcher, search, trial_id, epochs, value)
        searcher.on_trial_complete(trial_id, result_of(values[-1][1]))
    return searcher


def observe(searcher: Searcher, search: SearchSpec, trial_id: str, epochs: int, value: Value) -> None:
    """Tell a searcher that models every number of epochs the metric after so many."""
    if isinstance(search.sampling, BOHBSampler):
        searcher.on_trial_result(trial_id, {METRIC: value, "hyperband_info": {"budget": epochs}})


def _optuna_searcher(
    search: SearchSpec, space: dict[str, TuneDomain], results: Results, seed: int
) -> tuple[Searcher, bool]:
    """Optuna's searcher, and whether it knows the results; else it is to be asked for their points, in order."""
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    # It would tell on the screen that it has made a study.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = OptunaSearch.convert_search_space(space)
    points = [dict(point) for point, _ in results]
    sampling = search.sampling if isinstance(search.sampling, OptunaSampler) else OptunaSampler()
    sampler = _optuna_sampler(sampling, seed)
    signs = search.objectives.values()
    # Ray's searcher takes no values of several metrics for points that it has not drawn.
    asked = sampling.algorithm in ("cmaes", "nsgaii") or len(signs) > 1
    known: dict[str, Any] = {}
    if asked:
        from orchestrator.execution.replay import ReplayingSampler

        sampler = ReplayingSampler(sampler, distributions, points)
    elif points:
        known = {"points_to_evaluate": points, "evaluated_rewards": [values[-1][1] for _, values in results]}
    metric: Any = METRIC
    mode: Any = search.mode
    if len(signs) > 1:
        metric, mode = _several(len(signs)), ["max" if sign > 0 else "min" for sign in signs]
    return OptunaSearch(distributions, metric=metric, mode=mode, sampler=sampler, **known), not asked


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
                return samplers.TPESampler(n_startup_trials=sampling.startup_trials or 10, seed=seed)
