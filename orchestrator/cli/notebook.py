"""How far an experiment is, where it is run from Python: a table in a notebook, lines elsewhere, or nothing."""

from __future__ import annotations

import contextlib
import io
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.text import Text

from orchestrator.analysis.notes import failures
from orchestrator.cli.lines import PlainView
from orchestrator.cli.progress import Drawing
from orchestrator.cli.terminal import warnings_kept_in
from orchestrator.execution.watcher import Watcher
from orchestrator.search.plan import Plan
from orchestrator.search.trials import Record
from orchestrator.store.home import Home

WIDTH = 110
"""Columns of the table."""
REDRAW_S = 0.5
"""Seconds between two drawings: each is a message to the notebook's page."""
_PRE = "<pre style='white-space:pre;overflow-x:auto;line-height:normal;font-family:monospace'>{code}</pre>"


def view(home: Home, progress: bool | None, log: Path) -> AbstractContextManager[Watcher]:
    """What shows a run's progress; `progress` None: in a notebook and on a terminal.

    What else would fill a notebook's cell, such as warnings of Ray and MLflow, goes to `log`.
    """
    if progress is False:
        return contextlib.nullcontext(Watcher())
    if in_notebook():
        return NotebookView(home, log)
    if progress or sys.stdout.isatty():
        return PlainView(Console(highlight=False), home)
    return contextlib.nullcontext(Watcher())


def in_notebook() -> bool:
    """Whether a kernel runs this, so that there is a page to show things on."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and "IPKernelApp" in shell.config


class NotebookView(Drawing):
    """A table in a notebook's cell, drawn anew where something has happened."""

    def __init__(self, home: Home, log: Path) -> None:
        super().__init__(Console(file=io.StringIO(), width=WIDTH), home)
        self._others = warnings_kept_in(log)
        self._handle: Any = None
        self._drawn_at = 0.0

    def __enter__(self) -> Self:
        from IPython.display import display

        self._handle = display(self, display_id=True)
        self._others.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._others.__exit__(kind, error, trace)
        self._redraw(at_once=True)

    def on_stage(self, text: str) -> None:
        super().on_stage(text)
        self._redraw(at_once=True)

    def on_note(self, text: str) -> None:
        super().on_note(text)
        self._redraw(at_once=True)

    def on_choice(self, line: str) -> None:
        self._redraw(at_once=True)

    def on_interrupt(self) -> None:
        super().on_interrupt()
        self._redraw(at_once=True)

    def on_plan(self, plan: Plan, records: dict[str, Record], concurrency: int) -> None:
        super().on_plan(plan, records, concurrency)
        self._redraw()

    def on_start(self, record: Record) -> None:
        super().on_start(record)
        self._redraw()

    def on_epoch(self, record: Record) -> None:
        super().on_epoch(record)
        self._redraw()

    def on_end(self, record: Record) -> None:
        super().on_end(record)
        self._redraw()

    def draw(self) -> RenderableType:
        """The table, and why trials failed."""
        return Group(super().draw(), *(Text(line, style="red") for line in failures(list(self.records.values()))))

    def _repr_html_(self) -> str:
        return self._rendered().export_html(inline_styles=True, code_format=_PRE)

    def __repr__(self) -> str:
        return self._rendered().export_text()

    def _rendered(self) -> Console:
        console = Console(record=True, file=io.StringIO(), width=WIDTH, force_jupyter=False, force_terminal=True)
        console.print(self.draw())
        return console

    def _redraw(self, *, at_once: bool = False) -> None:
        now = time.monotonic()
        if self._handle is not None and (at_once or now - self._drawn_at >= REDRAW_S):
            self._drawn_at = now
            self._handle.update(self)
