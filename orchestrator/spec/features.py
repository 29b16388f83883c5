"""`distillation.features`: losses between features of student and teacher, beside those on the logits."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, Tag, model_validator

from orchestrator.catalog import FEATURE_LOSSES
from orchestrator.spec.base import PLUGIN, PluginSection, Section, broken_rule, known_in, told_by

_METHODS = ("fitnet", "attention_transfer", "nst", "sp", "rkd", "pkt", "vid", "crd", "review")


_PUBLISHED = "Factor of this loss in the total; as published for images of 32 pixels, and too much for smaller ones."


class FeatureSection(Section):
    """What all feature losses share."""

    weight: float = Field(1.0, gt=0, description="Factor of this loss in the total.")
    warmup_epochs: float = Field(0.0, ge=0, description="Epochs over which the weight rises from 0 to its value.")
    layers: list[str] | None = Field(
        None,
        min_length=1,
        description="The student's layers by their dotted names, shallow to deep, or 'embedding', which is what its "
        "classifier reads; unset: those usual for the method.",
    )
    teacher_layers: list[str] | None = Field(
        None, min_length=1, description="The teacher's layers, one for each of the student's; unset: as for layers."
    )

    @model_validator(mode="after")
    def _layers_pair(self) -> Self:
        for name, layers in (("layers", self.layers), ("teacher_layers", self.teacher_layers)):
            if layers is not None and len(set(layers)) < len(layers):
                raise broken_rule(name, "must not name a layer twice", layers)
        if self.layers and self.teacher_layers and len(self.layers) != len(self.teacher_layers):
            raise broken_rule(
                "teacher_layers",
                f"must name one layer for each of layers ({len(self.layers)})",
                self.teacher_layers,
            )
        return self


class FitNet(FeatureSection):
    """Hints: a linear map of the student's features regresses the teacher's (Romero et al. 2015)."""

    method: Literal["fitnet"]


class AttentionTransfer(FeatureSection):
    """Where in the image activations are large (Zagoruyko and Komodakis 2017)."""

    method: Literal["attention_transfer"]
    weight: float = Field(1000.0, gt=0, description=_PUBLISHED)
    power: float = Field(2.0, ge=1, le=4, description="Power of an activation's size in the attention.")


class NeuronSelectivity(FeatureSection):
    """The distribution of the channels' activations (Huang and Wang 2017)."""

    method: Literal["nst"]
    weight: float = Field(50.0, gt=0, description=_PUBLISHED)


class SimilarityPreserving(FeatureSection):
    """Which samples of a batch are alike (Tung and Mori 2019)."""

    method: Literal["sp"]
    weight: float = Field(3000.0, gt=0, description=_PUBLISHED)


class Relational(FeatureSection):
    """Distances and angles between the samples of a batch (Park et al. 2019)."""

    method: Literal["rkd"]
    distance_weight: float = Field(25.0, ge=0, description="Weight of the distances.")
    angle_weight: float = Field(50.0, ge=0, description="Weight of the angles.")

    @model_validator(mode="after")
    def _some_relation(self) -> Self:
        if self.distance_weight == 0 and self.angle_weight == 0:
            raise broken_rule("angle_weight", "must be above 0 where distance_weight is 0", 0.0)
        return self


class ProbabilisticTransfer(FeatureSection):
    """How likely samples of a batch are each other's neighbours (Passalis and Tefas 2018)."""

    method: Literal["pkt"]
    weight: float = Field(30000.0, gt=0, description=_PUBLISHED)


class Variational(FeatureSection):
    """The teacher's features are likely under a Gaussian around a map of the student's (Ahn et al. 2019)."""

    method: Literal["vid"]
    initial_variance: float = Field(
        5.0, ge=1e-3, description="Variance of each of the teacher's channels before the first step; it is learned."
    )


class Contrastive(FeatureSection):
    """A sample's embeddings in both networks are alike, those of other classes are not (Tian et al. 2020)."""

    method: Literal["crd"]
    weight: float = Field(0.8, gt=0, description="Factor of this loss in the total.")
    layers: list[str] | None = Field(
        None, min_length=1, max_length=1, description="One layer of the student; unset: its embedding."
    )
    teacher_layers: list[str] | None = Field(
        None, min_length=1, max_length=1, description="One layer of the teacher; unset: its embedding."
    )
    dim: int = Field(128, ge=1, description="Values of an embedding; two of these are kept for each training sample.")
    negatives: int = Field(
        1024,
        ge=1,
        description="Samples of other classes that a sample is told from, capped by how many there are; published with "
        "16384, which costs 16 times the time and memory.",
    )
    temperature: float = Field(0.07, gt=0, description="Divides similarities, dimensionless.")
    momentum: float = Field(0.5, ge=0, lt=1, description="Share of its old value that a sample's memory keeps.")


class Review(FeatureSection):
    """Each of the student's layers, joined with the deeper ones, gives the teacher's features (Chen et al. 2021)."""

    method: Literal["review"]
    warmup_epochs: float = Field(
        20.0,
        ge=0,
        description="Epochs over which the weight rises from 0 to its value; unset: 20, or all where there are fewer.",
    )
    norm: Literal["batch", "group"] = Field(
        "batch", description="Normalisation in the connectors: group does not depend on the number of workers."
    )


class PluginFeature(FeatureSection, PluginSection):
    """A feature loss that an installed package adds."""

    method: Annotated[str, known_in(FEATURE_LOSSES)] = Field(
        description="Name of a feature loss that an installed package adds.",
        json_schema_extra={"not": {"enum": [*_METHODS]}},
    )


FeatureSpec = Annotated[
    Annotated[FitNet, Tag("fitnet")]
    | Annotated[AttentionTransfer, Tag("attention_transfer")]
    | Annotated[NeuronSelectivity, Tag("nst")]
    | Annotated[SimilarityPreserving, Tag("sp")]
    | Annotated[Relational, Tag("rkd")]
    | Annotated[ProbabilisticTransfer, Tag("pkt")]
    | Annotated[Variational, Tag("vid")]
    | Annotated[Contrastive, Tag("crd")]
    | Annotated[Review, Tag("review")]
    | Annotated[PluginFeature, Tag(PLUGIN)],
    told_by("method", "", _METHODS),
]
