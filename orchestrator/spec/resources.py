"""`resources`: what a trial takes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, ValidationInfo, WithJsonSchema, field_validator
from pydantic_core import PydanticCustomError

from orchestrator.spec.base import Section


def _workers(value: Any) -> Any:
    """One number, or the smallest and the largest of an elastic trial."""
    pair = value if isinstance(value, (list, tuple)) else (value, value)
    if len(pair) != 2 or not all(isinstance(count, int) and not isinstance(count, bool) for count in pair):
        raise _rule("must be a number of workers, or the smallest and the largest number as [min, max]")
    if pair[0] < 1:
        raise _rule("must be >= 1")
    if pair[0] > pair[1]:
        raise _rule(f"the smallest number of workers, {pair[0]}, is above the largest, {pair[1]}")
    return pair[0] if pair[0] == pair[1] else list(pair)


def _rule(text: str) -> PydanticCustomError:
    return PydanticCustomError("rule", "{rule}", {"rule": text})


class ResourcesSpec(Section):
    """What one trial takes of the machine or cluster."""

    num_workers: Annotated[
        int | list[int],
        PlainValidator(_workers),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "integer", "minimum": 1},
                    {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 2, "maxItems": 2},
                ]
            }
        ),
    ] = Field(1, description="Data-parallel workers of one trial; as [min, max] as many as the cluster's nodes hold.")
    placement: Literal["pack", "spread"] = Field(
        "pack", description="A trial's workers on as few nodes as possible, or on as many."
    )
    cpus_per_worker: int = Field(1, ge=1, description="CPU cores, and threads, of one worker.")
    gpus_per_worker: float = Field(0.0, ge=0, description="GPUs of one worker; a fraction shares one and its memory.")
    custom_resources: dict[str, Annotated[float, Field(gt=0)]] = Field(
        {}, description="What each worker takes of Ray's custom resources, which nodes are given when they start."
    )
    share: float = Field(
        1.0, gt=0, le=1, description="Part of the machine or cluster that the experiment may take at once."
    )
    teacher_logits_gb: float = Field(
        20.0, ge=0, description="Disk for the teachers' logits that all experiments of a home share, in GB."
    )
    max_concurrent_trials: int | None = Field(
        None, ge=1, description="Trials that run at the same time; unset: as many as fit."
    )

    @field_validator("gpus_per_worker")
    @classmethod
    def _whole_or_shared(cls, gpus: float, info: ValidationInfo) -> float:
        if gpus > 1 and gpus != int(gpus):
            raise _rule("must be a whole number above 1: only a single GPU can be shared")
        if 0 < gpus < 1 and isinstance(info.data.get("num_workers"), list):
            raise _rule("must be a whole number where num_workers is [min, max]: Ray miscounts the places of shares")
        return gpus

    @field_validator("custom_resources")
    @classmethod
    def _not_rays_own(cls, custom: dict[str, float]) -> dict[str, float]:
        for name in custom:
            if name in ("CPU", "GPU", "memory", "object_store_memory") or ":" in name:
                raise _rule(f"{name!r} is Ray's own; for CPUs and GPUs there are cpus_per_worker and gpus_per_worker")
        return custom

    @property
    def workers(self) -> tuple[int, int]:
        """The smallest and the largest number of workers of one trial."""
        low, high = (self.num_workers,) * 2 if isinstance(self.num_workers, int) else self.num_workers
        return low, high
