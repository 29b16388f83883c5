"""Which failed trials are tried again, and when failures alike are too many to go on."""

from __future__ import annotations

import re
from collections import Counter

from orchestrator.search.trials import Record
from orchestrator.spec.budget import FailuresSpec

_NUMBER = re.compile(r"\b0x[0-9a-fA-F]+\b|\d+(\.\d+)?([eE][+-]?\d+)?")


class Failures:
    """Counts what goes wrong in one session."""

    def __init__(self, policy: FailuresSpec) -> None:
        self._policy = policy
        self._raised: Counter[str] = Counter()
        self._died: Counter[str] = Counter()
        self._alike: dict[str, list[Record]] = {}

    def tries_again(self, trial: str, *, died: bool) -> bool:
        """Whether a trial that has raised an error, or whose process has died, is tried once more."""
        counts, limit = (self._died, self._policy.max_restarts) if died else (self._raised, self._policy.max_retries)
        counts[trial] += 1
        return counts[trial] <= limit

    def deaths(self, trial: str) -> int:
        """Times that the trial's process has died."""
        return self._died[trial]

    def too_many(self, record: Record) -> list[Record]:
        """Take in a trial that has failed for good; returns those that failed alike where they are too many.

        Only trials of variants of which none has done well since then are among them: a single broken variant is
        found, however well the others do.
        """
        row = self._alike.setdefault(masked(record), [])
        row.append(record)
        limit = self._policy.stop_after_alike
        return list(row) if limit is not None and len(row) >= limit else []

    def did_well(self, record: Record) -> None:
        """Take in a trial that has a result: what failed of its variant before was not the variant's fault."""
        for row in self._alike.values():
            row[:] = [other for other in row if other.trial.variant != record.trial.variant]


def masked(record: Record) -> str:
    """Why a trial failed, without what differs between trials: its id, and numbers."""
    return _NUMBER.sub("#", (record.reason or "").replace(record.trial.id, "#"))
