"""validate, plan, schema: what can be said of a spec before anything starts. Loads neither torch nor Ray."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from orchestrator.cli.failure import problem_dict
from orchestrator.cli.forecast import measured
from orchestrator.cli.options import Format, FormatOption, HomeOption, SetOption, SpecArgument
from orchestrator.cli.tables import NARROW, table_of
from orchestrator.cli.terminal import screen
from orchestrator.errors import SpecError, UsageError
from orchestrator.machine import this_machine
from orchestrator.search.fairness import unequal
from orchestrator.search.halving import brackets_of
from orchestrator.search.logits import LogitPlan, plan_logits
from orchestrator.search.packages import require_packages
from orchestrator.search.plan import Plan, amounts, make_plan
from orchestrator.search.sizes import ModelSize
from orchestrator.search.teachers import TeacherRun
from orchestrator.spec import ExperimentSpec, load_spec
from orchestrator.spec.model import ModelSpec
from orchestrator.spec.schedulers import BracketScheduler, PopulationScheduler
from orchestrator.spec.search import SearchSpec
from orchestrator.store.home import Home
from orchestrator.store.placing import place


def validate(spec: SpecArgument, set: SetOption = None, format: FormatOption = Format.TABLE) -> int:
    """Check a spec: unknown keys, types, ranges, and the ends of every searched domain."""
    try:
        checked = load_spec(spec, set)
    except SpecError as error:
        if format is Format.TABLE:
            raise
        print(json.dumps({"valid": False, "problems": [problem_dict(p) for p in error.problems]}, indent=2))
        return error.exit_code
    if format is Format.JSON:
        print(json.dumps({"valid": True, "name": checked.name, "hash": checked.hash, "id": checked.id}, indent=2))
    else:
        print(f"{spec}: valid; experiment {checked.id}")
    return 0


def plan(
    spec: SpecArgument,
    set: SetOption = None,
    format: FormatOption = Format.TABLE,
    measure: Annotated[
        bool, typer.Option("--measure", help="Train a few batches of each kind of run, and forecast the time.")
    ] = False,
    measure_seconds: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="Seconds that --measure trains, about, all kinds together.", min=1),
    ] = 10.0,
    home: HomeOption = None,
) -> int:
    """Show what a spec would run: variants, search space, trials, epochs, and how many fit at once."""
    there = Home(home)
    placed = place(load_spec(spec, set), there)
    folder = placed.folder
    expanded = make_plan(placed.spec).finding(folder.records(), there.has_teacher)
    machine = this_machine()
    logits = plan_logits(expanded, there.room_for_logits(), folder.logit_decisions())
    console, notes = screen(), [*placed.notes, *_remarks(expanded)]
    if format is Format.TABLE:
        console.print(f"[bold]{placed.spec.name}[/] ({folder.id})")
        for note in notes:
            console.print(note, markup=False)
        _print_plan(expanded, logits, there, console)
    found = measured(expanded, logits, machine, there, folder, measure_seconds) if measure else None
    if format is Format.JSON:
        told = {"id": folder.id, "notes": notes, "teacher_logits": logits.to_dict()}
        data = {**expanded.to_dict(machine), **told}
        print(json.dumps(data if found is None else {**data, "forecast": found.to_dict()}, indent=2))
    elif found is not None:
        found.print(console)
    return 0


def _remarks(plan: Plan) -> list[str]:
    """What is lacking to run it, and what is not the same for all variants."""
    lacking = []
    if any(arm.points is None for arm in plan.arms):
        try:
            require_packages(plan.spec.search)
        except UsageError as error:
            lacking = [f"{error.message}: {error.hint}"]
    uneven = unequal({arm.name: arm.count for arm in plan.arms})
    return [*lacking, *([uneven] if uneven else [])]


def schema() -> int:
    """Print the spec's JSON Schema, for editors that complete and check YAML."""
    print(json.dumps(ExperimentSpec.model_json_schema(), indent=2))
    return 0


def _print_plan(plan: Plan, logits: LogitPlan, home: Home, console: Console) -> None:
    spec, machine = plan.spec, this_machine()
    if not plan.teachers:
        console.print("Stage 0: no teacher has to be trained")
    for key, teacher in plan.teachers.items():
        kind = "assistant" if teacher.trains_student else "teacher"
        console.print(f"Stage 0: {kind} {teacher.model} {_fate(plan, home, key, teacher)}", markup=False)
    for line in [*_networks(plan), *logits.lines()]:
        console.print(line)
    console.print(_space_table(plan, console.width < NARROW))
    for text in spec.search.constraints:
        console.print(f"with {text}")
    console.print(
        f"Stage 1: {plan.search_trials} search trials ({spec.search.drawing} sampler, "
        f"{spec.search.scheduler.method} scheduler), chosen by {_metrics(spec.search)}"
    )
    for line in _order(plan):
        console.print(line, markup=False)
    seeds = spec.search.final_seeds
    fresh = f"{seeds} fresh seed{'s' if seeds > 1 else ''}"
    best = f"{spec.search.final_configs} best" if spec.search.final_configs > 1 else "best"
    console.print(
        f"Stage 2: {plan.final_trials} final runs: each variant's {best} on {fresh}, tested once"
        if seeds
        else "Stage 2: no final runs, as search.final_seeds is 0"
    )
    console.print(f"Together {plan.student_epochs} student-epochs at most")
    resources = spec.resources
    low, high = resources.workers
    takes = amounts(resources.cpus_per_worker, resources.gpus_per_worker)
    if high > 1:
        takes = f"{high if low == high else f'{low} to {high}'} workers ({resources.placement}) of {takes} each"
    if plan.uneven:
        console.print(
            f"Results depend on the number of workers: batch norms of {', '.join(plan.uneven)} see one worker's part "
            "of a batch. With norm: group or sync_batch they do not",
            markup=False,
        )
    concurrent, too_small = plan.fit(machine)
    if concurrent is None:
        console.print(f"does not fit this machine: {too_small}", markup=False)
        return
    console.print(
        f"A trial takes {takes}; "
        f"this machine has {machine.cpus:g} CPUs and {machine.gpus:g} GPUs: "
        f"{concurrent} trial{'s' if concurrent > 1 else ''} at once"
    )


