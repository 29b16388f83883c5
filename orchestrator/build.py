"""The one bridge from spec sections to torch objects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from orchestrator.catalog import ADJUSTMENTS, FEATURE_LOSSES, LOSSES, OPTIMIZERS, SCHEDULES, TEMPERATURES
from orchestrator.data import Augmentation, Dataset, Images, load_dataset, stratified_split, stratified_subset
from orchestrator.data.classes import keep_classes
from orchestrator.data.jitter import ColorJitter
from orchestrator.data.mixing import Mixing
from orchestrator.data.noise import noisy_labels
from orchestrator.data.policy import POLICIES
from orchestrator.data.views import View, Views
from orchestrator.distillation.adjustment import NoAdjustment
from orchestrator.distillation.criterion import Criterion
from orchestrator.distillation.features import FeatureTerm, Setup
from orchestrator.distillation.temperature import ConstantTemperature
from orchestrator.errors import BuildError, CheckpointError, DataError, RegistryError, first_line
from orchestrator.models import build_model, flop_count, parameter_count
from orchestrator.models.average import AveragedTeacher
from orchestrator.models.pairing import usual_layers
from orchestrator.models.taps import feature_shapes
from orchestrator.models.torchvision_models import published_weights
from orchestrator.spec.base import PluginSection, Section, location
from orchestrator.spec.data import DataSpec, subset_rule
from orchestrator.spec.distillation import DistillationSpec
from orchestrator.spec.experiment import RunSpec
from orchestrator.spec.features import FeatureSection, FeatureSpec
from orchestrator.spec.model import TORCHVISION_WEIGHTS, ModelSpec, TeacherSpec
from orchestrator.spec.scheme import Ensemble, Mutual, SchemeSpec
from orchestrator.spec.training import TrainingSpec
from orchestrator.training import (
    SINGLE,
    TrainingData,
    TrainingRun,
    TrainingSettings,
    World,
    fit_pretrained,
    load_pretrained,
    load_weights,
    resolve_precision,
)

_SPLIT, _STUDENT_SUBSET, _TEACHER_SUBSET, _STUDENT_INIT, _TEACHER_INIT, _LABEL_NOISE, _FEATURE_INIT = range(7)
"""Streams of the experiment's seed, so that no choice depends on another."""
PEER_SEED = 400_000
"""Distance of the seeds of peers, which would otherwise start as one network, from the run's own."""


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
        policy=None if policy is None else POLICIES[policy.method](**_arguments(policy, "method")),
        cutout=given.cutout or 0,
        cutout_fill=tuple(round(255 * level) for level in dataset.mean),
        mixing=Mixing(given.mixup, given.cutmix, given.mix_probability) if mixes else None,
    )


def build_network(model: ModelSpec, dataset: Dataset, seed: int) -> nn.Module:
    """A network with initial weights that depend on the seed alone.

    Raises `BuildError` where the model does not take these settings.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return build_model(
                model.model,
                num_classes=len(dataset.classes),
                in_channels=dataset.train.images.shape[1],
                width=model.width,
                norm=model.norm,
                stem_stride=model.stem_stride,
                small_images=model.small_images,
            )
        except ValueError as error:
            raise BuildError(f"model {model.model}: {error}") from error


class NetworkSize(NamedTuple):
    """How large a network is."""

    parameters: int
    multiply_adds: int
    """Of one image's forward pass; see `orchestrator.models.flop_count`."""


_sizes: dict[object, NetworkSize] = {}


def network_size(model: ModelSpec, network: Callable[[], nn.Module], dataset: Dataset) -> NetworkSize:
    """The size of a network for the images of a data set; asked for and counted once for each architecture.

    Raises `BuildError` where the network cannot take such images.
    """
    shape = tuple(dataset.train.images.shape[1:])
    key = (model.model_dump_json(), shape, len(dataset.classes))
    if key not in _sizes:
        built = network()
        try:
            _sizes[key] = NetworkSize(parameter_count(built), flop_count(built, (1, *shape)))
        except (ValueError, RuntimeError) as error:
            size = f"{shape[1]} x {shape[2]} pixels and {shape[0]} channel{'s' if shape[0] > 1 else ''}"
            message = f"model {model.model} cannot take images of {size}: {first_line(error)}"
            raise BuildError(message, hint="choose another model, or other images") from error
    return _sizes[key]


