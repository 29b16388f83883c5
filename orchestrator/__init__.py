"""Knowledge-distillation searches from a YAML spec: Ray Tune trials, MLflow runs, compared results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.analysis.results import Results as ExperimentResult
    from orchestrator.spec import ExperimentSpec

__version__ = "0.1.0"
__all__ = ["load_spec", "run"]


def load_spec(
    path_or_dict: str | Path | Mapping[str, Any], overrides: Mapping[str, Any] | Iterable[str] | None = None
) -> ExperimentSpec:
    """Read and check a spec; see `orchestrator.spec.load_spec`."""
    from orchestrator.spec import load_spec

    return load_spec(path_or_dict, overrides)


def run(spec: ExperimentSpec | str | Path | Mapping[str, Any], home: str | Path | None = None) -> ExperimentResult:
    """Run an experiment on this machine, or continue it, and return its results.

    `home` is the folder that everything is kept in; None: ORCHESTRATOR_HOME, else ./.orchestrator.
    Inside a program that has initialised Ray, that Ray is used.
    """
    from orchestrator.execution.runner import run_experiment
    from orchestrator.spec import ExperimentSpec
    from orchestrator.store.home import Home

    checked = spec if isinstance(spec, ExperimentSpec) else load_spec(spec)
    return run_experiment(checked, Home(home))
