"""What a view of a running experiment is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.search.plan import Plan
from orchestrator.search.trials import Record


class Watcher:
    """Follows an experiment; every method does nothing by default.

    The driver calls `on_stage` with what it is doing, `on_plan` once before the first trial, then `on_start`,
    `on_describe`, `on_epoch` and `on_end` for every trial, all from one thread.
    """

    def on_stage(self, text: str) -> None: ...

    def on_note(self, text: str) -> None:
        """Something that stays worth knowing."""

    def on_plan(self, plan: Plan, records: dict[str, Record], concurrency: int) -> None: ...

    def on_start(self, record: Record) -> None: ...

    def on_describe(self, record: Record, described: Mapping[str, Any]) -> None:
        """A trial has said what it runs with, such as `names.PRECISION`, before its first epoch is told."""

    def on_epoch(self, record: Record) -> None: ...

    def on_end(self, record: Record) -> None: ...

    def on_interrupt(self) -> None:
        """A first Ctrl-C: what runs is being saved. Called from a thread of its own."""
