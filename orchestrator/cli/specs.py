"""validate, plan, schema: what can be said of a spec before anything starts. Loads neither torch nor Ray."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

from rich.console import Console
from rich.table import Table

from orchestrator.cli.options import Format, FormatOption, SetOption, SpecArgument
from orchestrator.cli.terminal import screen
from orchestrator.errors import Problem, SpecError
from orchestrator.machine import this_machine
from orchestrator.search.plan import Plan, make_plan
from orchestrator.spec import ExperimentSpec, load_spec


def validate(spec: SpecArgument, set: SetOption = None, format: FormatOption = Format.TABLE) -> int:
    """Check a spec: unknown keys, types, ranges, and the ends of every searched domain."""
    try:
        checked = load_spec(spec, set)
    except SpecError as error:
        if format is Format.TABLE:
            raise
        print(json.dumps({"valid": False, "problems": [_problem(p) for p in error.problems]}, indent=2))
        return error.exit_code
    if format is Format.JSON:
        print(json.dumps({"valid": True, "name": checked.name, "hash": checked.hash, "id": checked.id}, indent=2))
    else:
        print(f"{spec}: valid; experiment {checked.id}")
    return 0


def plan(spec: SpecArgument, set: SetOption = None, format: FormatOption = Format.TABLE) -> int:
    """Show what a spec would run: variants, search space, trials, epochs, and how many fit at once."""
    expanded = make_plan(load_spec(spec, set))
    machine = this_machine()
    data = expanded.to_dict(machine)
    if format is Format.JSON:
        print(json.dumps(data, indent=2))
    else:
        _print_plan(expanded, screen())
    return 0


def schema() -> int:
    """Print the spec's JSON Schema, for editors that complete and check YAML."""
    print(json.dumps(ExperimentSpec.model_json_schema(), indent=2))
    return 0


def _print_plan(plan: Plan, console: Console) -> None:
    spec, machine = plan.spec, this_machine()
    console.print(f"[bold]{spec.name}[/] ({spec.id})")
    if not plan.teachers:
        console.print("Stage 0: no teacher has to be trained")
    for key, run in plan.teachers.items():
        if run.teacher is not None:
            where = f"on {run.teacher.train_samples} images" if run.teacher.train_samples else "on the training split"
            console.print(
                f"Stage 0: train the teacher {run.teacher.model} for {run.teacher_training.epochs} epochs {where}, "
                f"or find it again by its key {key[:8]}"
            )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("variant", "searched value", "domain", "trials", "epochs each"):
        number = column in ("trials", "epochs each")
        table.add_column(column, justify="right" if number else "left", no_wrap=number, overflow="fold")
    for arm in plan.arms:
        rows = [(path, str(domain)) for path, domain in arm.variant.space.items()] or [("none: one fixed run", "")]
        for position, (path, domain) in enumerate(rows):
            first = position == 0
            table.add_row(
                arm.name if first else "",
                path,
                domain,
                str(arm.count) if first else "",
                str(arm.max_epochs) if first else "",
            )
    console.print(table)
    for text in spec.search.constraints:
        console.print(f"with {text}")
    console.print(
        f"Stage 1: {plan.search_trials} search trials ({spec.search.sampler} sampler, "
        f"{spec.search.scheduler.method} scheduler), chosen by {spec.search.metric} ({spec.search.mode})"
    )
    console.print(
        f"Stage 2: {plan.final_trials} final runs: each variant's best on {spec.search.final_seeds} fresh seeds, "
        "tested once"
    )
    console.print(f"Together {plan.student_epochs} student-epochs at most")
    resources = spec.resources
    cpus = resources.num_workers * resources.cpus_per_worker
    gpus = resources.num_workers * resources.gpus_per_worker
    console.print(
        f"A trial takes {cpus} CPU{'s' if cpus > 1 else ''}{f' and {gpus:g} GPU' if gpus else ''}; "
        f"this machine has {machine.cpus:g} CPUs and {machine.gpus:g} GPUs: "
        f"{plan.concurrency(machine)} trial{'s' if plan.concurrency(machine) > 1 else ''} at once"
    )


def _problem(problem: Problem) -> dict[str, object]:
    try:
        json.dumps(problem.value, allow_nan=False)
    except (TypeError, ValueError):
        problem = replace(problem, value=str(problem.value))
    return asdict(problem)
