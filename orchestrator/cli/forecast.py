"""plan --measure: what an experiment will take, from a few measured batches of each kind of its runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.console import Console

from orchestrator.cli.progress import STAGES, clock
from orchestrator.cli.tables import table_of
from orchestrator.machine import Machine
from orchestrator.search.forecast import Cost, Forecast, Span, forecast
from orchestrator.search.kinds import Kind, kinds_of
from orchestrator.search.logits import LogitPlan
from orchestrator.search.plan import Plan
from orchestrator.store.folder import ExperimentFolder
from orchestrator.store.home import Home

START_S = 8.0
"""Seconds to start Ray and to open MLflow, beside loading PyTorch and the data, which is measured."""
BUSY = 0.8
"""Share of a core below which other work was in the way of what was measured."""
GANG_S = 10.0
"""Seconds to start a trial's several workers."""


@dataclass(frozen=True)
class Measured:
    """A forecast and what it comes from."""

    forecast: Forecast
    kinds: tuple[Kind, ...]
    costs: tuple[Cost, ...]
    """Of the kinds; the validations, too, in seconds."""
    validations: tuple[float, ...]
    trials_at_once: int
    begun: bool
    """Whether trials of the experiment have run before, and only what is left is forecast."""
    assumes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON-like data."""
        return {
            **self.forecast.to_dict(),
            "of_what_is_left": self.begun,
            "trials_at_once": self.trials_at_once,
            "measured": [
                {
                    "runs": list(kind.of),
                    "model": _model(kind),
                    "epoch_alone_s": cost.alone.epoch.to_dict(),
                    "epoch_s": cost.crowded.epoch.to_dict(),
                    "validation_s": validation,
                    "teacher_view_s": cost.crowded.view.likely if kind.stored else None,
                }
                for kind, cost, validation in zip(self.kinds, self.costs, self.validations, strict=True)
            ],
            "assumes": list(self.assumes),
        }

    def print(self, console: Console) -> None:
        """For people."""
        crowd = f"with {self.trials_at_once} at once"
        table = table_of(
            "measured", "epoch alone", *([crowd] if self.trials_at_once > 1 else []), "validation", folded=["measured"]
        )
        for kind, cost, validation in zip(self.kinds, self.costs, self.validations, strict=True):
            beside = [_short(cost.crowded.epoch.likely)] if self.trials_at_once > 1 else []
            name = f"{_model(kind)}: {', '.join(n if kind.distils else n[:8] for n in kind.of)}"
            table.add_row(name, _short(cost.alone.epoch.likely), *beside, _short(validation))
        console.print()
        console.print(table)
        console.print()
        found = self.forecast
        stages = table_of(
            "forecast" + (" of what is left" if self.begun else ""), "runs", "likely", "range", folded=["forecast"]
        )
        stages.add_row("start-up", "", *_times(found.start_up))
        for phase, (runs, span) in found.stages.items():
            stages.add_row(STAGES[phase], str(runs), *_times(span))
        stages.add_row("[bold]together[/]", "", *_times(found.total))
        console.print(stages)
        for case, field in found.spent.items():
            if field is not None and case == "likely":
                console.print(f"{field} ends the search")
        for line in self.assumes:
            console.print(f"[dim]{line}[/]")


def measured(
    plan: Plan,
    logits: LogitPlan,
    machine: Machine,
    home: Home,
    folder: ExperimentFolder,
    seconds: float,
) -> Measured:
    """Measure and forecast; raises `OrchestratorError` for what would keep the experiment from starting."""
    from orchestrator.execution.probe import measure

    spec, slots = plan.spec, plan.concurrency(machine)
    records = folder.records()
    ready = [key for key in plan.teachers if home.has_teacher(key)]
    kinds = kinds_of(plan, logits, ready)
    probe = measure(kinds, spec.resources, slots, machine.cpus, split_seed=spec.seed, cache=home.cache, seconds=seconds)
    by_name: dict[str, list[Cost]] = {}
    for kind, cost in zip(kinds, probe.costs, strict=True):
        for name in kind.of:
            by_name.setdefault(name, []).append(cost)
    begins = probe.load_s + START_S + (GANG_S if spec.resources.workers[1] > 1 else 0)
    found = forecast(
        plan,
        logits,
        {name: Cost.around(costs) for name, costs in by_name.items()},
        slots,
        Span(begins / 2, begins, 2 * begins),
        records=records,
        ready=ready,
        spent_s=folder.seconds(),
    )
    assumes = tuple(_assumptions(plan, kinds, slots, probe.core))
    return Measured(found, tuple(kinds), probe.costs, probe.validations, slots, bool(records), assumes)


def _assumptions(plan: Plan, kinds: list[Kind], slots: int, core: float) -> list[str]:
    """What the forecast takes for granted, in sentences."""
    resources, search = plan.spec.resources, plan.spec.search
    workers = resources.workers[1]
    processes = f"{slots * workers} process{'es' if slots * workers > 1 else ''}"
    threads = f"{resources.cpus_per_worker} thread{'s' if resources.cpus_per_worker > 1 else ''}"
    lines = [
        f"Measured with {processes} of {threads} at once, as many as will run. Assumed: this machine stays as busy.",
        "Start-up is assumed but for loading PyTorch and the data, within half and twice as much.",
    ]
    if core < BUSY:
        lines.append(
            f"Other work took the cores: a process got {100 * core:.0f} % of one. The range reaches down to a machine "
            "without that; measure again when it is quiet."
        )
    if workers > 1:
        lines.append(
            f"Each process measured one of {workers} parts of a batch; what workers tell each other is not in it."
        )
    if search.scheduler.method in ("asha", "median"):
        lines.append(
            f"The range is wide as {search.scheduler.method} stops trials: from all of them after epoch "
            f"{search.scheduler.grace_period} to none."
        )
    names = [name for kind in kinds for name in kind.of]
    several = [arm.name for arm in plan.arms if names.count(arm.name) > 1]
    if several:
        lines.append(f"Values that are searched change an epoch's time in {', '.join(several)}: the range spans them.")
    if any(kind.stored for kind in kinds):
        lines.append("Stored logits of a teacher are counted as not there yet.")
    return lines


def _model(kind: Kind) -> str:
    learner = kind.run["student" if kind.distils else "teacher"]
    return f"{learner['model']} ({'student' if kind.distils else 'teacher'})"


def _times(span: Span) -> tuple[str, str]:
    return clock(span.likely), f"{clock(span.low)} to {clock(span.high)}"


def _short(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"
