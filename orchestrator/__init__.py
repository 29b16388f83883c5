"""Knowledge-distillation searches from a YAML spec: Ray Tune trials, MLflow runs, compared results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.analysis.results import Results as ExperimentResult
    from orchestrator.experiment import Experiment
    from orchestrator.spec import ExperimentSpec

__version__ = "0.1.0"
__all__ = ["Experiment", "load_spec", "run"]


def __getattr__(name: str) -> Any:
    # Only looking at an experiment takes all that reading one needs.
    if name == "Experiment":
        from orchestrator.experiment import Experiment

        return Experiment
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load_spec(
    path_or_dict: str | Path | Mapping[str, Any], overrides: Mapping[str, Any] | Iterable[str] | None = None
) -> ExperimentSpec:
    """Read and check a spec; see `orchestrator.spec.load_spec`."""
    from orchestrator.spec import load_spec

    return load_spec(path_or_dict, overrides)


def run(
    spec: ExperimentSpec | str | Path | Mapping[str, Any],
    home: str | Path | None = None,
    progress: bool | None = None,
) -> ExperimentResult:
    """Run an experiment on this machine, or continue it, and return its results.

    `home` is the folder that everything is kept in; None: ORCHESTRATOR_HOME, else ./.orchestrator.
    `progress` shows how far it is, in a notebook as a table, elsewhere as lines on stdout; None: where someone looks,
    in a notebook and on a terminal. Inside a program that has initialised Ray, that Ray is used.
    """
    from orchestrator.cli.notebook import view
    from orchestrator.execution.runner import run_experiment
    from orchestrator.spec import ExperimentSpec
    from orchestrator.store.home import Home
    from orchestrator.store.placing import place

    checked, where = spec if isinstance(spec, ExperimentSpec) else load_spec(spec), Home(home)
    placed = place(checked, where)
    with view(where, progress, placed.folder.log) as watcher:
        return run_experiment(placed.spec, where, watcher=watcher, placed=placed)
