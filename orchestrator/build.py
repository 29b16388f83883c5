"""The one bridge from spec sections to torch objects."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from orchestrator.catalog import ADJUSTMENTS, OPTIMIZERS, SCHEDULES, TEMPERATURES
from orchestrator.data import Augmentation, Dataset, Images, load_dataset, stratified_split, stratified_subset
from orchestrator.data.classes import keep_classes
from orchestrator.data.jitter import ColorJitter
from orchestrator.data.mixing import Mixing
from orchestrator.data.noise import noisy_labels
from orchestrator.data.policy import POLICIES
from orchestrator.distillation.adjustment import NoAdjustment
from orchestrator.distillation.criterion import Criterion
from orchestrator.distillation.temperature import ConstantTemperature
from orchestrator.errors import CheckpointError, DataError
from orchestrator.models import build_model
from orchestrator.spec.base import PluginSection, Section, location
from orchestrator.spec.data import DataSpec, subset_rule
from orchestrator.spec.distillation import DistillationSpec
from orchestrator.spec.experiment import RunSpec
from orchestrator.spec.model import ModelSpec
from orchestrator.spec.training import TrainingSpec
from orchestrator.training import (
    SINGLE,
    TrainingData,
    TrainingRun,
    TrainingSettings,
    World,
    load_pretrained,
    load_weights,
    resolve_precision,
)

_SPLIT, _STUDENT_SUBSET, _TEACHER_SUBSET, _STUDENT_INIT, _TEACHER_INIT, _LABEL_NOISE = range(6)
"""Streams of the experiment's seed, so that no choice depends on another."""


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
    train_clean: Tensor
    """int64 [N], the labels of `train` before label noise."""
    teacher_train_clean: Tensor
    """The same of `teacher_train`."""


def build_splits(run: RunSpec, dataset: Dataset, split_seed: int) -> Splits:
    """Divide the training images; the same for all trials of an experiment, whatever their own seed."""
    seeds = [_stream(split_seed, stream) for stream in (_SPLIT, _STUDENT_SUBSET, _TEACHER_SUBSET)]
    fraction = run.data.validation_fraction
    try:
        kept, held_out = stratified_split(dataset.train.labels, fraction, seeds[0])
    except DataError as error:
        raise DataError(f"data.validation_fraction: {fraction}: {error.message}") from None
    train = dataset.train.take(kept)
    clean = train.labels
    if (noise := run.data.label_noise) is not None:
        seed = _stream(split_seed, _LABEL_NOISE)
        train = Images(train.images, noisy_labels(clean, len(dataset.classes), noise.fraction, noise.kind, seed))

    # By the clean labels, so that a subset has the same images whatever the noise.
    def subset(field: str, size: int | None, seed: int) -> tuple[Images, Tensor]:
        if size is None:
            return train, clean
        if rule := subset_rule(size, len(train), len(dataset.classes), fraction):
            raise DataError(f"{field}: {size}: {rule}")
        chosen = stratified_subset(clean, size, seed)
        return train.take(chosen), clean[chosen]

    student, student_clean = subset("data.train_samples", run.data.train_samples, seeds[1])
    teacher_size = run.teacher.train_samples if run.teacher else None
    teacher, teacher_clean = subset("teacher.train_samples", teacher_size, seeds[2])
    return Splits(
        dataset,
        train=student,
        teacher_train=teacher,
        val=dataset.train.take(held_out),
        train_clean=student_clean,
        teacher_train_clean=teacher_clean,
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
        policy=None if policy is None else POLICIES[policy.method](**_arguments(policy, "method")),
        cutout=given.cutout or 0,
        cutout_fill=tuple(round(255 * level) for level in dataset.mean),
        mixing=Mixing(given.mixup, given.cutmix, given.mix_probability) if mixes else None,
    )


def build_network(model: ModelSpec, dataset: Dataset, seed: int) -> nn.Module:
    """A network with initial weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_model(
            model.model,
            num_classes=len(dataset.classes),
            in_channels=dataset.train.images.shape[1],
            width=model.width,
            norm=model.norm,
            stem_stride=model.stem_stride,
        )


def build_teacher(run: RunSpec, dataset: Dataset) -> nn.Module:
    """The teacher's network, with its initial weights."""
    if run.teacher is None:
        raise ValueError("this run has no teacher")
    return build_network(run.teacher, dataset, _stream(run.seed, _TEACHER_INIT))


def load_teacher(run: RunSpec, path: Path, network: nn.Module) -> None:
    """Copy a teacher's weights into its network: those of stage 0, or those that `teacher.checkpoint` names.

    `path` is where they lie on this machine. Raises `CheckpointError` that names the field where they do not fit.
    """
    if run.teacher is None or run.teacher.checkpoint is None:
        load_weights(path, network)
        return
    try:
        load_pretrained(path, network, run.teacher.key_mapping)
    except CheckpointError as error:
        raise CheckpointError(f"teacher.checkpoint: {error.message}", hint=error.hint) from error


def build_criterion(distillation: DistillationSpec) -> Criterion:
    """The loss of a `distillation` section."""
    return Criterion(
        distillation.ce_weight,
        distillation.kd_weight,
        TEMPERATURES[distillation.temperature.method](**_arguments(distillation.temperature, "method")),
        ADJUSTMENTS[distillation.adjustment.rule](**_arguments(distillation.adjustment, "rule")),
    )


def build_student_run(
    run: RunSpec,
    splits: Splits,
    teacher: nn.Module | None,
    *,
    trial: str = "training",
    world: World = SINGLE,
) -> TrainingRun:
    """A distillation, ready to train its first epoch."""
    student = build_network(run.student, splits.dataset, _stream(run.seed, _STUDENT_INIT))
    return _training_run(
        run,
        run.training,
        student,
        build_criterion(run.distillation),
        splits,
        splits.train,
        teacher,
        trial,
        world,
    )


def build_teacher_run(run: RunSpec, splits: Splits, *, trial: str, world: World = SINGLE) -> TrainingRun:
    """The training of a teacher, on the labels alone."""
    criterion = Criterion(1.0, 0.0, ConstantTemperature(1.0), NoAdjustment())
    network = build_teacher(run, splits.dataset)
    return _training_run(
        run, run.teacher_training, network, criterion, splits, splits.teacher_train, None, trial, world
    )


def _training_run(
    run: RunSpec,
    training: TrainingSpec,
    network: nn.Module,
    criterion: Criterion,
    splits: Splits,
    train: Images,
    teacher: nn.Module | None,
    trial: str,
    world: World,
) -> TrainingRun:
    dataset = splits.dataset
    precision, _ = resolve_precision(training.precision, world.device)
    augmentation = build_augmentation(run.data, dataset)
    network.to(world.device)
    if teacher is not None:
        teacher.to(world.device)
    optimizer, schedule = training.optimizer, training.schedule
    return TrainingRun(
        network,
        criterion,
        OPTIMIZERS[optimizer.method](network.parameters(), **_arguments(optimizer, "method")),
        SCHEDULES[schedule.method](training.epochs, **_arguments(schedule, "method")),
        TrainingSettings(training.epochs, training.batch_size, run.seed, precision, training.gradient_clip),
        TrainingData(train, splits.val, dataset.mean, dataset.std, augmentation),
        teacher=teacher,
        world=world,
        trial=trial,
    )


def _arguments(section: Section, key: str) -> dict[str, Any]:
    """A section's values as its factory's keyword arguments."""
    if isinstance(section, PluginSection):
        return dict(section.options)
    return section.model_dump(exclude={key})


def _stream(seed: int, stream: int) -> int:
    return seed * 16 + stream