def _metrics(search: SearchSpec) -> str:
    """What configurations are chosen by, and how it is wanted."""
    named = (f"{metric} ({'max' if sign > 0 else 'min'})" for metric, sign in search.objectives.items())
    return ", then ".join(named)


def _order(plan: Plan) -> list[str]:
    """What is tried first, and which trials wait for which, in lines."""
    scheduler, lines = plan.spec.search.scheduler, []
    if plan.spec.search.warm_start is not None:
        lines.append(f"Samplers learn from {plan.spec.search.warm_start.name} first")
    for arm in plan.arms:
        if arm.first:
            points = f"{len(arm.first)} point{'s' if len(arm.first) > 1 else ''}"
            lines.append(f"{arm.name}: {points} of the spec before those that are drawn")
        if isinstance(scheduler, BracketScheduler) and arm.variant.space:
            waits = (
                f"{bracket.size} ({'after ' + ', '.join(map(str, bracket.rungs)) if bracket.rungs else 'never'})"
                for bracket in brackets_of(arm.count, arm.max_epochs, scheduler)
            )
            lines.append(f"{arm.name}: brackets of trials, and the epochs after which they wait: {', '.join(waits)}")
        if isinstance(scheduler, PopulationScheduler) and arm.variant.space:
            interval = scheduler.interval(arm.max_epochs)
            every = f"every {interval} epochs" if interval > 1 else "every epoch"
            lines.append(f"{arm.name}: a population of {arm.count} trials that wait for each other {every}")
    return lines


def _networks(plan: Plan) -> list[str]:
    """A line for each network whose size is known without building it."""
    sized: list[tuple[str, ModelSpec | None, ModelSize | None]] = []
    sized += [("Student", arm.variant.run.student, arm.size) for arm in plan.arms]
    sized += [
        ("Assistant" if teacher.trains_student else "Teacher", teacher.network, teacher.size)
        for teacher in plan.teachers.values()
    ]
    lines = [f"{role} {_described(network)}: {_told(size)}" for role, network, size in sized if network and size]
    return list(dict.fromkeys(lines))


def _described(network: ModelSpec) -> str:
    settings = [f"width {network.width:g}"] if network.width != 1 else []
    settings += [f"stem_stride {network.stem_stride}"] if network.stem_stride is not None else []
    return network.model + (f" ({', '.join(settings)})" if settings else "")


def _told(size: ModelSize) -> str:
    return f"{_short(size.parameters)} parameters, {_short(size.flops)} multiply-adds an image"


def _short(count: int) -> str:
    """Three digits of a count, in thousands, millions or billions."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= 0.9995 * unit:
            return f"{count / unit:.3g} {letter}"
    return str(count)


def _fate(plan: Plan, home: Home, key: str, teacher: TeacherRun) -> str:
    if key in plan.found:
        return f"is found in {home} (key {key[:8]})"
    if home.has_teacher(key):
        return f"was trained by this experiment before (key {key[:8]})"
    if teacher.trains_student:
        before = " and ".join(source[:8] for source in teacher.after) or "a checkpoint"
        return f"will be distilled for {teacher.training.epochs} epochs from {before} (key {key[:8]})"
    images = teacher.run.teacher and teacher.run.teacher.train_samples
    where = f"on {images} images" if images else "on the training split"
    return f"will be trained for {teacher.training.epochs} epochs {where} (key {key[:8]})"


def _space_table(plan: Plan, narrow: bool) -> Table:
    """One row a searched value; on a narrow screen its domain stands below it."""
    columns = ("searched value",) if narrow else ("searched value", "domain")
    epochs = "epochs\neach" if narrow else "epochs each"
    table = table_of("variant", *columns, "trials", epochs, folded=("variant", *columns))
    for arm in plan.arms:
        rows = [(path, str(domain)) for path, domain in arm.variant.space.items()] or [("none: one fixed run", "")]
        for position, cells in enumerate(rows):
            first = position == 0
            table.add_row(
                arm.name if first else "",
                *map(escape, ["\n  ".join(filter(None, cells))] if narrow else cells),
                str(arm.count) if first else "",
                str(arm.max_epochs) if first else "",
            )
    return table
