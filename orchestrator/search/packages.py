"""The packages that a search's sampler takes, which not every installation has."""

from __future__ import annotations

import importlib.util

from orchestrator.errors import UsageError
from orchestrator.spec.samplers import BOHBSampler, HyperOptSampler, OptunaSampler
from orchestrator.spec.search import SearchSpec


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
