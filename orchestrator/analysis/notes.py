"""What a reader of the comparison has to know, in sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any

from orchestrator import names
from orchestrator.analysis.comparisons import verdict
from orchestrator.analysis.results import Results, VariantResult
from orchestrator.analysis.statistics import MIN_FOR_INTERVAL
from orchestrator.search.fairness import unequal
from orchestrator.search.standing import State
from orchestrator.search.teachers import teaching
from orchestrator.search.trials import Phase, Record, Status
from orchestrator.spec.experiment import ExperimentSpec, RunSpec
from orchestrator.spec.scheme import Mutual
from orchestrator.spec.variants import Variant, variants

MAX_REASONS = 3
"""Different reasons of failures that stand below a comparison."""
MAX_NOTE = 8000
"""Characters of a run's note that MLflow takes."""
MAX_NAMES = 3
"""Trials that are named with a reason they share."""
CHOOSING = ("student.", "data.", "training.precision.")
"""What decides, with the machine, on the precision."""

Found = Mapping[str, float | None]
"""By key: the validation accuracy in percent of teachers that were found again; None where it is not known."""


def verdicts(results: Results, found: Found) -> list[str]:
    """What the comparison shows, and what speaks against its worth."""
    return [*_differences(results), *_doubts(results, found)]


def notes(results: Results, found: Found, state: State, spent: str | None = None) -> list[str]:
    """How the figures came about: seeds, teachers, the teacher's mistakes, and failed trials.

    `spent` is the field of the limit that has ended the search, where the state is `State.SPENT`.
    """
    ended = [f"{spent} was spent before every variant had a result."] if state is State.SPENT else []
    return [
        *ended,
        *_final_runs(results, state),
        *_teachers(results, found),
        *_mistakes(results),
        *failures(results.records),
    ]


def run_note(
    results: Results, found: Found, state: State, environment: Mapping[str, Any], spent: str | None = None
) -> str:
    """The comparison, how to repeat it, and how its figures came about, in Markdown for the experiment's own run.

    `environment` is what `environment.describe` gives, `spent` as in `notes`. What may be long stands last, and is
    left out where a note gets longer than stores take.
    """
    told = [line.strip() for line in [*_doubts(results, found), *notes(results, found, state, spent)]]
    text = f"{results.to_markdown()}\n\n{_how_to_repeat(results, environment)}"
    remarks = "\n\n### How the figures came about\n\n" + "\n".join(f"- {line}" for line in told)
    return text + remarks if told and len(text + remarks) <= MAX_NOTE else text


def teacher_found(key: str, accuracy: float | None, *, only: bool = True) -> str:
    """A teacher that was found again, and how good it is; `only`: there is no other one to tell it from."""
    known = "" if accuracy is None else f": {accuracy:.2f} % on validation images"
    return f"{_name(key, only)} found again{known}"


def failures(records: list[Record]) -> list[str]:
    """The reasons of trials that failed, those that will be tried again among them, each once."""
    groups: dict[str, list[str]] = {}
    for record in records:
        if record.status is Status.FAILED or (record.status is Status.INTERRUPTED and record.reason):
            groups.setdefault(reason(record), []).append(record.trial.id)
    lines = [f"{_several(ids)}: {text}" for text, ids in list(groups.items())[:MAX_REASONS]]
    more = sum(len(ids) for ids in list(groups.values())[MAX_REASONS:])
    return [*lines, f"{more} more failed; `orchestrator results` gives all reasons."] if more else lines


def stops(records: Iterable[Record]) -> list[str]:
    """What has stopped trials before their end, and how many, in a line; none where nothing has."""
    stopped = (reason(record) for record in records if record.status is Status.STOPPED)
    counts = Counter(text.removeprefix("stopped ").partition(" after epoch ")[0] for text in stopped)
    return [f"stopped: {', '.join(f'{count} {by}' for by, count in counts.items())}"] if counts else []


def reason(record: Record) -> str:
    """Why a trial failed or was stopped, without its name."""
    return (record.reason or "").removeprefix(f"{record.trial.id}: ")