def build_teacher(run: RunSpec, dataset: Dataset) -> nn.Module:
    """The teacher's network, with its initial weights."""
    if run.teacher is None:
        raise ValueError("this run has no teacher")
    return build_network(run.teacher, dataset, _stream(run.seed, _TEACHER_INIT))


def join_teachers(scheme: SchemeSpec, networks: Sequence[nn.Module]) -> nn.Module:
    """One network that answers for all."""
    return AveragedTeacher(networks, scheme.average) if isinstance(scheme, Ensemble) else networks[0]


def load_teacher(teacher: TeacherSpec, path: Path, network: nn.Module) -> None:
    """Copy a teacher's weights into its network: those of stage 0, or those that `teacher.checkpoint` names.

    `path` is where they lie on this machine, or torchvision's name for them. Raises `CheckpointError` that names
    the field where they do not fit.
    """
    if teacher.checkpoint is None:
        load_weights(path, network)
        return
    try:
        if str(path).startswith(TORCHVISION_WEIGHTS):
            weights = str(path).removeprefix(TORCHVISION_WEIGHTS)
            fit_pretrained(path, published_weights(teacher.model, weights, download=teacher.download), network)
        else:
            load_pretrained(path, network, teacher.key_mapping)
    except CheckpointError as error:
        raise CheckpointError(f"teacher.checkpoint: {error.message}", hint=error.hint) from error


def build_criterion(distillation: DistillationSpec) -> Criterion:
    """The loss of a `distillation` section."""
    return Criterion(
        distillation.ce_weight,
        distillation.kd_weight,
        TEMPERATURES[distillation.temperature.method](**_arguments(distillation.temperature, "method")),
        ADJUSTMENTS[distillation.adjustment.rule](**_arguments(distillation.adjustment, "rule")),
        LOSSES[distillation.loss.method](**_arguments(distillation.loss, "method")),
        distillation.logit_standardization,
        distillation.warmup_epochs,
    )


def build_features(
    run: RunSpec, student: nn.Module, teacher: nn.Module, train: Images, device: torch.device
) -> tuple[FeatureTerm, ...]:
    """The feature losses of a run, for networks on `device`; their initial weights depend on the seed alone.

    Raises `RegistryError` that names the entry whose layers do not exist or do not suit its method.
    """
    terms = []
    for number, section in enumerate(run.distillation.features):
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(_stream(run.seed, _FEATURE_INIT))
                term = _feature_term(section, student, teacher, train, device)
                # Review's usual rise may be longer than the training; where it is set, the spec's check refuses that.
                terms.append(replace(term, warmup_epochs=min(term.warmup_epochs, run.training.epochs)))
        except RegistryError as error:
            raise RegistryError(f"distillation.features.{number}: {error.message}", hint=error.hint) from error
        except ValueError as error:
            raise RegistryError(f"distillation.features.{number}: {error}") from error
    return tuple(terms)


def _feature_term(
    section: FeatureSpec, student: nn.Module, teacher: nn.Module, train: Images, device: torch.device
) -> FeatureTerm:
    factory = FEATURE_LOSSES[section.method]
    usual = getattr(factory, "default_layers", "stages")
    example = torch.zeros(1, *train.images.shape[1:], device=device)
    networks, layers = (student, teacher), [section.layers or (), section.teacher_layers or ()]
    if not all(layers):
        found = usual_layers(usual, student, teacher, example)
        layers = [given or own for given, own in zip(layers, found, strict=True)]
    shapes = [feature_shapes(network, wanted, example) for network, wanted in zip(networks, layers, strict=True)]
    shapes_student, shapes_teacher = (
        [found[layer] for layer in wanted] for found, wanted in zip(shapes, layers, strict=True)
    )
    setup = Setup(shapes_student, shapes_teacher, train.labels)
    shared = set(FeatureSection.model_fields)
    options = section.options if isinstance(section, PluginSection) else section.model_dump(exclude={"method", *shared})
    loss = factory(setup, **options).to(device)
    return FeatureTerm(section.method, loss, section.weight, tuple(layers[0]), tuple(layers[1]), section.warmup_epochs)


def try_out(run: RunSpec, teachers: Sequence[ModelSpec], dataset: Dataset) -> None:
    """Build what a distillation consists of once, from untrained networks, and raise what keeps it from training."""
    peers = run.scheme.peers if isinstance(run.scheme, Mutual) else ()
    models = (run.student, *peers, *teachers)
    networks = [build_network(model, dataset, 0) for model in models]
    for model, network in zip(models, networks, strict=True):
        network_size(model, lambda built=network: built, dataset)  # type: ignore[misc]
    build_criterion(run.distillation)
    build_augmentation(run.data, dataset)
    if teachers:
        teacher = join_teachers(run.scheme, networks[-len(teachers) :])
        build_features(run, networks[0], teacher, dataset.train, torch.device("cpu"))


