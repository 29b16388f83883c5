"""Views of a running experiment that write a line for each thing that happens: for people, and for programs."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from orchestrator.analysis.notes import reason
from orchestrator.cli.progress import LOADING, View, clock, value_of
from orchestrator.search.plan import Plan
from orchestrator.search.ranking import best_record
from orchestrator.search.trials import Phase, Record
from orchestrator.store.home import Home

HEARTBEAT_S = 10.0
"""Seconds after which a plain view says something even if no trial has ended."""

FORMAT = 1
"""Version of the JSON lines: raised when a field is renamed or removed."""


class PlainView(View):
    """A line for each thing that happens, for logs and pipes."""

    def __init__(self, console: Console, home: Home) -> None:
        super().__init__(console, home)
        self._last_line = time.monotonic()

    def on_stage(self, text: str) -> None:
        super().on_stage(text)
        self._line(text)

    def on_note(self, text: str) -> None:
        super().on_note(text)
        self._line(text)

    def on_plan(self, plan: Plan, records: dict[str, Record], concurrency: int) -> None:
        super().on_plan(plan, records, concurrency)
        for text in self.found:
            self._line(text)
        again = f", {self.ended} of them ended before" if self.ended else ""
        self._line(f"{self.total} trials{again}, {concurrency} at once")

    def on_start(self, record: Record) -> None:
        told = self.loading
        super().on_start(record)
        if self.loading and not told:
            self._line(LOADING)

    def on_choice(self, line: str) -> None:
        self._line(line)

    def on_epoch(self, record: Record) -> None:
        super().on_epoch(record)
        if time.monotonic() - self._last_line >= HEARTBEAT_S:
            self._line(f"{self.counts()}{self.timing()}; {_state(record)}")

    def on_end(self, record: Record) -> None:
        super().on_end(record)
        self._line(f"{self.counts()}; {_state(record)} {record.status}{f': {reason(record)}' if record.reason else ''}")

    def on_interrupt(self) -> None:
        super().on_interrupt()
        self._line(self.saving())

    def _line(self, text: str) -> None:
        self._last_line = time.monotonic()
        self.console.print(f"[{clock(self.elapsed())}] {text}", markup=False, soft_wrap=True)


class JsonView(View):
    """A JSON object a line, each with "event" and the time "at", in seconds since 1970; see docs/running.md."""

    def on_stage(self, text: str) -> None:
        super().on_stage(text)
        self.tell("stage", text=text)

    def on_note(self, text: str) -> None:
        super().on_note(text)
        self.tell("note", text=text)

    def on_choice(self, line: str) -> None:
        self.tell("note", text=line)

    def on_plan(self, plan: Plan, records: dict[str, Record], concurrency: int) -> None:
        super().on_plan(plan, records, concurrency)
        for text in self.found:
            self.tell("note", text=text)
        variants = [{"name": arm.name, "trials": arm.count, "epochs": arm.max_epochs} for arm in plan.arms]
        self.tell(
            "plan",
            trials=self.total,
            ended=self.ended,
            at_once=concurrency,
            variants=variants,
            final_seeds=plan.spec.search.final_seeds,
        )

    def on_start(self, record: Record) -> None:
        super().on_start(record)
        trial = record.trial
        self.tell("start", **self._about(record), seed=trial.seed, params=dict(record.params))

    def on_epoch(self, record: Record) -> None:
        super().on_epoch(record)
        self.tell("epoch", **self._about(record), metrics=record.metrics, **self.speed())

    def on_end(self, record: Record) -> None:
        super().on_end(record)
        self.tell(
            "end",
            **self._about(record),
            status=str(record.status),
            reason=record.reason,
            seconds=round(record.seconds, 3),
            metrics=record.metrics,
            **self._best(record),
        )

    def on_interrupt(self) -> None:
        super().on_interrupt()
        self.tell("note", text=self.saving())

    def tell(self, event: str, **fields: Any) -> None:
        """Write one line."""
        self.console.file.write(line_of(event, fields))
        self.console.file.flush()

    def _best(self, ended: Record) -> dict[str, Any]:
        """Of a search trial that has ended: the best of its variant so far."""
        if self.plan is None or ended.trial.phase is not Phase.SEARCH:
            return {}
        search, trial = self.plan.spec.search, ended.trial
        mine = (r for r in self.records.values() if r.trial.phase is trial.phase and r.trial.variant == trial.variant)
        best = best_record(mine, search)
        return {"best": best and best.value(search.first_metric), "best_trial": best and best.trial.id}

    def _about(self, record: Record) -> dict[str, Any]:
        trial = record.trial
        named = {"trial": trial.id, "phase": str(trial.phase), "variant": trial.variant}
        return {**named, "epoch": record.epochs, "epochs": self.epochs_of(record)}


def line_of(event: str, fields: Mapping[str, Any]) -> str:
    """One line of a `JsonView`."""
    return json.dumps({"event": event, "at": round(time.time(), 3), **fields}) + "\n"


def _state(record: Record) -> str:
    return f"{record.trial.id} epoch {record.epochs} {value_of(record)}".rstrip()
