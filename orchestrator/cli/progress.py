"""What every view of a running experiment keeps, and the live table that a terminal shows."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from orchestrator import names
from orchestrator.analysis.formats import format_values
from orchestrator.analysis.notes import reason, stops, teacher_found
from orchestrator.analysis.results import Results
from orchestrator.execution.watcher import Watcher
from orchestrator.search.plan import Plan
from orchestrator.search.ranking import leading
from orchestrator.search.trials import Phase, Record, Status
from orchestrator.search.winners import outdated
from orchestrator.store.home import Home

ROWS = 20
"""Running trials that the live table shows one by one: to draw a thousand takes longer than there is between draws."""

ENOUGH = 10
"""Epochs from which a pace is told."""

NOTES = 4
"""The latest notes that the live table shows."""

STAGES = {
    Phase.TEACHER: "stage 0: teacher",
    Phase.SEARCH: "stage 1: search",
    Phase.FINAL: "stage 2: final runs",
}
LOADING = "loading PyTorch and the data in the workers"


class View(Watcher):
    """Keeps what every view shows."""

    CLEAN = ""
    """What leaves the screen in order where the process ends on the spot."""

    def __init__(self, console: Console, home: Home) -> None:
        self.console = console
        self.home = home
        self.stage = "starting"
        self.loading = False
        """Whether trials were started, and nothing was heard of any: the first ones load what they need."""
        self.plan: Plan | None = None
        self.found: list[str] = []
        """A line for each teacher that was found again."""
        self.notes: list[str] = []
        self.chosen: list[str] = []
        """A line for each precision that was chosen, with its reason."""
        self.records: dict[str, Record] = {}
        self._open: dict[str, Record] = {}
        """Those that have not ended; with what follows, a view costs the same however many have."""
        self._ended: Counter[Status] = Counter()
        self._outdated = 0
        """Of these, final runs of configurations that are not the best any more."""
        self._epochs_ended = 0
        """Epochs of the students that have ended, of those that were cut short all."""
        self._epochs_outdated = 0
        """Of these and of those that are open, epochs of final runs that do not count any more."""
        self.concurrency = 1
        self.interrupted = False
        self._heard = False
        self._begin = time.monotonic()
        self._first_epoch: float | None = None
        self._epochs_seen = 0
        self._seen: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def on_stage(self, text: str) -> None:
        self.stage = text

    def on_note(self, text: str) -> None:
        self.notes.append(text)

    def on_plan(self, plan: Plan, records: dict[str, Record], concurrency: int) -> None:
        self.records, self.concurrency = dict(records), concurrency
        self._find_teachers(plan)
        self._open, self._ended, self._epochs_ended = {}, Counter(), 0
        for record in records.values():
            self._count(record)
        self._count_outdated()
        self._seen = {key: record.epochs for key, record in records.items()}

    def on_start(self, record: Record) -> None:
        self.loading = not self._heard
        self.records[record.trial.id] = self._open[record.trial.id] = record
        if self.plan is not None and record.trial.phase is Phase.TEACHER:
            # Its weights have gone since they were found.
            self._find_teachers(self.plan)

    def on_describe(self, record: Record, described: Mapping[str, Any]) -> None:
        why = described[names.PRECISION_REASON]
        role = "teacher" if record.trial.phase is Phase.TEACHER else "student"
        line = f"precision of the {role}: {described[names.PRECISION]} ({why})"
        if line not in self.chosen:
            self.chosen.append(line)
            self.on_choice(line)

    def on_choice(self, line: str) -> None:
        """There is a new line in `chosen`."""

    def on_epoch(self, record: Record) -> None:
        self.loading, self._heard = False, True
        if record.trial.phase is Phase.TEACHER:
            return
        if self._first_epoch is None:
            self._first_epoch = time.monotonic()
        self._epochs_seen += max(record.epochs - self._seen.get(record.trial.id, 0), 0)
        self._seen[record.trial.id] = record.epochs

    def on_end(self, record: Record) -> None:
        self.loading, self._heard = False, True
        self.records[record.trial.id] = record
        self._count(record)
        self._count_outdated()

    def on_interrupt(self) -> None:
        self.interrupted = True

    def now(self) -> str:
        """The stages that trials are running in, or what the driver does before there are any."""
        if self.interrupted:
            return self.saving()
        if self.loading:
            return LOADING
        phases = {record.trial.phase for record in self.running}
        otherwise = "finishing" if self._heard else self.stage
        return " and ".join(text for phase, text in STAGES.items() if phase in phases) or otherwise

    def saving(self) -> str:
        """What happens after a first Ctrl-C."""
        running = len(self.running)
        what = f"saving {running} running trial{'s' if running != 1 else ''}" if running else "stopping"
        return f"{what}; Ctrl-C again ends at once"

    def counts(self) -> str:
        """How many trials ended which way, of how many."""
        waiting = sum(record.status is Status.PAUSED for record in self.open)
        parts = [f"{self.ended}/{self.total} trials", f"{len(self.running)} running"]
        parts += [f"{waiting} {Status.PAUSED}"] if waiting else []
        parts += [f"{self._ended[s]} {s}" for s in (Status.FAILED, Status.STOPPED) if self._ended[s]]
        return ", ".join(parts)

    @property
    def open(self) -> list[Record]:
        """Trials that have not ended; a copy, as a live table is drawn while the driver's thread goes on."""
        return list(self._open.values())

    @property
    def running(self) -> list[Record]:
        return [record for record in self.open if record.status is Status.RUNNING]

    @property
    def ended(self) -> int:
        """Trials that have ended, in this session or before, of those that `total` counts."""
        return self._ended.total() - self._outdated

    @property
    def total(self) -> int:
        """Trials that the experiment has when it is complete."""
        return self.plan.total_trials if self.plan else 0

    def elapsed(self) -> float:
        return time.monotonic() - self._begin

    def pace(self) -> float | None:
        """Seconds in which this session trains an epoch of a student, all trials together; None at first."""
        if self._first_epoch is None or self._epochs_seen < ENOUGH:
            return None
        return (time.monotonic() - self._first_epoch) / self._epochs_seen

    def seconds_left(self) -> float | None:
        """From the pace so far; None before there is one, and where nothing is left."""
        pace = self.pace()
        if self.plan is None or pace is None:
            return None
        begun = sum(record.epochs for record in self.open if record.trial.phase is not Phase.TEACHER)
        left = max(self.plan.student_epochs - self._epochs_ended - begun + self._epochs_outdated, 0)
        return left * pace if left else None

    def timing(self) -> str:
        """The pace, and the time that is left, as far as they are known; each with a comma before it."""
        pace, left = self.pace(), self.seconds_left()
        rate = "" if not pace else f", {_rounded(60 / pace)}/min" if pace < 60 else f", {_rounded(3600 / pace)}/h"
        return rate + (f", about {clock(left)} left" if left is not None else "")

    def speed(self) -> dict[str, float | None]:
        """The same as JSON-like data."""
        pace, left = self.pace(), self.seconds_left()
        return {"epochs_per_minute": pace and round(60 / pace, 2), "seconds_left": left and round(left, 1)}

    def results(self) -> Results | None:
        return Results(self.plan.spec, self.records) if self.plan else None

    def epochs_of(self, record: Record) -> int:
        """Epochs that a trial has when it is finished."""
        if self.plan is None:
            return 1
        if record.trial.phase is Phase.TEACHER:
            return self.plan.teachers[record.trial.variant].training.epochs
        arm = self.plan.by_name[record.trial.variant]
        return int(record.trial.params.get("training.epochs", arm.max_epochs))

    def _count(self, record: Record) -> None:
        """Take in what has become of a trial."""
        if not record.status.ended:
            self._open[record.trial.id] = record
            return
        self._open.pop(record.trial.id, None)
        self._ended[record.status] += 1
        if self.plan is not None and record.trial.phase is not Phase.TEACHER:
            self._epochs_ended += self.plan.by_name[record.trial.variant].max_epochs

    def _count_outdated(self) -> None:
        if self.plan is not None:
            past = [self.records[id] for id in outdated(self.records, self.plan.spec.search)]
            ended = [record for record in past if record.status.ended]
            self._outdated = len(ended)
            whole = sum(self.plan.by_name[record.trial.variant].max_epochs for record in ended)
            self._epochs_outdated = whole + sum(record.epochs for record in past if not record.status.ended)

    def _find_teachers(self, plan: Plan) -> None:
        self.plan = plan.finding(self.records, self.home.has_teacher)
        only = len(plan.teachers) == 1
        self.found = [
            teacher_found(key, self.home.teacher_accuracy(key), only=only)
            for key in plan.teachers
            if key in self.plan.found
        ]


