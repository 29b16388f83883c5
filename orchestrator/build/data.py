"""The images of a run, from its `data` section: what is loaded, how it is divided, and how it is augmented."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from orchestrator.build.options import arguments
from orchestrator.build.seeds import Stream, stream_seed
from orchestrator.data import Augmentation, Dataset, Images, load_dataset, stratified_split, stratified_subset
from orchestrator.data.classes import keep_classes
from orchestrator.data.jitter import ColorJitter
from orchestrator.data.mixing import Mixing
from orchestrator.data.noise import noisy_labels
from orchestrator.data.policy import POLICIES
from orchestrator.data.views import Views
from orchestrator.errors import DataError
from orchestrator.spec.base import location
from orchestrator.spec.data import DataSpec, subset_rule
from orchestrator.spec.experiment import RunSpec


@dataclass(frozen=True)
class Splits:
    """The images of one run."""

    dataset: Dataset
    train: Images
    """What the student learns from."""
    teacher_train: Images
    """What a teacher of stage 0 learns from."""
    val: Images
    """What configurations are chosen on."""
    seed: int = 0
    """What divided them: the experiment's seed, for all its runs."""

    def to(self, device: torch.device) -> Splits:
        """The same, with all but the data set itself on `device`."""
        train = self.train.to(device)
        same = self.teacher_train is self.train
        teacher_train = train if same else self.teacher_train.to(device)
        return replace(self, train=train, teacher_train=teacher_train, val=self.val.to(device))


def build_splits(run: RunSpec, dataset: Dataset, split_seed: int) -> Splits:
    """Divide the training images; the same for all trials of an experiment, whatever their own seed."""
    seeds = [stream_seed(split_seed, stream) for stream in (Stream.SPLIT, Stream.STUDENT_SUBSET, Stream.TEACHER_SUBSET)]
    fraction = run.data.validation_fraction
    try:
        kept, held_out = stratified_split(dataset.train.labels, fraction, seeds[0])
    except DataError as error:
        raise DataError(f"data.validation_fraction: {fraction}: {error.message}") from None
    train = dataset.train.take(kept)
    clean = train.labels
    if (noise := run.data.label_noise) is not None:
        seed = stream_seed(split_seed, Stream.LABEL_NOISE)
        train = Images(train.images, noisy_labels(clean, len(dataset.classes), noise.fraction, noise.kind, seed))

    # By the clean labels, so that a subset has the same images whatever the noise.
    def subset(field: str, size: int | None, seed: int) -> Images:
        if size is None:
            return train
        if rule := subset_rule(size, len(train), len(dataset.classes), fraction):
            raise DataError(f"{field}: {size}: {rule}")
        return train.take(stratified_subset(clean, size, seed))

    teacher_size = run.teacher.train_samples if run.teacher else None
    return Splits(
        dataset,
        train=subset("data.train_samples", run.data.train_samples, seeds[1]),
        teacher_train=subset("teacher.train_samples", teacher_size, seeds[2]),
        val=dataset.train.take(held_out),
        seed=split_seed,
    )


def load_data(data: DataSpec, cache: Path | None = None) -> Dataset:
    """The data set a spec names; decoded images, and downloads without a root, are kept in the folder `cache`."""
    dataset = load_dataset(
        data.dataset,
        None if data.root is None else location(data.root, "data.root"),
        verify=data.verify,
        download=data.download,
        cache=cache,
        image_size=data.image_size,
        include_valid=data.include_valid,
    )
    return dataset if data.classes is None else keep_classes(dataset, data.classes)


def build_augmentation(data: DataSpec, dataset: Dataset) -> Augmentation:
    """What `data.augmentation` asks for; what it leaves open is the data set's usual."""
    given = data.augmentation
    if given == "none":
        return Augmentation(0, False)
    if given == "standard":
        return Augmentation(dataset.crop_padding, dataset.flip)
    jitter, policy, mixes = given.color_jitter, given.policy, given.mixup or given.cutmix
    return Augmentation(
        dataset.crop_padding if given.crop is None else given.crop,
        dataset.flip if given.flip is None else given.flip,
        color_jitter=None if jitter is None else ColorJitter(**jitter.model_dump()),
        policy=None if policy is None else POLICIES[policy.method](**arguments(policy, "method")),
        cutout=given.cutout or 0,
        cutout_fill=tuple(round(255 * level) for level in dataset.mean),
        mixing=Mixing(given.mixup, given.cutmix, given.mix_probability) if mixes else None,
    )


def build_views(run: RunSpec, splits: Splits) -> Views:
    """Which augmentation a student sees in which epoch: the same for all runs where views repeat or never vary."""
    if not build_augmentation(run.data, splits.dataset).varies:
        return Views(0, 1)
    return Views(run.seed) if run.data.views is None else Views(splits.seed, run.data.views)
