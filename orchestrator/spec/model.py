"""`student` and `teacher`: the networks."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from orchestrator.catalog import MODELS, TORCHVISION
from orchestrator.spec.base import Section, broken_rule, known_in, no_secret_in
from orchestrator.spec.training import TrainingSpec

TORCHVISION_WEIGHTS = "torchvision:"
"""What begins a `teacher.checkpoint` that names weights which torchvision knows, such as torchvision:DEFAULT."""


class ModelSpec(Section):
    """One network by its registered name."""

    model: Annotated[str, known_in(MODELS)] = Field(description="Name of a registered model, such as resnet20.")
    width: float = Field(1.0, gt=0, description="Factor on the number of channels of every layer.")
    norm: Literal["batch", "group", "sync_batch"] = Field(
        "batch", description="Normalisation: group does not depend on the batch or the number of workers."
    )
    stem_stride: int | None = Field(
        None,
        ge=1,
        le=4,
        description="Stride of the first convolution in pixels; 2 quarters the cost of an image. "
        "Unset: the architecture's own, 2 for mobilenet_v2 and 1 for the others.",
    )
    small_images: bool = Field(
        False,
        description="For torchvision's models: a 3x3 first convolution of stride 1 and no max-pool after it, for "
        "images of 32 to 64 pixels. The other models are made for such images.",
    )

    @model_validator(mode="after")
    def _means_something(self) -> Self:
        if not self.model.startswith(TORCHVISION):
            if self.small_images:
                raise broken_rule("small_images", f"is for {TORCHVISION}<name> models; remove it", True)
        elif self.width != 1:
            raise broken_rule("width", "must be 1 for a torchvision model, whose channels are fixed", self.width)
        elif self.stem_stride is not None:
            raise broken_rule("stem_stride", "is not for torchvision models; small_images is", self.stem_stride)
        return self


class StudentSpec(ModelSpec):
    """The network that is trained in every trial."""


class TeacherSpec(ModelSpec):
    """The network that is distilled from: trained once before the search, or read from a file."""

    checkpoint: str | None = Field(
        None,
        description="The weights: a safetensors or torch file by its path or its URI (s3://bucket/file), an MLflow URI "
        "(models:/name/1, runs:/id/path), or torchvision:DEFAULT for a torchvision model; may use ${env:NAME}. "
        "Unset: the teacher is trained.",
    )
    key_mapping: Literal["repdistiller"] | None = Field(
        None,
        description="Names of the tensors in the checkpoint: repdistiller for the field's CIFAR networks (mdistiller "
        "too). Unset: those of this package.",
    )
    download: bool = Field(
        False, description="Let torchvision download the weights that the checkpoint names, where they are missing."
    )
    training: TrainingSpec | None = Field(
        None, description="How the teacher is trained; unset: as the student, field by field the same."
    )
    train_samples: int | None = Field(
        None,
        ge=1,
        description="Train on a stratified subset of this many samples; unset: on the whole training split.",
    )

    @model_validator(mode="after")
    def _trained_or_read(self) -> Self:
        if self.checkpoint is not None:
            for name in ("training", "train_samples"):
                if getattr(self, name) is not None:
                    raise broken_rule(name, "has no effect with teacher.checkpoint; remove one", "set")
        elif self.key_mapping is not None:
            raise broken_rule("key_mapping", "has no effect without teacher.checkpoint; remove it", self.key_mapping)
        no_secret_in("checkpoint", self.checkpoint)
        named = (self.checkpoint or "").startswith(TORCHVISION_WEIGHTS)
        if named and not self.model.startswith(TORCHVISION):
            raise broken_rule("checkpoint", f"is for {TORCHVISION}<name> models", self.checkpoint)
        if self.download and not named:
            raise broken_rule("download", "is for checkpoints that torchvision names; remove it", True)
        return self