def _how_to_repeat(results: Results, environment: Mapping[str, Any]) -> str:
    package = "distillation-orchestrator"
    commit = str(environment.get("git_commit") or "")
    versions = [
        f"{name} {environment[name]}"
        for name in ("python", package, "torch", "ray", "mlflow", "optuna")
        if environment.get(name, "not installed") != "not installed"
    ]
    lines = [
        "### To repeat it",
        "",
        "Download `spec.yaml`, an artifact of this run, then:",
        "",
        "    orchestrator run spec.yaml",
        "",
        f"It ran with {', '.join(versions)}" + (f", at commit `{commit}`" if commit else "") + ".",
    ]
    return "\n".join(lines)


def _several(ids: list[str]) -> str:
    if len(ids) == 1:
        return f"{ids[0]} failed"
    return f"{len(ids)} trials failed ({_named(ids)})"


def _named(ids: list[str]) -> str:
    return ", ".join(ids[:MAX_NAMES]) + (", ..." if len(ids) > MAX_NAMES else "")


def _differences(results: Results) -> list[str]:
    tested = {arm.name for arm in results.variants if arm.by_seed}
    alone = dict.fromkeys(other for name, other in results.references.items() if name in tested and other not in tested)
    lacking = [
        f"Nothing is compared with {name}, which has no final run with a result; --reference takes another variant."
        for name in alone
    ]
    return [*verdict(results.comparisons), *lacking]


def _doubts(results: Results, found: Found) -> list[str]:
    """What speaks against the comparison's worth, whatever it shows."""
    ended = {arm.name: sum(n for status, n in arm.statuses.items() if status.ended) for arm in results.variants}
    uneven = unequal(ended, "search trials that ended")
    return [*([uneven] if uneven else []), *mixed_precision(results), *_weak_teachers(results, found)]


def mixed_precision(results: Results) -> list[str]:
    """Where `training.precision: auto` means one thing for some students and another for others like them."""
    alike: dict[str, dict[str, list[str]]] = {}
    for name, arm in _arms(results.spec).items():
        if arm.run.training.precision != "auto" or any(map(_chooses, arm.space)):
            continue
        chosen = alike.setdefault(arm.run.model_dump_json(include={"student", "data"}), {})
        for record in results.records:
            counts = record.status.has_result or not record.status.ended
            if record.trial.variant == name and counts and names.PRECISION in record.described:
                chosen.setdefault(str(record.described[names.PRECISION]), []).append(record.trial.id)
    return [
        f"training.precision auto means {' and '.join(f'{p} ({_named(ids)})' for p, ids in chosen.items())}: "
        "trials of different machines are compared."
        for chosen in alike.values()
        if len(chosen) > 1
    ]


def _chooses(path: str) -> bool:
    return any(f"{path}.".startswith(field) or field.startswith(f"{path}.") for field in CHOOSING)


def _weak_teachers(results: Results, found: Found) -> list[str]:
    """Teachers that are no better than the students that learn alone, or than all they teach where none does.

    Assistants and earlier generations are students themselves, and peers have no teacher.
    """
    known = _accuracies(results, found)
    runs = {name: run for name, run in _runs(results.spec).items() if not isinstance(run.scheme, Mutual)}
    assistants = _assistants(results.spec)
    students = {
        arm.name: value for arm in results.variants if arm.name in runs and (value := _validation(arm)) is not None
    }
    alone = {name: value for name, value in students.items() if not runs[name].needs_teacher}
    against = alone or students
    if not against:
        return []
    best = max(against, key=lambda name: against[name])
    return [
        f"{_name(key, len(known) == 1)} is no better on validation images ({accuracy:.2f} %) than the students of "
        f"{best} ({against[best]:.2f} %): distillation has little to give."
        for key, accuracy in known.items()
        if key not in assistants and accuracy is not None and accuracy <= against[best]
    ]


def _validation(arm: VariantResult) -> float | None:
    """A variant's validation accuracy in percent, over its final runs if there are any."""
    if arm.val is not None:
        return arm.val.mean
    return arm.best.metrics.get(names.VAL_ACC1) if arm.best else None


