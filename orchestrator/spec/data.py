"""`data`: the images, their split and augmentation."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from orchestrator.catalog import DATASET_FACTS, DATASETS, DatasetFacts
from orchestrator.spec.augmentation import AugmentationChoice
from orchestrator.spec.base import Section, broken_rule, known_in, no_secret_in


def subset_rule(size: int, images: int, classes: int, fraction: float) -> str | None:
    """The rule that a subset breaks: at most the images that the validation split leaves, at least one of a class."""
    if size > images:
        return f"only {images} training images are left after validation_fraction {fraction:g}"
    return f"must be >= {classes}, one image of each class" if size < classes else None


class LabelNoiseSpec(Section):
    """Wrong training labels on purpose, the student's and the teacher's alike; validation and test stay clean."""

    fraction: float = Field(ge=0, lt=1, description="Share of the training labels, per class, that are made wrong.")
    kind: Literal["symmetric", "asymmetric"] = Field(
        "symmetric", description="symmetric: any other class, all equally likely; asymmetric: the class that follows."
    )


class DataSpec(Section):
    """Which images the student learns from. Test images are set apart by the data set itself."""

    dataset: Annotated[str, known_in(DATASETS)] = Field(description="Name of a registered data set.")
    root: str | None = Field(
        None,
        description="Folder that holds the data set's files, or a URI such as s3://bucket/cifar; may use ~ and "
        "${env:NAME}. Unset: where it is usual.",
    )
    validation_fraction: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="Share of the training images, per class, held out to choose configurations on.",
    )
    train_samples: int | None = Field(
        None,
        ge=1,
        description="Student's training images: a stratified subset of this size; unset: the whole split.",
    )
    augmentation: AugmentationChoice = Field(
        "standard",
        description="none, standard (the data set's usual random crop and flip), or a section of what to vary.",
    )
    views: int | None = Field(
        None,
        ge=1,
        description="Augmentations of each image: the student sees them again after so many epochs, all runs the same "
        "ones, so that one teacher's answers serve all. Unset: every epoch of every seed has its own.",
    )
    verify: bool = Field(
        True,
        description="Take only the published content: files and archives by their checksums, folders of images by the "
        "number in each class (what is in them is not hashed); false takes other files of the same format.",
    )
    download: bool = Field(False, description="Fetch the published files where they are missing; checked when whole.")
    classes: list[str | int] | None = Field(
        None, description="Keep only these classes, by name or by number from 0; unset: all."
    )
    image_size: int | None = Field(
        None,
        ge=8,
        le=1024,
        description="Resize image files so that the shorter side has this many pixels, then take the centre square.",
    )
    include_valid: bool = Field(
        False, description="cinic10 alone: add its folder valid to the training images; false leaves it unread."
    )
    label_noise: LabelNoiseSpec | None = Field(None, description="Make some training labels wrong; unset: none.")

    @property
    def source(self) -> tuple[object, ...]:
        """What the loaded data set depends on."""
        return self.dataset, self.root, self.verify, tuple(self.classes or ()), self.image_size, self.include_valid

    def teacher_content(self) -> dict[str, Any]:
        """What a teacher depends on; the folder only where other folders may hold other images."""
        same_everywhere = self.dataset in DATASET_FACTS and self.verify
        left_out = {"train_samples", "views", "download", *(["root"] if same_everywhere else [])}
        return self.model_dump(exclude=left_out, exclude_defaults=True)

    def student_content(self) -> dict[str, Any]:
        """What a student's images depend on besides that."""
        return {"train_samples": self.train_samples, **({} if self.views is None else {"views": self.views})}

    def training_images(self) -> int | None:
        """Images that a student trains on, at most; None where the data set's size is not known."""
        facts = self._published
        if self.train_samples is not None or facts is None:
            return self.train_samples
        return facts.images - round(facts.images * self.validation_fraction)

    def refused_subset(self, size: int | None) -> str | None:
        """The rule that a subset of the training split breaks, None where the data set's size is not known."""
        facts = self._facts
        if facts is None or size is None:
            return None
        kept = facts.images - round(facts.images * self.validation_fraction)
        return subset_rule(size, kept, facts.classes, self.validation_fraction)

    @property
    def _published(self) -> DatasetFacts | None:
        """Where they hold; other files may have any number of images."""
        facts = DATASET_FACTS.get(self.dataset) if self.verify else None
        # CINIC-10's valid is as large as its train.
        return facts._replace(images=2 * facts.images) if facts and self.include_valid else facts

    @property
    def _facts(self) -> DatasetFacts | None:
        """Of the classes that are kept."""
        return self._published if self.classes is None else None

    @model_validator(mode="after")
    def _root_holds_no_secret(self) -> Self:
        no_secret_in("root", self.root)
        return self

    @model_validator(mode="after")
    def _files_are_named(self) -> Self:
        if self.dataset in ("arrays", "image-folder") and self.root is None:
            raise broken_rule("root", f"is needed with the dataset {self.dataset}", None)
        return self

    @model_validator(mode="after")
    def _views_differ(self) -> Self:
        if self.views is not None and self.augmentation == "none":
            raise broken_rule("views", "has no effect with the augmentation none; remove it", self.views)
        return self

    @model_validator(mode="after")
    def _valid_is_there(self) -> Self:
        if self.include_valid and self.dataset != "cinic10":
            raise broken_rule("include_valid", "only cinic10 has a folder valid", True)
        return self

    @model_validator(mode="after")
    def _classes_are_several(self) -> Self:
        if self.classes is not None and len(set(self.classes)) < max(2, len(self.classes)):
            raise broken_rule("classes", "must be two or more different classes", self.classes)
        return self

    @model_validator(mode="after")
    def _images_suffice(self) -> Self:
        if (facts := self._facts) is not None:
            images, classes = facts.images, facts.classes
            held_out = round(images * self.validation_fraction)
            if not classes <= held_out <= images - classes:
                rule = f"holds out {held_out} of {images} training images; both parts need one of all {classes} classes"
                raise broken_rule("validation_fraction", rule, self.validation_fraction)
        if refused := self.refused_subset(self.train_samples):
            raise broken_rule("train_samples", refused, self.train_samples)
        return self