def build_student_run(
    run: RunSpec,
    splits: Splits,
    teacher: nn.Module | None,
    *,
    targets: Callable[[View], Tensor] | None = None,
    trial: str = "training",
    world: World = SINGLE,
    should_stop: Callable[[], bool] | None = None,
) -> TrainingRun:
    """A distillation, ready to train its first epoch; `targets` stand for the teacher as in `TrainingRun`."""
    student = build_network(run.student, splits.dataset, _stream(run.seed, _STUDENT_INIT))
    peers = [
        build_network(peer, splits.dataset, _stream(run.seed + PEER_SEED + number, _STUDENT_INIT))
        for number, peer in enumerate(run.scheme.peers if isinstance(run.scheme, Mutual) else (), start=1)
    ]
    return _training_run(
        run,
        run.training,
        run.student,
        student,
        build_criterion(run.distillation),
        splits,
        splits.train,
        teacher,
        trial,
        world,
        should_stop,
        peers,
        targets,
        build_views(run, splits),
    )


def build_views(run: RunSpec, splits: Splits) -> Views:
    """Which augmentation a student sees in which epoch: the same for all runs where views repeat or never vary."""
    if not build_augmentation(run.data, splits.dataset).varies:
        return Views(0, 1)
    return Views(run.seed) if run.data.views is None else Views(splits.seed, run.data.views)


def build_teacher_run(
    run: RunSpec,
    splits: Splits,
    *,
    trial: str,
    world: World = SINGLE,
    should_stop: Callable[[], bool] | None = None,
) -> TrainingRun:
    """The training of a teacher, on the labels alone."""
    criterion = Criterion(1.0, 0.0, ConstantTemperature(1.0), NoAdjustment())
    network, model = build_teacher(run, splits.dataset), run.teacher
    if model is None:
        raise ValueError("this run has no teacher")
    return _training_run(
        run,
        run.teacher_training,
        model,
        network,
        criterion,
        splits,
        splits.teacher_train,
        None,
        trial,
        world,
        should_stop,
    )


def _training_run(
    run: RunSpec,
    training: TrainingSpec,
    model: ModelSpec,
    network: nn.Module,
    criterion: Criterion,
    splits: Splits,
    train: Images,
    teacher: nn.Module | None,
    trial: str,
    world: World,
    should_stop: Callable[[], bool] | None,
    peers: Sequence[nn.Module] = (),
    targets: Callable[[View], Tensor] | None = None,
    views: Views | None = None,
) -> TrainingRun:
    dataset = splits.dataset
    size = network_size(model, lambda: network, dataset)
    precision, reason = resolve_precision(training.precision, world.device, network, size.multiply_adds)
    augmentation = build_augmentation(run.data, dataset)
    for part in (network, *peers, *([] if teacher is None else [teacher])):
        part.to(world.device)
    features = () if teacher is None else build_features(run, network, teacher, train, world.device)
    trained = (network, *peers, *(term.loss for term in features))
    parameters = [parameter for part in trained for parameter in part.parameters()]
    optimizer, schedule = training.optimizer, training.schedule
    return TrainingRun(
        network,
        criterion,
        OPTIMIZERS[optimizer.method](parameters, **_arguments(optimizer, "method")),
        SCHEDULES[schedule.method](training.epochs, **_arguments(schedule, "method")),
        TrainingSettings(
            training.epochs,
            training.batch_size,
            run.seed,
            precision,
            training.gradient_clip,
            precision_reason=reason,
            accumulation=training.accumulation,
            compile=training.compile,
        ),
        TrainingData(train, splits.val, dataset.mean, dataset.std, augmentation, views),
        teacher=teacher,
        targets=targets,
        features=features,
        peers=peers,
        world=world,
        trial=trial,
        should_stop=should_stop,
    )


def _arguments(section: Section, key: str) -> dict[str, Any]:
    """A section's values as its factory's keyword arguments."""
    if isinstance(section, PluginSection):
        return dict(section.options)
    return section.model_dump(exclude={key})


def _stream(seed: int, stream: int) -> int:
    return seed * 16 + stream