class Drawing(View):
    """Draws how far the experiment is as a table."""

    def __init__(self, console: Console, home: Home) -> None:
        super().__init__(console, home)
        self._compared: tuple[tuple[int, int], RenderableType] | None = None
        self._lacking = False
        """Whether a variant has no result yet, so that its best changes with each epoch."""

    def draw(self) -> RenderableType:
        head = Text(f"{self.now()} ", style="bold")
        if self.plan is None:
            return head + Text(f"{clock(self.elapsed())}", style="dim")
        head += Text(f" {self.counts()}, {clock(self.elapsed())} elapsed{self.timing()}")
        bar = Table.grid()
        bar.add_row(ProgressBar(total=self.total, completed=self.ended, width=60))
        said = (*self.notes[-NOTES:], *self.found, *self.chosen[-2:])
        return Group(head, bar, *(Text(line, style="dim") for line in said), self._variants(), self._running())

    def _variants(self) -> RenderableType:
        """What stopped trials, and the comparison so far; made anew when it may have changed."""
        now = self._ended.total(), self._epochs_seen if self._lacking else 0
        if self._compared is None or self._compared[0] != now:
            why = (Text(line, style="dim") for line in stops(list(self.records.values())))
            self._compared = now, Group(*why, self._compare())
        return self._compared[1]

    def _compare(self) -> Table:
        plan, results = self.plan, self.results()
        table = Table(box=None, pad_edge=False, header_style="dim")
        if plan is None or results is None:
            return table
        metric = plan.spec.search.first_metric
        for column in ("variant", "search", f"best\n{metric}", "test acc1", "best values"):
            # Where there is little room, the values are cut off first.
            table.add_column(column, no_wrap=column != "best values", vertical="top")
        found = results.variants
        self._lacking = any(variant.best is None for variant in found)
        for variant in found:
            best = variant.best or leading((r for r in self.open if r.trial.variant == variant.name), plan.spec.search)
            value = best and best.value(metric)
            ended = sum(count for status, count in variant.statuses.items() if status.ended)
            table.add_row(
                escape(variant.name),
                f"{ended}/{plan.by_name[variant.name].count}",
                "" if value is None else f"{value:.2f}{'' if variant.best else ' so far'}",
                str(variant.test or ""),
                Text(format_values(best.params if best else {}), no_wrap=True, overflow="ellipsis"),
            )
        return table

    def _running(self) -> Table:
        table = Table(box=None, pad_edge=False, show_header=False)
        running = self.running
        for record in running[:ROWS]:
            epochs = self.epochs_of(record)
            table.add_row(
                f"[cyan]{escape(record.trial.id)}[/]",
                ProgressBar(total=epochs, completed=record.epochs, width=20),
                f"epoch {record.epochs}/{epochs}",
                value_of(record),
            )
        if len(running) > ROWS:
            table.add_row(f"and {len(running) - ROWS} more")
        return table


class LiveView(Drawing):
    """A table that is drawn anew a few times a second."""

    CLEAN = "\n\x1b[?25h"  # a new line, and the cursor that Rich hides

    def __init__(self, console: Console, home: Home) -> None:
        super().__init__(console, home)
        # What others print to stdout and stderr belongs in the log, not above the table.
        self._live = Live(
            get_renderable=self.draw,
            console=console,
            refresh_per_second=4,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def on_end(self, record: Record) -> None:
        super().on_end(record)
        if record.status is Status.FAILED:
            self.console.print(f"[red]{escape(record.trial.id)} failed:[/] {escape(reason(record))}")


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    whole = int(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def _rounded(epochs: float) -> str:
    return f"{epochs:.0f} epochs" if epochs >= 10 else f"{epochs:.1f} epochs"


def value_of(record: Record) -> str:
    name = names.TEST_ACC1 if names.TEST_ACC1 in record.metrics else names.VAL_ACC1
    return f"{name} {record.metrics[name]:.2f}" if name in record.metrics else ""