def _final_runs(results: Results, state: State) -> list[str]:
    search = results.spec.search
    planned, metric = search.final_seeds, search.first_metric
    ran = sorted({len(arm.finals) for arm in results.variants})
    lines = []
    if planned == 0:
        lines.append(
            f"No final runs: search.final_seeds is 0. The best {metric} of several trials looks better than it is."
        )
    elif ran[-1] == 0:
        lines.append(f"No final run has a result{' yet' if state is State.RUNNING else ''}.")
    else:
        over = "one fresh seed" if planned == 1 else f"mean ± standard deviation over {planned} fresh seeds"
        lines.append(
            f"Test accuracy: {over} of the configuration that was best by {metric}"
            f"{', so no spread is known' if planned == 1 else ''}; the test set was read in those runs alone."
            f"{f' An interval takes {MIN_FOR_INTERVAL} seeds.' if planned == 2 else ''}"
        )
    if state in (State.RUNNING, State.INTERRUPTED):
        now = "is still running" if state is State.RUNNING else "was interrupted"
        count = f"{ran[0]} to {ran[-1]}" if len(ran) > 1 else str(ran[0])
        far = f"{count} of {planned} seed{'s' if planned > 1 else ''} so far; " if planned else ""
        lines.append(f"{far}the experiment {now}.".capitalize())
    return lines


def _teachers(results: Results, found: Found) -> list[str]:
    known = _accuracies(results, found)
    assistants = _assistants(results.spec)
    lines = []
    for key, accuracy in known.items():
        if key in found:
            lines.append(f"{teacher_found(key, accuracy, only=len(known) == 1)}.")
        elif accuracy is not None:
            lines.append(f"{_name(key, len(known) == 1, key in assistants)}: {accuracy:.2f} % on validation images.")
    return lines


def _mistakes(results: Results) -> list[str]:
    students = [
        r for r in results.records if r.trial.phase is not Phase.TEACHER and names.ADJUSTMENT_WRONG in r.metrics
    ]
    if not students:
        return []
    runs = _runs(results.spec)
    told = {
        name: _wrong([r for r in students if r.trial.variant == name], runs[name].data.train_samples)
        for name in dict.fromkeys(record.trial.variant for record in students)
    }
    if not any(record.metrics[names.ADJUSTMENT_WRONG] for record in students):
        return ["The teacher was right on every training image: logits adjustment had nothing to act on."]
    acts = "logits adjustment acts on those alone."
    if len({_teaching(runs[variant]) for variant in told}) == 1:
        images = runs[students[0].trial.variant].data.train_samples
        return [f"The teacher was wrong on {_wrong(students, images)} in an epoch; {acts}"]
    return [
        f"Teachers were wrong, in an epoch, on those images; {acts}",
        *(f"  {variant}: {text}" for variant, text in told.items()),
    ]


def _wrong(records: list[Record], images: int | None) -> str:
    """Training images that the teacher was wrong on in the last epoch, on average over final runs if there are any."""
    finals = [record for record in records if record.trial.phase is Phase.FINAL]
    wrong = fmean(record.metrics[names.ADJUSTMENT_WRONG] for record in finals or records)
    share = f" of {images} training images ({100 * wrong / images:.1f} %)" if images else " training images"
    return f"{wrong:.0f}{share}"


def _teaching(run: RunSpec) -> str:
    """What decides on which images a run's teacher is wrong."""
    return run.model_dump_json(include={"teacher", "scheme", "data"})


def _assistants(spec: ExperimentSpec) -> set[str]:
    """Keys of the networks of stage 0 that are distilled themselves."""
    return {key for run in _runs(spec).values() for key, made in teaching(run).runs.items() if made.trains_student}


def _accuracies(results: Results, found: Found) -> Found:
    """Validation accuracy in percent of every teacher, by key."""
    return {**{record.trial.variant: record.metrics.get(names.VAL_ACC1) for record in results.teachers}, **found}


def _name(key: str, only: bool, is_assistant: bool = False) -> str:
    return "Teacher" if only else f"{'Assistant' if is_assistant else 'Teacher'} {key[:8]}"


def _runs(spec: ExperimentSpec) -> dict[str, RunSpec]:
    return {name: arm.run for name, arm in _arms(spec).items()}


def _arms(spec: ExperimentSpec) -> dict[str, Variant]:
    return {arm.name: arm for arm in variants(spec)}
