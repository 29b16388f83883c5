"""`training`: epochs, batches, optimizer, learning-rate schedule and precision."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, Tag, model_validator

from orchestrator.spec.base import Section, broken_rule, told_by


class SGDSpec(Section):
    """Stochastic gradient descent with momentum."""

    method: Literal["sgd"] = "sgd"
    lr: float = Field(0.05, gt=0, description="Peak learning rate, per step.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Share of the last update that is kept.")
    nesterov: bool = Field(False, description="Nesterov's form of momentum.")
    weight_decay: float = Field(5e-4, ge=0, description="L2 penalty on all parameters.")

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and self.momentum == 0:
            raise broken_rule("nesterov", "must be false where momentum is 0", True)
        return self


class AdamWSpec(Section):
    """Adam with decoupled weight decay."""

    method: Literal["adamw"]
    lr: float = Field(1e-3, gt=0, description="Peak learning rate, per step.")
    weight_decay: float = Field(1e-2, ge=0, description="Decoupled weight decay on all parameters.")


class ScheduleSpec(Section):
    """What every learning-rate schedule has."""

    warmup_epochs: float = Field(0.0, ge=0, description="Epochs over which the rate rises linearly from 0.")


class ConstantSchedule(ScheduleSpec):
    """The same rate throughout."""

    method: Literal["constant"]


class StepSchedule(ScheduleSpec):
    """The rate is multiplied by a factor at certain epochs."""

    method: Literal["step"] = "step"
    milestones: list[float] | None = Field(
        None,
        description="Epochs at which the rate drops; unset: 5/8, 6/8 and 7/8 of all (150, 180, 210 of 240).",
    )
    gamma: float = Field(0.1, gt=0, le=1, description="Factor on the rate at each milestone.")


class CosineSchedule(ScheduleSpec):
    """The rate falls along half a cosine."""

    method: Literal["cosine"]
    min_factor: float = Field(0.0, ge=0, le=1, description="Rate at the end, as a share of the peak.")


OptimizerSpec = Annotated[Annotated[SGDSpec, Tag("sgd")] | Annotated[AdamWSpec, Tag("adamw")], told_by("method", "sgd")]
LearningRateSpec = Annotated[
    Annotated[ConstantSchedule, Tag("constant")]
    | Annotated[StepSchedule, Tag("step")]
    | Annotated[CosineSchedule, Tag("cosine")],
    told_by("method", "step"),
]


class TrainingSpec(Section):
    """One training run; the defaults are the CIFAR recipe of the KD literature."""

    epochs: int = Field(240, ge=1, description="Passes over the training images.")
    batch_size: int = Field(64, ge=1, description="Samples of one step, over all workers together.")
    optimizer: OptimizerSpec = Field(SGDSpec(), description="sgd or adamw.")
    schedule: LearningRateSpec = Field(StepSchedule(), description="Learning-rate schedule: constant, step or cosine.")
    precision: Literal["auto", "float32", "bf16"] = Field(
        "auto", description="Arithmetic of the networks; the loss is always float32."
    )
    accumulation: int = Field(
        1,
        ge=1,
        description="Parts that a batch is taken in, one after the other, where it is too large for the memory; batch "
        "norms see one part. Not with dist, dynamic temperatures and feature losses that relate samples to each other.",
    )
    compile: bool = Field(
        False,
        description="Compile the networks with torch.compile: minutes of start-up for faster steps on a GPU. Networks "
        "whose layers a feature loss reads are not compiled.",
    )
    gradient_clip: float | None = Field(None, gt=0, description="Largest L2 norm of the gradient; unset: no limit.")
    checkpoint_interval_s: float = Field(
        10.0, ge=0, description="Seconds between checkpoints, taken at the end of an epoch; 0: every epoch."
    )

    @model_validator(mode="after")
    def _within_epochs(self) -> Self:
        if self.schedule.warmup_epochs >= self.epochs:
            raise broken_rule(
                "schedule.warmup_epochs", f"must be below epochs ({self.epochs})", self.schedule.warmup_epochs
            )
        milestones = getattr(self.schedule, "milestones", None) or []
        if milestones != sorted(milestones) or any(not 0 < m < self.epochs for m in milestones):
            raise broken_rule(
                "schedule.milestones", f"must rise and lie between 0 and epochs ({self.epochs})", milestones
            )
        return self
