"""`budget`: when the search ends, and what becomes of trials that fail."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from orchestrator.spec.base import Section


class FailuresSpec(Section):
    """What becomes of trials that fail."""

    max_retries: int = Field(
        0,
        ge=0,
        description="Times in a session that a trial that raised an error is tried again, from its last checkpoint; "
        "one that diverged never is, as it would diverge again.",
    )
    max_restarts: int = Field(
        2, ge=0, description="Times in a session that a trial whose process died is started again, likewise."
    )
    stop_after_alike: int | None = Field(
        5,
        ge=1,
        description="Failures alike, with no trial of their variant doing well in between, that stop the experiment; "
        "null: none do.",
    )


class BudgetSpec(Section):
    """Limits of the whole experiment; the search ends on the first that is reached, and final runs follow."""

    time_s: float | None = Field(None, gt=0, description="Seconds, of all sessions together.")
    student_epochs: int | None = Field(
        None, ge=1, description="Epochs of all search trials together; teachers and final runs do not count."
    )
    max_failures: int | None = Field(None, ge=1, description="Failed trials.")
    when_spent: Literal["finish", "stop"] = Field(
        "finish", description="Whether search trials that run then go on to their end, or stop after their epoch."
    )
    failures: FailuresSpec = Field(FailuresSpec(), description="What becomes of trials that fail.")

    @property
    def may_end_search(self) -> bool:
        """Whether there is a limit that can end the search before every trial has begun."""
        return (self.time_s, self.student_epochs, self.max_failures) != (None, None, None)
