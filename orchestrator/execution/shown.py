"""What runs show of themselves where they are recorded: names, values, notes, and the views of their page."""

from __future__ import annotations

from pydantic import ValidationError

from orchestrator import environment, names
from orchestrator.analysis.charts.style import styles
from orchestrator.analysis.formats import format_values
from orchestrator.execution.exploiting import values_by_epoch
from orchestrator.search.plan import Plan
from orchestrator.search.trials import Phase, Record, Trial
from orchestrator.spec.domains import RangeDomain
from orchestrator.spec.experiment import ExperimentSpec
from orchestrator.spec.loading import to_yaml
from orchestrator.spec.variants import Variant, flatten, variants
from orchestrator.store.folder import ExperimentFolder
from orchestrator.tracking.base import RunInfo
from orchestrator.tracking.runs import own_values, source_tags
from orchestrator.tracking.views import EXPERIMENT, PHASE, SEED, VARIANT, Contents

COLOUR = "mlflow.runColor"
"""MLflow's tag for the colour of a run's lines and points."""
TEACHERS = "#808894"
_BOUNDS = ("distillation.temperature.min", "distillation.temperature.max")


def experiment_info(spec: ExperimentSpec, folder: ExperimentFolder, key: str, described: str) -> RunInfo:
    """The experiment's own run; `described` is its environment as JSON."""
    return RunInfo(
        key=key,
        name=folder.id,
        params={
            "seed": spec.seed,
            "search.sampler": spec.search.drawing,
            "search.num_samples": spec.search.samples,
        },
        tags={
            PHASE: "experiment",
            EXPERIMENT: folder.id,
            f"{names.TAG_PREFIX}hash": spec.hash,
            **source_tags(environment.git_commit(), environment.owner()),
        },
        artifacts={"spec.yaml": to_yaml(spec.model_dump()), "environment.json": described},
    )


def trial_info(plan: Plan, folder: ExperimentFolder, record: Record, described: str) -> RunInfo:
    """A trial's run."""
    trial = record.trial
    try:
        run = plan.run_of(trial)
        resolved = own_values(run.model_dump(), trains_teacher=not plan.distils(trial), has_teacher=run.needs_teacher)
    except ValidationError:
        resolved = dict(trial.params)
    resources = plan.spec.resources
    workers = {} if resources.workers == (1, 1) else {"resources.num_workers": resources.num_workers}
    return RunInfo(
        key=trial.id,
        name=f"{trial.id} seed {trial.seed}",
        params={**flatten(resolved), **workers},
        tags={
            PHASE: trial.phase,
            VARIANT: trial.variant,
            SEED: str(trial.seed),
            EXPERIMENT: folder.id,
            COLOUR: _colour(plan, trial),
        },
        artifacts={
            "spec.yaml": to_yaml(resolved),
            "environment.json": described,
            **values_by_epoch(record),
        },
        note=_note(plan, trial),
    )


def contents(spec: ExperimentSpec, experiment: str) -> Contents:
    """What there is to see of an experiment of this id."""
    arms = variants(spec)
    searched = {path: domain for arm in arms for path, domain in arm.space.items() if _is_field(arm, path)}
    numeric = [path for path, domain in searched.items() if isinstance(domain, RangeDomain)]
    pairs = [[path for path in numeric if path in arm.space] for arm in arms]
    bounded = any(all(path in arm.space for path in _BOUNDS) for arm in arms)
    pair = next((tuple(found[-2:]) for found in pairs if len(found) > 1), None)
    distilling = [arm.run.distillation for arm in arms if arm.run.needs_teacher]
    return Contents(
        id=experiment,
        metric=spec.search.first_metric,
        mode=spec.search.mode,
        searched=list(searched),
        numeric=numeric,
        contour=_BOUNDS if bounded else pair,  # type: ignore[arg-type]
        has_temperatures=any(section.temperature.method != "constant" for section in distilling),
        has_adjustment=any(section.adjustment.rule != "none" for section in distilling),
        has_finals=spec.search.final_seeds > 0,
    )


def _is_field(arm: Variant, path: str) -> bool:
    """Whether what is searched at a path is one value, which runs have as a parameter, and no section."""
    drawn = arm.run.with_values(arm.repaired({path: domain.extremes[0] for path, domain in arm.space.items()}))
    return path in flatten(drawn.model_dump())


def _colour(plan: Plan, trial: Trial) -> str:
    if trial.phase is Phase.TEACHER:
        return TEACHERS
    return styles([arm.name for arm in plan.arms])[trial.variant].colour


def _note(plan: Plan, trial: Trial) -> str:
    """What a run is, in Markdown."""
    if trial.phase is Phase.TEACHER:
        taught = [f"`{arm.name}`" for arm in plan.arms if trial.variant in arm.teacher_keys]
        return f"Trained once, for {', '.join(taught)}." if taught else "Trained once, for other teachers."
    values = format_values(trial.params) or "nothing is searched"
    if trial.phase is Phase.FINAL:
        repeats = f"`{trial.repeats}`" if trial.repeats else "the best configuration"
        return f"`{trial.variant}`: {repeats} on the fresh seed {trial.seed}, tested: {values}."
    count = plan.by_name[trial.variant].count
    return f"`{trial.variant}`: search trial {trial.index + 1} of {count}: {values}."
