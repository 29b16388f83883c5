"""`data.augmentation`: how training images are varied from epoch to epoch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from orchestrator.spec.base import Section, told_by


class ColorJitterSpec(Section):
    """Random changes of colour, in random order; each strength at 0 is off."""

    brightness: float = Field(0.0, ge=0, description="Factors from 1 - brightness (at least 0) to 1 + brightness.")
    contrast: float = Field(0.0, ge=0, description="Factors from 1 - contrast (at least 0) to 1 + contrast.")
    saturation: float = Field(0.0, ge=0, description="Factors from 1 - saturation (at least 0) to 1 + saturation.")
    hue: float = Field(0.0, ge=0, le=0.5, description="Turns from -hue to hue, in full circles.")


class RandAugmentSpec(Section):
    """A fixed number of operations of one magnitude (Cubuk et al. 2020)."""

    method: Literal["randaugment"] = "randaugment"
    num_ops: int = Field(2, ge=0, description="Operations for each image.")
    magnitude: int = Field(9, ge=0, le=30, description="Strength of every operation, 0 (none) to 30.")


class TrivialAugmentSpec(Section):
    """One operation of a random magnitude (Müller and Hutter 2021)."""

    method: Literal["trivialaugment"]


PolicySpec = Annotated[
    Annotated[RandAugmentSpec, Tag("randaugment")] | Annotated[TrivialAugmentSpec, Tag("trivialaugment")],
    told_by("method", "randaugment"),
]


class AugmentationSpec(Section):
    """Crop, flip, colour jitter, policy and cutout, in this order, and then mixing with a second image."""

    crop: int | None = Field(
        None, ge=0, description="Pixels of padding before a random crop; 0: none; unset: the data set's usual."
    )
    flip: bool | None = Field(None, description="Mirror every second image; unset: the data set's usual.")
    color_jitter: ColorJitterSpec | None = Field(None, description="Random changes of colour; unset: none.")
    policy: PolicySpec | None = Field(None, description="randaugment or trivialaugment; unset: none.")
    cutout: int | None = Field(
        None, ge=1, description="Side, in pixels, of a square painted over in the mean colour; unset: none."
    )
    mixup: float | None = Field(
        None,
        gt=0,
        le=100,
        description="alpha of Mixup: the image's share is drawn from Beta(alpha, alpha); unset: off.",
    )
    cutmix: float | None = Field(
        None,
        gt=0,
        le=100,
        description="alpha of CutMix: the image's share is drawn from Beta(alpha, alpha); unset: off.",
    )
    mix_probability: float = Field(
        1.0, ge=0, le=1, description="Share of images that mixup or cutmix mixes; with both, each image draws one."
    )


def _form(value: Any) -> str:
    return "section" if isinstance(value, (dict, AugmentationSpec)) else "name"


AugmentationChoice = Annotated[
    Annotated[Literal["none", "standard"], Tag("name")] | Annotated[AugmentationSpec, Tag("section")],
    Discriminator(_form),
]
