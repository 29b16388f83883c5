"""`resources` and `budget`: what a trial takes, and when the search ends."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from orchestrator.spec.base import Section


def _built_in(num_workers: int) -> int:
    if num_workers > 1:
        raise PydanticCustomError("rule", "{rule}", {"rule": "data-parallel trials are not built in yet; use 1"})
    return num_workers


class ResourcesSpec(Section):
    """What one trial takes of the machine or cluster."""

    num_workers: Annotated[int, AfterValidator(_built_in)] = Field(
        1, ge=1, json_schema_extra={"maximum": 1}, description="Data-parallel workers of one trial."
    )
    cpus_per_worker: int = Field(1, ge=1, description="CPU cores, and threads, of one worker.")
    gpus_per_worker: float = Field(0.0, ge=0, description="GPUs of one worker; a fraction shares one.")
    max_concurrent_trials: int | None = Field(
        None, ge=1, description="Trials that run at the same time; unset: as many as fit."
    )


class BudgetSpec(Section):
    """Limits of the whole experiment; what has started then finishes, and final runs follow."""

    time_s: float | None = Field(None, gt=0, description="Seconds after which no search trial is started.")
    max_failures: int | None = Field(None, ge=1, description="Failed trials after which none is started.")
